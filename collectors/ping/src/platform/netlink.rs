//! The route family of netlink: one question, all answers. Linux answers at once, so the calls do not wait.
//!
//! It reads and, for [`probe_neighbour`], asks the kernel to validate an entry; it changes no address or route.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The most messages taken from one dump: far beyond any neighbour table (the kernel's own default limit is 1,024
/// entries for each family), so that a broken kernel cannot fill the memory.
const MESSAGES_MAX: usize = 65_536;

pub(super) fn neighbours() -> io::Result<Vec<NeighbourMessage>> {
    let answers = dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
    Ok(answers
        .into_iter()
        .filter_map(|m| {
            if let RouteNetlinkMessage::NewNeighbour(n) = m {
                Some(n)
            } else {
                None
            }
        })
        .collect())
}

pub(super) fn links() -> io::Result<Vec<LinkMessage>> {
    let answers = dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers
        .into_iter()
        .filter_map(|m| {
            if let RouteNetlinkMessage::NewLink(l) = m {
                Some(l)
            } else {
                None
            }
        })
        .collect())
}

pub(super) fn addresses() -> io::Result<Vec<AddressMessage>> {
    let answers = dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(answers
        .into_iter()
        .filter_map(|m| {
            if let RouteNetlinkMessage::NewAddress(a) = m {
                Some(a)
            } else {
                None
            }
        })
        .collect())
}

pub(super) fn routes(family: AddressFamily) -> io::Result<Vec<RouteMessage>> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    let answers = dump(RouteNetlinkMessage::GetRoute(message))?;
    Ok(answers
        .into_iter()
        .filter_map(|m| {
            if let RouteNetlinkMessage::NewRoute(r) = m {
                Some(r)
            } else {
                None
            }
        })
        .collect())
}

/// The interface by which an address would be reached.
pub(super) fn interface_to(address: IpAddr) -> io::Result<Option<u32>> {
    let mut message = RouteMessage::default();
    (
        message.header.address_family,
        message.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::from(address)));
    let answers = ask(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST)?;
    let oif = |attribute: &RouteAttribute| {
        if let RouteAttribute::Oif(index) = attribute {
            Some(*index)
        } else {
            None
        }
    };
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => route.attributes.iter().find_map(oif),
        _ => None,
    }))
}

/// Has the kernel ask this neighbour now. Needs CAP_NET_ADMIN.
pub(super) fn probe_neighbour(interface: u32, address: IpAddr) -> io::Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface;
    message.header.state = NeighbourState::Probe;
    let destination = match address {
        IpAddr::V4(address) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(address)
        }
        IpAddr::V6(address) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(address)
        }
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    ask(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE,
    )
    .map(drop)
}

fn dump(message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    ask(message, NLM_F_REQUEST | NLM_F_DUMP)
}

fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let whole_dump = flags & NLM_F_DUMP == NLM_F_DUMP;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are aligned to four bytes.
            let length = (answer.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                _ => {}
            }
            if answers.len() >= MESSAGES_MAX {
                return Err(io::Error::other("netlink sends more than it can have"));
            }
        }
        if !whole_dump && !answers.is_empty() {
            return Ok(answers);
        }
    }
}
