//! What is told as one, in what order, and what expires.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use watchfold_schemas::event::{Notice, NotificationRequest};
use watchfold_schemas::{EventId, Time};

use super::{FAR, closed, opened, reminder, request, sessions, snapshot, updated};
use crate::plan::{PendingRequest, expired, incident_of, plan};

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
