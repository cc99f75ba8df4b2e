//! Packets that were captured twice: a mirror port or a bridge delivers copies of what it carries.
//!
//! A packet whose content was seen at most 5 ms before is a copy, once for each way that it came: so a copy that comes
//! exactly as the original did is one too, and of more equal packets, which somebody sends on purpose, only one for each
//! way is. Nothing is dropped; rules pass over what is marked.

use serde::{Deserialize, Serialize};
use watchfold_schemas::packets::PacketView;
use watchfold_schemas::{Span, Time};

use super::mask::Mask;

/// The most packets whose copies are known at a time, at one capture point.
pub const ORIGINALS_MAX: usize = WAYS * SETS;

/// The most ways on which one packet may come; copies on further ones are packets of their own.
pub const PATHS_MAX: usize = 8;

/// How long after a packet its copies come.
const COPIES_WITHIN: Span = Span::from_millis(5);

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
    /// Empty until the first packet that may have copies.
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
    /// The rows of a batch that are copies. Each counts at its time in `times`.
    pub fn of(&mut self, view: PacketView<'_>, times: &[Time]) -> Mask {
        let mut copies = Mask::EMPTY;
        let (flags, protocols) = (view.all_tcp_flags(), view.protocols());
        let ports = view.source_ports().zip(view.destination_ports());
        let rows = view.prints_and_paths().zip(ports).enumerate();
        for (row, ((print, path), (source_port, destination_port))) in rows {
            if print == 0 {
                continue;
            }
            // What the columns say anyway makes two packets of one hash still rarer.
            let ports = u32::from(source_port) << 16 | u32::from(destination_port);
            let kind = u32::from(flags[row]) << 8 | u32::from(protocols[row]);
            let content = u64::from(print) << 32 | u64::from(ports ^ kind.rotate_right(16));
            if self.is_copy(content, path, times[row]) {
                copies.set(row as u16);
            }
        }
        copies
    }

    fn is_copy(&mut self, content: u64, path: u16, at: Time) -> bool {
        if self.table.is_empty() {
            self.table.resize(ORIGINALS_MAX, Original::default());
        }
        self.newest = at;
        let is_over = |original: &Original| original.content == 0 || at.since(original.at) > COPIES_WITHIN;
        let place = place_of(content);
        let set = &mut self.table[place..place + WAYS];
        if let Some(original) = set
            .iter_mut()
            .find(|original| original.content == content && !is_over(original))
        {
            return original.takes(path);
        }
        let free = set.iter().position(is_over);
        let way = free.unwrap_or_else(|| {
            self.evicted += 1;
            let oldest = (0..WAYS).min_by_key(|way| (set[*way].at, set[*way].content));
            oldest.unwrap_or_default()
        });
        set[way] = Original {
            at,
            content,
            copies: 0,
            paths: [0; PATHS_MAX],
        };
        false
    }

    pub fn store(&self) -> StoredDuplicates {
        let newest = self.newest;
        let is_known =
            |original: &&Original| original.content != 0 && newest.since(original.at) <= COPIES_WITHIN;
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

fn place_of(content: u64) -> usize {
    (content.wrapping_mul(SPREAD) >> 32) as usize % SETS * WAYS
}

#[cfg(test)]
mod tests;
