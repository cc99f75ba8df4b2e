//! `watchfold bench accuracy`: what rule packs say of a labelled set of capture files, and how much of it is right.
//!
//! A set is made by `tests/accuracy.sh` with real tools. Each file is folded by itself, by the code that works live. What was
//! found and what was right is counted; whether that is good enough is nobody's judgement here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use watchfold_capture::observe::{FileObservations, FileOptions};
use watchfold_folds::{PacketChain, StateMachine};
use watchfold_rules::{RuleSource, load};
use watchfold_schemas::alert::Attack;
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, EventBody, Observation, Origin, Span, Time};

use crate::cli::{BenchAccuracyArgs, Format};
use watchfold_kit::{console, outln};

/// Beside the capture files: one JSON object a line.
const LABELS: &str = "labels.jsonl";

/// Time after the last packet in which attacks end.
const AFTERWARDS: Span = Span::from_seconds(3_600);

/// What happened in one file.
#[derive(Debug, Deserialize)]
struct Label {
    name: String,
    file: String,
    /// What must be found. Empty for ordinary traffic.
    attacks: Vec<Expected>,
    /// Categories that are right to be told besides.
    also: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Expected {
    /// Any of these will do.
    categories: Vec<String>,
    /// The attacker's address; 0.0.0.0 for any, where it is spoofed.
    subject: String,
}

/// What one pack, or one rule of it, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Score {
    /// Attacks that were told and happened, and those that did not happen.
    right: u64,
    wrong: u64,
    /// Labelled attacks that were found, and all of those that the pack, or the rule's category, has.
    found: u64,
    labelled: u64,
}

impl Score {
    /// Of what was told, the share that happened; none where nothing was told.
    fn precision(self) -> Option<f64> {
        share(self.right, self.right + self.wrong)
    }

    /// Of what happened, the share that was told.
    fn recall(self) -> Option<f64> {
        share(self.found, self.labelled)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The scores of one pack over the whole set.
#[derive(Debug, Default)]
struct Outcome {
    pack: String,
    all: Score,
    rules: BTreeMap<String, Score>,
    /// Scenes with something wrong or missed, one line each.
    remarks: Vec<String>,
}

pub fn accuracy(args: &BenchAccuracyArgs) -> anyhow::Result<()> {
    let labels = read_labels(&args.set)?;
    let mut outcomes = Vec::new();
    for pack in &args.rules {
        let source: RuleSource = match pack.parse() {
            Ok(source) => source,
            Err(never) => match never {},
        };
        let set = load(&source)?.of_chain(Chain::Packets);
        outcomes.push(score(&args.set, &labels, &set)?);
    }
    match args.format {
        Format::Json => outln!("{}", as_json(labels.len(), &outcomes))?,
        Format::Human => console::write(as_text(labels.len(), &outcomes))?,
    }
    Ok(())
}

fn read_labels(set: &Path) -> anyhow::Result<Vec<Label>> {
    let path = set.join(LABELS);
    let text = watchfold_config::read_text(&path).with_context(|| {
        format!(
            "failed to read {}: make a set with tests/accuracy.sh",
            path.display()
        )
    })?;
    let labels = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display())))
        .collect::<anyhow::Result<Vec<Label>>>()?;
    ensure!(!labels.is_empty(), "{} holds no label", path.display());
    Ok(labels)
}

fn score(directory: &Path, labels: &[Label], set: &RuleSet) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        pack: set.name.clone(),
        ..Outcome::default()
    };
    let categories: BTreeSet<&str> = set.rules.iter().map(|rule| rule.category.as_str()).collect();
    for label in labels {
        let told = attacks_in(&directory.join(&label.file), set)
            .with_context(|| format!("{} under {}", label.file, set.name))?;
        outcome.add(label, &told, &categories);
    }
    Ok(outcome)
}

