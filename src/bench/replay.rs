//! `watchfold bench replay`: days of pings through the engine of `watchfold replay`, beside bare reading and decoding of
//! the same recording; its memory over a short and a long span; and how long it takes to stand at a minute.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use watchfold_replay::recording::{FORMAT_VERSION, Header, Item, RecordStream, StoredRecord, Writer};
use watchfold_replay::{Counters, Engine, Input, Selection, Step, Under};
use watchfold_schemas::{Span, Stream, Time, codec, decode_observation, subjects};

use super::month::{DAY_S, Month, SITE, START};
use super::report::Report;
use super::{machine, workspace};
use crate::cli::BenchReplayArgs;

/// Where in a recording minutes are looked up, in hundredths of its span.
const SEEKS: [i64; 5] = [3, 27, 50, 77, 97];

const MINUTE: Span = Span::from_seconds(60);

pub fn replay(args: &BenchReplayArgs) -> anyhow::Result<Report> {
    let directory = workspace(&args.common)?;
    let mut report = Report::new("replay");
    let days = i64::from(args.days);
    let until = START + Span::from_seconds(days * DAY_S);
    let path = directory.path().join("days.wfrec");
    let mut made = write_recording(&path, |at, _| at < until)?;
    report.add("days", days as f64, "days", "generated");
    report.add("recording_bytes", made.bytes as f64, "bytes", "recording");

    let short = measure(&path, START + Span::from_seconds(DAY_S / 2))?;
    let long = measure(&path, until)?;
    let decode_s = decode(&path)?.as_secs_f64();
    add_rates(&mut report, &long, decode_s);
    add_memory(&mut report, &short, &long);

    let mut large = path.clone();
    if let Some(size) = args.size {
        std::fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        large = directory.path().join("large.wfrec");
        made = write_recording(&large, |_, bytes| bytes < size)?;
        report.add(
            "seek_bytes",
            made.bytes as f64,
            "bytes",
            "recording that minutes are looked up in",
        );
    }
    add_seeks(&mut report, &large, made.last)?;
    Ok(report)
}

struct Made {
    bytes: u64,
    last: Time,
}

/// One pass of the engine.
struct Pass {
    counters: Counters,
    took: Duration,
    resident_bytes_max: Option<u64>,
}

/// Records what is generated while `goes_on` says so of the time and the bytes so far, with snapshots as `watchfold record`
/// writes them.
fn write_recording(path: &Path, goes_on: impl Fn(Time, u64) -> bool) -> anyhow::Result<Made> {
    let header = Header {
        v: FORMAT_VERSION,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        sites: vec![SITE.to_owned()],
        streams: vec![Stream::Observations.name().to_owned()],
        ..Header::default()
    };
    let failed = || format!("failed to write {}", path.display());
    let file = File::create_new(path).with_context(failed)?;
    let mut writer = Writer::new(file, &header).with_context(failed)?;
    let mut engine = Engine::new(Under::recorded());
    let (mut last, mut sequence) = (START, 0);
    for observation in Month::new() {
        if !goes_on(observation.observed_at, writer.bytes()) {
            break;
        }
        last = observation.observed_at;
        sequence += 1;
        let step = Step::Record {
            stream: Stream::Observations,
            site: SITE.into(),
            lead_in: false,
            record: StoredRecord {
                stream: RecordStream::Observations,
                sequence,
                stored_at: last,
                id: observation.origin.message_id().0,
                subject: subjects::observation(SITE, observation.body.kind(), &observation.origin.collector),
                payload: codec::encode_observation(&observation)?,
            },
        };
        drop(engine.take(&step));
        if let Step::Record { record, .. } = step {
            writer.push(&Item::Record(record)).with_context(failed)?;
        }
        if writer.is_snapshot_due() {
            for snapshot in engine.snapshots() {
                writer.snapshot(&snapshot).with_context(failed)?;
            }
        }
    }
    let finished = writer.finish().with_context(failed)?;
    finished.out.sync_all().with_context(failed)?;
    Ok(Made {
        bytes: finished.bytes,
        last,
    })
}

