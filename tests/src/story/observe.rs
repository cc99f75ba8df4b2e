//! The observations that a ping collector and a clock make of a story, in the order in which a log receives them.
//!
//! It behaves as the real collector does: rounds on a grid, one retry of a failed target, records published when
//! their last probe is decided, `through` held back by probes in flight, and a quiet record each second.

use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{Incident, IncidentClass};
use watchfold_schemas::observation::{
    Act as OperatorActKind, Activation, Body, OBSERVATION_VERSION, OperatorAct, Outcome, PingRound, PingRow,
    Tick,
};
use watchfold_schemas::rules::{RulesActivation, Surroundings};
use watchfold_schemas::why::Why;
use watchfold_schemas::{Chain, Observation, Origin, Time};

use super::parse::{Act, Story, set};
use super::{attacks, instant};

/// A record before it has an identity, with the moment of its arrival in seconds.
struct Draft {
    arrives: f64,
    made: f64,
    through: f64,
    collector: &'static str,
    body: DraftBody,
}

enum DraftBody {
    Round(u64, u8, Vec<(String, String, f64, Outcome)>),
    Other(Box<dyn Fn(&Walls) -> Body>),
}

/// Wall clocks that were set in the course of the story.
struct Walls {
    steps: Vec<(f64, f64)>,
}

impl Walls {
    fn at(&self, seconds: f64) -> Time {
        self.at_as_of(seconds, seconds)
    }

    /// A moment by the clock as it stands later: a probe that was in flight when the clock was set is told in the
    /// time of the record that tells of it.
    fn at_as_of(&self, seconds: f64, later: f64) -> Time {
        let shift: f64 = self
            .steps
            .iter()
            .filter(|(at, _)| *at <= later)
            .map(|(_, by)| by)
            .sum();
        instant(seconds + shift)
    }

    fn step_count(&self, seconds: f64) -> u64 {
        self.steps.iter().filter(|(at, _)| *at <= seconds).count() as u64
    }
}

/// Everything that the log of the story's site holds.
pub fn observations(story: &Story) -> Vec<Observation> {
    let walls = Walls {
        steps: story.steps.clone(),
    };
    let mut drafts = activations(story);
    drafts.extend(rules(story));
    drafts.extend(ticks(story));
    drafts.extend(rounds(story));
    drafts.extend(findings(story));
    drafts.extend(acts(story, &walls));
    drafts.retain(|draft| draft.collector == "config" || !within(&story.absent, draft.made));
    drafts.sort_by(|a, b| {
        let key = |draft: &Draft| (order(draft.collector), draft.made);
        a.arrives
            .total_cmp(&b.arrives)
            .then_with(|| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal))
    });
    identify(story, &walls, drafts)
}

fn order(collector: &str) -> u8 {
    match collector {
        "config" => 0,
        "clock" => 1,
        "ping" => 2,
        "packets" => 3,
        _ => 4,
    }
}

/// What a story's wrong answers are.
const MOVED: Why = Why::HttpStatus {
    got: 301,
    want: 200,
    redirected_to: None,
};

fn identify(story: &Story, walls: &Walls, drafts: Vec<Draft>) -> Vec<Observation> {
    let mut numbers = std::collections::BTreeMap::<(&str, u64), u64>::new();
    let mut out = Vec::new();
    for draft in drafts {
        let restarts = story.absent.iter().filter(|(_, to)| *to <= draft.made).count() as u64;
        let incarnation = 1 + restarts + walls.step_count(draft.made);
        let number = numbers.entry((draft.collector, incarnation)).or_default();
        *number += 1;
        let made = draft.made;
        let body = match draft.body {
            DraftBody::Round(round, attempt, rows) => {
                let rows = rows.into_iter().map(|(subject, address, at, outcome)| PingRow {
                    subject,
                    address,
                    signal: Signal::Echo,
                    at: walls.at_as_of(at, made),
                    outcome,
                    rtt_us: (outcome == Outcome::Ok).then_some(1_200),
                    mac: None,
                    detail: (outcome == Outcome::Fault).then(|| "no route to any network".to_owned()),
                    why: (outcome == Outcome::Unexpected).then_some(MOVED),
                    resolved: None,
                });
                Body::PingRound(PingRound::from_rows(round, attempt, rows.collect()))
            }
            DraftBody::Other(make) => make(walls),
        };
        out.push(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: story.config.site.clone(),
                collector: draft.collector.to_owned(),
                incarnation,
                number: *number,
            },
            observed_at: walls.at(draft.made),
            through: walls.at_as_of(draft.through, draft.made),
            body,
        });
    }
    out
}

