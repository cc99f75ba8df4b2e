//! A destination that takes nothing is a recorded fault, once, until it takes something or is gone.

use watchfold_schemas::observation::Body;
use watchfold_schemas::{Stream, decode_observation, subjects};

use super::delivery::{World, soon};
use super::{SITE, opened, sessions, until};
use crate::Outcome;

impl World {
    /// (destination, whether the fault began) of each recorded fault.
    fn faults(&self) -> Vec<(String, bool)> {
        let subject = subjects::observation(SITE, "fault", "test");
        let records = self.log.records(Stream::Observations);
        let body = |payload: &[u8]| match decode_observation(payload).unwrap().body {
            Body::Fault(fault) => (fault.subject, fault.active),
            other => panic!("{other:?}"),
        };
        let own = records.iter().filter(|record| record.subject == subject);
        own.map(|record| body(&record.payload)).collect()
    }
}

/// (destination, whether the fault began), as they are recorded.
fn faults(of: &[(&str, bool)]) -> Vec<(String, bool)> {
    of.iter()
        .map(|(lane, active)| (format!("sink:test/{lane}"), *active))
        .collect()
}

#[tokio::test]
async fn a_destination_that_refuses_is_a_recorded_fault_until_it_takes_something() {
    for refusal in [
        Outcome::Rejected {
            detail: "400: no".into(),
        },
        Outcome::Blocked {
            detail: "404: no".into(),
        },
    ] {
        let mut world = World::new();
        world.far.answer("alerts", refusal.clone());
        world.ask(opened("a")).await;
        world.ask(sessions(1)).await;
        let running = world.start().await;
        until("the fault is recorded", || !world.faults().is_empty()).await;
        until("the health page says so", || {
            let detail = running.progress.snapshot().detail;
            detail.is_some_and(|detail| detail.starts_with("alerts: 40"))
        })
        .await;
        running.stop().await;
        // A restart knows from the log what is wrong, and records it once.
        let running = world.start().await;
        if let Outcome::Rejected { .. } = refusal {
            until("the health page says so after a restart", || {
                let detail = running.progress.snapshot().detail;
                detail.is_some_and(|detail| detail.contains("400: no"))
            })
            .await;
        }
        world.ask(opened("b")).await;
        until("the fault is over", || world.faults().len() == 2).await;
        until("the health page is well", || {
            running.progress.snapshot().detail.is_none()
        })
        .await;
        running.stop().await;
        let want = faults(&[("alerts", true), ("alerts", false)]);
        assert_eq!(world.faults(), want, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_fault_of_a_destination_is_read_from_the_log_when_the_state_file_is_gone() {
    let mut world = World::new();
    let refusal = Outcome::Rejected {
        detail: "400: no".into(),
    };
    world.far.answer("alerts", refusal);
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the fault is recorded", || !world.faults().is_empty()).await;
    running.stop().await;
    std::fs::remove_file(world.state_path()).unwrap();
    let running = world.start().await;
    until("the health page says so", || {
        running.progress.snapshot().detail.is_some()
    })
    .await;
    world.ask(opened("b")).await;
    until("the fault is over", || world.faults().len() == 2).await;
    running.stop().await;
}

#[tokio::test]
async fn a_fault_is_over_when_the_address_changes_or_the_sink_is_not_configured_any_more() {
    let mut world = World::new();
    let refusal = || Outcome::Rejected {
        detail: "400: no".into(),
    };
    world.far.answer("alerts", refusal());
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the fault is recorded", || !world.faults().is_empty()).await;
    // A reload that leaves the address as it is says nothing about it.
    running.reload.send(()).unwrap();
    world.ask(sessions(1)).await;
    until("the other class is told", || world.far.told() == ["started 1"]).await;
    assert_eq!(world.faults().len(), 1);
    *world.far.address.lock().unwrap() += 1;
    running.reload.send(()).unwrap();
    until("the fault is over", || world.faults().len() == 2).await;
    world.far.answer("alerts", refusal());
    world.ask(opened("b")).await;
    until("the new address refuses, too", || world.faults().len() == 3).await;
    running.stop().await;
    let context = world.context(world.log.clone()).await;
    crate::withdraw(&context).await;
    crate::withdraw(&context).await;
    let want = [
        ("alerts", true),
        ("alerts", false),
        ("alerts", true),
        ("alerts", false),
    ];
    assert_eq!(world.faults(), faults(&want));
}

#[tokio::test]
async fn a_hiccup_is_no_fault_of_a_destination() {
    let mut world = World::new();
    for _ in 0..4 {
        world.far.answer("alerts", soon("no connection"));
    }
    world.ask(opened("a")).await;
    world.run_until_settled().await;
    assert_eq!(world.faults(), []);
}

#[tokio::test]
async fn the_state_file_follows_the_reason_of_a_fault_that_lasts() {
    let mut world = World::new();
    let refusal = |detail: &str| Outcome::Rejected {
        detail: detail.into(),
    };
    world.far.answer("alerts", refusal("400: no"));
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the fault is recorded", || !world.faults().is_empty()).await;
    world.far.answer("alerts", refusal("403: no"));
    world.ask(opened("b")).await;
    until("the state file has the new reason", || {
        let recorded = crate::recorded_faults(&world.state_path());
        recorded.values().any(|reason| reason.starts_with("403: no"))
    })
    .await;
    running.stop().await;
    assert_eq!(world.faults().len(), 1, "the log learns of it once");
}
