//! Tests of rules on probes: what they say, whom they tell, and that they go on alike after a restart.

use watchfold_schemas::alert::{Attack, AttackStage, Finding};
use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{Event, EventBody, Place, Severity};
use watchfold_schemas::fields::Source;
use watchfold_schemas::observation::{Body, Outcome, PingRound, PingRow, Tick};
use watchfold_schemas::origin::EventId;
use watchfold_schemas::rules::{
    Compare, FieldTest, Rule, RuleSet, RuleState, RulesActivation, Surroundings, Test, Trigger, Value,
};
use watchfold_schemas::{Chain, Observation, Origin, Time};

use crate::{SiteChain, StateMachine};

fn loss(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule {
        id: "ping_loss".into(),
        name: "ping_loss".into(),
        title: "Probes are lost".into(),
        version: 1,
        category: "ping_loss".into(),
        severity: Severity::Medium,
        state: RuleState::Enforce,
        source: Source::Ping,
        test: Test::Field(FieldTest {
            field: "ping.outcome".into(),
            compare: Compare::Equals,
            values: vec![Value::Text("timed_out".into())],
            all: false,
        }),
        exclusions: Vec::new(),
        trigger: Trigger::Count {
            group_by: vec!["ping.target".into()],
            window_ms: 10_000,
            at_least: 3,
        },
        subject: vec!["ping.target".into()],
        cooldown_ms: 5_000,
        reputation: None,
        counts_duplicates: false,
        withdrawn_by: None,
        message: "{ping.target} lost {observed} probes in {window}".into(),
    };
    change(&mut rule);
    rule
}

/// A site that keeps what was said.
struct Site {
    chain: SiteChain,
    number: u64,
    events: Vec<Event>,
    /// Stored and loaded before every record.
    restarts: bool,
}

impl Site {
    fn new(restarts: bool) -> Site {
        Site {
            chain: SiteChain::new("cafe-1"),
            number: 0,
            events: Vec::new(),
            restarts,
        }
    }

    fn record(&mut self, seconds: f64, collector: &str, body: Body) {
        if self.restarts {
            let (versions, entries) = (self.chain.versions(), self.chain.entries());
            self.chain.load(&versions, entries).unwrap();
        }
        self.number += 1;
        let at = Time((seconds * 1e9) as i64);
        let observation = Observation {
            v: 1,
            origin: Origin {
                site: "cafe-1".into(),
                collector: collector.into(),
                incarnation: 1,
                number: self.number,
            },
            observed_at: at,
            through: at,
            body,
        };
        self.events.extend(self.chain.apply(self.number, &observation));
    }

    fn rules(&mut self, seconds: f64, rules: Vec<Rule>) {
        let set = RuleSet {
            name: "site".into(),
            rules,
        };
        let activation = RulesActivation {
            at: Time((seconds * 1e9) as i64),
            chain: Chain::Site,
            hash: RulesActivation::hash_of(Chain::Site, &set, &Surroundings::default()),
            set,
            surroundings: Surroundings::default(),
            software: "test".into(),
        };
        self.record(seconds, "config", Body::Rules(Box::new(activation)));
    }

    fn probe(&mut self, seconds: f64, target: &str, outcome: Outcome) {
        let row = PingRow {
            subject: target.into(),
            address: "192.0.2.1".into(),
            signal: Signal::Echo,
            at: Time((seconds * 1e9) as i64),
            outcome,
            rtt_us: (outcome == Outcome::Ok).then_some(1_500),
            mac: None,
            detail: None,
            why: None,
            resolved: None,
        };
        self.record(
            seconds,
            "ping",
            Body::PingRound(PingRound::from_rows(self.number, 1, vec![row])),
        );
    }

    fn quiet(&mut self, seconds: f64) {
        self.record(seconds, "ping", Body::Quiet);
    }

    /// Every hour a tick, up to this one.
    fn hours(&mut self, hours: std::ops::RangeInclusive<u32>) {
        for hour in hours {
            let at = f64::from(hour) * 3_600.0;
            let tick = Tick {
                now: Time((at * 1e9) as i64),
                interval_ms: 3_600_000,
            };
            self.record(at, "clock", Body::Tick(tick));
        }
    }

