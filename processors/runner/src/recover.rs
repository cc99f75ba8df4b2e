//! Where a chain starts: from its store, from a snapshot, or from the first record.
//!
//! The rule is one for stores and snapshots: the position agrees with the log, no event that it takes for published
//! is missing from the log of events, and the folds take its entries over.

use watchfold_folds::{StateMachine, software};
use watchfold_log::{LogError, MessageLog, Position, StreamInfo, agrees};
use watchfold_schemas::event::Place;
use watchfold_schemas::snapshot::{CollectorPosition, StoredEvent};
use watchfold_schemas::{Chain, Stream};

use crate::error::RunnerError;
use crate::layout::{self, Content, Derived, Opened, SnapshotClock};
use crate::memory_store::MemoryStore;
use crate::published::{Input, Published, last_published};
use crate::snapshot::{Candidate, candidates};
use crate::store::StateStore;

/// What the folds were brought to.
pub(crate) struct Recovered {
    /// Folding goes on after it.
    pub(crate) position: Position,
    /// What was folded in an earlier life: what comes of it is in the log or in the outbox.
    pub(crate) committed: Option<Position>,
    /// What is in the log: a refold is silent about it.
    pub(crate) published: Published,
    pub(crate) outbox: Vec<StoredEvent>,
    pub(crate) collectors: Vec<CollectorPosition>,
    pub(crate) snapshot: SnapshotClock,
    pub(crate) derived: Derived,
    /// What the store held before, or nothing where it has to be written anew.
    pub(crate) facts: Option<layout::Facts>,
    /// Why the store was set aside.
    pub(crate) set_aside: Option<String>,
    /// The store's directory cannot be used.
    pub(crate) in_memory: bool,
}

/// The chain to be recovered.
pub(crate) struct Subject<'a> {
    pub(crate) log: &'a dyn MessageLog,
    pub(crate) stream: Stream,
    pub(crate) site: &'a str,
    pub(crate) chain: Chain,
}

/// What of the chain is in the log of events.
struct Known {
    published: Published,
    /// As what published it, as far as states tell.
    same_software: bool,
    /// The first record of the input that is kept.
    first_input: u64,
}

impl Known {
    /// What a refold after `position` is silent about. Only one that derives the same events goes by their ids.
    fn silent(&self, position: u64) -> Published {
        let published = self.published.clone();
        if self.same_software && self.first_input <= position + 1 {
            published
        } else {
            published.by_place_alone()
        }
    }

    /// Who published what came after `position` is not known here.
    fn derived(&self, fold: &dyn StateMachine, position: u64) -> Derived {
        let published = self.published.until.map_or(0, |mark| mark.input);
        Derived {
            software: software(fold.versions()),
            foreign: position.max(published),
        }
    }
}

/// What a state was brought from, for the rule above.
struct Claim {
    sequence: u64,
    published: Option<Place>,
}

pub(crate) async fn recover(
    subject: &Subject<'_>,
    store: &mut Box<dyn StateStore>,
    fold: &mut dyn StateMachine,
) -> Result<Recovered, RunnerError> {
    let (log, stream) = (subject.log, subject.stream);
    let input = log.info(stream).await?;
    let events = log.info(Stream::Events).await?;
    let (mut content, mut problem) = match layout::open(store.as_ref(), subject.site, subject.chain) {
        Ok(Opened::Empty) => (None, None),
        Ok(Opened::Usable(content)) => (Some(content), None),
        Ok(Opened::Broken(reason)) => (None, Some(reason)),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut disagreed = false;
    if let Some(found) = &content
        && !agrees(log, stream, &found.facts.position).await?
    {
        disagreed = true;
        problem = Some(disagreement(&found.facts.position, &input));
        content = None;
    }
    let snapshots = match content {
        Some(_) => Vec::new(),
        None => candidates(log, subject.site, subject.chain).await?,
    };
    let evidence = evidence(subject, content.as_deref(), &snapshots, disagreed, &input).await?;
    let published = last_published(log, subject.site, subject.chain, &evidence, &events).await?;
    let mark = published.until;
    let versions = match (&content, snapshots.first()) {
        (Some(content), _) => Some(content.facts.versions.clone()),
        (None, newest) => newest.map(Candidate::versions),
    };
    let same_software = versions.is_none_or(|versions| versions == fold.versions());
    let known = Known {
        published,
        same_software,
        first_input: input.first_sequence,
    };

    if let Some(mut found) = content {
        let claim = Claim {
            sequence: found.facts.position.sequence,
            published: found.facts.published,
        };
        let refused = match claim.lost_events(mark, &events) {
            Some(reason) => Some(reason),
            None => fold
                .load(&found.facts.versions, std::mem::take(&mut found.entries))
                .err()
                .map(|error| error.to_string()),
        };
        match refused {
            None => return Ok(from_store(*found, fold, &known)),
            Some(reason) => problem = Some(reason),
        }
    }
    let in_memory = problem.is_some() && set_aside(store);
    let snapshots = if snapshots.is_empty() {
        candidates(log, subject.site, subject.chain).await?
    } else {
        snapshots
    };
    let mut recovered = rebuild(subject, fold, &known, &input, &events, snapshots).await?;
    recovered.set_aside = problem;
    recovered.in_memory = in_memory;
    Ok(recovered)
}

async fn evidence<'a>(
    subject: &Subject<'_>,
    content: Option<&Content>,
    snapshots: &[Candidate],
    disagreed: bool,
    info: &'a StreamInfo,
) -> Result<Input<'a>, LogError> {
    let mut evidence = Input {
        stream: subject.stream,
        info,
        proven: 0,
        suspicious: disagreed,
    };
    if let Some(content) = content {
        evidence.proven = content.facts.position.sequence;
    }
    for snapshot in snapshots {
        if agrees(subject.log, subject.stream, &snapshot.position()).await? {
            evidence.proven = snapshot.position().sequence;
            break;
        }
        evidence.suspicious = true;
    }
    Ok(evidence)
}

