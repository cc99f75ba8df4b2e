//! The default pack against the real thing: each kind of attack from both sides of its threshold, and as how many attacks it
//! is told.

use watchfold_rules::PackName;
use watchfold_schemas::event::Severity;

use super::ordinary::{OUTSIDE, PC, default, transfer};
use super::packs::pack;
use super::story::{
    ACK, FIN, PSH, Packet, RST, SYN, Told, advertisement, arp, connection, dhcp_ack, dns, echo, fold, sorted,
    tcp, udp,
};

const VICTIM: &str = "192.168.1.30";

/// These rules fire, with these severities, about these subjects; and that is so many attacks.
#[track_caller]
fn attack(packets: Vec<Packet>, want: &[(&str, Severity, &str)], attacks: usize) {
    let outcome = default(packets);
    let want: Vec<(String, Severity, String)> = want
        .iter()
        .map(|(rule, severity, subject)| ((*rule).into(), *severity, (*subject).into()))
        .collect();
    assert_eq!(outcome.what(), want);
    let ended: Vec<&str> = outcome
        .attacks()
        .iter()
        .map(|(_, attack)| attack.subject.as_str())
        .collect();
    assert_eq!(ended.len(), attacks, "{ended:?}");
}

#[test]
fn a_fast_scan_of_one_victim() {
    let scan = |flags, port: u32| {
        tcp(
            f64::from(port),
            &format!("{PC}:40000"),
            &format!("{VICTIM}:{}", 100 + port),
            flags,
        )
    };
    let syn: Vec<Packet> = (0..200).map(|port| scan(SYN, port)).collect();
    attack(syn[..14].to_vec(), &[], 0);
    attack(syn, &[("port_scan", Severity::High, PC)], 1);
    for flags in [0, FIN, FIN | PSH | 32] {
        let odd: Vec<Packet> = (0..30).map(|port| scan(flags, port)).collect();
        attack(odd[..9].to_vec(), &[], 0);
        attack(odd, &[("port_scan_stealthy", Severity::High, PC)], 1);
    }
}

#[test]
fn a_scan_of_ports_that_answer() {
    // A connection that is given up once it is open: by the scanner's kernel, or by the scanner.
    for (number, end) in [&[RST][..], &[ACK, RST | ACK], &[ACK, FIN | ACK]]
        .into_iter()
        .enumerate()
    {
        let scan = |ports: u32| -> Vec<Packet> {
            (0..ports)
                .flat_map(|port| {
                    let at = f64::from(port) * 100.0;
                    let (client, server) = (format!("{PC}:40000"), format!("{VICTIM}:{}", 100 + port));
                    let mut packets = vec![
                        tcp(at, &client, &server, SYN),
                        tcp(at + 0.1, &server, &client, SYN | ACK),
                    ];
                    let ends = end.iter().enumerate();
                    packets.extend(
                        ends.map(|(step, flags)| tcp(at + 0.2 + step as f64 * 0.1, &client, &server, *flags)),
                    );
                    packets
                })
                .collect()
        };
        attack(scan(14), &[], 0);
        let outcome = default(scan(40));
        assert_eq!(outcome.attacks().len(), 1, "{number}: {:?}", outcome.what());
        assert_eq!(outcome.what()[0].0, "port_scan");
    }
}

#[test]
fn a_scan_beside_connections_that_are_used() {
    let mut packets: Vec<Packet> = (0..40)
        .flat_map(|port| {
            let at = f64::from(port) * 100.0;
            transfer(
                at,
                &format!("{PC}:{}", 50_000 + port),
                &format!("{VICTIM}:{}", 2_000 + port),
                0,
                15_000,
                30.0,
            )
        })
        .collect();
    let scan = |ports: u32| -> Vec<Packet> {
        (0..ports)
            .flat_map(|port| {
                refused(
                    1_000.0 + f64::from(port),
                    &format!("{PC}:40000"),
                    &format!("{VICTIM}:{}", 100 + port),
                )
            })
            .collect()
    };
    // One more is in use at any time, and one of the attempts of before may be.
    packets.extend(scan(13));
    assert_eq!(default(packets.clone()).what(), []);
    packets.extend(scan(15));
    assert_eq!(
        default(packets).what(),
        [("port_scan".into(), Severity::High, PC.into())]
    );
}

