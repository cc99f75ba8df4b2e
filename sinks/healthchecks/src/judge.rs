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
}

/// What [`judge`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All advance.
    Advancing,
    /// Some have not begun, and have time left to.
    Starting,
    /// These stand still; by their place in the input.
    Stalled(Vec<usize>),
    /// Nothing reports its progress, so nothing can be vouched for.
    Blind,
}

/// A stage advances when it moved, or had nothing left to do, within its limit.
pub fn judge(stages: &[Stage], running_for: Duration) -> Verdict {
    if stages.is_empty() {
        return Verdict::Blind;
    }
    let stalled: Vec<usize> = (0..stages.len())
        .filter(|index| stages[*index].still_for(running_for) > stages[*index].limit)
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