fn from_store(content: Content, fold: &dyn StateMachine, known: &Known) -> Recovered {
    let Content {
        facts,
        outbox,
        collectors,
        ..
    } = content;
    let versions = fold.versions();
    let same_software = facts.versions == versions;
    let software = software(versions);
    let position = facts.entries_at().clone();
    Recovered {
        published: known.silent(position.sequence).or_claimed(facts.published),
        position,
        committed: Some(facts.position.clone()),
        outbox: unpublished(outbox, &known.published),
        collectors,
        snapshot: facts.snapshot,
        derived: Derived {
            foreign: match &facts.derived {
                Some(derived) if derived.software == software => derived.foreign,
                _ => facts.position.sequence,
            },
            software,
        },
        // Entries that were migrated are written anew.
        facts: same_software.then_some(facts),
        set_aside: None,
        in_memory: false,
    }
}

async fn rebuild(
    subject: &Subject<'_>,
    fold: &mut dyn StateMachine,
    known: &Known,
    input: &StreamInfo,
    events: &StreamInfo,
    snapshots: Vec<Candidate>,
) -> Result<Recovered, RunnerError> {
    for snapshot in snapshots {
        match from_snapshot(subject, fold, known, events, &snapshot).await? {
            Ok(recovered) => return Ok(recovered),
            Err(reason) => {
                let sequence = snapshot.manifest.position.sequence;
                tracing::warn!(site = subject.site, sequence, reason, "passed over a snapshot");
            }
        }
    }
    fold.reset();
    Ok(Recovered {
        position: Position {
            log_id: input.log_id.clone(),
            sequence: 0,
            id: String::new(),
        },
        committed: None,
        published: known.silent(0),
        outbox: Vec::new(),
        collectors: Vec::new(),
        snapshot: SnapshotClock::default(),
        derived: known.derived(fold, 0),
        facts: None,
        set_aside: None,
        in_memory: false,
    })
}

async fn from_snapshot(
    subject: &Subject<'_>,
    fold: &mut dyn StateMachine,
    known: &Known,
    events: &StreamInfo,
    snapshot: &Candidate,
) -> Result<Result<Recovered, String>, LogError> {
    let position = snapshot.position();
    if !agrees(subject.log, subject.stream, &position).await? {
        return Ok(Err("the log disagrees with its position".to_owned()));
    }
    let claim = Claim {
        sequence: position.sequence,
        published: snapshot.manifest.published,
    };
    if let Some(reason) = claim.lost_events(known.published.until, events) {
        return Ok(Err(reason));
    }
    let state = match snapshot.read(subject.log).await? {
        Ok(state) => state,
        Err(reason) => return Ok(Err(reason)),
    };
    let entries = state
        .entries
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect();
    if let Err(error) = fold.load(&snapshot.versions(), entries) {
        return Ok(Err(error.to_string()));
    }
    Ok(Ok(Recovered {
        committed: None,
        published: known.silent(position.sequence).or_claimed(claim.published),
        outbox: unpublished(state.outbox, &known.published),
        collectors: state.collectors,
        snapshot: SnapshotClock {
            period: None,
            bytes_read: 0,
            manifest: Some(snapshot.sequence),
            tick: snapshot.manifest.at,
        },
        derived: known.derived(fold, position.sequence),
        facts: None,
        set_aside: None,
        in_memory: false,
        position,
    }))
}

impl Claim {
    /// The log of events ends before what this state takes for published, and not because retention emptied it.
    fn lost_events(&self, mark: Option<Place>, events: &StreamInfo) -> Option<String> {
        let published = self.published.filter(|published| mark < Some(*published))?;
        if mark.is_none() && events.first_sequence > 1 {
            return None;
        }
        let at = self.sequence;
        Some(format!(
            "at {at} it had published {published:?}, and the log of events ends at {mark:?}"
        ))
    }
}

/// Sets the store's content aside, or goes on in memory where even that cannot be done. Nothing is lost by either.
/// Returns whether the state is in memory now.
pub(crate) fn set_aside(store: &mut Box<dyn StateStore>) -> bool {
    let Err(error) = store.set_aside() else {
        return false;
    };
    tracing::error!(%error, "the state cannot be set aside; it is kept in memory until the next start");
    *store = Box::new(MemoryStore::new());
    true
}

/// Those of the append that was under way when the state was left, and of which a part may be in the log.
fn unpublished(outbox: Vec<StoredEvent>, published: &Published) -> Vec<StoredEvent> {
    outbox
        .into_iter()
        .filter(|event| !published.holds(event.place, || event.id.clone()))
        .collect()
}

fn disagreement(position: &Position, info: &StreamInfo) -> String {
    let Position { log_id, sequence, id } = position;
    if *log_id != info.log_id {
        return format!(
            "it was made from the log {log_id}, and this one is {}",
            info.log_id
        );
    }
    format!(
        "the log, which ends at {}, does not hold {id} at {sequence}",
        info.last_sequence
    )
}
