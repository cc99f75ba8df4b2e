//! What becomes of attempts, packet by packet.

use super::*;

fn ends(client: u32, port: u16) -> Ends {
    Ends {
        source: IpAddr::from(client.to_be_bytes()),
        destination: IpAddr::from([10, 0, 0, 5]),
        source_port: 40_000,
        destination_port: port,
        segment: Segment::NONE,
    }
}

/// Milliseconds, the flags in letters, whether the server sent it, and the port.
type Line<'a> = (i64, &'a str, bool, u16);

fn packet((ms, letters, from_server, port): Line<'_>, number: u64) -> TcpPacket {
    let flag = |letter| match letter {
        'S' => SYN,
        'A' => ACK,
        'F' => FIN,
        'R' => RST,
        _ => 0,
    };
    let ends = ends(0xc000_0207, port);
    TcpPacket {
        at: Time::from_millis(ms),
        seen: Time::from_millis(ms),
        number,
        ends: if from_server { ends.turned() } else { ends },
        flags: letters.chars().map(flag).sum(),
        has_payload: letters.contains('P'),
    }
}

/// What comes of packets that are given in this order, each after what was due, and of an hour without any. A packet counts at
/// the time of the newest.
fn rows_of(lines: &[Line<'_>]) -> Vec<String> {
    let mut connections = Connections::new(9);
    let mut rows = Vec::new();
    let mut newest = Time::EPOCH;
    for (number, line) in lines.iter().enumerate() {
        let mut packet = packet(*line, number as u64 + 1);
        newest = newest.max(packet.at);
        packet.at = newest;
        while let Some(row) = connections.pop_due(packet.at) {
            rows.push(row);
        }
        let ports = (packet.ends.source_port, packet.ends.destination_port);
        if packet.flags & OPENS_OR_CLOSES != 0 || connections.may_use(ports.0, ports.1) {
            connections.see(&packet, &mut rows);
        }
        connections = Connections::load(connections.store(), 5);
    }
    while let Some(row) = connections.pop_due(Time::from_seconds(3_600)) {
        rows.push(row);
    }
    assert_eq!(connections.next_deadline(), None);
    let text = |row: &ConnectionRow| {
        let (at, port) = (row.at.as_millis(), row.ends.destination_port);
        assert_eq!(row.ends, ends(0xc000_0207, port));
        format!(
            "{at} {} {port} #{} {}",
            row.outcome.name(),
            row.number,
            row.duration.as_millis()
        )
    };
    rows.iter().map(text).collect()
}

/// The same, without the attempts themselves.
fn check(lines: &[Line<'_>], want: &[&str]) {
    let mut rows = rows_of(lines);
    rows.retain(|row| !row.contains(" tried "));
    assert_eq!(rows, want, "{lines:?}");
}

#[test]
fn attempts_are_opened_refused_or_unanswered() {
    check(
        &[(0, "S", false, 80), (20, "SA", true, 80)],
        &["20 opened 80 #2 20"],
    );
    check(
        &[(0, "S", false, 80), (20, "RA", true, 80)],
        &["20 refused 80 #2 20"],
    );
    check(
        &[(0, "S", false, 80), (20, "R", true, 80)],
        &["20 refused 80 #2 20"],
    );
    check(&[(0, "S", false, 80)], &["3000 unanswered 80 #1 3000"]);
    // An answer at exactly the deadline is too late.
    check(
        &[(0, "S", false, 80), (3_000, "SA", true, 80)],
        &["3000 unanswered 80 #1 3000"],
    );
    check(
        &[(0, "S", false, 80), (2_999, "SA", true, 80)],
        &["2999 opened 80 #2 2999"],
    );
}

#[test]
fn connections_end_once() {
    let opened = [(0, "S", false, 80), (20, "SA", true, 80)];
    let with = |more: &[Line<'static>]| [&opened[..], more].concat();
    check(
        &with(&[(500, "FA", false, 80), (510, "FA", true, 80)]),
        &["20 opened 80 #2 20", "500 ended 80 #3 500"],
    );
    check(
        &with(&[(500, "FA", true, 80), (510, "R", false, 80)]),
        &["20 opened 80 #2 20", "500 used 80 #3 500", "500 ended 80 #3 500"],
    );
    // A scanner that resets what it opened.
    check(
        &with(&[(21, "R", false, 80)]),
        &["20 opened 80 #2 20", "21 ended 80 #3 21"],
    );
}

#[test]
fn a_syn_that_is_sent_again_counts_once() {
    check(
        &[
            (0, "S", false, 80),
            (1_000, "S", false, 80),
            (1_500, "SA", true, 80),
        ],
        &["1500 opened 80 #3 1500"],
    );
    // After its deadline it is another attempt.
    check(
        &[(0, "S", false, 80), (3_000, "S", false, 80)],
        &["3000 unanswered 80 #1 3000", "6000 unanswered 80 #2 3000"],
    );
    // So is one with the ends of a connection whose end nobody saw.
    check(
        &[
            (0, "S", false, 80),
            (10, "SA", true, 80),
            (5_000, "S", false, 80),
            (5_010, "RA", true, 80),
        ],
        &["10 opened 80 #2 10", "5010 refused 80 #4 10"],
    );
}

#[test]
fn what_belongs_to_no_attempt_says_nothing() {
    check(
        &[
            (0, "SA", true, 80),
            (1, "R", true, 80),
            (2, "FA", false, 80),
            (3, "A", false, 80),
        ],
        &[],
    );
    // The client's own reset is no refusal.
    check(
        &[(0, "S", false, 80), (10, "R", false, 80)],
        &["3000 unanswered 80 #1 3000"],
    );
    // Flags that no stack sends.
    check(
        &[(0, "SF", false, 80), (1, "SR", false, 80), (2, "P", false, 80)],
        &[],
    );
}

#[test]
fn attempts_are_due_in_the_order_of_their_syns() {
    check(
        &[
            (0, "S", false, 1),
            (1, "S", false, 2),
            (2, "S", false, 3),
            (10, "RA", true, 2),
        ],
        &[
            "10 refused 2 #4 9",
            "3000 unanswered 1 #1 3000",
            "3002 unanswered 3 #3 3000",
        ],
    );
}

#[test]
fn a_flood_forgets_the_oldest_and_stays_within_its_bound() {
    let mut connections = Connections::new(1);
    let flood = 3 * WAITING_MAX as u32;
    for client in 0..flood {
        let packet = TcpPacket {
            at: Time(i64::from(client)),
            seen: Time(i64::from(client)),
            number: u64::from(client),
            ends: ends(client, 80),
            flags: SYN,
            has_payload: false,
        };
        let mut rows = Vec::new();
        connections.see(&packet, &mut rows);
        assert_eq!(rows.len(), 1);
    }
    assert_eq!(
        (connections.waiting.len(), connections.evicted),
        (WAITING_MAX, 2 * WAITING_MAX as u64)
    );
    let first = connections.pop_due(Time::from_seconds(9)).unwrap();
    assert_eq!(first.number, u64::from(flood) - WAITING_MAX as u64);
}

#[test]
fn ends_of_both_families_are_told_apart() {
    let mut connections = Connections::new(1);
    let ends = Ends {
        source: "2001:db8::7".parse().unwrap(),
        destination: "2001:db8::5".parse().unwrap(),
        source_port: 40_000,
        destination_port: 22,
        segment: Segment::NONE,
    };
    let packet = |ends, flags| TcpPacket {
        at: Time::EPOCH,
        seen: Time::EPOCH,
        number: 1,
        ends,
        flags,
        has_payload: false,
    };
    let mut outcomes = |packet| {
        let mut rows = Vec::new();
        connections.see(&packet, &mut rows);
        rows.iter().map(|row| (row.outcome, row.ends)).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(packet(ends, SYN)), [(Outcome::Tried, ends)]);
    for other in [
        Ends {
            source: "2001:db8::8".parse().unwrap(),
            ..ends
        },
        Ends {
            segment: Segment::NONE.within(10),
            ..ends
        },
    ] {
        assert_eq!(outcomes(packet(other.turned(), SYN | ACK)), []);
    }
    assert_eq!(
        outcomes(packet(ends.turned(), SYN | ACK)),
        [(Outcome::Opened, ends)]
    );
}

#[test]
fn a_connection_is_used_once_it_carries_data() {
    let opened = [(0, "S", false, 80), (20, "SA", true, 80), (21, "A", false, 80)];
    let with = |more: &[Line<'static>]| [&opened[..], more].concat();
    // From either end, and once.
    for from_server in [false, true] {
        check(
            &with(&[(30, "AP", from_server, 80), (31, "AP", from_server, 80)]),
            &["20 opened 80 #2 20", "30 used 80 #4 30"],
        );
    }
    check(
        &with(&[(30, "FAP", true, 80)]),
        &["20 opened 80 #2 20", "30 used 80 #4 30", "30 ended 80 #4 30"],
    );
    // A server that has nothing to send, and a client that wanted nothing.
    check(
        &with(&[(30, "FA", true, 80)]),
        &["20 opened 80 #2 20", "30 used 80 #4 30", "30 ended 80 #4 30"],
    );
    check(
        &with(&[(30, "FA", false, 80)]),
        &["20 opened 80 #2 20", "30 ended 80 #4 30"],
    );
    check(
        &with(&[(30, "R", false, 80)]),
        &["20 opened 80 #2 20", "30 ended 80 #4 30"],
    );
    // Data to a port that has not answered uses nothing.
    check(
        &[(0, "S", false, 80), (1, "AP", false, 80), (2, "RA", true, 80)],
        &["2 refused 80 #3 2"],
    );
    check(
        &[(0, "S", false, 80), (1, "AP", false, 80)],
        &["3000 unanswered 80 #1 3000"],
    );
}

/// Every order in which lines can be stored that are captured within a second.
#[test]
fn packets_count_in_the_order_of_their_own_times() {
    let lines = [
        (0, "S", false, 80),
        (1, "SA", true, 80),
        (2, "A", false, 80),
        (3, "AP", true, 80),
        (900, "FA", true, 80),
    ];
    let what = |lines: &[Line<'_>]| {
        let mut rows: Vec<String> = rows_of(lines)
            .iter()
            .map(|row| {
                let (_, row) = row.split_once(' ').unwrap();
                let (what, duration) = row.split_once('#').unwrap();
                let duration = duration.split_once(' ').unwrap().1;
                // Data that is stored before everything else of its connection is not seen as its first.
                let duration = if what.starts_with("used") { "" } else { duration };
                format!("{what}{duration}")
            })
            .collect();
        rows.sort_unstable();
        rows
    };
    let want = ["ended 80 900", "opened 80 1", "tried 80 0", "used 80 "];
    assert_eq!(what(&lines), want);
    for one in 0..5 {
        for other in 0..5 {
            for third in 0..5 {
                let mut stored = lines;
                stored.swap(one, other);
                stored.swap(other, third);
                assert_eq!(what(&stored), want, "{stored:?}");
            }
        }
    }
    for outcome in ["RA", "R"] {
        assert_eq!(
            what(&[(500, outcome, true, 80), (0, "S", false, 80)]),
            ["refused 80 500", "tried 80 0"]
        );
    }
    // Beyond a second it is another packet's.
    assert_eq!(
        what(&[
            (1_500, "SA", true, 80),
            (2_600, "A", false, 81),
            (499, "S", false, 80)
        ]),
        what(&[(1_500, "S", false, 80)])
    );
}

#[test]
fn early_packets_stay_within_their_bound() {
    let mut connections = Connections::new(1);
    let flood = 2 * EARLY_MAX as u32;
    for client in 0..flood {
        let packet = TcpPacket {
            at: Time(i64::from(client)),
            seen: Time(i64::from(client)),
            number: u64::from(client),
            ends: ends(client, 80),
            flags: SYN | ACK,
            has_payload: false,
        };
        let mut rows = Vec::new();
        connections.see(&packet, &mut rows);
        assert_eq!(rows, []);
    }
    assert_eq!(
        (connections.early.len(), connections.evicted),
        (EARLY_MAX, EARLY_MAX as u64)
    );
    assert!(connections.may_use(40_000, 80));
    connections.forget_early(Time::from_seconds(9));
    assert!(!connections.may_use(40_000, 80));
}
