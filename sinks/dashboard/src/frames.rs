//! WebSocket frames (RFC 6455) of the live stream. A message is encoded once, and all viewers share its bytes. What viewers send is checked
//! and skipped: they have nothing to say but that they are there.

use std::io::Cursor;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The largest frame taken from a viewer.
pub const VIEWER_FRAME_BYTES_MAX: usize = 4 * 1024;
/// The longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// The longest header of a frame from a server, which does not mask.
const HEADER_BYTES_MAX: usize = 10;

/// A whole frame with its header. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    #[cfg(test)]
    header_bytes: usize,
}

impl Frame {
    /// A message as JSON text.
    pub fn json(message: &impl Serialize) -> Result<Frame, serde_json::Error> {
        let mut bytes = vec![0; HEADER_BYTES_MAX];
        serde_json::to_writer(&mut bytes, message)?;
        // A list that grew may hold twice what is in it.
        bytes.shrink_to_fit();
        Ok(Frame::finish(OpCode::Data(Data::Text), bytes))
    }

    pub fn ping(number: u64) -> Frame {
        Frame::of(OpCode::Control(Control::Ping), &number.to_be_bytes())
    }

    pub fn pong(payload: &[u8]) -> Frame {
        Frame::of(OpCode::Control(Control::Pong), payload)
    }

    /// The end of the stream, with a code of RFC 6455, section 7.4.
    pub fn close(code: u16, reason: &str) -> Frame {
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        Frame::of(OpCode::Control(Control::Close), &payload)
    }

    fn of(opcode: OpCode, payload: &[u8]) -> Frame {
        Frame::finish(opcode, [&[0; HEADER_BYTES_MAX], payload].concat())
    }

    /// Puts the header right before the payload, which begins after room for the longest header.
    fn finish(opcode: OpCode, mut bytes: Vec<u8>) -> Frame {
        let payload_bytes = (bytes.len() - HEADER_BYTES_MAX) as u64;
        let header = FrameHeader {
            is_final: true,
            opcode,
            ..FrameHeader::default()
        };
        let from = HEADER_BYTES_MAX - header.len(payload_bytes);
        // Writing into a slice of the header's own length cannot fail.
        let _ = header.format(payload_bytes, &mut &mut bytes[from..HEADER_BYTES_MAX]);
        Frame {
            bytes: Bytes::from(bytes).slice(from..),
            #[cfg(test)]
            header_bytes: HEADER_BYTES_MAX - from,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(test)]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.header_bytes..]).unwrap()
    }
}

/// What a viewer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Ping(Bytes),
    Pong(Bytes),
    /// Anything else that is well formed.
    Data,
    Close,
}

/// A viewer broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Takes the frames out of what came from a viewer.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: BytesMut,
}

impl Inbox {
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more has come.
    pub fn next(&mut self) -> Result<Option<Received>, BadFrame> {
        if !self.buffer.first_chunk().is_none_or(begins_well) {
            return Err(BadFrame);
        }
        let mut cursor = Cursor::new(&self.buffer[..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| BadFrame)? else {
            return Ok(None);
        };
        let header_bytes = cursor.position() as usize;
        let length = usize::try_from(length).map_err(|_| BadFrame)?;
        let is_control = matches!(header.opcode, OpCode::Control(_));
        if length > VIEWER_FRAME_BYTES_MAX || (is_control && length > CONTROL_BYTES_MAX) {
            return Err(BadFrame);
        }
        let mask = header.mask.ok_or(BadFrame)?;
        if self.buffer.len() < header_bytes + length {
            return Ok(None);
        }
        self.buffer.advance(header_bytes);
        let mut payload = self.buffer.split_to(length);
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        if self.buffer.is_empty() {
            // An idle viewer holds no memory.
            self.buffer = BytesMut::new();
        }
        let payload = payload.freeze();
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Received::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Received::Pong(payload))),
            OpCode::Control(Control::Close) => Ok(Some(Received::Close)),
            OpCode::Data(Data::Text) if std::str::from_utf8(&payload).is_err() => Err(BadFrame),
            OpCode::Data(Data::Text | Data::Binary) => Ok(Some(Received::Data)),
            _ => Err(BadFrame),
        }
    }
}

