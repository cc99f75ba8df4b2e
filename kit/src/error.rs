//! Why something was not published, or could not be opened.

use watchfold_log::LogError;
use watchfold_schemas::CodecError;

/// Why an observation was not published, or a publisher not opened.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    #[error(
        "{what} {name:?} cannot stand in a subject: use 1 to 48 of letters, digits, '-' and '_' in the configuration"
    )]
    InvalidName { what: &'static str, name: String },
    #[error("the disk holding {path} is full: free space there")]
    Full { path: String },
    #[error("failed to {action} {path}: {source}; make the data directory writable and start again")]
    State {
        action: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("the observation cannot be written: {0}")]
    Encode(#[from] CodecError),
    #[error("the log refused the observation for good: {0}")]
    Refused(#[source] LogError),
    #[error(
        "the observation was dropped: the log took nothing until the queue or the spool was full; see the log's own error"
    )]
    Overflow,
    #[error("the spool cannot be used: {0}")]
    Spool(#[source] LogError),
    #[error(
        "the observation is safe in the spool and goes to the log later; too many others wait to be told when"
    )]
    Spooled,
    #[error("the log is closed: open it, and a new publisher, before publishing")]
    Closed,
}
