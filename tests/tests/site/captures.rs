//! A capture that is taken out of the configuration while nothing runs: what was open of it is over at the next start, told once.

use serde_json::Value;
use watchfold_discord::testing::DiscordServer;

use crate::inside::{inside, sh};
use crate::outage::items;
use crate::watchfold::{House, until};

/// Two interfaces, of which one is silent. An attack lasts far longer than the test, unless something ends it.
fn config(webhook: &str) -> String {
    format!(
        r#"
site = "cafe-1"
[[capture]]
interface = "quiet0"
{LAN}
[rules]
alert_cooldown = "1h"
[sinks.discord]
alerts = "{webhook}"
"#
    )
}

const LAN: &str = "[[capture]]\ninterface = \"lan0\"";

#[test]
fn one_that_was_taken_out_meanwhile_leaves_nothing_open() {
    inside(
        "captures::one_that_was_taken_out_meanwhile_leaves_nothing_open",
        taken_out,
    );
}

async fn taken_out() {
    sh("ip link add quiet0 type bridge
        ip link set quiet0 up
        ip netns add attacker
        ip link add lan0 type veth peer name lan0 netns attacker
        ip link set lan0 up
        ip addr add 10.78.0.1/24 dev lan0
        ip -n attacker link set lan0 up
        ip -n attacker addr add 10.78.0.61/24 dev lan0");
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = config(&discord.url("all"));
    let house = House::new(&directory.path().join("data"), &config);
    let running = house.start().await;
    until("both capture", &house, async || {
        (house.said().matches("capturing").count() >= 2).then_some(())
    })
    .await;
    sh("ip netns exec attacker nmap -sS -n -Pn -p1-60 10.78.0.1 > /dev/null");
    house
        .wait_for("the scan is an attack", "attacks", |attacks| {
            ended(attacks) == [false]
        })
        .await;
    told(&house, &discord, "Port scan: 10.78.0.61").await;
    assert!(running.stop().await.success(), "{}", house.said());

    let without = config.replace(LAN, "");
    std::fs::write(house.data.join("watchfold.toml"), without).unwrap();
    for _ in 0..2 {
        let running = house.start().await;
        house
            .wait_for("the attack is over", "attacks", |attacks| {
                ended(attacks) == [true]
            })
            .await;
        house
            .wait_for("its incident is closed", "incidents?state=closed", |closed| {
                items(closed).len() == 1
            })
            .await;
        told(&house, &discord, "Port scan: 10.78.0.61 is over").await;
        for (kind, times) in [
            ("attack_ended", 1),
            ("incident_closed", 1),
            ("incident_opened", 1),
        ] {
            let events = house.get(&format!("events?kind={kind}&limit=100")).await;
            assert_eq!(items(&events).len(), times, "{kind}: {events:#}");
        }
        assert!(running.stop().await.success(), "{}", house.said());
    }
    let calls = discord.calls();
    let sent = calls.iter().filter(|call| call.method == "POST").count();
    assert_eq!(sent, 2, "{:?}", discord.titles());
    let filter = ["--filter", "wf.pkt.cafe-1.quiet.*"];
    let cat = ["log", "cat", "--stream", "WF_PKT", "--format", "jsonl"];
    let farewells = house.run(&[&cat[..], &filter[..]].concat()).await;
    let text = String::from_utf8(farewells.stdout).unwrap();
    let said: Vec<&str> = text.lines().collect();
    assert!(said.len() == 1 && said[0].contains("capture-lan0"), "{text}");
}

/// Of each attack, whether it is over.
fn ended(attacks: &Value) -> Vec<bool> {
    let all = items(attacks).iter();
    all.map(|attack| !attack["ended_at"].is_null()).collect()
}

async fn told(house: &House, discord: &DiscordServer, title: &str) {
    until(title, house, async || {
        discord.titles().iter().any(|told| told == title).then_some(())
    })
    .await;
}
