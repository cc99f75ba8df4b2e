//! Windows: echo by the system's own service, which needs no administrator; neighbours, routes and interfaces by the
//! IP helper library.
//!
//! The calls into the system stand in `ffi` alone; everything above it is safe.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_DEST_HOST_UNREACHABLE, IP_DEST_NET_UNREACHABLE, IP_DEST_PORT_UNREACHABLE, IP_DEST_PROT_UNREACHABLE,
    IP_DEST_SCOPE_MISMATCH, IP_DEST_UNREACHABLE, IP_REQ_TIMED_OUT, IP_SUCCESS, IP_TTL_EXPIRED_REASSEM,
    IP_TTL_EXPIRED_TRANSIT,
};
use windows_sys::Win32::Networking::WinSock::{
    NlnsDelay, NlnsIncomplete, NlnsPermanent, NlnsProbe, NlnsReachable, NlnsStale, NlnsUnreachable,
};

use super::{
    EchoAccess, EchoAnswer, GatewayInfo, Neighbour, NeighbourAccess, NeighbourState, PermissionReport,
    Subnet, mac_text,
};

/// The most echo requests under way at once: each waits on a thread of its own. Others wait their turn.
const REQUESTS_MAX: usize = 256;

/// Windows does not say when an entry was confirmed. One that is no longer reachable was so until at most this long
/// ago, or was asked since and will fail (RFC 4861 section 6.3.2: 1.5 × 30 s).
const UNCONFIRMED_AGE: Duration = Duration::from_secs(45);

/// The system's echo service.
pub(crate) struct Echo {
    permits: Semaphore,
}

impl Default for Echo {
    fn default() -> Echo {
        Echo {
            permits: Semaphore::new(REQUESTS_MAX),
        }
    }
}

impl Echo {
    /// Always allowed.
    pub(crate) fn open(&self) -> bool {
        true
    }

    /// Sends one request and waits for what becomes of it.
    pub(crate) async fn ask(&self, to: SocketAddr, timeout: Duration) -> EchoAnswer {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        match tokio::task::spawn_blocking(move || ask(to, timeout)).await {
            Ok(answer) => answer,
            Err(error) => EchoAnswer::Failed(io::Error::other(error.to_string())),
        }
    }
}

fn ask(to: SocketAddr, timeout: Duration) -> EchoAnswer {
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let began = Instant::now();
    let status = match to {
        SocketAddr::V4(to) => ffi::echo_v4(*to.ip(), timeout_ms),
        SocketAddr::V6(to) => ffi::echo_v6(to, timeout_ms),
    };
    match status {
        // The system counts whole milliseconds only.
        Ok(IP_SUCCESS) => EchoAnswer::Reply {
            round_trip: began.elapsed(),
        },
        Ok(IP_REQ_TIMED_OUT) => EchoAnswer::Silence,
        Ok(
            IP_DEST_HOST_UNREACHABLE
            | IP_DEST_NET_UNREACHABLE
            | IP_DEST_PORT_UNREACHABLE
            | IP_DEST_PROT_UNREACHABLE
            | IP_DEST_SCOPE_MISMATCH
            | IP_DEST_UNREACHABLE,
        ) => EchoAnswer::Unreachable("the network says unreachable"),
        Ok(IP_TTL_EXPIRED_TRANSIT | IP_TTL_EXPIRED_REASSEM) => {
            EchoAnswer::Unreachable("time exceeded on the way")
        }
        Ok(status) => EchoAnswer::Failed(io::Error::other(format!("echo status {status}"))),
        Err(error) => EchoAnswer::Failed(error),
    }
}

/// The neighbour tables of both families.
pub(crate) fn neighbours() -> io::Result<Vec<Neighbour>> {
    let entry = |row: ffi::NeighbourRow| {
        #[expect(non_upper_case_globals, reason = "the names are the system's")]
        let state = match row.state {
            NlnsReachable => NeighbourState::Reachable,
            NlnsStale | NlnsDelay | NlnsProbe => NeighbourState::Unconfirmed,
            NlnsIncomplete => NeighbourState::Incomplete,
            NlnsUnreachable => NeighbourState::Failed,
            NlnsPermanent => NeighbourState::Fixed,
            _ => return None,
        };
        let confirmed_age = match state {
            NeighbourState::Reachable => Some(Duration::ZERO),
            NeighbourState::Unconfirmed => Some(UNCONFIRMED_AGE),
            _ => None,
        };
        let mac = mac_text(&row.mac);
        Some(Neighbour {
            address: row.address,
            interface: row.interface,
            mac,
            state,
            confirmed_age,
        })
    };
    Ok(ffi::neighbours()?.into_iter().filter_map(entry).collect())
}

