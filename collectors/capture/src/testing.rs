//! Frames and capture files made by hand, for tests.

use etherparse::PacketBuilder;
use watchfold_schemas::Time;

/// A TCP segment from 10.0.0.1 to this port.
pub fn tcp_frame(port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
        .tcp(40_000, port, 1, 1);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"SSH-2.0").unwrap();
    bytes
}

/// A pcap file of Ethernet with nanoseconds.
pub fn pcap(packets: &[(Time, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_3C4D_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (at, packet) in packets {
        let length = packet.len() as u32;
        let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        for word in [seconds as u32, nanos as u32, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}
