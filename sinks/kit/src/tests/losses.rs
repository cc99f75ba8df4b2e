//! Records and state that are lost, in every combination: the receipt decides whether a request is sent again.

use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::{EventBody, Notice};
use watchfold_schemas::{Event, Stream};

use super::delivery::World;
use super::{FAR, append_of, event, opened, request, until};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Events {
    Kept,
    /// The last record is damaged.
    LastLost,
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Receipts {
    Kept,
    LastLost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Kept,
    Removed,
    /// Restored from before the last request.
    Older,
}

fn numbered(number: u64, notice: Notice) -> Event {
    let body = EventBody::NotificationRequested(Box::new(request(notice, FAR)));
    event(number, body)
}

/// Publishes a request as a chain that derives it again does.
async fn publish(world: &World, number: u64, incident: &str) {
    let event = numbered(number, opened(incident));
    let id = format!("{}-{}", event.id, world.log.records(Stream::Events).len());
    world.log.append(vec![append_of(&event, &id)]).await.unwrap();
}

/// The log whose `WF_EVT` was removed: another log that holds the observations of this one.
async fn without_events(log: &MemoryLog) -> std::sync::Arc<MemoryLog> {
    let bare = MemoryLog::new();
    for record in log.records(Stream::Observations) {
        let append = Append {
            stream: Stream::Observations,
            subject: record.subject,
            id: record.id,
            payload: record.payload,
        };
        bare.append(vec![append]).await.unwrap();
    }
    bare
}

/// Tells `a` and `b`, loses something, and derives both again once the sink has caught up. Returns what was told.
async fn told_after(events: Events, receipts: Receipts, state: State) -> Vec<String> {
    let mut world = World::new();
    world.ask(opened("a")).await;
    world.run_until_settled().await;
    let older = std::fs::read(world.state_path()).unwrap();
    world.ask(opened("b")).await;
    world.run_until_settled().await;
    if receipts == Receipts::LastLost {
        world.log.truncate_tail(Stream::Observations, 1);
    }
    match events {
        Events::Kept => {}
        Events::LastLost => world.log.truncate_tail(Stream::Events, 1),
        Events::Removed => world.log = without_events(&world.log).await,
    }
    match state {
        State::Kept => {}
        State::Removed => std::fs::remove_file(world.state_path()).unwrap(),
        State::Older => std::fs::write(world.state_path(), older).unwrap(),
    }
    let running = world.start().await;
    publish(&world, 50, "caught up").await;
    let has = |what: &'static str| {
        let far = world.far.clone();
        move || far.told().iter().any(|told| told == what)
    };
    until("it has caught up", has("opened caught up")).await;
    publish(&world, 1, "a").await;
    publish(&world, 2, "b").await;
    publish(&world, 51, "last").await;
    until("it has read everything", has("opened last")).await;
    running.stop().await;
    let mut told = world.far.told();
    told.retain(|told| told == "opened a" || told == "opened b");
    told
}

#[tokio::test]
async fn a_request_with_a_receipt_is_never_sent_again_whatever_was_lost() {
    for events in [Events::Kept, Events::LastLost, Events::Removed] {
        for state in [State::Kept, State::Removed, State::Older] {
            let told = told_after(events, Receipts::Kept, state).await;
            assert_eq!(told, ["opened a", "opened b"], "{events:?} {state:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_receipt_repeats_a_message_only_if_the_state_is_lost_too() {
    for events in [Events::Kept, Events::LastLost, Events::Removed] {
        let told = told_after(events, Receipts::LastLost, State::Kept).await;
        assert_eq!(told, ["opened a", "opened b"], "{events:?}");
        for state in [State::Removed, State::Older] {
            let told = told_after(events, Receipts::LastLost, state).await;
            assert_eq!(told, ["opened a", "opened b", "opened b"], "{events:?} {state:?}");
        }
    }
}

#[tokio::test]
async fn an_expired_request_that_is_derived_again_gets_no_second_receipt() {
    let mut world = World::new();
    let past = watchfold_schemas::Time::from_seconds(1_000);
    world.ask_until(opened("a"), past).await;
    world.run_until_settled().await;
    world.log.truncate_tail(Stream::Events, 1);
    let running = world.start().await;
    world.ask(opened("b")).await;
    until("it has caught up", || world.far.told() == ["opened b"]).await;
    let body = EventBody::NotificationRequested(Box::new(request(opened("a"), past)));
    let again = event(1, body);
    world.log.append(vec![append_of(&again, "again")]).await.unwrap();
    world.ask(opened("c")).await;
    until("it has read everything", || {
        world.far.told() == ["opened b", "opened c"]
    })
    .await;
    running.stop().await;
    assert_eq!(world.receipted().len(), 3);
}
