//! Tells Discord through webhooks: one per class of notice, within Discord's limits, each request once.
//!
//! [`render`] finds the words and is pure; [`deliver`](mod@deliver) calls Discord; order, retries, merging and receipts are the
//! sink kit's. It judges nothing, reads no clock for what it says, and never shows a webhook's address.

mod answer;
mod attack;
pub mod config;
pub mod deliver;
pub mod digest;
pub mod part;
pub mod render;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

pub use config::{ConfigError, DiscordConfig, DiscordSection};
pub use deliver::{SINK, run};
pub use part::Discord;