impl Outcome {
    /// A category that the pack does not have is no miss of the pack.
    fn add(&mut self, label: &Label, told: &[Attack], categories: &BTreeSet<&str>) {
        for attack in told {
            let right = label.holds(attack);
            let count = |score: &mut Score| match right {
                true => score.right += 1,
                false => score.wrong += 1,
            };
            count(&mut self.all);
            count(self.rules.entry(attack.rule.name.clone()).or_default());
            if !right {
                let remark = format!(
                    "{}: {} of {} is wrong",
                    label.name, attack.rule.name, attack.subject
                );
                self.remarks.push(remark);
            }
        }
        for expected in &label.attacks {
            if !expected
                .categories
                .iter()
                .any(|name| categories.contains(name.as_str()))
            {
                continue;
            }
            let finders: BTreeSet<&str> = told
                .iter()
                .filter(|attack| expected.is(attack))
                .map(|attack| attack.rule.name.as_str())
                .collect();
            self.all.labelled += 1;
            self.all.found += u64::from(!finders.is_empty());
            if finders.is_empty() {
                self.remarks.push(format!("{}: not found", label.name));
            }
            for finder in finders {
                self.rules.entry(finder.to_owned()).or_default().found += 1;
            }
        }
        self.remarks.dedup();
    }
}

impl Label {
    fn holds(&self, attack: &Attack) -> bool {
        self.attacks.iter().any(|expected| expected.is(attack)) || self.also.contains(&attack.category)
    }
}

impl Expected {
    fn is(&self, attack: &Attack) -> bool {
        let by = self.subject == "0.0.0.0"
            || attack.source.ip.as_deref() == Some(self.subject.as_str())
            || attack.subject.split(' ').any(|part| part == self.subject);
        by && self.categories.contains(&attack.category)
    }
}

/// The attacks that rules find in a file, each as it began.
fn attacks_in(path: &Path, set: &RuleSet) -> anyhow::Result<Vec<Attack>> {
    let options = FileOptions::default();
    let site = options.site.clone();
    let mut chain = PacketChain::new(&site);
    let mut attacks = Vec::new();
    let mut last: Option<Observation> = None;
    let mut sequence = 1;
    for observation in FileObservations::open(&[path.to_owned()], options)? {
        let observation = observation?;
        if last.is_none() {
            chain.apply(sequence, &activating(&site, set, observation.observed_at));
        }
        sequence += 1;
        attacks.extend(begun(chain.apply(sequence, &observation)));
        last = Some(observation);
    }
    if let Some(last) = last {
        let at = last.through + AFTERWARDS;
        let quiet = Observation {
            origin: Origin {
                number: last.origin.number + 1,
                ..last.origin
            },
            observed_at: at,
            through: at,
            body: Body::Quiet,
            v: last.v,
        };
        attacks.extend(begun(chain.apply(sequence + 1, &quiet)));
    }
    Ok(attacks)
}

fn begun(events: Vec<watchfold_schemas::Event>) -> impl Iterator<Item = Attack> {
    events.into_iter().filter_map(|event| match event.body {
        EventBody::AttackBegan(attack) => Some(*attack),
        _ => None,
    })
}

fn activating(site: &str, set: &RuleSet, at: Time) -> Observation {
    let surroundings = Surroundings {
        gateways: vec!["192.168.50.1".to_owned()],
        ..Surroundings::default()
    };
    let activation = RulesActivation {
        at,
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, set, &surroundings),
        set: set.clone(),
        surroundings,
        software: String::new(),
    };
    Observation {
        v: watchfold_schemas::observation::OBSERVATION_VERSION,
        origin: Origin {
            site: site.to_owned(),
            collector: "rules".to_owned(),
            incarnation: 1,
            number: 1,
        },
        observed_at: at,
        through: at,
        body: Body::Rules(Box::new(activation)),
    }
}

fn as_json(scenes: usize, outcomes: &[Outcome]) -> Value {
    let score = |score: Score| {
        json!({
            "right": score.right, "wrong": score.wrong, "precision": score.precision(),
            "found": score.found, "labelled": score.labelled, "recall": score.recall(),
        })
    };
    let packs: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let rules: BTreeMap<&str, Value> = outcome
                .rules
                .iter()
                .map(|(name, of)| {
                    let of = json!({
                        "right": of.right, "wrong": of.wrong, "precision": of.precision(), "found": of.found,
                    });
                    (name.as_str(), of)
                })
                .collect();
            json!({ "pack": outcome.pack, "all": score(outcome.all), "rules": rules, "remarks": outcome.remarks })
        })
        .collect();
    json!({ "bench": "accuracy", "version": env!("CARGO_PKG_VERSION"), "scenes": scenes, "packs": packs })
}

