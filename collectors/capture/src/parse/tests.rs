//! Frames built by hand, whole and broken.

use etherparse::PacketBuilder;

use super::*;

fn ethernet(
    build: impl FnOnce(etherparse::PacketBuilderStep<etherparse::Ethernet2Header>) -> Vec<u8>,
) -> Vec<u8> {
    build(PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]))
}

fn syn() -> Vec<u8> {
    ethernet(|step| {
        let mut bytes = Vec::new();
        let builder = step
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(40_000, 443, 1, 1024)
            .syn();
        builder.write(&mut bytes, &[]).unwrap();
        bytes
    })
}

fn udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(|step| {
        let mut bytes = Vec::new();
        let builder = step
            .ipv4([10, 0, 0, 1], [10, 0, 0, 53], 64)
            .udp(source_port, destination_port);
        builder.write(&mut bytes, payload).unwrap();
        bytes
    })
}

fn read(frame: &[u8]) -> Packet<'_> {
    decode(LinkType::Ethernet, frame, frame.len() as u32).unwrap()
}

#[test]
fn a_syn() {
    let frame = syn();
    let packet = read(&frame);
    assert_eq!(packet.source, Some(IpAddr::from([10, 0, 0, 1])));
    assert_eq!((packet.source_port, packet.destination_port), (40_000, 443));
    assert_eq!((packet.protocol, packet.tcp_flags, packet.marks), (6, 2, 0));
}

#[test]
fn any_prefix_of_any_frame_is_read_or_refused() {
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03com\x00\x00\x10\x00\x01";
    for frame in [syn(), udp(40_000, 53, query)] {
        for length in 0..frame.len() {
            match decode(LinkType::Ethernet, &frame[..length], frame.len() as u32) {
                Ok(packet) => assert_ne!(packet.marks & marks::TRUNCATED, 0, "{length}"),
                Err(why) => assert!(length < 34, "{length}: {why}"),
            }
        }
    }
}

#[test]
fn ports_survive_a_header_that_is_cut_off() {
    let frame = syn();
    let packet = decode(LinkType::Ethernet, &frame[..14 + 20 + 4], frame.len() as u32).unwrap();
    assert_eq!((packet.source_port, packet.destination_port), (40_000, 443));
    assert_eq!(
        packet.marks & (marks::TRUNCATED | marks::MALFORMED),
        marks::TRUNCATED | marks::MALFORMED
    );
}

#[test]
fn a_dns_question() {
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03com\x00\x00\x10\x00\x01";
    let frame = udp(40_000, 53, query);
    let Inside::Dns(dns) = read(&frame).inside else {
        panic!("no question");
    };
    assert_eq!(
        (dns.name.as_str(), dns.query_type, dns.is_response),
        ("www.example.com", 16, false)
    );
    let hostile = b"\x12\x34\x81\x83\x00\x01\x00\x02\x00\x00\x00\x00\x03a\x1b.\x00\x00\x01\x00\x01";
    let frame = udp(53, 40_000, hostile);
    let Inside::Dns(dns) = read(&frame).inside else {
        panic!("no question");
    };
    assert_eq!((dns.name.as_str(), dns.response_code, dns.answers), ("a??", 3, 2));
}

#[test]
fn tags_tunnels_and_other_links() {
    let inner = syn()[14..].to_vec();
    let tagged = |tags: &[u8]| [&[0; 12][..], tags, &inner].concat();
    let checks: [(LinkType, Vec<u8>, Option<u16>, u8); 8] = [
        (LinkType::Ethernet, tagged(&[0x81, 0, 0x20, 5, 8, 0]), Some(5), 0),
        (
            LinkType::Ethernet,
            tagged(&[0x88, 0xA8, 0, 7, 0x81, 0, 0, 5, 8, 0]),
            Some(7),
            0,
        ),
        (LinkType::Raw, inner.clone(), None, 0),
        (LinkType::Loopback, [&[2, 0, 0, 0][..], &inner].concat(), None, 0),
        (
            LinkType::LinuxCooked,
            [&[0; 14][..], &[8, 0], &inner].concat(),
            None,
            0,
        ),
        (
            LinkType::LinuxCooked2,
            [&[8, 0][..], &[0; 18], &inner].concat(),
            None,
            0,
        ),
        (
            LinkType::Ethernet,
            tagged(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21]),
            None,
            0,
        ),
        (LinkType::Ethernet, tagged(&[0x88, 0x47, 0, 0, 0x11, 64]), None, 0),
    ];
    for (link, frame, vlan, marks) in checks {
        let packet = decode(link, &frame, frame.len() as u32).unwrap();
        assert_eq!(
            (packet.destination_port, packet.vlans.outer, packet.marks),
            (443, vlan, marks),
            "{link:?}"
        );
    }
    assert_eq!(
        decode(LinkType::Other(105), &[0; 64], 64),
        Err(Undecoded::LinkType(105))
    );
}

#[test]
fn a_tunnel_shows_what_is_inside() {
    let inner = syn()[14..].to_vec();
    let gre = [&[0, 0, 8, 0][..], &inner].concat();
    for (number, payload) in [(4, inner.clone()), (47, gre)] {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        builder.write(&mut frame, IpNumber(number), &payload).unwrap();
        let packet = read(&frame);
        assert_eq!(packet.source, Some(IpAddr::from([10, 0, 0, 1])), "{number}");
        assert_eq!((packet.destination_port, packet.marks), (443, marks::TUNNELLED));
    }
}

#[test]
fn an_arp_reply() {
    let mut frame = vec![0xFF; 6];
    frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5]);
    let packet = read(&frame);
    assert_eq!(
        (packet.protocol, packet.source),
        (NOT_IP, Some(IpAddr::from([10, 0, 0, 1])))
    );
    let Inside::Arp(arp) = packet.inside else {
        panic!("no ARP");
    };
    assert_eq!((arp.operation, arp.sender_mac), (2, [2, 0, 0, 0, 0, 9]));
}

#[test]
fn an_http_request_names_its_host() {
    let request = b"GET / HTTP/1.1\r\nAccept: */*\r\nhOST: Example.org \r\n\r\n";
    assert_eq!(
        inside::of_tcp(40_000, 80, request),
        Inside::HttpHost("example.org".to_owned())
    );
    assert_eq!(
        inside::of_tcp(40_000, 80, b"GET / HTTP/1.1\r\n\r\nHost: no"),
        Inside::Nothing
    );
}

proptest::proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        link in proptest::sample::select(vec![0, 1, 9, 101, 113, 276]),
        ether_type in proptest::sample::select(vec![0x0800_u16, 0x86DD, 0x0806, 0x8100, 0x8864, 0x8847]),
    ) {
        let mut frame = vec![0; 12];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(&bytes);
        for frame in [&frame[..], &bytes] {
            drop(decode(LinkType::from(link), frame, frame.len() as u32));
        }
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused(at in 0_usize..54, byte in proptest::prelude::any::<u8>()) {
        let mut frame = syn();
        frame[at] = byte;
        drop(decode(LinkType::Ethernet, &frame, frame.len() as u32));
    }
}
