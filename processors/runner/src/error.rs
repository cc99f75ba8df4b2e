//! Why a runner stopped or did not start.

use watchfold_log::LogError;
use watchfold_schemas::CodecError;

use crate::crash::CrashPoint;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The log cannot go on; what it says names the way out.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Only for a store that another process holds; a broken one is set aside and rebuilt.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored by newer software, or too large to be stored; what it says names the way out.
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("failed to start the thread of a chain: {0}")]
    Thread(std::io::Error),
    #[error("the thread of a chain panicked: start the chain again, it goes on from its last commit")]
    Panicked,
    #[error("stopped by a test at {0:?}")]
    Crashed(CrashPoint),
}
