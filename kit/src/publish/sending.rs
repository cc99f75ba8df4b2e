//! Records that have their number, and an append of some of them that is on its way to the log.
//!
//! It does not decide what is sent when.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use watchfold_log::{Ack, Append, LogError, MessageLog};
use watchfold_schemas::Time;
use watchfold_schemas::observation::{Gap, OBSERVATION_VERSION};
use watchfold_schemas::{Body, CodecError, Observation, encode_observation, subjects};

use crate::KitError;
use crate::publish::incarnation::IncarnationFile;
use crate::publish::publisher::Shared;
use crate::publish::queue::Pending;

/// A record that has its number.
pub(crate) struct Outgoing {
    pub pending: Pending,
    pub number: u64,
    pub append: Append,
}

impl Outgoing {
    pub(crate) fn prepare(
        shared: &Shared,
        pending: Pending,
        number: u64,
    ) -> Result<Outgoing, Box<(Pending, CodecError)>> {
        let origin = shared.origin(pending.incarnation, number);
        let id = origin.message_id();
        let stream = pending.stream;
        let kind = pending.body.kind();
        let subject = subjects::of_observation(stream, &shared.site, kind, &shared.collector);
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: pending.observed_at,
            through: pending.through,
            body: pending.body,
        };
        let encoded = encode_observation(&observation);
        let pending = Pending {
            body: observation.body,
            ..pending
        };
        match encoded {
            Ok(payload) => {
                let append = Append {
                    stream,
                    subject,
                    id,
                    payload: payload.into(),
                };
                Ok(Outgoing {
                    pending,
                    number,
                    append,
                })
            }
            Err(error) => Err(Box::new((pending, error))),
        }
    }

    /// The number of a refused record must not become a hole, so a gap takes it; `None` when it is a gap already.
    /// The ticket is returned with it.
    pub(crate) fn into_gap(mut self, shared: &Shared, before: Option<Time>) -> Option<Outgoing> {
        if matches!(self.pending.body, Body::Gap(_)) {
            return None;
        }
        let to = self.pending.through;
        self.pending.body = Body::Gap(Gap {
            from: before.unwrap_or(to).min(to),
            to,
            records: 1,
            reason: "the log refused a record".to_owned(),
        });
        Outgoing::prepare(shared, self.pending, self.number).ok()
    }
}

/// The numbers of one incarnation, without holes.
pub(crate) struct Numbering {
    file: IncarnationFile,
    /// The incarnation on disk, `None` where the disk was too full for it.
    pub incarnation: Option<u64>,
    /// The last number given in it.
    pub number: u64,
    /// `through` of its last record that is in the log or in the spool.
    pub placed: Option<Time>,
}

impl Numbering {
    pub(crate) fn new(file: IncarnationFile, incarnation: Option<u64>) -> Numbering {
        Numbering {
            file,
            incarnation,
            number: 0,
            placed: None,
        }
    }

    /// Nothing is sent under an incarnation that is not on disk, so that no restart can use it again.
    pub(crate) async fn begin(&mut self, incarnation: u64) -> Result<(), KitError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || file.save(incarnation))
            .await
            .unwrap_or(Err(KitError::Closed))?;
        self.incarnation = Some(incarnation);
        self.number = 0;
        self.placed = None;
        Ok(())
    }
}

/// Where what is sent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Spool,
}

/// Why the log did not take an append.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Log(LogError),
    /// It may have taken it all the same.
    #[error("the log did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// An append that is on its way. Dropping it leaves open whether the log has the records.
pub(crate) struct Sending {
    pub source: Source,
    pub count: usize,
    answer: Pin<Box<dyn Future<Output = Result<Vec<Ack>, SendError>> + Send>>,
}

impl Sending {
    pub(crate) fn start(
        log: &Arc<dyn MessageLog>,
        source: Source,
        messages: Vec<Append>,
        patience: Option<Duration>,
    ) -> Sending {
        let (log, count) = (Arc::clone(log), messages.len());
        let answer = Box::pin(async move {
            let answer = log.append(messages);
            match patience {
                Some(patience) => match tokio::time::timeout(patience, answer).await {
                    Ok(answer) => answer.map_err(SendError::Log),
                    Err(_) => Err(SendError::Silent(patience)),
                },
                None => answer.await.map_err(SendError::Log),
            }
        });
        Sending {
            source,
            count,
            answer,
        }
    }

    /// Its answer; never, while nothing is on its way. Dropping the future loses nothing.
    pub(crate) async fn answer(sending: &mut Option<Sending>) -> Result<Vec<Ack>, SendError> {
        match sending {
            Some(sending) => sending.answer.as_mut().await,
            None => std::future::pending().await,
        }
    }
}
