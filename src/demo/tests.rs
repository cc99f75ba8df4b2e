//! What the café's days hold: the planned troubles and nothing else, and the planned visits.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use watchfold_dashboard::{ExplainFailure, ExplainKind, ExplainRequest, ExplainTurn};
use watchfold_folds::{SiteChain, StateMachine};
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{MessageLog, Start};
use watchfold_schemas::event::{Incident, IncidentClass, Session, SubjectState};
use watchfold_schemas::{Chain, Event, EventBody, Observation, Span, Stream, Time, codec, subjects};

use super::cafe::SITE;
use super::day::Days;
use super::feed::{DemoTime, Feed};
use super::plan::{Outline, PCS, Plan, Window};
use crate::explain::explainer;
use crate::open_page;
use crate::paths::Data;

const MINUTE: i64 = 60;

/// A day of two and a half hours with all that a whole one has; whole ones take minutes without optimisation.
const SHORT: Outline = Outline {
    length_s: 150 * MINUTE,
    open: Window::new(3 * MINUTE, 141 * MINUTE),
    leave_s: 8 * MINUTE,
    visit_s: (8 * MINUTE, 40 * MINUTE),
    shift_max_s: MINUTE,
    hiccup: Window::new(10 * MINUTE, 6),
    dns: Window::new(14 * MINUTE, 20 * MINUTE),
    router: Window::new(40 * MINUTE, 7 * MINUTE),
    isp: Window::new(60 * MINUTE, 35 * MINUTE),
    silence: Window::new(100 * MINUTE, 2 * MINUTE),
    flapping: Window::new(110 * MINUTE, 12 * MINUTE),
};

/// Rounds are two seconds apart, so that is how far a moment may be from what was planned.
const ROUND: Span = Span::from_seconds(2);

fn start() -> Time {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn at(second: i64) -> Time {
    start() + Span::from_seconds(second)
}

fn short_day(seed: u64) -> impl Iterator<Item = Observation> {
    Days::new(start(), seed, SHORT).take_while(|observation| observation.observed_at < at(SHORT.length_s))
}

fn fold(observations: impl Iterator<Item = Observation>) -> Vec<Event> {
    let mut fold = SiteChain::new(SITE);
    let mut events = Vec::new();
    for (sequence, observation) in (1..).zip(observations) {
        events.extend(fold.apply(sequence, &observation));
        fold.drain_dirty();
    }
    events
}

/// What the short day of a seed comes to; folded once for all tests.
fn folded(seed: u64) -> &'static [Event] {
    static FIRST: LazyLock<Vec<Event>> = LazyLock::new(|| fold(short_day(1)));
    static SECOND: LazyLock<Vec<Event>> = LazyLock::new(|| fold(short_day(2)));
    if seed == 1 { &FIRST } else { &SECOND }
}

fn near(seen: Time, planned: Time) -> bool {
    seen.since(planned).0.abs() <= ROUND.0
}

#[track_caller]
fn check_incident(incidents: &[&Incident], class: IncidentClass, subject: &str, from_s: i64, until_s: i64) {
    let found: Vec<_> = incidents
        .iter()
        .filter(|incident| incident.class == class && incident.subject == subject)
        .collect();
    let [incident] = found.as_slice() else {
        panic!("{class:?} of {subject}: {found:#?}");
    };
    let ended_at = incident.ended_at.unwrap();
    assert!(
        near(incident.started_at, at(from_s)) && near(ended_at, at(until_s)),
        "planned {} to {}: {incident:#?}",
        at(from_s),
        at(until_s)
    );
}

