//! What the probes of one target gave: its addresses, live samples and minutes, and when it was measured at all.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::Signal;
use watchfold_schemas::observation::{Outcome, PingRowRef};
use watchfold_schemas::{Span, Time};

use super::history::Minutes;

/// Addresses kept of one target, by the latest answer.
pub const ADDRESSES_MAX: usize = 64;
/// Live samples of one target: 30 minutes …
pub const SAMPLES_SPAN: Span = Span::from_seconds(30 * 60);
/// … and no more than this many, however short the interval.
pub const SAMPLES_MAX: usize = 1_800;
/// Spans of measuring kept of one target …
pub const SPANS_MAX: usize = 256;
/// … and how long before its latest result: rollups tell of what was before.
const SPANS_KEPT: Span = Span::from_seconds(2 * 3_600);
/// Results of a target further apart than this many of its intervals leave the time between them unmeasured …
pub const UNMEASURED_INTERVALS: i64 = 3;
/// … but not if they are closer than this: a round may be late on a busy machine.
const UNMEASURED_MIN: Span = Span::from_seconds(15);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetSeen {
    pub addresses: BTreeMap<(String, Signal), AddressSeen>,
    pub rtt_us: Option<u32>,
    pub latest: Option<Outcome>,
    pub last_measured_at: Option<Time>,
    pub samples: VecDeque<(Time, Outcome, Option<u32>)>,
    pub minutes: Minutes,
    jitter_from_us: Option<u32>,
    /// When it was measured lately, without the time that nobody measured: (first, last), oldest first.
    pub measured: VecDeque<(Time, Time)>,
    /// Of the collector that measured it last; another one begins another span.
    incarnation: u64,
    pub interval_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressSeen {
    pub at: Time,
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
    pub detail: Option<String>,
}

impl TargetSeen {
    /// Lost of the samples of [`SAMPLES_SPAN`] that were measured, in thousandths: what the page draws over the same time.
    pub fn loss_permille(&self, now: Time) -> Option<u64> {
        let recent = self.samples.iter().filter(|(at, ..)| *at >= now - SAMPLES_SPAN);
        let measured = recent.filter(|(_, outcome, _)| *outcome != Outcome::Fault);
        let (mut all, mut lost) = (0_u64, 0_u64);
        for (_, outcome, _) in measured {
            all += 1;
            lost += u64::from(*outcome != Outcome::Ok);
        }
        (lost * 1_000).checked_div(all)
    }

    /// Takes the rows of one round, in time order, and gives the sample that stands for them.
    pub fn measure(
        &mut self,
        incarnation: u64,
        rows: &[&PingRowRef<'_>],
        minutes_kept: usize,
    ) -> Option<(Time, Outcome, Option<u32>)> {
        for row in rows {
            self.addresses.insert(
                (row.address.to_owned(), row.signal),
                AddressSeen {
                    at: row.at,
                    outcome: row.outcome,
                    rtt_us: row.rtt_us,
                    detail: row.in_words(),
                },
            );
            if row.outcome != Outcome::Fault {
                self.last_measured_at = self.last_measured_at.max(Some(row.at));
                self.note_measured(incarnation, row.at);
            }
            if let Some(minute) = self.minutes.entry(row.at, minutes_kept) {
                minute.probes += 1;
                minute.answered += u64::from(row.outcome == Outcome::Ok);
                minute.faults += u64::from(row.outcome == Outcome::Fault);
                if let Some(rtt_us) = row.rtt_us {
                    minute.rtt.record(rtt_us);
                }
            }
        }
        while self.addresses.len() > ADDRESSES_MAX {
            let oldest = self
                .addresses
                .iter()
                .min_by_key(|(key, seen)| (seen.at, *key))
                .map(|(key, _)| key.clone());
            self.addresses.remove(&oldest?);
        }
        let best = best_of(rows)?;
        let sample = (best.at, best.outcome, best.rtt_us);
        self.rtt_us = best.rtt_us;
        self.latest = Some(best.outcome);
        self.jitter(best, minutes_kept);
        self.samples.push_back(sample);
        let oldest = best.at - SAMPLES_SPAN;
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(|(at, ..)| *at < oldest) {
            self.samples.pop_front();
        }
        Some(sample)
    }

    /// Extends the span of measuring, or begins another one after a gap. A fault is no measurement, and what another
    /// incarnation measured says nothing about the time between the two.
    fn note_measured(&mut self, incarnation: u64, at: Time) {
        let interval_ms = i64::try_from(self.interval_ms).unwrap_or(i64::MAX);
        let gap = Span::from_millis(interval_ms.saturating_mul(UNMEASURED_INTERVALS)).max(UNMEASURED_MIN);
        let goes_on = self.incarnation == incarnation;
        match self.measured.back_mut() {
            // Spans never overlap: what was spooled and comes late counts once its rollup is there.
            Some((_, last)) if at <= *last => return,
            Some((_, last)) if goes_on && at.since(*last) <= gap => *last = at,
            _ => self.measured.push_back((at, at)),
        }
        self.incarnation = incarnation;
        let oldest = at - SPANS_KEPT;
        while self.measured.len() > SPANS_MAX || self.measured.front().is_some_and(|(_, last)| *last < oldest)
        {
            self.measured.pop_front();
        }
    }

    fn jitter(&mut self, best: &PingRowRef<'_>, minutes_kept: usize) {
        let before = std::mem::replace(&mut self.jitter_from_us, best.rtt_us);
        if let (Some(before), Some(rtt_us)) = (before, best.rtt_us)
            && let Some(minute) = self.minutes.entry(best.at, minutes_kept)
        {
            minute.jitter_sum_us += u64::from(before.abs_diff(rtt_us));
            minute.jitter_count += 1;
        }
    }
}

/// The fastest answer, or else the first row that says something about the target.
fn best_of<'a, 'r>(rows: &[&'a PingRowRef<'r>]) -> Option<&'a PingRowRef<'r>> {
    let answered = rows.iter().filter(|row| row.outcome == Outcome::Ok);
    let fastest = answered.min_by_key(|row| (row.rtt_us.is_none(), row.rtt_us));
    let failed = || rows.iter().find(|row| row.outcome != Outcome::Fault);
    fastest.or_else(failed).or(rows.first()).copied()
}
