//! Each stage over the same file, by the code that works live: the reader of captures, the log, the runner, the chain.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::file::CaptureFile;
use watchfold_capture::observe::{FileObservations, FileOptions};
use watchfold_capture::parse::{Inside, Packet, Print, Vlans, decode as decode_packet};
use watchfold_folds::{PacketChain, StateMachine};
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, MessageLog, Options, Start, StreamOptions};
use watchfold_replay::{Engine, Input, Selection, Under};
use watchfold_runner::{ChainRunner, RunnerOptions, StatsHandle};
use watchfold_schemas::event::EventBody;
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{
    Body, Chain, Observation, Origin, Span, Stream, Time, codec, decode_observation, subjects,
};

use super::Pass;
use crate::bench::machine;

/// Whose observations are measured.
pub const SITE: &str = "bench";

/// Appends that wait for their sync together.
const APPENDS_AT_ONCE: usize = 8;

/// How far the capture may be ahead of the chain, in batches.
const AHEAD_BATCHES: u64 = 64;

/// How often it is looked whether the chain has caught up.
const POLL: Duration = Duration::from_millis(1);

/// Records of one read.
const READ_MAX: usize = 256;

/// More than any measurement writes.
const STREAM_BYTES_MAX: u64 = 1 << 40;

/// Packets of a flood come this far apart: a million a second.
const FLOOD_EVERY: Span = Span::from_nanos(1_000);

/// Reads every packet with libpcap and does nothing with it; `None` where there is none to be sure of.
#[cfg(unix)]
pub fn bare(path: &Path) -> anyhow::Result<Option<Pass>> {
    let mut capture =
        pcap::Capture::from_file(path).with_context(|| format!("libpcap cannot open {}", path.display()))?;
    let began = Instant::now();
    let (mut packets, mut bytes) = (0, 0);
    while let Ok(packet) = capture.next_packet() {
        packets += 1;
        bytes += packet.data.len() as u64;
    }
    let took = began.elapsed();
    ensure!(bytes > 0, "{} holds no packets", path.display());
    Ok(Some(Pass {
        packets,
        took,
        processor: None,
    }))
}

#[cfg(not(unix))]
pub fn bare(_path: &Path) -> anyhow::Result<Option<Pass>> {
    Ok(None)
}

/// Reads and decodes every packet.
pub fn decode(path: &Path) -> anyhow::Result<Pass> {
    let mut file = CaptureFile::open(path)?;
    let began = Instant::now();
    let mut understood = 0_u64;
    file.for_each(|frame| {
        if let Ok(packet) = decode_packet(frame.link, frame.bytes, frame.wire_length) {
            understood += u64::from(std::hint::black_box(&packet).protocol > 0);
        }
        ControlFlow::Continue(())
    })?;
    let took = began.elapsed();
    ensure!(
        understood > 0,
        "{} holds nothing that is understood",
        path.display()
    );
    Ok(Pass {
        packets: file.packets(),
        took,
        processor: None,
    })
}

/// The same, and makes batches of it.
pub fn batch(path: &Path) -> anyhow::Result<Pass> {
    let began = Instant::now();
    let mut packets = 0;
    for observation in observations(path)? {
        if let Body::Batch(batch) = &observation?.body {
            packets = batch.counts.received;
        }
    }
    Ok(Pass {
        packets,
        took: began.elapsed(),
        processor: None,
    })
}

fn observations(path: &Path) -> anyhow::Result<FileObservations> {
    let options = FileOptions {
        site: SITE.to_owned(),
        ..FileOptions::default()
    };
    Ok(FileObservations::open(&[path.to_owned()], options)?)
}

/// What the whole path came to.
pub struct Whole {
    pub pass: Pass,
    pub events: u64,
    pub log_bytes: u64,
    /// The directory of the log.
    pub log: PathBuf,
}

/// Capture and chain on a thread each, with the log between them.
pub fn whole(path: &Path, directory: &Path, rules: RuleSet) -> anyhow::Result<Whole> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let place = directory.join("log");
    let log = Embedded::open(&place, log_options())?;
    let (pass, events) = runtime.block_on(through_the_log(path, directory, &log, rules))?;
    log.close();
    let log_bytes = bytes_of(&place.join(Stream::Packets.name()))?;
    Ok(Whole {
        pass,
        events,
        log_bytes,
        log: place,
    })
}

