//! The default pack against ordinary traffic: it is silent where the classic one is not.

use watchfold_rules::PackName;

use super::packs::pack;
use super::story::{ACK, Outcome, PSH, Packet, Told, connection, dns, echo, fold, sorted, tcp, udp};

pub const PC: &str = "192.168.1.20";
pub const OUTSIDE: &str = "203.0.113.7";

pub fn default(packets: Vec<Packet>) -> Outcome {
    fold(&pack(PackName::Default), &sorted(packets), &Told::default())
}

/// Nothing comes of it under the default pack, and something under the classic one.
#[track_caller]
fn ordinary(packets: Vec<Packet>, noise: &[&str]) {
    let packets = sorted(packets);
    assert_eq!(default(packets.clone()).what(), []);
    let classic = fold(&pack(PackName::Classic), &packets, &Told::default());
    let rules: std::collections::BTreeSet<String> =
        classic.what().into_iter().map(|(rule, _, _)| rule).collect();
    assert_eq!(rules.iter().map(String::as_str).collect::<Vec<_>>(), noise);
}

/// A download: the server sends, the other end acknowledges.
pub fn transfer(
    ms: f64,
    client: &str,
    server: &str,
    bytes_up: u32,
    bytes_down: u32,
    lasting_ms: f64,
) -> Vec<Packet> {
    let mut packets = connection(ms, client, server, lasting_ms);
    let (up, down) = (bytes_up / 1_500, bytes_down / 1_500);
    for (count, source, destination) in [(up, client, server), (down, server, client)] {
        let packet = |number| {
            tcp(
                ms + 1.0 + f64::from(number) * (lasting_ms - 2.0) / f64::from(count),
                source,
                destination,
                ACK | PSH,
            )
            .of(1_500)
        };
        packets.extend((0..count).map(packet));
    }
    packets
}

#[test]
fn ports_that_answer_and_are_used_are_ordinary() {
    // FTP: a connection for commands, and one at another port for each file; uploads, downloads, and a directory that is empty.
    let (client, server) = (format!("{PC}:40000"), "192.168.1.200");
    for (up, down) in [(0, 15_000), (15_000, 0), (0, 0)] {
        let mut packets = transfer(0.0, &client, &format!("{server}:21"), 3_000, 3_000, 9_000.0);
        for file in 0..25 {
            let at = 100.0 + f64::from(file) * 333.0;
            let (from, to) = (
                format!("{PC}:{}", 41_000 + file),
                format!("{server}:{}", 50_228 + file),
            );
            if up + down > 0 {
                packets.extend(transfer(at, &from, &to, up, down, 30.0));
                continue;
            }
            packets.extend([
                tcp(at, &from, &to, super::story::SYN),
                tcp(at + 0.2, &to, &from, super::story::SYN | ACK),
                tcp(at + 0.4, &from, &to, ACK),
                tcp(at + 5.0, &to, &from, super::story::FIN | ACK),
                tcp(at + 5.2, &from, &to, super::story::FIN | ACK),
            ]);
        }
        ordinary(packets, &["port_scan"]);
    }
}

#[test]
fn a_browser_is_ordinary() {
    let mut packets = Vec::new();
    for number in 0..40 {
        let at = f64::from(number) * 120.0;
        let client = format!("{PC}:{}", 50_000 + number);
        let server = format!(
            "198.51.100.{}:{}",
            number % 2,
            if number % 5 == 0 { 8443 } else { 443 }
        );
        let host = format!("cdn-{number}.images.example.com");
        packets.push(dns(
            at,
            &format!("{PC}:{}", 60_000 + number),
            "192.168.1.1:53",
            &host,
            1,
            false,
        ));
        packets.push(dns(
            at + 5.0,
            "192.168.1.1:53",
            &format!("{PC}:{}", 60_000 + number),
            &host,
            1,
            true,
        ));
        packets.extend(transfer(at + 10.0, &client, &server, 6_000, 300_000, 900.0));
    }
    ordinary(
        packets,
        &[
            "port_scan",
            "suspicious_port_destination",
            "suspicious_port_source",
        ],
    );
}

#[test]
fn a_copy_to_a_server_of_the_house_is_ordinary() {
    ordinary(
        transfer(
            0.0,
            &format!("{PC}:50000"),
            "192.168.1.9:22",
            60_000_000,
            600_000,
            50_000.0,
        ),
        &["exfiltration"],
    );
}

#[test]
fn downloads_one_after_the_other_are_ordinary() {
    let one = |number: u32| {
        transfer(
            f64::from(number) * 400.0,
            &format!("{PC}:{}", 50_000 + number),
            &format!("{OUTSIDE}:8080"),
            3_000,
            200_000,
            350.0,
        )
    };
    ordinary(
        (0..30).flat_map(one).collect(),
        &[
            "port_scan",
            "suspicious_port_destination",
            "suspicious_port_source",
        ],
    );
}

