//! The HTTP API, the live page and its projection.
//!
//! The projection folds the event and observation streams into what is shown; the server tells it. Nothing here
//! judges, measures, or opens a processor's store. What an operator does through the API is published as an
//! observation, and comes back as events like everything else.

mod api;
mod assets;
pub mod config;
mod deliver;
mod feed;
mod frames;
mod freshness;
mod live;
mod metrics;
pub mod part;
pub mod projection;
mod routes;
mod scrape;
mod snapshot;
mod stages;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use watchfold_config::PageAccess;
use watchfold_kit::{Progress, ProgressSnapshot, Publisher};
use watchfold_log::{LogError, MessageLog};

pub use api::explain::{Explain, ExplainFailure, ExplainKind, ExplainRequest, ExplainTurn};
pub use api::packets::{PACKETS_BYTES_MAX, Packets, PacketsFailure, PacketsRequest};
pub use config::DashboardConfig;
pub use deliver::Dashboard;
pub use part::{Page, PageAddress, PageSection};
pub use watchfold_web::WebError;

/// Samples in Prometheus' text format, of names that the dashboard's own do not begin with.
pub type Figures = Arc<dyn Fn(&mut watchfold_kit::metrics::Page) + Send + Sync>;

/// What the dashboard is given.
pub struct DashboardOptions {
    pub log: Arc<dyn MessageLog>,
    pub site: String,
    pub listen: SocketAddr,
    /// Under which names and through which proxies the page is reached.
    pub access: PageAccess,
    /// Holds `token`, `sessions.json` and `dashboard.snapshot`.
    pub data_dir: PathBuf,
    /// Publishes what operators do, as collector `operator`. `None` shows a recording: nothing can be done.
    pub operator: Option<Arc<Publisher>>,
    /// Explains an incident, a session, an alert or an attack; `None` where the log cannot be folded again from here.
    pub explain: Option<Explain>,
    /// Gives the packets of an alert; `None` where no collector of this host keeps any.
    pub packets: Option<Packets>,
    /// The progress of every stage, the dashboard's own included.
    pub stages: Arc<dyn Fn() -> Vec<ProgressSnapshot> + Send + Sync>,
    /// What other parts of this process count, as `/metrics` shows it.
    pub figures: Figures,
    /// The dashboard's own progress.
    pub progress: Arc<Progress>,
    /// Name and version, as shown.
    pub software: String,
}

/// Why the dashboard could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("failed to {action} {path}: {source}; make the data directory writable and start again")]
    Data {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
}
