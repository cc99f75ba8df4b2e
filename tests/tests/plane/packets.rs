//! From a capture file to a message in Discord, over a real log on disk: the chain of packets, the finding that the chain of
//! the site is told, the incident, and what people read; with everything stopped in the middle of the attack.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_capture::{FileObservations, FileOptions};
use watchfold_discord::testing::DiscordServer;
use watchfold_folds::{PacketChain, SiteChain, StateMachine};
use watchfold_kit::{Clock, Progress, Publisher, SystemClock};
use watchfold_log::{Append, Embedded, MessageLog, Options};
use watchfold_rules::{PackName, RuleSource, load};
use watchfold_runner::{ChainRunner, RunnerOptions, StatsHandle};
use watchfold_schemas::rules::{RulesActivation, Surroundings};
use watchfold_schemas::{
    Body, Chain, Event, EventBody, Observation, Span, Stream, Time, decode_event, encode_observation,
    subjects,
};

use crate::process::until;
use crate::telling::telling;

const SITE: &str = "cafe-1";

/// Ports tried, two a second; by the classic pack fifteen within ten seconds are a scan.
const PORTS: u16 = 20;

/// What runs on one log; stopped and started again like a process.
struct Life {
    cancel: CancellationToken,
    parts: Vec<JoinHandle<()>>,
    chains: Vec<StatsHandle>,
}

struct House {
    log: Arc<Embedded>,
    place: tempfile::TempDir,
    discord: DiscordServer,
}

impl House {
    async fn new() -> House {
        drop(rustls::crypto::ring::default_provider().install_default());
        let place = tempfile::tempdir().unwrap();
        House {
            log: Embedded::open(&place.path().join("log"), Options::default()).unwrap(),
            discord: DiscordServer::start().await.unwrap(),
            place,
        }
    }

    async fn publisher(&self, name: &str) -> Arc<Publisher> {
        let state = self.place.path().join("collectors");
        std::fs::create_dir_all(&state).unwrap();
        Publisher::open(self.log.clone(), SITE, name, &state)
            .await
            .unwrap()
    }

    async fn start(&self) -> Life {
        let mut life = Life {
            cancel: CancellationToken::new(),
            parts: Vec::new(),
            chains: Vec::new(),
        };
        let site: Box<dyn StateMachine> = Box::new(SiteChain::new(SITE));
        let packets: Box<dyn StateMachine> = Box::new(PacketChain::new(SITE));
        for (chain, fold) in [(Chain::Site, site), (Chain::Packets, packets)] {
            let store = self.place.path().join(chain.token());
            let (log, options) = (self.log.clone(), RunnerOptions::for_chain(chain));
            let progress = Progress::new(chain.token());
            let runner = ChainRunner::open(log, &store, SITE, chain, fold, progress, options);
            let (runner, cancel) = (runner.await.unwrap(), life.cancel.clone());
            life.chains.push(runner.stats());
            life.parts
                .push(tokio::spawn(async move { runner.run(cancel).await.unwrap() }));
        }
        let (clock, cancel) = (self.publisher("clock").await, life.cancel.clone());
        life.parts.push(tokio::spawn(async move {
            let every = Duration::from_millis(200);
            watchfold_clock::run(clock, every, cancel).await.unwrap();
        }));
        let telling = telling(
            SITE,
            self.log.clone(),
            self.publisher("discord").await,
            self.place.path(),
            &self.discord,
            life.cancel.clone(),
        );
        life.parts.push(tokio::spawn(telling));
        life
    }

    /// The rules of the classic pack, as whoever activates a configuration records them.
    async fn activate(&self) {
        let set = load(&RuleSource::Pack(PackName::Classic))
            .unwrap()
            .of_chain(Chain::Packets);
        let surroundings = Surroundings::default();
        let config = self.publisher("config").await;
        let recorded = config.publish_with(|stamp| {
            Body::Rules(Box::new(RulesActivation {
                at: stamp.now(),
                chain: Chain::Packets,
                hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
                set,
                surroundings,
                software: "test".to_owned(),
            }))
        });
        recorded.await.unwrap();
    }

    /// Appends them as a capture would.
    async fn capture(&self, observations: &[Observation]) {
        let messages = observations.iter().map(|observation| Append {
            stream: observation.body.stream(),
            subject: subjects::of_observation(
                observation.body.stream(),
                SITE,
                observation.body.kind(),
                &observation.origin.collector,
            ),
            id: observation.message_id(),
            payload: encode_observation(observation).unwrap().into(),
        });
        self.log.append(messages.collect()).await.unwrap();
    }

    async fn records<T>(&self, stream: Stream, read: impl Fn(&[u8]) -> T) -> Vec<T> {
        let last = self.log.info(stream).await.unwrap().last_sequence;
        let mut found = Vec::new();
        for sequence in 1..=last {
            if let Some(record) = self.log.get(stream, sequence).await.unwrap() {
                found.push(read(&record.payload));
            }
        }
        found
    }

