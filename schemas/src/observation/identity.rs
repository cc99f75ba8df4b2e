//! Whether a record in a log is what its subject and id say.

use super::Observation;
use crate::subjects::{self, Stream};

impl Observation {
    /// Checks that a record with this subject and id is this observation's. Permissions of a broker are about subjects, so what stands under
    /// another collector's or kind's subject is not to be believed; the error says why.
    pub fn check_identity(&self, subject: &str, id: &str) -> Result<(), String> {
        let origin = &self.origin;
        let is_own = [Stream::Observations, Stream::Packets].into_iter().any(|stream| {
            subject == subjects::of_observation(stream, &origin.site, self.body.kind(), &origin.collector)
        });
        if !is_own {
            let kind = self.body.kind();
            return Err(format!(
                "a record of kind {kind} by {origin} is not for the subject {subject}"
            ));
        }
        let own = self.message_id();
        // A publisher that gives no id is known by the place of its record: `WF_OBS:7`.
        if id != own.0 && !id.starts_with("WF_") {
            return Err(format!("its message id is {id} where {} is expected", own.0));
        }
        Ok(())
    }
}
