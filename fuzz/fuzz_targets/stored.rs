//! Bytes as stored messages: refused, or read and written again as the same; and a packet chain takes whatever was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfold_fuzz::chain::{Folded, pack};
use watchfold_rules::PackName;
use watchfold_schemas::{Body, Span, decode_event, decode_observation, encode_event, encode_observation};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = decode_event(bytes)
        && let Ok(written) = encode_event(&event)
    {
        let again = decode_event(&written).expect("what was written is read");
        assert_eq!(encode_event(&again).ok().as_ref(), Some(&written));
    }
    let Ok(observation) = decode_observation(bytes) else {
        return;
    };
    let Ok(written) = encode_observation(&observation) else {
        return;
    };
    let again = decode_observation(&written).expect("what was written is read");
    assert_eq!(encode_observation(&again).ok().as_ref(), Some(&written));
    if let Body::PingRound(round) = &observation.body {
        let _sound_or_not = round.rows();
    }
    let mut folded = Folded::under(pack(PackName::Default));
    folded.fold(&observation);
    folded.restart();
    let later = observation.through + Span::from_seconds(7_200);
    let origin = &observation.origin;
    folded.give(&origin.collector, origin.incarnation, later, Body::Quiet);
});
