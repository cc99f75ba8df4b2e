//! The chain's own state: who is silent after an absence, and which stored form is taken over.

use serde::Serialize;
use watchfold_schemas::config::Signal;
use watchfold_schemas::observation::{Observation, Outcome, PingRow, Tick};
use watchfold_schemas::{Body, Origin, Span, Time};

use crate::timers::TimerClock;
use crate::{LoadError, SiteChain, StateMachine};

/// A broker is away for a while: its clock ticks again at once, and what a collector spooled comes behind.
fn told_of_silence(away_s: i64, back_after_s: i64) -> Vec<&'static str> {
    let mut chain = SiteChain::new("cafe-1");
    let mut told = Vec::new();
    let mut sequence = 0;
    let begin = Time::from_seconds(1_000_000);
    let mut say = |collector: &str, second: i64, body: Body| {
        sequence += 1;
        let at = begin + Span::from_seconds(second);
        let observation = Observation {
            v: 1,
            origin: Origin {
                site: "cafe-1".to_owned(),
                collector: collector.to_owned(),
                incarnation: 1,
                number: sequence,
            },
            observed_at: at,
            through: at,
            body,
        };
        let events = chain.apply(sequence, &observation);
        told.extend(
            events
                .iter()
                .map(|event| event.body.kind())
                .filter(|kind| kind.starts_with("incident")),
        );
    };
    let tick = |second: i64| {
        let now = begin + Span::from_seconds(second);
        Body::Tick(Tick {
            now,
            interval_ms: 10_000,
        })
    };
    let empty = || Body::Quiet;
    for second in (0..=60).step_by(5) {
        if second % 10 == 0 {
            say("clock", second, tick(second));
        }
        say("capture-eth0", second, empty());
    }
    let back = 60 + away_s;
    let next = (back / 10 + 1) * 10;
    say("clock", back, tick(back));
    for second in (next..=back + back_after_s).step_by(10) {
        say("clock", second, tick(second));
    }
    say("capture-eth0", 65, empty());
    told
}

#[test]
fn after_an_absence_nobody_is_silent_who_has_had_no_time_to_be_heard() {
    // A tick that is late, and no absence yet, leaves what is left of the limit.
    for (away_s, heard_after_s) in [(6, 13), (15, 4), (16, 13), (30, 10), (40, 10), (50, 10), (51, 10)] {
        assert_eq!(told_of_silence(away_s, heard_after_s), [""; 0], "{away_s}");
    }
    assert_eq!(told_of_silence(3_600, 10), [""; 0]);
    assert_eq!(told_of_silence(30, 60), ["incident_opened", "incident_closed"]);
}

/// What version 1 stored of a collector whose rows wait.
#[derive(Serialize)]
struct ClockV1 {
    incarnation: u64,
    waiting: Vec<PingRow>,
}

/// A timer of version 1, whose key began with a letter for its fold.
#[derive(Serialize)]
struct TimerV1 {
    fold: &'static str,
    name: &'static str,
    key: &'static str,
    clock: TimerClock,
    deadline: Time,
}

/// The driver derives refused state again from the log; a clock without rows that wait has not changed.
#[test]
fn timers_and_waiting_rows_of_version_1_are_refused_and_the_rest_is_taken_over() {
    let row = PingRow {
        subject: "router".to_owned(),
        address: "192.0.2.1".to_owned(),
        signal: Signal::Echo,
        at: Time(5),
        outcome: Outcome::TimedOut,
        rtt_us: None,
        mac: None,
        detail: None,
        why: None,
        resolved: None,
    };
    let clock = |waiting: Vec<PingRow>| {
        let clock = ClockV1 {
            incarnation: 1,
            waiting,
        };
        ("clocks/collector/ping", rmp_serde::to_vec_named(&clock).unwrap())
    };
    let timer = TimerV1 {
        fold: "liveness",
        name: "outage_due",
        key: "router",
        clock: TimerClock::Site,
        deadline: Time(5),
    };
    let timer = (
        "timers/pending/a/outage_due/router",
        rmp_serde::to_vec_named(&timer).unwrap(),
    );
    for (entry, is_taken) in [
        (clock(vec![row]), false),
        (timer, false),
        (clock(Vec::new()), true),
    ] {
        let mut chain = SiteChain::new("cafe-1");
        let versions: Vec<(String, u32)> = [("chain", 1), ("liveness", 1)]
            .map(|(of, v)| (of.to_owned(), v))
            .to_vec();
        let (key, bytes) = entry;
        let loaded = chain.load(&versions, vec![(key.as_bytes().to_vec(), bytes)]);
        match is_taken {
            true => assert_eq!(loaded, Ok(()), "{key}"),
            false => assert!(matches!(loaded, Err(LoadError::Damaged(_))), "{key}: {loaded:?}"),
        }
    }
}