/// Whether a frame begins as one of a viewer does: whole, of a known kind, and masked (RFC 6455, sections 5.1 and 5.2). A message in several
/// frames is more than anybody has to say here.
fn begins_well([first, second]: &[u8; 2]) -> bool {
    let is_whole = first & 0xf0 == 0x80;
    is_whole && matches!(first & 0x0f, 0x1 | 0x2 | 0x8 | 0x9 | 0xa) && second & 0x80 != 0
}

/// The answer that turns a request into a WebSocket, or what the request lacks.
pub fn accept(headers: &HeaderMap) -> Result<Response, &'static str> {
    let has = |name: header::HeaderName, word: &str| {
        headers.get_all(name).iter().any(|value| {
            let words = value.to_str().unwrap_or_default().split(',');
            words.map(str::trim).any(|found| found.eq_ignore_ascii_case(word))
        })
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(
            "this address is a WebSocket: send the headers Connection: upgrade and Upgrade: websocket",
        );
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("Sec-WebSocket-Version must be 13");
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or("Sec-WebSocket-Key is missing")?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| "Sec-WebSocket-Key is not a key")?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let masked = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        [first, 0x80 | payload.len() as u8]
            .into_iter()
            .chain(mask)
            .chain(masked)
            .collect()
    }

    #[test]
    fn frames_have_the_header_of_their_length() {
        for (length, header) in [
            (0, &[0x81, 2][..]),
            (123, &[0x81, 125]),
            (124, &[0x81, 126, 0, 126]),
            (65_533, &[0x81, 126, 0xff, 0xff]),
            (65_534, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            // A string has its quotes besides.
            let text = "x".repeat(length);
            let frame = Frame::json(&text).unwrap();
            assert_eq!(&frame.bytes()[..header.len()], header, "{length}");
            assert_eq!(frame.len(), header.len() + length + 2);
            assert_eq!(frame.text(), format!("\"{text}\""));
        }
        assert_eq!(Frame::ping(7).bytes(), [0x89, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(Frame::close(1001, "x").bytes(), [0x88, 3, 0x03, 0xe9, b'x']);
    }

    #[test]
    fn frames_of_viewers_are_taken_in_any_pieces() {
        let bytes = [
            masked(0x89, b"ab"),
            masked(0x81, "é".as_bytes()),
            masked(0x8a, b""),
            masked(0x88, b""),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for part in bytes.chunks(piece) {
                inbox.extend(part);
                while let Some(received) = inbox.next().unwrap() {
                    found.push(received);
                }
            }
            let want = [
                Received::Ping(Bytes::from_static(b"ab")),
                Received::Data,
                Received::Pong(Bytes::new()),
                Received::Close,
            ];
            assert_eq!(found, want, "{piece}");
            assert_eq!(inbox.buffer.capacity(), 0, "nothing is held between frames");
        }
    }

    #[test]
    fn frames_that_break_the_protocol_are_refused() {
        for (what, bytes) in [
            ("unmasked", b"\x81\x01a".to_vec()),
            ("reserved bit", masked(0xc1, b"a")),
            ("unknown opcode", masked(0x83, b"a")),
            ("first of several", masked(0x01, b"a")),
            ("continuation", masked(0x80, b"a")),
            ("text that is no UTF-8", masked(0x81, b"\xff")),
            ("long control frame", b"\x89\xfe\x00\x7e\0\0\0\0".to_vec()),
            ("long frame", b"\x82\xfe\x10\x01\0\0\0\0".to_vec()),
            (
                "endless frame",
                b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(),
            ),
        ] {
            let mut inbox = Inbox::default();
            inbox.extend(&bytes);
            assert_eq!(inbox.next(), Err(BadFrame), "{what}");
        }
    }
}
