//! What holds for every story, not only for those that somebody thought of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use watchfold_folds::{SiteChain, StateMachine};
use watchfold_rules::{RuleSource, load};
use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::event::{Event, EventBody, IncidentClass};
use watchfold_schemas::rules::{Rule, RuleSet, Trigger};
use watchfold_schemas::{
    Body, Observation, Span, Time, decode_event, decode_observation, encode_event, encode_observation,
};
use watchfold_tests::story::{Story, fold, observations, parse};

/// A site with a cascade and three PCs, and half an hour in which anything may happen.
const SITE: &str = "target router\ntarget server\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 3\n\
     set min_session 20\nset flapping_window 120\nset batch_window 10\nset remind_every 120\n";

/// Stories begin at a full hour; one that begins here has the next in its middle.
const BEFORE_THE_HOUR: u32 = 3_300;

/// Probes that are lost: many of one target, and of many targets.
static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/ping_loss/rules.yml");
    let mut set = load(&RuleSource::Directory(file)).unwrap();
    let one = set.rules[0].clone();
    set.rules.push(Rule {
        name: "loss_of_many".to_owned(),
        category: "loss_of_many".to_owned(),
        trigger: Trigger::Distinct {
            field: "ping.target".to_owned(),
            group_by: Vec::new(),
            window_ms: 20_000,
            at_least: 2,
        },
        subject: Vec::new(),
        ..one
    });
    set
});

fn anything() -> impl Strategy<Value = Story> {
    anything_from(0)
}

