//! Bytes as a capture file: pcap or pcapng, packed or not. They are read or refused, and every batch of them is sound.

#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::file::CaptureFile;
use watchfold_capture::parse::decode;
use watchfold_schemas::codec::{MESSAGE_BYTES_MAX, encode};
use watchfold_schemas::packets::{CaptureCounts, CaptureSource};

/// Packed bytes may stand for any number of packets; these are enough to see.
const PACKETS_MAX: u64 = 20_000;

fuzz_target!(|bytes: &[u8]| {
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut file) = CaptureFile::read(Path::new("fuzzed"), input) else {
        return;
    };
    let mut builder = BatchBuilder::new(CaptureSource::default(), &[22, 53, 80]);
    let mut last = 0;
    let ended = file.for_each(|frame| {
        assert!(
            frame.number > last,
            "packets are numbered in the order of the file"
        );
        last = frame.number;
        if let Ok(packet) = decode(frame.link, frame.bytes, frame.wire_length) {
            if !builder.fits(frame.number, frame.at) {
                check(&mut builder);
            }
            let pushed = builder.push(frame.number, frame.at, frame.wire_length, packet);
            assert_eq!(pushed, Pushed::Taken);
        }
        if last < PACKETS_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    check(&mut builder);
    // How it ended does not matter, as long as it did.
    drop(ended);
});

fn check(builder: &mut BatchBuilder) {
    let batch = builder.take(CaptureCounts::default());
    batch.view().expect("a batch that was built is sound");
    let bytes = encode(&batch).expect("a batch that was built fits into a message");
    assert!(bytes.len() < MESSAGE_BYTES_MAX);
}
