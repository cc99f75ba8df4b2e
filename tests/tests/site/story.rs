//! A day at a café in a minute: real ICMP, real ARP, the whole command, and what Discord shows of it.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};
use watchfold_discord::testing::{Call, DiscordServer};
use watchfold_healthchecks::testing::HealthchecksServer;

use crate::inside::inside;
use crate::network;
use crate::outage::items;
use crate::record::{Recorded, replays_as_it_was};
use crate::watchfold::House;

const RED: u32 = 15_158_332;
const GREEN: u32 = 3_066_993;
const STARTED: u32 = 5_763_719;
const ENDED: u32 = 15_548_997;

#[test]
fn a_day_at_the_cafe() {
    inside("story::a_day_at_the_cafe", day);
}

async fn day() {
    network::build();
    let discord = DiscordServer::start().await.unwrap();
    let healthchecks = HealthchecksServer::start(100_000).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = config(&discord, &healthchecks);
    let house = House::new(&directory.path().join("data"), &config);
    let running = house.start().await;
    let recording = directory.path().join("day.wfrec");
    let recorder = house.record(&recording);
    let cafe = Cafe::new(house, discord);

    cafe.opens().await;
    cafe.loses_its_server().await;
    cafe.loses_the_internet().await;
    cafe.loses_its_router().await;
    cafe.loses_a_guest().await;

    assert!(running.stop().await.success(), "{}", cafe.house.said());
    assert!(recorder.stop().await.success(), "{}", cafe.house.said());
    cafe.is_told_in_full();
    let kinds = healthchecks.kinds();
    assert_eq!(kinds.first().map(String::as_str), Some("start"), "{kinds:?}");
    assert_eq!(
        kinds.last().map(String::as_str),
        Some("log"),
        "stopped on purpose: {kinds:?}"
    );
    assert!(
        kinds.iter().any(|kind| kind == "success") && !kinds.iter().any(|kind| kind == "fail"),
        "{kinds:?}"
    );
    let recorded = Recorded::checked(&cafe.house.data);
    let kinds = recorded.kinds();
    let count = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
    assert_eq!(
        (count("incident_opened"), count("incident_closed")),
        (3, 3),
        "{kinds:?}"
    );
    assert_eq!(
        (count("session_started"), count("session_ended")),
        (20, 1),
        "{kinds:?}"
    );
    replays_as_it_was(&cafe.house, &recording, &recorded).await;
    cafe.is_judged_otherwise_under_a_raised_threshold(&recording, &config)
        .await;
}

pub fn config(discord: &DiscordServer, healthchecks: &HealthchecksServer) -> String {
    format!(
        r#"
site = "cafe-1"
time_zone = "UTC"
[network]
interval = "500ms"
timeout = "300ms"
retry_delay = "200ms"
min_incident = "3s"
remind_every = "0"
escalate_after = "0"
[[network.targets]]
name = "router"
address = "192.168.7.1"
[[network.targets]]
name = "server"
address = "192.168.7.10"
depends_on = ["router"]
[[network.targets]]
name = "internet"
address = ["8.8.8.8", "1.1.1.1"]
depends_on = ["router"]
[occupancy]
interval = "1s"
timeout = "300ms"
min_session = "4s"
batch_window = "4s"
snapshot = false
ranges = [{{ from = "192.168.7.110", count = 20 }}]
[dashboard]
public_url = "http://watch.example/"
[sinks.discord]
alerts = "{}"
occupancy = "{}"
[sinks.healthchecks]
url = "{}"
period_s = 12
"#,
        discord.url("alerts"),
        discord.url("occupancy"),
        healthchecks.url(),
    )
}

/// The café, as its page and its messages show it.
pub struct Cafe {
    pub house: House,
    pub discord: DiscordServer,
    /// In how many messages the arrivals were told.
    arrivals: OnceLock<usize>,
}

impl Cafe {
    pub fn new(house: House, discord: DiscordServer) -> Cafe {
        Cafe {
            house,
            discord,
            arrivals: OnceLock::new(),
        }
    }

    /// Nobody is here, then 20 PCs come at once, and are told as one.
    pub async fn opens(&self) {
        for name in ["router", "server", "internet"] {
            self.until_target(name, |target| target["state"] == "up").await;
        }
        let empty = self.house.get("occupancy").await;
        assert_eq!(
            (&empty["current"], &empty["total"]),
            (&json!(0), &json!(20)),
            "{empty:#}"
        );
        network::pcs("up");
        let full = self
            .house
            .wait_for("all PCs are here", "occupancy", |it| it["current"] == 20)
            .await;
        for (index, pc) in full["pcs"].as_array().unwrap().iter().enumerate() {
            let echo = pc["seen_by"].as_array().unwrap().contains(&json!("echo"));
            let drops = network::drops_echo(index as u32 + 1);
            assert_eq!(echo, !drops, "seen by what it answers: {pc}");
        }
        self.arrivals_are_told().await;
    }

