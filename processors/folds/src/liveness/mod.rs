//! One state machine for everything that is alive or not: targets and collectors.
//!
//! It decides up, suspect, down and suppressed, and when an outage has lasted long enough with no ancestor to blame.
//! What an incident is and who is told of it belong to the folds after it.

mod faults;
mod graph;
mod outage;
mod reach;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::Target;
use watchfold_schemas::event::{EventBody, SubjectChanged, SubjectDegraded, SubjectState};
use watchfold_schemas::observation::{Fault, Outcome, PingRowRef};
use watchfold_schemas::{SiteConfig, Span, Time};

use crate::fold::{Blame, Board, Ctx, Fact, Fold, FoldState, Moment};
use crate::rows::Row;
use crate::table::Table;
use faults::CollectorFaults;
use graph::{Graph, closure};
use outage::Outage;
use reach::{Leaves, Reach, reach};

/// The fold.
pub struct Liveness;

timers! { Liveness:
    /// A fault has lasted long enough for an incident.
    FaultDue = "fault_due",
    /// An outage has lasted long enough for an incident.
    OutageDue = "outage_due",
}

/// Everything known of one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    state: SubjectState,
    since: Time,
    root: Option<String>,
    /// Who measured it last; its deadlines run on that collector's clock.
    collector: String,
    leaves: Leaves,
    outage: Option<Outage>,
    degraded: Vec<String>,
    last_ok: Moment,
    /// Since when it is up, over lost echoes that were not outages.
    up_since: Time,
    /// The latest result that says something about it.
    last_result: Moment,
    /// Since when nothing of it could be measured.
    unmeasured_since: Option<Moment>,
}

#[derive(Debug)]
pub struct LivenessState {
    subjects: Table<Subject>,
    faults: Table<CollectorFaults>,
    /// From the configuration; never stored.
    graph: Graph,
    /// Position of each target in the configuration; never stored.
    targets: BTreeMap<String, usize>,
}

impl Default for LivenessState {
    fn default() -> LivenessState {
        LivenessState {
            subjects: Table::new("liveness/subject/"),
            faults: Table::new("liveness/faults/"),
            graph: Graph::default(),
            targets: BTreeMap::new(),
        }
    }
}

impl FoldState for LivenessState {
    stored! { subjects, faults }

    fn rebuild(&mut self, config: &SiteConfig, board: &mut Board) -> Result<(), String> {
        self.follow_config(config, board);
        Ok(())
    }
}

impl Fold for Liveness {
    const NAME: &'static str = "liveness";
    const VERSION: u32 = 1;
    type State = LivenessState;
    type Timer = Timer;

    fn row(state: &mut LivenessState, row: &Row<'_>, ctx: &mut Ctx<'_>) {
        if let Some(row) = row.ping()
            && let Some(target) = state.target(ctx.config, row.subject)
        {
            state.row(target, row, ctx);
        }
    }

    fn timer(state: &mut LivenessState, timer: Timer, key: &str, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::FaultDue => state.fault_due(key, ctx),
            Timer::OutageDue => state.outage_due(key, ctx),
        }
    }

    fn jump(state: &mut LivenessState, span: Span, ctx: &mut Ctx<'_>) {
        state.jump(span, ctx);
    }

    fn fault(state: &mut LivenessState, fault: &Fault, ctx: &mut Ctx<'_>) {
        // A fault of something that is no longer watched could never be seen to end.
        let is_watched = fault.subject.is_empty()
            || Fault::is_of_destination(&fault.subject)
            || state.targets.contains_key(&fault.subject);
        if !fault.active || is_watched {
            state.note_fault(&fault.subject, fault.active, Some(&fault.reason), ctx);
        }
    }

    fn collector_silent(state: &mut LivenessState, collector: &str, heard_at: Time, ctx: &mut Ctx<'_>) {
        state.collector_changed(collector, SubjectState::Down, heard_at, ctx);
    }

    fn collector_back(state: &mut LivenessState, collector: &str, ctx: &mut Ctx<'_>) {
        state.collector_changed(collector, SubjectState::Up, ctx.moment.at, ctx);
    }

    fn collector_forgotten(state: &mut LivenessState, collector: &str, ctx: &mut Ctx<'_>) {
        state.end_faults(collector, ctx);
    }

    fn activated(state: &mut LivenessState, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        state.activated(previous, ctx);
    }
}

