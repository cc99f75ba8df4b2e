//! An upgrade in the middle of an incident: nothing is orphaned, nobody is told twice.

use std::collections::BTreeSet;

use watchfold_folds::{LoadError, SiteChain, StateMachine};
use watchfold_schemas::Event;
use watchfold_schemas::event::{EventBody, Notice};
use watchfold_tests::story::{fold, observations, parse};

const STORY: &str = "target router\ntarget internet after router\npcs 2\nset remind_every 60\nrun 0..700\n\
                     down router 100..400\ndown PC-1 450..700\n";

/// Folds the story with an upgrade after `stop` records: the state of an older version is taken over.
fn fold_with_upgrade(stop: usize) -> Vec<Event> {
    let story = parse(STORY).unwrap();
    let input = observations(&story);
    let mut old = SiteChain::new("cafe-1");
    let mut events = Vec::new();
    for (index, observation) in input[..stop].iter().enumerate() {
        events.extend(old.apply(index as u64 + 1, observation));
    }
    let older: Vec<(String, u32)> = old
        .versions()
        .into_iter()
        .map(|(fold, version)| (fold, version - 1))
        .collect();
    let mut new = SiteChain::new("cafe-1");
    new.load(&older, old.entries()).unwrap();
    for (index, observation) in input.iter().enumerate().skip(stop) {
        events.extend(new.apply(index as u64 + 1, observation));
    }
    events
}

#[test]
fn an_upgrade_at_any_moment_of_an_incident_tells_nobody_twice() {
    let story = parse(STORY).unwrap();
    let input = observations(&story);
    let straight = fold("cafe-1", &input);
    for stop in (0..input.len()).step_by(37) {
        let upgraded = fold_with_upgrade(stop);
        assert_eq!(upgraded, straight, "upgraded after record {stop}");
    }
    let told: Vec<_> = straight.iter().filter(|event| opens(event)).collect();
    assert_eq!(told.len(), 1);
}

#[test]
fn a_state_that_cannot_be_taken_over_is_derived_again_with_the_same_identities() {
    let story = parse(STORY).unwrap();
    let input = observations(&story);
    let half = input.len() / 2;
    let before = fold("cafe-1", &input[..half]);
    let mut chain = SiteChain::new("cafe-1");
    let newer: Vec<(String, u32)> = chain
        .versions()
        .into_iter()
        .map(|(fold, version)| (fold, version + 1))
        .collect();
    assert!(matches!(
        chain.load(&newer, Vec::new()),
        Err(LoadError::Newer { .. })
    ));
    let entries = vec![(b"liveness/subject/router".to_vec(), b"\xc1garbage".to_vec())];
    assert!(matches!(
        chain.load(&chain.versions(), entries),
        Err(LoadError::Damaged(_))
    ));
    let again: Vec<Event> = input
        .iter()
        .enumerate()
        .flat_map(|(index, observation)| chain.apply(index as u64 + 1, observation))
        .collect();
    let ids = |events: &[Event]| {
        events
            .iter()
            .map(|event| event.id.clone())
            .collect::<BTreeSet<_>>()
    };
    assert!(
        ids(&before).is_subset(&ids(&again)),
        "what was published before has the same identities after"
    );
}

fn opens(event: &Event) -> bool {
    match &event.body {
        EventBody::NotificationRequested(request) => matches!(request.notice, Notice::IncidentOpened { .. }),
        _ => false,
    }
}
