//! The far side as a sink implements it, and what it can answer.
//!
//! A [`Destination`] makes single attempts; when, how often and in what order is the delivery loop's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use watchfold_kit::{Progress, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};

use crate::plan::Job;
use crate::stats::SinkStats;

/// What a sink is given to run.
#[derive(Clone)]
pub struct SinkContext {
    pub site: String,
    /// The sink's name in receipts and subjects; the collector name of `publisher`.
    pub sink: String,
    pub log: Arc<dyn MessageLog>,
    /// Writes the receipts, and is the clock by which requests expire.
    pub publisher: Arc<Publisher>,
    /// `<data>/sinks/<sink>.state`
    pub state_path: PathBuf,
    pub progress: Arc<Progress>,
    pub stats: Arc<SinkStats>,
}

/// The far side, as a sink implements it.
pub trait Destination: Send + Sync + 'static {
    /// Where a request goes, or `None` while nothing is configured for it. One job at a time runs in each lane, and a
    /// stuck lane blocks no other.
    fn lane(&self, request: &NotificationRequest) -> Option<String>;

    /// The lanes of the configuration in force. The number changes with the address behind a lane.
    fn lanes(&self) -> BTreeMap<String, u64>;

    /// One attempt. It must end by itself within a time limit of its own.
    fn deliver(self: Arc<Self>, job: Job) -> BoxFuture<'static, Attempt>;

    /// One attempt to change a message that was delivered earlier.
    fn edit(self: Arc<Self>, edit: Edit) -> BoxFuture<'static, EditOutcome>;
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub outcome: Outcome,
    /// How long not to call again, whatever the outcome.
    pub pause: Pause,
    /// The message that showed the incident is gone.
    pub thread_gone: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Accepted, under this id where the far side gives one.
    Delivered { message: Option<String> },
    /// There is nothing to show for it any more.
    Pointless { detail: String },
    /// Try again, after the far side's own delay if it gave one.
    Retry { after: Option<Duration>, detail: String },
    /// The far side will never take it.
    Rejected { detail: String },
    /// The destination is unusable until the configuration changes.
    Blocked { detail: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    #[default]
    None,
    Lane(Duration),
    All(Duration),
}

/// A change to a delivered message: an incident is over and its first message should show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    pub lane: String,
    pub class: NoticeClass,
    pub message: String,
    pub notice: Notice,
    pub time_zone: String,
    pub attempts: u32,
    #[serde(skip)]
    pub(crate) not_before: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EditOutcome {
    Done {
        pause: Pause,
    },
    /// The message is gone or the change refused; not tried again.
    Given {
        detail: String,
    },
    Retry {
        after: Option<Duration>,
        detail: String,
        pause: Pause,
    },
}
