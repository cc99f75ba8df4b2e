//! Each configuration of nats-server that ships, on the installed server: it starts, or is refused for the reason that
//! the file gives; streams are made on it; a cut line to a site loses nothing and stores nothing twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use watchfold_jetstream::testing::free_port;
use watchfold_jetstream::{JetStream, JetStreamOptions};
use watchfold_log::{Append, MessageLog, Record, Start};
use watchfold_schemas::{MessageId, Stream};

use crate::shipped::{LIMIT, Shipped, api, folder, is_at_least, until};

/// What the files leave to the environment.
pub const SECRETS: [(&str, &str); 5] = [
    ("WATCHFOLD_ROUTES_PASSWORD", "r0utes"),
    ("WATCHFOLD_HUB_PASSWORD", "hub-s3cret"),
    ("WATCHFOLD_CAFE_1_PASSWORD", "cafe-1-s3cret"),
    ("WATCHFOLD_CAFE_2_PASSWORD", "cafe-2-s3cret"),
    ("WATCHFOLD_LEAF_CAFE_1_PASSWORD", "leaf-s3cret"),
];

const HUB: Option<(&str, &str)> = Some(("hub", "hub-s3cret"));
const SITE: Option<(&str, &str)> = Some(("cafe-1", "site-s3cret"));

/// A record as a collector publishes it.
pub fn record(site: &str, number: u64) -> Append {
    Append {
        stream: Stream::Observations,
        subject: format!("wf.obs.{site}.quiet.ping"),
        id: MessageId(format!("{site}/ping/1/{number}")),
        payload: number.to_string().into_bytes().into(),
    }
}

/// Everything in a stream, once there is so much.
pub async fn all(log: &dyn MessageLog, stream: Stream, count: usize) -> Vec<Record> {
    let mut reader = log.reader(stream, ">", Start::First).await.unwrap();
    let mut records = Vec::new();
    let reading = async {
        while records.len() < count {
            let batch = reader.next(256).await.unwrap();
            assert!(batch.lost.is_none(), "{:?}", batch.lost);
            records.extend(batch.records);
        }
        // What comes twice comes soon after.
        loop {
            let batch = reader.try_next(256).await.unwrap();
            if batch.records.is_empty() {
                break;
            }
            records.extend(batch.records);
        }
    };
    let read = tokio::time::timeout(LIMIT, reading).await;
    assert!(read.is_ok(), "{} of {count} records", records.len());
    records
}

