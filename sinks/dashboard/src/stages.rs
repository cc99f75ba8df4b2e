//! How the stages of the pipeline advance, as it is shown.

use std::time::Duration;

use watchfold_kit::ProgressSnapshot;

use crate::projection::shapes::Stage;

/// A stage that has not advanced for longer is not well. Every stage that waits at the head of its stream says so at
/// least every few seconds.
pub const STAGE_AGE_MAX: Duration = Duration::from_secs(60);

/// A stage as it is shown.
pub fn stage_of(snapshot: ProgressSnapshot) -> Stage {
    let moves = snapshot.advanced_age.is_some_and(|age| age <= STAGE_AGE_MAX);
    Stage {
        name: snapshot.name,
        position: Some(snapshot.position),
        head: Some(snapshot.head),
        lag: Some(snapshot.head.saturating_sub(snapshot.position)),
        age_ms: snapshot
            .advanced_age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        ok: moves && snapshot.detail.is_none(),
        configured: snapshot.configured,
        detail: snapshot.detail,
        note: snapshot.note,
    }
}
