//! The same addresses in several VLANs.

use watchfold_schemas::fields::Source;

use super::*;
use crate::packets::testing::rules::distinct;

/// Two VLANs, two stacks of VLANs that differ in the inner tag, and a tag that is none.
const APART: [[&[u16]; 2]; 3] = [[&[10], &[20]], [&[10, 20], &[10, 21]], [&[10], &[]]];

/// Packets that lie in one segment, and the same with every other one in another segment.
fn check(packets: &[Wire], together: &[&str], apart: &[&str]) {
    let vlans = |one: &[u16], other: &[u16]| -> Vec<Wire> {
        let packets = packets.iter().cloned().enumerate();
        packets
            .map(|(number, wire)| wire.vlans(if number % 2 == 0 { one } else { other }))
            .collect()
    };
    let told = |packets: &[Wire]| {
        let mut fed = Fed::under(&varied());
        for packets in packets.chunks(3) {
            fed.packets(packets).restart();
        }
        fed.quiet(3_600_000);
        let mut told = short(&fed.events);
        told.retain(|told| told.contains("began"));
        told
    };
    assert_eq!(told(&vlans(&[10], &[10])), together);
    assert_eq!(told(&vlans(&[0], &[])), together, "VLAN 0 is a priority");
    for [one, other] in APART {
        assert_eq!(told(&vlans(one, other)), apart, "{one:?} {other:?}");
    }
}

#[test]
fn an_address_in_two_segments_has_two_owners() {
    let replies = |second: i64| Wire::at(second * 1_000).arp(2, (second % 2) as u8 + 1);
    let packets: Vec<_> = (0..6).map(replies).collect();
    check(
        &packets,
        &[
            "1000 began arp_spoofing 10.0.0.1",
            "1000 began neighbour_changed 10.0.0.1",
        ],
        &[],
    );
}

#[test]
fn windows_count_an_address_within_its_segment() {
    let scan: Vec<_> = (1..=28)
        .map(|port| Wire::at(i64::from(port)).to("10.0.0.2", port))
        .collect();
    check(&scan, &["15 began port_scan 10.0.0.1"], &[]);
    // As a group of several fields.
    let attempts: Vec<_> = (1..=8)
        .flat_map(|port| {
            let mut refused = Wire::at(i64::from(port) * 100 + 2)
                .from("10.0.0.2")
                .to("10.0.0.1", 40_000);
            (refused.ports.0, refused.flags) = (port, 20);
            let syn = Wire::at(i64::from(port) * 100).syn().to("10.0.0.2", port);
            // Each in one segment, the one after it in the other.
            [syn.clone(), syn, refused.clone(), refused]
        })
        .collect();
    check(
        &attempts,
        &["502 began closed_ports 10.0.0.1"],
        &[
            "502 began closed_ports 10.0.0.1",
            "502 began closed_ports 10.0.0.1",
        ],
    );
}

#[test]
fn a_host_in_two_segments_is_two_hosts() {
    let hosts = rule(
        "hosts",
        truth("tcp.syn", true),
        distinct("destination.ip", &["source.port"], 10_000, 4),
        &["source.port"],
    );
    let packets = [(1, 10), (2, 10), (1, 20), (2, 20)];
    let packets = packets.map(|(host, vlan)| {
        Wire::at(i64::from(host))
            .syn()
            .to(&format!("10.0.1.{host}"), 80)
            .vlans(&[vlan])
    });
    let mut fed = Fed::under(&set(vec![hosts]));
    assert_eq!(short(&fed.packets(&packets).events)[0], "2 alert hosts 40000 4");
}

#[test]
fn attacks_of_one_address_in_two_segments_are_two_and_say_which() {
    let port = |vlan| Wire::at(0).to("192.0.2.1", 4_444).vlans(vlan);
    let mut fed = Fed::under(&classic());
    fed.packets(&[port(&[10]), port(&[10, 20]), port(&[])]);
    let began = fed.events.iter().filter_map(|event| match &event.body {
        EventBody::AttackBegan(attack) => Some((attack.id.clone(), attack.seen_by.vlans.clone())),
        _ => None,
    });
    let (mut ids, vlans): (Vec<_>, Vec<_>) = began.unzip();
    assert_eq!(vlans, [vec![10], vec![10, 20], vec![]]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_lease_explains_a_change_in_its_own_segment_alone() {
    let lease = |vlan: u16| {
        let mut batch = crate::packets::testing::batch(&[Wire::at(1).vlans(&[vlan])], 2);
        batch.dhcp.push(watchfold_schemas::packets::DhcpRow {
            row: 0,
            message_type: 5,
            client_mac: [2; 6],
            your_ip: [10, 0, 0, 1],
            server: None,
        });
        observation(
            "capture-lan",
            7,
            3,
            Time::from_millis(1),
            Body::Batch(Box::new(batch)),
        )
    };
    let mut rules = varied();
    rules.rules.retain(|rule| rule.source == Source::Neighbour);
    for (vlan, want) in [(10, 0), (20, 2)] {
        let mut fed = Fed::under(&rules);
        fed.packets(&[Wire::at(0).arp(2, 1).vlans(&[10])]);
        fed.give(&lease(vlan)).restart();
        fed.packets(&[Wire::at(2).arp(2, 2).vlans(&[10])]);
        assert_eq!(fed.events.len(), want, "{:?}", short(&fed.events));
    }
}
