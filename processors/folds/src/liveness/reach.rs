//! Whether a target answers: two failures in a row make a signal fail, all signals of an address make it fail, and
//! too few addresses for the quorum make the target fail. Pure arithmetic over the latest results.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use watchfold_schemas::config::{Signal, Target};
use watchfold_schemas::observation::{Outcome, PingRowRef};
use watchfold_schemas::why::{ProbeReason, Why};

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
    /// Why the latest answer is not the expected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

impl Leaf {
    pub fn take(&mut self, row: &PingRowRef<'_>, moment: Moment) {
        self.faulty = row.outcome == Outcome::Fault;
        if self.faulty {
            return;
        }
        self.outcome = Some(row.outcome);
        self.why = row.why.cloned();
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

/// Leaves in the order of `address signal`, by which they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leaves(Vec<(String, Leaf)>);

impl Leaves {
    pub fn get(&self, address: &str, signal: Signal) -> Option<&Leaf> {
        let place = self.place(address, signal).ok()?;
        self.0.get(place).map(|(_, leaf)| leaf)
    }

    pub fn entry_or_default(&mut self, address: &str, signal: Signal) -> &mut Leaf {
        let place = match self.place(address, signal) {
            Ok(place) => place,
            Err(place) => {
                let key = format!("{address} {}", signal.name());
                self.0.insert(place, (key, Leaf::default()));
                place
            }
        };
        &mut self.0[place].1
    }

    pub fn values(&self) -> impl Iterator<Item = &Leaf> {
        self.0.iter().map(|(_, leaf)| leaf)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Leaf> {
        self.0.iter_mut().map(|(_, leaf)| leaf)
    }

    /// Keeps those of `target` and drops the rest.
    pub fn retain_of(&mut self, target: &Target) {
        let is_of_target = |key: &str| {
            target.probes.iter().any(|probe| {
                let mut signals = probe.signals.iter();
                signals.any(|signal| order(key, &probe.address, signal.signal()).is_eq())
            })
        };
        self.0.retain(|(key, _)| is_of_target(key));
    }

    /// Where it is, or where it would be.
    fn place(&self, address: &str, signal: Signal) -> Result<usize, usize> {
        self.0.binary_search_by(|(key, _)| order(key, address, signal))
    }
}

impl Serialize for Leaves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, leaf)| (key, leaf)))
    }
}

impl<'de> Deserialize<'de> for Leaves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Leaves, D::Error> {
        let leaves = BTreeMap::<String, Leaf>::deserialize(deserializer)?;
        Ok(Leaves(leaves.into_iter().collect()))
    }
}

/// How `key` compares with `address signal`, which is never put together: this is asked for every row.
fn order(key: &str, address: &str, signal: Signal) -> Ordering {
    let (key, address) = (key.as_bytes(), address.as_bytes());
    let common = key.len().min(address.len());
    key[..common].cmp(&address[..common]).then_with(|| {
        let rest = address[common..]
            .iter()
            .chain(b" ")
            .chain(signal.name().as_bytes());
        key[common..].iter().cmp(rest)
    })
}

/// The target's reach, and the addresses that fail for certain.
pub fn reach(target: &Target, leaves: &Leaves) -> (Reach, Vec<String>) {
    let mut failing = Vec::new();
    let mut answering = 0usize;
    let mut unknown = 0usize;
    for probe in &target.probes {
        let measured = probe
            .signals
            .iter()
            .filter_map(|signal| leaves.get(&probe.address, signal.signal()))
            .filter(|leaf| leaf.measured && !leaf.faulty);
        if measured.clone().next().is_none() {
            unknown += 1;
        } else if measured.clone().any(|leaf| leaf.failures == 0) {
            answering += 1;
        } else {
            let since = measured
                .clone()
                .map(|leaf| leaf.first_failure)
                .max_by_key(|moment| moment.steady);
            let confirmed = measured.clone().all(|leaf| leaf.failures >= FAILURES_TO_COUNT);
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

/// The most reasons in one incident; further probes are only described.
const REASONS_MAX: usize = 16;

/// Why probes got an unexpected answer, in the order of the configuration.
pub fn reasons(target: &Target, leaves: &Leaves) -> Vec<ProbeReason> {
    let probes = target
        .probes
        .iter()
        .flat_map(|probe| probe.signals.iter().map(move |signal| (probe, signal.signal())));
    let reasons = probes.filter_map(|(probe, signal)| {
        let leaf = leaves.get(&probe.address, signal)?;
        Some(ProbeReason {
            address: probe.address.clone(),
            signal,
            why: leaf.why.clone()?,
        })
    });
    reasons.take(REASONS_MAX).collect()
}

/// What the probes said, in the order of the configuration, but those that are in `reasons`.
pub fn describe(target: &Target, leaves: &Leaves, reasons: &[ProbeReason]) -> String {
    let mut parts = Vec::new();
    for probe in &target.probes {
        for signal in &probe.signals {
            let is_explained =
                |reason: &ProbeReason| reason.address == probe.address && reason.signal == signal.signal();
            if reasons.iter().any(is_explained) {
                continue;
            }
            let leaf = leaves.get(&probe.address, signal.signal());
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
        let mut leaves = Leaves::default();
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
                    why: None,
                    resolved: None,
                };
                leaves
                    .entry_or_default(address, Signal::Echo)
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
    fn leaves_are_stored_as_a_map_in_the_order_of_their_keys() {
        let names = ["2001:db8::1", "10.0.0.1", "10.0.0.10", "a", "a "];
        let (mut leaves, mut map) = (Leaves::default(), BTreeMap::new());
        for (failures, address) in (0..).zip(names) {
            for signal in [Signal::Tcp, Signal::Echo] {
                leaves.entry_or_default(address, signal).failures = failures;
                let leaf = Leaf {
                    failures,
                    ..Leaf::default()
                };
                map.insert(format!("{address} {}", signal.name()), leaf);
            }
        }
        let bytes = rmp_serde::to_vec_named(&map).unwrap();
        assert_eq!(rmp_serde::to_vec_named(&leaves).unwrap(), bytes);
        assert_eq!(rmp_serde::from_slice::<Leaves>(&bytes).unwrap(), leaves);
        assert_eq!(leaves.get("10.0.0.1", Signal::Echo).unwrap().failures, 1);
        assert_eq!(leaves.get("10.0.0.1", Signal::Dns), None);
    }

    #[test]
    fn each_probe_is_explained_or_described_and_reasons_are_bounded() {
        let addresses: Vec<String> = (0..REASONS_MAX + 2).map(|n| format!("192.0.2.{n:02}")).collect();
        let target = Target {
            name: "website".into(),
            probes: addresses
                .iter()
                .map(|address| ProbeSpec {
                    address: address.clone(),
                    signals: vec![SignalSpec::Echo],
                })
                .collect(),
            quorum: 1,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            depends_on: vec![],
        };
        let mut leaves = Leaves::default();
        for address in &addresses {
            *leaves.entry_or_default(address, Signal::Echo) = Leaf {
                outcome: Some(Outcome::Unexpected),
                why: Some(Why::NotDns),
                ..Leaf::default()
            };
        }
        let first = leaves.entry_or_default(&addresses[0], Signal::Echo);
        (first.outcome, first.why) = (Some(Outcome::TimedOut), None);
        let explained = reasons(&target, &leaves);
        assert_eq!(explained.len(), REASONS_MAX);
        assert_eq!(explained[0].address, addresses[1]);
        assert_eq!(
            describe(&target, &leaves, &explained),
            "192.0.2.00 echo timed out, 192.0.2.17 echo answered with something else"
        );
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