fn as_text(scenes: usize, outcomes: &[Outcome]) -> String {
    let percent =
        |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("watchfold {version}, bench accuracy, {scenes} scenes\n");
    for outcome in outcomes {
        let Score { found, labelled, .. } = outcome.all;
        out += &format!(
            "\n{}: precision {} ({} right, {} wrong), recall {} ({found} of {labelled})\n",
            outcome.pack,
            percent(outcome.all.precision()),
            outcome.all.right,
            outcome.all.wrong,
            percent(outcome.all.recall()),
        );
        for (name, score) in &outcome.rules {
            let precision = percent(score.precision());
            out += &format!(
                "  {name:28} {:>4} right {:>4} wrong  precision {precision:>8}  found {}\n",
                score.right, score.wrong, score.found
            );
        }
        for remark in &outcome.remarks {
            out += &format!("  {remark}\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::alert::Endpoint;

    use super::*;

    fn attack(rule: &str, category: &str, source: &str) -> Attack {
        let mut attack: Attack = serde_json::from_value(json!({
            "id": "a", "rule": { "id": "r", "name": rule, "title": "", "version": 1, "set": "s" },
            "category": category, "severity": "high", "state": "enforce", "subject": source,
            "source": { "ip": null, "port": null, "mac": null },
            "destination": { "ip": null, "port": null, "mac": null },
            "transport": "tcp", "community_id": null,
            "began_at": "2026-01-01T00:00:00Z", "last_at": "2026-01-01T00:00:00Z", "ended_at": null,
            "peak": { "observed": 1, "threshold": 1, "base_threshold": 1, "window_ms": 0 },
            "peak_at": "2026-01-01T00:00:00Z", "alerts": 1, "matches": 1, "victims": [], "victims_total": 0,
            "reputation": null,
            "seen_by": { "collector": "c", "incarnation": 1, "interface": "i", "packets": { "ranges": [], "total": 0 } },
            "message": "",
        }))
        .unwrap();
        attack.source = Endpoint {
            ip: Some(source.to_owned()),
            ..Endpoint::default()
        };
        attack
    }

    /// (precision, recall) of a pack with the categories `scan` and `flood` over one scene.
    fn check(label: Value, told: &[Attack], want: (Option<f64>, Option<f64>), remarks: &[&str]) {
        let label: Label = serde_json::from_value(label).unwrap();
        let mut outcome = Outcome::default();
        outcome.add(&label, told, &BTreeSet::from(["scan", "flood"]));
        let got = (outcome.all.precision(), outcome.all.recall());
        assert_eq!(
            (got, outcome.remarks),
            (want, remarks.iter().map(|text| (*text).to_owned()).collect())
        );
    }

    #[test]
    fn what_is_right_wrong_found_and_missed_is_counted() {
        let scan = |also: &[&str]| {
            json!({
                "name": "n", "file": "f", "also": also,
                "attacks": [{ "categories": ["sweep", "scan"], "subject": "10.0.0.66" }],
            })
        };
        let right = attack("one", "scan", "10.0.0.66");
        let other = attack("two", "flood", "10.0.0.66");
        let innocent = attack("one", "scan", "10.0.0.20");
        check(
            scan(&[]),
            std::slice::from_ref(&right),
            (Some(1.0), Some(1.0)),
            &[],
        );
        check(
            scan(&["flood"]),
            &[right.clone(), other.clone()],
            (Some(1.0), Some(1.0)),
            &[],
        );
        check(
            scan(&[]),
            &[right, other],
            (Some(0.5), Some(1.0)),
            &["n: two of 10.0.0.66 is wrong"],
        );
        check(
            scan(&[]),
            &[innocent],
            (Some(0.0), Some(0.0)),
            &["n: one of 10.0.0.20 is wrong", "n: not found"],
        );
        check(scan(&["flood"]), &[], (None, Some(0.0)), &["n: not found"]);
        // A pack without the category misses nothing.
        let mining = json!({
            "name": "n", "file": "f", "also": [],
            "attacks": [{ "categories": ["mining"], "subject": "0.0.0.0" }],
        });
        check(mining, &[], (None, None), &[]);
    }
}
