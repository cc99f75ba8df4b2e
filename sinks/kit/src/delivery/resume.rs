//! What survives a restart: writing the state file, and taking it up again while the log agrees with it.

use std::time::Duration;

use tokio::time::Instant;
use watchfold_log::{MessageLog, Position, agrees};
use watchfold_schemas::Stream;

use super::Courier;
use crate::destination::{Destination, SinkContext};
use crate::error::SinkError;
use crate::state::{self, Found, STATE_VERSION, StateFile};
use crate::stats::Count;

/// The state file is written at most this often, in milliseconds: it only saves reading the log again.
const SAVE_EVERY_MS: u64 = 1_000;

/// Positions alone are written this often, in milliseconds, so that a quiet sink starts near the end of the log.
const POSITION_EVERY_MS: u64 = 300_000;

impl<D: Destination> Courier<D> {
    pub(super) async fn save_if_due(&mut self) {
        let age = self.saved_at.elapsed();
        let positions_old = age >= Duration::from_millis(POSITION_EVERY_MS);
        if positions_old || (self.dirty && age >= Duration::from_millis(SAVE_EVERY_MS)) {
            self.save().await;
        }
    }

    pub(super) async fn save(&mut self) {
        self.saved_at = Instant::now();
        self.dirty = false;
        let state = self.state().await;
        let path = self.context.state_path.clone();
        let saved = tokio::task::spawn_blocking(move || state::save_state(&path, &state)).await;
        match saved.map_err(std::io::Error::other).and_then(|result| result) {
            Ok(()) => self.save_failed = false,
            Err(error) => {
                self.context.stats.add(Count::StateFailures, 1);
                if !self.save_failed {
                    let path = self.context.state_path.display();
                    tracing::warn!(sink = self.context.sink, %path, %error,
                        "failed to write a sink's state; after a restart it is built again from the log");
                }
                self.save_failed = true;
            }
        }
    }

    async fn state(&mut self) -> StateFile {
        let log = self.context.log.clone();
        let receipts = named(log.as_ref(), Stream::Observations, &self.receipts_at).await;
        StateFile {
            v: STATE_VERSION,
            site: self.context.site.clone(),
            sink: self.context.sink.clone(),
            events: self.events.checkpoint().await,
            receipts,
            pending: self.ledger.pending.values().cloned().collect(),
            due: self.ledger.due.values().cloned().collect(),
            messages: self.ledger.messages().cloned().collect(),
            edits: self.ledger.edits.iter().cloned().collect(),
            faults: self.ledger.faults.clone(),
            settled: self.ledger.settled(),
            receipts_from: self.ledger.receipts_from,
        }
    }
}

/// A position with the message id of its record, so that another log can be told; `None` when it cannot be named.
async fn named(log: &dyn MessageLog, stream: Stream, at: &Position) -> Option<Position> {
    if at.sequence == 0 || !at.id.is_empty() {
        return Some(at.clone());
    }
    let record = log.get(stream, at.sequence).await.ok()??;
    Some(Position {
        id: record.id.0,
        ..at.clone()
    })
}

/// The state to go on with: what the file holds while the log agrees with it.
pub(super) async fn load_state(context: &SinkContext) -> Result<StateFile, SinkError> {
    let (path, site, sink) = (
        context.state_path.clone(),
        context.site.clone(),
        context.sink.clone(),
    );
    let found = tokio::task::spawn_blocking(move || state::load(&path, &site, &sink)).await;
    let found = found.unwrap_or_else(|error| Found::SetAside {
        reason: error.to_string(),
    });
    let (state, reason) = match found {
        Found::Nothing => return Ok(StateFile::default()),
        Found::State(state) => (*state, None),
        Found::SetAside { reason } => (StateFile::default(), Some(reason)),
    };
    let reason = match reason {
        Some(reason) => Some(reason),
        None if !positions_agree(context, &state).await? => {
            state::set_aside_state(&context.state_path);
            Some("the log is not the one that it was read from, or lost its end".to_owned())
        }
        None => None,
    };
    let Some(reason) = reason else { return Ok(state) };
    context.stats.add(Count::StateFailures, 1);
    tracing::warn!(sink = context.sink, path = %context.state_path.display(), reason,
        "a sink's state is set aside and built again from the log");
    Ok(state.without_positions())
}

async fn positions_agree(context: &SinkContext, state: &StateFile) -> Result<bool, SinkError> {
    let log = context.log.as_ref();
    for (stream, position) in [
        (Stream::Events, &state.events),
        (Stream::Observations, &state.receipts),
    ] {
        if let Some(position) = position
            && !agrees(log, stream, position).await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}
