//! The packets behind an alert, as a file for packet analysers. Where they are kept is not known here: the dashboard is given a
//! function for it, asks it for one alert at a time, and passes on what it says.

use std::pin::Pin;
use std::sync::Arc;

use watchfold_schemas::Time;
use watchfold_schemas::alert::SeenBy;

/// The largest file that is handed out; packets beyond it are left out by whoever cuts it.
pub const PACKETS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What of the kept packets is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketsRequest {
    /// Who captured it, and the numbers of the packets that counted.
    pub seen_by: SeenBy,
    /// From the beginning of the alert's window, and some time before.
    pub from: Time,
    /// To when it fired, and some time after.
    pub until: Time,
    pub bytes_max: usize,
}

/// Gives the packets as one pcapng file. The future may read files, and ends its work when it is dropped.
pub type Packets = Arc<
    dyn Fn(PacketsRequest) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, PacketsFailure>> + Send>>
        + Send
        + Sync,
>;

/// Why there are no packets, in words for an operator that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum PacketsFailure {
    /// This collector keeps none.
    #[error("{0}")]
    NotKept(String),
    /// They were kept, and newer ones took their place.
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    Unreadable(String),
}
