//! The packet chain as a state machine: a record goes to its capture point; state goes out and comes in as entries.

use watchfold_schemas::event::Event;
use watchfold_schemas::observation::{Body, Observation};
use watchfold_schemas::packets::CaptureCounts;
use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{Chain, decode_event};

use super::stored::PACKETS_VERSION;
use super::{Begun, PacketChain};
use crate::machine::{LoadError, StateEntries, StateMachine, check_versions};
use crate::packets::emit::Emitter;
use crate::packets::findings::finding_of;
use crate::packets::store::entries_of;
use crate::table::Change;

impl StateMachine for PacketChain {
    /// Without rules nothing follows.
    fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        if self.begun.get("").is_none() {
            let began_ms = u64::try_from(observation.observed_at.as_millis()).unwrap_or_default();
            self.begun.insert("", Begun { began_ms });
        }
        let message = observation.origin.message_id();
        let mut out = Emitter::new(Chain::Packets, &self.site, sequence, Some(message.clone()));
        match &observation.body {
            Body::Batch(batch) => {
                self.note_counts(&observation.origin.collector, batch.counts);
                self.record(observation, Some(batch), None, &mut out);
            }
            Body::Gap(gap) => self.record(observation, None, Some(gap), &mut out),
            Body::Fault(_) | Body::Quiet => self.record(observation, None, None, &mut out),
            Body::Verdict(verdict) => {
                self.verdicts.learn(verdict);
                self.unstored.verdicts = true;
            }
            Body::Rules(activation) if activation.chain == Chain::Packets => {
                self.activate(activation, message, &mut out);
            }
            // These stand in another stream, or are rules of another chain.
            Body::Rules(_)
            | Body::PingRound(_)
            | Body::Tick(_)
            | Body::Operator(_)
            | Body::Receipt(_)
            | Body::Activation(_)
            | Body::Parity(_)
            | Body::Finding(_) => {}
        }
        out.events
    }

    /// Each collector's next record shows how long it was.
    fn apply_lost(&mut self, _from: u64, _to: u64) -> Vec<Event> {
        for collector in self.clocks.captures.keys() {
            if let Some(clock) = self.clocks.captures.get_mut(&collector) {
                clock.lost = true;
            }
        }
        Vec::new()
    }

    fn lacks(&self) -> Option<&'static str> {
        self.book.is_none().then_some(
            "the log holds packets of this site and no rules, so no packet is evaluated: `watchfold up` records them \
             within a minute; where it does not run, run `watchfold config activate FILE`",
        )
    }

    fn versions(&self) -> Vec<(String, u32)> {
        vec![("packets".to_owned(), PACKETS_VERSION)]
    }

    fn drain_dirty(&mut self) -> Vec<Change> {
        let mut out = Vec::new();
        self.begun.drain_dirty(&mut out);
        self.clocks.drain_dirty(&mut out);
        let unstored = std::mem::take(&mut self.unstored);
        let blobs = self.blobs_of(Some(&unstored));
        out.extend(self.blobs.changes(blobs, &unstored.gone));
        for point in self.points.values_mut() {
            for windows in point.windows.iter_mut().flatten() {
                windows.mark_clean();
            }
        }
        out
    }

    fn entries(&self) -> StateEntries {
        let mut out = Vec::new();
        self.begun.store_all(&mut out);
        self.clocks.store_all(&mut out);
        entries_of(self.blobs_of(None), &mut out);
        out
    }

    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        self.reset();
        check_versions(self.versions(), versions)?;
        let loaded = self.take_entries(entries);
        if loaded.is_err() {
            self.reset();
        }
        loaded
    }

    fn reset(&mut self) {
        *self = PacketChain::new(&self.site);
    }

    /// An attack that began, grew or ended becomes a finding for the site chain, unless its rule only records.
    fn told_before(&self, event: &StoredEvent) -> Option<Observation> {
        // What most events are is seen without decoding them.
        let kind = event.subject.split('.').nth(4)?;
        if !matches!(kind, "attack_began" | "attack_grew" | "attack_ended") {
            return None;
        }
        finding_of(&decode_event(&event.payload).ok()?, self.began_ms())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counters();
        let sum = |of: fn(&CaptureCounts) -> u64| self.counts.values().map(of).sum();
        vec![
            ("packets", counters.packets),
            ("malformed_batches", counters.malformed_batches),
            ("late_packets", counters.late_packets),
            ("ahead_packets", counters.ahead_packets),
            ("duplicate_packets", counters.duplicate_packets),
            (
                "originals_evicted",
                counters.originals_evicted + sum(|counts| counts.originals_evicted),
            ),
            ("captures_forgotten", counters.captures_forgotten),
            ("windows_evicted", counters.windows_evicted),
            ("batches_without_heads", counters.batches_without_heads),
            ("rules_refused", counters.rules_refused),
            ("lookups_withheld", counters.lookups_withheld),
            ("facts_evicted", counters.facts_evicted),
            ("received", sum(|counts| counts.received)),
            ("dropped_by_kernel", sum(|counts| counts.dropped_by_kernel)),
            ("dropped_by_interface", sum(|counts| counts.dropped_by_interface)),
            ("dropped_here", sum(|counts| counts.dropped_here)),
            ("undecoded", sum(|counts| counts.undecoded)),
        ]
    }
}