fn activations(story: &Story) -> Vec<Draft> {
    let mut config = story.config.clone();
    let mut all = vec![(story.run.0, config.clone())];
    for (at, key, value) in &story.settings {
        set(&mut config, key, value).unwrap_or_else(|why| panic!("{why}"));
        all.push((*at, config.clone()));
    }
    all.into_iter()
        .map(|(at, config)| Draft {
            arrives: at,
            made: at,
            through: at,
            collector: "config",
            body: DraftBody::Other(Box::new(move |walls| {
                Body::Activation(Box::new(Activation {
                    at: walls.at(at),
                    hash: config.hash(),
                    config: config.clone(),
                    software: "story".to_owned(),
                }))
            })),
        })
        .collect()
}

/// The rules come into force with the configuration.
fn rules(story: &Story) -> Option<Draft> {
    let (set, at) = (story.rules.clone()?, story.run.0);
    let surroundings = Surroundings::default();
    Some(Draft {
        arrives: at,
        made: at,
        through: at,
        collector: "config",
        body: DraftBody::Other(Box::new(move |walls| {
            Body::Rules(Box::new(RulesActivation {
                at: walls.at(at),
                chain: Chain::Site,
                hash: RulesActivation::hash_of(Chain::Site, &set, &surroundings),
                set: set.clone(),
                surroundings: surroundings.clone(),
                software: "story".to_owned(),
            }))
        })),
    })
}

fn ticks(story: &Story) -> Vec<Draft> {
    let (from, to) = story.run;
    (from.ceil() as i64..=to.floor() as i64)
        .map(|second| {
            let at = second as f64;
            let body = move |walls: &Walls| {
                Body::Tick(Tick {
                    now: walls.at(at),
                    interval_ms: 1_000,
                })
            };
            Draft {
                arrives: at,
                made: at,
                through: at,
                collector: "clock",
                body: DraftBody::Other(Box::new(body)),
            }
        })
        .collect()
}

/// What the packet chain tells of attacks; it reaches the log with what else is seen where the packets are.
fn findings(story: &Story) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for told in &story.attacks {
        for (at, stage) in attacks::stages(told) {
            let (story, told, input) = (story.clone(), told.clone(), drafts.len() as u64 + 1);
            let body = move |walls: &Walls| {
                let times = (walls.at(told.span.0), walls.at(at));
                attacks::finding(&story, &told, stage, input, times)
            };
            drafts.push(Draft {
                arrives: at,
                made: at,
                through: at,
                collector: "packets",
                body: DraftBody::Other(Box::new(body)),
            });
        }
    }
    deliver(story, drafts)
}

fn acts(story: &Story, walls: &Walls) -> Vec<Draft> {
    let draft = |at: f64, act: Act| {
        let site = story.config.site.clone();
        let attack = match &act {
            Act::Acknowledge(subject) => story.attacks.iter().rev().find(|told| {
                told.span.0 <= at && *subject == format!("attack:{}:{}", told.category, told.subject)
            }),
            _ => None,
        };
        let attack = attack.map(|told| {
            let began = walls.at(told.span.0);
            let id = attacks::attack_id(&site, told, began);
            Incident::derive_id(&site, IncidentClass::Attack, &id, began)
        });
        let began = match &act {
            Act::Acknowledge(subject) => {
                let spans = story
                    .down
                    .iter()
                    .filter(|(down, from, to)| down == subject && *from <= at && at < *to);
                spans
                    .map(|(_, from, _)| walls.at(*from))
                    .next_back()
                    .unwrap_or_default()
            }
            Act::Mute(..) | Act::Maintenance(..) => Time::default(),
        };
        let body = move |walls: &Walls| {
            let act = match &act {
                Act::Acknowledge(subject) => OperatorActKind::Acknowledge {
                    incident: attack
                        .clone()
                        .unwrap_or_else(|| Incident::derive_id(&site, IncidentClass::Outage, subject, began)),
                },
                Act::Mute(subject, until) => OperatorActKind::Mute {
                    subject: subject.clone(),
                    until: walls.at(*until),
                },
                Act::Maintenance(subject, (from, until)) => OperatorActKind::Maintenance {
                    id: "planned".to_owned(),
                    subjects: vec![subject.clone()],
                    from: walls.at(*from),
                    until: walls.at(*until),
                },
            };
            Body::Operator(OperatorAct {
                at: walls.at(at),
                who: "ada".to_owned(),
                act,
                note: None,
            })
        };
        Draft {
            arrives: at,
            made: at,
            through: at,
            collector: "operator",
            body: DraftBody::Other(Box::new(body)),
        }
    };
    story
        .acts
        .iter()
        .map(|(at, act)| draft(*at, act.clone()))
        .collect()
}

