//! The page with attacks that nobody commits, for looking at: alerts are raised at a chosen rate, attacks begin, grow and end.
//! It has no chain and no collector; what it tells follows from nothing but a number.
//!
//! `cargo run -p watchfold-dashboard --example alarms -- [alerts a second] [seconds] [port]`

#![expect(clippy::print_stdout, reason = "an example prints for the person who runs it")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::alert::{
    Alert, Attack, Endpoint, Measured, PacketRanges, Reputation, RuleRef, SeenBy, Tier,
};
use watchfold_schemas::event::{EVENT_VERSION, Place, Severity};
use watchfold_schemas::observation::{OBSERVATION_VERSION, Tick};
use watchfold_schemas::origin::{Cause, EventId};
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{
    Body, Chain, Event, EventBody, Observation, Origin, Span, Stream, Time, encode_event, encode_observation,
    subjects,
};

const SITE: &str = "example";
const START: Time = Time::from_seconds(1_785_715_200);
/// An attack begins this often …
const ATTACK_EVERY_S: u64 = 20;
/// … and lasts this long.
const ATTACK_LASTS_S: u64 = 45;
/// What happened before the page was opened, so that it has an hour to show.
const PAST_S: u64 = 3_000;
const KINDS: [(&str, &str, Severity); 5] = [
    ("port_scan", "Port scan", Severity::High),
    ("brute_force", "Password guessing", Severity::High),
    ("dns_tunnel", "DNS tunnel", Severity::Medium),
    ("exfiltration", "Large upload to outside", Severity::Critical),
    ("new_neighbour", "A device appeared", Severity::Info),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let argument = |index: usize, default| arguments.get(index).copied().unwrap_or(default);
    let (rate, seconds, port) = (argument(0, 1), argument(1, 3_600), argument(2, 0));
    let log = MemoryLog::new();
    let folder = tempfile::tempdir()?;
    let progress = Progress::new("dashboard");
    let shown = Arc::clone(&progress);
    let dashboard = Dashboard::bind(DashboardOptions {
        log: log.clone(),
        site: SITE.into(),
        listen: format!("127.0.0.1:{port}").parse()?,
        access: Default::default(),
        data_dir: folder.path().to_owned(),
        operator: None,
        explain: None,
        packets: Some(Arc::new(|request| {
            Box::pin(async move { Ok(format!("{request:?}").into_bytes()) })
        })),
        figures: Arc::new(|_| ()),
        stages: Arc::new(move || vec![shown.snapshot()]),
        progress,
        software: "example".into(),
    })
    .await?;
    println!("open {}", dashboard.link());
    let cancel = CancellationToken::new();
    let server = tokio::spawn(dashboard.run(cancel.clone()));
    let mut number = 0;
    for second in 0..PAST_S {
        if second % 40 < 7 {
            happen(&log, second, 1, &mut number).await?;
        }
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in PAST_S..PAST_S + seconds {
        ticks.tick().await;
        happen(&log, second, rate, &mut number).await?;
    }
    cancel.cancel();
    server.await??;
    Ok(())
}

/// One second: a tick, the alerts of it, and what becomes of the attacks.
async fn happen(log: &MemoryLog, second: u64, rate: u64, number: &mut u64) -> Result<(), Box<dyn Error>> {
    let mut batch = vec![tick(second)?];
    let begun = |which: u64| which * ATTACK_EVERY_S;
    let newest = second / ATTACK_EVERY_S;
    for which in newest.saturating_sub(ATTACK_LASTS_S / ATTACK_EVERY_S + 1)..=newest {
        let body = match second - begun(which) {
            0 => EventBody::AttackBegan(Box::new(attack(which, second, false))),
            10 | 30 => EventBody::AttackGrew(Box::new(attack(which, second, false))),
            ATTACK_LASTS_S => EventBody::AttackEnded(Box::new(attack(which, second, true))),
            _ => continue,
        };
        batch.push(event(second, number, body)?);
    }
    for _ in 0..rate {
        let of = attack(newest, second, false);
        batch.push(event(
            second,
            number,
            EventBody::AlertRaised(Box::new(alert(of))),
        )?);
    }
    log.append(batch).await?;
    Ok(())
}

fn attack(which: u64, second: u64, ended: bool) -> Attack {
    let (category, title, severity) = KINDS[which as usize % KINDS.len()];
    let at = |second: u64| START + Span::from_seconds(second as i64);
    let began_s = which * ATTACK_EVERY_S;
    let source = format!("203.0.113.{}", which % 250);
    let end = |ip: &str, port| Endpoint {
        ip: Some(ip.into()),
        port: Some(port),
        mac: None,
    };
    let seen_for = second - began_s + 1;
    Attack {
        id: Attack::derive_id(SITE, "capture-lan", category, &source, at(began_s)),
        rule: RuleRef {
            id: category.into(),
            name: category.into(),
            title: title.into(),
            version: 1,
            set: "default".into(),
        },
        category: category.into(),
        severity,
        state: if which % 7 == 3 {
            RuleState::Record
        } else {
            RuleState::Enforce
        },
        subject: source.clone(),
        source: end(&source, 40_000),
        destination: end("192.168.1.10", 22),
        transport: "tcp".into(),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        began_at: at(began_s),
        last_at: at(second),
        ended_at: ended.then(|| at(second)),
        peak: Measured {
            observed: 15 * seen_for,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        },
        peak_at: at(second),
        alerts: 1 + seen_for / 15,
        matches: 15 * seen_for,
        victims: vec!["192.168.1.10".into()],
        victims_total: 1,
        reputation: which.is_multiple_of(3).then(|| Reputation {
            subject: source.clone(),
            tier: Tier::High,
            malicious: 4,
            score: -30,
            known: true,
        }),
        seen_by: SeenBy {
            collector: "capture-lan".into(),
            incarnation: 1,
            interface: "eth0".into(),
            vlans: Vec::new(),
            packets: PacketRanges {
                ranges: vec![(second * 100, second * 100 + 14)],
                total: 15,
            },
        },
        message: format!("{source} did something to <b>192.168.1.10</b>"),
    }
}

fn alert(of: Attack) -> Alert {
    Alert {
        rule: of.rule,
        category: of.category,
        severity: of.severity,
        state: of.state,
        attack: of.id,
        subject: of.subject,
        source: of.source,
        destination: of.destination,
        transport: of.transport,
        community_id: of.community_id,
        measured: of.peak,
        reputation: of.reputation,
        seen_by: of.seen_by,
        message: of.message,
        facts: vec![("dns.question.name".into(), "<script>alert(1)</script>".into())],
    }
}

fn tick(second: u64) -> Result<Append, Box<dyn Error>> {
    let now = START + Span::from_seconds(second as i64);
    let origin = Origin {
        site: SITE.into(),
        collector: "clock".into(),
        incarnation: 1,
        number: second + 1,
    };
    let id = origin.message_id();
    let observation = Observation {
        v: OBSERVATION_VERSION,
        origin,
        observed_at: now,
        through: now,
        body: Body::Tick(Tick {
            now,
            interval_ms: 1_000,
        }),
    };
    Ok(Append {
        stream: Stream::Observations,
        subject: subjects::observation(SITE, observation.body.kind(), "clock"),
        id,
        payload: encode_observation(&observation)?.into(),
    })
}

fn event(second: u64, number: &mut u64, body: EventBody) -> Result<Append, Box<dyn Error>> {
    *number += 1;
    let id = EventId(format!("{:032x}", *number));
    let event = Event {
        v: EVENT_VERSION,
        id: id.clone(),
        site: SITE.into(),
        chain: Chain::Packets,
        at: START + Span::from_seconds(second as i64),
        key: "attack".into(),
        cause: Cause::Packet {
            collector: "capture-lan".into(),
            incarnation: 1,
            packet: *number,
        },
        n: 0,
        place: Place {
            input: *number,
            index: 0,
        },
        causes: Default::default(),
        body,
    };
    Ok(Append {
        stream: Stream::Events,
        subject: subjects::event(SITE, Chain::Packets, event.body.kind(), "attack"),
        id: id.message_id(),
        payload: encode_event(&event)?.into(),
    })
}
