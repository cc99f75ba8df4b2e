//! The text of a file that a person or another program wrote, by its first bytes.
//!
//! Editors put a byte order mark before a text, and some write UTF-16. Each reader of text files asks here, so that a
//! file is read, or refused, in the same way everywhere.

/// What some editors put before a text; it says how the text is encoded and is no part of it.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_LE_MARK: &[u8] = b"\xff\xfe";
const UTF16_BE_MARK: &[u8] = b"\xfe\xff";
const UTF32_LE_MARK: &[u8] = b"\xff\xfe\0\0";
const UTF32_BE_MARK: &[u8] = b"\0\0\xfe\xff";
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Why bytes are not a text, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("line {line} is not UTF-8; save the file as UTF-8")]
    Utf8 { line: usize },
    #[error("it is {0}; save the file as UTF-8")]
    Encoding(&'static str),
    #[error("it is compressed by {0}; unpack it first")]
    Compressed(&'static str),
}

/// The text of a whole file: UTF-8 with or without a mark, or UTF-16 with one.
pub fn text_of(bytes: Vec<u8>) -> Result<String, NotText> {
    let utf16 = match bytes.as_slice() {
        bytes if bytes.starts_with(UTF32_LE_MARK) => None,
        bytes if bytes.starts_with(UTF16_LE_MARK) => Some(u16::from_le_bytes as fn([u8; 2]) -> u16),
        bytes if bytes.starts_with(UTF16_BE_MARK) => Some(u16::from_be_bytes as fn([u8; 2]) -> u16),
        _ => None,
    };
    if let Some(unit) = utf16 {
        let (pairs, rest) = bytes[UTF16_LE_MARK.len()..].as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
        return text.ok_or(NotText::Encoding("damaged UTF-16"));
    }
    if let Some(not_text) = foreign(&bytes) {
        return Err(not_text);
    }
    let mut bytes = bytes;
    let mark = bytes.len() - without_mark(&bytes).len();
    bytes.drain(..mark);
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        NotText::Utf8 {
            line: valid.iter().filter(|byte| **byte == b'\n').count() + 1,
        }
    })
}

/// The first bytes of a UTF-8 text without its mark; for readers that never hold the whole text.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes)
}

/// What a file is that begins with these bytes, where it is surely no UTF-8 text. A reader that never holds the whole text
/// refuses UTF-16, too.
pub fn foreign(begin: &[u8]) -> Option<NotText> {
    let starts = |mark: &[u8]| begin.starts_with(mark);
    if starts(UTF32_LE_MARK) || starts(UTF32_BE_MARK) {
        return Some(NotText::Encoding("UTF-32"));
    }
    if starts(UTF16_LE_MARK) || starts(UTF16_BE_MARK) {
        return Some(NotText::Encoding("UTF-16"));
    }
    if starts(GZIP) {
        return Some(NotText::Compressed("gzip"));
    }
    if starts(ZSTD) {
        return Some(NotText::Compressed("zstd"));
    }
    let is_ascii_utf16 = match begin {
        [0, one, 0, other, ..] | [one, 0, other, 0, ..] => *one != 0 && *other != 0,
        _ => false,
    };
    is_ascii_utf16.then_some(NotText::Encoding("UTF-16 without a byte order mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2], mark: &[u8]) -> Vec<u8> {
        mark.iter()
            .copied()
            .chain(text.encode_utf16().flat_map(unit))
            .collect()
    }

    #[test]
    fn a_text_is_the_same_with_and_without_its_mark() {
        let text = "title: Größe\nx: 𝄞\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [UTF8_MARK, text.as_bytes()].concat(),
            utf16(text, u16::to_le_bytes, UTF16_LE_MARK),
            utf16(text, u16::to_be_bytes, UTF16_BE_MARK),
        ] {
            assert_eq!(text_of(bytes.clone()).as_deref(), Ok(text), "{bytes:x?}");
        }
        assert_eq!(text_of(Vec::new()).as_deref(), Ok(""));
        assert_eq!(text_of(UTF8_MARK.to_vec()).as_deref(), Ok(""));
        assert_eq!(without_mark(b"\xef\xbb\xbf{"), b"{");
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (bytes, want) in [
            (&b"a\nb\xff\n"[..], "line 2 is not UTF-8"),
            (b"\xff\xfea\0b", "damaged UTF-16"),
            (b"\xff\xfe\0\xd8", "damaged UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"t\0i\0", "UTF-16 without"),
            (b"\0t\0i", "UTF-16 without"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x28\xb5\x2f\xfd\0", "zstd"),
        ] {
            let error = text_of(bytes.to_vec()).unwrap_err().to_string();
            assert!(error.contains(want), "{want:?} is not in {error:?}");
        }
        assert_eq!(foreign(b"\xff\xfe{\0"), Some(NotText::Encoding("UTF-16")));
        assert_eq!(foreign(b"\xef\xbb\xbf{"), None);
    }
}
