//! Capture points that come and go, and rules that are switched off and on.

use watchfold_schemas::Body;
use watchfold_schemas::rules::Surroundings;

use super::*;

fn from(collector: &str, ms: i64, packets: &[Wire]) -> Observation {
    let batch = crate::packets::testing::batch(packets, 1);
    let body = Body::Batch(Box::new(batch));
    observation(collector, 1, 1, Time::from_millis(ms), body)
}

/// A store takes what changed.
fn follow(store: &mut BTreeMap<Vec<u8>, Vec<u8>>, chain: &mut PacketChain) {
    for (key, bytes) in chain.drain_dirty() {
        match bytes {
            Some(bytes) => drop(store.insert(key, bytes)),
            None => drop(store.remove(&key)),
        }
    }
}

#[test]
fn with_too_many_capture_points_the_oldest_is_over_and_forgotten() {
    let mut fed = Fed::under(&classic());
    fed.give(&from("capture-old", 5, &[Wire::at(5).to("192.0.2.1", 4_444)]));
    let is_of_old = |key: &[u8]| String::from_utf8_lossy(key).contains("capture-old");
    let mut store = BTreeMap::new();
    follow(&mut store, &mut fed.chain);
    assert!(store.keys().filter(|key| is_of_old(key)).count() > 4);
    for number in 1..CAPTURES_MAX {
        fed.give(&from(&format!("capture-{number}"), 6, &[]));
    }
    follow(&mut store, &mut fed.chain);
    fed.restart();
    assert_eq!(
        (fed.events.len(), fed.chain.counters().captures_forgotten),
        (2, 0)
    );
    fed.give(&from("capture-new", 7, &[Wire::at(7).to("192.0.2.1", 4_444)]));
    assert_eq!(
        short(&fed.events)[2..],
        [
            "5 ended suspicious_port 1",
            "7 alert suspicious_port 192.0.2.1 1",
            "7 began suspicious_port 192.0.2.1",
        ]
    );
    assert_eq!(fed.chain.counters().captures_forgotten, 1);
    follow(&mut store, &mut fed.chain);
    assert_eq!(store, fed.chain.entries().into_iter().collect());
    assert!(store.keys().all(|key| !is_of_old(key)));
    fed.restart();
}

#[test]
fn attempts_from_before_rules_on_connections_were_off_are_not_unanswered_later() {
    let mut fed = Fed::under(&varied());
    let attempts: Vec<_> = (1..=9)
        .map(|port| Wire::at(i64::from(port)).syn().to("10.0.0.2", port))
        .collect();
    fed.packets(&attempts);
    fed.give(&activation(&classic(), Surroundings::default()))
        .quiet(60_000);
    fed.give(&activation(&varied(), Surroundings::default()))
        .quiet(120_000);
    let told = short(&fed.events);
    assert!(told.iter().all(|told| !told.contains("closed_ports")), "{told:?}");
}
