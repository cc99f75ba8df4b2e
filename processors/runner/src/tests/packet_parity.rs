//! What followed a snapshot of the packet chain, folded again: it agrees through restarts and with packets that are only
//! partly kept, and a difference in an event or in the state is named.

use std::sync::Arc;
use std::time::Duration;

use watchfold_folds::StateMachine;
use watchfold_log::MessageLog;
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::observation::{Parity, ParityDifference, ParityVerdict};
use watchfold_schemas::{Body, Chain, Event, EventBody, Observation, Stream};

use super::crash::crash_once;
use super::parity::{checked, planted_in};
use super::traffic::traffic;
use super::world::{CountingFold, Rng, SITE, World, inputs_in};
use crate::{
    Checked, CrashHook, CrashPoint, PacketChain, ParityCheck, ParityOptions, RunnerError, Spans, StatsHandle,
};

/// Two cycles of attacks; at half a MB of batches some seven snapshots.
const SECONDS: u64 = 1_800;

/// Checks that have met each snapshot.
const CHECKS: u64 = 24;

/// Bytes of packets between two snapshots, in place of 256 MiB.
const SNAPSHOT_EVERY_BYTES: u64 = 100_000;

fn world() -> World {
    let mut world = World::of(Chain::Packets, MemoryLog::new());
    world.options.snapshot_distance = Duration::ZERO;
    world.options.stream_bytes_max = 8 * SNAPSHOT_EVERY_BYTES;
    world
}

fn sound() -> PacketChain {
    PacketChain::new(SITE)
}

/// Runs the chain until it stands still; its figures stay as they were then.
async fn live(world: &World, fold: impl StateMachine) -> StatsHandle {
    let runner = world.open(fold).await;
    let stats = runner.stats();
    world.settle_runner(runner).await.unwrap();
    stats
}

async fn lived(fold: impl StateMachine) -> (World, StatsHandle) {
    let world = world();
    world.feed(&traffic(SECONDS, 5)).await;
    let stats = live(&world, fold).await;
    (world, stats)
}

fn check_of(world: &World, stats: &StatsHandle) -> ParityCheck {
    ParityCheck {
        log: world.log.clone(),
        site: SITE.to_owned(),
        spans: Spans::Snapshots(stats.clone()),
        fold: |site| Box::new(PacketChain::new(site)),
        options: ParityOptions {
            records_per_second: u32::MAX,
            work_parts: 1,
            ..ParityOptions::for_chain(Chain::Packets)
        },
    }
}

/// What checks one after the other find.
async fn found(check: &ParityCheck) -> Vec<Parity> {
    let mut found = Vec::new();
    for number in 0..CHECKS {
        found.push(checked(check, number).await);
    }
    found
}

fn agree(found: &[Parity], context: &str) {
    for parity in found {
        assert_eq!(parity.verdict, ParityVerdict::Agreed, "{context}: {parity:?}");
        assert!(parity.from <= parity.to, "{context}: {parity:?}");
    }
}

/// The difference that a check finds, with the record that it names held against the log.
async fn difference(world: &World, check: &ParityCheck) -> (Parity, ParityDifference) {
    for parity in found(check).await {
        if let ParityVerdict::Differed(difference) = &parity.verdict {
            let record = world.log.get(Stream::Packets, difference.input).await.unwrap();
            assert_eq!(record.unwrap().id.0, difference.message, "the record is named");
            let of_stretch = parity.from..=parity.to;
            assert!(of_stretch.contains(&difference.input), "{parity:?}");
            return (parity.clone(), difference.clone());
        }
    }
    panic!("no check noticed it");
}

