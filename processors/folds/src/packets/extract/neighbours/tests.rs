//! Tests of who has which address: changes, flip-flops, DHCP, routers, and the table of ARP replies.

use super::*;

const A: Mac = [2, 0, 0, 0, 0, 0xa];
const B: Mac = [2, 0, 0, 0, 0, 0xb];
const C: Mac = [2, 0, 0, 0, 0, 0xc];
const HOST: [u8; 4] = [10, 0, 0, 7];
const ROUTER: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn reply(sender_ip: [u8; 4], sender_mac: Mac) -> ArpRow {
    ArpRow {
        row: 3,
        operation: ARP_REPLY,
        sender_mac,
        sender_ip,
        target_mac: C,
        target_ip: [10, 0, 0, 9],
    }
}

fn advertisement(target: [u8; 16], mac: Option<Mac>, flags: u8) -> NeighbourRow {
    NeighbourRow {
        row: 1,
        message_type: NEIGHBOUR_ADVERTISEMENT,
        target,
        mac,
        flags,
    }
}

fn dhcp(message_type: u8, client_mac: Mac, your_ip: [u8; 4]) -> DhcpRow {
    DhcpRow {
        row: 0,
        message_type,
        client_mac,
        your_ip,
        server: None,
    }
}

/// One address announced by one owner after the other, in seconds; what each announcement changed.
fn check(owners: &[(i64, Mac)], want: &[(Change, Option<Mac>)]) {
    let mut neighbours = Neighbours::new(1);
    let mut got = Vec::new();
    for (seconds, mac) in owners {
        let fact = neighbours
            .arp(Time::from_seconds(*seconds), Segment::NONE, &reply(HOST, *mac))
            .unwrap();
        assert_eq!((fact.address, fact.mac, fact.row), (IpAddr::from(HOST), *mac, 3));
        got.push((fact.change, fact.previous));
        neighbours = Neighbours::load(neighbours.store(), 2);
    }
    assert_eq!(got, want, "{owners:?}");
}

#[test]
fn changes_are_told_against_the_owner_before() {
    use Change::{Changed, FlipFlop, New, Same};
    check(&[(0, A), (1, A)], &[(New, None), (Same, None)]);
    check(
        &[(0, A), (1, B), (2, B)],
        &[(New, None), (Changed, Some(A)), (Same, None)],
    );
    check(
        &[(0, A), (1, B), (2, A), (3, B)],
        &[
            (New, None),
            (Changed, Some(A)),
            (FlipFlop, Some(B)),
            (FlipFlop, Some(A)),
        ],
    );
    // The owner before was last heard at 5, so the ten minutes are up after 605.
    check(
        &[(0, A), (5, A), (6, B), (605, A)],
        &[(New, None), (Same, None), (Changed, Some(A)), (FlipFlop, Some(B))],
    );
    check(
        &[(0, A), (5, A), (6, B), (606, A)],
        &[(New, None), (Same, None), (Changed, Some(A)), (Changed, Some(B))],
    );
    check(
        &[(0, A), (1, B), (2, C), (3, A)],
        &[
            (New, None),
            (Changed, Some(A)),
            (Changed, Some(B)),
            (FlipFlop, Some(C)),
        ],
    );
}

#[test]
fn messages_are_told_apart() {
    let mut neighbours = Neighbours::new(1);
    let mut of = |operation, sender_ip, target_ip| {
        let arp = ArpRow {
            operation,
            target_ip,
            ..reply(sender_ip, A)
        };
        neighbours
            .arp(Time::EPOCH, Segment::NONE, &arp)
            .map(|fact| fact.message)
    };
    let other = [10, 0, 0, 9];
    for (operation, sender, target, want) in [
        (1, HOST, other, Some(Message::Request)),
        (2, HOST, other, Some(Message::Reply)),
        (1, HOST, HOST, Some(Message::Gratuitous)),
        (2, HOST, HOST, Some(Message::Gratuitous)),
        (1, [0; 4], other, None),
        (3, HOST, other, None),
    ] {
        assert_eq!(
            of(operation, sender, target),
            want,
            "{operation} {sender:?} {target:?}"
        );
    }
}

#[test]
fn dhcp_explains_a_new_owner() {
    let mut neighbours = Neighbours::new(1);
    let mut explained = |steps: &[DhcpRow], mac| {
        steps.iter().for_each(|step| neighbours.dhcp(Segment::NONE, step));
        neighbours = Neighbours::load(neighbours.store(), 3);
        neighbours
            .arp(Time::EPOCH, Segment::NONE, &reply(HOST, mac))
            .unwrap()
            .explained
    };
    assert!(!explained(&[], A));
    // The address was given to another client.
    assert!(explained(&[dhcp(DHCP_ACKNOWLEDGE, B, HOST)], B));
    assert!(!explained(&[], A));
    assert!(explained(&[], B));
    // Its owner gave it back, so the next one may have it.
    assert!(explained(&[dhcp(DHCP_RELEASE, B, [0; 4])], C));
    assert!(!explained(&[], A));
    // An offer, a refusal and an answer without an address give nothing.
    let nothing = [
        dhcp(2, A, HOST),
        dhcp(6, A, HOST),
        dhcp(DHCP_ACKNOWLEDGE, A, [0; 4]),
        dhcp(DHCP_RELEASE, A, [0; 4]),
    ];
    assert!(!explained(&nothing, A));
}