#[test]
fn a_scan_of_udp_ports() {
    let probe = |port: u32| {
        udp(
            f64::from(port) * 1_000.0,
            &format!("{PC}:40000"),
            &format!("{VICTIM}:{}", 100 + port),
        )
    };
    let scan: Vec<Packet> = (0..55).map(probe).collect();
    attack(scan[..19].to_vec(), &[], 0);
    attack(scan[..20].to_vec(), &[("port_scan_udp", Severity::High, PC)], 1);
    let slower = scan.into_iter().enumerate();
    attack(
        slower
            .map(|(number, probe)| probe.moved_to(number as f64 * 3_200.0))
            .collect(),
        &[],
        0,
    );
}

/// An attempt that is refused.
fn refused(ms: f64, source: &str, destination: &str) -> Vec<Packet> {
    vec![
        tcp(ms, source, destination, SYN),
        tcp(ms + 0.1, destination, source, RST | ACK),
    ]
}

#[test]
fn slow_scans_and_sweeps() {
    let slow = |count: u32| -> Vec<Packet> {
        (0..count)
            .flat_map(|port| {
                refused(
                    f64::from(port) * 15_000.0,
                    &format!("{PC}:40000"),
                    &format!("{VICTIM}:{}", 1_000 + port),
                )
            })
            .collect()
    };
    attack(slow(14), &[], 0);
    attack(slow(16), &[("port_scan_slow", Severity::Medium, PC)], 1);
    let sweep = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|host| {
                tcp(
                    f64::from(host) * 1_000.0,
                    &format!("{PC}:{}", 40_000 + host),
                    &format!("192.168.2.{}:445", 1 + host),
                    SYN,
                )
            })
            .collect()
    };
    attack(sweep(24), &[], 0);
    attack(
        sweep(30),
        &[("host_sweep", Severity::High, &format!("{PC} 445"))],
        1,
    );
}

#[test]
fn floods_of_one_and_of_made_up_sources_are_one_attack_on_their_victim() {
    let one = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|number| {
                tcp(
                    f64::from(number),
                    &format!("{PC}:{}", 2_000 + number),
                    &format!("{VICTIM}:80"),
                    SYN,
                )
            })
            .collect()
    };
    attack(one(199), &[], 0);
    attack(one(1_500), &[("syn_flood", Severity::Critical, VICTIM)], 1);
    let many = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|number| {
                tcp(
                    f64::from(number),
                    &format!("198.{}.{}.7:1024", 18 + number / 250, number % 250),
                    &format!("{VICTIM}:80"),
                    SYN,
                )
            })
            .collect()
    };
    attack(many(999), &[], 0);
    attack(
        many(1_500),
        &[("syn_flood_victim", Severity::Critical, VICTIM)],
        1,
    );
    let echoes = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|number| echo(f64::from(number), PC, VICTIM))
            .collect()
    };
    attack(echoes(99), &[], 0);
    attack(echoes(700), &[("icmp_flood", Severity::High, VICTIM)], 1);
    let spread: Vec<Packet> = (0..700)
        .map(|number| {
            echo(
                f64::from(number),
                &format!("198.18.{}.{}", number / 250, number % 250),
                VICTIM,
            )
        })
        .collect();
    attack(spread, &[("icmp_flood_victim", Severity::High, VICTIM)], 1);
}

#[test]
fn a_large_upload_to_somebody_outside() {
    let client = format!("{PC}:50000");
    let upload = |bytes| transfer(0.0, &client, &format!("{OUTSIDE}:443"), bytes, 300_000, 30_000.0);
    attack(upload(49_000_000), &[], 0);
    attack(
        upload(60_000_000),
        &[("exfiltration", Severity::High, &format!("{PC} {OUTSIDE}"))],
        1,
    );
    let spread: Vec<Packet> = (0..4)
        .flat_map(|to| {
            transfer(
                0.0,
                &client,
                &format!("203.0.113.{}:443", 10 + to),
                40_000_000,
                30_000,
                30_000.0,
            )
        })
        .collect();
    attack(spread, &[], 0);
}

