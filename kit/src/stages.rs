//! The progress of every part of a process, for its status port, its watchdog, the page and whoever vouches for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::part::Kind;
use crate::{Progress, ProgressSnapshot};

/// A list that parts join and leave.
#[derive(Clone, Default)]
pub struct Stages(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    progress: Arc<Progress>,
    /// The kind of a part whose progress is vouched for outside.
    vouched: Option<Kind>,
}

impl Stages {
    /// A new stage, for as long as the process runs.
    pub fn add(&self, name: &str) -> Arc<Progress> {
        self.push_for(name, None)
    }

    /// A new stage that is vouched for outside, for as long as the process runs.
    pub fn add_vouched(&self, name: &str, kind: Kind) -> Arc<Progress> {
        self.push_for(name, Some(kind))
    }

    /// A new stage that is gone when the guard is.
    pub fn join(&self, name: &str, vouched: Option<Kind>) -> Stage {
        Stage {
            progress: self.push_for(name, vouched),
            stages: self.clone(),
        }
    }

    pub fn snapshots(&self) -> Vec<ProgressSnapshot> {
        let list = self.list();
        list.iter().map(|entry| entry.progress.snapshot()).collect()
    }

    /// The stages that are vouched for outside.
    pub fn vouched(&self) -> Vec<(Kind, ProgressSnapshot)> {
        let list = self.list();
        let vouched = list.iter().filter_map(|entry| Some((entry.vouched?, entry)));
        vouched
            .map(|(kind, entry)| (kind, entry.progress.snapshot()))
            .collect()
    }

    pub(crate) fn push_for(&self, name: &str, vouched: Option<Kind>) -> Arc<Progress> {
        let progress = Progress::new(name);
        self.list().push(Entry {
            progress: progress.clone(),
            vouched,
        });
        progress
    }

    fn list(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stage that may leave.
pub struct Stage {
    progress: Arc<Progress>,
    stages: Stages,
}

impl Stage {
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stages
            .list()
            .retain(|other| !Arc::ptr_eq(&other.progress, &self.progress));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_join_and_leave() {
        let stages = Stages::default();
        stages.add_vouched("a", Kind::Chain).advance(1, 2);
        let guest = stages.join("b", None);
        guest.progress().fail("why".to_owned());
        let names =
            |stages: &Stages| -> Vec<String> { stages.snapshots().into_iter().map(|one| one.name).collect() };
        assert_eq!(names(&stages), ["a", "b"]);
        assert_eq!(stages.vouched().len(), 1);
        drop(guest);
        assert_eq!(names(&stages), ["a"]);
    }
}
