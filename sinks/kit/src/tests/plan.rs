//! What is told as one, in what order, and what expires.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use watchfold_schemas::event::{IncidentClass, Notice, NotificationRequest, Severity};
use watchfold_schemas::{EventId, Time};

use super::{FAR, attack, closed, opened, reminder, request, sessions, snapshot, updated, with};
use crate::plan::{Job, PendingRequest, Turn, expired, incident_of};
use crate::rank::Kind;

fn pending(notices: &[Notice]) -> BTreeMap<u64, PendingRequest> {
    let entry = |(index, notice): (usize, &Notice)| {
        let sequence = index as u64 + 1;
        let request = request(notice.clone(), FAR);
        let id = EventId(format!("{sequence}"));
        (
            sequence,
            PendingRequest {
                sequence,
                id,
                request,
                attempts: 0,
                last_error: None,
            },
        )
    };
    notices.iter().enumerate().map(entry).collect()
}

fn lane(request: &NotificationRequest) -> Option<String> {
    Some(format!("{:?}", request.class))
}

fn plan(
    pending: &BTreeMap<u64, PendingRequest>,
    lane_of: impl Fn(&NotificationRequest) -> Option<String>,
    taken: &BTreeSet<String>,
    thread_of: impl Fn(&str) -> Option<String>,
) -> Vec<Job> {
    let turn = Turn {
        taken,
        by_age: &BTreeSet::new(),
        allowed: &|_, _| u32::MAX,
        is_full: false,
    };
    crate::plan::plan(pending, lane_of, &turn, thread_of)
}

/// The only job of a turn.
fn next(pending: &BTreeMap<u64, PendingRequest>, allowed: u32, by_age: bool, is_full: bool) -> Option<Job> {
    let by_age = by_age.then(|| "all".to_owned()).into_iter().collect();
    let turn = Turn {
        taken: &BTreeSet::new(),
        by_age: &by_age,
        allowed: &|_: &str, _: &Kind| allowed,
        is_full,
    };
    let mut jobs = crate::plan::plan(pending, |_| Some("all".to_owned()), &turn, |_| None);
    assert!(jobs.len() <= 1);
    jobs.pop()
}

/// Plans and settles until nothing is left: (sequence, merged sequences) of each job.
fn told(notices: &[Notice]) -> Vec<(u64, Vec<u64>)> {
    let mut waiting = pending(notices);
    let mut out = Vec::new();
    while !waiting.is_empty() {
        for job in plan(&waiting, lane, &BTreeSet::new(), |_| None) {
            for sequence in job.sequences() {
                assert!(waiting.remove(&sequence).is_some(), "{sequence} told twice");
            }
            out.push((
                job.sequence,
                job.merged.iter().map(|(sequence, _)| *sequence).collect(),
            ));
        }
    }
    out
}

fn check(notices: &[Notice], want: &[(u64, &[u64])]) {
    let want: Vec<(u64, Vec<u64>)> = want
        .iter()
        .map(|(sequence, merged)| (*sequence, merged.to_vec()))
        .collect();
    assert_eq!(told(notices), want);
}

#[test]
fn the_end_tells_the_whole_incident() {
    check(&[opened("a"), closed("a")], &[(2, &[1])]);
    check(
        &[opened("a"), updated("a", "kim"), reminder("a", 1), closed("a")],
        &[(4, &[1, 2, 3])],
    );
}

#[test]
fn a_newer_reminder_speaks_for_older_ones_and_for_the_opening() {
    check(&[reminder("a", 1), reminder("a", 2)], &[(2, &[1])]);
    check(&[opened("a"), reminder("a", 1)], &[(2, &[1])]);
    check(&[updated("a", "kim"), updated("a", "lee")], &[(2, &[1])]);
}

#[test]
fn an_opening_carries_what_is_known_since() {
    let jobs = plan(
        &pending(&[opened("a"), updated("a", "kim")]),
        lane,
        &BTreeSet::new(),
        |_| None,
    );
    assert_eq!((jobs[0].sequence, jobs[0].merged.len()), (1, 1));
    let Notice::IncidentOpened {
        incident,
        pcs_present,
    } = &jobs[0].notice
    else {
        panic!("{jobs:?}")
    };
    assert_eq!(
        (incident.acknowledged_by.as_deref(), *pcs_present),
        (Some("kim"), Some(17))
    );
}

#[test]
fn two_incidents_are_never_merged_even_under_one_key() {
    check(&[opened("a"), opened("b"), closed("a")], &[(2, &[]), (3, &[1])]);
    let mut waiting = pending(&[opened("a"), closed("b")]);
    for entry in waiting.values_mut() {
        entry.request.coalesce_key = "same".into();
    }
    let jobs = plan(&waiting, lane, &BTreeSet::new(), |_| None);
    assert_eq!((jobs[0].sequence, jobs[0].merged.len()), (1, 0));
}

#[test]
fn lists_of_sessions_stand_alone_and_a_newer_snapshot_replaces_an_older() {
    check(&[sessions(1), sessions(2)], &[(1, &[]), (2, &[])]);
    check(&[snapshot(1), snapshot(2)], &[(2, &[1])]);
}

