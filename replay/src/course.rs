//! One chain of a site as a replay runs it: what was read of its stream, how it began, and what is not known whole yet.

use watchfold_folds::{PacketChain, SiteChain, StateMachine};
use watchfold_schemas::snapshot::{CollectorPosition, FoldVersion, StateEntry};
use watchfold_schemas::{Chain, Span, Time};

use crate::intake::{Intake, Taken};
use crate::recording::{BeginningState, SiteSnapshot, StoredRecord};

/// What follows from a state that is not known whole is told apart for this long: longer than any default of a
/// configuration makes a state last unconfirmed.
pub const WARM_UP: Span = Span::from_seconds(60 * 60);

/// Records between two times that a chain is told that nothing of it will be stored. It notes by name what changed, and
/// the names of all that ever was would add up.
const SETTLE_EVERY_RECORDS: u64 = 16_384;

/// A chain whose state at the beginning could not be known whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    pub site: String,
    pub chain: Chain,
    pub reason: String,
    /// In the time of what was observed.
    pub until: Option<Time>,
}

/// A chain that a replay can begin.
pub(crate) trait Judging: StateMachine {
    const CHAIN: Chain;
    fn begin(site: &str) -> Self;
}

impl Judging for SiteChain {
    const CHAIN: Chain = Chain::Site;
    fn begin(site: &str) -> SiteChain {
        SiteChain::new(site)
    }
}

impl Judging for PacketChain {
    const CHAIN: Chain = Chain::Packets;
    fn begin(site: &str) -> PacketChain {
        PacketChain::new(site)
    }
}

/// A chain and how far it was read.
pub(crate) struct Course<C> {
    pub(crate) chain: C,
    pub(crate) intake: Intake,
    /// The last record dealt with.
    pub(crate) sequence: u64,
    pub(crate) began: BeginningState,
    pub(crate) warm_up: Option<WarmUp>,
    /// Whether what was given in place of what was recorded is in force.
    pub(crate) is_given: bool,
    unsettled_records: u64,
}

impl<C: Judging> Course<C> {
    pub(crate) fn new(site: &str, began: BeginningState, cut: Option<String>) -> Course<C> {
        Course {
            chain: C::begin(site),
            intake: Intake::new(site, Vec::new()),
            sequence: 0,
            began,
            warm_up: cut.map(|reason| WarmUp::new(site, C::CHAIN, reason)),
            is_given: false,
            unsettled_records: 0,
        }
    }

    /// Begins with what a snapshot holds; where it cannot be taken over, at nothing, with a warm-up.
    pub(crate) fn of_snapshot(snapshot: &SiteSnapshot) -> Course<C> {
        let mut course: Course<C> = Course::new(&snapshot.site, BeginningState::Snapshot, None);
        let versions: Vec<_> = snapshot
            .versions
            .iter()
            .map(|entry| (entry.fold.clone(), entry.version))
            .collect();
        let entries = snapshot
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect();
        course.intake = Intake::new(&snapshot.site, snapshot.collectors.clone());
        course.sequence = snapshot.sequence;
        if let Err(error) = course.chain.load(&versions, entries) {
            course.warm_up = Some(WarmUp::new(
                &snapshot.site,
                C::CHAIN,
                format!("its snapshot cannot be taken over: {error}"),
            ));
        }
        course
    }

    pub(crate) fn snapshot(&self, site: &str) -> SiteSnapshot {
        let versions = self.chain.versions().into_iter();
        let entries = self.chain.entries().into_iter();
        SiteSnapshot {
            site: site.to_owned(),
            chain: C::CHAIN,
            sequence: self.sequence,
            versions: versions
                .map(|(fold, version)| FoldVersion { fold, version })
                .collect(),
            entries: entries.map(|(key, value)| StateEntry { key, value }).collect(),
            collectors: self.intake.positions(),
        }
    }

    /// A record of its stream; `None` for one that is in the snapshot already.
    pub(crate) fn admit(&mut self, record: &StoredRecord) -> Option<Taken> {
        let sequence = record.sequence;
        if sequence <= self.sequence {
            return None;
        }
        self.sequence = sequence;
        self.settle_now_and_then();
        Some(self.intake.take(record))
    }

    pub(crate) fn stands_at(&self, collectors: &[CollectorPosition]) -> bool {
        self.intake.stands_at(collectors)
    }

    pub(crate) fn is_warming_up(&mut self, observed_at: Time) -> bool {
        let Some(warm_up) = &mut self.warm_up else {
            return false;
        };
        observed_at < *warm_up.until.get_or_insert(observed_at + WARM_UP)
    }

    pub(crate) fn settle_now_and_then(&mut self) {
        self.unsettled_records += 1;
        if self.unsettled_records >= SETTLE_EVERY_RECORDS {
            self.unsettled_records = 0;
            drop(self.chain.drain_dirty());
        }
    }
}

impl WarmUp {
    fn new(site: &str, chain: Chain, reason: String) -> WarmUp {
        WarmUp {
            site: site.to_owned(),
            chain,
            reason,
            until: None,
        }
    }
}
