//! Everything that goes wrong: keys, quotas, slow and broken answers, a log that takes nothing.

use std::time::Duration;

use watchfold_schemas::Time;
use watchfold_schemas::alert::SubjectKind;
use watchfold_sink_kit::Secret;
use watchfold_virustotal::LookupCount;
use watchfold_virustotal::testing::{Failure, KNOWN_KEY};

use crate::world::{SITE, World, until};

const BAD_KEY: &str = "badc0ffeebadc0ffeebadc0ffee";

fn error(status: u16, code: &'static str, retry_after_s: Option<u64>) -> Failure {
    Failure::Error {
        status,
        code,
        retry_after_s,
    }
}

#[tokio::test]
async fn a_refused_key_is_one_fault_at_each_site_and_no_further_call() {
    let mut world = World::new().await;
    world.configure(|config| config.key = Some(Secret::new(BAD_KEY)));
    let running = world.start();
    world.ask("8.0.0.1").await;
    running.fails("401 WrongCredentialsError").await;
    until("a fault", || world.faults().len() == 1).await;
    for number in 2..=9 {
        world.ask(&format!("8.0.0.{number}")).await;
    }
    world.ask_at("cafe-2", SubjectKind::Address, "8.0.0.1", 900).await;
    until("two faults", || world.faults().len() == 2).await;
    world.clock.pass(3_000);
    world.no_further_call().await;
    world.calls(1).await;
    let faults = world.faults();
    let sites: Vec<&str> = faults.iter().map(|(site, _)| site.as_str()).collect();
    assert_eq!(sites, ["cafe-1", "cafe-2"]);
    for (_, fault) in &faults {
        assert!(fault.active && fault.subject.is_empty(), "{fault:?}");
        assert!(fault.reason.contains("401 WrongCredentialsError"), "{fault:?}");
        assert!(fault.reason.contains("sinks.virustotal.key"), "{fault:?}");
    }
    // After a restart it is tried once, and the sites that know are not told again.
    running.stop().await;
    let running = world.start();
    running.fails("401 WrongCredentialsError").await;
    world.no_further_call().await;
    world.calls(2).await;
    assert_eq!(world.faults().len(), 2);
    // Another key ends it.
    world.configure(|_| {});
    until("both are over", || {
        world.faults().iter().filter(|(_, fault)| !fault.active).count() == 2
    })
    .await;
    until("answers", || world.verdicts().len() >= 4).await;
    until("well", || running.progress.snapshot().detail.is_none()).await;
    let stored = world.everything_stored();
    assert!(!stored.contains(BAD_KEY) && !stored.contains(KNOWN_KEY));
    running.stop().await;
}