/// Windows validates its entries itself.
pub(crate) fn revalidate(_: &[&Neighbour]) -> io::Result<()> {
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Those of `addresses` whose way out is an interface that is not connected, with its name.
pub(crate) fn interfaces_without_carrier(addresses: &[IpAddr]) -> io::Result<HashMap<IpAddr, String>> {
    let mut found = HashMap::new();
    for address in addresses {
        let Ok(index) = ffi::interface_to(*address) else {
            continue;
        };
        let interface = ffi::interface(index)?;
        if !interface.connected {
            found.insert(*address, interface.name);
        }
    }
    Ok(found)
}

/// The default route's gateway, IPv4 before IPv6; the one with the lowest metric.
pub fn default_gateway() -> Option<GatewayInfo> {
    let routes = ffi::default_routes().ok()?;
    let best = routes
        .into_iter()
        .min_by_key(|route| (route.gateway.is_ipv6(), route.metric))?;
    let interface = ffi::interface(best.interface).ok()?.name;
    let subnets = local_subnets().unwrap_or_default();
    let subnet = subnets
        .into_iter()
        .find(|subnet| subnet.interface == interface && subnet.contains(best.gateway));
    Some(GatewayInfo {
        address: best.gateway,
        interface,
        subnet,
    })
}

/// The networks that this machine is in, without loopback and IPv6 link-local ones.
pub fn local_subnets() -> io::Result<Vec<Subnet>> {
    let mut subnets = Vec::new();
    for (address, prefix_length, index) in ffi::addresses()? {
        let link_local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !address.is_loopback() && !link_local {
            subnets.push(Subnet {
                address,
                prefix_length,
                interface: ffi::interface(index)?.name,
            });
        }
    }
    Ok(subnets)
}

/// What this process may measure here.
pub fn check_permissions() -> PermissionReport {
    PermissionReport {
        echo_v4: EchoAccess::Datagram,
        echo_v6: EchoAccess::Datagram,
        neighbours: NeighbourAccess::SystemPaced,
        advice: Vec::new(),
    }
}

#[expect(
    unsafe_code,
    reason = "the IP helper library has no safe interface; each call stands in a function of its own"
)]
mod ffi {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
    use std::ptr::{null, null_mut};

    use windows_sys::Win32::Foundation::{ERROR_SUCCESS, GetLastError, HANDLE, INVALID_HANDLE_VALUE};
    use windows_sys::Win32::NetworkManagement::IpHelper::{
        FreeMibTable, GetBestRoute2, GetIfEntry2, GetIpForwardTable2, GetIpNetTable2,
        GetUnicastIpAddressTable, ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY_LH, Icmp6CreateFile, Icmp6SendEcho2,
        IcmpCloseHandle, IcmpCreateFile, IcmpSendEcho2, MIB_IF_ROW2, MIB_IPFORWARD_ROW2,
        MIB_IPFORWARD_TABLE2, MIB_IPNET_TABLE2, MIB_UNICASTIPADDRESS_TABLE,
    };
    use windows_sys::Win32::NetworkManagement::Ndis::{IfOperStatusUp, MediaConnectStateDisconnected};
    use windows_sys::Win32::Networking::WinSock::{
        AF_INET, AF_INET6, AF_UNSPEC, NL_NEIGHBOR_STATE, SOCKADDR_IN6, SOCKADDR_INET,
    };

    /// What an echo carries.
    const PAYLOAD: [u8; 32] = *b"watchfold echo: is anybody there";

    /// Room for a reply, its payload, an ICMP error (8 bytes) and an I/O status block (16), as the manual asks for.
    /// Words, so that it is aligned for every structure in it.
    type ReplyBuffer = [u64; 64];

    const REPLY_BYTES: u32 = size_of::<ReplyBuffer>() as u32;

    pub(super) struct NeighbourRow {
        pub address: IpAddr,
        pub interface: u32,
        pub mac: Vec<u8>,
        pub state: NL_NEIGHBOR_STATE,
    }

    pub(super) struct DefaultRoute {
        pub gateway: IpAddr,
        pub interface: u32,
        pub metric: u32,
    }

    pub(super) struct Interface {
        pub name: String,
        pub connected: bool,
    }

    /// An echo handle, closed when dropped.
    struct EchoHandle(HANDLE);

