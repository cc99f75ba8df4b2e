//! Attacks by real tools, from the wire to a message, with every part a process of its own over a broker: the processors
//! are killed and the broker is away while an attack goes on, and rules change while everything runs.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};
use watchfold_discord::testing::DiscordServer;
use watchfold_jetstream::JetStream;
use watchfold_jetstream::testing::NatsServer;
use watchfold_log::{MessageLog, Start};
use watchfold_schemas::{Event, EventBody, Stream, decode_event, subjects};

use crate::inside::{inside, sh};
use crate::process::{LIMIT, Place, Running, built, until};
use crate::watchfold::House;

const SITE: &str = "cafe-1";

/// The namespace of attackers, and two addresses there.
const ATTACKERS: &str = "attackers";
const ONE: &str = "10.88.0.66";
const OTHER: &str = "10.88.0.67";

/// A process that got the lease of a chain.
const FOLDS_PACKETS: &str = "this process serves the site site=\"cafe-1\" part=\"chain:packets\"";

/// The classic pack with short windows; a scan is so many ports.
fn config(discord: &DiscordServer, scan_ports: u32) -> String {
    format!(
        "site = \"{SITE}\"\n[[capture]]\ninterface = \"lan0\"\n\
         [rules]\nset = \"classic\"\ngateways = [\"10.88.0.1\"]\nalert_cooldown = \"8s\"\n\
         port_scan_threshold = {scan_ports}\nport_scan_window = \"3s\"\nsyn_flood_window = \"3s\"\n\
         [rules.states]\nexfiltration = \"off\"\nsuspicious_port_source = \"off\"\nsuspicious_port_destination = \"off\"\n\
         [sinks.discord]\nalerts = \"{}\"\n",
        discord.url("alerts")
    )
}

#[test]
fn an_attack_is_told_once_over_a_broker_whoever_dies() {
    // All of them, while there is a network to fetch from.
    built("watchfold-processors");
    inside(
        "attacks_by_processes::an_attack_is_told_once_over_a_broker_whoever_dies",
        attacks,
    );
}

async fn attacks() {
    build();
    let mut broker = NatsServer::start().await.unwrap();
    let place = Place::new();
    let discord = DiscordServer::start().await.unwrap();
    let log = broker.url();
    let file = activate(&place, &log, &config(&discord, 200)).await;
    let one = place.start("one", "watchfold-processors", &log, &[]);
    let capture = place.start("capture", "watchfold-capture", &log, &["--config", &file]);
    capture.says("capturing").await;
    capture.ready().await;
    one.says(FOLDS_PACKETS).await;
    let others = [
        place.start("clock", "watchfold-clock", &log, &["--interval-ms", "1000"]),
        place.start("discord", "watchfold-discord", &log, &["--config", &file]),
        place.start("two", "watchfold-processors", &log, &[]),
    ];
    let house = House::at(&place.path("page"));
    let listen = ["--site", SITE, "--config", &file, "--listen", "127.0.0.1:8737"];
    let page = place.start("page", "watchfold-dashboard", &log, &listen);
    page.ready().await;

    let mut flood = at(&format!(
        "exec hping3 -q -i u5000 -S -p 80 -s 2000 --keep -a {ONE} 10.88.0.1"
    ));
    told(&discord, &format!("SYN flood: {ONE}"), &one).await;
    one.kill().await;
    broker.kill();
    capture.says("records wait in the spool").await;
    broker.restart().await.unwrap();
    others[2].says(FOLDS_PACKETS).await;
    flood.kill().await.unwrap();
    told(&discord, &format!("SYN flood: {ONE} is over"), &others[2]).await;

    // Sixty ports are no scan, and then they are one.
    let scan = |from: &str| format!("nmap -sS -n -Pn -p1-60 -S {from} -e eth0 10.88.0.1");
    at(&scan(ONE)).wait().await.unwrap();
    activate(&place, &log, &config(&discord, 30)).await;
    at(&scan(OTHER)).wait().await.unwrap();
    told(&discord, &format!("Port scan: {OTHER} is over"), &others[2]).await;

    let wanted = [("port_scan", OTHER), ("syn_flood", ONE)];
    let shown = house.wait("both are over on the page", "attacks?limit=500", |attacks| {
        let items = attacks["items"].as_array()?;
        let is_over = |attack: &Value| !attack["ended_at"].is_null();
        (items.len() >= wanted.len() && items.iter().all(is_over)).then(|| items.clone())
    });
    let mut shown: Vec<(String, String)> = shown.await.iter().map(category_and_subject).collect();
    shown.sort();
    assert_eq!(
        shown,
        wanted.map(|(category, subject)| (category.to_owned(), subject.to_owned()))
    );
    let events = events(&broker).await;
    let of = |kind: &str| events.iter().filter(|event| event.body.kind() == kind).count();
    assert_eq!((of("attack_began"), of("attack_ended")), (2, 2), "{events:#?}");
    let incidents = |event: &&Event| matches!(&event.body, EventBody::IncidentOpened(incident) if incident.attack.is_some());
    assert_eq!(events.iter().filter(incidents).count(), 2, "{events:#?}");
    let posts = discord.calls().into_iter().filter(|call| call.method == "POST");
    assert_eq!(posts.count(), 4, "{:?}", discord.titles());
    for running in others.into_iter().chain([capture, page]) {
        assert!(running.stop().await.success());
    }
}

/// The watcher's interface, and attackers at its other end.
fn build() {
    sh(&format!(
        "ip netns add {ATTACKERS}
         ip link add lan0 type veth peer name eth0 netns {ATTACKERS}
         ip link set lan0 up
         ip addr add 10.88.0.1/24 dev lan0
         ip -n {ATTACKERS} link set lo up
         ip -n {ATTACKERS} link set eth0 up
         ip -n {ATTACKERS} addr add {ONE}/24 dev eth0
         ip -n {ATTACKERS} addr add {OTHER}/24 dev eth0"
    ));
}

/// A tool in the namespace of the attackers.
fn at(line: &str) -> Child {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", ATTACKERS, "sh", "-c", line]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}

/// Records this configuration and its rules; gives the file.
async fn activate(place: &Place, log: &str, text: &str) -> String {
    let file = place.write("site.toml", text).to_str().unwrap().to_owned();
    let activated = place
        .run("watchfold", &["config", "activate", &file, "--log", log])
        .await;
    let said = String::from_utf8_lossy(&activated.stderr).into_owned();
    assert!(activated.status.success(), "{said}");
    file
}

async fn told(discord: &DiscordServer, title: &str, chain: &Running) {
    until(
        title,
        async || discord.titles().iter().any(|told| told == title).then_some(()),
        || format!("{:?}\n{}", discord.titles(), chain.said()),
    )
    .await;
}

fn category_and_subject(attack: &Value) -> (String, String) {
    let text = |key: &str| attack[key].as_str().unwrap_or_default().to_owned();
    (text("category"), text("subject"))
}

/// Each by its id once: a repeated tail is dropped by readers.
async fn events(broker: &NatsServer) -> Vec<Event> {
    let log = JetStream::start(broker.options());
    log.ready(LIMIT).await.unwrap();
    let filter = subjects::site_filter(Stream::Events, SITE);
    let mut reader = log.reader(Stream::Events, &filter, Start::First).await.unwrap();
    let mut events: Vec<Event> = Vec::new();
    loop {
        let batch = reader.try_next(500).await.unwrap();
        if batch.records.is_empty() {
            return events;
        }
        for record in batch.records {
            let event = decode_event(&record.payload).unwrap();
            if events.iter().all(|known| known.id != event.id) {
                events.push(event);
            }
        }
    }
}
