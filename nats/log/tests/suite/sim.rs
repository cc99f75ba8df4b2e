//! The simulator: one stream and its positions on a disk that goes wrong in every way it may, run from a seed and held
//! against the model after every life. `WATCHFOLD_SIM_SEED=n` runs one seed, `WATCHFOLD_SIM_SEEDS=n` that many.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use watchfold_log::disk::Disk;
use watchfold_log::positions::Positions;
use watchfold_log::stream::StreamStore;
use watchfold_log::{Ack, DuplicateWindow, LogError, Position, Start, StreamOptions, StreamReader};
use watchfold_schemas::{Span, Time};

use crate::model::{FRAME_BYTES_MAX, Model, message};
use crate::sim_disk::{Faults, Rng, SharedDisk, SimDisk};

/// Seeds in a plain test run.
const SEEDS: u64 = 300;
const MESSAGES_PER_BATCH_MAX: u64 = 6;
const STEPS_PER_LIFE_MAX: u64 = 60;
/// The writer answers within its sync delay, so what waits for an ack is never old enough to be dropped.
const UNSYNCED_BATCHES_MAX: usize = 3;
/// After a restart a log tells duplicates only of what it keeps, so it keeps more than what waits for an ack.
const BYTES_MAX_MIN: u64 = 2 * (UNSYNCED_BATCHES_MAX as u64 + 1) * MESSAGES_PER_BATCH_MAX * FRAME_BYTES_MAX;
const DIR: &str = "/log/WF_OBS";
const POSITIONS_DIR: &str = "/log/positions";

#[test]
fn every_seed_keeps_what_was_acknowledged() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("WATCHFOLD_SIM_SEED") {
        run_seed(seed, None);
        return;
    }
    let mut seen = Seen::default();
    for seed in 0..number("WATCHFOLD_SIM_SEEDS").unwrap_or(SEEDS) {
        seen.add(&reported(seed, None));
    }
    println!("{seen:?}");
    // A simulator that never met these would prove nothing.
    let met = [
        seen.acknowledged,
        seen.crashes,
        seen.refused,
        seen.stopped,
        seen.dropped,
        seen.duplicates,
        seen.saved,
    ];
    assert!(met.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_crash_at_each_single_operation_is_survived() {
    for seed in [1_000_001, 1_000_002, 1_000_003] {
        let steps = run_seed(seed, Some(u64::MAX)).steps;
        assert!(steps > 50, "seed {seed} does too little: {steps} operations");
        for crash_at in 1..=steps {
            reported(seed, Some(crash_at));
        }
    }
}

/// Runs a seed, and says which one when it fails.
#[expect(clippy::print_stdout, reason = "the harness shows it when a test fails")]
fn reported(seed: u64, crash_at: Option<u64>) -> Seen {
    catch_unwind(AssertUnwindSafe(|| run_seed(seed, crash_at))).unwrap_or_else(|panic| {
        println!("failed with WATCHFOLD_SIM_SEED={seed}, crash at {crash_at:?}");
        resume_unwind(panic)
    })
}

/// What a run met.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    steps: u64,
    acknowledged: u64,
    crashes: u64,
    refused: u64,
    stopped: u64,
    dropped: u64,
    duplicates: u64,
    saved: u64,
    closed: u64,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.steps += other.steps;
        self.acknowledged += other.acknowledged;
        self.crashes += other.crashes;
        self.refused += other.refused;
        self.stopped += other.stopped;
        self.dropped += other.dropped;
        self.duplicates += other.duplicates;
        self.saved += other.saved;
        self.closed += other.closed;
    }
}

/// `crash_at`: without other faults, crash once at that operation; otherwise everything at random.
fn run_seed(seed: u64, crash_at: Option<u64>) -> Seen {
    let mut run = Run::new(seed);
    if let Some(crash_at) = crash_at {
        run.disk.set_faults(Faults {
            crash_at: Some(crash_at),
            ..Faults::default()
        });
        run.life(40);
        run.disk.set_faults(Faults::default());
    } else {
        for _ in 0..3 + run.rng.below(4) {
            let faults = run.random_faults();
            run.disk.set_faults(faults);
            let steps = run.rng.below(STEPS_PER_LIFE_MAX);
            run.life(steps);
        }
        run.disk.set_faults(Faults::default());
    }
    run.seen.steps = run.disk.steps();
    run.last_life();
    run.seen
}

struct Run {
    seed: u64,
    rng: Rng,
    disk: Arc<SimDisk>,
    options: StreamOptions,
    model: Model,
    now: Time,
    /// The next message that the producer has not handed over yet.
    next_number: u64,
    /// Handed over without an ack; handed over again, in order, before anything newer.
    unacknowledged: Vec<u64>,
    seen: Seen,
}

