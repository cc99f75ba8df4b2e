//! An interface as libpcap opens it: its packets, what was dropped before they came here, and why it cannot be opened.
//!
//! It decodes nothing. Where there is no libpcap, everything here says so.

use std::net::IpAddr;
use std::sync::Arc;

use watchfold_config::CaptureConfig;

use crate::error::CaptureError;

#[cfg(any(unix, feature = "npcap"))]
pub(crate) use live::{Tap, compile, interfaces};
#[cfg(not(any(unix, feature = "npcap")))]
pub(crate) use without::{Tap, compile, interfaces};

/// An interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub description: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub is_up: bool,
    pub is_loopback: bool,
}

/// A packet as the kernel hands it over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    /// By the wall clock, nanoseconds since 1970.
    pub wall_ns: i64,
    pub wire_length: u32,
    pub bytes: &'a [u8],
}

/// Dropped since the interface was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    pub by_kernel: u64,
    pub by_interface: u64,
}

/// What packets are read from: an open interface. Reading never waits.
pub(crate) trait Wire {
    /// As libpcap numbers it.
    fn link_type(&self) -> i32;

    /// Visits at most so many packets that are there, and says how many that were.
    fn read(&mut self, packets_max: usize, visit: &mut dyn FnMut(Raw<'_>)) -> Result<usize, CaptureError>;

    /// A failure to count is no failure to capture: then nothing new is known.
    fn drops(&mut self) -> Drops;
}

/// How a thread comes by what it reads; only tests have another than [`live`].
pub(crate) type OpenWire = Arc<dyn Fn(&CaptureConfig) -> Result<Box<dyn Wire>, CaptureError> + Send + Sync>;

/// Interfaces of this machine.
pub(crate) fn live() -> OpenWire {
    Arc::new(|config| Ok(Box::new(Tap::open(config)?)))
}

#[cfg(any(unix, feature = "npcap"))]
mod live {
    use std::io;

    use pcap::{Active, Capture, Device, Error, Linktype};
    use watchfold_config::CaptureConfig;

    use super::{Drops, Interface, Raw, Wire};
    use crate::error::CaptureError;

    /// How long the kernel may gather packets before it hands them over; a batch waits as long.
    const GATHER_MS: i32 = 20;

    /// What the interface that is all interfaces is called.
    const ANY: &str = "any";

    /// An open interface.
    pub(crate) struct Tap {
        interface: String,
        capture: Capture<Active>,
        drops: Drops,
        /// As libpcap counted last: 32 bits, which wrap.
        counted: (u32, u32),
    }

    impl Tap {
        pub(crate) fn open(config: &CaptureConfig) -> Result<Tap, CaptureError> {
            let interface = config.interface.clone();
            let known: Vec<String> = interfaces()?.into_iter().map(|one| one.name).collect();
            if !known.contains(&interface) {
                return Err(CaptureError::UnknownInterface { interface, known });
            }
            // All interfaces at once cannot be promiscuous.
            let promiscuous = config.promiscuous && interface != ANY;
            let failed = |error: Error| cannot_open(&interface, &error);
            let buffer = i32::try_from(config.buffer_bytes).unwrap_or(i32::MAX);
            let snap_length = i32::try_from(config.snap_length).unwrap_or(i32::MAX);
            let inactive = Capture::from_device(interface.as_str()).map_err(failed)?;
            let inactive = inactive
                .promisc(promiscuous)
                .snaplen(snap_length)
                .buffer_size(buffer)
                .timeout(GATHER_MS);
            #[cfg(target_os = "linux")]
            let inactive = inactive.precision(pcap::Precision::Nano);
            let capture = inactive.open().and_then(Capture::setnonblock);
            let mut capture = capture.map_err(failed)?;
            if let Some(filter) = &config.filter {
                let unusable = |error: Error| no_filter(&config.interface, filter, &error);
                capture.filter(filter, true).map_err(unusable)?;
            }
            Ok(Tap {
                interface,
                capture,
                drops: Drops::default(),
                counted: (0, 0),
            })
        }
    }

    impl Wire for Tap {
        fn link_type(&self) -> i32 {
            self.capture.get_datalink().0
        }

        fn read(
            &mut self,
            packets_max: usize,
            visit: &mut dyn FnMut(Raw<'_>),
        ) -> Result<usize, CaptureError> {
            let visit_one = |packet: pcap::Packet<'_>| {
                let header = packet.header;
                let unit = if cfg!(target_os = "linux") { 1 } else { 1_000 };
                let (seconds, parts) = (wide(header.ts.tv_sec), wide(header.ts.tv_usec));
                visit(Raw {
                    wall_ns: seconds.saturating_mul(1_000_000_000).saturating_add(parts * unit),
                    wire_length: header.len,
                    bytes: packet.data,
                });
            };
            let read = self.capture.dispatch(Some(packets_max), visit_one);
            read.map_err(|error| CaptureError::Lost {
                interface: self.interface.clone(),
                reason: reason(&error),
            })
        }

        fn drops(&mut self) -> Drops {
            if let Ok(stat) = self.capture.stats() {
                let more = |now: u32, before: u32| u64::from(now.wrapping_sub(before));
                self.drops.by_kernel += more(stat.dropped, self.counted.0);
                self.drops.by_interface += more(stat.if_dropped, self.counted.1);
                self.counted = (stat.dropped, stat.if_dropped);
            }
            self.drops
        }
    }

    pub(crate) fn interfaces() -> Result<Vec<Interface>, CaptureError> {
        let devices = Device::list().map_err(|error| CaptureError::Interfaces {
            reason: reason(&error),
        })?;
        let interface = |device: Device| Interface {
            is_up: device.flags.is_up(),
            is_loopback: device.flags.is_loopback(),
            addresses: device.addresses.iter().map(|address| address.addr).collect(),
            name: device.name,
            description: device.desc,
        };
        Ok(devices.into_iter().map(interface).collect())
    }

    pub(crate) fn compile(interface: &str, filter: &str) -> Result<(), CaptureError> {
        let unusable = |error: Error| no_filter(interface, filter, &error);
        let dead = Capture::dead(Linktype::ETHERNET).map_err(unusable)?;
        dead.compile(filter, true).map(drop).map_err(unusable)
    }

    fn no_filter(interface: &str, filter: &str, error: &Error) -> CaptureError {
        CaptureError::Filter {
            interface: interface.to_owned(),
            filter: filter.to_owned(),
            reason: reason(error),
        }
    }

    /// libpcap tells of a missing permission in words alone.
    fn cannot_open(interface: &str, error: &Error) -> CaptureError {
        let text = reason(error);
        let signs = ["permission", "Permission", "not permitted", "CAP_NET_RAW"];
        if signs.iter().any(|sign| text.contains(sign)) {
            let program = std::env::current_exe().and_then(std::fs::canonicalize);
            return CaptureError::NotAllowed {
                interface: interface.to_owned(),
                program: program.unwrap_or_else(|_| "watchfold".into()),
                source: io::Error::new(io::ErrorKind::PermissionDenied, text),
            };
        }
        CaptureError::Open {
            interface: interface.to_owned(),
            reason: text,
        }
    }

    /// These have 32 bits on some systems.
    fn wide(value: impl Into<i64>) -> i64 {
        value.into()
    }

    fn reason(error: &Error) -> String {
        match error {
            Error::PcapError(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

#[cfg(not(any(unix, feature = "npcap")))]
mod without {
    use watchfold_config::CaptureConfig;

    use super::{Drops, Interface, Raw, Wire};
    use crate::error::CaptureError;

    pub(crate) enum Tap {}

    impl Tap {
        pub(crate) fn open(_: &CaptureConfig) -> Result<Tap, CaptureError> {
            Err(CaptureError::Unsupported)
        }
    }

    impl Wire for Tap {
        fn link_type(&self) -> i32 {
            match *self {}
        }

        fn read(&mut self, _: usize, _: &mut dyn FnMut(Raw<'_>)) -> Result<usize, CaptureError> {
            match *self {}
        }

        fn drops(&mut self) -> Drops {
            match *self {}
        }
    }

    pub(crate) fn interfaces() -> Result<Vec<Interface>, CaptureError> {
        Err(CaptureError::Unsupported)
    }

    pub(crate) fn compile(_: &str, _: &str) -> Result<(), CaptureError> {
        Ok(())
    }
}