    async fn events(&self) -> Vec<Event> {
        self.records(Stream::Events, |bytes| decode_event(bytes).unwrap())
            .await
    }

    async fn told(&self, title: &str) {
        let told = async || {
            self.discord
                .titles()
                .iter()
                .any(|told| told == title)
                .then_some(())
        };
        until(title, told, || format!("{:?}", self.discord.titles())).await;
    }
}

impl Life {
    async fn stop(self) {
        self.cancel.cancel();
        for part in self.parts {
            part.await.unwrap();
        }
        for chain in self.chains {
            let stats = chain.snapshot();
            assert_eq!(
                stats.stores_set_aside, 0,
                "what was told contradicts what was read: {stats:?}"
            );
        }
    }
}

/// A capture file: one host asks for a port every half second, and long after comes a packet of somebody else.
fn scan(path: &Path, begin: Time) {
    // Little-endian, microseconds, Ethernet.
    let mut file = Vec::new();
    file.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    file.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0]);
    let mut packet = |at: Time, source: u8, port: u16| {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
        frame.extend_from_slice(&[
            0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, source, 192, 0, 2, 1,
        ]);
        frame.extend_from_slice(&40_000_u16.to_be_bytes());
        frame.extend_from_slice(&port.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]);
        let micros = at.0 / 1_000;
        for field in [
            micros / 1_000_000,
            micros % 1_000_000,
            frame.len() as i64,
            frame.len() as i64,
        ] {
            file.extend_from_slice(&u32::try_from(field).unwrap().to_le_bytes());
        }
        file.extend_from_slice(&frame);
    };
    for index in 0..PORTS {
        packet(
            begin + Span::from_millis(i64::from(index) * 500),
            66,
            1_000 + index,
        );
    }
    packet(begin + Span::from_seconds(40), 7, 80);
    std::fs::write(path, file).unwrap();
}

fn observed(path: PathBuf) -> Vec<Observation> {
    let options = FileOptions {
        site: SITE.to_owned(),
        ..FileOptions::default()
    };
    FileObservations::open(&[path], options)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test]
async fn a_scan_in_a_capture_becomes_one_incident_and_two_messages_through_a_restart() {
    let house = House::new().await;
    let path = house.place.path().join("scan.pcap");
    // It is over before it is read, and not so long ago that it would be told as late.
    scan(&path, SystemClock::new().wall() - Span::from_seconds(45));
    let observations = observed(path);
    let (scanning, over) = observations.split_at(observations.len() - 1);
    house.activate().await;

    let life = house.start().await;
    house.capture(scanning).await;
    house.told("Port scan: 192.0.2.66").await;
    life.stop().await;

    let life = house.start().await;
    house.capture(over).await;
    house.told("Port scan: 192.0.2.66 is over").await;
    // Told again by a crash or a retry, it would stand in the log a second time and change nothing.
    let findings = async || {
        let all = house
            .records(Stream::Observations, |bytes| {
                watchfold_schemas::decode_observation(bytes).unwrap()
            })
            .await;
        let findings = all.into_iter().filter(|one| one.body.kind() == "finding");
        findings.collect::<Vec<_>>()
    };
    let before = findings().await;
    assert_eq!(before.len(), 2, "{before:?}");
    let mut again = before[0].clone();
    again.observed_at = again.observed_at + Span::from_seconds(1);
    let payload = encode_observation(&again).unwrap().into();
    let message = Append {
        stream: Stream::Observations,
        subject: subjects::observation(SITE, "finding", "packets"),
        id: watchfold_schemas::MessageId("again".to_owned()),
        payload,
    };
    house.log.append(vec![message]).await.unwrap();
    life.stop().await;
    let life = house.start().await;
    life.stop().await;

    let events = house.events().await;
    let of = |kind: &str| events.iter().filter(|event| event.body.kind() == kind).count();
    for kind in [
        "alert_raised",
        "attack_began",
        "attack_ended",
        "incident_opened",
        "incident_closed",
    ] {
        assert_eq!(of(kind), 1, "{kind}: {events:#?}");
    }
    let closed = events.iter().find_map(|event| match &event.body {
        EventBody::IncidentClosed(incident) => Some(incident),
        _ => None,
    });
    let closed = closed.unwrap();
    assert_eq!(closed.subject, "attack:port_scan:192.0.2.66");
    assert!(!closed.late && closed.duration_ms > Some(0), "{closed:?}");
    let titles = house.discord.titles();
    let sent = house.discord.calls();
    assert_eq!(
        sent.iter().filter(|call| call.method == "POST").count(),
        2,
        "{titles:?}"
    );
}