/// Rounds, retries and quiet records of the ping collector.
fn rounds(story: &Story) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut in_flight: Vec<(f64, f64)> = Vec::new();
    let (from, to) = story.run;
    let groups = groups(story);
    for (interval, members) in &groups {
        let count = ((to - from) / interval).floor() as i64;
        for round in 0..=count {
            let sent = from + round as f64 * interval;
            let rows: Vec<_> = members.iter().map(|member| member.probe(story, sent)).collect();
            let timeout = members.iter().map(|member| member.timeout).fold(0.0, f64::max);
            let failed = |outcome: &Outcome| matches!(outcome, Outcome::TimedOut | Outcome::Unexpected);
            let any_failed = rows.iter().any(|(_, _, _, outcome)| failed(outcome));
            let done = sent + if any_failed { timeout } else { 0.005 };
            in_flight.push((sent, done));
            drafts.push(round_draft(done, round as u64 + 1, 1, rows));
            let again = done + story.config.network.retry_delay_ms as f64 / 1e3;
            let retried: Vec<_> = members
                .iter()
                .filter(|member| member.retried && failed(&member.probe(story, sent).3))
                .map(|member| member.probe(story, again))
                .collect();
            if !retried.is_empty() && again <= to {
                let any_failed = retried.iter().any(|(_, _, _, outcome)| failed(outcome));
                let done = again + if any_failed { timeout } else { 0.005 };
                in_flight.push((again, done));
                drafts.push(round_draft(done, round as u64 + 1, 2, retried));
            }
        }
    }
    for second in from.ceil() as i64..=to.floor() as i64 {
        let at = second as f64 + 0.5;
        let body = DraftBody::Other(Box::new(|_| Body::Quiet));
        drafts.push(Draft {
            arrives: at,
            made: at,
            through: at,
            collector: "ping",
            body,
        });
    }
    for draft in &mut drafts {
        let held = in_flight
            .iter()
            .filter(|(sent, done)| *sent <= draft.made && draft.made < *done);
        draft.through = held.map(|(sent, _)| *sent).fold(draft.made, f64::min);
    }
    deliver(story, drafts)
}

fn round_draft(done: f64, round: u64, attempt: u8, rows: Vec<(String, String, f64, Outcome)>) -> Draft {
    Draft {
        arrives: done,
        made: done,
        through: done,
        collector: "ping",
        body: DraftBody::Round(round, attempt, rows),
    }
}

/// When each record reaches the log, if it does.
fn deliver(story: &Story, mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.retain(|draft| !within(&story.lost, draft.made));
    for draft in &mut drafts {
        if let Some((_, to)) = story
            .spooled
            .iter()
            .find(|(from, to)| *from <= draft.made && draft.made < *to)
        {
            draft.arrives = *to;
        }
    }
    drafts
}

/// Something probed: a target's address or a PC.
struct Member {
    subject: String,
    address: String,
    timeout: f64,
    retried: bool,
}

impl Member {
    fn probe(&self, story: &Story, at: f64) -> (String, String, f64, Outcome) {
        let concerns = |name: &String| {
            *name == self.subject
                || *name == self.address
                || name == "PC-*" && self.subject.starts_with("pc:")
                || name == "*"
        };
        let hit = |spans: &[(String, f64, f64)]| {
            spans
                .iter()
                .any(|(name, from, to)| concerns(name) && *from <= at && at < *to)
        };
        let outcome = if hit(&story.faults) {
            Outcome::Fault
        } else if hit(&story.down) {
            Outcome::TimedOut
        } else if hit(&story.wrong) {
            Outcome::Unexpected
        } else {
            Outcome::Ok
        };
        (self.subject.clone(), self.address.clone(), at, outcome)
    }
}

fn groups(story: &Story) -> Vec<(f64, Vec<Member>)> {
    let mut groups: Vec<(u64, Vec<Member>)> = Vec::new();
    let mut join =
        |interval_ms: u64, member: Member| match groups.iter_mut().find(|(ms, _)| *ms == interval_ms) {
            Some((_, members)) => members.push(member),
            None => groups.push((interval_ms, vec![member])),
        };
    for target in &story.config.network.targets {
        for probe in &target.probes {
            let timeout = target.timeout_ms as f64 / 1e3;
            let (subject, address) = (target.name.clone(), probe.address.clone());
            join(
                target.interval_ms,
                Member {
                    subject,
                    address,
                    timeout,
                    retried: true,
                },
            );
        }
    }
    let occupancy = &story.config.occupancy;
    for host in &occupancy.hosts {
        let timeout = occupancy.timeout_ms as f64 / 1e3;
        let (subject, address) = (format!("pc:{}", host.key()), host.address.clone());
        join(
            occupancy.interval_ms,
            Member {
                subject,
                address,
                timeout,
                retried: false,
            },
        );
    }
    groups
        .into_iter()
        .map(|(ms, members)| (ms as f64 / 1e3, members))
        .collect()
}

fn within(spans: &[(f64, f64)], at: f64) -> bool {
    spans.iter().any(|(from, to)| *from <= at && at < *to)
}