    impl EchoHandle {
        fn new(handle: HANDLE) -> io::Result<EchoHandle> {
            if handle == INVALID_HANDLE_VALUE {
                Err(io::Error::last_os_error())
            } else {
                Ok(EchoHandle(handle))
            }
        }
    }

    impl Drop for EchoHandle {
        fn drop(&mut self) {
            // SAFETY: the handle was opened by `IcmpCreateFile` or `Icmp6CreateFile` and is closed once.
            unsafe { IcmpCloseHandle(self.0) };
        }
    }

    /// The status of one echo request.
    pub(super) fn echo_v4(to: Ipv4Addr, timeout_ms: u32) -> io::Result<u32> {
        // SAFETY: no arguments.
        let handle = EchoHandle::new(unsafe { IcmpCreateFile() })?;
        let mut reply: ReplyBuffer = [0; 64];
        // SAFETY: without event and routine the call returns when it is done; the buffers outlive it and their sizes
        // are given.
        let replies = unsafe {
            IcmpSendEcho2(
                handle.0,
                null_mut(),
                None,
                null(),
                u32::from_ne_bytes(to.octets()),
                PAYLOAD.as_ptr().cast(),
                PAYLOAD.len() as u16,
                null(),
                reply.as_mut_ptr().cast(),
                REPLY_BYTES,
                timeout_ms,
            )
        };
        if replies == 0 {
            return last_status();
        }
        // SAFETY: one reply was written at the start of the buffer, which is large enough.
        Ok(unsafe { reply.as_ptr().cast::<ICMP_ECHO_REPLY>().read_unaligned() }.Status)
    }

    /// The status of one echo request.
    pub(super) fn echo_v6(to: SocketAddrV6, timeout_ms: u32) -> io::Result<u32> {
        // SAFETY: no arguments.
        let handle = EchoHandle::new(unsafe { Icmp6CreateFile() })?;
        let any = sockaddr_v6(Ipv6Addr::UNSPECIFIED, 0);
        let there = sockaddr_v6(*to.ip(), to.scope_id());
        let mut reply: ReplyBuffer = [0; 64];
        // SAFETY: as for IPv4; both addresses outlive the call.
        let replies = unsafe {
            Icmp6SendEcho2(
                handle.0,
                null_mut(),
                None,
                null(),
                &any,
                &there,
                PAYLOAD.as_ptr().cast(),
                PAYLOAD.len() as u16,
                null(),
                reply.as_mut_ptr().cast(),
                REPLY_BYTES,
                timeout_ms,
            )
        };
        if replies == 0 {
            return last_status();
        }
        // SAFETY: one reply was written at the start of the buffer, which is large enough.
        Ok(unsafe { reply.as_ptr().cast::<ICMPV6_ECHO_REPLY_LH>().read_unaligned() }.Status)
    }

    /// Echo errors from 11,000 on are statuses (the manual of `IcmpSendEcho2`), others are errors of the system.
    fn last_status() -> io::Result<u32> {
        // SAFETY: no arguments.
        let code = unsafe { GetLastError() };
        if (11_000..12_000).contains(&code) {
            Ok(code)
        } else {
            Err(io::Error::from_raw_os_error(code.cast_signed()))
        }
    }

    pub(super) fn neighbours() -> io::Result<Vec<NeighbourRow>> {
        let mut table: *mut MIB_IPNET_TABLE2 = null_mut();
        // SAFETY: the table is written on success and freed below.
        check(unsafe { GetIpNetTable2(AF_UNSPEC, &mut table) })?;
        // SAFETY: the table holds as many rows as it says, and is not used after it is freed.
        let rows =
            unsafe { std::slice::from_raw_parts((*table).Table.as_ptr(), (*table).NumEntries as usize) };
        let found = rows.iter().filter_map(|row| {
            let length = (row.PhysicalAddressLength as usize).min(row.PhysicalAddress.len());
            Some(NeighbourRow {
                address: ip(&row.Address)?,
                interface: row.InterfaceIndex,
                mac: row.PhysicalAddress[..length].to_vec(),
                state: row.State,
            })
        });
        let found = found.collect();
        // SAFETY: allocated by the call above, freed once.
        unsafe { FreeMibTable(table.cast()) };
        Ok(found)
    }

