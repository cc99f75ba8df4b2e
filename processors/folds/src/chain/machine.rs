//! The site chain as a state machine: a record becomes the steps of its kind; state goes out and comes in as entries.

use watchfold_schemas::Chain;
use watchfold_schemas::event::Event;
use watchfold_schemas::observation::{Body, Observation};
use watchfold_schemas::origin::Cause;

use super::{SiteChain, Turn};
use crate::emit::Emitter;
use crate::fold::Step;
use crate::machine::{LoadError, StateEntries, StateMachine, check_versions};
use crate::rows::Row;
use crate::table::Change;

impl StateMachine for SiteChain {
    fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        let message = observation.message_id();
        let mut out = Emitter::new(Chain::Site, &self.site, sequence, Some(message.clone()));
        let cause = Cause::Message(message);
        match &observation.body {
            Body::Tick(tick) => self.tick(tick, &cause, &mut out),
            Body::Activation(activation) => self.activate(activation, &cause, &mut out),
            Body::Operator(act) => self.run_now(Step::Operator(act), &cause, &mut out),
            Body::Parity(parity) => self.run_now(Step::Parity(parity), &cause, &mut out),
            Body::Finding(finding) => self.finding(finding, observation.observed_at, &cause, &mut out),
            // Packets and verdicts stand in another stream.
            Body::Receipt(_) | Body::Batch(_) | Body::Verdict(_) => {}
            Body::Rules(activation) => self.activate_rules(activation, &cause, &mut out),
            Body::PingRound(round) => {
                let rows = round.rows().unwrap_or_else(|_| {
                    self.counters.malformed_rounds += 1;
                    Vec::new()
                });
                let rows = rows.into_iter().map(Row::Ping).collect();
                self.collector_record(&Turn::new(observation, &cause), rows, None, &mut out);
            }
            Body::Quiet => self.collector_record(&Turn::new(observation, &cause), Vec::new(), None, &mut out),
            Body::Fault(fault) => {
                let turn = Turn::new(observation, &cause);
                if self.clocks.measures(turn.collector) {
                    self.collector_record(&turn, Vec::new(), None, &mut out);
                    self.fault(&turn, fault, &mut out);
                } else {
                    self.fault_of_other(&turn, fault, &mut out);
                }
            }
            Body::Gap(gap) => {
                self.collector_record(&Turn::new(observation, &cause), Vec::new(), Some(gap), &mut out);
            }
        }
        self.hours.add(&out.events);
        if matches!(observation.body, Body::Tick(_)) {
            self.end_hour(&cause, &mut out);
        }
        out.events
    }

    /// Every collector's next record shows the hole in its times, and its clock jumps over it. A chain that has no state
    /// yet misses nothing.
    fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event> {
        if !self.clocks.has_ticked() {
            return Vec::new();
        }
        let mut out = Emitter::new(Chain::Site, &self.site, to, None);
        let now = self.clocks.now();
        // No message is left to name. Another loss before the next tick adds nothing to what is told.
        let cause = Cause::Timer {
            timer: "chain/lost".to_owned(),
            deadline: now.steady,
        };
        let records = to.saturating_sub(from) + 1;
        self.run(Step::Lost { records }, now, None, &cause, &mut out);
        self.hours.add(&out.events);
        out.events
    }

    fn lacks(&self) -> Option<&'static str> {
        let missing = self.stored_config.get("").is_none();
        missing.then_some(
            "the log holds records of this site and no configuration, so nothing is evaluated: `watchfold up` records \
             one within seconds; where it does not run, run `watchfold config activate FILE`",
        )
    }

    fn versions(&self) -> Vec<(String, u32)> {
        SiteChain::own_versions()
            .map(|(name, version)| (name.to_owned(), version))
            .collect()
    }

    fn drain_dirty(&mut self) -> Vec<Change> {
        let mut out = Vec::new();
        self.stored_config.drain_dirty(&mut out);
        self.clocks.drain_dirty(&mut out);
        self.timers.drain_dirty(&mut out);
        self.hours.drain_dirty(&mut out);
        self.folds.drain_dirty(&mut out);
        out
    }

    fn entries(&self) -> StateEntries {
        let mut out = Vec::new();
        self.stored_config.store_all(&mut out);
        self.clocks.store_all(&mut out);
        self.timers.store_all(&mut out);
        self.hours.store_all(&mut out);
        self.folds.store_all(&mut out);
        out
    }

    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        self.reset();
        check_versions(self.versions(), versions)?;
        let loaded = entries
            .into_iter()
            .try_for_each(|(key, bytes)| self.load_entry(versions, &key, &bytes));
        if let Err(error) = loaded {
            self.reset();
            return Err(error);
        }
        if let Some(config) = self.stored_config.get("") {
            self.config = config.clone();
        }
        if let Err(damage) = self.folds.rebuild(&self.config, &mut self.board) {
            self.reset();
            return Err(LoadError::Damaged(damage));
        }
        self.hours.resume();
        Ok(())
    }

    fn reset(&mut self) {
        *self = SiteChain::new(&self.site);
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("malformed_rounds", self.counters.malformed_rounds),
            ("waiting_overflows", self.counters.waiting_overflows),
            ("collectors_refused", self.counters.collectors_refused),
        ];
        own.into_iter().chain(self.folds.counts()).collect()
    }
}

impl SiteChain {
    /// Takes over a stored entry of the chain itself or of a fold.
    fn load_entry(&mut self, versions: &[(String, u32)], key: &[u8], bytes: &[u8]) -> Result<(), LoadError> {
        match self.take_entry(versions, key, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LoadError::UnknownEntry {
                key: String::from_utf8_lossy(key).into_owned(),
            }),
            Err(damage) => Err(LoadError::Damaged(damage)),
        }
    }

    fn take_entry(&mut self, versions: &[(String, u32)], key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        Ok(self.stored_config.load(key, bytes)?
            || self.clocks.load(key, bytes)?
            || self.timers.load(key, bytes)?
            || self.hours.load(key, bytes)?
            || self.folds.load(versions, key, bytes)?)
    }
}
