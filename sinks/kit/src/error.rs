//! Why a sink had to stop. What it can wait for or work around is not an error but a line in the log and a counter.

use watchfold_log::LogError;

/// A sink cannot go on; the supervisor may start it again.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The log could not be read or asked; what its message says must be dealt with first.
    #[error("the log failed under a sink: {0}")]
    Log(#[from] LogError),
    /// The HTTP client could not be made: the process has not installed its TLS provider.
    #[error("failed to make an HTTP client: {0}; install the rustls ring provider before starting sinks")]
    Client(String),
}
