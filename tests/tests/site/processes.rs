//! The same day at the café with separate processes over a broker, one of which is killed in the middle: the same
//! incidents, sessions and messages.

use watchfold_discord::testing::DiscordServer;
use watchfold_healthchecks::testing::HealthchecksServer;
use watchfold_jetstream::JetStream;
use watchfold_jetstream::testing::NatsServer;
use watchfold_schemas::EventBody;
use watchfold_schemas::event::IncidentClass;

use crate::broker_record::Recorded;
use crate::inside::inside;
use crate::network;
use crate::process::{LIMIT, Place, Running, SERVES, built, leading, until};
use crate::story::{Cafe, config};
use crate::watchfold::House;

const SITE: &str = "cafe-1";

#[test]
fn a_day_at_the_cafe_by_processes_over_a_broker() {
    // All of them, while there is a network to fetch from.
    built("watchfold-processors");
    inside("processes::a_day_at_the_cafe_by_processes_over_a_broker", day);
}

async fn day() {
    network::build();
    let broker = NatsServer::start().await.unwrap();
    let place = Place::new();
    let discord = DiscordServer::start().await.unwrap();
    let healthchecks = HealthchecksServer::start(100_000).await.unwrap();
    let file = place.write("site.toml", &config(&discord, &healthchecks));
    let (log, file) = (broker.url(), file.to_str().unwrap().to_owned());
    let activated = place
        .run("watchfold", &["config", "activate", &file, "--log", &log])
        .await;
    let said = String::from_utf8_lossy(&activated.stderr).into_owned();
    assert!(activated.status.success(), "{said}");

    // Processors first, so that one serves and the other waits.
    let one = place.start("one", "watchfold-processors", &log, &[]);
    let two = place.start("two", "watchfold-processors", &log, &[]);
    let others = [
        place.start("clock", "watchfold-clock", &log, &["--interval-ms", "1000"]),
        place.start("discord", "watchfold-discord", &log, &["--config", &file]),
        place.start("ping", "watchfold-ping", &log, &["--site", SITE]),
    ];
    // Its state is in `page.data`, as a house has it, so that the story asks it like the whole command.
    let house = House::at(&place.path("page"));
    let listen = ["--site", SITE, "--config", &file, "--listen", "127.0.0.1:8737"];
    let page = place.start("page", "watchfold-dashboard", &log, &listen);
    page.ready().await;
    let (leading, waiting) = leading(one, two).await;
    let cafe = Cafe::new(house, discord);

    cafe.opens().await;
    cafe.loses_its_server().await;
    let killing = async {
        let is_down = "Internet is down".to_owned();
        until(
            "the internet is said to be down",
            async || cafe.discord.titles().contains(&is_down).then_some(()),
            || leading.said(),
        )
        .await;
        leading.signal("-KILL");
        waiting.says(SERVES).await;
    };
    tokio::join!(cafe.loses_the_internet(), killing);
    cafe.loses_its_router().await;
    cafe.loses_a_guest().await;
    cafe.is_told_in_full();

    for collecting in others {
        assert!(collecting.stop().await.success());
    }
    let recorded = recorded(&broker, &waiting).await;
    recorded.told_once(&cafe.discord);
    let outages = IncidentClass::Outage;
    let (opened, closed) = (recorded.opened(outages).len(), recorded.closed(outages).len());
    assert_eq!((opened, closed), (3, 3));
    let count = |is: fn(&EventBody) -> bool| recorded.events.iter().filter(|event| is(&event.body)).count();
    assert_eq!(count(|body| matches!(body, EventBody::SessionStarted(_))), 20);
    assert_eq!(count(|body| matches!(body, EventBody::SessionEnded(_))), 1);
    println!("by processes over a broker: {}", recorded.figures(&cafe.discord));
    for running in [waiting, page] {
        assert!(running.stop().await.success());
    }
}

/// The log, once the chain has published what follows from it.
async fn recorded(broker: &NatsServer, chain: &Running) -> Recorded {
    let log = JetStream::start(broker.options());
    log.ready(LIMIT).await.unwrap();
    until(
        "everything is published and told",
        async || {
            let recorded = Recorded::read(log.as_ref(), SITE).await;
            recorded.settled().then_some(recorded)
        },
        || chain.said(),
    )
    .await
    .checked()
}
