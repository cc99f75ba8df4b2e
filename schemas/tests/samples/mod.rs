//! One value of everything that can be stored today, from which missing samples are written. Values are chosen so
//! that no field is empty; they describe no real site.

use watchfold_schemas::config::{
    NetworkConfig, OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, SiteConfig, Target,
};
use watchfold_schemas::event::Place;
use watchfold_schemas::observation::{
    Act, Activation, Body, DeliveryOutcome, Fault, Gap, OBSERVATION_VERSION, Observation, OperatorAct,
    Outcome, Parity, ParityDifference, ParityVerdict, PingRound, PingRow, Receipt, Tick,
};
use watchfold_schemas::snapshot::{
    CollectorPosition, FoldVersion, SNAPSHOT_VERSION, SnapshotChunk, SnapshotManifest, SnapshotPart,
    SnapshotPosition, SnapshotRecord, SnapshotState, StateEntry, StoredEvent,
};
use watchfold_schemas::why::{CertificateProblem, Why};
use watchfold_schemas::{Chain, Event, EventId, Origin, Span, Time, subjects};

mod alerts;
mod events;

/// 2026-01-31T08:00:00Z, a Saturday.
const START: Time = Time::from_seconds(1_769_846_400);
const SITE: &str = "cafe-1";

/// A stored value, with the name of its variant.
pub enum Sample {
    Observation(&'static str, Box<Observation>),
    Event(&'static str, Box<Event>),
    SnapshotRecord(&'static str, Box<SnapshotRecord>),
    SnapshotState(Box<SnapshotState>),
}

impl Sample {
    /// The stem of its files: the stored type, then the kind, then the variant where a kind has several.
    pub fn name(&self) -> String {
        let join = |kind: &str, variant: &str| {
            if variant.is_empty() {
                kind.into()
            } else {
                format!("{kind}.{variant}")
            }
        };
        match self {
            Sample::Observation(variant, value) => {
                format!("observation.{}", join(value.body.kind(), variant))
            }
            Sample::Event(variant, value) => format!("event.{}", join(value.body.kind(), variant)),
            Sample::SnapshotRecord(variant, _) => format!("snapshot_record.{variant}"),
            Sample::SnapshotState(_) => "snapshot_state".to_owned(),
        }
    }
}

pub fn all() -> Vec<Sample> {
    let mut samples = observations();
    samples.extend(events::all());
    samples.extend(snapshots());
    samples
}

fn observations() -> Vec<Sample> {
    let bodies = [
        ("", Body::PingRound(ping_round())),
        ("reasons", Body::PingRound(round_with_reasons())),
        ("", Body::Quiet),
        (
            "",
            Body::Fault(Fault {
                subject: "router".into(),
                at: after(1),
                reason: "No socket for echo: allow unprivileged ones, or run as root.".into(),
                active: true,
            }),
        ),
        (
            "",
            Body::Gap(Gap {
                from: after(2),
                to: after(9),
                records: 7,
                reason: "the queue was full".into(),
            }),
        ),
        (
            "",
            Body::Tick(Tick {
                now: after(3),
                interval_ms: 1_000,
            }),
        ),
        (
            "acknowledge",
            act(Act::Acknowledge {
                incident: "a1b2c3d4e5f60718".into(),
            }),
        ),
        (
            "mute",
            act(Act::Mute {
                subject: "router".into(),
                until: after(3_600),
            }),
        ),
        (
            "unmute",
            act(Act::Unmute {
                subject: "router".into(),
            }),
        ),
        (
            "maintenance",
            act(Act::Maintenance {
                id: "m-1".into(),
                subjects: vec!["router".into(), "server".into()],
                from: after(60),
                until: after(7_200),
            }),
        ),
        (
            "cancel_maintenance",
            act(Act::CancelMaintenance { id: "m-1".into() }),
        ),
        ("delivered", receipt(DeliveryOutcome::Delivered)),
        ("merged", receipt(DeliveryOutcome::Merged)),
        ("expired", receipt(DeliveryOutcome::Expired)),
        ("rejected", receipt(DeliveryOutcome::Rejected)),
        ("", activation()),
        ("agreed", parity(ParityVerdict::Agreed)),
        (
            "differed",
            parity(ParityVerdict::Differed(ParityDifference {
                input: 1_004,
                index: 1,
                message: format!("{SITE}/ping/1769846400000/9"),
                recorded: Some("incident_opened router at 2026-01-31T08:00:30Z".into()),
                derived: Some("incident_opened router at 2026-01-31T08:00:31Z".into()),
            })),
        ),
        (
            "not_compared",
            parity(ParityVerdict::NotCompared {
                reason: "derived by version 0.0.9".into(),
            }),
        ),
    ];
    let bodies = bodies.into_iter().chain(alerts::observations());
    let number = 1..;
    let observation = |((variant, body), number): ((&'static str, Body), u64)| {
        let collector = match &body {
            Body::Tick(_) => "clock",
            Body::Operator(_) => "operator",
            Body::Receipt(_) => "discord",
            Body::Activation(_) => "config",
            Body::Parity(_) => "parity",
            Body::Batch(_) => "capture-eth0",
            Body::Verdict(_) => "virustotal",
            Body::Rules(_) => "config",
            Body::Finding(_) => "packets",
            Body::PingRound(_) | Body::Quiet | Body::Fault(_) | Body::Gap(_) => "ping",
        };
        let origin = Origin {
            site: SITE.into(),
            collector: collector.into(),
            incarnation: 1_769_846_400_000,
            number,
        };
        let v = OBSERVATION_VERSION;
        Sample::Observation(
            variant,
            Box::new(Observation {
                v,
                origin,
                observed_at: after(10),
                through: after(9),
                body,
            }),
        )
    };
    bodies.zip(number).map(observation).collect()
}

/// Every signal and every outcome stands in it once at least.
fn ping_round() -> PingRound {
    let rows = (0..6).map(|i| PingRow {
        subject: if i < 4 {
            "internet".into()
        } else {
            "pc:192.0.2.11".into()
        },
        address: format!("192.0.2.{i}"),
        signal: Signal::ALL[i % Signal::ALL.len()],
        at: START + Span::from_millis(i as i64 * 3),
        outcome: Outcome::ALL[i],
        rtt_us: (Outcome::ALL[i] == Outcome::Ok).then_some(1_234),
        mac: (i == 1).then(|| "02:00:00:00:00:0b".into()),
        detail: (i == 4).then(|| "status 302 instead of 200".into()),
        why: None,
        resolved: None,
    });
    PingRound::from_rows(9, 2, rows.collect())
}

/// One row for each reason, of a name.
fn round_with_reasons() -> PingRound {
    let rows = whys().into_iter().enumerate().map(|(i, why)| PingRow {
        subject: "website".into(),
        address: "www.example".into(),
        signal: Signal::Https,
        at: START + Span::from_millis(i as i64 * 3),
        outcome: Outcome::Unexpected,
        rtt_us: None,
        mac: None,
        detail: None,
        why: Some(why),
        resolved: Some(format!("2001:db8::{i}")),
    });
    PingRound::from_rows(10, 1, rows.collect())
}

pub fn whys() -> Vec<Why> {
    let certificates = [
        CertificateProblem::Expired,
        CertificateProblem::NotYetValid,
        CertificateProblem::WrongName,
        CertificateProblem::UnknownIssuer,
        CertificateProblem::Revoked,
        CertificateProblem::Invalid,
    ];
    let mut whys = vec![
        Why::HttpStatus {
            got: 301,
            want: 200,
            redirected_to: Some("login.example".into()),
        },
        Why::TextMissing {
            searched_bytes: 65_536,
            is_cut: true,
        },
        Why::UndecodableBody {
            encoding: "compress".into(),
        },
        Why::DnsCode(3),
        Why::DnsEmpty,
        Why::NotDns,
        Why::Protocol {
            problem: "received fatal alert: HandshakeFailure".into(),
        },
    ];
    whys.extend(certificates.map(Why::Certificate));
    whys
}

fn act(act: Act) -> Body {
    Body::Operator(OperatorAct {
        at: after(5),
        who: "token".into(),
        act,
        note: Some("new cable".into()),
    })
}

fn receipt(outcome: DeliveryOutcome) -> Body {
    Body::Receipt(Receipt {
        at: after(6),
        sink: "discord".into(),
        requests: vec![EventId("f0828599b2a65b9a83b16082a20dc170".into())],
        outcome,
        message: Some("1131425364758697".into()),
        detail: Some("404: the webhook was deleted".into()),
        attempts: 2,
    })
}

fn parity(verdict: ParityVerdict) -> Body {
    Body::Parity(Parity {
        chain: Chain::Site,
        hour: START,
        from: 1_000,
        to: 1_900,
        events: 12,
        verdict,
    })
}

fn activation() -> Body {
    let config = site_config();
    let hash = config.hash();
    Body::Activation(Box::new(Activation {
        at: after(7),
        hash,
        config,
        software: "0.1.0".into(),
    }))
}

fn site_config() -> SiteConfig {
    let probe = |address: &str, signals| ProbeSpec {
        address: address.into(),
        signals,
    };
    let target = |name: &str, probes, depends_on: &[&str]| Target {
        name: name.into(),
        probes,
        quorum: 1,
        interval_ms: 2_000,
        timeout_ms: 1_000,
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
    };
    let page = SignalSpec::Https {
        url: "https://example.com/".into(),
        status: 200,
        contains: Some("Example".into()),
    };
    SiteConfig {
        site: SITE.into(),
        time_zone: "Europe/Berlin".into(),
        network: NetworkConfig {
            targets: vec![
                target("router", vec![probe("192.0.2.1", vec![SignalSpec::Echo])], &[]),
                target(
                    "internet",
                    vec![
                        probe(
                            "198.51.100.1",
                            vec![SignalSpec::Dns {
                                query: "example.com".into(),
                                port: 53,
                            }],
                        ),
                        probe("example.com", vec![SignalSpec::Tcp { port: 443 }, page]),
                    ],
                    &["router"],
                ),
            ],
            ..NetworkConfig::default()
        },
        occupancy: OccupancyConfig {
            hosts: vec![PcHost {
                address: "192.0.2.11".into(),
                mac: Some("02:00:00:00:00:0b".into()),
                name: "PC-1".into(),
            }],
            depends_on: vec!["router".into()],
            ..OccupancyConfig::default()
        },
    }
}

fn snapshots() -> Vec<Sample> {
    let chunk = SnapshotPart::Chunk(SnapshotChunk {
        index: 0,
        crc32c: 0x1234_5678,
        data: vec![0, 1, 0xc1, 0xff],
    });
    let manifest = SnapshotPart::Manifest(Box::new(SnapshotManifest {
        site: SITE.into(),
        chain: Chain::Site,
        position: SnapshotPosition {
            log_id: "5f0c1c3e9a7b4d2e".into(),
            sequence: 1_000,
            id: format!("{SITE}/ping/1769846400000/9"),
        },
        published: Some(Place { input: 999, index: 1 }),
        versions: vec![FoldVersion {
            fold: "liveness".into(),
            version: 1,
        }],
        at: after(3_600),
        chunk_sequences: vec![41, 42],
        bytes: 600_000,
        crc32c: 0x9abc_def0,
        previous: Some(40),
    }));
    let record = |part| {
        Box::new(SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: "1000-0123456789abcdef".into(),
            part,
        })
    };
    let event = events::sample();
    let state = SnapshotState {
        v: SNAPSHOT_VERSION,
        entries: vec![StateEntry {
            key: b"liveness/router".to_vec(),
            value: vec![0x81, 0xff],
        }],
        outbox: vec![StoredEvent {
            place: event.place,
            subject: subjects::event(SITE, event.chain, event.body.kind(), &event.key),
            id: event.id.0.clone(),
            payload: vec![0x81, 0xa1, b'v', 1],
        }],
        collectors: vec![CollectorPosition {
            collector: "ping".into(),
            incarnation: 1_769_846_400_000,
            number: 9,
            sequence: 1_000,
        }],
    };
    vec![
        Sample::SnapshotRecord("chunk", record(chunk)),
        Sample::SnapshotRecord("manifest", record(manifest)),
        Sample::SnapshotState(Box::new(state)),
    ]
}

fn after(seconds: i64) -> Time {
    START + Span::from_seconds(seconds)
}
