//! What a stopped process left in its log, and whether it hangs together: every check here holds after any run,
//! whatever was done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use watchfold_folds::{SiteChain, StateMachine};
use watchfold_log::{Record, StreamFiles, verify};
use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::event::{Incident, IncidentClass};
use watchfold_schemas::{Event, EventBody, Observation, Stream, decode_event, decode_observation};
use watchfold_tests::story::{self, parse};

use crate::watchfold::House;

/// Everything in the log of a data directory.
#[derive(Clone)]
pub struct Recorded {
    pub observations: Vec<(u64, Observation)>,
    pub events: Vec<Event>,
    /// The message ids of all records of `WF_OBS`.
    pub ids: BTreeSet<String>,
}

impl Recorded {
    /// Reads the log of a directory that no process writes to, and holds it against what must always be true.
    pub fn checked(data: &Path) -> Recorded {
        let log = data.join("log");
        let report = verify(&log).unwrap();
        assert!(report.is_whole(), "the log is damaged: {report:?}");
        let observations = records(&log, Stream::Observations);
        let recorded = Recorded {
            ids: observations.iter().map(|record| record.id.0.clone()).collect(),
            observations: observations
                .iter()
                .map(|record| (record.sequence, decode_observation(&record.payload).unwrap()))
                .collect(),
            events: records(&log, Stream::Events)
                .iter()
                .map(|record| decode_event(&record.payload).unwrap())
                .collect(),
        };
        recorded.hangs_together();
        recorded
    }

    fn hangs_together(&self) {
        assert_eq!(
            self.ids.len(),
            self.observations.len(),
            "an observation stands twice"
        );
        self.numbers_have_no_holes();
        self.no_event_stands_twice();
        self.folding_again_gives_the_same();
    }

    fn numbers_have_no_holes(&self) {
        let mut next: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        for (sequence, observation) in &self.observations {
            let origin = &observation.origin;
            let next = next.entry((&origin.collector, origin.incarnation)).or_insert(1);
            assert_eq!(
                origin.number, *next,
                "{origin} at {sequence} leaves a hole or comes out of order"
            );
            *next += 1;
        }
    }

    fn no_event_stands_twice(&self) {
        let mut seen = BTreeSet::new();
        for event in &self.events {
            assert!(seen.insert(&event.id), "an event stands twice: {event:?}");
        }
    }

    /// Parity: the recorded events are those that the recorded observations give, in this order.
    fn folding_again_gives_the_same(&self) {
        let Some((_, first)) = self.observations.first() else {
            return;
        };
        let mut chain = SiteChain::new(&first.origin.site);
        let mut folded = Vec::new();
        for (sequence, observation) in &self.observations {
            folded.extend(chain.apply(*sequence, observation));
        }
        for (folded, recorded) in folded.iter().zip(&self.events) {
            assert_eq!(
                folded, recorded,
                "folding the observations again gives another event"
            );
        }
        let (folded_len, recorded) = (folded.len(), self.events.len());
        assert!(
            folded_len >= recorded,
            "{recorded} events from observations that give {folded_len}"
        );
        let missing = &folded[recorded..];
        assert!(
            missing.is_empty(),
            "a drained process left events untold: {missing:?}"
        );
    }

    /// How many events of each kind there are, besides those that come by the clock.
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for event in &self.events {
            if !matches!(
                event.body,
                EventBody::TargetRollup(_) | EventBody::OccupancySnapshot(_)
            ) {
                *kinds.entry(event.body.kind()).or_default() += 1;
            }
        }
        kinds
    }

    /// The outages that were opened and those that were closed, in order.
    pub fn outages(&self) -> (Vec<&Incident>, Vec<&Incident>) {
        let of = |pick: fn(&EventBody) -> Option<&Incident>| {
            let incidents = self.events.iter().filter_map(|event| pick(&event.body));
            incidents.filter(|it| it.class == IncidentClass::Outage).collect()
        };
        (of(opened), of(closed))
    }
}

/// A recording that was made while it happened holds all of it, and gives what live derived: event for event, in another process.
pub async fn replays_as_it_was(house: &House, recording: &Path, live: &Recorded) {
    let path = recording.to_str().unwrap();
    let replayed = house.run_plain(&["replay", path, "--format", "jsonl"]).await;
    let told = String::from_utf8_lossy(&replayed.stderr);
    assert_eq!(replayed.status.code(), Some(0), "{told}");
    let lines = String::from_utf8(replayed.stdout).unwrap();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).unwrap());
    // A digest names the software that made it, and is compared by its own means.
    let is_compared = |event: &Event| EventDigest::covers(&event.body);
    let events: Vec<Event> = events.filter(is_compared).collect();
    let of_live: Vec<&Event> = live.events.iter().filter(|event| is_compared(event)).collect();
    for (replayed, live) in events.iter().zip(&of_live) {
        assert_eq!(replayed, *live, "the replay of the recording gives another event");
    }
    assert_eq!(events.len(), of_live.len(), "{told}");
    assert!(
        told.contains(&format!("{} observations", live.observations.len())),
        "{told}"
    );
    let same = house.run_plain(&["replay", path, "--diff"]).await;
    let told = String::from_utf8_lossy(&same.stderr);
    assert_eq!(same.status.code(), Some(0), "{told}");
    let digest = |what: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(what));
        line.map(str::trim).map(str::to_owned)
    };
    assert_eq!(digest("digest recorded"), digest("digest derived"), "{told}");
    assert!(digest("digest derived").is_some(), "{told}");
}

fn opened(body: &EventBody) -> Option<&Incident> {
    match body {
        EventBody::IncidentOpened(incident) => Some(incident),
        _ => None,
    }
}

fn closed(body: &EventBody) -> Option<&Incident> {
    match body {
        EventBody::IncidentClosed(incident) => Some(incident),
        _ => None,
    }
}

fn records(log: &Path, stream: Stream) -> Vec<Record> {
    let Some(mut files) = StreamFiles::open(log, stream).unwrap() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    loop {
        let batch = files.next(1_024).unwrap();
        assert_eq!(batch.lost, None, "records of {stream} are gone");
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.records);
    }
}

#[test]
fn what_does_not_hang_together_is_noticed() {
    let story = parse("target router\nrun 0..90\ndown router 20..50\n").unwrap();
    let observations: Vec<(u64, Observation)> = (1..).zip(story::observations(&story)).collect();
    let mut chain = SiteChain::new(&story.config.site);
    let whole = Recorded {
        ids: observations.iter().map(|(_, it)| it.origin.to_string()).collect(),
        events: observations
            .iter()
            .flat_map(|(at, it)| chain.apply(*at, it))
            .collect(),
        observations,
    };
    whole.hangs_together();
    let damages: [(&str, Damage); 5] = [
        ("an event is gone", |it| drop(it.events.pop())),
        ("an event is another", |it| it.events[1].key.push('x')),
        ("an event stands twice", |it| {
            let again = it.events[0].clone();
            it.events.push(again);
        }),
        ("an observation is gone", |it| {
            let (_, gone) = it.observations.remove(7);
            it.ids.remove(&gone.origin.to_string());
        }),
        ("an observation stands twice", |it| {
            let again = it.observations[7].clone();
            it.observations.insert(8, again);
        }),
    ];
    for (what, damage) in damages {
        let mut damaged = whole.clone();
        damage(&mut damaged);
        let noticed = std::panic::catch_unwind(|| damaged.hangs_together());
        assert!(noticed.is_err(), "not noticed: {what}");
    }
}

type Damage = fn(&mut Recorded);