/// Folds everything stored before `until`, as `watchfold replay` does.
fn measure(path: &Path, until: Time) -> anyhow::Result<Pass> {
    let can_tell = machine::forget_resident_max();
    let began = Instant::now();
    let selection = Selection {
        to: Some(until),
        ..Selection::default()
    };
    let mut input = Input::open(path, &selection)?;
    let mut engine = Engine::new(Under::recorded());
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    while let Some(step) = input.next_step()? {
        drop(engine.take(&step));
    }
    Ok(Pass {
        counters: engine.counters(),
        took: began.elapsed(),
        resident_bytes_max: machine::resident_bytes_max().filter(|_| can_tell),
    })
}

/// The peer: reads and decodes every record and folds none.
fn decode(path: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut input = Input::open(path, &Selection::default())?;
    while let Some(step) = input.next_step()? {
        if let Step::Record { record, .. } = &step {
            decode_observation(&record.payload)?;
        }
    }
    Ok(began.elapsed())
}

fn add_rates(report: &mut Report, pass: &Pass, decode_s: f64) {
    let Counters {
        records,
        results,
        events,
        ..
    } = pass.counters;
    let (results, took_s) = (results as f64, pass.took.as_secs_f64());
    report.add("records", records as f64, "observations", "folded");
    report.add("results", results, "address results", "in them");
    report.add("events", events as f64, "events", "derived");
    report.add("replay_s", took_s, "s", "reading, decoding and folding");
    report.add("replay_results_per_s", results / took_s, "results/s", "that is");
    report.add(
        "decode_results_per_s",
        results / decode_s,
        "results/s",
        "peer: reading and decoding alone",
    );
    report.ratio("vs_decode", decode_s, took_s, "replay beside that peer");
}

fn add_memory(report: &mut Report, short: &Pass, long: &Pass) {
    let (Some(short_bytes), Some(long_bytes)) = (short.resident_bytes_max, long.resident_bytes_max) else {
        return;
    };
    let length = long.counters.records as f64 / (short.counters.records as f64).max(1.0);
    report.add(
        "resident_bytes_short",
        short_bytes as f64,
        "bytes",
        "resident while half a day is folded",
    );
    report.add(
        "resident_bytes_long",
        long_bytes as f64,
        "bytes",
        "resident while all of it is folded",
    );
    report.add("length_ratio", length, "×", "which is so much longer");
    let (short_bytes, long_bytes) = (short_bytes as f64, long_bytes as f64);
    report.ratio(
        "resident_ratio",
        long_bytes,
        short_bytes,
        "and takes so much more memory",
    );
}

fn add_seeks(report: &mut Report, path: &Path, last: Time) -> anyhow::Result<()> {
    let mut worst = Duration::ZERO;
    for hundredths in SEEKS {
        let from = START + Span(last.since(START).0 / 100 * hundredths);
        let began = Instant::now();
        let selection = Selection {
            from: Some(from),
            to: Some(from + MINUTE),
            ..Selection::default()
        };
        let mut input = Input::open(path, &selection)?;
        let mut engine = Engine::new(Under::recorded());
        if let Some(header) = input.header() {
            engine = engine.with_header(header);
        }
        while let Some(step) = input.next_step()? {
            drop(engine.take(&step));
        }
        worst = worst.max(began.elapsed());
        anyhow::ensure!(engine.counters().records > 0, "nothing was found at {from}");
    }
    let what = format!(
        "the longest of {} looks at one minute, its state and events",
        SEEKS.len()
    );
    report.add("seek_s_max", worst.as_secs_f64(), "s", what);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::month::ADDRESSES;

    #[test]
    fn what_is_recorded_is_folded_whole_and_found_by_its_minute() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("minutes.wfrec");
        let until = START + Span::from_seconds(10 * 60);
        let made = write_recording(&path, |at, _| at < until).unwrap();
        assert!(made.bytes > 0 && made.last < until);
        let pass = measure(&path, until).unwrap();
        assert_eq!(pass.counters.results, 300 * ADDRESSES as u64);
        assert_eq!(pass.counters.quarantined + pass.counters.lost_records, 0);
        let mut report = Report::new("replay");
        add_seeks(&mut report, &path, made.last).unwrap();
    }

    #[test]
    fn a_recording_ends_at_the_size_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sized.wfrec");
        let made = write_recording(&path, |_, bytes| bytes < 100_000).unwrap();
        assert!(made.bytes >= 100_000, "{}", made.bytes);
    }
}