fn anything_from(begin: u32) -> impl Strategy<Value = Story> {
    let subject = prop::sample::select(vec![
        "router", "server", "internet", "8.8.8.8", "PC-1", "PC-2", "PC-*", "*",
    ]);
    let span = (begin..begin + 600, prop_oneof![1u32..30, 1u32..300]);
    let downs = prop::collection::vec((subject.clone(), span.clone()), 0..8);
    let faults = prop::collection::vec((subject, span.clone()), 0..2);
    let absent = prop::collection::vec(span.clone(), 0..2);
    let lost = prop::collection::vec(span.clone(), 0..2);
    let steps = prop::collection::vec((begin..begin + 600, -4_000i32..4_000), 0..2);
    let attacker = prop::sample::select(vec!["10.0.0.8", "10.0.0.9"]);
    let attacks = prop::collection::vec((attacker, span, any::<bool>()), 0..4);
    let flood = prop::option::of((begin..begin + 600, 4u32..14, 1u32..60));
    (downs, faults, absent, lost, steps, attacks, flood, any::<bool>()).prop_map(
        move |(downs, faults, absent, lost, steps, attacks, flood, with_rules)| {
            let mut text = format!("{SITE}run {begin}..{}\n", begin + 600);
            let line = |word: &str, subject: &str, (from, length): (u32, u32)| {
                format!("{word} {subject} {from}.3..{}.3\n", from + length)
            };
            downs
                .iter()
                .for_each(|(subject, span)| text += &line("down", subject, *span));
            faults
                .iter()
                .for_each(|(subject, span)| text += &line("fault", subject, *span));
            absent
                .iter()
                .for_each(|(from, length)| text += &format!("absent {from}.7..{}.7\n", from + length));
            lost.iter()
                .for_each(|(from, length)| text += &format!("lost {from}.7..{}.7\n", from + length));
            steps
                .iter()
                .for_each(|(at, by)| text += &format!("step {at}.1 {by}.0371\n"));
            for (number, (attacker, (from, length), grows)) in attacks.iter().enumerate() {
                // No two begin at one instant: their ids are made of it.
                let part = 31 + number;
                let (middle, to) = (from + length / 2, from + length);
                let grows = if *grows {
                    format!(" critical {middle}.{}", part + 20)
                } else {
                    String::new()
                };
                text += &format!(
                    "attack port_scan {attacker} {from}.{part}..{to}.{}{grows}\n",
                    part + 40
                );
            }
            if let Some((from, count, length)) = flood {
                text += &format!("attacks port_scan {count} {from}.05..{}.05\n", from + length);
            }
            let rules = with_rules.then(|| RULES.clone());
            Story {
                rules,
                ..parse(&text).unwrap()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_observations_give_the_same_events(story in anything()) {
        let input = observations(&story);
        prop_assert_eq!(fold("cafe-1", &input), fold("cafe-1", &input));
    }

    #[test]
    fn a_restart_at_any_record_changes_nothing(story in anything(), stops in prop::collection::vec(0.0f64..1.0, 1..4)) {
        let input = observations(&story);
        let stops: BTreeSet<usize> = stops.iter().map(|part| (part * input.len() as f64) as usize).collect();
        prop_assert_eq!(fold_with_restarts(&input, &stops), fold("cafe-1", &input));
    }

    #[test]
    fn the_digest_of_an_hour_is_that_of_its_events_through_any_restart(
        story in anything_from(BEFORE_THE_HOUR), stops in prop::collection::vec(0.0f64..1.0, 1..4),
    ) {
        let input = observations(&story);
        let stops: BTreeSet<usize> = stops.iter().map(|part| (part * input.len() as f64) as usize).collect();
        let events = fold_with_restarts(&input, &stops);
        let mut digest = EventDigest::default();
        let mut digests = 0;
        for event in &events {
            match &event.body {
                EventBody::Digest(hour) => {
                    prop_assert_eq!((hour.events, &hour.sha256), (digest.events(), &digest.hex()));
                    digest = EventDigest::default();
                    digests += 1;
                }
                _ => digest.add(event).unwrap(),
            }
        }
        let hours: BTreeSet<_> = ticks(&input).map(|now| now.floor(Span::from_seconds(3_600))).collect();
        prop_assert!(digests + 1 >= hours.len(), "{} digests of {:?}", digests, hours);
    }

    #[test]
    fn what_opens_closes_once_and_nothing_is_negative(story in anything()) {
        let events = fold("cafe-1", &observations(&story));
        consistent(&events)?;
    }

    #[test]
    fn every_event_has_an_identity_of_its_own(story in anything()) {
        let events = fold("cafe-1", &observations(&story));
        let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
        prop_assert_eq!(ids.len(), events.len());
        for pair in events.windows(2) {
            prop_assert!(pair[0].place < pair[1].place, "{:?} before {:?}", pair[0].place, pair[1].place);
        }
    }

    #[test]
    fn everything_survives_its_bytes(story in anything()) {
        for observation in observations(&story) {
            let bytes = encode_observation(&observation).unwrap();
            prop_assert_eq!(decode_observation(&bytes).unwrap(), observation);
        }
        for event in fold("cafe-1", &observations(&story)) {
            let bytes = encode_event(&event).unwrap();
            prop_assert_eq!(decode_event(&bytes).unwrap(), event);
        }
    }

    #[test]
    fn told_late_or_at_once_the_incidents_and_sessions_are_the_same(
        story in anything(), from in 0u32..500, length in 16u32..300,
    ) {
        // Restarts and clock steps end a collector's incarnation, and a spool does not reach over that.
        let live = Story { absent: vec![], lost: vec![], steps: vec![], ..story };
        let spooled = Story { spooled: vec![(f64::from(from) + 0.7, f64::from(from + length) + 0.7)], ..live.clone() };
        let told = |story: &Story| what_happened(&fold("cafe-1", &observations(story)));
        prop_assert_eq!(told(&spooled), told(&live));
    }
}

#[test]
fn the_rules_of_the_stories_fire() {
    let text = format!("{SITE}run 0..120\ndown * 10.3..40.3\n");
    let story = Story {
        rules: Some(RULES.clone()),
        ..parse(&text).unwrap()
    };
    let events = fold("cafe-1", &observations(&story));
    let categories: BTreeSet<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::AttackBegan(attack) => Some(attack.category.as_str()),
            _ => None,
        })
        .collect();
    assert!(categories.into_iter().eq(["loss_of_many", "ping_loss"]));
}

fn ticks(input: &[Observation]) -> impl Iterator<Item = Time> {
    input.iter().filter_map(|observation| match &observation.body {
        Body::Tick(tick) => Some(tick.now),
        _ => None,
    })
}

/// Folds with the chain rebuilt at each stop from what a store would hold: the changes drained so far.
fn fold_with_restarts(input: &[Observation], stops: &BTreeSet<usize>) -> Vec<Event> {
    let mut chain = SiteChain::new("cafe-1");
    let mut store = BTreeMap::new();
    let mut events = Vec::new();
    for (index, observation) in input.iter().enumerate() {
        events.extend(chain.apply(index as u64 + 1, observation));
        for (key, bytes) in chain.drain_dirty() {
            match bytes {
                Some(bytes) => drop(store.insert(key, bytes)),
                None => drop(store.remove(&key)),
            }
        }
        if stops.contains(&index) {
            let versions = chain.versions();
            let mut whole = chain.entries();
            whole.sort();
            assert_eq!(
                whole,
                store.clone().into_iter().collect::<Vec<_>>(),
                "the changes do not add up to the state"
            );
            chain = SiteChain::new("cafe-1");
            chain
                .load(&versions, store.clone().into_iter().collect())
                .unwrap();
        }
    }
    events
}

fn consistent(events: &[Event]) -> Result<(), TestCaseError> {
    let mut open = BTreeSet::new();
    let mut closed = BTreeSet::new();
    let mut present = BTreeSet::new();
    for event in events {
        match &event.body {
            EventBody::IncidentOpened(incident) => {
                prop_assert!(!closed.contains(&incident.id), "{} was reopened", incident.id);
                prop_assert!(
                    open.insert(incident.id.clone()),
                    "{} was opened twice",
                    incident.id
                );
            }
            EventBody::IncidentClosed(incident) => {
                prop_assert!(open.remove(&incident.id), "{} was not open", incident.id);
                closed.insert(incident.id.clone());
                if incident.class == IncidentClass::Outage {
                    prop_assert!(
                        incident.duration_ms >= Some(10_000),
                        "an incident of {:?}",
                        incident.duration_ms
                    );
                }
            }
            EventBody::JitterRecorded(jitter) => {
                prop_assert!(
                    jitter.duration_ms < 10_000 + 9_000,
                    "jitter of {} ms",
                    jitter.duration_ms
                );
            }
            EventBody::SessionStarted(session) => {
                prop_assert!(present.insert(session.pc.clone()), "{} is here twice", session.pc);
            }
            EventBody::SessionEnded(session) => {
                prop_assert!(present.remove(&session.pc), "{} was not here", session.pc);
            }
            EventBody::OccupancySnapshot(snapshot) => prop_assert!(snapshot.current <= snapshot.total),
            EventBody::SubjectChanged(change) => prop_assert_ne!(change.from, change.to),
            EventBody::SubjectDegraded(_)
            | EventBody::IncidentEscalated(_)
            | EventBody::IncidentReminded(_)
            | EventBody::IncidentAcknowledged(_)
            | EventBody::TargetRollup(_)
            | EventBody::NotificationRequested(_)
            | EventBody::SilenceChanged(_)
            | EventBody::Digest(_)
            | EventBody::AlertRaised(_)
            | EventBody::AttackBegan(_)
            | EventBody::AttackGrew(_)
            | EventBody::AttackEnded(_)
            | EventBody::LookupWanted(_) => {}
        }
    }
    Ok(())
}

/// Incidents of what is watched and sessions, without how and when people were told.
fn what_happened(events: &[Event]) -> Vec<String> {
    let mut out = Vec::new();
    for event in events {
        match &event.body {
            EventBody::IncidentClosed(incident) if incident.class == IncidentClass::Outage => {
                out.push(format!(
                    "{} {} {:?}",
                    incident.subject, incident.started_at, incident.ended_at
                ));
            }
            EventBody::SessionEnded(session) => {
                out.push(format!(
                    "{} {} {:?}",
                    session.pc, session.started_at, session.ended_at
                ));
            }
            EventBody::JitterRecorded(jitter) => {
                out.push(format!("{} {} {}", jitter.subject, jitter.since, jitter.until))
            }
            _ => {}
        }
    }
    out
}

/// How many stories each property is held against; `make soak` asks for more.
fn cases() -> u32 {
    std::env::var("WATCHFOLD_PROPERTY_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(48)
}