#[tokio::test]
async fn switching_it_off_ends_the_fault() {
    let mut world = World::new().await;
    world.configure(|config| config.key = Some(Secret::new(BAD_KEY)));
    let running = world.start();
    world.ask("8.0.0.1").await;
    until("a fault", || world.faults().len() == 1).await;
    world.config.send_replace(None);
    until("its end", || {
        world.faults().last().is_some_and(|(_, fault)| !fault.active)
    })
    .await;
    until("well", || running.progress.snapshot().detail.is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_asked() {
    let mut world = World::new().await;
    world.configure(|config| config.key = None);
    let running = world.start();
    world.ask("8.0.0.1").await;
    world.no_further_call().await;
    assert!(world.server.calls().is_empty() && running.progress.snapshot().detail.is_none());
    // A key that comes finds the question still fresh.
    world.configure(|_| {});
    world.answers(1).await;
    running.stop().await;
}

/// One question, this failure, then time passes: no call before `wait_s`, one after it.
async fn waits(failure: Failure, wait_s: i64) {
    let mut world = World::new().await;
    world.server.fail_next(failure.clone());
    let running = world.start();
    world.ask("8.0.0.1").await;
    world.calls(1).await;
    until(&format!("{failure:?} is understood"), || {
        running.count(LookupCount::TooMuch) + running.count(LookupCount::Away) == 1
    })
    .await;
    world.clock.pass(wait_s - 1);
    world.no_further_call().await;
    world.clock.pass(1);
    world.calls(2).await;
    world.answers(1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_the_server_says_or_a_minute() {
    waits(error(429, "TooManyRequestsError", Some(1_700)), 1_700).await;
    waits(error(429, "TooManyRequestsError", None), 61).await;
}

#[tokio::test]
async fn no_usable_answer_is_a_pause() {
    waits(error(503, "TransientError", None), 15).await;
    waits(error(503, "TransientError", Some(120)), 120).await;
    waits(Failure::Portal(200), 15).await;
    waits(Failure::Portal(404), 15).await;
    waits(Failure::Portal(302), 15).await;
    waits(Failure::Garbage(vec![0xff; 100]), 15).await;
    waits(Failure::CloseMidBody, 15).await;
    waits(Failure::Close, 15).await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_none() {
    let mut world = World::new().await;
    world.timing.call_timeout = Duration::from_millis(200);
    world.server.fail_next(Failure::Slow(Duration::from_secs(600)));
    let running = world.start();
    world.ask("8.0.0.1").await;
    running.counts(LookupCount::Away, 1).await;
    world.clock.pass(15);
    world.answers(1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_still_used_up_after_a_minute_waits_for_the_next_day() {
    let mut world = World::new().await;
    let quota = || error(429, "QuotaExceededError", None);
    world.server.fail_next(quota());
    world.server.fail_next(quota());
    let running = world.start();
    world.ask("8.0.0.1").await;
    running.counts(LookupCount::TooMuch, 1).await;
    world.clock.pass(61);
    running.counts(LookupCount::TooMuch, 2).await;
    let tomorrow: Time = "2026-01-02T00:00:00Z".parse().unwrap();
    // Neither hours nor a restart end the wait.
    world.clock.pass(11 * 3_600);
    world.ask("8.0.0.2").await;
    running.counts(LookupCount::Asked, 2).await;
    world.no_further_call().await;
    running.stop().await;
    std::fs::remove_file(world.state_path()).unwrap();
    let running = world.start();
    world.no_further_call().await;
    let left = tomorrow.since(world.server.calls()[1].at).as_millis() / 1_000 - 11 * 3_600;
    world.clock.pass(left - 1);
    world.no_further_call().await;
    world.clock.pass(1);
    world.ask("8.0.0.2").await;
    world.answers(1).await;
    world.calls(3).await;
    running.stop().await;
}

#[tokio::test]
async fn a_subject_that_is_refused_is_left_alone_for_a_day() {
    let mut world = World::new().await;
    world.server.fail_next(error(403, "ForbiddenError", None));
    let running = world.start();
    world.ask("8.0.0.1").await;
    running.counts(LookupCount::Refused, 1).await;
    for hours in [0, 1, 23] {
        world.clock.pass(hours * 3_600);
        world.ask("8.0.0.1").await;
    }
    world.ask("8.0.0.2").await;
    running.counts(LookupCount::Asked, 5).await;
    world.answers(1).await;
    world.calls(2).await;
    world.clock.pass(1);
    world.ask("8.0.0.1").await;
    world.answers(2).await;
    running.stop().await;
}

#[tokio::test]
async fn after_three_calls_without_an_answer_a_subject_is_left_alone_for_an_hour() {
    let mut world = World::new().await;
    let running = world.start();
    for _ in 0..3 {
        world.server.fail_next(error(500, "", None));
    }
    world.ask("8.0.0.1").await;
    for (calls, pause_s) in [(1, 15), (2, 30), (3, 60)] {
        running.counts(LookupCount::Away, calls).await;
        world.clock.pass(pause_s);
    }
    running.fails("VirusTotal does not answer: 500").await;
    world.ask("8.0.0.1").await;
    running.counts(LookupCount::FromCache, 1).await;
    world.no_further_call().await;
    world.ask_at(SITE, SubjectKind::Address, "8.0.0.2", 500).await;
    world.answers(1).await;
    until("well", || running.progress.snapshot().detail.is_none()).await;
    world.clock.pass(3_600);
    world.ask("8.0.0.1").await;
    world.answers(2).await;
    running.stop().await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_for_long_is_a_fault_until_it_does() {
    let mut world = World::new().await;
    let running = world.start();
    for _ in 0..5 {
        world.server.fail_next(error(503, "TransientError", None));
    }
    world.ask("8.0.0.1").await;
    for (calls, pause_s) in [(1, 15), (2, 30), (3, 60)] {
        running.counts(LookupCount::Away, calls).await;
        assert!(world.faults().is_empty(), "after {calls} calls it is a hiccup");
        world.clock.pass(pause_s);
    }
    world.ask("8.0.0.2").await;
    running.counts(LookupCount::Away, 4).await;
    world.clock.pass(120);
    running.counts(LookupCount::Away, 5).await;
    until("a fault", || world.faults().len() == 1).await;
    assert!(world.faults()[0].1.active && world.faults()[0].1.reason.contains("503"));
    world.clock.pass(240);
    world.answers(1).await;
    until("its end", || {
        world.faults().last().is_some_and(|(_, fault)| !fault.active)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_question_nobody_asks_any_more_is_dropped() {
    let mut world = World::new().await;
    for number in 1..=6 {
        world.ask(&format!("8.0.0.{number}")).await;
    }
    let running = world.start();
    world.calls(4).await;
    world.clock.pass(3_601);
    running.counts(LookupCount::Stale, 2).await;
    world.no_further_call().await;
    // One that is old when it is read is not asked about either.
    running.stop().await;
    world.ask("8.0.0.7").await;
    world.clock.pass(3_601);
    let running = world.start();
    running.counts(LookupCount::Stale, 1).await;
    world.calls(4).await;
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_takes_nothing_gets_the_verdict_later() {
    let mut world = World::new().await;
    world.server.fail_next(Failure::Slow(Duration::from_millis(300)));
    let running = world.start();
    world.ask("8.0.0.1").await;
    world.calls(1).await;
    world.log.fail_appends(true);
    running.counts(LookupCount::Answered, 1).await;
    world.no_further_call().await;
    assert!(world.verdicts().is_empty());
    world.log.fail_appends(false);
    world.answers(1).await;
    world.calls(1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_state_file_is_set_aside_and_costs_calls_only() {
    let mut world = World::new().await;
    let running = world.start();
    world.ask("8.0.0.1").await;
    world.answers(1).await;
    running.stop().await;
    let good = std::fs::read(world.state_path()).unwrap();
    for damaged in [&good[..good.len() / 2], b"[]", br#"{"v":99}"#] {
        std::fs::write(world.state_path(), damaged).unwrap();
        world.clock.pass(100);
        let running = world.start();
        running.counts(LookupCount::StateFailures, 1).await;
        let aside = world.state_path().with_extension("state.set-aside");
        assert_eq!(std::fs::read(aside).unwrap(), damaged);
        running.counts(LookupCount::Verdicts, 1).await;
        running.stop().await;
    }
    // Each time the questions of the last hour were read again, and answered again.
    world.calls(4).await;
}
