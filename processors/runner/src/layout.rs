//! What a chain keeps in its store, and how: state entries, outbox, collectors and one record of facts about them.
//!
//! Every commit changes all of it in one batch. The record of facts counts the pairs and sums their checksums, so a
//! store that lost some of them quietly is noticed when it is opened.

use serde::{Deserialize, Serialize};
use watchfold_log::Position;
use watchfold_schemas::codec::decode_versioned;
use watchfold_schemas::event::Place;
use watchfold_schemas::snapshot::{CollectorPosition, StoredEvent};
use watchfold_schemas::{Chain, CodecError, Time};

use crate::error::RunnerError;
use crate::store::{Batch, StateStore, StoreError};
use watchfold_folds::STATE_KEY_BYTES_MAX;

/// The version of the layout. A store of another version is set aside and rebuilt.
const STORE_VERSION: u16 = 1;

const FACTS: &[u8] = b"f";
const ENTRY: u8 = b's';
const OUTBOX: u8 = b'o';
const COLLECTOR: u8 = b'c';

/// The facts about a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    v: u16,
    pub(crate) site: String,
    pub(crate) chain: Chain,
    /// The last input of which everything that came is in the outbox or in the log.
    pub(crate) position: Position,
    /// The last input that is in the entries and the collectors' numbers, where these are of an earlier moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Position>,
    /// The versions of the folds that wrote the entries.
    pub(crate) versions: Vec<(String, u32)>,
    /// The last event that the log acknowledged.
    pub(crate) published: Option<Place>,
    pub(crate) snapshot: SnapshotClock,
    /// What folds; unknown of stores from before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) derived: Option<Derived>,
    ledger: Ledger,
}

/// The software that folds, and the last input that another one did, or may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Derived {
    pub(crate) software: String,
    pub(crate) foreign: u64,
}

/// When the next snapshot is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotClock {
    /// The period, by ticks, in which the last one was taken; `None` before the first tick.
    pub(crate) period: Option<Time>,
    /// Bytes of the stream read since.
    pub(crate) bytes_read: u64,
    /// Its manifest's sequence.
    pub(crate) manifest: Option<u64>,
    /// The greatest tick seen.
    pub(crate) tick: Time,
}

/// How many pairs there are besides the facts, and the sum of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ledger {
    pairs: u64,
    sum: u64,
}

/// Everything of a store.
pub(crate) struct Content {
    pub(crate) facts: Facts,
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) outbox: Vec<StoredEvent>,
    pub(crate) collectors: Vec<CollectorPosition>,
}

pub(crate) enum Opened {
    Empty,
    Usable(Box<Content>),
    /// What is wrong with it.
    Broken(String),
}

/// What one commit changes.
#[derive(Default)]
pub(crate) struct Changes {
    /// Everything that is not named in `pairs` goes.
    replace_all: bool,
    pairs: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Changes {
    pub(crate) fn replacing_all() -> Changes {
        Changes {
            replace_all: true,
            pairs: Vec::new(),
        }
    }

    pub(crate) fn entry(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        debug_assert!(
            key.len() <= STATE_KEY_BYTES_MAX,
            "a state key of {} bytes",
            key.len()
        );
        self.pairs.push((prefixed(ENTRY, key), value));
    }

    pub(crate) fn event(&mut self, event: &StoredEvent) -> Result<(), CodecError> {
        // Larger than a message may be, because the envelope comes on top: hence not through `codec::encode`.
        let value = rmp_serde::to_vec_named(event)?;
        self.pairs.push((outbox_key(event.place), Some(value)));
        Ok(())
    }

    pub(crate) fn event_removed(&mut self, place: Place) {
        self.pairs.push((outbox_key(place), None));
    }

    pub(crate) fn collector(
        &mut self,
        name: &str,
        entry: Option<&CollectorPosition>,
    ) -> Result<(), CodecError> {
        let value = entry.map(rmp_serde::to_vec_named).transpose()?;
        self.pairs.push((prefixed(COLLECTOR, name.as_bytes()), value));
        Ok(())
    }
}

/// The facts of one chain, whatever the ledger will say. `entries_at` is what the entries were folded up to.
pub(crate) fn facts(
    (site, chain): (&str, Chain),
    position: Position,
    entries_at: Position,
    versions: Vec<(String, u32)>,
    published: Option<Place>,
    snapshot: SnapshotClock,
) -> Facts {
    let (v, site, ledger) = (STORE_VERSION, site.to_owned(), Ledger::default());
    let checkpoint = (entries_at != position).then_some(entries_at);
    Facts {
        v,
        site,
        chain,
        position,
        checkpoint,
        versions,
        published,
        snapshot,
        derived: None,
        ledger,
    }
}

impl Facts {
    /// The last input that is in the entries: folding goes on after it.
    pub(crate) fn entries_at(&self) -> &Position {
        self.checkpoint.as_ref().unwrap_or(&self.position)
    }

