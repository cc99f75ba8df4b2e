//! Packets that were captured twice: a mirror port or a bridge delivers copies of what it carries.
//!
//! A packet whose content was seen at most 5 ms before is a copy, once for each way that it came: so a copy that comes
//! exactly as the original did is one too, and of more equal packets, which somebody sends on purpose, only one for each
//! way is. Nothing is dropped; rules pass over what is marked.
//!
//! Batches name the packets whose content was seen just before, so that all others cost nothing here. Times are those of the
//! packets themselves, in whatever order they count.

use serde::{Deserialize, Serialize};
use watchfold_schemas::packets::{PacketView, REPEATS_WITHIN, Repeat};
use watchfold_schemas::{Span, Time};

use super::mask::Mask;

/// The most packets with copies that are known at a time, at one capture point.
pub const ORIGINALS_MAX: usize = WAYS * SETS;

/// The most ways on which one packet may come; copies on further ones are packets of their own.
pub const PATHS_MAX: usize = 8;

/// How long after a packet its copies come; what comes later is no repeat to a collector either.
const COPIES_WITHIN: Span = REPEATS_WITHIN;

/// A packet is kept for as long as one of its copies may be the last that another packet repeats.
const KEPT: Span = Span(2 * COPIES_WITHIN.0);

/// Packets that are kept in one place of the table.
const WAYS: usize = 4;

/// Places of the table.
const SETS: usize = 4_096;

/// Both halves of a product spread every bit.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A packet, and on which ways its copies came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Original {
    at: Time,
    /// 0 where nothing was seen.
    content: u64,
    copies: u8,
    paths: [u16; PATHS_MAX],
}

/// What one capture point saw within the last milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    /// Empty until the first repeat.
    table: Vec<Original>,
    newest: Time,
    /// Packets forgotten while copies of them might still come.
    pub evicted: u64,
}

/// [`Duplicates`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredDuplicates {
    originals: Vec<Original>,
    newest: Time,
    evicted: u64,
}

impl Duplicates {
    /// The rows of a batch that are copies.
    pub fn of(&mut self, view: PacketView<'_>) -> Mask {
        let mut copies = Mask::EMPTY;
        for repeat in view.repeats() {
            let row = usize::from(repeat.row);
            // What the columns say anyway makes two packets of one hash still rarer.
            let ports = u32::from(view.source_port(row)) << 16 | u32::from(view.destination_port(row));
            let kind = u32::from(view.tcp_flags(row)) << 8 | u32::from(view.protocol(row));
            let content = u64::from(repeat.print) << 32 | u64::from(ports ^ kind.rotate_right(16));
            if self.is_copy(content.max(1), &repeat, view.at(row)) {
                copies.set(repeat.row);
            }
        }
        copies
    }

    /// Whether a packet with this time is a copy. Of the first repeat the packet before it is the original, unless that was a
    /// copy itself.
    fn is_copy(&mut self, content: u64, repeat: &Repeat, at: Time) -> bool {
        if self.table.is_empty() {
            self.table.resize(ORIGINALS_MAX, Original::default());
        }
        self.newest = at;
        let before = at - repeat.after;
        let place = place_of(content);
        let set = &mut self.table[place..place + WAYS];
        let known = set.iter().position(|original| original.content == content);
        if let Some(way) = known
            && is_within(at.since(set[way].at), COPIES_WITHIN)
        {
            return set[way].takes(repeat.path);
        }
        let is_original = !is_within(repeat.after, COPIES_WITHIN)
            || known.is_some_and(|way| is_within(before.since(set[way].at), COPIES_WITHIN));
        let is_over = |original: &Original| original.content == 0 || !is_within(at.since(original.at), KEPT);
        let way = known.or_else(|| set.iter().position(is_over)).unwrap_or_else(|| {
            self.evicted += 1;
            let oldest = (0..WAYS).min_by_key(|way| (set[*way].at, set[*way].content));
            oldest.unwrap_or_default()
        });
        set[way] = Original {
            at: if is_original { at } else { before },
            content,
            copies: 0,
            paths: [0; PATHS_MAX],
        };
        !is_original && set[way].takes(repeat.path)
    }

    pub fn store(&self) -> StoredDuplicates {
        let newest = self.newest;
        let is_known =
            |original: &&Original| original.content != 0 && is_within(newest.since(original.at), KEPT);
        let mut originals: Vec<Original> = self.table.iter().filter(is_known).copied().collect();
        originals.sort_unstable();
        StoredDuplicates {
            originals,
            newest,
            evicted: self.evicted,
        }
    }

    pub fn load(stored: StoredDuplicates) -> Duplicates {
        let mut out = Duplicates {
            table: Vec::new(),
            newest: stored.newest,
            evicted: stored.evicted,
        };
        if !stored.originals.is_empty() {
            out.table.resize(ORIGINALS_MAX, Original::default());
        }
        for original in stored.originals {
            let place = place_of(original.content);
            let mut set = out.table[place..place + WAYS].iter_mut();
            if let Some(free) = set.find(|free| free.content == 0) {
                *free = original;
            }
        }
        out
    }
}

impl Original {
    /// The first equal packet on each way is a copy.
    fn takes(&mut self, path: u16) -> bool {
        let known = usize::from(self.copies);
        if known >= PATHS_MAX || self.paths[..known].contains(&path) {
            return false;
        }
        self.paths[known] = path;
        self.copies += 1;
        true
    }
}

fn is_within(span: Span, most: Span) -> bool {
    span.0.unsigned_abs() <= most.0.unsigned_abs()
}

fn place_of(content: u64) -> usize {
    (content.wrapping_mul(SPREAD) >> 32) as usize % SETS * WAYS
}

#[cfg(test)]
mod tests;