#[test]
fn a_day_holds_the_planned_troubles_and_nothing_else() {
    for seed in [1, 2] {
        let plan = Plan::new(&SHORT, seed);
        let events = folded(seed);
        let closed: Vec<&Incident> = events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::IncidentClosed(incident) => Some(incident),
                _ => None,
            })
            .collect();
        let opened = events
            .iter()
            .filter(|event| matches!(event.body, EventBody::IncidentOpened(_)));
        assert_eq!((opened.count(), closed.len()), (4, 4), "{closed:#?}");
        let (isp, router, silence) = (plan.isp, plan.router, plan.silence);
        check_incident(
            &closed,
            IncidentClass::Outage,
            "internet",
            isp.from_s,
            isp.until_s,
        );
        check_incident(
            &closed,
            IncidentClass::Outage,
            "router",
            router.from_s,
            router.until_s,
        );
        check_incident(
            &closed,
            IncidentClass::CollectorSilent,
            "collector:ping",
            silence.from_s,
            silence.until_s,
        );
        let calm_s = plan.drops.last().unwrap().until_s + 10 * MINUTE;
        check_incident(
            &closed,
            IncidentClass::Flapping,
            "server",
            plan.drops[0].until_s,
            calm_s,
        );
        let jitters = events
            .iter()
            .filter(|event| matches!(event.body, EventBody::JitterRecorded(_)))
            .count();
        assert_eq!(jitters, plan.drops.len() + 1, "the drops and the hiccup");
        let degraded: Vec<Time> = events
            .iter()
            .filter(|event| matches!(event.body, EventBody::SubjectDegraded(_)))
            .map(|event| event.at)
            .collect();
        let [from, until] = degraded.as_slice() else {
            panic!("{degraded:?}");
        };
        // It is known with the second echo that is lost, one round after the first.
        assert!(near(*from, at(plan.dns.from_s) + ROUND), "{from}");
        assert!(near(*until, at(plan.dns.until_s)), "{until}");
    }
}

#[test]
fn the_router_suppresses_what_is_behind_it_and_freezes_the_pcs() {
    let plan = Plan::new(&SHORT, 1);
    let events = folded(1);
    let during: Vec<&Event> = events
        .iter()
        .filter(|event| at(plan.router.from_s) <= event.at && event.at < at(plan.router.until_s))
        .collect();
    let mut states: BTreeMap<&str, SubjectState> = BTreeMap::new();
    for event in &during {
        if let EventBody::SubjectChanged(change) = &event.body {
            states.insert(&change.subject, change.to);
        }
    }
    assert_eq!(states["server"], SubjectState::Suppressed);
    assert_eq!(states["internet"], SubjectState::Suppressed);
    let frozen = states.values().filter(|state| **state == SubjectState::Frozen);
    assert_eq!(frozen.count(), PCS);
    let ended = during
        .iter()
        .filter(|event| matches!(event.body, EventBody::SessionEnded(_)));
    assert_eq!(ended.count(), 0);
}

#[test]
fn sessions_are_the_planned_visits() {
    let plan = Plan::new(&SHORT, 1);
    let sessions: Vec<Session> = folded(1)
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::SessionEnded(session) => Some(session.clone()),
            _ => None,
        })
        .collect();
    let planned: usize = plan.visits.iter().map(Vec::len).sum();
    assert_eq!(
        sessions.len(),
        planned,
        "each visit is one session, outages or not"
    );
    // A moment that nobody could see is seen once somebody can.
    let hidden = |second: i64| {
        [plan.router, plan.silence]
            .into_iter()
            .find(|window| window.contains(second + 1))
            .map_or(second, |window| window.until_s)
    };
    for (pc, visits) in plan.visits.iter().enumerate() {
        let name = format!("PC-{:02}", pc + 1);
        let mut of_pc = sessions.iter().filter(|session| session.name == name);
        for visit in visits {
            let session = of_pc.next().unwrap();
            assert!(
                near(session.started_at, at(hidden(visit.from_s))),
                "{visit:?} {session:?}"
            );
            assert!(
                near(session.ended_at.unwrap(), at(hidden(visit.until_s))),
                "{visit:?} {session:?}"
            );
        }
    }
}

