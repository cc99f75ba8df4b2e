//! Hour by hour: how many probes each target answered, how fast, and how long it was up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{EventBody, RttHistogram, SubjectState, TargetRollup};
use watchfold_schemas::observation::{Outcome, PC_SUBJECT_PREFIX, PingRowRef};
use watchfold_schemas::{SiteConfig, Span, Time};

use crate::fold::{Ctx, Fold, FoldState, NoTimer};
use crate::rows::Row;
use crate::table::Table;

/// The length of a rollup.
const HOUR: Span = Span::from_seconds(3_600);

/// Results further apart than this leave the time between them unmeasured, whatever the interval.
const MEASURED_MAX: Span = Span::from_seconds(120);

/// The fold.
pub struct History;

/// The running hour of one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hour {
    hour: Time,
    collector: String,
    probes: u64,
    answered: u64,
    faults: u64,
    rtt: RttHistogram,
    jitter_sum_us: u64,
    jitter_count: u64,
    last_rtt_us: Option<u32>,
    state: SubjectState,
    /// Up to when time was given to states.
    counted_to: Time,
    up: Span,
    down: Span,
    suppressed: Span,
    unmeasured: Span,
    /// Not yet known whether it was up or down.
    suspect: Span,
}

#[derive(Debug)]
pub struct HistoryState {
    hours: Table<Hour>,
}

impl Default for HistoryState {
    fn default() -> HistoryState {
        HistoryState {
            hours: Table::new("history/hour/"),
        }
    }
}

impl FoldState for HistoryState {
    stored! { hours }
}

impl Fold for History {
    const NAME: &'static str = "history";
    const VERSION: u32 = 2;
    type State = HistoryState;
    type Timer = NoTimer;

    fn row(state: &mut HistoryState, row: &Row<'_>, ctx: &mut Ctx<'_>) {
        if let Some(row) = row.ping()
            && !row.subject.starts_with(PC_SUBJECT_PREFIX)
        {
            state.row(row, ctx);
        }
    }

    fn jump(state: &mut HistoryState, span: Span, ctx: &mut Ctx<'_>) {
        state.jump(span, ctx);
    }

    fn activated(state: &mut HistoryState, _previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        state.forget_removed(ctx);
    }

    fn after(state: &mut HistoryState, ctx: &mut Ctx<'_>) {
        state.follow_changes(ctx);
    }
}

impl HistoryState {
    fn row(&mut self, row: &PingRowRef<'_>, ctx: &mut Ctx<'_>) {
        // Whose hour is running is configured; only others are looked up.
        let mut targets = ctx.config.network.targets.iter();
        if self.hours.get(row.subject).is_none() && !targets.any(|target| target.name == row.subject) {
            return;
        }
        let at = ctx.moment.at;
        let mut finished = Vec::new();
        let hour = self.hours.entry_or_default(row.subject);
        // A fault says nothing about the target, so it measures no time; it only ends the hour that is over.
        if row.outcome != Outcome::Fault || hour.is_over(at) {
            hour.count_to(at, &mut finished);
        }
        if let Some(collector) = ctx.collector
            && hour.collector != collector
        {
            collector.clone_into(&mut hour.collector);
        }
        hour.probes += 1;
        match row.outcome {
            Outcome::Ok => hour.answered += 1,
            Outcome::Fault => hour.faults += 1,
            Outcome::TimedOut | Outcome::Unreachable | Outcome::Refused | Outcome::Unexpected => {}
        }
        if let Some(rtt_us) = row.rtt_us {
            hour.rtt.record(rtt_us);
            if let Some(last) = hour.last_rtt_us.replace(rtt_us) {
                hour.jitter_sum_us += u64::from(last.abs_diff(rtt_us));
                hour.jitter_count += 1;
            }
        }
        for finished in finished {
            let rollup = finished.rollup(row.subject);
            ctx.emit(row.subject, EventBody::TargetRollup(rollup));
        }
    }

    /// Gives the time so far to the state before a change.
    fn follow_changes(&mut self, ctx: &mut Ctx<'_>) {
        let changes: BTreeMap<String, SubjectState> = ctx
            .emitted()
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::SubjectChanged(change) => Some((change.subject.clone(), change.to)),
                _ => None,
            })
            .collect();
        for (subject, to) in changes {
            let Some(hour) = self.hours.get_mut(&subject) else {
                continue;
            };
            let mut finished = Vec::new();
            hour.count_to(ctx.moment.at, &mut finished);
            hour.state = to;
            let suspect = std::mem::take(&mut hour.suspect);
            match to {
                SubjectState::Down => hour.down = hour.down + suspect,
                SubjectState::Suspect => hour.suspect = suspect,
                SubjectState::Suppressed | SubjectState::Frozen => {
                    hour.suppressed = hour.suppressed + suspect
                }
                SubjectState::Up | SubjectState::Unknown => hour.up = hour.up + suspect,
            }
            for finished in finished {
                let rollup = finished.rollup(&subject);
                ctx.emit(&subject, EventBody::TargetRollup(rollup));
            }
        }
    }

    fn jump(&mut self, span: Span, ctx: &Ctx<'_>) {
        for key in self.hours.keys() {
            if self
                .hours
                .get(&key)
                .is_none_or(|hour| Some(hour.collector.as_str()) != ctx.collector)
            {
                continue;
            }
            if let Some(hour) = self.hours.get_mut(&key) {
                // Of this hour, at most what is left of it; hours that nobody measured have no rollup.
                let left = (hour.hour + HOUR).since(hour.counted_to);
                hour.unmeasured = hour.unmeasured + span.min(left).max(Span::ZERO);
                hour.counted_to = hour.counted_to + span;
            }
        }
    }

    fn forget_removed(&mut self, ctx: &Ctx<'_>) {
        for key in self.hours.keys() {
            if !ctx.config.network.targets.iter().any(|target| target.name == key) {
                self.hours.remove(&key);
            }
        }
    }
}

