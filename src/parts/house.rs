//! What parts are made from and kept in: the log, the data directory, publishers, and groups that stop together.

use std::sync::Arc;

use anyhow::Context;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_healthchecks::Role;
use watchfold_kit::SPOOL_BYTES_MAX;
use watchfold_kit::figures::Figures;
use watchfold_kit::share::{Led, lease_name};
use watchfold_kit::{Progress, ProgressSnapshot, Publisher, PublisherOptions, SpoolOptions};
use watchfold_log::{Leases, MessageLog};

use crate::paths::Data;

/// Parts that stop together.
#[derive(Clone)]
pub struct Group {
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
}

impl Group {
    pub fn new() -> Group {
        Group {
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub async fn stop(&self, deadline: Instant) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                parts = self.tasks.len(),
                "some parts do not end; they are left behind"
            );
        }
    }
}

/// What every part is made from.
#[derive(Clone)]
pub struct House {
    pub site: String,
    pub log: Arc<dyn MessageLog>,
    pub leases: Arc<dyn Leases>,
    /// The log is reached over a network.
    pub elsewhere: bool,
    pub data: Data,
    pub stages: Stages,
    /// What parts count, for the page's figures.
    pub figures: Figures,
}

/// What the parts write into the log with.
pub struct Publishers {
    pub operator: Arc<Publisher>,
    pub config: Arc<Publisher>,
    pub clock: Arc<Publisher>,
    pub ping: Arc<Publisher>,
    pub parity: Arc<Publisher>,
    pub packet_parity: Arc<Publisher>,
    pub discord: Arc<Publisher>,
    pub healthchecks: Arc<Publisher>,
}

impl Publishers {
    /// Opens all at once: each asks the log for its newest number, and waits a while for a log that is away.
    pub async fn open(house: &House) -> anyhow::Result<Publishers> {
        let (operator, config, clock, ping, parity, packet_parity, discord, healthchecks) = tokio::try_join!(
            house.publisher("operator"),
            house.publisher("config"),
            house.publisher("clock"),
            house.measuring_publisher("ping"),
            house.publisher("parity"),
            house.publisher("parity-packets"),
            house.publisher("discord"),
            house.publisher(watchfold_healthchecks::SINK),
        )?;
        Ok(Publishers {
            operator,
            config,
            clock,
            ping,
            parity,
            packet_parity,
            discord,
            healthchecks,
        })
    }

    pub fn into_all(self) -> Vec<Arc<Publisher>> {
        let watched = [
            self.clock,
            self.ping,
            self.parity,
            self.packet_parity,
            self.discord,
            self.healthchecks,
        ];
        [self.operator, self.config].into_iter().chain(watched).collect()
    }
}

/// The progress of every part, for the health page and the watchdog outside.
#[derive(Clone, Default)]
pub struct Stages(Arc<std::sync::Mutex<Vec<Part>>>);

/// A part's progress; parts with a role are vouched for by the watchdog outside.
pub type Part = (Option<Role>, Arc<Progress>);

impl Stages {
    pub fn add(&self, name: &str, role: Option<Role>) -> Arc<Progress> {
        let progress = Progress::new(name);
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.push((role, progress.clone()));
        progress
    }

    /// A part that will not come back.
    pub fn remove(&self, progress: &Arc<Progress>) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|(_, other)| !Arc::ptr_eq(other, progress));
    }

    pub fn snapshots(&self) -> Vec<(Option<Role>, ProgressSnapshot)> {
        let all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter()
            .map(|(role, progress)| (*role, progress.snapshot()))
            .collect()
    }
}

impl House {
    pub async fn publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        Publisher::open(self.log.clone(), &self.site, collector, &self.data.kit())
            .await
            .with_context(|| format!("failed to start the collector {collector}"))
    }

    /// What is measured waits on disk while the log is away.
    pub async fn spooling_publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        let (log, kit) = (self.log.clone(), self.data.kit());
        Publisher::open_with_spool(log, &self.site, collector, &kit, self.spool())
            .await
            .with_context(|| format!("failed to start the collector {collector}"))
    }

    /// For what is measured: where the log is elsewhere, what it does not take waits.
    pub async fn measuring_publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        match self.elsewhere {
            true => self.spooling_publisher(collector).await,
            false => self.publisher(collector).await,
        }
    }

    /// The same for packets, whose batches stand in a stream of their own.
    pub async fn packet_publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        let spool = self.elsewhere.then(|| self.spool());
        let options = PublisherOptions::packets(spool);
        let (log, kit) = (self.log.clone(), self.data.kit());
        Publisher::open_with(log, &self.site, collector, &kit, options)
            .await
            .with_context(|| format!("failed to start the collector {collector}"))
    }

    fn spool(&self) -> SpoolOptions {
        SpoolOptions {
            directory: self.data.path().join("spool"),
            bytes_max: SPOOL_BYTES_MAX,
        }
    }

    /// What others must not do at the same time, where others can.
    pub fn led(&self, part: &str, progress: &Arc<Progress>, group: &Group) -> Led {
        Led {
            leases: self.leases.clone(),
            name: lease_name(part, &self.site),
            progress: progress.clone(),
            cancel: group.cancel.clone(),
        }
    }
}
