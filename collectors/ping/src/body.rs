//! The text of an HTTP body: decompressed and decoded, within limits. Pure; it reads nothing from the network.

use std::io::Read;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// The most of a body that is read from the network.
pub(crate) const WIRE_BYTES_MAX: usize = 64 * 1024;

/// The most that it is decompressed to; more is cut, so that a small answer cannot fill the memory.
pub(crate) const PAGE_BYTES_MAX: usize = 256 * 1024;

/// The most encodings of one body that are undone; servers apply one.
const ENCODINGS_MAX: usize = 4;

/// How much of a page is searched for its charset (HTML, "prescan a byte stream to determine its encoding").
const PRESCAN_BYTES: usize = 1_024;

/// A body as it came, with the headers that say what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub bytes: Vec<u8>,
    /// Only the first [`WIRE_BYTES_MAX`] were read.
    pub is_cut: bool,
    /// `Content-Encoding`, several separated by commas.
    pub encodings: String,
    /// `Content-Type`
    pub content_type: String,
}

/// A body as far as it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Decompressed, not decoded.
    bytes: Vec<u8>,
    text: String,
    /// There is more of it.
    pub is_cut: bool,
    /// The encoding that could not be undone to its end.
    pub broken: Option<String>,
}

impl Page {
    /// Returns whether the text is in the page: decoded, or byte for byte where the page does not say truly how it is written.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let needle = text.as_bytes();
        let is_there = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        needle.is_empty() || is_there(self.text.as_bytes()) || is_there(&self.bytes)
    }

    /// How much was searched, decompressed.
    pub(crate) fn searched_bytes(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// Decompresses and decodes a body.
pub(crate) fn page(body: Body) -> Page {
    let Body {
        mut bytes,
        mut is_cut,
        encodings,
        content_type,
    } = body;
    let mut broken = None;
    let names: Vec<String> = encodings
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !matches!(&name[..], "" | "identity"))
        .collect();
    // They are undone in the reverse of the order in which they were applied (RFC 9110 section 8.4).
    for (index, name) in names.iter().rev().enumerate() {
        let undone = if index < ENCODINGS_MAX {
            decompress(name, &bytes)
        } else {
            None
        };
        let Some((decompressed, is_whole)) = undone else {
            broken = Some(name.clone());
            break;
        };
        // A stream that ends too early is broken, unless we cut it ourselves.
        if !is_whole && !is_cut {
            broken = Some(name.clone());
        }
        bytes = decompressed;
        if bytes.len() > PAGE_BYTES_MAX {
            bytes.truncate(PAGE_BYTES_MAX);
            (is_cut, broken) = (true, None);
        }
    }
    let text = decode(&bytes, &content_type);
    Page {
        bytes,
        text,
        is_cut,
        broken,
    }
}

/// At most one byte more than [`PAGE_BYTES_MAX`], and whether the stream was read without an error; `None` for an unknown name.
fn decompress(name: &str, bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    match name {
        "gzip" | "x-gzip" => Some(some_of(flate2::read::MultiGzDecoder::new(bytes))),
        // Named after the format but sent in two: with the zlib header (RFC 9110 section 8.4.1.2), and without by some servers.
        "deflate" if is_zlib(bytes) => Some(some_of(flate2::read::ZlibDecoder::new(bytes))),
        "deflate" => Some(some_of(flate2::read::DeflateDecoder::new(bytes))),
        "br" => Some(some_of(brotli_decompressor::Decompressor::new(bytes, 4_096))),
        _ => None,
    }
}

fn some_of(reader: impl Read) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    // What came before an error stays in `out`.
    let is_whole = reader
        .take(PAGE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut out)
        .is_ok();
    (out, is_whole)
}

/// RFC 1950 section 2.2: method 8, and the two bytes are a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0F == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

/// As browsers do: byte order mark, then the header, then what the page says, then UTF-8, and Windows-1252 where it is not that.
fn decode(bytes: &[u8], content_type: &str) -> String {
    let (encoding, mark) = match Encoding::for_bom(bytes) {
        Some(found) => found,
        None => (declared(bytes, content_type), 0),
    };
    encoding
        .decode_without_bom_handling(&bytes[mark..])
        .0
        .into_owned()
}

fn declared(bytes: &[u8], content_type: &str) -> &'static Encoding {
    let header = content_type.to_ascii_lowercase();
    if let Some(encoding) = labelled(&header, "charset").and_then(for_label) {
        return encoding;
    }
    let head = &bytes[..bytes.len().min(PRESCAN_BYTES)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let in_xml = head
        .strip_prefix("<?xml")
        .and_then(|rest| rest.split("?>").next());
    let in_xml = in_xml.and_then(|declaration| labelled(declaration, "encoding"));
    let in_meta = head.split("<meta").skip(1).find_map(|rest| {
        let tag = rest.split('>').next().unwrap_or(rest);
        labelled(tag, "charset")
    });
    let encoding = in_meta.or(in_xml).and_then(for_label).map(|encoding| {
        // A page whose declaration can be read byte by byte is not in UTF-16, whatever it says.
        match encoding == UTF_16LE || encoding == UTF_16BE {
            true => UTF_8,
            false => encoding,
        }
    });
    encoding.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => WINDOWS_1252,
        // Whole, or cut within a character.
        _ => UTF_8,
    })
}

fn for_label(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label(label.as_bytes())
}