    /// Takes over what is known of the pairs that the store holds already.
    pub(crate) fn continue_from(&mut self, before: Option<&Facts>) {
        self.ledger = before.map_or(Ledger::default(), |before| before.ledger);
    }
}

/// Applies changes and facts in one batch. Not synced yet. The ledger in `facts` is brought up to date.
pub(crate) fn apply(
    store: &mut dyn StateStore,
    changes: Changes,
    facts: &mut Facts,
) -> Result<(), RunnerError> {
    let mut batch = Batch::new();
    if changes.replace_all {
        facts.ledger = Ledger::default();
        batch.extend(store.scan()?.into_iter().map(|(key, _)| (key, None)));
    }
    for (key, value) in changes.pairs {
        // Within one batch the last word counts, so the value before it is the batch's, if it has one.
        let before = match batch.get(&key) {
            Some(pending) => pending.clone(),
            None => store.get(&key)?,
        };
        facts.ledger.change(&key, before.as_deref(), value.as_deref());
        if before != value || batch.contains_key(&key) {
            batch.insert(key, value);
        }
    }
    batch.insert(
        FACTS.to_vec(),
        Some(rmp_serde::to_vec_named(facts).map_err(CodecError::from)?),
    );
    store.apply_batch(batch)?;
    Ok(())
}

/// Reads a store and checks it against itself. The error is one of reading, not of what was read.
pub(crate) fn open(store: &dyn StateStore, site: &str, chain: Chain) -> Result<Opened, StoreError> {
    let pairs = store.scan()?;
    if pairs.is_empty() {
        return Ok(Opened::Empty);
    }
    Ok(match read(pairs, site, chain) {
        Ok(content) => Opened::Usable(Box::new(content)),
        Err(reason) => Opened::Broken(reason),
    })
}

fn read(pairs: Vec<(Vec<u8>, Vec<u8>)>, site: &str, chain: Chain) -> Result<Content, String> {
    let mut facts = None;
    let (mut entries, mut outbox, mut collectors) = (Vec::new(), Vec::new(), Vec::new());
    let mut ledger = Ledger::default();
    for (key, value) in pairs {
        if key == FACTS {
            facts = Some(decode_facts(&value)?);
            continue;
        }
        ledger.change(&key, None, Some(&value));
        match key.split_first() {
            Some((&ENTRY, rest)) => entries.push((rest.to_vec(), value)),
            Some((&OUTBOX, _)) => outbox.push(decode::<StoredEvent>(&value)?),
            Some((&COLLECTOR, _)) => collectors.push(decode::<CollectorPosition>(&value)?),
            _ => return Err(format!("it holds a key {key:02x?} that nothing here writes")),
        }
    }
    let facts = facts.ok_or("it holds no position")?;
    if (facts.site.as_str(), facts.chain) != (site, chain) {
        return Err(format!(
            "it belongs to the {} chain of site {:?}",
            facts.chain.token(),
            facts.site
        ));
    }
    if facts.ledger != ledger {
        return Err(format!("it should hold {:?} and holds {ledger:?}", facts.ledger));
    }
    Ok(Content {
        facts,
        entries,
        outbox,
        collectors,
    })
}

fn decode_facts(bytes: &[u8]) -> Result<Facts, String> {
    let facts: Facts =
        decode_versioned(bytes, "item of state", STORE_VERSION).map_err(|error| error.to_string())?;
    if facts.v != STORE_VERSION {
        return Err(format!("its layout is of version {}", facts.v));
    }
    Ok(facts)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

impl Ledger {
    fn change(&mut self, key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) {
        if let Some(before) = before {
            self.pairs = self.pairs.wrapping_sub(1);
            self.sum = self.sum.wrapping_sub(checksum(key, before));
        }
        if let Some(after) = after {
            self.pairs = self.pairs.wrapping_add(1);
            self.sum = self.sum.wrapping_add(checksum(key, after));
        }
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let length = (key.len() as u64).to_le_bytes();
    u64::from(crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(&length), key),
        value,
    ))
}

fn prefixed(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(prefix);
    out.extend_from_slice(key);
    out
}

/// Sorts by place.
fn outbox_key(place: Place) -> Vec<u8> {
    let mut key = prefixed(OUTBOX, &place.input.to_be_bytes());
    key.extend_from_slice(&place.index.to_be_bytes());
    key
}