    /// In one message or, when a loaded machine sees some of them later, in more: together they are everybody, once.
    async fn arrivals_are_told(&self) {
        let lists = self.batches_of("sessions_started", 20).await;
        let batches: Vec<(u64, &Value)> = lists
            .iter()
            .map(|list| (list["sessions"]["total"].as_u64().unwrap(), &list["sessions"]))
            .collect();
        self.arrivals.set(batches.len()).unwrap();
        for (index, (total, sessions)) in batches.iter().enumerate() {
            let named = sessions["named"].as_array().unwrap();
            let (from, to) = (clock(&sessions["from"]), clock(&sessions["to"]));
            let message = self.message("occupancy", index + 1).await;
            let embed = &message["embeds"][0];
            let title = format!("New activity: {total} PC{}", if *total == 1 { "" } else { "s" });
            assert_eq!(embed["title"], title, "{message:#}");
            // A few are named, which `sinks/discord` holds; many are counted.
            if named.is_empty() {
                let whole = json!({
                    "title": title,
                    "description": format!("{total} between {from} and {to}: [the full list](http://watch.example/#occupancy)"),
                    "url": "http://watch.example/#occupancy",
                    "color": STARTED,
                    "footer": { "text": "cafe-1" },
                });
                assert_eq!(*embed, whole, "{message:#}");
            }
        }
    }

    pub async fn loses_its_server(&self) {
        network::switch("server", "down");
        self.incident("server", 1, &[]).await;
        network::switch("server", "up");
        self.recovery("server", 2, &[]).await;
    }

    /// One of two hosts is worth a warning, both are an outage.
    pub async fn loses_the_internet(&self) {
        network::internet_link("google", "down");
        let degraded = self
            .until_target("internet", |target| {
                target["addresses_down"] == json!(["8.8.8.8"])
            })
            .await;
        assert_eq!(degraded["state"], "up", "{degraded:#}");
        // Longer than an incident needs, by the collector's own time.
        let noticed = seconds(&degraded["last_measured_at"]);
        self.until_target("internet", |target| {
            seconds(&target["last_measured_at"]) > noticed + 4.0
        })
        .await;
        let incidents = self.house.get("incidents?subject=internet").await;
        assert!(
            items(&incidents).is_empty(),
            "one of two hosts is no outage: {incidents:#}"
        );
        network::internet_link("cloudflare", "down");
        self.incident("internet", 3, &[]).await;
        network::internet_link("google", "up");
        network::internet_link("cloudflare", "up");
        self.recovery("internet", 4, &[]).await;
        self.until_target("internet", |target| target["addresses_down"] == json!([]))
            .await;
    }

    /// The router takes everything with it: one incident, and nobody is said to have left.
    pub async fn loses_its_router(&self) {
        network::router("down");
        let children = ["Server", "Internet"];
        let incident = self.incident("router", 5, &children).await;
        for child in ["server", "internet"] {
            let target = self
                .until_target(child, |target| target["state"] == "suppressed")
                .await;
            assert_eq!(target["root"], "router", "{target:#}");
        }
        let frozen = self
            .house
            .wait_for("the count is held", "occupancy", |it| it["frozen"] == true)
            .await;
        assert_eq!(
            (&frozen["current"], &frozen["root"]),
            (&json!(20), &json!("router"))
        );
        let began = seconds(&incident["started_at"]);
        self.until_target("router", |target| {
            seconds(&target["last_measured_at"]) > began + 10.0
        })
        .await;
        network::router("up");
        self.recovery("router", 6, &children).await;
        for child in ["server", "internet"] {
            self.until_target(child, |target| target["state"] == "up").await;
        }
        self.house
            .wait_for("the count is live again", "occupancy", |it| {
                it["frozen"] == false && it["current"] == 20
            })
            .await;
        let sessions = self.house.get("sessions?limit=100").await;
        let running = items(&sessions)
            .iter()
            .filter(|session| session["ended_at"].is_null());
        assert_eq!(
            running.count(),
            20,
            "the router's outage ends no session: {sessions:#}"
        );
        assert_eq!(items(&sessions).len(), 20, "{sessions:#}");
    }