#[test]
fn public_addresses_of_the_site_are_its_own() {
    let mut told = Told::default();
    let (own, other) = ("198.51.100.5:50000", "198.51.100.9:4444");
    let upload = sorted(transfer(
        0.0,
        own,
        &format!("{OUTSIDE}:443"),
        60_000_000,
        300_000,
        30_000.0,
    ));
    let under = |packets: &[Packet], told: &Told| fold(&pack(PackName::Default), packets, told).what().len();
    let within = connection(0.0, own, other, 1_000.0);
    assert_eq!((under(&upload, &told), under(&within, &told)), (0, 0));
    let away = connection(0.0, &format!("{PC}:50000"), other, 1_000.0);
    assert_eq!(under(&away, &told), 1);
    told.surroundings.own_networks = vec!["198.51.100.0/24".into()];
    assert_eq!(
        (under(&upload, &told), under(&within, &told), under(&away, &told)),
        (1, 0, 0)
    );
}

/// The text of a number that looks random.
fn random(seed: u32, length: usize) -> String {
    let alphabet = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(alphabet[(state >> 33) as usize % alphabet.len()])
    };
    std::iter::repeat_with(letter).take(length).collect()
}

#[test]
fn tunnels_in_names() {
    let ask = |number: u32, name: String, query_type| {
        dns(
            f64::from(number) * 400.0,
            &format!("{PC}:40000"),
            "192.168.1.1:53",
            &name,
            query_type,
            false,
        )
    };
    let long = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|number| ask(number, format!("{}.t.example.com", random(number, 48)), 1))
            .collect()
    };
    attack(long(19), &[], 0);
    attack(
        long(60),
        &[("dns_tunnel", Severity::High, &format!("{PC} example.com"))],
        1,
    );
    let data = |count: u32| -> Vec<Packet> {
        (0..count)
            .map(|number| ask(number, format!("{}.example.com", random(number, 12)), 16))
            .collect()
    };
    attack(data(19), &[], 0);
    attack(
        data(40),
        &[("dns_tunnel_types", Severity::High, &format!("{PC} example.com"))],
        1,
    );
    let short: Vec<Packet> = (0..160)
        .map(|number| ask(number, format!("n{number}.example.com"), 1).moved_to(f64::from(number) * 200.0))
        .collect();
    attack(
        short,
        &[("dns_many_names", Severity::Low, &format!("{PC} example.com"))],
        1,
    );
}

#[test]
fn log_ins_that_fail() {
    let ssh = |count: u32| -> Vec<Packet> {
        (0..count)
            .flat_map(|number| {
                connection(
                    f64::from(number) * 2_500.0,
                    &format!("{PC}:{}", 40_000 + number),
                    &format!("{VICTIM}:22"),
                    2_300.0,
                )
            })
            .collect()
    };
    attack(ssh(19), &[], 0);
    attack(
        ssh(40),
        &[("brute_force", Severity::High, &format!("{PC} {VICTIM} 22"))],
        1,
    );
    let rdp: Vec<Packet> = (0..30)
        .flat_map(|number| {
            refused(
                f64::from(number) * 500.0,
                &format!("{PC}:{}", 40_000 + number),
                &format!("{VICTIM}:3389"),
            )
        })
        .collect();
    attack(
        rdp,
        &[("brute_force", Severity::High, &format!("{PC} {VICTIM} 3389"))],
        1,
    );
    let stranger: Vec<Packet> = (0..30)
        .flat_map(|number| {
            connection(
                f64::from(number) * 500.0,
                &format!("{OUTSIDE}:{}", 40_000 + number),
                &format!("{VICTIM}:3306"),
                30.0,
            )
        })
        .collect();
    attack(
        stranger,
        &[("brute_force", Severity::High, &format!("{OUTSIDE} {VICTIM} 3306"))],
        1,
    );
}

