//! What a broker's no means: worth another try, or a line for whoever runs it. Asks nobody.

use async_nats::jetstream::{Error, ErrorCode};
use watchfold_log::LogError;

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Again(String),
    /// Nobody listens on the subject: the stream has no leader just now, or is not there.
    NobodyThere,
    /// The stream is missing, and the log was opened for reading alone.
    NotMade,
    /// The permissions of this user forbid the request.
    Denied(LogError),
    Final(LogError),
}

/// What an error of JetStream means whatever was asked; `None` where that depends on it.
pub(crate) fn judge(place: &str, action: &str, error: &Error) -> Option<Failure> {
    let refused = |remedy: &str| {
        Some(Failure::Final(LogError::Refused {
            place: place.to_owned(),
            action: action.to_owned(),
            reason: error.to_string(),
            remedy: remedy.to_owned(),
        }))
    };
    match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED => {
            refused("add `jetstream { store_dir: … }` to the server's configuration and restart it")
        }
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::NO_ACCOUNT => {
            refused("enable JetStream for this user's account in the server's configuration")
        }
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::MAXIMUM_STREAMS_LIMIT
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => refused(
            "raise `max_file_store` of the server or the limits of the account, or make the stream with a smaller --max-bytes by the nats command",
        ),
        ErrorCode::STREAM_STORE_FAILED => Some(Failure::Final(LogError::Full {
            path: format!("{place} ({error})"),
        })),
        ErrorCode::STREAM_SEALED => refused("unseal the stream by restoring it, or use another account"),
        ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::CLUSTER_NO_PEERS
        | ErrorCode::CLUSTER_INCOMPLETE
        | ErrorCode::CLUSTER_NOT_ACTIVE
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::CONSUMER_OFFLINE
        | ErrorCode::RAFT_GENERAL
        | ErrorCode::STREAM_TOO_MANY_REQUESTS => Some(Failure::Again(error.to_string())),
        _ if error.code() == 503 => Some(Failure::Again(error.to_string())),
        _ => None,
    }
}