    /// The packet chain tells of an attack.
    fn finding(&mut self, hour: u32, stage: AttackStage, attack: &Attack) {
        let at = f64::from(hour) * 3_600.0;
        let attack = Attack {
            last_at: Time((at * 1e9) as i64),
            ..attack.clone()
        };
        let finding = Finding {
            event: EventId(format!("{hour:032x}")),
            place: Place::default(),
            stage,
            attack,
        };
        self.record(at, "packets", Body::Finding(Box::new(finding)));
    }

    /// What rules and incidents said, in short.
    fn said(&self) -> Vec<String> {
        let text = |event: &Event| {
            let at = event.at.0 as f64 / 1e9;
            match &event.body {
                EventBody::AlertRaised(alert) => Some(format!("alert {} {at}", alert.subject)),
                EventBody::AttackBegan(attack) => Some(format!("began {} {at}", attack.subject)),
                EventBody::AttackGrew(attack) => Some(format!("grew {} {at}", attack.peak.observed)),
                EventBody::AttackEnded(attack) => Some(format!("ended {} {at}", attack.subject)),
                EventBody::IncidentOpened(incident) => Some(format!("opened {} {at}", incident.subject)),
                EventBody::IncidentClosed(incident) => Some(format!("closed {} {at}", incident.subject)),
                _ => None,
            }
        };
        self.events.iter().filter_map(text).collect()
    }
}

/// Tells one story to a chain and to one that restarts before every record; both say what is wanted.
fn check(story: impl Fn(&mut Site), want: &[&str]) -> Vec<Event> {
    let [going, restarting] = [false, true].map(|restarts| {
        let mut site = Site::new(restarts);
        story(&mut site);
        site
    });
    assert_eq!(going.said(), want);
    assert_eq!(going.events, restarting.events);
    going.events
}

#[test]
fn lost_probes_are_an_attack_and_an_incident() {
    let events = check(
        |site| {
            site.rules(0.0, vec![loss(|_| {})]);
            for second in [1.0, 3.0, 5.0] {
                site.probe(second, "router", Outcome::TimedOut);
                site.probe(second, "server", Outcome::Ok);
            }
            site.quiet(14.9);
            site.quiet(15.5);
        },
        &[
            "alert router 5",
            "began router 5",
            "opened attack:ping_loss:router 5",
            "ended router 15",
            "closed attack:ping_loss:router 15",
        ],
    );
    let EventBody::AlertRaised(alert) = &events
        .iter()
        .find(|event| event.body.kind() == "alert_raised")
        .unwrap()
        .body
    else {
        unreachable!()
    };
    assert_eq!(alert.message, "router lost 3 probes in 10 s");
    assert_eq!(
        (alert.seen_by.collector.as_str(), alert.seen_by.incarnation),
        ("ping", 1)
    );
    assert_eq!(alert.destination.ip.as_deref(), Some("192.0.2.1"));
    let raised = events
        .iter()
        .find(|event| event.body.kind() == "alert_raised")
        .unwrap();
    // The first and the last of the three records.
    let named: Vec<&str> = raised
        .causes
        .messages
        .iter()
        .map(|message| message.0.as_str())
        .collect();
    assert_eq!(
        (named, raised.causes.total),
        (vec!["cafe-1/ping/1/2", "cafe-1/ping/1/6"], 3)
    );
    assert_eq!(raised.chain, Chain::Site);
}

#[test]
fn windows_are_closed_and_kept_by_target() {
    let lost = |site: &mut Site, second, target| site.probe(second, target, Outcome::TimedOut);
    check(
        |site| {
            site.rules(0.0, vec![loss(|_| {})]);
            lost(site, 1.0, "router");
            lost(site, 2.0, "server");
            lost(site, 3.0, "router");
            // Exactly as old as the window, and a little older.
            lost(site, 11.0, "router");
            lost(site, 11.0, "server");
            lost(site, 12.1, "server");
        },
        &[
            "alert router 11",
            "began router 11",
            "opened attack:ping_loss:router 11",
        ],
    );
}