#[test]
fn neighbours_that_are_not_who_they_say() {
    let of = |ms, operation, sender, mac| arp(ms, operation, sender, mac, PC);
    let router = "192.168.1.1";
    let mut told = Told::default();
    told.surroundings.gateways = vec![router.into()];
    let under = |packets: &[Packet]| fold(&pack(PackName::Default), packets, &told).what();
    let critical = [(
        "neighbour_spoofing_gateway".to_owned(),
        Severity::Critical,
        router.to_owned(),
    )];
    // Replies, requests and gratuitous ones alike.
    assert_eq!(under(&[of(0.0, 2, router, 1), of(1.0, 2, router, 1)]), []);
    assert_eq!(under(&[of(0.0, 2, router, 1), of(1.0, 2, router, 9)]), critical);
    assert_eq!(under(&[of(0.0, 1, router, 1), of(1.0, 1, router, 9)]), critical);
    assert_eq!(
        under(&[of(0.0, 1, router, 1), arp(1.0, 1, router, 9, router)]),
        critical
    );
    // Others: once is noticed, back and forth is an attack, and it is the same one.
    let changed = (
        "neighbour_changed".to_owned(),
        Severity::Medium,
        VICTIM.to_owned(),
    );
    let fights = ("neighbour_spoofing".to_owned(), Severity::High, VICTIM.to_owned());
    assert_eq!(
        under(&[of(0.0, 2, VICTIM, 3), of(1.0, 2, VICTIM, 9)]),
        std::slice::from_ref(&changed)
    );
    let fight = [
        of(0.0, 2, VICTIM, 3),
        of(1.0, 2, VICTIM, 9),
        of(2.0, 2, VICTIM, 3),
    ];
    assert_eq!(under(&fight), [changed.clone(), fights]);
    assert_eq!(fold(&pack(PackName::Default), &fight, &told).attacks().len(), 1);
    // DHCP gave the address to somebody else.
    assert_eq!(
        under(&[
            of(0.0, 2, VICTIM, 3),
            dhcp_ack(1.0, VICTIM, 9),
            of(2.0, 2, VICTIM, 9)
        ]),
        []
    );
    let v6 = "2001:db8::5";
    assert_eq!(
        under(&[advertisement(0.0, v6, 3), advertisement(1.0, v6, 9)]),
        [(changed.0, changed.1, v6.to_owned())]
    );
}

#[test]
fn mining_and_backdoors() {
    let pool = format!("{OUTSIDE}:3333");
    let says = |text: &str| vec![tcp(0.0, &format!("{PC}:50000"), &pool, ACK | PSH).saying(text)];
    attack(
        says(r#"{"id":1,"method":"mining.subscribe","params":["xmrig/6"]}"#),
        &[("mining", Severity::High, PC)],
        1,
    );
    attack(
        says(r#"{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"4"#),
        &[("mining", Severity::High, PC)],
        1,
    );
    attack(says("GET / HTTP/1.1"), &[], 0);
    attack(
        connection(0.0, &format!("{PC}:50000"), &pool, 1_000.0),
        &[("mining_port", Severity::Medium, PC)],
        1,
    );
    for port in [1080, 2323, 4444, 5555, 9001, 9030, 12345, 31337] {
        let away = connection(0.0, &format!("{PC}:50000"), &format!("{OUTSIDE}:{port}"), 1_000.0);
        attack(
            away,
            &[("suspicious_port", Severity::Medium, &format!("{PC} {port}"))],
            1,
        );
        attack(
            refused(0.0, &format!("{PC}:50000"), &format!("{OUTSIDE}:{port}")),
            &[],
            0,
        );
        attack(
            connection(
                0.0,
                &format!("{OUTSIDE}:{port}"),
                &format!("{VICTIM}:443"),
                1_000.0,
            ),
            &[],
            0,
        );
    }
}