#[tokio::test(start_paused = true)]
async fn packets_with_attacks_agree_with_what_is_folded_again() {
    let (world, stats) = lived(sound()).await;
    let kinds: std::collections::BTreeSet<String> = world
        .published()
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::AttackBegan(attack) => Some(attack.category.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["neighbour_changed", "port_scan", "syn_flood"]
    );
    let found = found(&check_of(&world, &stats)).await;
    agree(&found, "in one go");
    let begins: std::collections::BTreeSet<u64> = found.iter().map(|parity| parity.from).collect();
    assert!(begins.len() > 3, "they spread over what is kept: {begins:?}");
    let ends_at_next = |parity: &&Parity| begins.contains(&(parity.to + 1));
    assert!(
        found.iter().filter(ends_at_next).count() > 3,
        "states are compared: {found:?}"
    );
    let events: std::collections::BTreeMap<u64, u64> =
        found.iter().map(|parity| (parity.from, parity.events)).collect();
    assert!(events.values().sum::<u64>() > 5, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn restarts_and_crashes_in_the_middle_change_nothing() {
    for seed in 0..3 {
        let mut world = world();
        let mut rng = Rng::new(seed);
        let messages = traffic(SECONDS, seed);
        for chunk in messages.chunks(messages.len().div_ceil(7)) {
            world.feed(chunk).await;
            let step = CrashPoint::ALL[rng.below(6) as usize];
            world.options.crash = crash_once(step, 1 + rng.below(4), || ());
            match world.settle_runner(world.open(sound()).await).await {
                Ok(_) => {}
                Err(RunnerError::Crashed(_)) => world.store.crash(),
                Err(error) => panic!("{error}"),
            }
        }
        world.options.crash = CrashHook::default();
        let stats = live(&world, sound()).await;
        agree(&found(&check_of(&world, &stats)).await, &format!("seed {seed}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_another_one_is_named_with_its_record() {
    let mut alerts = 0;
    let fold = planted_in(sound(), move |fold, sequence, observation| {
        let mut events = fold.apply(sequence, observation);
        for event in &mut events {
            if let EventBody::AlertRaised(alert) = &mut event.body {
                alerts += 1;
                alert.measured.observed += u64::from(alerts % 3 == 0);
            }
        }
        events
    });
    let (world, stats) = lived(fold).await;
    let (_, difference) = difference(&world, &check_of(&world, &stats)).await;
    for side in [&difference.recorded, &difference.derived] {
        let side = side.as_ref().unwrap();
        assert!(side.starts_with("alert_raised"), "{difference:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_missing_or_too_much_is_named() {
    let drops = |fold: &mut PacketChain, sequence: u64, observation: &Observation| -> Vec<Event> {
        let mut events = fold.apply(sequence, observation);
        events.retain(|event| !matches!(event.body, EventBody::AttackEnded(_)));
        events
    };
    let (world, stats) = lived(planted_in(sound(), drops)).await;
    let (_, missing) = difference(&world, &check_of(&world, &stats)).await;
    assert_eq!(missing.recorded, None, "{missing:?}");

    let (world, stats) = lived(sound()).await;
    let mut check = check_of(&world, &stats);
    check.fold = |_| {
        Box::new(planted_in(sound(), |fold, sequence, observation| {
            let mut events = fold.apply(sequence, observation);
            events.retain(|event| !matches!(event.body, EventBody::AttackEnded(_)));
            events
        }))
    };
    let (_, too_much) = difference(&world, &check).await;
    assert_eq!(too_much.derived, None, "{too_much:?}");
}

/// A batch counted twice, in a second without an attack: no event tells it.
#[tokio::test(start_paused = true)]
async fn what_shows_only_in_the_state_is_named() {
    let fold = planted_in(sound(), |fold, sequence, observation| {
        let events = fold.apply(sequence, observation);
        let is_batch = matches!(observation.body, Body::Batch(_));
        if is_batch && observation.origin.number % 50 == 20 {
            drop(fold.apply(sequence, observation));
        }
        events
    });
    let (world, stats) = lived(fold).await;
    let (parity, difference) = difference(&world, &check_of(&world, &stats)).await;
    let recorded = difference.recorded.unwrap();
    assert_eq!(difference.input, parity.to);
    assert!(recorded.starts_with("the state packets/"), "{recorded}");
}

#[tokio::test(start_paused = true)]
async fn retention_that_takes_packets_meanwhile_accuses_nobody() {
    let (world, stats) = lived(sound()).await;
    let mut check = check_of(&world, &stats);
    let whole = checked(&check, 0).await;
    // A record a second, so that there is time to lose some.
    check.options.records_per_second = 1;
    let taking = async {
        tokio::time::sleep(Duration::from_secs((whole.to - whole.from) / 2)).await;
        world.log.truncate_front(Stream::Packets, whole.to as usize);
    };
    let (cut, ()) = tokio::join!(checked(&check, 0), taking);
    assert_eq!(cut.verdict, ParityVerdict::Agreed, "{cut:?}");
    assert_eq!(cut.from, whole.from);
    assert!(cut.from < cut.to && cut.to < whole.to, "{cut:?} of {whole:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_kept_agrees_or_says_why_not() {
    let (world, stats) = lived(sound()).await;
    let check = check_of(&world, &stats);
    let last = world.log.info(Stream::Packets).await.unwrap().last_sequence;
    let mut reasons = std::collections::BTreeSet::new();
    for _ in 0..40 {
        for number in 0..3 {
            let parity = checked(&check, number).await;
            match parity.verdict {
                ParityVerdict::Agreed => {}
                ParityVerdict::NotCompared { reason } => {
                    reasons.insert(reason);
                }
                ParityVerdict::Differed(_) => panic!("{parity:?}"),
            }
        }
        world.log.truncate_front(Stream::Packets, last as usize / 40);
    }
    let kept_no_longer = "what follows its newest snapshot is no longer kept".to_owned();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [kept_no_longer]);
}

#[tokio::test(start_paused = true)]
async fn limits_end_a_stretch_early() {
    let (world, stats) = lived(sound()).await;
    let whole = checked(&check_of(&world, &stats), 0).await;
    let limits: [fn(&mut ParityOptions); 3] = [
        |options| options.bytes_max = 50_000,
        |options| options.records_max = 40,
        |options| options.events_bytes_max = 2_000,
    ];
    for (number, limit) in limits.into_iter().enumerate() {
        let mut check = check_of(&world, &stats);
        limit(&mut check.options);
        let mut shorter = 0;
        for parity in found(&check).await {
            match parity.verdict {
                ParityVerdict::Agreed => {
                    shorter += u64::from(parity.from == whole.from && parity.to < whole.to)
                }
                ParityVerdict::NotCompared { reason } => {
                    assert!(reason.contains("more than 2000 bytes"), "{reason}");
                }
                ParityVerdict::Differed(_) => panic!("limit {number}: {parity:?}"),
            }
        }
        assert!(shorter > 0 || number == 2, "limit {number} was not met");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_or_behind_one_nothing_is_checked() {
    let mut world = world();
    world.options.stream_bytes_max = u64::MAX;
    world.feed(&traffic(100, 1)).await;
    let stats = live(&world, sound()).await;
    let nothing =
        async |world: &World, stats: &StatsHandle| match check_of(world, stats).check(0).await.unwrap() {
            Checked::Nothing(reason) => reason,
            Checked::Found(parity) => panic!("{parity:?}"),
        };
    assert_eq!(
        nothing(&world, &stats).await,
        "no snapshot is recorded yet, or one is being written"
    );
    let (world, stats) = lived(sound()).await;
    stats.0.settled.set(1);
    assert_eq!(
        nothing(&world, &stats).await,
        "the chain is not beyond its newest snapshot"
    );
}

/// It is known by the store since when a version folds, through restarts.
#[tokio::test(start_paused = true)]
async fn what_another_version_derived_is_not_compared() {
    let (world, stats) = lived(sound()).await;
    let last = world.log.info(Stream::Packets).await.unwrap().last_sequence;
    stats.0.foreign.set(last);
    let parity = checked(&check_of(&world, &stats), 0).await;
    let ParityVerdict::NotCompared { reason } = parity.verdict else {
        panic!("{parity:?}");
    };
    assert_eq!(reason, "another version derived what follows its newest snapshot");

    let mut world = World::of(Chain::Packets, Arc::clone(&MemoryLog::new()));
    world.options.checkpoint = None;
    let messages = inputs_in(Stream::Packets, 300, 3);
    let mut foreign = Vec::new();
    for (chunk, version) in messages.chunks(100).zip([1, 2, 2]) {
        world.feed(chunk).await;
        let mut fold = CountingFold::of(Chain::Packets);
        fold.version = version;
        foreign.push(live(&world, fold).await.snapshot().foreign);
    }
    assert_eq!(foreign, [0, 100, 100]);
    // Where the store is gone, nobody knows who published what is there.
    world.store = crate::MemoryStore::new();
    let mut fold = CountingFold::of(Chain::Packets);
    fold.version = 2;
    let stats = live(&world, fold).await.snapshot();
    assert!(stats.foreign > 250, "{stats:?}");
}

/// Prints what it costs: one part of twenty of a core while it works, whatever the machine.
#[test]
fn what_a_check_costs() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut world, messages) = (world(), traffic(SECONDS, 5));
        // One snapshot early on, and then none any more.
        let (first, rest) = messages.split_at(150);
        world.feed(first).await;
        live(&world, sound()).await;
        world.options.stream_bytes_max = u64::MAX;
        world.feed(rest).await;
        let stats = live(&world, sound()).await;
        let mut check = check_of(&world, &stats);
        check.options.work_parts = ParityOptions::for_chain(Chain::Packets).work_parts;
        let (began, worked) = (tokio::time::Instant::now(), on_cpu_ms());
        let parity = checked(&check, 1).await;
        let (took_ms, worked_ms) = (began.elapsed().as_millis(), on_cpu_ms() - worked);
        let records = parity.to - parity.from + 1;
        println!("{records} records: {worked_ms} ms on the processor in {took_ms} ms");
        assert_eq!(parity.verdict, ParityVerdict::Agreed, "{parity:?}");
        assert!(records > 1_000, "{parity:?}");
    });
}

/// What this thread has had of the processor.
fn on_cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}