#[test]
fn what_nobody_measured_ends_and_begins_nothing() {
    let events = check(
        |site| {
            site.rules(0.0, vec![loss(|_| {})]);
            for second in [1.0, 2.0, 3.0] {
                site.probe(second, "router", Outcome::TimedOut);
            }
            // Nobody measured for an hour: the attack is still ten seconds from its end, and its cooldown five.
            site.probe(3_603.0, "router", Outcome::TimedOut);
            site.quiet(3_612.0);
            site.quiet(3_613.5);
        },
        &[
            "alert router 3",
            "began router 3",
            "opened attack:ping_loss:router 3",
            "ended router 3613",
            "closed attack:ping_loss:router 3613",
        ],
    );
    let Some(EventBody::AttackEnded(attack)) = events
        .iter()
        .map(|event| &event.body)
        .find(|body| body.kind() == "attack_ended")
    else {
        unreachable!()
    };
    let seconds = |time: Time| time.0 / 1_000_000_000;
    assert_eq!(
        (
            seconds(attack.began_at),
            seconds(attack.last_at),
            attack.ended_at.map(seconds)
        ),
        (3, 3_603, Some(3_613))
    );
}

#[test]
fn a_rule_that_is_only_recorded_opens_nothing() {
    check(
        |site| {
            site.rules(0.0, vec![loss(|rule| rule.state = RuleState::Record)]);
            for second in [1.0, 2.0, 3.0] {
                site.probe(second, "router", Outcome::TimedOut);
            }
        },
        &["alert router 3", "began router 3"],
    );
    check(
        |site| {
            site.rules(0.0, vec![loss(|rule| rule.state = RuleState::Off)]);
            for second in [1.0, 2.0, 3.0] {
                site.probe(second, "router", Outcome::TimedOut);
            }
        },
        &[],
    );
}

#[test]
fn rules_that_stay_keep_their_windows_and_those_that_go_end_their_attacks() {
    let other = || {
        loss(|rule| {
            rule.name = "slow".into();
            rule.category = "slow".into();
            rule.test = Test::Field(FieldTest {
                field: "ping.outcome".into(),
                compare: Compare::Equals,
                values: vec![Value::Text("ok".into())],
                all: false,
            });
            rule.trigger = Trigger::Value {
                field: "ping.rtt_us".into(),
                at_least: 1_500,
            };
        })
    };
    let events = check(
        |site| {
            site.rules(0.0, vec![loss(|_| {}), other()]);
            site.probe(1.0, "router", Outcome::TimedOut);
            site.probe(2.0, "router", Outcome::TimedOut);
            site.probe(2.5, "router", Outcome::Ok);
            site.rules(2.6, vec![loss(|_| {})]);
            site.probe(3.0, "router", Outcome::TimedOut);
            // A rule that counts another way begins anew; its category stays, and so does the attack.
            site.rules(
                3.5,
                vec![loss(|rule| {
                    rule.trigger = Trigger::Count {
                        group_by: vec!["ping.target".into()],
                        window_ms: 10_000,
                        at_least: 2,
                    }
                })],
            );
            site.probe(4.0, "router", Outcome::TimedOut);
            site.quiet(13.5);
        },
        &[
            "alert router 2.5",
            "began router 2.5",
            "opened attack:slow:router 2.5",
            "ended router 2.6",
            "closed attack:slow:router 2.6",
            "alert router 3",
            "began router 3",
            "opened attack:ping_loss:router 3",
            "ended router 13",
            "closed attack:ping_loss:router 13",
        ],
    );
    assert!(
        events.iter().all(|event| !event.causes.messages.is_empty()),
        "{events:?}"
    );
}

#[test]
fn an_attack_that_lasts_is_one_incident() {
    check(
        |site| {
            site.rules(0.0, vec![loss(|rule| rule.severity = Severity::High)]);
            for second in 1..=16 {
                site.probe(f64::from(second), "router", Outcome::TimedOut);
            }
            site.quiet(26.0);
        },
        &[
            "alert router 3",
            "began router 3",
            "opened attack:ping_loss:router 3",
            "grew 6 6",
            "alert router 8",
            "alert router 13",
            "ended router 26",
            "closed attack:ping_loss:router 26",
        ],
    );
}