/// One life of the process.
struct Life {
    store: StreamStore,
    positions: Positions,
    reader: StreamReader,
    /// Written, not synced: (numbers, acks).
    written: Vec<(Vec<u64>, Vec<Ack>)>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng(seed ^ 0x5eed);
        let segment_bytes = 400 + rng.below(4000);
        let bytes_max = BYTES_MAX_MIN + segment_bytes * rng.below(20);
        let window = 40 + rng.below(100);
        let options = StreamOptions {
            segment_bytes,
            duplicates: DuplicateWindow {
                count: window as usize,
                span: Span::ZERO,
                count_max: 1000,
            },
            ..StreamOptions::new(bytes_max, None)
        };
        let batch_max = MESSAGES_PER_BATCH_MAX * FRAME_BYTES_MAX;
        let model = Model::new(seed, bytes_max, segment_bytes, batch_max, window);
        let (disk, now) = (SimDisk::new(seed), Time::from_seconds(1_000));
        let (unacknowledged, seen) = (Vec::new(), Seen::default());
        Run {
            seed,
            rng,
            disk,
            options,
            model,
            now,
            next_number: 1,
            unacknowledged,
            seen,
        }
    }

    fn random_faults(&mut self) -> Faults {
        let rng = &mut self.rng;
        let mut rate = |of: u64, max: u64| if rng.chance(of) { 1 + rng.below(max) } else { 0 };
        Faults {
            write_error: rate(300, 60),
            sync_error: rate(200, 30),
            name_error: rate(200, 60),
            short_write: rate(300, 300),
            crash_at: None,
            capacity: None,
        }
        .with_crash(&mut self.rng, self.disk.steps(), self.disk.used_bytes())
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(SharedDisk(self.disk.clone()))
    }

    /// Opens, works, and ends by a crash, a power cut or in order.
    fn life(&mut self, steps: u64) {
        let opened = self.open();
        if let Ok(mut life) = opened {
            for _ in 0..steps {
                if self.disk.has_crashed() {
                    break;
                }
                self.step(&mut life);
            }
            if !self.disk.has_crashed() && self.rng.chance(300) {
                self.sync(&mut life);
                let closed = life.store.close();
                self.seen.closed += u64::from(closed.is_ok());
                self.disk.kill();
                return;
            }
        }
        self.seen.crashes += 1;
        if self.rng.chance(300) && !self.disk.has_crashed() {
            self.disk.kill()
        } else {
            self.disk.cut_power()
        }
    }

    /// Without faults everything must work again: what was never acknowledged is handed over once more and kept.
    fn last_life(&mut self) {
        let mut life = self.open().expect("opens on a healthy disk");
        while !self.unacknowledged.is_empty() {
            self.append(&mut life, false).expect("appends on a healthy disk");
            self.sync(&mut life);
        }
        self.append(&mut life, true).expect("appends on a healthy disk");
        self.sync(&mut life);
        assert!(life.written.is_empty() && self.unacknowledged.is_empty());
        life.store.close().expect("closes on a healthy disk");
        self.disk.cut_power();
        self.open().expect("opens on a healthy disk");
    }

    fn open(&mut self) -> Result<Life, LogError> {
        let fresh = [self.seed as u8; 16];
        let store = StreamStore::open(self.disk(), Path::new(DIR), self.options, fresh)?;
        let positions = Positions::open(self.disk(), Path::new(POSITIONS_DIR))?;
        let view = store.views().borrow().clone();
        let mut reader = StreamReader::new(
            self.disk(),
            DIR.into(),
            store.damage(),
            ">",
            view.first_sequence(),
        );
        let (mut records, mut lost_below) = (Vec::new(), 0);
        while reader.next_sequence() < view.next_sequence {
            let batch = reader.read(&view, 7)?;
            if let Some(lost) = batch.lost {
                // Only an unlink that did not happen in order leaves a hole, below everything that is kept.
                assert!(
                    records.is_empty() || lost.to < self.model.floor,
                    "{lost:?} is lost amid what is kept"
                );
                lost_below = lost.to + 1;
                records.clear();
            }
            records.extend(batch.records);
        }
        self.model
            .recovered(view.first_sequence(), view.next_sequence, lost_below, &records);
        for name in ["a", "b"] {
            let loaded = positions.load(name)?;
            self.model
                .position_loaded(name, loaded.map(|position| (position.sequence, position.id)));
        }
        Ok(Life {
            store,
            positions,
            reader,
            written: Vec::new(),
        })
    }

    fn step(&mut self, life: &mut Life) {
        self.now = self.now + Span::from_millis(1 + self.rng.below(5_000) as i64);
        match self.rng.below(100) {
            0..45 => {
                let refused = self.append(life, true);
                self.model.was_refused(
                    matches!(refused, Err(LogError::Full { .. } | LogError::Io { .. }))
                        && !self.disk.has_crashed(),
                );
                self.note(life, refused.err());
            }
            45..70 => self.sync(life),
            70..85 => self.read(life),
            85..92 => self.save_position(life),
            92..96 => {
                let retained = life.store.retain(self.now);
                self.note(life, retained.err());
            }
            _ => self.start_reader(life),
        }
        let view = life.store.views().borrow().clone();
        if view.first_sequence() > self.model.floor {
            self.seen.dropped += 1;
            self.model.floor = view.first_sequence();
        }
    }

    fn note(&mut self, _life: &Life, error: Option<LogError>) {
        match error {
            Some(LogError::Stopped(_)) => self.seen.stopped += 1,
            Some(_) => self.seen.refused += 1,
            None => {}
        }
    }

    /// What has no ack goes first, then something new; now and then something that was acknowledged lately.
    fn append(&mut self, life: &mut Life, with_new: bool) -> Result<(), LogError> {
        let in_flight: Vec<u64> = life
            .written
            .iter()
            .flat_map(|(numbers, _)| numbers.clone())
            .collect();
        let mut numbers = self.unacknowledged.clone();
        numbers.retain(|number| !in_flight.contains(number));
        let has_more = numbers.len() as u64 > MESSAGES_PER_BATCH_MAX;
        numbers.truncate(MESSAGES_PER_BATCH_MAX as usize);
        if with_new && !has_more {
            while (numbers.len() as u64) < 1 + self.rng.below(MESSAGES_PER_BATCH_MAX) {
                numbers.push(self.next_number);
                self.unacknowledged.push(self.next_number);
                self.next_number += 1;
            }
        }
        if self.rng.chance(200) {
            let back = 1 + self.rng.below(self.model.window / 4);
            let old = self.next_number.saturating_sub(back + MESSAGES_PER_BATCH_MAX);
            if self.model.keeps(old) {
                numbers.insert(0, old);
            }
        }
        let messages: Vec<_> = numbers.iter().map(|number| message(self.seed, *number)).collect();
        self.model.try_append(&numbers);
        let acks = life.store.append(&messages, self.now)?;
        self.model.placed(&acks);
        self.seen.duplicates += acks.iter().filter(|ack| ack.duplicate).count() as u64;
        life.written.push((numbers, acks));
        if !life.store.is_dirty() || life.written.len() >= UNSYNCED_BATCHES_MAX {
            self.sync(life);
        }
        Ok(())
    }

    fn sync(&mut self, life: &mut Life) {
        let synced = life.store.sync();
        if synced.is_ok() {
            for (numbers, acks) in life.written.drain(..) {
                self.model.acknowledge(&numbers, &acks, self.now);
                self.unacknowledged.retain(|number| !numbers.contains(number));
                self.seen.acknowledged += numbers.len() as u64;
            }
        }
        self.note(life, synced.err());
    }

    fn read(&mut self, life: &mut Life) {
        let view = life.store.views().borrow().clone();
        self.model.floor = self.model.floor.max(view.first_sequence());
        let before = life.reader.next_sequence();
        match life.reader.read(&view, 1 + self.rng.below(20) as usize) {
            Ok(batch) => self.model.show(before, &batch),
            Err(_) => assert!(self.disk.has_crashed(), "reading fails only with the process"),
        }
    }

    fn start_reader(&mut self, life: &mut Life) {
        let view = life.store.views().borrow().clone();
        let start = match self.rng.below(3) {
            0 => Start::First,
            1 => Start::New,
            _ => Start::Sequence(view.first_sequence() + self.rng.below(view.next_sequence)),
        };
        life.reader.seek(&view, &start).expect("seeks without reading");
    }

    fn save_position(&mut self, life: &mut Life) {
        let view = life.store.views().borrow().clone();
        let Ok(Some(record)) = life
            .reader
            .clone()
            .get(&view, life.reader.next_sequence().saturating_sub(1))
        else {
            return;
        };
        let name = if self.rng.chance(500) { "a" } else { "b" };
        let position = Position {
            log_id: "sim".into(),
            sequence: record.sequence,
            id: record.id.0,
        };
        self.model.position_tried(name, position.sequence);
        if life.positions.save(name, &position).is_ok() {
            self.model.position_saved(name, position.sequence);
            self.seen.saved += 1;
        }
    }
}

impl Faults {
    fn with_crash(self, rng: &mut Rng, steps: u64, used_bytes: u64) -> Faults {
        let crash_at = rng.chance(600).then(|| steps + 1 + rng.below(120));
        let capacity = rng.chance(250).then(|| used_bytes + rng.below(6_000));
        Faults {
            crash_at,
            capacity,
            ..self
        }
    }
}
