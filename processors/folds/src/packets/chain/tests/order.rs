//! Packets out of order, and times far from those around them.

use super::*;

/// One record with these packets, complete up to `through_ms`.
fn record(number: u64, packets: &[Wire], first: u64, through_ms: i64) -> Observation {
    let batch = crate::packets::testing::batch(packets, first);
    let body = Body::Batch(Box::new(batch));
    observation("capture-lan", 7, number, Time::from_millis(through_ms), body)
}

#[test]
fn a_packet_far_ahead_of_its_record_moves_nothing() {
    let mut fed = Fed::under(&classic());
    let scan = |ports: std::ops::RangeInclusive<u16>| -> Vec<Wire> {
        ports
            .map(|port| Wire::at(i64::from(port) * 1_000).to("10.0.0.2", port))
            .collect()
    };
    let year = 31_536_000_000;
    fed.give(&record(1, &[Wire::at(year).to("10.0.0.2", 99)], 1, 1_000));
    for (number, packet) in scan(1..=30).iter().enumerate() {
        let number = number as u64 + 2;
        fed.give(&record(
            number,
            std::slice::from_ref(packet),
            number,
            packet.at.as_millis(),
        ));
    }
    assert_eq!(
        short(&fed.events),
        [""; 0],
        "fifteen ports in thirty seconds are no scan"
    );
    fed.give(&record(40, &[Wire::at(year).to("10.0.0.2", 98)], 40, 30_000));
    let fast: Vec<_> = (1..=15)
        .map(|port| Wire::at(60_000 + i64::from(port)).to("10.0.0.2", port))
        .collect();
    fed.give(&record(41, &fast, 41, 60_015)).quiet(200_000);
    assert_eq!(
        short(&fed.events),
        [
            "60015 alert port_scan 10.0.0.1 15",
            "60015 began port_scan 10.0.0.1",
            "75015 ended port_scan 1"
        ]
    );
    assert_eq!(fed.chain.counters().ahead_packets, 2);
    assert_eq!(fed.chain.counters().late_packets, 0);
}

#[test]
fn answers_that_are_stored_before_their_attempts_fail_nothing() {
    let mut packets = Vec::new();
    for port in 1..=20 {
        let at = i64::from(port) * 1_000;
        let mut answer = Wire::at(at + 300).from("10.0.0.2").to("10.0.0.1", 40_000);
        (answer.ports.0, answer.flags) = (port, 18);
        packets.extend([answer, Wire::at(at).syn().to("10.0.0.2", port)]);
    }
    for size in [1, 7, 40] {
        let mut fed = Fed::under(&varied());
        for packets in packets.chunks(size) {
            fed.packets(packets).restart();
        }
        fed.quiet(100_000);
        let told = short(&fed.events);
        assert!(told.iter().all(|told| !told.contains("closed_ports")), "{told:?}");
    }
}
