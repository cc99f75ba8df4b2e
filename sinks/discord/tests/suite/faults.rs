//! A webhook that refuses everything, and who learns of it.

use watchfold_discord::testing::Failure;
use watchfold_schemas::event::{Notice, NoticeClass};
use watchfold_schemas::observation::Body;
use watchfold_schemas::{Stream, Time, decode_observation, subjects};
use watchfold_sink_kit::Count;

use crate::delivery::{SITE, World, config, until};
use crate::sample::opened;

/// Subject and whether it began of each recorded fault.
fn faults(world: &World) -> Vec<(String, bool)> {
    let subject = subjects::observation(SITE, "fault", "discord");
    let records = world.log.records(Stream::Observations);
    let fault = |payload: &[u8]| match decode_observation(payload).unwrap().body {
        Body::Fault(fault) => (fault.subject, fault.active),
        other => panic!("{other:?}"),
    };
    let own = records.iter().filter(|record| record.subject == subject);
    own.map(|record| fault(&record.payload)).collect()
}

#[tokio::test]
async fn a_webhook_that_refuses_everything_is_a_recorded_fault_and_another_webhook_notifies() {
    for status in [400, 401, 403, 404] {
        let mut world = World::new().await;
        world.server.fail_webhook("a1", Failure::Status(status));
        let running = world.start().await;
        world.ask(opened("a")).await;
        let began = ("sink:discord/alerts".to_owned(), true);
        until("the fault is recorded", || faults(&world) == [began.clone()]).await;
        until("the health page says so", || {
            let detail = running.progress.snapshot().detail;
            detail.is_some_and(|detail| detail.starts_with(&format!("alerts: {status}")))
        })
        .await;
        // The chain's incident about it: not to the webhook that it is about.
        let mut about = opened("fault");
        if let Notice::IncidentOpened { incident, .. } = &mut about {
            incident.subject = "sink:discord/alerts".to_owned();
        }
        world.ask(about).await;
        until("the other webhook notifies", || {
            world.server.messages().iter().any(|shown| shown.webhook == "o1")
        })
        .await;
        let calls = world
            .server
            .calls()
            .into_iter()
            .filter(|call| call.webhook == "a1");
        assert_eq!(calls.count(), 1, "{status}");
        // It is another webhook from now on, and takes messages.
        let config = config(&[
            (NoticeClass::Alerts, world.server.url("a2")),
            (NoticeClass::Occupancy, world.server.url("o1")),
        ]);
        world.config.send_replace(config);
        let over = ("sink:discord/alerts".to_owned(), false);
        until("the fault is over", || {
            faults(&world) == [began.clone(), over.clone()]
        })
        .await;
        running.stop().await;
    }
}

#[tokio::test]
async fn news_about_the_only_webhook_goes_nowhere() {
    let mut world = World::new().await;
    let only = config(&[
        (NoticeClass::Alerts, world.server.url("a1")),
        (NoticeClass::Occupancy, world.server.url("a1")),
    ]);
    world.config.send_replace(only);
    let running = world.start().await;
    let mut about = opened("fault");
    if let Notice::IncidentOpened { incident, .. } = &mut about {
        incident.subject = "sink:discord/alerts".to_owned();
    }
    world.ask_until(about, Time::EPOCH).await;
    until("it is dropped", || running.stats.get(Count::Unroutable) == 1).await;
    world.ask(opened("a")).await;
    until("the next is told", || world.server.messages().len() == 1).await;
    running.stop().await;
}
