//! What becomes of the whole command while its broker is dead, and when the broker comes back with an empty store.

use serde_json::Value;
use watchfold_discord::testing::DiscordServer;
use watchfold_jetstream::testing::NatsServer;

use crate::inside::inside;
use crate::outage::{Service, config, state};
use crate::watchfold::{House, until};

#[test]
fn a_dead_broker_is_shown_and_a_wiped_one_gets_the_configuration_again() {
    inside(
        "broker_away::a_dead_broker_is_shown_and_a_wiped_one_gets_the_configuration_again",
        away,
    );
}

async fn away() {
    let mut broker = NatsServer::start().await.unwrap();
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), &config(&discord.url("all")));
    let _service = Service::open().await;
    let running = house.spawn_with(&["--log", &broker.url()]);
    house.ready().await;
    let is_up = |targets: &Value| state(targets, "host-2") == Some("up");
    house.wait_for("a host is up", "targets", is_up).await;

    broker.kill();
    until("it is not ready and says why", &house, async || {
        let silent = (503, "the log does not answer".to_owned());
        (house.open_get("/readyz").await? == silent).then_some(())
    })
    .await;
    let health = house.get("health").await;
    let stale = health["data"]["stale"].as_str().unwrap_or_default();
    assert!(
        health["ok"] == false && stale.contains("does not answer"),
        "{health:#}"
    );
    assert_eq!(house.figure("watchfold_log_answers").await, Some(0.0));
    assert_eq!(house.figure("watchfold_data_stale").await, Some(1.0));

    broker.restart().await.unwrap();
    house.ready().await;
    house
        .wait_for("all is well", "health", |health| {
            health["ok"] == true && health["data"]["stale"] == Value::Null
        })
        .await;

    // Its store is gone when it comes back: configuration and rules are recorded again, and everything is evaluated.
    broker.kill();
    broker.wipe();
    broker.restart().await.unwrap();
    until("the events of another log are shown", &house, async || {
        let health = house.try_get("health").await?;
        let streams = health["streams"].as_array()?.iter();
        let mut events = streams.filter(|stream| stream["name"] == "WF_EVT");
        let count = events.next()?["last_sequence"].as_u64()?;
        (count > 0 && house.said().contains("recording it again")).then_some(())
    })
    .await;
    house.wait_for("a host is up again", "targets", is_up).await;
    house.ready().await;
    assert!(running.stop().await.success(), "{}", house.said());
}