#[test]
fn a_stream_of_two_megabits_both_ways_is_ordinary() {
    let (mut packets, per_second) = (Vec::new(), 208);
    for number in 0..per_second * 90 {
        let at = f64::from(number) * 1_000.0 / f64::from(per_second);
        packets.push(udp(at, &format!("{PC}:40000"), &format!("{OUTSIDE}:5004")).of(1_200));
        packets.push(udp(at + 1.0, &format!("{OUTSIDE}:5004"), &format!("{PC}:40000")).of(1_200));
    }
    ordinary(packets, &["exfiltration"]);
}

#[test]
fn datagrams_to_many_ports_are_ordinary() {
    let resolver = "192.168.1.1:53";
    let mut packets = Vec::new();
    for number in 0..60_u16 {
        let at = f64::from(number) * 100.0;
        let mine = |port: u16| format!("{PC}:{}", port + number);
        // Hops are found by ports that count up; answers go to the ports that asked.
        packets.push(udp(at, &mine(50_000), &format!("{OUTSIDE}:{}", 33_434 + number)).of(60));
        packets.push(dns(at, &mine(20_000), resolver, "www.example.com", 1, false));
        packets.push(dns(at + 2.0, resolver, &mine(20_000), "www.example.com", 1, true));
        for (server, length) in [
            ("198.51.100.1:443", 1_200),
            ("198.51.100.2:123", 48),
            ("198.51.100.3:3478", 76),
        ] {
            packets.push(udp(at + 3.0, &mine(30_000), server).of(length));
            packets.push(udp(at + 9.0, server, &mine(30_000)).of(length));
        }
        // Those who were asked by a group answer to the one who asked.
        packets.push(udp(at + 20.0, &mine(10_000), "239.255.255.250:1900").of(170));
        packets.push(udp(at + 40.0, "192.168.1.9:1900", &mine(10_000)).of(300));
        // Two ends of a call look for a way through, and keep ways open with nothing in the datagrams.
        packets.push(
            udp(
                at + 50.0,
                &mine(40_000),
                &format!("198.51.100.4:{}", 50_000 + number),
            )
            .of(120),
        );
        packets.push(udp(
            at + 60.0,
            &mine(40_000),
            &format!("198.51.100.4:{}", 50_000 + number % 12),
        ));
    }
    ordinary(packets, &[]);
}

#[test]
fn names_of_content_networks_and_reverse_names_are_ordinary() {
    let mut packets = Vec::new();
    let reverse = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for number in 0..60 {
        let at = f64::from(number) * 500.0;
        let names = [
            (format!("d{number}f7hx1q9.cloudfront.net"), 1),
            (format!("r{number}---sn-4g5ednsz.googlevideo.com"), 28),
            (format!("{number:x}.{}", &reverse[2..]), 12),
            (format!("edge-star-mini-shv-{number}-fra.facebook.com"), 1),
            (format!("_spf{number}.mail-{number}.example{number}.org"), 16),
        ];
        for (name, query_type) in names {
            packets.push(dns(
                at,
                &format!("{PC}:{}", 40_000 + number),
                "192.168.1.1:53",
                &name,
                query_type,
                false,
            ));
            packets.push(dns(
                at + 3.0,
                "192.168.1.1:53",
                &format!("{PC}:{}", 40_000 + number),
                &name,
                query_type,
                true,
            ));
        }
    }
    ordinary(packets, &["dns_tunnel"]);
}

#[test]
fn a_busy_house_is_ordinary() {
    let mut packets = Vec::new();
    for number in 0..120 {
        let at = f64::from(number) * 250.0;
        // Pings of many, a database that a web server opens briefly, mail that is polled, a log-in that stays.
        packets.push(echo(
            at,
            "192.168.1.2",
            &format!("192.168.1.{}", 10 + number % 100),
        ));
        packets.extend(connection(
            at + 1.0,
            &format!("192.168.1.8:{}", 30_000 + number),
            "192.168.1.9:3306",
            20.0,
        ));
        if number % 10 == 0 {
            packets.extend(connection(
                at + 2.0,
                &format!("{PC}:{}", 41_000 + number),
                "192.168.1.9:143",
                300.0,
            ));
        }
    }
    packets.extend(connection(
        5.0,
        &format!("{PC}:45000"),
        "192.168.1.9:22",
        29_000.0,
    ));
    // A backdoor's port, but chosen by a program for itself, and within the house.
    packets.extend(connection(
        9.0,
        &format!("{PC}:54321"),
        &format!("{OUTSIDE}:443"),
        5_000.0,
    ));
    packets.extend(connection(
        9.0,
        &format!("{PC}:45001"),
        "192.168.1.9:4444",
        5_000.0,
    ));
    ordinary(
        packets,
        &[
            "brute_force",
            "port_scan",
            "suspicious_port_destination",
            "suspicious_port_source",
        ],
    );
}