impl LivenessState {
    fn follow_config(&mut self, config: &SiteConfig, board: &mut Board) {
        self.graph = Graph::new(config);
        self.targets = config
            .network
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| (target.name.clone(), index))
            .collect();
        board.occupancy_blame = self.blame_among(&closure(config, &config.occupancy.depends_on));
    }

    fn target<'c>(&self, config: &'c SiteConfig, name: &str) -> Option<&'c Target> {
        config.network.targets.get(*self.targets.get(name)?)
    }

    fn row(&mut self, target: &Target, row: &PingRowRef<'_>, ctx: &mut Ctx<'_>) {
        let moment = ctx.moment;
        let subject = self.subjects.entry_or_default(&target.name);
        if let Some(collector) = ctx.collector
            && subject.collector != collector
        {
            collector.clone_into(&mut subject.collector);
        }
        let leaf = subject.leaves.entry_or_default(row.address, row.signal);
        leaf.take(row, moment);
        let (reach, addresses_down) = reach(target, &subject.leaves);
        let blind = reach == Reach::Unknown && subject.leaves.values().any(|leaf| leaf.faulty);
        let why = (row.outcome == Outcome::Fault).then_some(row.detail).flatten();
        self.note_fault(&target.name, blind, why, ctx);
        let Some(subject) = self.subjects.get_mut(&target.name) else {
            return;
        };
        if row.outcome == Outcome::Fault {
            if subject.leaves.values().all(|leaf| leaf.faulty) && subject.unmeasured_since.is_none() {
                subject.unmeasured_since = Some(moment);
                if let Some(outage) = &mut subject.outage {
                    outage.pause(&target.name, moment, ctx);
                }
            }
            return;
        }
        subject.last_result = moment;
        if let Some(since) = subject.unmeasured_since.take()
            && let Some(outage) = &mut subject.outage
        {
            outage.unmeasured = outage.unmeasured + moment.steady.since(since.steady);
            if subject.state != SubjectState::Suppressed {
                outage.resume(&target.name, &subject.collector, moment, ctx);
            }
        }
        if row.outcome != Outcome::Ok
            && let (Some(outage), Some(message)) = (&mut subject.outage, ctx.message())
        {
            outage.blame_message(message);
        }
        self.judge(target, reach, addresses_down, ctx);
        self.children_waiting_for(&target.name, ctx);
    }

    /// Brings the target's state in line with its latest results and its ancestors.
    fn judge(&mut self, target: &Target, reach: Reach, addresses_down: Vec<String>, ctx: &mut Ctx<'_>) {
        match reach {
            Reach::Unknown => {}
            Reach::Up => {
                self.answers(target, ctx);
                let recovered = ctx.emitted().iter().any(|event| event.key == target.name);
                self.degraded(target, if recovered { Vec::new() } else { addresses_down }, ctx);
            }
            Reach::Failing { since, confirmed } => self.fails(target, since, confirmed, ctx),
        }
    }

    fn answers(&mut self, target: &Target, ctx: &mut Ctx<'_>) {
        let at = ctx.moment.at;
        let Some(subject) = self.subjects.get_mut(&target.name) else {
            return;
        };
        subject.last_ok = ctx.moment;
        let was = subject.state;
        if was == SubjectState::Up {
            return;
        }
        let outage = subject.outage.take();
        if was != SubjectState::Suspect {
            // Other addresses failed for the same reason; whether they still do, their next results tell.
            subject
                .leaves
                .values_mut()
                .filter(|leaf| leaf.failures > 0)
                .for_each(reach::Leaf::forget);
        }
        if subject.up_since == Time::EPOCH {
            subject.up_since = at;
        }
        let since = subject.up_since;
        self.change(&target.name, SubjectState::Up, since, None, None, ctx);
        ctx.cancel_timer(Timer::OutageDue, &target.name);
        // A single lost echo was never an outage; what was announced as one ends.
        if let Some(outage) = outage
            && (outage.confirmed || was != SubjectState::Suspect)
        {
            let outage = outage.end(ctx.moment);
            ctx.facts.push(Fact::OutageEnded {
                subject: target.name.clone(),
                outage,
            });
        }
        if was == SubjectState::Down {
            self.thaw(&target.name, ctx);
        }
    }

    fn fails(&mut self, target: &Target, since: Moment, confirmed: bool, ctx: &mut Ctx<'_>) {
        let blame = self.blame(&target.name);
        let suspect_ancestor = self.ancestor_is_suspect(&target.name);
        let Some(subject) = self.subjects.get_mut(&target.name) else {
            return;
        };
        let was = subject.state;
        if subject.outage.is_none() {
            let timeout = Span::from_millis(target.timeout_ms as i64);
            let last_ok = subject.last_ok;
            let cause_after = Moment {
                at: last_ok.at - timeout,
                steady: last_ok.steady - timeout,
            };
            let mut outage = Outage::new(since, cause_after);
            if let Some(message) = ctx.message() {
                outage.blame_message(message);
            }
            subject.outage = Some(outage);
        }
        if let Some(blame) = blame {
            self.suppress(&target.name, blame, ctx);
        } else if confirmed && !suspect_ancestor {
            if was == SubjectState::Down {
                return;
            }
            let detail = reach::describe(target, &subject.leaves, &[]);
            if let Some(outage) = &mut subject.outage {
                let collector = subject.collector.clone();
                outage.detail = Some(detail.clone());
                outage.reasons = reach::reasons(target, &subject.leaves);
                outage.rest = reach::describe(target, &subject.leaves, &outage.reasons);
                outage.resume(&target.name, &collector, ctx.moment, ctx);
            }
            self.change(
                &target.name,
                SubjectState::Down,
                since.at,
                None,
                Some(detail),
                ctx,
            );
            self.freeze_children(&target.name, ctx);
        } else if !matches!(was, SubjectState::Suspect | SubjectState::Down) {
            self.change(&target.name, SubjectState::Suspect, since.at, None, None, ctx);
        }
    }

    fn suppress(&mut self, name: &str, blame: Blame, ctx: &mut Ctx<'_>) {
        let Some(subject) = self.subjects.get_mut(name) else {
            return;
        };
        if let Some(outage) = &mut subject.outage {
            // What began since the ancestor was last seen well is the ancestor's doing. An incident that is already
            // open stays open and may resolve.
            if !outage.confirmed && blame.covers(outage.since, &subject.collector) {
                subject.outage = None;
                ctx.cancel_timer(Timer::OutageDue, name);
            } else {
                let moment = ctx.moment_for(&subject.collector);
                outage.pause(name, moment, ctx);
            }
        }
        if subject.state != SubjectState::Suppressed || subject.root.as_deref() != Some(&blame.root) {
            self.change(
                name,
                SubjectState::Suppressed,
                ctx.moment.at,
                Some(blame.root),
                None,
                ctx,
            );
        }
    }

    /// A target went down: what hangs on it and does not answer is its doing.
    fn freeze_children(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        for child in self.graph.descendants(name).to_vec() {
            let failing = self
                .subjects
                .get(&child)
                .is_some_and(|subject| matches!(subject.state, SubjectState::Suspect | SubjectState::Down));
            if failing && let Some(blame) = self.blame(&child) {
                self.suppress(&child, blame, ctx);
            }
        }
        self.note_blame(ctx);
    }

    /// A target is back: what was suppressed by it is judged anew.
    fn thaw(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        self.note_blame(ctx);
        for child in self.graph.descendants(name).to_vec() {
            let blame = self.blame(&child);
            let Some(subject) = self.subjects.get_mut(&child) else {
                continue;
            };
            if subject.state != SubjectState::Suppressed {
                continue;
            }
            if let Some(blame) = blame {
                self.suppress(&child, blame, ctx);
                continue;
            }
            match &mut subject.outage {
                Some(outage) => {
                    let since = outage.since.at;
                    let detail = outage.detail.clone();
                    let moment = ctx.moment_for(&subject.collector);
                    let collector = subject.collector.clone();
                    // It was down before its ancestor was, unless that cut it off after a single lost echo.
                    if detail.is_some() {
                        outage.resume(&child, &collector, moment, ctx);
                        self.change(&child, SubjectState::Down, since, None, detail, ctx);
                    } else {
                        self.change(&child, SubjectState::Suspect, since, None, None, ctx);
                    }
                }
                None => {
                    subject.leaves.values_mut().for_each(reach::Leaf::forget);
                    self.change(&child, SubjectState::Unknown, ctx.moment.at, None, None, ctx);
                }
            }
        }
    }

    fn jump(&mut self, span: Span, ctx: &mut Ctx<'_>) {
        for name in self.subjects.keys() {
            let Some(subject) = self.subjects.get(&name) else {
                continue;
            };
            if Some(subject.collector.as_str()) != ctx.collector
                || subject.outage.is_none()
                || !span.is_positive()
            {
                continue;
            }
            if let Some(outage) = self
                .subjects
                .get_mut(&name)
                .and_then(|subject| subject.outage.as_mut())
            {
                outage.unmeasured = outage.unmeasured + span;
            }
        }
    }

    fn activated(&mut self, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        self.follow_config(ctx.config, ctx.board);
        self.forget_faults_of_removed(ctx);
        for target in &previous.network.targets {
            let kept = self.target(ctx.config, &target.name);
            match kept {
                None => {
                    self.subjects.remove(&target.name);
                    ctx.cancel_timer(Timer::OutageDue, &target.name);
                    ctx.facts.push(Fact::SubjectRemoved {
                        subject: target.name.clone(),
                    });
                }
                Some(kept) => {
                    if let Some(subject) = self.subjects.get_mut(&target.name) {
                        subject.leaves.retain_of(kept);
                    }
                }
            }
        }
        self.note_blame(ctx);
    }

    fn degraded(&mut self, target: &Target, addresses_down: Vec<String>, ctx: &mut Ctx<'_>) {
        let Some(subject) = self.subjects.get(&target.name) else {
            return;
        };
        if subject.degraded == addresses_down {
            return;
        }
        if let Some(subject) = self.subjects.get_mut(&target.name) {
            subject.degraded.clone_from(&addresses_down);
        }
        let body = SubjectDegraded {
            subject: target.name.clone(),
            addresses_down,
            since: ctx.moment.at,
        };
        ctx.emit(&target.name, EventBody::SubjectDegraded(body));
    }

    fn collector_changed(&mut self, collector: &str, to: SubjectState, since: Time, ctx: &mut Ctx<'_>) {
        let name = format!("collector:{collector}");
        let from = match to {
            SubjectState::Up => SubjectState::Down,
            _ => SubjectState::Up,
        };
        let body = SubjectChanged {
            subject: name.clone(),
            from,
            to,
            since,
            root: None,
            detail: None,
        };
        ctx.emit(&name, EventBody::SubjectChanged(body));
    }

    fn change(
        &mut self,
        name: &str,
        to: SubjectState,
        since: Time,
        root: Option<String>,
        detail: Option<String>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(subject) = self.subjects.get_mut(name) else {
            return;
        };
        let from = std::mem::replace(&mut subject.state, to);
        if !matches!(to, SubjectState::Up | SubjectState::Suspect) {
            subject.up_since = Time::EPOCH;
        }
        subject.since = since;
        subject.root.clone_from(&root);
        let body = SubjectChanged {
            subject: name.to_owned(),
            from,
            to,
            since,
            root,
            detail,
        };
        ctx.emit(name, EventBody::SubjectChanged(body));
    }

    /// The topmost ancestor of `name` that is down.
    fn blame(&self, name: &str) -> Option<Blame> {
        self.blame_among(self.graph.ancestors(name))
    }

    fn blame_among(&self, ancestors: &[String]) -> Option<Blame> {
        let is_down = |name: &String| {
            self.subjects
                .get(name)
                .is_some_and(|subject| subject.state == SubjectState::Down)
        };
        let root = ancestors
            .iter()
            .find(|name| is_down(name) && !self.graph.ancestors(name).iter().any(is_down))?;
        let subject = self.subjects.get(root)?;
        let outage = subject.outage.as_ref()?;
        Some(Blame {
            root: root.clone(),
            cause_after: outage.cause_after,
            collector: subject.collector.clone(),
        })
    }

    fn note_blame(&self, ctx: &mut Ctx<'_>) {
        ctx.board.occupancy_blame = self.blame_among(&closure(ctx.config, &ctx.config.occupancy.depends_on));
    }

    /// Whether the next result of an ancestor will tell; one that cannot be measured will not.
    fn ancestor_is_suspect(&self, name: &str) -> bool {
        self.graph.ancestors(name).iter().any(|ancestor| {
            self.subjects.get(ancestor).is_some_and(|subject| {
                subject.state == SubjectState::Suspect && subject.unmeasured_since.is_none()
            })
        })
    }

    fn suppressed_by(&self, name: &str) -> Vec<String> {
        let by_it = |child: &&String| {
            self.subjects.get(child).is_some_and(|subject| {
                subject.state == SubjectState::Suppressed && subject.root.as_deref() == Some(name)
            })
        };
        self.graph
            .descendants(name)
            .iter()
            .filter(by_it)
            .cloned()
            .collect()
    }
}