fn log_options() -> Options {
    let mut options = Options::default();
    for stream in [Stream::Packets, Stream::Observations, Stream::Events] {
        options
            .streams
            .insert(stream, StreamOptions::new(STREAM_BYTES_MAX, None));
    }
    options
}

async fn through_the_log(
    path: &Path,
    directory: &Path,
    log: &Arc<Embedded>,
    rules: RuleSet,
) -> anyhow::Result<(Pass, u64)> {
    let store = directory.join("state");
    let fold = Box::new(PacketChain::new(SITE));
    let options = RunnerOptions::for_chain(Chain::Packets);
    let progress = Progress::new("chain");
    let runner =
        ChainRunner::open(log.clone(), &store, SITE, Chain::Packets, fold, progress, options).await?;
    let (stats, cancel) = (runner.stats(), CancellationToken::new());
    log.append(vec![append(&activation(rules))?]).await?;
    let began = Instant::now();
    let running = tokio::spawn(runner.run(cancel.clone()));
    let capture = {
        let (path, log, stats) = (path.to_owned(), log.clone(), stats.clone());
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || publish(&path, &log, &stats, &handle))
    };
    let packets = capture.await.context("the capture panicked")??;
    let head = log.info(Stream::Packets).await?.last_sequence;
    while stats.snapshot().position < head {
        tokio::time::sleep(POLL).await;
    }
    // What the runner still does at its end belongs to the work: the last commit, the last events.
    cancel.cancel();
    running.await.context("the chain panicked")??;
    let took = began.elapsed();
    let counted = stats.snapshot();
    ensure!(
        counted.quarantined + counted.duplicates + counted.outbox == 0,
        "something was left out: {counted:?}"
    );
    let pass = Pass {
        packets,
        took,
        processor: None,
    };
    Ok((pass, counted.published))
}

/// Everything in the file goes into the log, never far ahead of the chain.
fn publish(
    path: &Path,
    log: &Arc<Embedded>,
    chain: &StatsHandle,
    runtime: &tokio::runtime::Handle,
) -> anyhow::Result<u64> {
    let mut unacknowledged = std::collections::VecDeque::new();
    let (mut packets, mut sent) = (0, 1);
    for observation in observations(path)? {
        let observation = observation?;
        if let Body::Batch(batch) = &observation.body {
            packets = batch.counts.received;
        }
        unacknowledged.push_back(runtime.block_on(log.submit(Stream::Packets, vec![append(&observation)?]))?);
        sent += 1;
        if unacknowledged.len() >= APPENDS_AT_ONCE
            && let Some(submitted) = unacknowledged.pop_front()
        {
            runtime.block_on(submitted.wait())?;
        }
        while chain.snapshot().position + AHEAD_BATCHES < sent {
            std::thread::sleep(POLL);
        }
    }
    for submitted in unacknowledged {
        runtime.block_on(submitted.wait())?;
    }
    Ok(packets)
}

pub fn append(observation: &Observation) -> anyhow::Result<Append> {
    let (kind, collector) = (observation.body.kind(), &observation.origin.collector);
    Ok(Append {
        stream: Stream::Packets,
        subject: subjects::of_observation(Stream::Packets, SITE, kind, collector),
        id: observation.origin.message_id(),
        payload: codec::encode_observation(observation)?.into(),
    })
}

pub fn activation(set: RuleSet) -> Observation {
    let (set, surroundings) = (set.of_chain(Chain::Packets), Surroundings::default());
    let activation = RulesActivation {
        at: Time::EPOCH,
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
        set,
        surroundings,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    observation("config", 1, Time::EPOCH, Body::Rules(Box::new(activation)))
}

fn observation(collector: &str, number: u64, through: Time, body: Body) -> Observation {
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: SITE.to_owned(),
            collector: collector.to_owned(),
            incarnation: 1,
            number,
        },
        observed_at: through,
        through,
        body,
    }
}

