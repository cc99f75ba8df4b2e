//! compose.yaml, without a container engine: what each service must be is read, and the same topology runs with the
//! same commands as processes, in the order of its dependencies, each waited for by its own health check. Only host
//! names, ports and paths are others than in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use watchfold_log::{MessageLog, Start};
use watchfold_schemas::{Body, Stream, decode_observation, subjects};
use yaml_serde::Value;

use crate::shipped::folder;
use crate::topology::{TOKEN, Topology};

/// The file. A key that is not here is one that nobody has checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    name: String,
    pub services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    image: String,
    build: Value,
    restart: String,
    user: String,
    read_only: bool,
    #[serde(default)]
    tmpfs: Vec<String>,
    #[serde(default)]
    ulimits: BTreeMap<String, u64>,
    cap_drop: Vec<String>,
    #[serde(default)]
    cap_add: Vec<String>,
    security_opt: Vec<String>,
    #[serde(default)]
    pub depends_on: BTreeMap<String, Dependency>,
    pub healthcheck: HealthCheck,
    #[serde(default)]
    pub stop_grace_period: Option<String>,
    pub command: Vec<String>,
    #[serde(default)]
    env_file: Vec<EnvFile>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    volumes: Vec<String>,
    #[serde(default)]
    network_mode: Option<String>,
    #[serde(default)]
    pub profiles: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub condition: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    #[serde(default)]
    disable: bool,
    #[serde(default)]
    pub test: Vec<String>,
    #[serde(default)]
    interval: String,
    #[serde(default)]
    timeout: String,
    #[serde(default)]
    start_period: String,
    #[serde(default)]
    retries: u32,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvFile {
    path: String,
    required: bool,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The file with its anchors followed.
pub fn read() -> Compose {
    let text = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    let mut value: Value = yaml_serde::from_str(&text).unwrap();
    value.apply_merge().unwrap();
    value.as_mapping_mut().unwrap().remove("x-program");
    yaml_serde::from_value(value).unwrap()
}

#[test]
fn every_service_is_hardened() {
    let compose = read();
    assert_eq!(compose.name, "watchfold");
    for (name, service) in &compose.services {
        let Service { user, restart, .. } = service;
        let (id, group) = user.split_once(':').unwrap_or_else(|| panic!("{name}: {user}"));
        // An engine gives capabilities to root alone. A root without any other one may not even read others' files.
        let captures = name == "capture";
        assert_eq!(service.cap_add, ["NET_RAW"][..usize::from(captures)], "{name}");
        assert!(captures || (id != "0" && group != "0"), "{name} runs as root");
        assert!(service.read_only, "{name} can write its root file system");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        assert!(service.tmpfs.iter().all(|place| place == "/tmp"), "{name}");
        let files = service.ulimits.get("nofile").copied();
        assert_eq!(files, (name != "nats").then_some(65_536), "{name}");
        assert_eq!(restart, "unless-stopped", "{name}");
        for port in &service.ports {
            assert!(
                port.starts_with("127.0.0.1:"),
                "{name} opens {port} to the network"
            );
        }
        assert!(
            service.network_mode.is_none() || captures || name == "watchfold",
            "{name} leaves the network of the file"
        );
        for file in &service.env_file {
            assert!(file.path == "./watchfold.env" && !file.required, "{name}");
        }
    }
}

#[test]
fn every_service_has_a_health_check() {
    for (name, service) in read().services {
        let check = &service.healthcheck;
        if check.disable {
            // It has no port to be asked at; nobody waits for it to be healthy.
            assert_eq!(
                (name.as_str(), service.restart.as_str()),
                ("config", "unless-stopped")
            );
            continue;
        }
        assert_eq!(check.test[0], "CMD", "{name}: without a shell");
        assert!(check.test.len() >= 3 && check.retries > 0, "{name}");
        for time in [&check.interval, &check.timeout] {
            assert!(seconds(time) > 0, "{name}: {time}");
        }
        assert!(
            check.start_period.is_empty() || seconds(&check.start_period) > 0,
            "{name}"
        );
        let asked = check.test.last().unwrap();
        let is_asked_where_it_listens = service.command.iter().any(|word| {
            word == asked.trim_start_matches("http://")
                || (word.ends_with(":8737") && asked.ends_with(":8737"))
        });
        assert!(
            is_asked_where_it_listens || name == "nats",
            "{name} does not listen at {asked}"
        );
    }
}

fn seconds(text: &str) -> u32 {
    text.trim_end_matches('s')
        .parse()
        .unwrap_or_else(|_| panic!("{text}"))
}

/// It stands in the machine's own network, where no service has a name: the broker has to be on its loopback.
#[test]
fn a_capture_reaches_the_broker_from_the_machines_own_network() {
    let compose = read();
    let capture = &compose.services["capture"];
    assert_eq!(capture.network_mode.as_deref(), Some("host"));
    let at = capture.command.iter().position(|word| word == "--log").unwrap();
    let place = capture.command[at + 1].strip_prefix("nats://").unwrap();
    assert!(
        compose.services["nats"].ports.contains(&format!("{place}:4222")),
        "{place}"
    );
    // Root, but without the right to write where somebody else's files are.
    let kept = capture
        .volumes
        .iter()
        .find(|volume| volume.starts_with("capture:"));
    let (_, kept) = kept.unwrap().split_once(':').unwrap();
    assert!(capture.command.iter().any(|word| word == kept), "{kept}");
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    assert!(!dockerfile.contains(kept), "{kept} is the image's user's");
}

#[test]
fn what_is_kept_and_what_is_mounted_is_declared() {
    let compose = read();
    let mut used = BTreeSet::new();
    for (name, service) in &compose.services {
        let mut kept = false;
        for volume in &service.volumes {
            let (from, to) = volume.split_once(':').unwrap_or(("", volume));
            kept |= to.starts_with("/var/lib/");
            if let Some(path) = from.strip_prefix("./") {
                assert!(to.ends_with(":ro"), "{name} may write {path}");
                assert!(
                    path == "watchfold.toml" || root().join(path).exists(),
                    "{name}: {path} is not there"
                );
            } else if !from.is_empty() {
                assert!(used.insert(from), "{name} shares {from} with another service");
            }
        }
        assert!(
            kept,
            "{name} keeps nothing over its restart, and its root file system is read-only"
        );
    }
    let declared: BTreeSet<&str> = compose.volumes.keys().map(String::as_str).collect();
    assert_eq!(declared, used);
    assert!(
        compose.volumes.values().all(Option::is_none),
        "volumes are the engine's own"
    );
}

#[test]
fn a_page_that_others_reach_asks_for_a_token_that_somebody_chose() {
    for (name, service) in read().services {
        let listens = service.command.iter().any(|word| word.ends_with(":8737"));
        let token = service.environment.get("WATCHFOLD_TOKEN");
        assert_eq!(listens, token.is_some(), "{name}");
        assert!(
            token.is_none_or(|token| token.starts_with("${WATCHFOLD_TOKEN:?")),
            "{name}: {token:?}"
        );
    }
}

#[test]
fn the_image_holds_every_program_and_runs_as_nobody() {
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let (_, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(
        last.contains("\nUSER 10001\n") && last.contains("--uid 10001"),
        "{last}"
    );
    assert!(dockerfile.contains("--workspace --bins"), "{dockerfile}");
    let manifests = [
        "Cargo.toml",
        "processors/main/Cargo.toml",
        "collectors/ping/Cargo.toml",
    ]
    .into_iter()
    .chain(["collectors/clock/Cargo.toml", "sinks/dashboard/Cargo.toml"])
    .chain(["sinks/discord/Cargo.toml", "sinks/healthchecks/Cargo.toml"])
    .chain(["sinks/virustotal/Cargo.toml", "collectors/capture/Cargo.toml"])
    .map(|path| std::fs::read_to_string(root().join(path)).unwrap());
    let programs: BTreeSet<String> = manifests
        .filter_map(|text| {
            let (_, bin) = text.split_once("[[bin]]\nname = \"")?;
            bin.split_once('"').map(|(name, _)| name.to_owned())
        })
        .collect();
    for (name, service) in read().services {
        let program = &service.command[0];
        assert!(
            programs.contains(program) || program == "nats-server",
            "{name}: {program}"
        );
        let image = if name == "nats" {
            "watchfold-nats:latest"
        } else {
            "watchfold:latest"
        };
        assert_eq!(service.image, image);
        // Built from the Dockerfile beside the file: the whole of it, or the stage of that name.
        let (context, stage) = match &service.build {
            Value::String(context) => (context.as_str(), None),
            build => (build["context"].as_str().unwrap(), build["target"].as_str()),
        };
        assert_eq!(context, ".");
        assert!(
            stage.is_none_or(|stage| dockerfile.contains(&format!(" AS {stage}\n"))),
            "{name}: {stage:?}"
        );
    }
}

#[test]
fn the_broker_has_the_file_that_says_what_it_acknowledges() {
    let service = &read().services["nats"];
    assert!(
        service
            .volumes
            .iter()
            .any(|volume| volume.starts_with("./nats/server/single.conf:/etc/nats/single.conf"))
    );
    assert_eq!(
        service.command,
        [
            "nats-server",
            "--config",
            "/etc/nats/single.conf",
            "--addr",
            "0.0.0.0"
        ]
    );
    assert!(folder().join("single.conf").exists());
}

/// Asks the page for its state, with this token.
async fn page(topology: &Topology, token: &str) -> u16 {
    let client = reqwest::Client::new();
    let url = format!("http://{}/api/v1/state", topology.page());
    let answer = client.get(url).bearer_auth(token).send().await.unwrap();
    answer.status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_runs_as_the_file_says() {
    let mut topology = Topology::new(read()).await;
    let services: Vec<String> = topology.names_of_profile(None);
    assert_eq!(services.len(), 8, "{services:?}");
    topology.start_in_order(&services).await;
    // As many processors as wanted share the sites.
    topology.start_another("processors").await;

    let log = topology.log().await;
    let activation = log
        .last(Stream::Observations, &subjects::activations("cafe-1"))
        .await
        .unwrap();
    let activation = decode_observation(&activation.expect("a configuration").payload).unwrap();
    let Body::Activation(activation) = activation.body else {
        panic!("{activation:?}")
    };
    assert_eq!(activation.config.site, "cafe-1");

    // Ticks, rounds, and events that the processors made of them.
    for kind in ["tick", "ping_round"] {
        let filter = subjects::observation("cafe-1", kind, "*");
        let mut reader = log
            .reader(Stream::Observations, &filter, Start::First)
            .await
            .unwrap();
        topology.soon(kind, reader.next(1)).await.unwrap();
    }
    topology.outage();
    let incidents = subjects::events_of_kind("cafe-1", "incident_opened");
    let mut reader = log
        .reader(Stream::Events, &incidents, Start::First)
        .await
        .unwrap();
    let event = topology.soon("an incident", reader.next(1)).await.unwrap();
    assert!(
        event.records[0].subject.starts_with("wf.evt.cafe-1."),
        "{event:?}"
    );
    topology.told("Gone is down").await;

    assert_eq!(page(&topology, TOKEN).await, 200);
    assert_eq!(page(&topology, &"x".repeat(43)).await, 401);
    topology.nothing_shows_the_token();
    topology.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_site_is_one_container() {
    let mut topology = Topology::new(read()).await;
    let services = topology.names_of_profile(Some("small"));
    assert_eq!(services, ["watchfold"]);
    topology.start_in_order(&services).await;
    assert_eq!(page(&topology, TOKEN).await, 200);
    assert_eq!(page(&topology, "").await, 401);
    topology.outage();
    topology.told("Gone is down").await;
    topology.nothing_shows_the_token();
    topology.stop_all().await;
}
