//! Whether a target answers: two failures in a row make a signal fail, all signals of an address make it fail, and
//! too few addresses for the quorum make the target fail. Pure arithmetic over the latest results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::{Signal, Target};
use watchfold_schemas::observation::{Outcome, PingRowRef};

use crate::fold::Moment;

/// Failures in a row that count. One lost echo is ignored.
const FAILURES_TO_COUNT: u32 = 2;

/// The latest results of one signal of one address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leaf {
    /// Failures in a row; 0 after an answer.
    pub failures: u32,
    /// The first of them.
    pub first_failure: Moment,
    /// It has a result that says something about the target.
    pub measured: bool,
    /// The latest probe could not be made.
    pub faulty: bool,
    pub outcome: Option<Outcome>,
}

impl Leaf {
    pub fn take(&mut self, row: &PingRowRef<'_>, moment: Moment) {
        self.faulty = row.outcome == Outcome::Fault;
        if self.faulty {
            return;
        }
        self.outcome = Some(row.outcome);
        if row.outcome == Outcome::Ok {
            self.failures = 0;
        } else if !self.measured || self.failures == 0 {
            self.failures = 1;
            self.first_failure = moment;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.measured = true;
    }

    /// What was seen does not count any more: the way to the target was broken.
    pub fn forget(&mut self) {
        *self = Leaf {
            faulty: self.faulty,
            ..Leaf::default()
        };
    }
}

/// What the latest results say together.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// Too little was measured to say.
    Unknown,
    Up,
    Failing {
        since: Moment,
        confirmed: bool,
    },
}

/// Leaves by `address signal`.
pub type Leaves = BTreeMap<String, Leaf>;

pub fn leaf_key(address: &str, signal: Signal) -> String {
    format!("{address} {}", signal.name())
}

/// The target's reach, and the addresses that fail for certain.
pub fn reach(target: &Target, leaves: &Leaves) -> (Reach, Vec<String>) {
    let mut failing = Vec::new();
    let mut answering = 0usize;
    let mut unknown = 0usize;
    for probe in &target.probes {
        let measured: Vec<&Leaf> = probe
            .signals
            .iter()
            .filter_map(|signal| leaves.get(&leaf_key(&probe.address, signal.signal())))
            .filter(|leaf| leaf.measured && !leaf.faulty)
            .collect();
        if measured.is_empty() {
            unknown += 1;
        } else if measured.iter().any(|leaf| leaf.failures == 0) {
            answering += 1;
        } else {
            let since = measured
                .iter()
                .map(|leaf| leaf.first_failure)
                .max_by_key(|moment| moment.steady);
            let confirmed = measured.iter().all(|leaf| leaf.failures >= FAILURES_TO_COUNT);
            failing.push((since.unwrap_or_default(), confirmed, probe.address.as_str()));
        }
    }
    let down = failing
        .iter()
        .filter(|(_, confirmed, _)| *confirmed)
        .map(|(_, _, address)| (*address).to_owned());
    let down: Vec<String> = down.collect();
    (judge(target, answering, unknown, failing), down)
}

fn judge(target: &Target, answering: usize, unknown: usize, mut failing: Vec<(Moment, bool, &str)>) -> Reach {
    let quorum = (target.quorum.max(1) as usize).min(target.probes.len().max(1));
    if answering >= quorum {
        return Reach::Up;
    }
    if answering + unknown >= quorum {
        return Reach::Unknown;
    }
    failing.sort_by_key(|(since, _, _)| since.steady);
    // The failure that broke the quorum: this many may fail before it.
    let spare = (answering + failing.len()).saturating_sub(quorum);
    let since = failing
        .get(spare)
        .map_or_else(Moment::default, |(since, _, _)| *since);
    let confirmed = failing.iter().filter(|(_, confirmed, _)| *confirmed).count() > spare;
    Reach::Failing { since, confirmed }
}

/// What the failing probes said, in the order of the configuration.
pub fn describe(target: &Target, leaves: &Leaves) -> String {
    let mut parts = Vec::new();
    for probe in &target.probes {
        for signal in &probe.signals {
            let leaf = leaves.get(&leaf_key(&probe.address, signal.signal()));
            let said = match leaf.and_then(|leaf| leaf.outcome) {
                None | Some(Outcome::Fault) => continue,
                Some(Outcome::Ok) => "answered",
                Some(Outcome::TimedOut) => "timed out",
                Some(Outcome::Unreachable) => "unreachable",
                Some(Outcome::Refused) => "refused",
                Some(Outcome::Unexpected) => "answered with something else",
            };
            parts.push(format!("{} {} {said}", probe.address, signal.signal().name()));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_schemas::Time;
    use watchfold_schemas::config::{ProbeSpec, SignalSpec};

    /// `results` as `address outcomes…`, one probe a second: `.` answered, `x` failed, `f` could not be made.
    fn check(quorum: u32, results: &[(&str, &str)], want: Reach) {
        let target = Target {
            name: "internet".into(),
            probes: results
                .iter()
                .map(|(address, _)| ProbeSpec {
                    address: (*address).into(),
                    signals: vec![SignalSpec::Echo],
                })
                .collect(),
            quorum,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            depends_on: vec![],
        };
        let mut leaves = Leaves::new();
        for (address, outcomes) in results {
            for (second, outcome) in outcomes.chars().enumerate() {
                let at = Time::from_seconds(second as i64);
                let outcome = match outcome {
                    '.' => Outcome::Ok,
                    'x' => Outcome::TimedOut,
                    _ => Outcome::Fault,
                };
                let row = PingRowRef {
                    subject: "internet",
                    address,
                    signal: Signal::Echo,
                    at,
                    outcome,
                    rtt_us: None,
                    mac: None,
                    detail: None,
                };
                leaves
                    .entry(leaf_key(address, Signal::Echo))
                    .or_default()
                    .take(&row, Moment { at, steady: at });
            }
        }
        assert_eq!(reach(&target, &leaves).0, want, "{results:?}");
    }

    fn failing(second: i64, confirmed: bool) -> Reach {
        let at = Time::from_seconds(second);
        Reach::Failing {
            since: Moment { at, steady: at },
            confirmed,
        }
    }

    #[test]
    fn one_lost_echo_is_not_confirmed_and_two_are() {
        check(1, &[("a", "..")], Reach::Up);
        check(1, &[("a", "..x")], failing(2, false));
        check(1, &[("a", "..xx")], failing(2, true));
        check(1, &[("a", "..xx.")], Reach::Up);
        check(1, &[("a", "")], Reach::Unknown);
    }

    #[test]
    fn the_quorum_breaks_with_the_address_that_breaks_it() {
        check(1, &[("a", "xxxx"), ("b", "....")], Reach::Up);
        check(1, &[("a", "xxxx"), ("b", "..x.")], Reach::Up);
        check(1, &[("a", "xxxx"), ("b", "...x")], failing(3, false));
        check(1, &[("a", "xxxx"), ("b", "..xx")], failing(2, true));
        check(2, &[("a", "...."), ("b", "..xx")], failing(2, true));
        check(
            2,
            &[("a", ".xxx"), ("b", "..xx"), ("c", "....")],
            failing(2, true),
        );
    }

    #[test]
    fn a_fault_is_no_failure() {
        check(1, &[("a", "..ffff")], Reach::Unknown);
        check(1, &[("a", ".xf")], Reach::Unknown);
        check(1, &[("a", ".xfx")], failing(1, true));
        check(1, &[("a", "ffff"), ("b", "...xx")], Reach::Unknown);
    }
}
