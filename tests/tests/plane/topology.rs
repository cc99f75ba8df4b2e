//! The whole product as separate processes on a real broker: the same incidents and messages, whoever dies.

use serde_json::Value;
use watchfold_discord::testing::DiscordServer;
use watchfold_jetstream::testing::NatsServer;
use watchfold_tests::service::Service;

use crate::process::{Place, Running, SERVES, free_port, leading, until};
use crate::site::{SERVICE, site_config};

const SITE: &str = "cafe-1";

/// Every program of one site, on one broker.
struct Plane {
    place: Place,
    log: String,
    discord: DiscordServer,
    service: Service,
    _server: NatsServer,
    _clock: Running,
    _ping: Running,
    teller: Running,
}

impl Plane {
    async fn start() -> Plane {
        let place = Place::new();
        let server = NatsServer::start().await.unwrap();
        let log = server.url();
        let discord = DiscordServer::start().await.unwrap();
        let service = Service::open().await;
        let config = place.write("site.toml", &site_config(&service, SITE, &discord.url("alerts")));
        let config = config.to_str().unwrap().to_owned();
        let activated = place
            .run("watchfold", &["config", "activate", &config, "--log", &log])
            .await;
        let said = String::from_utf8_lossy(&activated.stderr).into_owned();
        assert!(activated.status.success(), "{said}");
        // Nobody tells the collector what to probe but the configuration in the log.
        let ping = place.start("ping", "watchfold-ping", &log, &["--site", SITE]);
        let clock = place.start("clock", "watchfold-clock", &log, &["--interval-ms", "1000"]);
        let teller = place.start("discord", "watchfold-discord", &log, &["--config", &config]);
        Plane {
            place,
            log,
            discord,
            service,
            _server: server,
            _clock: clock,
            _ping: ping,
            teller,
        }
    }

    fn processors(&self, name: &str) -> Running {
        self.place.start(name, "watchfold-processors", &self.log, &[])
    }

    /// Waits until a message with this title was sent `times` times.
    async fn told(&self, what: &str, times: usize) {
        let title = format!("Service {what}");
        until(
            &format!("{title}, {times} times"),
            async || (self.titles(&title) >= times).then_some(()),
            || format!("{:?}\n{}", self.discord.titles(), self.teller.said()),
        )
        .await;
    }

    fn titles(&self, title: &str) -> usize {
        let calls = self.discord.calls();
        let sent = calls.iter().filter(|call| call.method == "POST");
        sent.filter(|call| call.body["embeds"][0]["title"] == title)
            .count()
    }

    /// One outage from its beginning to its end, as people are told.
    async fn outage(&mut self, number: usize) {
        self.service.down().await;
        self.told("is down", number).await;
        self.service.up().await;
        self.told("is back", number).await;
    }

    fn assert_told(&self, times: usize) {
        let titles = self.discord.titles();
        for title in ["Service is down", "Service is back"] {
            assert_eq!(self.titles(title), times, "{titles:?}");
        }
    }
}

#[tokio::test]
async fn an_outage_is_told_once_and_a_site_moves_when_its_process_is_killed() {
    let mut plane = Plane::start().await;
    let (one, two) = (plane.processors("one"), plane.processors("two"));
    one.ready().await;
    two.ready().await;
    let (leading, waiting) = leading(one, two).await;
    let listen = free_port().to_string();
    let arguments = ["--site", SITE, "--listen", &listen];
    let page = plane
        .place
        .start("page", "watchfold-dashboard", &plane.log, &arguments);
    page.ready().await;
    plane.outage(1).await;

    // It is killed in the middle of an outage: the other one closes the same incident, and nobody hears of it twice.
    plane.service.down().await;
    plane.told("is down", 2).await;
    leading.kill().await;
    waiting.says(SERVES).await;
    plane.service.up().await;
    plane.told("is back", 2).await;

    // A second teller waits for the lease and says nothing; it goes on when the first is killed.
    let config = plane.place.path("site.toml");
    let arguments = ["--config", config.to_str().unwrap()];
    let second = plane
        .place
        .start("discord-2", "watchfold-discord", &plane.log, &arguments);
    second.ready().await;
    let first = std::mem::replace(&mut plane.teller, second);
    first.kill().await;
    plane.teller.says(SERVES).await;
    plane.outage(3).await;
    plane.assert_told(3);

    let ended = of_page(&plane.place, &page, &listen, 3).await;
    assert_eq!(ended.len(), 3, "{ended:#?}");
    for running in [waiting, page] {
        assert!(running.stop().await.success());
    }
}

/// The outages that the page shows as over, once there are so many.
async fn of_page(place: &Place, page: &Running, listen: &str, times: usize) -> Vec<Value> {
    let token = std::fs::read_to_string(place.path("page").join("token")).unwrap();
    let client = reqwest::Client::new();
    let url = format!("http://{listen}/api/v1/incidents?subject={SERVICE}&state=closed");
    page.until("the page shows the incidents", async || {
        let request = client.get(&url).bearer_auth(token.trim());
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        let items = answer["items"].as_array()?.iter();
        let outages: Vec<Value> = items.filter(|one| one["class"] == "outage").cloned().collect();
        (outages.len() >= times).then_some(outages)
    })
    .await
}

#[tokio::test]
async fn two_that_fold_one_site_at_a_time_are_told_as_one() {
    let mut plane = Plane::start().await;
    let (one, two) = (plane.processors("one"), plane.processors("two"));
    let (leading, waiting) = leading(one, two).await;
    plane.outage(1).await;
    // Held still, it cannot notice that its lease runs out; the other takes over.
    leading.signal("-STOP");
    waiting.says(SERVES).await;
    plane.service.down().await;
    plane.told("is down", 2).await;
    // It wakes up with records to fold, and folds some of them before it looks at its lease.
    leading.signal("-CONT");
    leading.says("the lease ran out").await;
    plane.service.up().await;
    plane.told("is back", 2).await;
    plane.outage(3).await;
    plane.assert_told(3);
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_and_said() {
    let place = Place::new();
    let mut server = NatsServer::start().await.unwrap();
    let log = server.url();
    server.kill();
    let mut clock = place.start(
        "clock",
        "watchfold-clock",
        &log,
        &["--site", SITE, "--interval-ms", "100"],
    );
    clock.says("the log does not answer; trying for ever").await;
    assert!(clock.said().contains(&log), "{}", clock.said());
    assert_eq!(clock.ask("/livez").await.map(|(status, _)| status), Some(200));
    assert_eq!(
        clock.ask("/readyz").await,
        Some((503, "the log does not answer".to_owned()))
    );
    assert!(clock.runs());
    server.restart().await.unwrap();
    clock.ready().await;
    // Away again: not ready, and ready once more.
    server.kill();
    clock
        .until("it is not ready", async || {
            clock.ask("/readyz").await.filter(|(status, _)| *status == 503)
        })
        .await;
    server.restart().await.unwrap();
    clock.ready().await;
    assert!(clock.stop().await.success());
    let refused = place
        .run("watchfold", &["config", "activate", "none.toml", "--log", &log])
        .await;
    assert_eq!(refused.status.code(), Some(78));
}
