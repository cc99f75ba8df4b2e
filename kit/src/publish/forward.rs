//! What a spool gives back: records on their way to the log, gaps for those it lost, and marks that say how far it is.
//!
//! It touches no file.

use watchfold_log::{Append, Position, Record};
use watchfold_schemas::observation::{Gap, OBSERVATION_VERSION};
use watchfold_schemas::{
    Body, CodecError, Observation, Origin, Stream, Time, decode_observation, encode_observation, subjects,
};

/// Up to where something has come: the record with this sequence in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub sequence: u64,
    pub origin: Origin,
    pub through: Time,
}

/// A spooled record on its way to the log, or the gap that stands for lost ones.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Where the spool is once the log has it.
    pub mark: Mark,
    pub append: Append,
    /// Records that it stands for, when it is a gap of the spool's own.
    pub lost: u64,
}

impl Forward {
    /// The gap in this stream for `records` that the spool lost, the last of which is `mark`.
    pub(crate) fn gap(stream: Stream, mark: Mark, from: Time, records: u64, reason: &str) -> Option<Forward> {
        let (subject, id) = (subject_of_gap(stream, &mark.origin), mark.origin.message_id());
        let gap = Gap {
            from,
            to: mark.through,
            records,
            reason: reason.to_owned(),
        };
        match encode_gap(mark.origin.clone(), mark.through, mark.through, gap) {
            Ok(payload) => Some(Forward {
                mark,
                append: Append {
                    stream,
                    subject,
                    id,
                    payload: payload.into(),
                },
                lost: records,
            }),
            Err(error) => {
                tracing::error!(%error, "a gap cannot be written");
                None
            }
        }
    }

    /// The spool that it was read from is gone: once the log has it, the one begun since is where it was, at its start.
    pub(crate) fn outlive_spool(&mut self) {
        self.mark.sequence = 0;
    }

    /// Puts a gap in its place, under its identity; false when it is one already.
    pub(crate) fn replace_by_gap(&mut self, from: Option<Time>, reason: &str) -> bool {
        let Ok(observation) = decode_observation(&self.append.payload) else {
            return false;
        };
        if matches!(observation.body, Body::Gap(_)) {
            return false;
        }
        let to = observation.through;
        let gap = Gap {
            from: from.unwrap_or(to).min(to),
            to,
            records: 1,
            reason: reason.to_owned(),
        };
        self.append.subject = subject_of_gap(self.append.stream, &observation.origin);
        match encode_gap(observation.origin, observation.observed_at, to, gap) {
            Ok(payload) => self.append.payload = payload.into(),
            Err(_) => return false,
        }
        true
    }
}

impl Mark {
    /// What the position's `id` holds is the message id, a space, and `through` in nanoseconds since 1970.
    pub(crate) fn to_position(&self, log_id: &str) -> Position {
        Position {
            log_id: log_id.to_owned(),
            sequence: self.sequence,
            id: format!("{} {}", self.origin, self.through.0),
        }
    }

    pub(crate) fn from_position(position: &Position) -> Option<Mark> {
        let (origin, through) = position.id.split_once(' ')?;
        Some(Mark {
            sequence: position.sequence,
            origin: origin.parse().ok()?,
            through: Time(through.parse().ok()?),
        })
    }

    pub(crate) fn of_record(record: &Record) -> Option<Mark> {
        let through = decode_observation(&record.payload).map(|observation| observation.through);
        Some(Mark {
            sequence: record.sequence,
            origin: record.id.0.parse().ok()?,
            through: through.unwrap_or(record.stored_at),
        })
    }
}

/// The earliest time that a record speaks of, as far as what came before it is concerned.
pub(crate) fn earliest(body: &Body, through: Time) -> Time {
    let first = match body {
        Body::PingRound(round) => round.base,
        Body::Fault(fault) => fault.at,
        Body::Gap(gap) => gap.from,
        // A packet that came a little late does not move what came before the record.
        Body::Batch(batch) => batch.base,
        Body::Quiet
        | Body::Tick(_)
        | Body::Operator(_)
        | Body::Receipt(_)
        | Body::Activation(_)
        | Body::Parity(_)
        | Body::Verdict(_)
        | Body::Rules(_)
        | Body::Finding(_) => through,
    };
    first.min(through)
}

fn encode_gap(origin: Origin, observed_at: Time, through: Time, gap: Gap) -> Result<Vec<u8>, CodecError> {
    encode_observation(&Observation {
        v: OBSERVATION_VERSION,
        origin,
        observed_at,
        through,
        body: Body::Gap(gap),
    })
}

fn subject_of_gap(stream: Stream, origin: &Origin) -> String {
    subjects::of_observation(stream, &origin.site, "gap", &origin.collector)
}
