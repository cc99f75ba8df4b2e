//! Linux: the echo sockets of both families; neighbours, routes and carriers by netlink.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as KernelState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use socket2::{Domain, Protocol, Socket, Type};

use super::echo::Channel;
use super::icmp::Family;
use super::{
    ECHO_ADVICE, EchoAccess, EchoAnswer, GatewayInfo, NEIGHBOUR_ADVICE, Neighbour, NeighbourAccess,
    NeighbourState, PermissionReport, Subnet, mac_text, netlink,
};

/// What an echo carries, beside its header: as much as `ping` sends by default, so that filters treat it alike.
const ECHO_PAYLOAD: [u8; 56] = *b"watchfold echo: is anybody there? an answer is all I ask";

/// Kernel ages are in hundredths of a second (USER_HZ, fixed at 100 on every architecture that Linux tells).
const TICK: Duration = Duration::from_millis(10);

/// Echo sockets, one for each family, opened when first allowed.
#[derive(Default)]
pub(crate) struct Echo {
    v4: Slot,
    v6: Slot,
    sequence: AtomicU16,
}

type Slot = Mutex<Option<Arc<Channel>>>;

impl Echo {
    /// Opens what is not open and allowed by now. Whether IPv4 works. Must run inside the runtime.
    pub(crate) fn open(&self) -> bool {
        for (slot, family) in [(&self.v4, Family::V4), (&self.v6, Family::V6)] {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_none() {
                match Channel::open(family) {
                    Ok(channel) => *slot = Some(Arc::new(channel)),
                    Err(error) => tracing::debug!(?family, %error, "no echo socket"),
                }
            }
        }
        self.v4.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Sends one request and waits for what becomes of it.
    pub(crate) async fn ask(&self, to: SocketAddr, timeout: Duration) -> EchoAnswer {
        let slot = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let channel = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(channel) = channel else {
            return EchoAnswer::Denied;
        };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        channel.ask(to, sequence, &ECHO_PAYLOAD, timeout).await
    }
}

/// The neighbour tables of both families.
pub(crate) fn neighbours() -> io::Result<Vec<Neighbour>> {
    Ok(netlink::neighbours()?.into_iter().filter_map(neighbour).collect())
}

fn neighbour(message: NeighbourMessage) -> Option<Neighbour> {
    let state = match message.header.state {
        KernelState::Reachable => NeighbourState::Reachable,
        KernelState::Stale | KernelState::Delay | KernelState::Probe => NeighbourState::Unconfirmed,
        KernelState::Incomplete => NeighbourState::Incomplete,
        KernelState::Failed => NeighbourState::Failed,
        KernelState::Noarp | KernelState::Permanent => NeighbourState::Fixed,
        _ => return None,
    };
    let (mut address, mut mac, mut confirmed_age) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_text(&bytes),
            NeighbourAttribute::CacheInfo(info) => confirmed_age = Some(TICK.saturating_mul(info.confirmed)),
            _ => {}
        }
    }
    Some(Neighbour {
        address: address?,
        interface: message.header.ifindex,
        mac,
        state,
        confirmed_age,
    })
}

/// Has the kernel ask these neighbours now; an error of kind `PermissionDenied` when it may not be told to.
pub(crate) fn revalidate(entries: &[&Neighbour]) -> io::Result<()> {
    for entry in entries {
        match netlink::probe_neighbour(entry.interface, entry.address) {
            // The entry went away or failed in the meantime; the next look tells.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                tracing::debug!(address = %entry.address, %error, "a neighbour cannot be asked");
            }
            asked => asked?,
        }
    }
    Ok(())
}

/// Those of `addresses` whose way out is an interface without carrier, with its name.
pub(crate) fn interfaces_without_carrier(addresses: &[IpAddr]) -> io::Result<HashMap<IpAddr, String>> {
    let dead: HashMap<u32, String> = netlink::links()?
        .iter()
        .filter(|link| lacks_carrier(link))
        .map(|link| (link.header.index, name_of(link)))
        .collect();
    let mut found = HashMap::new();
    if dead.is_empty() {
        return Ok(found);
    }
    for address in addresses {
        if let Ok(Some(interface)) = netlink::interface_to(*address)
            && let Some(name) = dead.get(&interface)
        {
            found.insert(*address, name.clone());
        }
    }
    Ok(found)
}

fn lacks_carrier(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
        && !link.header.flags.contains(LinkFlags::LowerUp)
        && !link.header.flags.contains(LinkFlags::Loopback)
}

