//! Frames: what is encoded decodes, and foreign bytes never panic.

use bytes::Bytes;
use proptest::prelude::*;
use watchfold_log::frame::{Decoded, SegmentHeader, decode_frame, encode_frame, frame_seed};
use watchfold_log::{Append, check_message};
use watchfold_schemas::{MessageId, Stream, Time};

fn any_message() -> impl Strategy<Value = Append> {
    let token = "[a-zA-Z0-9_-]{1,48}";
    let subject = prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."));
    let id = "\\PC{1,60}";
    let payload = prop::collection::vec(any::<u8>(), 0..3000);
    (subject, id, payload).prop_map(|(subject, id, payload)| Append {
        stream: Stream::Observations,
        subject,
        id: MessageId(id),
        payload: payload.into(),
    })
}

proptest! {
    #[test]
    fn decode_of_encode_is_the_same(
        messages in prop::collection::vec(any_message(), 1..8), sequence in 1..u64::MAX / 2, at: i64, first: bool, log_id: [u8; 16],
    ) {
        let seed = frame_seed(log_id, 3);
        let mut buffer = b"before".to_vec();
        for message in &messages {
            prop_assume!(check_message(message).is_ok());
            encode_frame(&mut buffer, seed, sequence, Time(at), first, message);
        }
        let mut rest = Bytes::from(buffer).slice(6..);
        for message in &messages {
            let Decoded::Frame(frame) = decode_frame(&rest, seed) else { panic!("not a frame") };
            let record = frame.record(&rest, 0);
            prop_assert_eq!((record.sequence, record.stored_at, frame.first_of_commit), (sequence, Time(at), first));
            prop_assert_eq!((&record.id, &record.subject, &record.payload), (&message.id, &message.subject, &message.payload));
            prop_assert_eq!(decode_frame(&rest, frame_seed(log_id, 4)), Decoded::Invalid, "another segment's");
            rest = rest.slice(frame.bytes..);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), seed: u32) {
        prop_assert!(!matches!(decode_frame(&bytes, seed), Decoded::Frame(_)));
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }

    #[test]
    fn one_changed_bit_is_noticed(message in any_message(), bit: prop::sample::Index, seed: u32) {
        let mut buffer = Vec::new();
        encode_frame(&mut buffer, seed, 9, Time(5), true, &message);
        let bit = bit.index(buffer.len() * 8);
        buffer[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!matches!(decode_frame(&buffer, seed), Decoded::Frame(_)));
    }

    #[test]
    fn headers_round_trip(log_id: [u8; 16], number: u64, first_sequence: u64, at: i64) {
        let header = SegmentHeader { log_id, number, first_sequence, created_at: Time(at) };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
}
