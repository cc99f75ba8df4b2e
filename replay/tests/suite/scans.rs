//! Packets made by hand, a rule on them, and a log as capture, chains and runner would have written it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use watchfold_folds::{PacketChain, SiteChain, StateMachine, finding_of};
use watchfold_log::{Append, Embedded, MessageLog, Options};
use watchfold_replay::{CaptureSummary, Captured, CapturedBatches, Opens, Outside, OutsideError};
use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::Source;
use watchfold_schemas::observation::{OBSERVATION_VERSION, Tick};
use watchfold_schemas::packets::{CaptureSource, PacketBatch};
use watchfold_schemas::rules::{
    Compare, FieldTest, Rule, RuleSet, RuleState, RulesActivation, Surroundings, Test, Trigger, Value,
};
use watchfold_schemas::subjects;
use watchfold_schemas::{
    Body, Chain, Event, Observation, Origin, Span, Stream, Time, encode_event, encode_observation,
};

pub const SITE: &str = "cafe-1";
pub const VICTIM: [u8; 4] = [10, 0, 0, 9];

/// A SYN.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    pub at: Time,
    pub source: [u8; 4],
    pub port: u16,
}

/// Milliseconds after the beginning of a day.
pub fn at(ms: i64) -> Time {
    Time::from_seconds(1_767_600_000) + Span::from_millis(ms)
}

/// So many ports of the victim, one each tenth of a second.
pub fn scan(begin_ms: i64, last_byte: u8, ports: u16) -> Vec<Syn> {
    let syn = |index: u16| Syn {
        at: at(begin_ms + i64::from(index) * 100),
        source: [10, 0, 0, last_byte],
        port: 1_000 + index,
    };
    (0..ports).map(syn).collect()
}

/// Three scans of 12, 15 and 20 ports, far apart, and a packet long after them.
pub fn three_scans() -> Vec<Syn> {
    let mut packets = scan(10_000, 61, 12);
    packets.extend(scan(100_000, 62, 15));
    packets.extend(scan(200_000, 63, 20));
    packets.extend(scan(400_000, 64, 1));
    packets
}

/// A port scan that so many ports make.
pub fn rules(at_least: u64) -> RuleSet {
    let truth = |field: &str, is: bool| {
        Test::Field(FieldTest {
            field: field.to_owned(),
            compare: Compare::Equals,
            values: vec![Value::Truth(is)],
            all: false,
        })
    };
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    RuleSet {
        name: "test".to_owned(),
        rules: vec![Rule {
            id: "port_scan".to_owned(),
            name: "port_scan".to_owned(),
            title: "Port scan".to_owned(),
            version: 1,
            category: "port_scan".to_owned(),
            severity: Severity::High,
            state: RuleState::Enforce,
            source: Source::Packet,
            test: Test::All(vec![truth("tcp.syn", true), truth("tcp.ack", false)]),
            exclusions: Vec::new(),
            counts_duplicates: false,
            withdrawn_by: None,
            trigger: Trigger::Distinct {
                field: "destination.port".to_owned(),
                group_by: fields(&["source.ip", "destination.ip"]),
                window_ms: 10_000,
                at_least,
            },
            subject: fields(&["source.ip"]),
            cooldown_ms: 60_000,
            reputation: None,
            message: "{source.ip} tried {observed} ports".to_owned(),
        }],
    }
}

/// What a capture publishes of these packets, at most so many in a batch and a second.
pub fn batches(site: &str, packets: &[Syn], rows_max: usize) -> Vec<Observation> {
    let mut out: Vec<Observation> = Vec::new();
    let mut rest = packets;
    while let Some(first) = rest.first() {
        let within = |packet: &&Syn| packet.at.since(first.at) < Span::from_seconds(1);
        let length = rest.iter().take(rows_max).take_while(within).count();
        let (now, later) = rest.split_at(length);
        let number = (packets.len() - rest.len()) as u64 + 1;
        let through = now[length - 1].at;
        out.push(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: site.to_owned(),
                collector: "capture-lan".to_owned(),
                incarnation: 1,
                number: out.len() as u64 + 1,
            },
            observed_at: through,
            through,
            body: Body::Batch(Box::new(batch(number, now))),
        });
        rest = later;
    }
    out
}

