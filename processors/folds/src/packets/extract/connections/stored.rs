//! Connections as a store holds them.

use serde::{Deserialize, Serialize};

use super::{Attempt, Connections, TcpPacket};

/// Everything that is known, from the oldest on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredConnections {
    waiting: Vec<Attempt>,
    opened: Vec<Attempt>,
    early: Vec<TcpPacket>,
    evicted: u64,
}

impl Connections {
    pub fn store(&self) -> StoredConnections {
        StoredConnections {
            waiting: self.waiting.iter().copied().collect(),
            opened: self.opened.iter().copied().collect(),
            early: self.early.iter().copied().collect(),
            evicted: self.evicted,
        }
    }

    pub fn load(stored: StoredConnections, seed: u64) -> Connections {
        let mut out = Connections {
            evicted: stored.evicted,
            ..Connections::new(seed)
        };
        for attempt in stored.waiting {
            out.unused.add(&attempt.ends);
            out.waiting.push(out.hash(&attempt.ends), attempt);
        }
        for attempt in stored.opened {
            if !attempt.is_used {
                out.unused.add(&attempt.ends);
            }
            out.opened.push(out.hash(&attempt.ends), attempt);
        }
        for packet in stored.early {
            out.unused.add(&packet.ends);
            out.early.push(out.hash(&packet.ends.sorted()), packet);
        }
        out
    }
}
