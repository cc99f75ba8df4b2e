//! The bytes of one packet, as a frame of each kind of link: what is decoded lies in the frame and can be stored.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::parse::{LinkType, decode};
use watchfold_schemas::Time;
use watchfold_schemas::codec::encode;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource, PACKET_NAME_BYTES_MAX, marks};

/// A link type of each kind, as libpcap numbers them.
const LINKS: [i32; 7] = [1, 0, 9, 101, 113, 276, 147];

fuzz_target!(|input: (u8, &[u8])| {
    let (missing, frame) = input;
    let wire_length = frame.len() as u32 + u32::from(missing);
    let mut builder = BatchBuilder::new(CaptureSource::default(), &[22, 80, 443]);
    let mut number = 0;
    for link in LINKS {
        let Ok(packet) = decode(LinkType::from(link), frame, wire_length) else {
            continue;
        };
        assert_eq!(packet.marks & marks::TRUNCATED != 0, missing > 0);
        assert!(packet.payload.len() <= frame.len());
        number += 1;
        let pushed = builder.push(number, Time(0), wire_length, packet);
        assert_eq!(pushed, Pushed::Taken);
    }
    let batch = builder.take(CaptureCounts::default());
    batch.view().expect("a batch that was built is sound");
    let names = batch.dns.iter().map(|dns| &dns.name);
    let names = names.chain(
        batch
            .tls_names
            .iter()
            .chain(&batch.http_hosts)
            .map(|(_, name)| name),
    );
    for name in names {
        assert!(name.len() <= PACKET_NAME_BYTES_MAX, "{} bytes", name.len());
    }
    encode(&batch).expect("a batch that was built fits into a message");
});