fn bytes_of(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("failed to list {}", directory.display()))?
    {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Folds what was recorded once more, as `watchfold replay` does.
pub fn replay(log: &Path) -> anyhow::Result<Pass> {
    let began = Instant::now();
    let mut input = Input::open(log, &Selection::default())?;
    let mut engine = Engine::new(Under::recorded());
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    while let Some(step) = input.next_step()? {
        drop(engine.take(&step));
    }
    let chain = engine.packet_chain(SITE).context("the log holds no packets")?;
    Ok(Pass {
        packets: chain.counters().packets,
        took: began.elapsed(),
        processor: None,
    })
}

/// The batches in the log, as they are stored.
pub fn recorded(log: &Path) -> anyhow::Result<Vec<Bytes>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let log = Embedded::open(log, log_options())?;
    runtime.block_on(async {
        let head = log.info(Stream::Packets).await?.last_sequence;
        let filter = subjects::of_observation(Stream::Packets, SITE, "batch", "*");
        let mut reader = log.reader(Stream::Packets, &filter, Start::First).await?;
        let (mut out, mut at) = (Vec::new(), 0);
        while at < head {
            for record in reader.next(READ_MAX).await?.records {
                at = record.sequence;
                out.push(record.payload.clone());
            }
        }
        Ok(out)
    })
}

/// Decodes and judges batches under some rules.
pub fn fold(payloads: &[Bytes], rules: RuleSet) -> anyhow::Result<Pass> {
    let mut chain = PacketChain::new(SITE);
    drop(chain.apply(1, &activation(rules)));
    let (processor, began) = (machine::processor_time(), Instant::now());
    for (number, payload) in payloads.iter().enumerate() {
        let observation = decode_observation(payload)?;
        drop(std::hint::black_box(chain.apply(number as u64 + 2, &observation)));
    }
    let took = began.elapsed();
    let processor = machine::processor_time().zip(processor);
    Ok(Pass {
        packets: chain.counters().packets,
        took,
        processor: processor.map(|(after, before)| after.saturating_sub(before)),
    })
}

/// What a flood came to.
pub struct Flood {
    pub pass: Pass,
    pub events: u64,
    /// Attacks whose destination is the victim.
    pub victims: u64,
    pub evicted: u64,
}

/// As many SYNs, each from another source, against one victim under the default rules.
pub fn flood(sources: u64) -> anyhow::Result<Flood> {
    let rules = watchfold_rules::load(&"default".parse()?)?;
    let mut chain = PacketChain::new(SITE);
    drop(chain.apply(1, &activation(rules)));
    let victim = IpAddr::from([10, 9, 9, 9]);
    let mut builder = BatchBuilder::new(CaptureSource::default(), &[]);
    let (mut took, mut events, mut victims, mut sequence) = (Duration::ZERO, 0, 0, 1);
    for number in 0..=sources {
        let at = Time(FLOOD_EVERY.0.saturating_mul(number as i64));
        let is_full = builder.len() >= watchfold_schemas::packets::PACKET_ROWS_MAX;
        if is_full || number == sources {
            sequence += 1;
            let batch = Body::Batch(Box::new(builder.take(CaptureCounts::default())));
            let record = observation("capture-file", sequence, at, batch);
            let began = Instant::now();
            let told = chain.apply(sequence, &record);
            took += began.elapsed();
            events += told.len() as u64;
            victims += told.iter().filter(|event| is_about(&event.body, victim)).count() as u64;
        }
        // Spread over all addresses of the other half of the internet.
        let source = 0x8000_0000 | (number as u32).wrapping_mul(2_654_435_761) >> 1;
        let packet = Packet {
            source: Some(IpAddr::from(source.to_be_bytes())),
            destination: Some(victim),
            source_port: 40_000,
            destination_port: 443,
            protocol: 6,
            tcp_flags: 2,
            marks: 0,
            vlans: Vlans::default(),
            print: Print {
                content: number + 1,
                path: 1,
            },
            inside: Inside::Nothing,
            payload: &[],
        };
        ensure!(
            builder.push(number + 1, at, 60, packet) == Pushed::Taken,
            "a batch took no packet"
        );
    }
    Ok(Flood {
        pass: Pass {
            packets: sources,
            took,
            processor: None,
        },
        events,
        victims,
        evicted: chain.counters().windows_evicted,
    })
}

fn is_about(body: &EventBody, victim: IpAddr) -> bool {
    match body {
        EventBody::AttackBegan(attack) => attack.subject.contains(&victim.to_string()),
        _ => false,
    }
}