/// The value after `name` and an equals sign, with or without quotes.
fn labelled<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split(name).skip(1).find_map(|rest| {
        let value = rest.trim_start().strip_prefix('=')?.trim_start();
        let value = value.trim_start_matches(['"', '\'']);
        let end = value.find(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | ';' | '/' | '>'));
        Some(&value[..end.unwrap_or(value.len())]).filter(|label| !label.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;

    use super::*;

    /// "grüße" compressed with brotli; there is no compressor here.
    const BROTLI: &[u8] = &[0x0b, 0x03, 0x80, b'g', b'r', 0xc3, 0xbc, 0xc3, 0x9f, b'e', 0x03];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(bytes: Vec<u8>, encodings: &str) -> Page {
        page(Body {
            bytes,
            encodings: encodings.to_owned(),
            ..Body::default()
        })
    }

    #[test]
    fn every_content_encoding_is_undone() {
        let text = "grüße".as_bytes();
        for (bytes, encodings) in [
            (text.to_vec(), ""),
            (text.to_vec(), "identity"),
            (gzip(text), "gzip"),
            (gzip(text), " X-Gzip "),
            (zlib(text), "deflate"),
            (raw_deflate(text), "deflate"),
            (BROTLI.to_vec(), "br"),
            (gzip(&zlib(text)), "deflate, gzip"),
            (gzip(&zlib(text)), "deflate,identity,gzip"),
        ] {
            let page = encoded(bytes, encodings);
            assert!(page.contains("grüße"), "{encodings:?}: {page:?}");
            assert_eq!((page.is_cut, page.broken), (false, None), "{encodings:?}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_decompressed_is_named() {
        let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
        let long: Vec<u8> = (0..4_000_u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes())
            .collect();
        for (bytes, encodings) in [
            (b"plain text".to_vec(), "gzip"),
            (b"plain text".to_vec(), "br"),
            (half(gzip(&long)), "gzip"),
            (b"x".to_vec(), "compress"),
            (b"x".to_vec(), "br,br,br,br,br"),
        ] {
            let name = encodings.split(',').next();
            assert_eq!(encoded(bytes, encodings).broken.as_deref(), name, "{encodings:?}");
        }
        // What we cut ourselves is not broken, and what stands before the cut counts.
        let mut beginning = b"needle".to_vec();
        beginning.extend(long);
        let cut = page(Body {
            bytes: half(gzip(&beginning)),
            is_cut: true,
            encodings: "gzip".into(),
            ..Body::default()
        });
        assert!(cut.contains("needle") && cut.is_cut && cut.broken.is_none());
    }

    #[test]
    fn a_bomb_is_cut_and_says_so() {
        let mut bomb = vec![b' '; 64 * 1024 * 1024];
        bomb.extend(b"needle");
        for (bytes, encodings) in [
            (gzip(&bomb), "gzip"),
            (zlib(&bomb), "deflate"),
            (gzip(&gzip(&bomb)), "gzip, gzip"),
        ] {
            let page = encoded(bytes, encodings);
            assert_eq!(page.searched_bytes() as usize, PAGE_BYTES_MAX, "{encodings}");
            assert!(
                page.is_cut && page.broken.is_none() && !page.contains("needle"),
                "{encodings}"
            );
        }
    }

    #[test]
    fn charsets_are_those_of_mark_header_or_page() {
        let latin = b"gr\xfc\xdfe";
        let utf_16: Vec<u8> = "\u{feff}grüße"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let meta = |tag: &str| [tag.as_bytes(), latin].concat();
        for (bytes, content_type) in [
            ("grüße".as_bytes().to_vec(), ""),
            ("grüße".as_bytes().to_vec(), "text/html; charset=utf-8"),
            // The header is wrong, and the bytes are what was asked for.
            ("grüße".as_bytes().to_vec(), "text/html; charset=iso-8859-1"),
            (latin.to_vec(), ""),
            (latin.to_vec(), "text/html; charset=ISO-8859-1"),
            (latin.to_vec(), "text/html; Charset=\"windows-1252\"; x=y"),
            (utf_16.clone(), "text/html; charset=iso-8859-1"),
            (utf_16[2..].to_vec(), "text/plain; charset=utf-16le"),
            (meta("<meta charset=iso-8859-1>"), "text/html"),
            (
                meta("<META http-equiv='x' content='text/html; charset=ISO-8859-1'>"),
                "",
            ),
            (
                meta("<?xml version='1.0' encoding='ISO-8859-1'?>"),
                "application/xml",
            ),
        ] {
            let page = page(Body {
                bytes: bytes.clone(),
                content_type: content_type.to_owned(),
                ..Body::default()
            });
            assert!(page.contains("grüße"), "{content_type:?} {bytes:?}: {page:?}");
        }
        let (shift_jis, _, _) = encoding_rs::SHIFT_JIS.encode("こんにちは");
        let page = page(Body {
            bytes: shift_jis.into_owned(),
            content_type: "text/html; charset=Shift_JIS".into(),
            ..Body::default()
        });
        assert!(page.contains("こんにちは"));
    }

    #[test]
    fn any_bytes_are_read_or_named() {
        for encodings in ["", "gzip", "deflate", "br", "zstd", "gzip,br", ",,", "\u{0}"] {
            for length in 0..40_usize {
                let bytes: Vec<u8> = (0..length).map(|n| (n * 37 + length) as u8).collect();
                encoded(bytes, encodings).contains("x");
            }
        }
    }
}