    pub async fn loses_a_guest(&self) {
        network::switch("pc3", "down");
        let sessions = self
            .house
            .wait_for("a session is over", "sessions?limit=100", |page| {
                items(page).iter().any(|session| !session["ended_at"].is_null())
            })
            .await;
        let ended = items(&sessions)
            .iter()
            .filter(|session| !session["ended_at"].is_null());
        let [ended] = ended.collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(ended["name"], "PC-3");
        let left = self.house.get("occupancy").await;
        assert_eq!(left["current"], 19);
        let (since, until) = (clock(&ended["started_at"]), clock(&ended["ended_at"]));
        let lasted = lasted(ended);
        let unmeasured = match ended["unmeasured_ms"].as_u64().unwrap() {
            0 => String::new(),
            milliseconds => format!(" (of it {} not measured)", duration(milliseconds)),
        };
        self.told(
            "occupancy",
            self.arrivals() + 1,
            json!({
                "title": "Session ended: 1 PC",
                "description": format!("• **PC-3** {lasted}{unmeasured}, since {since}, until {until}"),
                "url": "http://watch.example/#occupancy",
                "color": ENDED,
                "footer": { "text": "cafe-1" },
            }),
        )
        .await;
    }

    /// Waits for the one open incident, and for the message about it.
    async fn incident(&self, subject: &str, messages: usize, children: &[&str]) -> Value {
        let path = "incidents?state=open";
        let what = format!("an incident of {subject}");
        let open = self
            .house
            .wait_for(&what, path, |page| !items(page).is_empty())
            .await;
        let [incident] = items(&open) else {
            panic!("one cause, one incident: {open:#}")
        };
        assert_eq!(
            (&incident["subject"], &incident["class"]),
            (&json!(subject), &json!("outage"))
        );
        let detail = incident["detail"].as_str().expect("the probes said why");
        let mut fields = vec![
            field("Since", &clock(&incident["started_at"]), true),
            field("Severity", "High", true),
            field("PCs in use", "20", true),
        ];
        fields.extend(root_cause(children));
        fields.push(field("Detail", &detail.replace(':', "\\:"), false));
        self.told(
            "alerts",
            messages,
            embed(&format!("{} is down", capital(subject)), RED, fields),
        )
        .await;
        incident.clone()
    }

    async fn recovery(&self, subject: &str, messages: usize, children: &[&str]) {
        let path = format!("incidents?state=closed&subject={subject}");
        let what = format!("{subject} is back");
        let closed = self
            .house
            .wait_for(&what, &path, |page| !items(page).is_empty())
            .await;
        let [incident] = items(&closed) else {
            panic!("one cause, one incident: {closed:#}")
        };
        let mut fields = vec![
            field("Start", &clock(&incident["started_at"]), true),
            field("End", &clock(&incident["ended_at"]), true),
            field("Duration", &lasted(incident), true),
            field("PCs in use", "20", true),
        ];
        fields.extend(root_cause(children));
        let detail = incident["detail"].as_str().map(|text| text.replace(':', "\\:"));
        fields.extend(detail.map(|detail| field("Detail", &detail, false)));
        self.told(
            "alerts",
            messages,
            embed(&format!("{} is back", capital(subject)), GREEN, fields),
        )
        .await;
    }

    async fn until_target(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{name} is as expected");
        self.house
            .wait(&what, "targets", |page| {
                let target = items(page).iter().find(|target| target["name"] == name)?;
                holds(target).then(|| target.clone())
            })
            .await
    }

    fn arrivals(&self) -> usize {
        *self.arrivals.get().expect("the cafe has opened")
    }

    /// The notices of a kind that were requested, in their order, once they are about `count` sessions together.
    async fn batches_of(&self, kind: &str, count: u64) -> Vec<Value> {
        let path = "events?kind=notification_requested&limit=200";
        self.house
            .wait(&format!("{count} {kind}"), path, |page| {
                let notices = items(page).iter().filter_map(|event| {
                    let notice = &event["event"]["body"]["notification_requested"]["notice"][kind];
                    (!notice.is_null()).then(|| notice.clone())
                });
                let mut notices: Vec<Value> = notices.collect();
                notices.sort_by(|a, b| clock(&a["sessions"]["from"]).cmp(&clock(&b["sessions"]["from"])));
                let total: u64 = notices
                    .iter()
                    .filter_map(|notice| notice["sessions"]["total"].as_u64())
                    .sum();
                (total == count).then_some(notices)
            })
            .await
    }

    /// The message that a webhook got as the so-manieth.
    async fn message(&self, webhook: &str, number: usize) -> Value {
        let what = format!("message {number} to {webhook}");
        crate::watchfold::until(&what, &self.house, async || {
            self.sent(webhook).get(number - 1).map(|call| call.body.clone())
        })
        .await
    }

