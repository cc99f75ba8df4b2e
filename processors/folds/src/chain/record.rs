//! A record of a collector that measures: what was missed before it, then its rows and the timers between them, in time order.

use watchfold_schemas::observation::Gap;
use watchfold_schemas::{Span, Time};

use super::{SiteChain, Turn};
use crate::emit::Emitter;
use crate::fold::{Moment, Step};
use crate::merge::{Timed, merge};
use crate::rows::{Row, WaitingRow};

impl SiteChain {
    /// What every record of a measuring collector does: bring it back, jump over what it did not measure, then run
    /// rows and timers up to its `through`.
    pub(super) fn collector_record(
        &mut self,
        turn: &Turn<'_>,
        rows: Vec<Row<'_>>,
        gap: Option<&Gap>,
        out: &mut Emitter,
    ) {
        let (collector, through) = (turn.collector, turn.through);
        if !self.clocks.admits(collector) {
            self.counters.collectors_refused += 1;
            return;
        }
        self.hear(turn, out);
        let first = rows.first().map_or(through, |row| row.at().min(through));
        let clock = self.clocks.collectors.entry_or_default(collector);
        if clock.measures {
            self.jump_over_unmeasured(turn, first, gap, out);
        } else {
            clock.measures = true;
            clock.incarnation = turn.incarnation;
            clock.through = first;
        }
        let waiting = match self.clocks.collectors.get_mut(collector) {
            Some(clock) => std::mem::take(&mut clock.waiting),
            None => Vec::new(),
        };
        let merged = merge(waiting.iter().map(WaitingRow::as_row), rows, through);
        self.counters.waiting_overflows += merged.forced;
        self.run_rows(turn, merged.rows, merged.until, out);
        if let Some(shift) = self.shift_of(collector) {
            self.run_timers(turn, Moment::of_wall(through, shift), shift, out);
        }
        if let Some(clock) = self.clocks.collectors.get_mut(collector) {
            clock.through = clock.through.max(through);
        }
    }

    fn hear(&mut self, turn: &Turn<'_>, out: &mut Emitter) {
        let now = self.clocks.now();
        let clock = self.clocks.collectors.entry_or_default(turn.collector);
        clock.heard = now;
        if std::mem::take(&mut clock.silent) {
            let step = Step::CollectorBack {
                collector: turn.collector,
            };
            self.run(step, now, Some(turn.collector), turn.cause, out);
        }
    }

    fn jump_over_unmeasured(&mut self, turn: &Turn<'_>, first: Time, gap: Option<&Gap>, out: &mut Emitter) {
        let silence = Span::from_millis(self.config.network.silence_ms as i64);
        let Some(clock) = self.clocks.collectors.get(turn.collector) else {
            return;
        };
        let reborn = turn.incarnation != clock.incarnation;
        if reborn && !clock.waiting.is_empty() {
            self.flush_waiting(turn, out);
        }
        let Some(clock) = self.clocks.collectors.get_mut(turn.collector) else {
            return;
        };
        let mut span = first.since(clock.through);
        if let Some(gap) = gap {
            // A new incarnation begins on a clock of its own, so the old one's times say nothing about the gap's.
            span = if reborn {
                gap.to.since(clock.through)
            } else {
                gap.to.since(clock.through.max(gap.from)).max(Span::ZERO)
            };
        } else if !reborn && span <= silence {
            return;
        }
        clock.incarnation = turn.incarnation;
        clock.shift = clock.shift + span;
        clock.through = clock.through + span;
        let moment = clock.moment(clock.through);
        self.run(Step::Jump { span }, moment, Some(turn.collector), turn.cause, out);
    }

    /// The last rows of an incarnation that ended: nothing earlier can come any more.
    fn flush_waiting(&mut self, turn: &Turn<'_>, out: &mut Emitter) {
        let Some(clock) = self.clocks.collectors.get_mut(turn.collector) else {
            return;
        };
        let waiting = std::mem::take(&mut clock.waiting);
        let rows: Vec<Row<'_>> = waiting.iter().map(WaitingRow::as_row).collect();
        let Some(last) = rows.iter().map(Timed::at).max() else {
            return;
        };
        self.run_rows(turn, rows, last, out);
        if let Some(clock) = self.clocks.collectors.get_mut(turn.collector) {
            clock.through = clock.through.max(last);
        }
    }

    /// Rows up to `through`, each after the timers that are due by its time; the rest waits.
    fn run_rows(&mut self, turn: &Turn<'_>, rows: Vec<Row<'_>>, through: Time, out: &mut Emitter) {
        // No fold moves a clock, so it stays as it is for all of the rows.
        let Some(shift) = self.shift_of(turn.collector) else {
            return;
        };
        for row in rows {
            if row.at() > through {
                if let Some(clock) = self.clocks.collectors.get_mut(turn.collector) {
                    clock.waiting.push(row.to_waiting());
                }
                continue;
            }
            let moment = Moment::of_wall(row.at(), shift);
            self.run_timers(turn, moment, shift, out);
            self.run(Step::Row(row), moment, Some(turn.collector), turn.cause, out);
        }
    }

    fn run_timers(&mut self, turn: &Turn<'_>, until: Moment, shift: Span, out: &mut Emitter) {
        while let Some(timer) = self.timers.pop_due(&turn.clock, until.steady) {
            let moment = Moment::of_steady(timer.deadline, shift);
            self.run_timer(&timer, moment, Some(turn.collector), out);
        }
    }

    /// How far the wall clock of a collector is ahead of its steady one.
    fn shift_of(&self, collector: &str) -> Option<Span> {
        self.clocks.collectors.get(collector).map(|clock| clock.shift)
    }
}
