//! A check over a column says of each row what the row itself says.

use proptest::prelude::*;
use watchfold_schemas::fields::{Kind, Source};
use watchfold_schemas::rules::{Compare, FieldTest, Surroundings, Value};

use super::*;
use crate::engine::cell::Row;
use crate::packets::rows::PacketRow;
use crate::packets::testing::{Side, Wire, batch};

fn site() -> Site {
    Site::of(&Surroundings {
        own_networks: vec!["45.83.12.0/22".to_owned()],
        own_ports: vec![8_443],
        own_addresses: vec!["10.0.0.2".to_owned()],
        ..Surroundings::default()
    })
}

/// Tests of every shape that a field takes.
fn tests_of(field: Field) -> Vec<FieldTest> {
    let text = |text: &str| Value::Text(text.to_owned());
    let test = |compare, values| FieldTest {
        field: field.name().to_owned(),
        compare,
        values,
        all: false,
    };
    let mut out = vec![
        test(Compare::Exists, vec![Value::Truth(true)]),
        test(Compare::Exists, vec![Value::Truth(false)]),
    ];
    out.extend(match field.kind() {
        Kind::Number => vec![
            test(Compare::Equals, vec![Value::Number(1)]),
            test(Compare::Equals, [0, 8, 53, 80, 8_443].map(Value::Number).to_vec()),
            test(Compare::AtLeast, vec![Value::Number(20)]),
            test(Compare::Less, vec![Value::Number(-1)]),
            test(Compare::AtMost, vec![Value::Number(i64::MAX)]),
        ],
        Kind::Truth => [true, false]
            .map(|truth| test(Compare::Equals, vec![Value::Truth(truth)]))
            .to_vec(),
        Kind::Address => vec![
            test(Compare::Equals, vec![text("10.0.0.2")]),
            test(Compare::Cidr, vec![text("10.0.0.0/30"), text("2001:db8::/32")]),
        ],
        Kind::Word(words) => words
            .iter()
            .map(|word| test(Compare::Equals, vec![text(word)]))
            .collect(),
        Kind::Text => vec![
            test(
                Compare::Equals,
                vec![text("www.example.org"), text("example.org")],
            ),
            test(Compare::Contains, vec![text("x")]),
        ],
        Kind::Mac => Vec::new(),
    });
    out
}

fn wires() -> impl Strategy<Value = Vec<Wire>> {
    let protocol = prop::sample::select(vec![6_u8, 6, 17, 1, 58, 47, 255]);
    let port = || prop::sample::select(vec![0_u16, 1, 8, 53, 80, 8_443, 40_000, u16::MAX]);
    let host = || {
        prop::sample::select(vec![
            "",
            "10.0.0.1",
            "10.0.0.2",
            "8.8.8.8",
            "45.83.12.9",
            "2001:db8::1",
            "224.0.0.1",
        ])
    };
    let packet = (
        protocol,
        port(),
        port(),
        host(),
        host(),
        any::<u8>(),
        0_u8..64,
        any::<u16>(),
        0_u8..9,
    );
    prop::collection::vec(packet, 0..200).prop_map(|packets| {
        let wire = |(protocol, from, to, source, destination, flags, marks, length, side)| Wire {
            source: std::str::FromStr::from_str(source).ok(),
            destination: std::str::FromStr::from_str(destination).ok(),
            ports: (from, to),
            protocol,
            flags,
            marks,
            length,
            vlans: match length % 4 {
                0 => vec![7],
                1 => vec![7, flags.into()],
                _ => Vec::new(),
            },
            side: match side {
                0 => Side::Dns("www.example.org".to_owned(), length % 30, flags > 99),
                1 => Side::Dns("xyz.xn.example.co.uk".to_owned(), 1, true),
                2 => Side::Arp(u16::from(flags % 3), [flags % 2; 6]),
                4 => Side::Tls("WWW.example.org".to_owned()),
                5 => Side::Http("example.org".to_owned()),
                6 => Side::Head(vec![b'x', flags]),
                _ => Side::Nothing,
            },
            ..Wire::at(0)
        };
        packets.into_iter().map(wire).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn columns_say_what_rows_say(wires in wires()) {
        let batch = batch(&wires, 1);
        let view = batch.view().unwrap();
        let times: Vec<Time> = (0..view.len() as i64).map(Time::from_millis).collect();
        let changed = batch.arp.iter().map(|arp| (arp.operation == 2).then_some(arp.row % 2 == 0)).collect();
        let site = site();
        let copies = crate::packets::mask::Mask::of(view.protocols(), |protocol: u8| protocol == 17);
        let segments = crate::packets::columns::Segments::of(&batch);
        let columns = Columns::of(view, &times, &site, changed, copies, segments);
        for field in Field::ALL.iter().filter(|field| field.is_of(Source::Packet)) {
            for test in tests_of(*field) {
                let leaf = Leaf { field: *field, check: Check::compile(*field, &test).unwrap() };
                let rows: Vec<u16> = ColumnCheck::of(&leaf).rows(&columns, &site).rows().collect();
                let says = |row: &u16| {
                    let row = PacketRow { columns: &columns, site: &site, row: *row };
                    leaf.check.holds(row.cell(*field).as_ref())
                };
                let want: Vec<u16> = (0..view.len() as u16).filter(says).collect();
                prop_assert_eq!(rows, want, "{:?}", test);
            }
        }
        let ends = Expression::Not(Box::new(Expression::Before(Time::from_millis(70))));
        let rows: Vec<u16> = rows_of(&ends, &[], &columns.kinds.all, &times).rows().collect();
        let want: Vec<u16> = (0..view.len() as u16)
            .filter(|row| ends.holds(times[usize::from(*row)], &mut |_| false))
            .collect();
        prop_assert_eq!(rows, want);
    }
}