/// A server on this file keeps streams, and what it acknowledged outlives its process.
async fn keeps_what_it_acknowledged(file: &str) {
    let place = tempfile::tempdir().unwrap();
    let mut server = Shipped::start(place.path(), "single", &folder().join(file), &[]).await;
    let log = server.log(None).await;
    log.append((1..=50).map(|number| record("cafe-1", number)).collect())
        .await
        .unwrap();
    server.kill();
    server.spawn();
    server.answers().await;
    let kept = all(log.as_ref(), Stream::Observations, 50).await;
    assert_eq!(kept.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_of_2_9() {
    keeps_what_it_acknowledged("single-2.9.conf").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_one_server_cannot_keep() {
    let place = tempfile::tempdir().unwrap();
    let server = Shipped::start(place.path(), "single", &folder().join("single-2.9.conf"), &[]).await;
    let options = JetStreamOptions {
        replicas: Some(3),
        ..server.options(None)
    };
    let error = JetStream::start(options)
        .ready(LIMIT)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("with 3 replicas") && error.contains("run the server in a cluster"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_syncs_every_message() {
    if is_at_least(2, 10) {
        return keeps_what_it_acknowledged("single.conf").await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut server = Shipped::prepare(place.path(), "single", &folder().join("single.conf"), &[]);
    let said = server.refuses().await;
    assert!(said.contains("sync_interval"), "{said}");
    let text = std::fs::read_to_string(folder().join("single.conf")).unwrap();
    assert!(text.contains("2.9 does not know\n# sync_interval"), "{text}");
}

/// A file without comments, so that two can be compared in what they say.
fn said(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let lines = text
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_two_files_of_one_server_differ_in_the_sync_alone() {
    let newer = said("single.conf");
    let without: Vec<_> = newer
        .iter()
        .filter(|line| *line != "sync_interval: always")
        .cloned()
        .collect();
    assert_eq!(newer.len(), without.len() + 1);
    assert_eq!(without, said("single-2.9.conf"));
}

#[test]
fn a_variable_that_is_missing_is_named() {
    for file in ["hub.conf", "site-leaf.conf"] {
        let output = std::process::Command::new(watchfold_jetstream::testing::binary().unwrap())
            .arg("-c")
            .arg(folder().join(file))
            .arg("-t")
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("WATCHFOLD_"),
            "{file}: {said}"
        );
    }
}

/// Three servers on hub.conf, whose ports become those of loopback.
pub struct Hub {
    pub servers: Vec<Shipped>,
    /// Where servers of sites connect to the first.
    pub leaf_port: u16,
}

impl Hub {
    pub async fn start(place: &Path) -> Hub {
        let text = std::fs::read_to_string(folder().join("hub.conf")).unwrap();
        std::fs::copy(folder().join("accounts.conf"), place.join("accounts.conf")).unwrap();
        let routes: Vec<u16> = (0..3).map(|_| free_port().unwrap()).collect();
        let leaves: Vec<u16> = (0..3).map(|_| free_port().unwrap()).collect();
        let peers: Vec<(String, String)> = (1..)
            .zip(&routes)
            .map(|(node, port)| {
                let url = format!("nats-route://route:r0utes@127.0.0.1:{port}");
                (format!("WATCHFOLD_ROUTE_{node}"), url)
            })
            .collect();
        let mut servers = Vec::new();
        for node in 0..3 {
            let text = text
                .replace("0.0.0.0:6222", &format!("127.0.0.1:{}", routes[node]))
                .replace("0.0.0.0:7422", &format!("127.0.0.1:{}", leaves[node]));
            let name = format!("hub-{}", node + 1);
            let file = place.join(format!("{name}.conf"));
            std::fs::write(&file, text).unwrap();
            let mut environment: Vec<(&str, &str)> = SECRETS.to_vec();
            environment.push(("WATCHFOLD_NODE", &name));
            environment.extend(peers.iter().map(|(name, url)| (name.as_str(), url.as_str())));
            servers.push(Shipped::prepare(place, &name, &file, &environment));
        }
        servers.iter_mut().for_each(Shipped::spawn);
        for server in &mut servers {
            server.answers().await;
        }
        Hub {
            servers,
            leaf_port: leaves[0],
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_of_three_keeps_three_copies() {
    let place = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(place.path()).await;
    let log = hub.servers[0].log(HUB).await;
    let client = hub.servers[1].raw(HUB).await;
    let info = api(&client, "$JS.API.STREAM.INFO.WF_OBS", &Value::Null).await;
    assert_eq!(info["config"]["num_replicas"], 3, "{info}");
    assert_eq!(info["cluster"]["name"], "watchfold", "{info}");
    assert_eq!(
        info["cluster"]["replicas"].as_array().map(Vec::len),
        Some(2),
        "{info}"
    );
    log.append((1..=20).map(|number| record("cafe-1", number)).collect())
        .await
        .unwrap();
    // One may fail: the transport knows one server, so another goes.
    hub.servers[2].kill();
    log.append((21..=40).map(|number| record("cafe-1", number)).collect())
        .await
        .unwrap();
    assert_eq!(all(log.as_ref(), Stream::Observations, 40).await.len(), 40);
}

/// A line that can be cut: what connects to it reaches `to` while it is whole.
struct Line {
    port: u16,
    whole: watch::Sender<bool>,
}

impl Line {
    async fn to(to: u16) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, watched) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut watched = watched.clone();
                tokio::spawn(async move {
                    if !*watched.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = watched.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Line { port, whole }
    }
}

/// The hub's stream takes over a site's stream: what README.md does with the `nats` command, by the same requests.
async fn add_source(client: &async_nats::Client, source: &Path) -> Value {
    let source: Value = serde_json::from_str(&std::fs::read_to_string(source).unwrap()).unwrap();
    let name = source["name"].as_str().unwrap().to_owned();
    let info = api(client, &format!("$JS.API.STREAM.INFO.{name}"), &Value::Null).await;
    let mut config = info["config"].clone();
    let sources = config["sources"].as_array().cloned().unwrap_or_default();
    config["sources"] = [sources, vec![source]].concat().into();
    let updated = api(client, &format!("$JS.API.STREAM.UPDATE.{name}"), &config).await;
    assert_eq!(updated["error"], Value::Null, "{updated}");
    updated
}

fn source_of_the_site() -> PathBuf {
    folder().join("source-cafe-1.json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_works_while_the_line_is_cut_and_the_hub_takes_over_once() {
    let place = tempfile::tempdir().unwrap();
    let hub = Hub::start(place.path()).await;
    let line = Line::to(hub.leaf_port).await;
    let hub_log = hub.servers[1].log(HUB).await;
    let url = format!("nats-leaf://leaf-cafe-1:leaf-s3cret@127.0.0.1:{}", line.port);
    let environment = [
        ("WATCHFOLD_SITE", "cafe-1"),
        ("WATCHFOLD_SITE_PASSWORD", "site-s3cret"),
        ("WATCHFOLD_HUB", url.as_str()),
    ];
    let site = Shipped::start(
        place.path(),
        "site",
        &folder().join("site-leaf.conf"),
        &environment,
    )
    .await;
    let site_log = site.log(SITE).await;

    let client = hub.servers[0].raw(HUB).await;
    add_source(&client, &source_of_the_site()).await;
    // Another site's source beside it, whose line has never been there.
    let other = std::fs::read_to_string(source_of_the_site())
        .unwrap()
        .replace("cafe-1", "cafe-2");
    let file = place.path().join("source-cafe-2.json");
    std::fs::write(&file, other).unwrap();
    let updated = add_source(&client, &file).await;
    assert_eq!(
        updated["config"]["sources"].as_array().map(Vec::len),
        Some(2),
        "{updated}"
    );

    let append = async |from: u64, to: u64| {
        let records = (from..=to).map(|number| record("cafe-1", number)).collect();
        site_log.append(records).await.unwrap();
    };
    append(1, 100).await;
    assert_eq!(all(hub_log.as_ref(), Stream::Observations, 100).await.len(), 100);
    line.whole.send_replace(false);
    // Another site uses up ids at the hub that this one is about to send.
    let hostile = hub.servers[0].raw(Some(("cafe-2", "cafe-2-s3cret"))).await;
    for number in 101..=103 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", record("cafe-1", number).id.0);
        let request = async_nats::Request::new().headers(headers);
        let answer = hostile.send_request("wf.obs.cafe-2.quiet.ping", request).await;
        assert!(answer.unwrap().payload.starts_with(b"{\"stream\":\"WF_OBS\""));
    }
    // The site does not notice.
    append(101, 300).await;
    // What a collector sends again because it missed an answer is one record.
    append(295, 300).await;
    // What somebody at the site stores under another site's name stays there.
    site_log.append(vec![record("cafe-2", 1)]).await.unwrap();
    line.whole.send_replace(true);
    append(301, 320).await;
    let mut taken = all(hub_log.as_ref(), Stream::Observations, 323).await;
    taken.retain(|record| !record.subject.starts_with("wf.obs.cafe-2."));
    let ids: Vec<_> = taken.iter().map(|record| record.id.0.clone()).collect();
    let wanted: Vec<_> = (1..=320).map(|number| record("cafe-1", number).id.0).collect();
    assert_eq!(ids, wanted, "each once, in order, with its id");
    assert!(
        taken
            .iter()
            .all(|record| record.subject == "wf.obs.cafe-1.quiet.ping")
    );
    let (near, far) = (site.raw(SITE).await, client);
    nothing_crosses(&near, &far, "$JS.S.marker").await;
    nothing_crosses(&far, &near, "$JS.FC.marker").await;
    no_say_in_the_hub(&near).await;
}

/// What is published here is not heard there, although the line is whole: `marker` crosses.
async fn nothing_crosses(here: &async_nats::Client, there: &async_nats::Client, marker: &str) {
    let mut heard = there.subscribe(">").await.unwrap();
    there.flush().await.unwrap();
    until("a marker", async || {
        for subject in [
            "wf.probe",
            "probe",
            "_INBOX.probe",
            "_INBOX_hub.probe",
            "$KV.WF_LEASE.probe",
            marker,
        ] {
            here.publish(subject.to_owned(), "".into()).await.unwrap();
        }
        here.flush().await.unwrap();
        let hearing = async {
            loop {
                let message = heard.next().await?;
                assert!(
                    !message.subject.contains("probe"),
                    "{} crossed by itself",
                    message.subject
                );
                if message.subject.as_str() == marker {
                    return Some(());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(1), hearing)
            .await
            .ok()
            .flatten()
    })
    .await;
}

/// A site's server may not ask for anything of the hub's streams.
async fn no_say_in_the_hub(client: &async_nats::Client) {
    for subject in [
        "$JS.hub.API.STREAM.PURGE.WF_OBS",
        "$JS.hub.API.STREAM.DELETE.WF_OBS",
    ] {
        let answer = client.request(subject, "".into()).await;
        assert!(answer.is_err(), "{subject}: {answer:?}");
    }
    let info = api(client, "$JS.API.STREAM.INFO.WF_OBS", &Value::Null).await;
    assert_eq!(info["state"]["messages"], 321, "{info}");
}