#[test]
fn rules_for_packets_and_rules_that_cannot_be_held_judge_nothing() {
    let mut site = Site::new(false);
    site.rules(
        0.0,
        vec![loss(|rule| {
            rule.trigger = Trigger::Value {
                field: "nonsense".into(),
                at_least: 1,
            }
        })],
    );
    site.probe(1.0, "router", Outcome::TimedOut);
    assert!(site.said().is_empty());
    assert!(site.chain.counts().contains(&("rules_refused", 1)));
    let packets = loss(|rule| {
        rule.source = Source::Packet;
        rule.test = Test::All(Vec::new());
        rule.trigger = Trigger::Each;
        rule.subject = vec!["source.ip".into()];
        rule.message = String::new();
    });
    site.rules(2.0, vec![packets]);
    site.probe(3.0, "router", Outcome::TimedOut);
    assert!(site.said().is_empty());
}

#[test]
fn a_restart_writes_what_changed_alone() {
    let mut site = Site::new(false);
    site.rules(0.0, vec![loss(|_| {})]);
    site.probe(1.0, "router", Outcome::TimedOut);
    let mut stored = std::collections::BTreeMap::new();
    let mut commit = |site: &mut Site| {
        let changes = site.chain.drain_dirty();
        let rules = changes
            .iter()
            .filter(|(key, _)| key.starts_with(b"rules/"))
            .count();
        for (key, bytes) in changes {
            match bytes {
                Some(bytes) => drop(stored.insert(key, bytes)),
                None => drop(stored.remove(&key)),
            }
        }
        let entries: Vec<_> = stored.clone().into_iter().collect();
        let mut all = site.chain.entries();
        all.sort();
        assert_eq!(entries, all);
        rules
    };
    assert!(commit(&mut site) > 0);
    site.probe(2.0, "router", Outcome::Ok);
    assert_eq!(commit(&mut site), 0);
    site.probe(3.0, "router", Outcome::TimedOut);
    assert!(commit(&mut site) > 0);
    // Rules that are gone take their windows with them.
    site.rules(4.0, Vec::new());
    commit(&mut site);
    assert!(!stored.keys().any(|key| key.starts_with(b"rules/window/")));
}

#[test]
fn a_rule_that_this_version_does_not_know_switches_no_other_off() {
    let later = loss(|rule| {
        rule.name = "later".into();
        rule.subject = vec!["of.later.versions".into()];
    });
    check(
        |site| {
            site.rules(0.0, vec![later.clone(), loss(|_| {})]);
            for second in [1.0, 2.0, 3.0] {
                site.probe(second, "router", Outcome::TimedOut);
            }
        },
        &[
            "alert router 3",
            "began router 3",
            "opened attack:ping_loss:router 3",
        ],
    );
}

#[test]
fn an_attack_that_nobody_tells_of_for_a_day_is_over_and_is_told_anew_when_it_grows() {
    let mut seen = Site::new(false);
    seen.rules(0.0, vec![loss(|_| {})]);
    for second in [1.0, 2.0, 3.0] {
        seen.probe(second, "router", Outcome::TimedOut);
    }
    let attack = seen.events.iter().find_map(|event| match &event.body {
        EventBody::AttackBegan(attack) => Some(attack.clone()),
        _ => None,
    });
    let attack = attack.unwrap();
    let events = check(
        |site| {
            site.hours(1..=1);
            site.finding(1, AttackStage::Began, &attack);
            site.hours(2..=20);
            site.finding(20, AttackStage::Grew, &attack);
            site.hours(21..=50);
            site.finding(50, AttackStage::Grew, &attack);
            site.hours(51..=90);
            site.finding(91, AttackStage::Ended, &attack);
        },
        &[
            "opened attack:ping_loss:router 3600",
            "closed attack:ping_loss:router 158400",
            "opened attack:ping_loss:router 180000",
            "closed attack:ping_loss:router 266400",
        ],
    );
    let ids: Vec<&str> = events
        .iter()
        .filter(|event| event.body.kind() == "incident_opened")
        .map(|event| event.key.as_str())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}
