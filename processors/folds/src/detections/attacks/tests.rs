//! Tests of cooldowns and of attacks from beginning to end.

use super::super::telling::tests::{row, rule};
use super::*;
use watchfold_schemas::alert::{SubjectKind, Verdict};

const SEEN: Seen<'static> = Seen {
    site: "cafe-1",
    collector: "capture-lan",
    incarnation: 7,
    interface: "eth0",
};

fn seconds(seconds: f64) -> Time {
    Time((seconds * 1e9) as i64)
}

fn hold(rule: &CompiledRule, at: Time) -> Hold<'_> {
    Hold {
        rule,
        key: Print::of_text("192.0.2.7"),
        at,
        packet: Some(at.0 as u64 / 1_000_000),
        measured: Measured {
            observed: 15,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        },
        tier: Tier::Clean,
        victim: Some(Victim::Address(IpAddr::from([10, 0, 0, 5]), Segment::NONE)),
    }
}

/// What was said, in short.
fn short(said: &[Said]) -> Vec<String> {
    let text = |said: &Said| {
        let at = said.at.0 as f64 / 1e9;
        match &said.body {
            EventBody::AlertRaised(alert) => format!("alert {:?} {at}", alert.severity),
            EventBody::AttackBegan(attack) => format!("began {:?} {at}", attack.severity),
            EventBody::AttackGrew(attack) => {
                format!("grew {:?} {} {at}", attack.severity, attack.peak.observed)
            }
            EventBody::AttackEnded(attack) => {
                format!("ended {at} alerts {} matches {}", attack.alerts, attack.matches)
            }
            other => format!("{other:?}"),
        }
    };
    said.iter().map(text).collect()
}

