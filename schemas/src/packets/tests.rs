//! Batches are checked once and read by row.

use super::*;

fn batch() -> PacketBatch {
    PacketBatch {
        first: 7,
        base: Time(1_000),
        at_ns: [0_i32, -5].iter().flat_map(|at| at.to_le_bytes()).collect(),
        numbers: [0_i32, 3]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        v4: vec![192, 0, 2, 1],
        v6: Ipv6Addr::LOCALHOST.octets().to_vec(),
        sources: [0_u16, NO_ADDRESS]
            .iter()
            .flat_map(|index| index.to_le_bytes())
            .collect(),
        destinations: [1_u16, 0].iter().flat_map(|index| index.to_le_bytes()).collect(),
        source_ports: [40_000_u16, 0]
            .iter()
            .flat_map(|port| port.to_le_bytes())
            .collect(),
        destination_ports: [443_u16, 0].iter().flat_map(|port| port.to_le_bytes()).collect(),
        lengths: [60_u16, 42]
            .iter()
            .flat_map(|length| length.to_le_bytes())
            .collect(),
        protocols: vec![6, 255],
        tcp_flags: vec![2, 0],
        marks: vec![0, marks::TRUNCATED],
        ..PacketBatch::default()
    }
}

#[test]
fn rows_are_read_from_columns() {
    let batch = batch();
    let view = batch.view().unwrap();
    assert_eq!((view.len(), view.addresses()), (2, 2));
    assert_eq!((view.at(0), view.at(1)), (Time(1_000), Time(995)));
    assert_eq!((view.number(0), view.number(1)), (7, 10));
    assert_eq!(view.source(0), Some(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(view.destination(0), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    assert_eq!(
        (view.source(1), view.destination_port(0), view.length(1)),
        (None, 443, 42)
    );
    assert_eq!(view.destination_ports().collect::<Vec<_>>(), [443, 0]);
}

#[test]
fn numbers_that_are_left_out_count_on() {
    let mut batch = batch();
    batch.numbers.clear();
    let view = batch.view().unwrap();
    assert_eq!((view.number(0), view.number(1)), (7, 8));
}

fn repeat(row: u16) -> Repeat {
    Repeat {
        row,
        print: u32::MAX - 7,
        path: 1,
        after: Span(-9),
    }
}

#[test]
fn repeats_and_jumps_of_time_are_read_as_they_were_written() {
    let mut batch = batch();
    for row in [0, 1] {
        batch.push_repeat(repeat(row));
    }
    batch.bases.push((1, Time(-7_000_000_000)));
    let view = batch.view().unwrap();
    assert_eq!(view.repeats().collect::<Vec<_>>(), [0, 1].map(repeat));
    assert_eq!((view.at(0), view.at(1)), (Time(1_000), Time(-7_000_000_005)));
}

#[test]
fn columns_that_disagree_are_an_error() {
    let broken: [fn(&mut PacketBatch); 13] = [
        |batch| batch.at_ns.truncate(7),
        |batch| batch.lengths.clear(),
        |batch| batch.marks.truncate(1),
        |batch| batch.v4.push(1),
        |batch| batch.sources[0] = 9,
        |batch| batch.vlans.push((2, 1)),
        |batch| batch.inner_vlans.push((2, 1)),
        |batch| batch.repeat_prints = vec![0; 4],
        |batch| batch.push_repeat(repeat(2)),
        |batch| {
            [1, 0]
                .map(repeat)
                .into_iter()
                .for_each(|repeat| batch.push_repeat(repeat))
        },
        |batch| batch.bases.push((2, Time(5))),
        |batch| batch.bases = vec![(1, Time(5)), (1, Time(6))],
        |batch| batch.protocols.push(6),
    ];
    for damage in broken {
        let mut batch = batch();
        damage(&mut batch);
        assert!(batch.view().is_err(), "{batch:?}");
    }
}