    /// Waits until as many messages were sent to a webhook, and holds the last one against the whole of `want`.
    async fn told(&self, webhook: &str, messages: usize, want: Value) {
        let sent = crate::watchfold::until(
            &format!("message {messages} to {webhook}"),
            &self.house,
            async || {
                let sent = self.sent(webhook);
                (sent.len() >= messages).then_some(sent)
            },
        )
        .await;
        assert_eq!(sent.len(), messages, "more was told than happened: {sent:#?}");
        let whole = json!({ "username": "cafe-1", "allowed_mentions": { "parse": [] }, "embeds": [want] });
        let got = &sent[messages - 1].body;
        assert_eq!(*got, whole, "got {got:#}\nwanted {whole:#}");
    }

    /// By hand: each of the three outages was shorter than an hour, so each would have been jitter, and nothing else changes.
    async fn is_judged_otherwise_under_a_raised_threshold(&self, recording: &Path, config: &str) {
        let raised = recording.with_extension("toml");
        let text = config.replace("min_incident = \"3s\"", "min_incident = \"1h\"");
        assert_ne!(text, config);
        std::fs::write(&raised, text).unwrap();
        let arguments = [
            "replay",
            path_of(recording),
            "--diff",
            "--format",
            "jsonl",
            "--config",
            path_of(&raised),
        ];
        let output = self.house.run_plain(&arguments).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let differences = items_of(&found["differences"], |one| {
            format!(
                "{} {} {}",
                one["change"].as_str()?,
                one["kind"].as_str()?,
                one["subject"].as_str()?
            )
            .into()
        });
        let mut want = Vec::new();
        for subject in ["server", "internet", "router"] {
            want.push(format!("lost incident {subject}"));
            want.push(format!("gained jitter {subject}"));
        }
        assert_eq!(differences, want, "{found:#}");
        // Twenty sessions, and what jitter there was before.
        assert!(
            found["same"].as_u64() >= Some(20) && found["changed"] == 0,
            "{found:#}"
        );
    }

    fn sent(&self, webhook: &str) -> Vec<Call> {
        let calls = self.discord.calls().into_iter();
        let sent = calls.filter(|call| call.method == "POST" && call.webhook == webhook);
        sent.collect()
    }

    /// Each message once, in order, and the first of each incident says that it is over.
    pub fn is_told_in_full(&self) {
        let titles = |webhook: &str| -> Vec<String> {
            let shown = self.discord.messages().into_iter();
            let shown = shown.filter(|message| message.webhook == webhook);
            shown
                .map(|message| message.body["embeds"][0]["title"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            titles("alerts"),
            [
                "Over: Server was down",
                "Server is back",
                "Over: Internet was down",
                "Internet is back",
                "Over: Router was down",
                "Router is back"
            ]
        );
        let occupancy = titles("occupancy");
        let (last, arrivals) = occupancy.split_last().expect("somebody left");
        assert_eq!(last, "Session ended: 1 PC", "{occupancy:?}");
        assert_eq!(arrivals.len(), self.arrivals(), "{occupancy:?}");
        assert!(
            arrivals.iter().all(|title| title.starts_with("New activity: ")),
            "{occupancy:?}"
        );
        let refused: Vec<Call> = self
            .discord
            .calls()
            .into_iter()
            .filter(|call| call.status != 200)
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

fn items_of(list: &Value, text: impl Fn(&Value) -> Option<String>) -> Vec<String> {
    list.as_array().unwrap().iter().filter_map(text).collect()
}

fn path_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn embed(title: &str, color: u32, fields: Vec<Value>) -> Value {
    json!({
        "title": title,
        "url": "http://watch.example/#network",
        "color": color,
        "fields": fields,
        "footer": { "text": "cafe-1" },
    })
}

fn field(name: &str, value: &str, inline: bool) -> Value {
    json!({ "name": name, "value": value, "inline": inline })
}

fn root_cause(children: &[&str]) -> Option<Value> {
    let value = format!("{} being out of sight", children.join(", "));
    (!children.is_empty()).then(|| field("Root cause of", &value, false))
}

fn capital(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}

/// An instant of the API as messages show it.
fn clock(instant: &Value) -> String {
    let text = instant.as_str().expect("an instant");
    format!("{} {} UTC", &text[..10], &text[11..19])
}

/// Seconds since 1970.
fn seconds(instant: &Value) -> f64 {
    let text = instant.as_str().unwrap_or("1970-01-01T00:00:00Z");
    let time: watchfold_schemas::Time = text.parse().unwrap();
    time.0 as f64 / 1e9
}

fn lasted(value: &Value) -> String {
    duration(value["duration_ms"].as_u64().expect("it is over"))
}

fn duration(milliseconds: u64) -> String {
    match milliseconds / 1_000 {
        0 => "less than 1s".to_owned(),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{}m {}s", seconds / 60, seconds % 60),
    }
}