/// Gives holds in order, with what is due before each; then lets a day pass.
fn check(holds: &[Hold<'_>], want: &[&str]) -> Vec<Said> {
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    for hold in holds {
        attacks.pop_due(hold.at, &mut said);
        give(&mut attacks, hold, &mut said);
        // Stored and loaded at any time it goes on alike.
        attacks = Attacks::load(attacks.store());
    }
    attacks.pop_due(seconds(86_400.0), &mut said);
    assert_eq!(short(&said), want);
    assert!(attacks.is_empty() && attacks.next_due().is_none());
    said
}

fn give(attacks: &mut Attacks, hold: &Hold<'_>, said: &mut Vec<Said>) {
    attacks.hold(SEEN, hold, &row(), &Verdicts::default(), said);
}

#[test]
fn the_cooldown_ends_at_exactly_its_length() {
    let scan = rule(|_| {});
    let at = |seconds_| hold(&scan, seconds(seconds_));
    check(
        &[at(0.0), at(5.0), at(14.9), at(15.0), at(29.999), at(30.0)],
        &[
            "alert High 0",
            "began High 0",
            "alert High 15",
            "alert High 30",
            "ended 45 alerts 3 matches 6",
        ],
    );
}

#[test]
fn it_ends_when_its_condition_was_absent_for_long_enough() {
    let slow = rule(|rule| rule.cooldown_ms = 5_000);
    let at = |seconds_| hold(&slow, seconds(seconds_));
    // The window is 10 s, so the cooldown of 5 s says when an alert may follow, and the window when the attack is over.
    check(
        &[at(0.0), at(9.999), at(19.999), at(20.0)],
        &[
            "alert High 0",
            "began High 0",
            "alert High 9.999",
            "ended 19.999 alerts 2 matches 2",
            "alert High 19.999",
            "began High 19.999",
            "ended 30 alerts 1 matches 2",
        ],
    );
}

#[test]
fn severity_rises_inside_a_cooldown_and_never_falls() {
    let scan = rule(|_| {});
    let at = |seconds_, tier| Hold {
        tier,
        ..hold(&scan, seconds(seconds_))
    };
    check(
        &[
            at(0.0, Tier::Clean),
            at(1.0, Tier::Low),
            at(2.0, Tier::Medium),
            at(3.0, Tier::Critical),
            at(10.0, Tier::Clean),
            at(17.0, Tier::Clean),
        ],
        &[
            "alert High 0",
            "began High 0",
            "alert Critical 2",
            "grew Critical 15 2",
            "alert High 17",
            "ended 32 alerts 3 matches 6",
        ],
    );
}

#[test]
fn it_is_told_again_when_its_peak_doubles() {
    let scan = rule(|_| {});
    let at = |seconds_, observed| {
        let mut hold = hold(&scan, seconds(seconds_));
        hold.measured.observed = observed;
        hold
    };
    let said = check(
        &[
            at(0.0, 15),
            at(1.0, 29),
            at(2.0, 30),
            at(3.0, 31),
            at(4.0, 59),
            at(5.0, 60),
            at(6.0, 2),
        ],
        &[
            "alert High 0",
            "began High 0",
            "grew High 30 2",
            "grew High 60 5",
            "ended 21 alerts 1 matches 7",
        ],
    );
    let EventBody::AttackEnded(attack) = &said[4].body else {
        panic!("{said:?}")
    };
    assert_eq!((attack.peak.observed, attack.peak_at), (60, seconds(5.0)));
    assert_eq!(attack.message, "192.0.2.7 tried 60 ports");
}

#[test]
fn peaks_of_rules_with_different_thresholds_are_compared_as_shares() {
    let of = |observed, base_threshold| Measured {
        observed,
        base_threshold,
        ..Measured::default()
    };
    assert!(is_times(2, of(100, 50), of(15, 15)));
    assert!(!is_times(2, of(100, 51), of(15, 15)));
    assert!(is_times(1, of(u64::MAX, 1), of(u64::MAX, 1)));
}

#[test]
fn subjects_categories_and_states_have_attacks_of_their_own() {
    let (enforced, recorded) = (rule(|_| {}), rule(|rule| rule.state = RuleState::Record));
    let other = rule(|rule| rule.category = "brute_force".into());
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    for rule in [&enforced, &recorded, &other, &enforced] {
        give(&mut attacks, &hold(rule, seconds(1.0)), &mut said);
    }
    let neighbour = Hold {
        key: Print::of_text("192.0.2.8"),
        ..hold(&enforced, seconds(1.0))
    };
    give(&mut attacks, &neighbour, &mut said);
    assert_eq!((attacks.len(), said.len()), (4, 8));
    let mut ids: Vec<&str> = said.iter().map(|said| said.attack.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    // The two subjects have one text here, and so one id; a chain's keys and texts go together.
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_attack_names_its_victims_and_packets() {
    let scan = rule(|_| {});
    let holds: Vec<Hold<'_>> = (0..400_u32)
        .map(|number| Hold {
            victim: Some(Victim::Address(
                IpAddr::from((0x0a00_0000 + number % 300).to_be_bytes()),
                Segment::NONE,
            )),
            packet: Some(u64::from(number)),
            ..hold(&scan, Time(i64::from(number)))
        })
        .collect();
    let said = check(
        &holds,
        &[
            "alert High 0",
            "began High 0",
            "ended 15.000000399 alerts 1 matches 400",
        ],
    );
    let EventBody::AttackEnded(attack) = &said[2].body else {
        panic!("{said:?}")
    };
    assert_eq!(attack.victims.len(), VICTIMS_MAX);
    assert_eq!(attack.victims[..2], ["10.0.0.0", "10.0.0.1"]);
    assert_eq!(attack.victims_total, VICTIMS_TOLD_APART_MAX as u64);
    // The alert of this row names no packets, so these are those that followed.
    assert_eq!(
        (
            attack.seen_by.packets.ranges.as_slice(),
            attack.seen_by.packets.total
        ),
        ([(1, 399)].as_slice(), 399)
    );
    assert_eq!(attack.destination.port, Some(22));
    assert_eq!(said[2].because, Because::Deadline(Time(15_000_000_399)));
}

#[test]
fn rules_that_share_a_category_share_attack_and_cooldown() {
    let (quick, slow) = (
        rule(|_| {}),
        rule(|rule| {
            rule.name = "slow_scan".into();
            rule.cooldown_ms = 60_000;
            rule.severity = Severity::Medium;
        }),
    );
    check(
        &[
            hold(&slow, seconds(0.0)),
            hold(&quick, seconds(1.0)),
            hold(&slow, seconds(16.0)),
            hold(&slow, seconds(61.0)),
        ],
        &[
            "alert Medium 0",
            "began Medium 0",
            "alert High 1",
            "grew High 15 1",
            "alert Medium 61",
            "ended 121 alerts 3 matches 4",
        ],
    );
}

#[test]
fn the_slowest_rule_of_a_category_says_when_it_is_over() {
    let quick = rule(|_| {});
    let slow = rule(|rule| {
        rule.name = "slow_scan".into();
        rule.cooldown_ms = 60_000;
    });
    check(
        &[
            hold(&quick, seconds(0.0)),
            hold(&slow, seconds(1.0)),
            hold(&quick, seconds(20.0)),
        ],
        &[
            "alert High 0",
            "began High 0",
            "alert High 20",
            "ended 80 alerts 2 matches 3",
        ],
    );
}

#[test]
fn too_many_attacks_end_the_one_that_would_end_first() {
    let scan = rule(|rule| rule.cooldown_ms = 86_400_000);
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    let key = |number: usize| Print::of_number(number as i64);
    // As fast as attacks may begin.
    let at = |number: usize| seconds(number as f64 * 60.0 / f64::from(BEGINNINGS_PER_MINUTE_MAX));
    for number in 0..ATTACKS_MAX {
        give(
            &mut attacks,
            &Hold {
                key: key(number),
                ..hold(&scan, at(number))
            },
            &mut said,
        );
    }
    // The first goes on, so the second is the one that would end first.
    give(
        &mut attacks,
        &Hold {
            key: key(0),
            ..hold(&scan, at(ATTACKS_MAX))
        },
        &mut said,
    );
    said.clear();
    give(
        &mut attacks,
        &Hold {
            key: key(ATTACKS_MAX),
            ..hold(&scan, at(ATTACKS_MAX))
        },
        &mut said,
    );
    assert_eq!((attacks.len(), attacks.evicted), (ATTACKS_MAX, 1));
    assert!(
        matches!(&said[0].body, EventBody::AttackEnded(attack) if attack.began_at == at(1)),
        "{:?}",
        said[0]
    );
    assert_eq!((said[0].at, said[0].because), (at(ATTACKS_MAX), Because::Row));
    assert_eq!(said.len(), 3);
}

#[test]
fn a_minute_begins_only_so_many() {
    let scan = rule(|_| {});
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    for number in 0..100_000_u32 {
        give(
            &mut attacks,
            &Hold {
                key: Print::of_number(i64::from(number)),
                ..hold(&scan, seconds(7.5))
            },
            &mut said,
        );
    }
    assert_eq!(attacks.len() as u32, BEGINNINGS_PER_MINUTE_MAX);
    assert_eq!(attacks.refused, u64::from(100_000 - BEGINNINGS_PER_MINUTE_MAX));
    // What goes on is still seen.
    let on = Hold {
        key: Print::of_number(0),
        ..hold(&scan, seconds(7.6))
    };
    give(&mut attacks, &on, &mut said);
    assert_eq!(attacks.refused, u64::from(100_000 - BEGINNINGS_PER_MINUTE_MAX));
    // The next minute has room again.
    for at in [59.9, 60.0] {
        let next = Hold {
            key: Print::of_number(-1),
            ..hold(&scan, seconds(at))
        };
        give(&mut attacks, &next, &mut said);
    }
    assert_eq!(attacks.len() as u32, BEGINNINGS_PER_MINUTE_MAX + 1);
}

#[test]
fn what_goes_on_is_told_every_hour() {
    let slow = rule(|rule| rule.cooldown_ms = 7_200_000);
    let at = |seconds_| hold(&slow, seconds(seconds_));
    check(
        &[at(0.0), at(3_599.0), at(3_600.0), at(7_100.0), at(7_201.0)],
        &[
            "alert High 0",
            "began High 0",
            "grew High 15 3600",
            "alert High 7201",
            "grew High 15 7201",
            "ended 14401 alerts 2 matches 5",
        ],
    );
}

#[test]
fn what_no_rule_has_any_more_ends() {
    let (scan, brute) = (rule(|_| {}), rule(|rule| rule.category = "brute_force".into()));
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    give(&mut attacks, &hold(&scan, seconds(1.0)), &mut said);
    give(&mut attacks, &hold(&brute, seconds(2.0)), &mut said);
    said.clear();
    attacks.keep_only(seconds(3.0), |category, _| category == "brute_force", &mut said);
    assert_eq!(short(&said), ["ended 3 alerts 1 matches 1"]);
    attacks.end_all(seconds(4.0), &mut said);
    assert_eq!(short(&said)[1], "ended 4 alerts 1 matches 1");
    assert!(attacks.is_empty());
    assert_eq!(attacks.next_due(), None);
}

#[test]
fn times_are_told_by_the_wall_and_counted_without_its_jumps() {
    let scan = rule(|_| {});
    let mut attacks = Attacks::default();
    let mut said = Vec::new();
    attacks.set_shift(Span::from_seconds(1_000));
    give(&mut attacks, &hold(&scan, seconds(1.0)), &mut said);
    // The wall jumped by an hour in which nobody measured.
    attacks.set_shift(Span::from_seconds(4_600));
    attacks.pop_due(seconds(15.9), &mut said);
    let mut louder = hold(&scan, seconds(15.9));
    louder.measured.observed = 30;
    give(&mut attacks, &louder, &mut said);
    attacks.pop_due(seconds(30.9), &mut said);
    assert_eq!(
        short(&said),
        [
            "alert High 1001",
            "began High 1001",
            "grew High 30 4615.9",
            "ended 4630.9 alerts 1 matches 2"
        ]
    );
    assert_eq!(said[3].because, Because::Deadline(seconds(30.9)));
    let EventBody::AttackEnded(attack) = &said[3].body else {
        panic!("{said:?}")
    };
    assert_eq!(
        (attack.began_at, attack.last_at),
        (seconds(1_001.0), seconds(4_615.9))
    );
}

#[test]
fn without_a_verdict_neither_alert_nor_attack_has_a_reputation() {
    let scan = rule(|_| {});
    assert!(scan.reputation.is_some(), "the rule asks for one");
    let mut said = Vec::new();
    let mut attacks = Attacks::default();
    attacks.hold(
        SEEN,
        &hold(&scan, seconds(1.0)),
        &row(),
        &Verdicts::default(),
        &mut said,
    );
    for told in &said {
        let reputation = match &told.body {
            EventBody::AlertRaised(alert) => &alert.reputation,
            EventBody::AttackBegan(attack) => &attack.reputation,
            other => panic!("{other:?}"),
        };
        assert_eq!(*reputation, None);
    }
    assert_eq!(said.len(), 2);
    let mut verdicts = Verdicts::default();
    verdicts.learn(&Verdict {
        known: false,
        malicious: 0,
        score: 0,
        ..verdict_about_the_row()
    });
    said.clear();
    Attacks::default().hold(SEEN, &hold(&scan, seconds(1.0)), &row(), &verdicts, &mut said);
    let EventBody::AlertRaised(alert) = &said[0].body else {
        panic!("{said:?}")
    };
    let unknown = alert.reputation.as_ref().unwrap();
    assert!(!unknown.known, "asked, and nothing is known of it");
    assert!(!alert.message.contains("reputation"), "{}", alert.message);
}

/// Of twelve engines, about the address that [`row`] comes from.
fn verdict_about_the_row() -> Verdict {
    Verdict {
        at: Time::EPOCH,
        oracle: "virustotal".into(),
        kind: SubjectKind::Address,
        subject: "192.0.2.7".into(),
        known: true,
        malicious: 12,
        suspicious: 0,
        harmless: 0,
        undetected: 0,
        score: -40,
        country: None,
        owner: None,
        categories: Vec::new(),
        expires_at: seconds(100.0),
    }
}

#[test]
fn an_alert_tells_what_an_oracle_said() {
    let scan = rule(|_| {});
    let mut verdicts = Verdicts::default();
    verdicts.learn(&verdict_about_the_row());
    let hold = Hold {
        tier: verdicts.tier_of_address(IpAddr::from([192, 0, 2, 7]), seconds(1.0)),
        ..hold(&scan, seconds(1.0))
    };
    let mut said = Vec::new();
    Attacks::default().hold(SEEN, &hold, &row(), &verdicts, &mut said);
    let EventBody::AlertRaised(alert) = &said[0].body else {
        panic!("{said:?}")
    };
    assert_eq!(alert.severity, Severity::Critical);
    assert_eq!(alert.reputation.as_ref().map(|told| told.malicious), Some(12));
    assert!(
        alert.message.ends_with("critical: 12 engines call it malicious)"),
        "{}",
        alert.message
    );
    assert_eq!(
        (alert.seen_by.collector.as_str(), alert.seen_by.interface.as_str()),
        ("capture-lan", "eth0")
    );
}
