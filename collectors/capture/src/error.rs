//! What can go wrong with capturing, and what to do then.

use std::path::PathBuf;

use watchfold_kit::KitError;

use crate::file::FileError;

/// Why packets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is no interface {interface:?}; there are: {}", known.join(", "))]
    UnknownInterface { interface: String, known: Vec<String> },
    #[error(
        "capturing on {interface:?} is not allowed; allow it with `sudo setcap cap_net_raw,cap_net_admin=eip {}` and start again, \
         or run the service with AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN",
        program.display()
    )]
    NotAllowed {
        interface: String,
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{filter:?} is no filter for {interface:?}: {reason}; `man pcap-filter` describes them")]
    Filter {
        interface: String,
        filter: String,
        reason: String,
    },
    #[error("failed to capture on {interface:?}: {reason}; it is tried again")]
    Open { interface: String, reason: String },
    #[error("{interface:?} gives no more packets: {reason}; it is tried again")]
    Lost { interface: String, reason: String },
    #[error("failed to list the interfaces: {reason}; see that libpcap works, with `tcpdump -D` say")]
    Interfaces { reason: String },
    #[error(
        "this build cannot capture live: it was made without Npcap; build it with --features npcap, or read capture files"
    )]
    Unsupported,
    #[error("failed to start a thread for {interface:?}: {source}; free memory or threads and start again")]
    Thread {
        interface: String,
        source: std::io::Error,
    },
    #[error("the thread of {interface:?} panicked; it is started again")]
    Panicked { interface: String },
    #[error("the kept packets of {}: {source}", path.display())]
    Ring { path: PathBuf, source: std::io::Error },
    #[error("{}: no packets are kept there; set ring_mib in [[capture]] to keep some", path.display())]
    NotKept { path: PathBuf },
    #[error("the packets are no longer kept: newer ones took their place; a larger ring_mib keeps more")]
    Gone,
    #[error("failed to write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Kit(#[from] KitError),
}
