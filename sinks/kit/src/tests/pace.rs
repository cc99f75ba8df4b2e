//! Floods of requests: what matters goes first, the rest becomes few messages, and every request gets one receipt.

use std::collections::BTreeSet;

use super::delivery::World;
use super::{attack, attack_over, opened, until};
use crate::ledger::PENDING_MAX;
use crate::rank::{BY_AGE_EVERY, KIND_BURST_MAX, KIND_EVERY_MS};

const FLOOD: usize = 400;

async fn ask_flood(world: &mut World, count: usize) {
    for number in 0..count {
        world.ask(attack(&format!("scan-{number}"))).await;
    }
}

fn assert_each_is_receipted_once(world: &World) {
    let receipted = world.receipted();
    let different: BTreeSet<_> = receipted.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(receipted.len(), different.len());
}

#[tokio::test]
async fn a_flood_is_a_burst_and_a_digest_and_an_outage_goes_before_it() {
    let mut world = World::new();
    ask_flood(&mut world, FLOOD).await;
    world.ask(opened("srv")).await;
    world.run_until_settled().await;
    let told = world.far.told();
    assert_eq!(told[0], "opened srv");
    assert_eq!(told.len() as u32, 1 + KIND_BURST_MAX, "{told:?}");
    let digest = told.last().unwrap();
    assert_eq!(
        *digest,
        format!("digest of {}", FLOOD as u32 + 1 - KIND_BURST_MAX)
    );
    assert_each_is_receipted_once(&world);
}

#[tokio::test]
async fn an_outage_that_comes_during_a_flood_beyond_every_limit_is_sent_within_a_few_messages() {
    let mut world = World::new();
    ask_flood(&mut world, 3 * PENDING_MAX).await;
    world.ask(opened("srv")).await;
    world.run_until_settled().await;
    let told = world.far.told();
    let place = told.iter().position(|told| told == "opened srv").unwrap();
    assert!(place <= 4, "{told:?}");
    assert_each_is_receipted_once(&world);
}

#[tokio::test]
async fn a_restart_in_a_flood_loses_nothing_and_repeats_nothing() {
    let mut world = World::new();
    ask_flood(&mut world, FLOOD).await;
    let running = world.start().await;
    until("some are settled", || !world.receipted().is_empty()).await;
    running.stop().await;
    for number in 0..FLOOD {
        world.ask(attack_over(&format!("scan-{number}"))).await;
    }
    world.run_until_settled().await;
    assert_each_is_receipted_once(&world);
    let mut alone = world.far.told();
    alone.retain(|told| !told.starts_with("digest"));
    let different: BTreeSet<&String> = alone.iter().collect();
    assert_eq!(alone.len(), different.len(), "{alone:?}");
}

#[tokio::test]
async fn the_first_message_of_an_incident_whose_end_is_in_a_digest_is_edited() {
    let mut world = World::new();
    world.ask(attack("scan-0")).await;
    world.run_until_settled().await;
    for number in (1..KIND_BURST_MAX + 3).chain([0]) {
        world.ask(attack_over(&format!("scan-{number}"))).await;
    }
    world.run_until_settled().await;
    let told = world.far.told();
    assert!(told.last().unwrap().starts_with("digest"), "{told:?}");
    let edits = world.far.edits.lock().unwrap();
    assert_eq!(edits.len(), 1, "scan-0 alone has a message of its own");
}

#[test]
fn a_rate_allows_a_burst_and_then_one_message_in_a_time() {
    use std::time::Duration;
    let mut rates = crate::rank::Rates::default();
    let kind = crate::rank::kind(&attack("a")).unwrap();
    let start = tokio::time::Instant::now();
    let after = |times: u64| start + Duration::from_millis(times * KIND_EVERY_MS);
    for sent in 0..KIND_BURST_MAX {
        assert_eq!(rates.allowed(&kind, start), KIND_BURST_MAX - sent);
        rates.sent(Some(&kind), start);
    }
    assert_eq!(rates.allowed(&kind, start), 0);
    assert_eq!(rates.allowed(&kind, after(1)), 1);
    assert_eq!(rates.allowed(&kind, after(3)), 3);
    assert_eq!(rates.allowed(&kind, after(99)), KIND_BURST_MAX);
}

#[test]
fn one_message_of_a_few_goes_by_age() {
    let mut rates = crate::rank::Rates::default();
    let turns: Vec<bool> = (0..2 * BY_AGE_EVERY)
        .map(|_| {
            let is_by_age = rates.is_by_age();
            rates.sent(None, tokio::time::Instant::now());
            is_by_age
        })
        .collect();
    assert_eq!(turns, [false, false, false, true, false, false, false, true]);
}
