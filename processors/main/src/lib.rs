//! Folds every site whose lease this process holds. A site moves when its process dies, and is rebuilt silently from its newest
//! snapshot and the log. The packets of a site, where it captures some, are a chain of their own under a lease of its own.
//!
//! What a chain does is the runner's, what it means the folds', and who has which site the kit's.

mod part;

pub use part::{PacketChainPart, Processors, SiteChainPart};
