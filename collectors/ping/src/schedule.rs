//! When rounds begin: on a fixed grid for each group, whatever earlier rounds do.
//!
//! It knows nothing of signals and answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use watchfold_kit::{KitError, Progress, Publisher};
use watchfold_schemas::SiteConfig;

use crate::PingError;
use crate::config::{Group, PingPlan};
use crate::fault::FaultBoard;
use crate::platform;
use crate::probe::Prober;
use crate::round::Rounds;

/// A quiet record after this long without another, so that folds know how far they may go.
const QUIET_EVERY: Duration = Duration::from_secs(1);

/// How often a missing echo socket is tried again: a permission given by hand is noticed while one looks.
const ECHO_RETRY_EVERY: Duration = Duration::from_secs(5);

/// The most rounds of one group whose scheduled probes are under way at once; a round due beyond it is left out.
const ROUNDS_UNPUBLISHED_MAX: usize = 4;

/// The same with retries, which are short unless the retry delay is many intervals.
const ROUNDS_UNDER_WAY_MAX: usize = 32;

/// At most one warning about overruns of a group in this time.
const OVERRUN_WARNING_EVERY: Duration = Duration::from_secs(60);

/// Probes what the latest configuration says and publishes what came of it, until cancelled.
///
/// `progress` counts rounds: begun (head) and published (position).
pub async fn run(
    publisher: Arc<Publisher>,
    mut config: watch::Receiver<Arc<SiteConfig>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), PingError> {
    let prober = Arc::new(Prober::new(Arc::clone(&publisher)));
    let faults = Arc::new(FaultBoard::new(Arc::clone(&publisher)));
    // An earlier process may have ended with one open, and nobody else would end it.
    faults.begin()?;
    let stopping = cancel.child_token();
    let _stop_on_return = stopping.clone().drop_guard();
    publisher.spawn_quiet(QUIET_EVERY, stopping.clone());
    let shared = Arc::new(Shared {
        publisher,
        prober,
        faults,
        progress,
        begun: AtomicU64::new(0),
        published: AtomicU64::new(0),
        overruns: AtomicU64::new(0),
        unpublished: AtomicBool::new(false),
    });
    let mut groups: JoinSet<Result<(), KitError>> = JoinSet::new();
    let mut plan = PingPlan::default();
    let mut plan_ends = stopping.child_token();
    let mut changed = true;
    let mut echo_check = tokio::time::interval(ECHO_RETRY_EVERY);
    echo_check.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        if std::mem::take(&mut changed) {
            let next = PingPlan::new(&config.borrow_and_update());
            if next != plan {
                plan_ends.cancel();
                plan_ends = stopping.child_token();
                shared.begin_plan(&next)?;
                for group in &next.groups {
                    groups.spawn(Arc::clone(&shared).group(
                        group.clone(),
                        next.retry_delay,
                        plan_ends.clone(),
                    ));
                }
                plan = next;
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            Ok(()) = config.changed() => changed = true,
            _ = echo_check.tick() => {
                shared.open_echo()?;
                if plan.groups.is_empty() {
                    shared.progress.advance(0, 0);
                }
            }
            Some(ended) = groups.join_next(), if !groups.is_empty() => match ended {
                Ok(ended) => ended?,
                Err(error) => tracing::error!(%error, "a group of probes ended; it returns with the next configuration"),
            },
        }
    }
}

/// What the groups share.
struct Shared {
    publisher: Arc<Publisher>,
    prober: Arc<Prober>,
    faults: Arc<FaultBoard>,
    progress: Arc<Progress>,
    begun: AtomicU64,
    published: AtomicU64,
    overruns: AtomicU64,
    /// The last round was not published.
    unpublished: AtomicBool,
}

