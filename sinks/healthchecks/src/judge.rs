//! Whether every stage advances. Pure: what is known of the stages goes in, a verdict comes out.

use std::time::Duration;

use watchfold_kit::ProgressSnapshot;

/// What a stage does, and so how long it may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Collector,
    Processor,
    Sink,
}

impl Role {
    /// How long a stage with something to do may stand still. A collector measures every few seconds; a processor
    /// may be rebuilding; a sink may be told to wait by the far side.
    pub const fn limit_default(self) -> Duration {
        match self {
            Role::Collector => Duration::from_secs(30),
            Role::Processor => Duration::from_secs(60),
            Role::Sink => Duration::from_secs(300),
        }
    }

    /// How long something may be wrong with a stage that advances. A destination that takes nothing from a sink holds no
    /// stage up, and nobody else may learn of it; hiccups of services are shorter. `None` where standing still is all
    /// that counts.
    pub const fn failing_limit(self) -> Option<Duration> {
        match self {
            Role::Collector | Role::Processor => None,
            Role::Sink => Some(Duration::from_secs(180)),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Role::Collector => "collector",
            Role::Processor => "processor",
            Role::Sink => "sink",
        }
    }
}

/// One stage and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub role: Role,
    pub limit: Duration,
    pub progress: ProgressSnapshot,
}

impl Stage {
    pub fn new(role: Role, progress: ProgressSnapshot) -> Stage {
        Stage {
            role,
            limit: role.limit_default(),
            progress,
        }
    }

    /// How long it has stood still: a stage that never advanced has done so since the start.
    pub fn still_for(&self, running_for: Duration) -> Duration {
        self.progress.advanced_age.unwrap_or(running_for)
    }

    /// Whether something has been wrong with it for too long.
    pub fn fails(&self) -> bool {
        let limit = self.role.failing_limit();
        limit.is_some_and(|limit| self.progress.failing_age.is_some_and(|age| age > limit))
    }
}

/// What [`judge`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All advance.
    Advancing,
    /// Some have not begun, and have time left to.
    Starting,
    /// These stand still, or fail; by their place in the input.
    Stalled(Vec<usize>),
    /// Nothing reports its progress, so nothing can be vouched for.
    Blind,
}

/// A stage advances when it moved, or had nothing left to do, within its limit, and is not failing for longer than its
/// role may.
pub fn judge(stages: &[Stage], running_for: Duration) -> Verdict {
    if stages.is_empty() {
        return Verdict::Blind;
    }
    let stalled: Vec<usize> = (0..stages.len())
        .filter(|index| {
            let stage = &stages[*index];
            stage.still_for(running_for) > stage.limit || stage.fails()
        })
        .collect();
    if !stalled.is_empty() {
        return Verdict::Stalled(stalled);
    }
    match stages.iter().all(|stage| stage.progress.advanced_age.is_some()) {
        true => Verdict::Advancing,
        false => Verdict::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(role: Role, age_s: Option<u64>) -> Stage {
        let progress = ProgressSnapshot {
            name: role.name().into(),
            position: 1,
            head: 2,
            advanced_age: age_s.map(Duration::from_secs),
            detail: None,
            failing_age: None,
            note: None,
            configured: true,
        };
        Stage::new(role, progress)
    }

    fn check(ages: [Option<u64>; 3], running_s: u64, want: Verdict) {
        let roles = [Role::Collector, Role::Processor, Role::Sink];
        let stages: Vec<Stage> = roles
            .into_iter()
            .zip(ages)
            .map(|(role, age)| stage(role, age))
            .collect();
        assert_eq!(
            judge(&stages, Duration::from_secs(running_s)),
            want,
            "{ages:?} after {running_s} s"
        );
    }

    #[test]
    fn all_must_advance_each_within_its_own_limit() {
        check([Some(1), Some(1), Some(1)], 1_000, Verdict::Advancing);
        check([Some(30), Some(60), Some(300)], 1_000, Verdict::Advancing);
        check([Some(31), Some(60), Some(300)], 1_000, Verdict::Stalled(vec![0]));
        check([Some(30), Some(61), Some(300)], 1_000, Verdict::Stalled(vec![1]));
        check([Some(30), Some(60), Some(301)], 1_000, Verdict::Stalled(vec![2]));
        check(
            [Some(31), Some(1), Some(301)],
            1_000,
            Verdict::Stalled(vec![0, 2]),
        );
    }

    #[test]
    fn a_sink_that_fails_for_long_is_not_healthy_though_it_advances() {
        let failing = |role, age_s| {
            let mut stage = stage(role, Some(1));
            stage.progress.failing_age = Some(Duration::from_secs(age_s));
            judge(&[stage], Duration::from_secs(1_000))
        };
        assert_eq!(failing(Role::Sink, 180), Verdict::Advancing);
        assert_eq!(failing(Role::Sink, 181), Verdict::Stalled(vec![0]));
        assert_eq!(failing(Role::Collector, 900), Verdict::Advancing);
    }

    #[test]
    fn a_stage_that_never_began_has_its_limit_and_no_more() {
        check([Some(1), None, Some(1)], 5, Verdict::Starting);
        check([Some(1), None, Some(1)], 60, Verdict::Starting);
        check([Some(1), None, Some(1)], 61, Verdict::Stalled(vec![1]));
    }

    #[test]
    fn nothing_that_reports_is_not_health() {
        assert_eq!(judge(&[], Duration::from_secs(1)), Verdict::Blind);
    }
}