fn name_of(link: &LinkMessage) -> String {
    let name = |attribute: &LinkAttribute| {
        if let LinkAttribute::IfName(name) = attribute {
            Some(name.clone())
        } else {
            None
        }
    };
    link.attributes
        .iter()
        .find_map(name)
        .unwrap_or_else(|| link.header.index.to_string())
}

/// The default route's gateway, IPv4 before IPv6; the one with the lowest metric.
pub fn default_gateway() -> Option<GatewayInfo> {
    let names = interface_names().ok()?;
    let subnets = local_subnets().unwrap_or_default();
    [AddressFamily::Inet, AddressFamily::Inet6]
        .into_iter()
        .find_map(|family| {
            let routes = netlink::routes(family).ok()?;
            let (_, address, interface) = routes
                .iter()
                .filter_map(default_route)
                .min_by_key(|(metric, ..)| *metric)?;
            let interface = names.get(&interface)?.clone();
            let on_link = |subnet: &&Subnet| subnet.interface == interface && subnet.contains(address);
            let subnet = subnets.iter().find(on_link).cloned();
            Some(GatewayInfo {
                address,
                interface,
                subnet,
            })
        })
}

/// (metric, gateway, interface) of a default route in the main table.
fn default_route(route: &RouteMessage) -> Option<(u32, IpAddr, u32)> {
    if route.header.destination_prefix_length != 0 || route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut metric, mut gateway, mut interface) = (0, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    Some((metric, gateway?, interface?))
}

/// The networks that this machine is in, without loopback and IPv6 link-local ones.
pub fn local_subnets() -> io::Result<Vec<Subnet>> {
    let names = interface_names()?;
    let mut subnets = Vec::new();
    for message in netlink::addresses()? {
        // On a point-to-point link `Address` is the other end; `Local` is ours where both are given.
        let local = message.attributes.iter().find_map(|a| {
            if let AddressAttribute::Local(ip) = a {
                Some(*ip)
            } else {
                None
            }
        });
        let plain = message.attributes.iter().find_map(|a| {
            if let AddressAttribute::Address(ip) = a {
                Some(*ip)
            } else {
                None
            }
        });
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if let (Some(address), Some(interface)) = (local.or(plain), names.get(&message.header.index))
            && !address.is_loopback()
            && !link_local(&address)
        {
            let prefix_length = message.header.prefix_len;
            subnets.push(Subnet {
                address,
                prefix_length,
                interface: interface.clone(),
            });
        }
    }
    Ok(subnets)
}

fn interface_names() -> io::Result<HashMap<u32, String>> {
    Ok(netlink::links()?
        .iter()
        .map(|link| (link.header.index, name_of(link)))
        .collect())
}

/// What this process may measure here.
pub fn check_permissions() -> PermissionReport {
    let echo_v4 = echo_access(Domain::IPV4, Protocol::ICMPV4);
    let echo_v6 = echo_access(Domain::IPV6, Protocol::ICMPV6);
    let neighbours = neighbour_access();
    let mut advice = Vec::new();
    if [&echo_v4, &echo_v6].contains(&&EchoAccess::Denied) {
        advice.push(format!("echo is not allowed: {ECHO_ADVICE}"));
    }
    match neighbours {
        NeighbourAccess::Provoked => {}
        NeighbourAccess::SystemPaced => advice.push(NEIGHBOUR_ADVICE.to_owned()),
        NeighbourAccess::Unavailable => advice.push(
            "the neighbour table cannot be read: allow AF_NETLINK (RestrictAddressFamilies= in a systemd unit)".to_owned(),
        ),
    }
    PermissionReport {
        echo_v4,
        echo_v6,
        neighbours,
        advice,
    }
}

fn echo_access(domain: Domain, protocol: Protocol) -> EchoAccess {
    let datagram = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(_) => return EchoAccess::Datagram,
        Err(error) => error,
    };
    match Socket::new(domain, Type::RAW, Some(protocol)) {
        Ok(_) => EchoAccess::Raw,
        Err(_) if datagram.kind() == io::ErrorKind::PermissionDenied => EchoAccess::Denied,
        Err(_) => EchoAccess::Absent,
    }
}

/// Asks the kernel to validate an entry that cannot exist: with the right it answers "no such device", without it
/// "not permitted", and nothing changes either way.
fn neighbour_access() -> NeighbourAccess {
    if netlink::neighbours().is_err() {
        return NeighbourAccess::Unavailable;
    }
    match netlink::probe_neighbour(u32::MAX >> 1, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => NeighbourAccess::SystemPaced,
        _ => NeighbourAccess::Provoked,
    }
}
