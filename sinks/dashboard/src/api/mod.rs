//! The handlers of the API, and what they share.

pub mod acts;
pub mod alerts;
mod csv;
#[cfg(test)]
mod described;
pub mod eve;
pub mod explain;
mod filter;
pub mod health;
pub mod packets;
pub mod params;
pub mod read;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{ProgressSnapshot, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::Time;
use watchfold_web::{Places, Requests};

use crate::Figures;
use crate::feed::FeedCounters;
use crate::freshness::Freshness;
use crate::live::Live;
use crate::projection::shapes::Stage;
use crate::stages::stage_of;
use explain::Explaining;
use packets::Cutting;

/// What handlers share.
pub struct App {
    pub live: Arc<Live>,
    pub log: Arc<dyn MessageLog>,
    pub operator: Option<Arc<Publisher>>,
    pub stages: Arc<dyn Fn() -> Vec<ProgressSnapshot> + Send + Sync>,
    /// What other parts count.
    pub figures: Figures,
    pub feed: Arc<FeedCounters>,
    /// How old what is shown is.
    pub freshness: Arc<Freshness>,
    pub requests: Arc<Requests>,
    pub explaining: Explaining,
    pub cutting: Cutting,
    pub places: Arc<Places>,
    /// Viewers at once.
    pub viewers_max: usize,
    /// One permit for each viewer that may still come.
    pub viewer_places: Arc<Semaphore>,
    pub started_at: Option<Time>,
    pub cancel: CancellationToken,
}

impl App {
    /// The collector's clock; in a recording, its own time.
    pub fn now(&self) -> Time {
        match &self.operator {
            Some(operator) => operator.now(),
            None => self.live.read(|projection| projection.now()),
        }
    }

    pub fn stages(&self) -> Vec<Stage> {
        (self.stages)().into_iter().map(stage_of).collect()
    }

    pub fn viewers(&self) -> usize {
        self.viewers_max - self.viewer_places.available_permits()
    }
}
