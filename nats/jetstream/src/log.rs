//! The message plane's trait over a broker's streams.

use std::sync::Arc;
use std::time::Duration;

use watchfold_log::LogError;

use crate::JetStreamOptions;

/// A broker's streams as a log.
pub struct JetStream {
    options: JetStreamOptions,
}

impl JetStream {
    /// Returns at once and connects in the background, for ever.
    pub fn start(options: JetStreamOptions) -> Arc<JetStream> {
        Arc::new(JetStream { options })
    }

    /// Waits until the broker answers and its streams are there.
    pub async fn ready(&self, _within: Duration) -> Result<(), LogError> {
        Err(LogError::Unreachable {
            place: self.options.place(),
            reason: "this version knows no broker".to_owned(),
            remedy: "use a file: log".to_owned(),
        })
    }
}