#[test]
fn whole_days_are_full_in_the_evening_and_empty_at_night() {
    const DAYS: usize = 50;
    let mut sums = [0; 5];
    for seed in 0..DAYS as u64 {
        let plan = Plan::new(&Outline::DAY, seed);
        let present = |hour: i64| (0..PCS).filter(|pc| plan.present(*pc, hour * 3_600)).count();
        assert_eq!([4, 8, 23].map(present), [0, 0, 0], "{seed}");
        for (sum, hour) in sums.iter_mut().zip([10, 13, 16, 20, 22]) {
            *sum += present(hour);
        }
        let visits: usize = plan.visits.iter().map(Vec::len).sum();
        assert!((60..=200).contains(&visits), "{seed}: {visits}");
    }
    let [morning, lunch, afternoon, evening, late] = sums.map(|sum| sum / DAYS);
    assert!(
        (3..8).contains(&morning) && (9..15).contains(&lunch) && (6..12).contains(&afternoon),
        "{sums:?}"
    );
    assert!((14..20).contains(&evening) && (8..18).contains(&late), "{sums:?}");
}

#[test]
fn a_seed_gives_the_same_bytes_each_time_and_another_seed_others() {
    let bytes = |seed| -> Vec<u8> {
        Days::new(start(), seed, SHORT)
            .skip(1)
            .take(3_000)
            .flat_map(|observation| codec::encode_observation(&observation).unwrap())
            .collect()
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[tokio::test]
async fn the_feed_writes_each_record_once_under_its_own_time() {
    let log = MemoryLog::new();
    let time = DemoTime::new(start());
    let chain = Progress::new("chain:site");
    // As if the chain were always there first.
    chain.advance(u64::from(u32::MAX), 0);
    let days = Days::new(start(), 1, SHORT);
    let mut feed = Feed::new(log.clone(), days, time.clone(), chain, Progress::new("feed"));
    let want = short_day(1).take_while(|next| next.observed_at < at(20 * MINUTE));
    let want: Vec<String> = want.map(|next| next.origin.message_id().0).collect();
    for minute in [0, 1, 1, 7, 20] {
        feed.write_until(at(minute * MINUTE)).await.unwrap();
        assert!(time.get() < at(minute * MINUTE) || minute == 0);
    }
    let filter = subjects::site_filter(Stream::Observations, SITE);
    let mut reader = log
        .reader(Stream::Observations, &filter, Start::First)
        .await
        .unwrap();
    let batch = reader.try_next(usize::MAX).await.unwrap();
    let got: Vec<String> = batch.records.into_iter().map(|record| record.id.0).collect();
    assert_eq!(got, want);
    assert_eq!(feed.appended(), want.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn the_feed_waits_for_a_chain_that_is_behind() {
    let chain = Progress::new("chain:site");
    let days = Days::new(start(), 1, SHORT);
    let time = DemoTime::new(start());
    let mut feed = Feed::new(
        MemoryLog::new(),
        days,
        time.clone(),
        chain.clone(),
        Progress::new("feed"),
    );
    let whole = feed.write_until(at(SHORT.length_s));
    let short = tokio::time::timeout(Duration::from_secs(60), whole).await;
    assert!(short.is_err(), "it went on without the chain");
    let stood = time.get();
    assert!(
        at(10 * MINUTE) < stood && stood < at(SHORT.length_s / 2),
        "{stood}"
    );
    chain.advance(u64::from(u32::MAX), 0);
    feed.write_until(at(SHORT.length_s)).await.unwrap();
    assert!(time.get() > at(SHORT.length_s - 2));
}

/// What the page is told about an incident and a session: real, from the files of a log that is being written, and as the API's
/// description says.
#[tokio::test]
async fn the_page_explains_from_the_running_log_as_described() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::locate(Some(directory.path())).unwrap();
    data.create().unwrap();
    let time = DemoTime::new(start());
    let log = open_page::open_log(&data, &super::LOG_LIMITS, time.clock());
    let log = log.await.unwrap();
    let chain = Progress::new("chain");
    chain.advance(u64::from(u32::MAX), 0);
    let days = Days::new(start(), 1, SHORT);
    let mut feed = Feed::new(log.clone(), days, time, chain, Progress::new("feed"));
    feed.write_until(at(58 * MINUTE)).await.unwrap();
    let first = |kind, of: fn(&EventBody) -> Option<(&String, Time)>| {
        let (id, started_at) = folded(1).iter().find_map(|event| of(&event.body)).unwrap();
        ExplainRequest {
            kind,
            chain: Chain::Site,
            id: id.clone(),
            started_at,
        }
    };
    let incident = first(ExplainKind::Incident, |body| match body {
        EventBody::IncidentClosed(incident) => Some((&incident.id, incident.started_at)),
        _ => None,
    });
    let session = first(ExplainKind::Session, |body| match body {
        EventBody::SessionEnded(session) => Some((&session.id, session.started_at)),
        _ => None,
    });
    let explain = explainer(&data, SITE);
    for (request, last, setting) in [
        (incident, "incident_closed", "network.min_incident"),
        (session, "session_ended", "occupancy.min_session"),
    ] {
        let explained = explain(request, ExplainTurn::default()).await.unwrap();
        fits(&schema("Explanation"), &explained, "explanation");
        let steps = explained["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["kind"], last);
        assert_eq!(steps[0]["condition"]["setting"], setting);
        assert!(
            !explained["records"].as_array().unwrap().is_empty(),
            "{explained}"
        );
    }
    let unknown = ExplainRequest {
        kind: ExplainKind::Incident,
        chain: Chain::Site,
        id: "0123456789abcdef".into(),
        started_at: start(),
    };
    let failure = explain(unknown, ExplainTurn::default()).await.unwrap_err();
    assert!(matches!(failure, ExplainFailure::NotDerived(_)), "{failure}");
    log.close();
}

/// A schema of the API's description.
fn schema(name: &str) -> serde_json::Value {
    let description: serde_json::Value =
        serde_json::from_str(include_str!("../../sinks/dashboard/openapi.json")).unwrap();
    description["components"]["schemas"][name].clone()
}

/// All that is required is there, and nothing that is not described.
#[track_caller]
fn fits(schema_of: &serde_json::Value, value: &serde_json::Value, place: &str) {
    if let Some(name) = schema_of["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return fits(&schema(name), value, place);
    }
    for item in value.as_array().into_iter().flatten() {
        fits(&schema_of["items"], item, &format!("{place}[]"));
    }
    let Some(object) = value.as_object() else { return };
    for name in schema_of["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().unwrap()), "{place}: no {name}");
    }
    for (name, value) in object {
        match schema_of["properties"].get(name) {
            Some(described) => fits(described, value, &format!("{place}.{name}")),
            None => assert_ne!(schema_of["additionalProperties"], false, "{place}: {name}"),
        }
    }
}

/// Two days and the night between them, as a log and its readers need them.
#[test]
fn records_are_in_order_numbered_without_holes_and_small() {
    let until = at(SHORT.length_s + 20 * MINUTE);
    let mut last: BTreeMap<String, (u64, u64, Time)> = BTreeMap::new();
    let (mut before, mut bytes, mut records) = (start(), 0, 0);
    for observation in Days::new(start(), 3, SHORT).take_while(|next| next.observed_at < until) {
        assert!(observation.observed_at >= before && observation.through <= observation.observed_at);
        before = observation.observed_at;
        let origin = &observation.origin;
        let known = last
            .entry(origin.collector.clone())
            .or_insert((origin.incarnation, 0, start()));
        if origin.incarnation > known.0 {
            *known = (origin.incarnation, 0, known.2);
        }
        assert_eq!((origin.incarnation, origin.number), (known.0, known.1 + 1));
        assert!(observation.through >= known.2, "{observation:?}");
        *known = (known.0, origin.number, observation.through);
        bytes += codec::encode_observation(&observation).unwrap().len();
        records += 1;
    }
    let hours = 3_600 * records / (SHORT.length_s + 20 * MINUTE);
    assert_eq!(last.keys().collect::<Vec<_>>(), ["clock", "config", "ping"]);
    assert!((7_000..14_000).contains(&hours), "{hours} records an hour");
    let day = bytes as i64 * 24 * 3_600 / (SHORT.length_s + 20 * MINUTE);
    assert!(day < 120_000_000, "{day} bytes a day");
}