#[test]
fn each_lane_has_its_own_next_job_and_taken_lanes_have_none() {
    let waiting = pending(&[opened("a"), sessions(1), opened("b")]);
    let sequences = |taken: &[&str]| -> Vec<u64> {
        let taken = taken.iter().map(|name| (*name).to_owned()).collect();
        plan(&waiting, lane, &taken, |_| None)
            .iter()
            .map(|job| job.sequence)
            .collect()
    };
    assert_eq!(sequences(&[]), [1, 2]);
    assert_eq!(sequences(&["Alerts"]), [2]);
    assert!(sequences(&["Alerts", "Occupancy"]).is_empty());
}

#[test]
fn a_request_expires_strictly_after_its_time_unless_it_is_under_way() {
    let mut waiting = pending(&[opened("a"), opened("b"), opened("c")]);
    for (sequence, seconds) in [(1, 10), (2, 11), (3, 9)] {
        waiting.get_mut(&sequence).unwrap().request.expires_at = Time::from_seconds(seconds);
    }
    assert_eq!(expired(&waiting, &BTreeSet::new(), Time::from_seconds(10)), [3]);
    assert_eq!(
        expired(&waiting, &BTreeSet::from([3]), Time::from_seconds(11)),
        [1]
    );
}

#[test]
fn outages_go_first_then_what_is_critical_then_faults_attacks_and_reports_each_by_age() {
    let critical = with(attack("e"), |incident| incident.severity = Severity::Critical);
    let fault = with(opened("c"), |incident| {
        incident.class = IncidentClass::CollectorSilent
    });
    let mut waiting = pending(&[
        sessions(1),
        attack("a"),
        attack("b"),
        fault,
        opened("d"),
        critical,
        closed("f"),
    ]);
    let mut order = Vec::new();
    while let Some(job) = next(&waiting, u32::MAX, false, false) {
        waiting.remove(&job.sequence);
        order.push(job.sequence);
    }
    assert_eq!(order, [5, 7, 6, 4, 2, 3, 1]);
}

#[test]
fn a_turn_by_age_takes_the_oldest_whatever_its_rank() {
    let waiting = pending(&[sessions(1), attack("a"), opened("b")]);
    let sequence = |by_age| next(&waiting, u32::MAX, by_age, false).map(|job| job.sequence);
    assert_eq!((sequence(true), sequence(false)), (Some(1), Some(3)));
}

#[test]
fn beyond_the_rate_the_last_message_of_a_kind_is_a_digest_and_then_none_is_sent() {
    let other = with(attack("d"), |incident| {
        incident.flood.as_mut().unwrap().category = "syn_flood".into();
    });
    let update = with(updated("e", "kim"), |incident| {
        incident.class = IncidentClass::Attack
    });
    let waiting = pending(&[attack("a"), attack("b"), update, attack("c"), other]);
    let alone = next(&waiting, 2, false, false).unwrap();
    assert_eq!((alone.sequence, alone.digest.len()), (1, 0));
    let digest = next(&waiting, 1, false, false).unwrap();
    assert_eq!(
        digest.sequences().collect::<Vec<_>>(),
        [1, 2, 4],
        "one category alone"
    );
    let about: Vec<_> = digest.digest.iter().map(incident_of).collect();
    assert_eq!(about, [Some("a"), Some("b"), Some("c")]);
    let update = next(&waiting, 0, false, false).unwrap();
    assert_eq!(update.sequence, 3, "an update makes no sound, and has no rate");
    let at_once = next(&waiting, 0, false, true).unwrap();
    assert_eq!(at_once.digest.len(), 3, "a full ledger waits for no rate");
    let one = pending(&[attack("a")]);
    assert_eq!(next(&one, 1, false, false).unwrap().digest.len(), 0);
    assert!(next(&one, 0, false, true).is_none());
}

fn any_notice() -> impl Strategy<Value = Notice> {
    let incident = prop_oneof![Just("a"), Just("b"), Just("c")];
    (incident, 0..6_u32).prop_map(|(incident, kind)| match kind {
        0 => opened(incident),
        1 => updated(incident, "kim"),
        2 => reminder(incident, 1),
        3 => closed(incident),
        4 => sessions(1),
        _ => snapshot(1),
    })
}

proptest! {
    /// Whatever waits and whatever is allowed, every request is settled exactly once, in digests too.
    #[test]
    fn digests_settle_everything_once(
        notices in prop::collection::vec(any_notice(), 0..40), turns in prop::collection::vec((0u32..3, any::<bool>(), any::<bool>()), 200),
    ) {
        let mut waiting = pending(&notices);
        for (allowed, by_age, is_full) in turns.into_iter().chain([(1, false, false); 40]) {
            let Some(job) = next(&waiting, allowed, by_age, is_full) else { continue };
            for sequence in job.sequences() {
                prop_assert!(waiting.remove(&sequence).is_some(), "{} is sent twice", sequence);
            }
        }
        prop_assert!(waiting.is_empty());
    }

    /// Whatever waits, every request is settled exactly once, and only with others of its own incident.
    #[test]
    fn everything_is_settled_once_and_incidents_stay_apart(notices in prop::collection::vec(any_notice(), 0..40)) {
        let settled = told(&notices);
        let mut sequences: Vec<u64> =
            settled.iter().flat_map(|(leader, merged)| merged.iter().chain([leader])).copied().collect();
        sequences.sort_unstable();
        prop_assert_eq!(sequences, (1..=notices.len() as u64).collect::<Vec<_>>());
        for (leader, merged) in settled {
            let incident = |sequence: u64| incident_of(&notices[sequence as usize - 1]);
            prop_assert!(merged.iter().all(|other| incident(*other) == incident(leader)));
        }
    }
}
