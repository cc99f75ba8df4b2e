//! What differs per operating system: echo sockets, the neighbour table, routes and interfaces.
//!
//! Types here are plain values; `linux.rs` and `windows.rs` fill them. Nothing here decides what an answer means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[cfg(target_os = "linux")]
mod echo;
#[cfg(target_os = "linux")]
mod icmp;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Echo, interfaces_without_carrier, neighbours, revalidate};
#[cfg(target_os = "linux")]
pub use linux::{check_permissions, default_gateway, local_subnets};
#[cfg(windows)]
pub(crate) use windows::{Echo, interfaces_without_carrier, neighbours, revalidate};
#[cfg(windows)]
pub use windows::{check_permissions, default_gateway, local_subnets};

/// What to run when no echo socket is allowed.
pub(crate) const ECHO_ADVICE: &str = "allow unprivileged echo with `sudo sysctl -w \
     net.ipv4.ping_group_range=\"0 2147483647\"`, or this program alone with `sudo setcap cap_net_raw+ep <binary>`";

/// What makes the neighbour table fresh.
pub(crate) const NEIGHBOUR_ADVICE: &str = "with `sudo setcap cap_net_raw,cap_net_admin+ep <binary>` a PC that drops \
     echo is seen to leave within seconds instead of a minute";

/// What one echo request came to.
#[derive(Debug)]
pub(crate) enum EchoAnswer {
    Reply {
        round_trip: Duration,
    },
    Silence,
    /// The network said no; the text says how.
    Unreachable(&'static str),
    /// The request could not be sent.
    Failed(std::io::Error),
    /// No socket is allowed.
    #[cfg_attr(
        windows,
        expect(dead_code, reason = "the echo service of Windows is open to everybody")
    )]
    Denied,
}

/// An entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub address: IpAddr,
    pub interface: u32,
    /// Lower case with colons.
    pub mac: Option<String>,
    pub state: NeighbourState,
    /// How long ago the other end proved that it is there.
    pub confirmed_age: Option<Duration>,
}

/// The states of RFC 4861 section 7.3.2, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeighbourState {
    Reachable,
    /// Stale, delay or probe: it was there, and the system has not asked again or has no answer yet.
    Unconfirmed,
    /// Asked and not answered, so far or finally.
    Incomplete,
    Failed,
    /// Set by hand, or on an interface without neighbours.
    Fixed,
}

/// How an address family may be asked by echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoAccess {
    /// By an unprivileged datagram socket, or the system's own service.
    Datagram,
    /// By a raw socket.
    Raw,
    /// Not allowed.
    Denied,
    /// The system does not have the address family.
    Absent,
}

/// How fresh the neighbour table can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourAccess {
    /// Entries can be validated at will: a PC that drops echo is seen to leave within seconds.
    Provoked,
    /// Entries are validated when the system does: within about a minute.
    SystemPaced,
    /// The table cannot be read.
    Unavailable,
}

/// What this process may measure here, and what to run where it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionReport {
    pub echo_v4: EchoAccess,
    pub echo_v6: EchoAccess,
    pub neighbours: NeighbourAccess,
    /// One sentence for each thing that could be better.
    pub advice: Vec<String>,
}

impl PermissionReport {
    /// Whether echo works for at least IPv4.
    pub fn echo_works(&self) -> bool {
        matches!(self.echo_v4, EchoAccess::Datagram | EchoAccess::Raw)
    }
}

/// An on-link network, by an address of ours in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Our own address.
    pub address: IpAddr,
    pub prefix_length: u8,
    pub interface: String,
}

impl Subnet {
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                prefix_equal(&own.octets(), &other.octets(), self.prefix_length)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                prefix_equal(&own.octets(), &other.octets(), self.prefix_length)
            }
            _ => false,
        }
    }
}

/// The way out of the local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayInfo {
    pub address: IpAddr,
    pub interface: String,
    /// The network that holds the gateway, where one of our addresses says so.
    pub subnet: Option<Subnet>,
}

/// Whether this machine has a route to the address; nothing is sent.
pub(crate) fn route_to(address: SocketAddr) -> std::io::Result<()> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Port 9 is discard (RFC 863); connecting a datagram socket only looks the route up.
    let mut there = address;
    there.set_port(9);
    std::net::UdpSocket::bind((any, 0))?.connect(there)
}

fn prefix_equal(a: &[u8], b: &[u8], bits: u8) -> bool {
    let bits = usize::from(bits).min(a.len() * 8);
    let (whole, rest) = (bits / 8, bits % 8);
    let mask = if rest == 0 { 0 } else { 0xffu8 << (8 - rest) };
    a[..whole] == b[..whole] && (rest == 0 || a[whole] & mask == b[whole] & mask)
}

/// A hardware address as text; only Ethernet-sized ones mean something to people.
fn mac_text(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 6 || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    Some(
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_contain_what_their_prefix_says() {
        for (own, prefix_length, other, want) in [
            ("192.168.1.5", 24, "192.168.1.200", true),
            ("192.168.1.5", 24, "192.168.2.5", false),
            ("10.0.0.1", 22, "10.0.3.255", true),
            ("10.0.0.1", 22, "10.0.4.0", false),
            ("10.0.0.1", 0, "8.8.8.8", true),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("fd00::1", 64, "fd00::ffff:1", true),
            ("fd00::1", 64, "fd01::1", false),
            ("10.0.0.1", 8, "fd01::1", false),
        ] {
            let subnet = Subnet {
                address: own.parse().unwrap(),
                prefix_length,
                interface: "eth0".into(),
            };
            assert_eq!(
                subnet.contains(other.parse().unwrap()),
                want,
                "{own}/{prefix_length} {other}"
            );
        }
    }

    #[test]
    fn hardware_addresses_are_lower_case_with_colons() {
        assert_eq!(
            mac_text(&[2, 0, 0, 0, 0, 0xAB]).as_deref(),
            Some("02:00:00:00:00:ab")
        );
        assert_eq!(mac_text(&[0; 6]), None);
        assert_eq!(mac_text(&[1; 20]), None);
    }
}
