//! The only destination of a sink that follows no requests, and its fault in the log.
//!
//! The first finding of a process is always recorded: a chain passes over what it knows already.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use watchfold_kit::Publisher;
use watchfold_schemas::Time;
use watchfold_schemas::observation::{Body, Fault};

use crate::reach::{Failure, Reach};
use crate::state::{STATE_VERSION, recorded_faults, save_state};
use crate::stats::{Count, SinkStats};

/// What an [`Outlet`] needs.
#[derive(Clone)]
pub struct OutletContext {
    /// The sink's name; the collector name of `publisher`.
    pub sink: String,
    /// Records the faults, and is the clock by which they last.
    pub publisher: Arc<Publisher>,
    /// `<data>/sinks/<sink>.state`
    pub state_path: PathBuf,
    pub stats: Arc<SinkStats>,
}

/// Records when the destination takes nothing, and when it does again.
pub struct Outlet {
    context: OutletContext,
    reach: Reach,
    /// What this process recorded last.
    recorded: Option<bool>,
}

#[derive(Serialize)]
struct OutletState {
    v: u16,
    /// As [`recorded_faults`] reads them.
    faults: BTreeMap<String, String>,
}

impl OutletContext {
    fn fault(&self, at: Time, reason: String, active: bool) -> bool {
        let subject = Fault::destination(&self.sink, None);
        let faults = active.then(|| (subject.clone(), reason.clone()));
        let fault = Fault {
            subject,
            at,
            reason,
            active,
        };
        if let Err(error) = self.publisher.submit(Body::Fault(fault)) {
            tracing::debug!(sink = self.sink, %error, "a fault of a destination could not be recorded yet");
            return false;
        }
        let state = OutletState {
            v: STATE_VERSION,
            faults: faults.into_iter().collect(),
        };
        if let Err(error) = save_state(&self.state_path, &state) {
            tracing::warn!(sink = self.sink, %error, "failed to write a sink's state");
        }
        true
    }

    /// Ends the fault of a sink that is no longer configured.
    pub fn withdraw(&self) {
        if !recorded_faults(&self.state_path).is_empty() {
            let reason = "it is not configured any more".to_owned();
            self.fault(self.publisher.now(), reason, false);
        }
    }
}

impl Outlet {
    pub fn new(context: OutletContext) -> Outlet {
        Outlet {
            context,
            reach: Reach::default(),
            recorded: None,
        }
    }

    pub fn count(&self, count: Count) {
        self.context.stats.add(count, 1);
    }

    pub fn took(&mut self) {
        self.reach.took();
        self.report();
    }

    /// The configuration has another address for it.
    pub fn renew(&mut self) {
        self.reach.renew();
        self.report();
    }

    pub fn failed(&mut self, failure: Failure, detail: String) {
        self.reach.failed(self.context.publisher.now(), failure, detail);
        self.report();
    }

    /// Records what is not recorded yet; called now and then, because failures become faults by lasting.
    pub fn report(&mut self) {
        let now = self.context.publisher.now();
        let (at, reason, active) = match (self.reach.fault(now), self.reach.over()) {
            (Some((since, reason)), _) => (since, reason, true),
            (None, Some(reason)) => (now, reason.to_owned(), false),
            (None, None) => return,
        };
        if self.recorded != Some(active) && self.context.fault(at, reason, active) {
            self.recorded = Some(active);
        }
    }
}