impl Hour {
    /// Counts the time up to `at`; hours that end before it go into `finished`.
    fn count_to(&mut self, at: Time, finished: &mut Vec<Hour>) {
        if self.counted_to == Time::EPOCH {
            self.counted_to = at;
            self.hour = at.floor(HOUR);
            return;
        }
        let is_measured = at.since(self.counted_to) <= MEASURED_MAX;
        if self.is_over(at) {
            let end = self.hour + HOUR;
            self.give(end.min(at).since(self.counted_to), is_measured);
            finished.push(std::mem::take(self));
            self.hour = at.floor(HOUR);
            self.counted_to = self.hour;
            if let Some(last) = finished.last() {
                self.state = last.state;
                self.last_rtt_us = last.last_rtt_us;
                self.collector.clone_from(&last.collector);
                // A jump may have counted into this hour already.
                self.counted_to = self.hour.max(last.counted_to.min(at));
                self.unmeasured = self.counted_to.since(self.hour);
            }
        }
        self.give(at.since(self.counted_to), is_measured);
        self.counted_to = self.counted_to.max(at);
    }

    /// Whether `at` lies in another hour.
    fn is_over(&self, at: Time) -> bool {
        self.counted_to != Time::EPOCH && (at >= self.hour + HOUR || at < self.hour)
    }

    fn give(&mut self, span: Span, is_measured: bool) {
        let span = span.max(Span::ZERO);
        if !is_measured {
            self.unmeasured = self.unmeasured + span;
            return;
        }
        let of_state = match self.state {
            SubjectState::Up => &mut self.up,
            SubjectState::Suspect => &mut self.suspect,
            SubjectState::Down => &mut self.down,
            SubjectState::Suppressed | SubjectState::Frozen => &mut self.suppressed,
            SubjectState::Unknown => &mut self.unmeasured,
        };
        *of_state = *of_state + span;
    }

    fn rollup(self, subject: &str) -> TargetRollup {
        TargetRollup {
            subject: subject.to_owned(),
            hour: self.hour,
            probes: self.probes,
            answered: self.answered,
            faults: self.faults,
            jitter_us: self
                .jitter_sum_us
                .checked_div(self.jitter_count)
                .unwrap_or_default(),
            rtt: self.rtt,
            up_ms: (self.up + self.suspect).as_millis() as u64,
            down_ms: self.down.as_millis() as u64,
            suppressed_ms: self.suppressed.as_millis() as u64,
            unmeasured_ms: self.unmeasured.as_millis() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    /// An hour of a target that is up and was counted at each of `counted`, and the hours that ended meanwhile.
    fn counted(counted: &[i64]) -> (Hour, Vec<Hour>) {
        let (mut hour, mut finished) = (Hour::default(), Vec::new());
        for at in counted {
            hour.count_to(seconds(*at), &mut finished);
            hour.state = SubjectState::Up;
        }
        (hour, finished)
    }

    #[test]
    fn an_absence_counts_as_unmeasured() {
        let (hour, finished) = counted(&[10, 70, 880, 910]);
        assert!(finished.is_empty());
        assert_eq!(hour.up, Span::from_seconds(60 + 30));
        assert_eq!(hour.unmeasured, Span::from_seconds(810));
    }

    #[test]
    fn an_absence_over_the_end_of_an_hour_counts_as_unmeasured_on_both_sides() {
        let (hour, finished) = counted(&[3_000, 3_060, 7_500, 7_560]);
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].up, Span::from_seconds(60));
        assert_eq!(finished[0].unmeasured, Span::from_seconds(540));
        assert_eq!((hour.hour, hour.up), (seconds(7_200), Span::from_seconds(60)));
        assert_eq!(hour.unmeasured, Span::from_seconds(300));
    }

    #[test]
    fn measuring_over_the_end_of_an_hour_loses_nothing() {
        let (hour, finished) = counted(&[3_500, 3_590, 3_610]);
        assert_eq!(finished[0].up, Span::from_seconds(100));
        assert_eq!((hour.up, hour.unmeasured), (Span::from_seconds(10), Span::ZERO));
    }
}