fn batch(first: u64, packets: &[Syn]) -> PacketBatch {
    let base = packets[0].at;
    let bytes2 = |values: Vec<u16>| values.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let bytes4 = |values: Vec<i32>| values.into_iter().flat_map(i32::to_le_bytes).collect::<Vec<u8>>();
    let count = packets.len();
    let mut v4 = VICTIM.to_vec();
    let mut sources = Vec::new();
    for packet in packets {
        let known = v4
            .as_chunks::<4>()
            .0
            .iter()
            .position(|known| *known == packet.source);
        sources.push(known.unwrap_or_else(|| {
            v4.extend_from_slice(&packet.source);
            v4.len() / 4 - 1
        }) as u16);
    }
    PacketBatch {
        first,
        base,
        source: CaptureSource {
            name: "lan".to_owned(),
            link_type: 1,
            snap_length: 65_535,
        },
        at_ns: bytes4(
            packets
                .iter()
                .map(|packet| packet.at.since(base).0 as i32)
                .collect(),
        ),
        numbers: bytes4((0..count as i32).collect()),
        v4,
        sources: bytes2(sources),
        destinations: bytes2(vec![0; count]),
        source_ports: bytes2(vec![40_000; count]),
        destination_ports: bytes2(packets.iter().map(|packet| packet.port).collect()),
        lengths: bytes2(vec![60; count]),
        protocols: vec![6; count],
        tcp_flags: vec![2; count],
        marks: vec![0; count],
        ..PacketBatch::default()
    }
}

pub fn activation(set: &RuleSet) -> Observation {
    let surroundings = Surroundings::default();
    let set = set.of_chain(Chain::Packets);
    let body = RulesActivation {
        at: at(0),
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
        set,
        surroundings,
        software: "test".to_owned(),
    };
    observation("rules", 1, at(0), Body::Rules(Box::new(body)))
}

fn observation(collector: &str, number: u64, at: Time, body: Body) -> Observation {
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: SITE.to_owned(),
            collector: collector.to_owned(),
            incarnation: 1,
            number,
        },
        observed_at: at,
        through: at,
        body,
    }
}

/// A log and what live derived: ticks every ten seconds, packets, what was found in them.
pub struct ScanLog {
    pub directory: tempfile::TempDir,
    pub packet_events: Vec<Event>,
    pub site_events: Vec<Event>,
}