    /// (address, prefix length, interface) of each address of ours.
    pub(super) fn addresses() -> io::Result<Vec<(IpAddr, u8, u32)>> {
        let mut table: *mut MIB_UNICASTIPADDRESS_TABLE = null_mut();
        // SAFETY: the table is written on success and freed below.
        check(unsafe { GetUnicastIpAddressTable(AF_UNSPEC, &mut table) })?;
        // SAFETY: the table holds as many rows as it says, and is not used after it is freed.
        let rows =
            unsafe { std::slice::from_raw_parts((*table).Table.as_ptr(), (*table).NumEntries as usize) };
        let found = rows
            .iter()
            .filter_map(|row| Some((ip(&row.Address)?, row.OnLinkPrefixLength, row.InterfaceIndex)));
        let found = found.collect();
        // SAFETY: allocated by the call above, freed once.
        unsafe { FreeMibTable(table.cast()) };
        Ok(found)
    }

    pub(super) fn default_routes() -> io::Result<Vec<DefaultRoute>> {
        let mut table: *mut MIB_IPFORWARD_TABLE2 = null_mut();
        // SAFETY: the table is written on success and freed below.
        check(unsafe { GetIpForwardTable2(AF_UNSPEC, &mut table) })?;
        // SAFETY: the table holds as many rows as it says, and is not used after it is freed.
        let rows =
            unsafe { std::slice::from_raw_parts((*table).Table.as_ptr(), (*table).NumEntries as usize) };
        let found = rows
            .iter()
            .filter(|row| row.DestinationPrefix.PrefixLength == 0)
            .filter_map(|row| {
                let gateway = ip(&row.NextHop).filter(|gateway| !gateway.is_unspecified())?;
                Some(DefaultRoute {
                    gateway,
                    interface: row.InterfaceIndex,
                    metric: row.Metric,
                })
            });
        let found = found.collect();
        // SAFETY: allocated by the call above, freed once.
        unsafe { FreeMibTable(table.cast()) };
        Ok(found)
    }

    /// The interface by which an address would be reached.
    pub(super) fn interface_to(address: IpAddr) -> io::Result<u32> {
        let destination = sockaddr(address);
        let mut route = MIB_IPFORWARD_ROW2::default();
        let mut source = SOCKADDR_INET::default();
        // SAFETY: all pointers are to live values of the right types; the optional ones are null.
        check(unsafe { GetBestRoute2(null(), 0, null(), &destination, 0, &mut route, &mut source) })?;
        Ok(route.InterfaceIndex)
    }

    pub(super) fn interface(index: u32) -> io::Result<Interface> {
        let mut row = MIB_IF_ROW2 {
            InterfaceIndex: index,
            ..Default::default()
        };
        // SAFETY: the row is live, and says by its index which interface is meant.
        check(unsafe { GetIfEntry2(&mut row) })?;
        let end = row
            .Alias
            .iter()
            .position(|unit| *unit == 0)
            .unwrap_or(row.Alias.len());
        let connected =
            row.OperStatus == IfOperStatusUp && row.MediaConnectState != MediaConnectStateDisconnected;
        Ok(Interface {
            name: String::from_utf16_lossy(&row.Alias[..end]),
            connected,
        })
    }

    fn check(code: u32) -> io::Result<()> {
        if code == ERROR_SUCCESS {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(code.cast_signed()))
        }
    }

    fn sockaddr(address: IpAddr) -> SOCKADDR_INET {
        let mut out = SOCKADDR_INET::default();
        match address {
            IpAddr::V4(address) => {
                out.Ipv4.sin_family = AF_INET;
                out.Ipv4.sin_addr.S_un.S_addr = u32::from_ne_bytes(address.octets());
            }
            IpAddr::V6(address) => out.Ipv6 = sockaddr_v6(address, 0),
        }
        out
    }

    fn sockaddr_v6(address: Ipv6Addr, scope: u32) -> SOCKADDR_IN6 {
        let mut out = SOCKADDR_IN6 {
            sin6_family: AF_INET6,
            ..Default::default()
        };
        out.sin6_addr.u.Byte = address.octets();
        out.Anonymous.sin6_scope_id = scope;
        out
    }

    fn ip(address: &SOCKADDR_INET) -> Option<IpAddr> {
        // SAFETY: the family says which variant was written; every variant is plain bytes.
        unsafe {
            match address.si_family {
                AF_INET => Some(Ipv4Addr::from(address.Ipv4.sin_addr.S_un.S_addr.to_ne_bytes()).into()),
                AF_INET6 => Some(Ipv6Addr::from(address.Ipv6.sin6_addr.u.Byte).into()),
                _ => None,
            }
        }
    }
}
