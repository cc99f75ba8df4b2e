//! Random outages, restarts and kills against what a publisher with a spool promises: what was settled reaches the log,
//! once and in order, or a gap covers it. A failing seed is printed and reproduces: `WATCHFOLD_OUTAGE_SEED=7`; more of
//! them: `WATCHFOLD_OUTAGE_SEEDS=1000`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::testing::{Mode, World, until};
use super::super::*;

/// Seeds in an ordinary run; each takes a few synced writes.
const SEEDS: u64 = 10;

/// Steps in each story.
const STEPS: u64 = 40;

/// A xorshift generator: nothing here needs more.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

struct Story {
    world: World,
    /// `None` only between two processes.
    publisher: Option<Arc<Publisher>>,
    random: Random,
    record_bytes: usize,
    /// When each record was observed, by its name.
    observed: Vec<Time>,
    /// Names that a settled flush or an orderly end has covered.
    promised: Vec<usize>,
    /// Published and not promised yet.
    open: Vec<usize>,
}

impl Story {
    async fn new(seed: u64, bytes_max: u64, record_bytes: usize) -> Story {
        let world = World::new(bytes_max);
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..8).for_each(|_| assert!(random.below(2) < 2));
        world.log.forgets.store(random.below(2) == 0, Ordering::Relaxed);
        let publisher = Some(world.open().await);
        Story {
            world,
            publisher,
            random,
            record_bytes,
            observed: Vec::new(),
            promised: Vec::new(),
            open: Vec::new(),
        }
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..=8 => {
                for _ in 0..=self.random.below(12) {
                    let name = self.observed.len();
                    self.world
                        .submit(self.publisher(), &name.to_string(), self.record_bytes);
                    let now = self.publisher().now();
                    self.observed.push(now);
                    self.open.push(name);
                }
            }
            9..=12 => {
                let mode = match self.random.below(8) {
                    0..=2 => Mode::Takes,
                    3 | 4 => Mode::Full,
                    5 => Mode::LosesAck,
                    6 => Mode::TakesSome(self.random.below(6) as usize),
                    _ => Mode::Hangs,
                };
                self.world.log.set(mode);
            }
            13..=15 => tokio::time::sleep(Duration::from_millis(self.random.below(8_000))).await,
            16 | 17 => {
                let settled = tokio::time::timeout(Duration::from_secs(30), self.publisher().flush());
                if settled.await.is_ok() {
                    self.promised.append(&mut self.open);
                }
            }
            18 => {
                self.publisher.take().unwrap().kill().await;
                self.open.clear();
                self.publisher = Some(self.world.open().await);
            }
            _ => {
                self.publisher.take().unwrap().end().await;
                self.promised.append(&mut self.open);
                self.publisher = Some(self.world.open().await);
            }
        }
    }

    fn publisher(&self) -> &Arc<Publisher> {
        self.publisher.as_ref().unwrap()
    }

    async fn finish(&mut self) {
        self.world.log.set(Mode::Takes);
        let publisher = self.publisher();
        until("everything is in the log", || publisher.stats().queued == 0).await;
        publisher.flush().await;
        self.promised.append(&mut self.open);
    }
}

/// What readers accepted in the end.
async fn tell(seed: u64, bytes_max: u64, record_bytes: usize) -> (Vec<Observation>, Story) {
    let mut story = Story::new(seed, bytes_max, record_bytes).await;
    for _ in 0..STEPS {
        story.step().await;
    }
    story.finish().await;
    (story.world.accepted(), story)
}

fn check(seed: u64, accepted: &[Observation], story: &Story) -> u64 {
    let mut got = Vec::new();
    let mut gaps = Vec::new();
    let mut before: Option<&Origin> = None;
    for observation in accepted {
        let origin = &observation.origin;
        match &observation.body {
            Body::Fault(fault) => got.push(fault.subject.parse::<usize>().unwrap()),
            Body::Gap(gap) => gaps.push((gap.from, gap.to)),
            body => panic!("seed {seed}: {body:?}"),
        }
        let follows = match before {
            Some(before) if before.incarnation == origin.incarnation => before.number + 1,
            _ => 1,
        };
        let is_gap = matches!(observation.body, Body::Gap(_));
        assert!(
            origin.number == follows || is_gap,
            "seed {seed}: a hole before {origin} without a gap"
        );
        before = Some(origin);
    }
    assert!(got.is_sorted_by(|a, b| a < b), "seed {seed}: order: {got:?}");
    let missing = story
        .promised
        .iter()
        .filter(|name| got.binary_search(name).is_err());
    for &name in missing {
        let at = story.observed[name];
        assert!(
            gaps.iter().any(|(from, to)| *from <= at && at <= *to),
            "seed {seed}: {name} at {at} is lost without a gap: {gaps:?}"
        );
    }
    gaps.len() as u64
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("WATCHFOLD_OUTAGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("WATCHFOLD_OUTAGE_SEEDS").unwrap_or(SEEDS) + 1,
    }
}

#[tokio::test(start_paused = true)]
async fn with_room_everything_arrives_once_and_in_order() {
    for seed in seeds() {
        let (accepted, story) = tell(seed, 64 * 1024 * 1024, 10).await;
        let gaps = check(seed, &accepted, &story);
        assert_eq!(gaps, 0, "seed {seed}: the spool had room");
    }
}

#[tokio::test(start_paused = true)]
async fn without_room_gaps_cover_what_is_missing() {
    let mut gaps = 0;
    for seed in seeds() {
        let (accepted, story) = tell(seed, 64 * 1024, 2_000).await;
        gaps += check(seed, &accepted, &story);
    }
    assert!(gaps > 0 || seeds().count() == 1, "no spool ever overflowed");
}