impl ScanLog {
    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Writes a log by these rules.
pub fn log_of(packets: &[Syn], set: &RuleSet, rows_max: usize) -> ScanLog {
    log_with_pause(packets, set, rows_max, |_| {})
}

/// The same; when half of it is written, somebody may look.
pub fn log_with_pause(packets: &[Syn], set: &RuleSet, rows_max: usize, look: impl FnOnce(&Path)) -> ScanLog {
    let directory = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let clock = now.clone();
    let options = Options {
        clock: Arc::new(move || Time(clock.load(Ordering::SeqCst))),
        streams: Default::default(),
    };
    let mut writer = Writer {
        log: Embedded::open(&directory.path().join("log"), options).unwrap(),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
        sequences: [0; 2],
        packets: PacketChain::new(SITE),
        site: SiteChain::new(SITE),
        packet_events: Vec::new(),
        site_events: Vec::new(),
    };
    let last = packets.last().unwrap().at;
    let mut inputs: Vec<Observation> = vec![activation(set)];
    inputs.extend(batches(SITE, packets, rows_max));
    let mut ticked = at(0);
    let mut number = 0;
    while ticked <= last {
        number += 1;
        let tick = Tick {
            now: ticked,
            interval_ms: 10_000,
        };
        inputs.push(observation("clock", number, ticked, Body::Tick(tick)));
        ticked = ticked + Span::from_seconds(10);
    }
    inputs.sort_by_key(|input| input.observed_at);
    let (first, second) = inputs.split_at(inputs.len() / 2);
    let mut write = |inputs: &[Observation]| {
        for input in inputs {
            now.store(input.observed_at.0, Ordering::SeqCst);
            writer.take(input);
        }
    };
    write(first);
    look(directory.path());
    write(second);
    writer.log.close();
    ScanLog {
        directory,
        packet_events: writer.packet_events,
        site_events: writer.site_events,
    }
}

struct Writer {
    log: Arc<Embedded>,
    runtime: tokio::runtime::Runtime,
    /// Of observations and of packets.
    sequences: [u64; 2],
    packets: PacketChain,
    site: SiteChain,
    packet_events: Vec<Event>,
    site_events: Vec<Event>,
}

impl Writer {
    fn take(&mut self, observation: &Observation) {
        let stream = observation.body.stream();
        let origin = &observation.origin;
        self.append(vec![Append {
            stream,
            subject: subjects::of_observation(
                stream,
                &origin.site,
                observation.body.kind(),
                &origin.collector,
            ),
            id: match &observation.body {
                Body::Finding(finding) => finding.event.message_id(),
                _ => origin.message_id(),
            },
            payload: encode_observation(observation).unwrap().into(),
        }]);
        let is_packets = stream == Stream::Packets;
        self.sequences[usize::from(is_packets)] += 1;
        let sequence = self.sequences[usize::from(is_packets)];
        if !is_packets {
            let events = self.site.apply(sequence, observation);
            self.tell(&events);
            self.site_events.extend(events);
            return;
        }
        let events = self.packets.apply(sequence, observation);
        let began_ms = self.packets.began_ms();
        let findings: Vec<Observation> = events
            .iter()
            .filter_map(|event| finding_of(event, began_ms))
            .collect();
        self.tell(&events);
        self.packet_events.extend(events);
        findings.iter().for_each(|finding| self.take(finding));
    }

    fn tell(&self, events: &[Event]) {
        let append = |event: &Event| Append {
            stream: Stream::Events,
            subject: subjects::event(&event.site, event.chain, event.body.kind(), &event.key),
            id: event.id.message_id(),
            payload: encode_event(event).unwrap().into(),
        };
        self.append(events.iter().map(append).collect());
    }

    fn append(&self, appends: Vec<Append>) {
        if !appends.is_empty() {
            self.runtime.block_on(self.log.append(appends)).unwrap();
        }
    }
}

/// Capture files that hold nothing but the magic: what is in them is these packets.
pub struct Files {
    pub packets: Vec<Syn>,
    pub rows_max: usize,
}

impl Opens for Files {
    fn is_capture(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "pcap")
    }

    fn captures(&self, paths: &[PathBuf], site: &str) -> Result<CapturedBatches, OutsideError> {
        let batches = batches(site, &self.packets, self.rows_max);
        let summary = Captured::Read(CaptureSummary {
            path: paths[0].clone(),
            packets: self.packets.len() as u64,
            ..CaptureSummary::default()
        });
        let batches = batches.into_iter().map(|batch| Captured::Batch(Box::new(batch)));
        Ok(Box::new(batches.chain([summary]).map(Ok)))
    }

    fn rules(&self, source: &str) -> Result<RuleSet, OutsideError> {
        Ok(rules(source.parse()?))
    }
}

pub fn outside(packets: &[Syn], rows_max: usize) -> Outside {
    Outside::new(Arc::new(Files {
        packets: packets.to_vec(),
        rows_max,
    }))
}

/// A file that begins as a capture does.
pub fn capture_file(directory: &Path) -> PathBuf {
    let path = directory.join("packets.pcap");
    std::fs::write(&path, [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]).unwrap();
    path
}