#[test]
fn routers_announce_themselves() {
    let mut neighbours = Neighbours::new(1);
    let announcement = NeighbourRow {
        message_type: ROUTER_ADVERTISEMENT,
        ..advertisement(ROUTER, Some(A), 0)
    };
    assert_eq!(
        neighbours.neighbour(Time::EPOCH, Segment::NONE, &announcement),
        None
    );
    let mut of = |row: &NeighbourRow| {
        let fact = neighbours.neighbour(Time::EPOCH, Segment::NONE, row);
        fact.map(|fact| (fact.change, fact.router, fact.previous))
    };
    // The router's advertisement told its hardware address, so another one is a change.
    assert_eq!(
        of(&advertisement(ROUTER, Some(B), 0)),
        Some((Change::Changed, true, Some(A)))
    );
    // A later advertisement of a router does not hide one.
    let forged = NeighbourRow {
        mac: Some(C),
        ..announcement
    };
    assert_eq!(of(&forged), None);
    assert_eq!(
        of(&advertisement(ROUTER, Some(C), 0)),
        Some((Change::Changed, true, Some(B)))
    );
    let mut host = ROUTER;
    host[15] = 9;
    assert_eq!(
        of(&advertisement(host, Some(A), 0)),
        Some((Change::New, false, None))
    );
    assert_eq!(
        of(&advertisement(host, Some(A), IS_ROUTER)),
        Some((Change::Same, true, None))
    );
    assert_eq!(
        of(&advertisement(host, Some(A), 0)),
        Some((Change::Same, true, None))
    );
    assert_eq!(of(&advertisement(host, None, 0)), None);
    let solicitation = NeighbourRow {
        message_type: 135,
        ..advertisement(host, Some(B), 0)
    };
    assert_eq!(of(&solicitation), None);
}

#[test]
fn replies_that_change_are_told_and_believed() {
    let mut neighbours = Neighbours::new(1);
    let request = ArpRow {
        operation: ARP_REQUEST,
        ..reply(HOST, B)
    };
    let mut changed = |arp: &ArpRow| neighbours.reply_changed(Segment::NONE, arp);
    assert_eq!(changed(&reply(HOST, A)), Some(false));
    assert_eq!(changed(&request), None);
    assert_eq!(changed(&reply(HOST, A)), Some(false));
    assert_eq!(changed(&reply(HOST, B)), Some(true));
    assert_eq!(changed(&reply(HOST, B)), Some(false));
    assert_eq!(changed(&reply(HOST, A)), Some(true));
    assert_eq!(changed(&reply([10, 0, 0, 8], A)), Some(false));
}

#[test]
fn replies_are_learnt_up_to_a_bound() {
    let mut neighbours = Neighbours::new(1);
    let address = |number: usize| (number as u32).to_be_bytes();
    for number in 0..=ARP_REPLIES_MAX {
        assert_eq!(
            neighbours.reply_changed(Segment::NONE, &reply(address(number), A)),
            Some(false)
        );
    }
    assert_eq!(
        neighbours.reply_changed(Segment::NONE, &reply(address(ARP_REPLIES_MAX - 1), B)),
        Some(true)
    );
    assert_eq!(
        neighbours.reply_changed(Segment::NONE, &reply(address(ARP_REPLIES_MAX), B)),
        Some(false)
    );
}

#[test]
fn what_was_announced_longest_ago_is_forgotten_first() {
    let mut neighbours = Neighbours::new(1);
    let address = |number: usize| (number as u32 + 1).to_be_bytes();
    let mut announce = |number: usize, mac| {
        neighbours
            .arp(Time::EPOCH, Segment::NONE, &reply(address(number), mac))
            .unwrap()
            .change
    };
    for number in 0..NEIGHBOURS_MAX {
        assert_eq!(announce(number, A), Change::New);
    }
    // The first is announced again, so the second goes.
    assert_eq!(announce(0, A), Change::Same);
    assert_eq!(announce(NEIGHBOURS_MAX, A), Change::New);
    assert_eq!(announce(0, A), Change::Same);
    assert_eq!(announce(1, A), Change::New);
    assert_eq!(neighbours.evicted, 2);
}

#[test]
fn leases_are_bounded_and_forgotten_with_their_clients() {
    let mut neighbours = Neighbours::new(1);
    let mac = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        [2, 0, a, b, c, d]
    };
    for number in 0..LEASES_MAX as u32 + 10 {
        neighbours.dhcp(
            Segment::NONE,
            &dhcp(DHCP_ACKNOWLEDGE, mac(number), (number + 1).to_be_bytes()),
        );
    }
    assert_eq!(
        (
            neighbours.leases.len(),
            neighbours.clients.len(),
            neighbours.evicted
        ),
        (LEASES_MAX, LEASES_MAX, 10)
    );
    // One client, many addresses: it is known by its last.
    for number in 0..100_u32 {
        neighbours.dhcp(
            Segment::NONE,
            &dhcp(DHCP_ACKNOWLEDGE, A, (1_000_000 + number).to_be_bytes()),
        );
    }
    assert!(neighbours.clients.len() <= neighbours.leases.len());
    let again = Neighbours::load(neighbours.store(), 9);
    assert_eq!(again.store(), neighbours.store());
}
