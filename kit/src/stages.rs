//! The progress of every part of a process, for its status port, its watchdog and whoever vouches for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Progress, ProgressSnapshot};

/// A list that parts join and leave.
#[derive(Clone, Default)]
pub struct Stages(Arc<Mutex<Vec<Arc<Progress>>>>);

impl Stages {
    /// A new part, for as long as the process runs.
    pub fn add(&self, name: &str) -> Arc<Progress> {
        let progress = Progress::new(name);
        self.list().push(progress.clone());
        progress
    }

    /// A new part that is gone when the guard is.
    pub fn join(&self, name: &str) -> Stage {
        Stage {
            progress: self.add(name),
            stages: self.clone(),
        }
    }

    pub fn snapshots(&self) -> Vec<ProgressSnapshot> {
        self.list().iter().map(|progress| progress.snapshot()).collect()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Progress>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that may leave.
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
            .retain(|other| !Arc::ptr_eq(other, &self.progress));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_and_leave() {
        let stages = Stages::default();
        stages.add("a").advance(1, 2);
        let guest = stages.join("b");
        guest.progress().fail("why".to_owned());
        let names =
            |stages: &Stages| -> Vec<String> { stages.snapshots().into_iter().map(|one| one.name).collect() };
        assert_eq!(names(&stages), ["a", "b"]);
        drop(guest);
        assert_eq!(names(&stages), ["a"]);
    }
}