impl Shared {
    fn begin_plan(&self, plan: &PingPlan) -> Result<(), KitError> {
        self.open_echo()?;
        let probes = plan.groups.iter().flat_map(|group| &group.probes);
        let subjects: HashSet<&str> = probes.map(|probe| probe.subject.as_str()).collect();
        self.faults.keep_only(|subject| subjects.contains(subject))?;
        let beyond = (plan.left_out > 0).then(|| {
            format!(
                "{} targets, addresses or PCs are beyond what one site may have: make it several",
                plan.left_out
            )
        });
        self.faults.set("", "limits", beyond)?;
        tracing::info!(groups = plan.groups.len(), subjects = subjects.len(), "probing");
        // It stands at its head: an answer may be a second away, and whoever waits for this part need not.
        self.progress.advance(
            self.published.load(Ordering::Relaxed),
            self.begun.load(Ordering::Relaxed),
        );
        Ok(())
    }

    fn open_echo(&self) -> Result<(), KitError> {
        let reason =
            (!self.prober.echo.open()).then(|| format!("echo is not allowed: {}", platform::ECHO_ADVICE));
        self.faults.set("", "echo", reason)
    }

    /// Begins rounds on the grid until `ends`, and then waits for those under way.
    async fn group(
        self: Arc<Shared>,
        group: Group,
        retry_delay: Duration,
        ends: CancellationToken,
    ) -> Result<(), KitError> {
        let interval = group.interval;
        let rounds = Arc::new(Rounds::new(
            Arc::clone(&self.publisher),
            Arc::clone(&self.prober),
            Arc::clone(&self.faults),
            group,
            retry_delay,
        ));
        let mut under_way = JoinSet::new();
        let mut grid = tokio::time::interval(interval);
        grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last_due: Option<Instant> = None;
        let mut overruns = Overruns::default();
        loop {
            tokio::select! {
                () = ends.cancelled() => break,
                due = grid.tick() => {
                    let missed = last_due.map_or(0, |last| grid_points_between(last, due, interval));
                    last_due = Some(due);
                    let unpublished = rounds.unpublished();
                    let crowded = unpublished >= ROUNDS_UNPUBLISHED_MAX || under_way.len() >= ROUNDS_UNDER_WAY_MAX;
                    overruns.see(&self, missed + u64::from(unpublished > 0), crowded, interval);
                    if !crowded {
                        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
                        let rounds = Arc::clone(&rounds);
                        under_way.spawn(async move { rounds.run(number).await });
                    }
                }
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => self.settle(ended)?,
            }
        }
        while let Some(ended) = under_way.join_next().await {
            self.settle(ended)?;
        }
        Ok(())
    }

    fn settle(&self, ended: Result<Result<(), KitError>, tokio::task::JoinError>) -> Result<(), KitError> {
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(KitError::Closed)) => return Err(KitError::Closed),
            Ok(Err(error)) => Some(format!("a round was not published: {error}")),
            Err(error) => Some(format!("a round ended early: {error}")),
        };
        if let Some(failure) = failure {
            tracing::warn!(failure, "a round is lost");
            self.progress.fail(failure);
            self.unpublished.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.unpublished.swap(false, Ordering::Relaxed) {
            self.progress.ok();
        }
        let published = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress
            .advance(published, self.begun.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Whole intervals between two grid points, less the one that is due.
fn grid_points_between(last: Instant, due: Instant, interval: Duration) -> u64 {
    let points = due.duration_since(last).as_nanos() / interval.as_nanos().max(1);
    u64::try_from(points).unwrap_or(u64::MAX).saturating_sub(1)
}

/// Tells of rounds that take longer than their interval, now and then.
#[derive(Default)]
struct Overruns {
    warned_at: Option<Instant>,
    failing: bool,
}

impl Overruns {
    fn see(&mut self, shared: &Shared, new: u64, crowded: bool, interval: Duration) {
        if new == 0 {
            if std::mem::take(&mut self.failing) {
                shared.progress.ok();
            }
            return;
        }
        let total = shared.overruns.fetch_add(new, Ordering::Relaxed) + new;
        self.failing = true;
        shared.progress.fail(format!(
            "{total} rounds took longer than their interval since the start"
        ));
        let due = self
            .warned_at
            .is_none_or(|at| at.elapsed() >= OVERRUN_WARNING_EVERY);
        if due {
            self.warned_at = Some(Instant::now());
            tracing::warn!(
                total,
                crowded,
                ?interval,
                "rounds take longer than their interval"
            );
        }
    }
}
