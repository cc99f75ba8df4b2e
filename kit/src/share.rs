//! Shares sites among processes: each is served by whoever holds its lease, and moves when that process dies.
//!
//! Two that serve one site for a moment, because a lease ran out before its holder noticed, do no harm: what they write
//! has the same ids. Fairness is simple: a process takes a few sites at a time, at uneven intervals, and no more than its
//! limit; nobody gives a site back while it is well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::Progress;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Lease, Leases, LogError, Position};

use crate::frame::{Frame, Group};
use crate::part::Kind;
use crate::supervise::STEADY;

/// Between two looks for sites that nobody serves, give or take a half: processes started together do not stay in step.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sites taken in one look: several processes that start together share what there is.
const TAKEN_AT_ONCE: usize = 16;

/// A part that failed is left alone for this long, doubling to the longest; meanwhile another process may take its site.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often a part's progress is put beside the log, for those who vouch for it elsewhere.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What is shared.
pub struct Share {
    /// The name of the part, `chain:site` say. Its leases and stages are called by it and the site.
    pub part: String,
    /// The kind of a part whose progress is vouched for outside.
    pub vouched: Option<Kind>,
    /// This process serves at most so many sites.
    pub sites_max: usize,
    pub sites: watch::Receiver<BTreeSet<String>>,
}

/// A site that is ours for now.
pub struct Site {
    pub name: String,
    pub progress: Arc<Progress>,
    /// Cancelled when the process ends or the site may be somebody else's.
    pub cancel: CancellationToken,
}

/// The name of a part's lease for a site, and of its progress beside the log.
pub fn lease_name(part: &str, site: &str) -> String {
    format!("{}.{site}", part.replace(':', "."))
}

/// Serves sites by `part` until the process ends.
pub async fn share<F, R, E>(frame: Arc<Frame>, group: Group, share: Share, progress: Arc<Progress>, part: F)
where
    F: Fn(Site) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let cancel = group.cancel;
    let mut shared = Shared {
        frame,
        cancel: cancel.clone(),
        share,
        progress,
        part: Arc::new(part),
        served: BTreeSet::new(),
        pauses: BTreeMap::new(),
        running: JoinSet::new(),
        full_told: false,
    };
    while !cancel.is_cancelled() {
        shared.take_what_is_free().await;
        let wake = tokio::time::sleep(uneven(LOOK_EVERY));
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = &mut wake => break,
                changed = shared.share.sites.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => cancel.cancelled().await,
                },
                Some(ended) = shared.running.join_next() => shared.ended(ended),
            }
        }
    }
    while let Some(ended) = shared.running.join_next().await {
        shared.ended(ended);
    }
}

/// A site, how its part ended, and how long that ran.
type Ended = (String, Result<(), String>, Duration);

struct Shared<F> {
    frame: Arc<Frame>,
    cancel: CancellationToken,
    share: Share,
    progress: Arc<Progress>,
    part: Arc<F>,
    served: BTreeSet<String>,
    /// Parts that failed: until when they are left alone, and for how long the next time.
    pauses: BTreeMap<String, (Instant, Duration)>,
    running: JoinSet<Ended>,
    full_told: bool,
}

impl<F, R, E> Shared<F>
where
    F: Fn(Site) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    async fn take_what_is_free(&mut self) {
        let wanted: Vec<String> = self.wanted();
        let (leases, cancel) = (self.frame.leases.clone(), self.cancel.clone());
        let mut taken = 0;
        for site in wanted {
            if self.served.len() >= self.share.sites_max {
                if !self.full_told {
                    self.full_told = true;
                    tracing::warn!(
                        limit = self.share.sites_max,
                        part = self.share.part,
                        "no more sites are taken here"
                    );
                }
                break;
            }
            if taken >= TAKEN_AT_ONCE {
                break;
            }
            let name = lease_name(&self.share.part, &site);
            let acquired = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                acquired = leases.acquire(&name) => acquired,
            };
            match acquired {
                Ok(Some(lease)) => {
                    taken += 1;
                    self.serve(site, lease);
                }
                Ok(None) => {}
                Err(error) => return self.progress.fail(error.to_string()),
            }
        }
        let served = self.served.len() as u64;
        self.progress.advance(served, served);
        self.progress.ok();
    }

    /// Sites that are not served here and may be; begins anywhere, so that two processes do not ask in one order.
    fn wanted(&mut self) -> Vec<String> {
        let now = Instant::now();
        let sites = self.share.sites.borrow_and_update();
        let free = |site: &&String| {
            !self.served.contains(*site) && self.pauses.get(*site).is_none_or(|(until, _)| *until <= now)
        };
        let mut wanted: Vec<String> = sites.iter().filter(free).cloned().collect();
        if !wanted.is_empty() {
            let begin = usize::try_from(random() % wanted.len() as u64).unwrap_or(0);
            wanted.rotate_left(begin);
        }
        wanted
    }

    fn serve(&mut self, site: String, lease: Lease) {
        tracing::info!(site, part = self.share.part, "this process serves the site");
        self.served.insert(site.clone());
        let (frame, part, name) = (self.frame.clone(), self.part.clone(), self.share.part.clone());
        let (vouched, stop) = (self.share.vouched, self.cancel.clone());
        self.running.spawn(async move {
            let started = Instant::now();
            let stage = frame.stages.join(&format!("{name}/{site}"), vouched);
            let cancel = stop.child_token();
            // Whatever ends this, the part is told to end too.
            let _end = cancel.clone().drop_guard();
            let mut running = tokio::spawn(part(Site {
                name: site.clone(),
                progress: stage.progress().clone(),
                cancel: cancel.clone(),
            }));
            let telling = tell_progress(&frame, lease_name(&name, &site), stage.progress().clone());
            let ended = tokio::select! {
                ended = &mut running => ended,
                () = telling => running.await,
                () = lease.lost().cancelled() => {
                    tracing::warn!(site, part = name, "the lease ran out; the site may be somebody else's now");
                    cancel.cancel();
                    running.await
                }
            };
            let outcome = match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(panic) => Err(panic.to_string()),
            };
            (site, outcome, started.elapsed())
        });
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let (site, outcome, ran) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Only the few lines around the part could panic; its site stays out until the next start.
                tracing::error!(%error, part = self.share.part, "a part was torn down");
                return;
            }
        };
        self.served.remove(&site);
        let Err(why) = outcome else {
            self.pauses.remove(&site);
            return;
        };
        let pause = self
            .pauses
            .get(&site)
            .filter(|_| ran < STEADY)
            .map_or(PAUSE_MIN, |(_, last)| (*last * 2).min(PAUSE_MAX));
        tracing::error!(
            site,
            part = self.share.part,
            why,
            again_in_s = pause.as_secs(),
            "a part stopped"
        );
        self.progress.fail(format!("{site}: {why}"));
        self.pauses.insert(site, (Instant::now() + pause, pause));
    }
}

/// A thing that one process at a time does, in a process that does it for one site.
#[derive(Clone)]
pub struct Led {
    pub leases: Arc<dyn Leases>,
    /// The lease's.
    pub name: String,
    pub progress: Arc<Progress>,
    pub cancel: CancellationToken,
}

impl Led {
    /// The same, stopped by another token.
    pub fn under(&self, cancel: CancellationToken) -> Led {
        Led {
            cancel,
            ..self.clone()
        }
    }
}

/// Runs `part` whenever the lease is ours, until cancelled. Waiting for it is no failure: somebody else does the work.
pub async fn led<F, R, E>(led: Led, part: F) -> Result<(), E>
where
    F: Fn(CancellationToken) -> R,
    R: Future<Output = Result<(), E>>,
{
    while !led.cancel.is_cancelled() {
        let acquired = tokio::select! {
            biased;
            () = led.cancel.cancelled() => return Ok(()),
            acquired = led.leases.acquire(&led.name) => acquired,
        };
        match acquired {
            Ok(Some(lease)) => {
                led.progress.ok();
                let cancel = led.cancel.child_token();
                let running = part(cancel.clone());
                tokio::pin!(running);
                tokio::select! {
                    ended = &mut running => return ended,
                    () = lease.lost().cancelled() => {
                        tracing::warn!(lease = led.name, "the lease ran out; somebody else may go on with it");
                        cancel.cancel();
                        running.await?;
                    }
                }
            }
            Ok(None) => {
                led.progress.ok();
                led.progress.advance(0, 0);
            }
            Err(error) => led.progress.fail(error.to_string()),
        }
        tokio::select! {
            () = led.cancel.cancelled() => {}
            () = tokio::time::sleep(uneven(LOOK_EVERY)) => {}
        }
    }
    Ok(())
}

/// Puts a part's progress beside the log again and again. A log that takes none is no reason to stop the part.
async fn tell_progress(frame: &Frame, name: String, progress: Arc<Progress>) {
    for beat in 1_u64.. {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let snapshot = progress.snapshot();
        if snapshot.advanced_age.is_none() {
            continue;
        }
        let saved: Result<(), LogError> = frame
            .log
            .save_position(
                &progress_name(&name),
                Position {
                    log_id: String::new(),
                    sequence: snapshot.position,
                    id: beat_with(beat, snapshot.detail.as_deref()),
                },
            )
            .await;
        if let Err(error) = saved {
            tracing::debug!(name, %error, "progress is not told beside the log");
        }
    }
}

/// The most characters of a part's trouble that stand beside the log.
const TROUBLE_CHARS_MAX: usize = 300;

/// A beat, and behind it what is wrong with the part while something is.
fn beat_with(beat: u64, trouble: Option<&str>) -> String {
    match trouble {
        None => beat.to_string(),
        Some(trouble) => {
            let trouble: String = trouble.chars().take(TROUBLE_CHARS_MAX).collect();
            format!("{beat} {trouble}")
        }
    }
}

/// What [`beat_with`] was made from.
pub(crate) fn beat_and_trouble(id: &str) -> (&str, Option<&str>) {
    match id.split_once(' ') {
        None => (id, None),
        Some((beat, trouble)) => (beat, Some(trouble)),
    }
}

/// Under what name the progress behind a lease stands beside the log.
pub fn progress_name(lease: &str) -> String {
    format!("progress.{lease}")
}

/// `about`, give or take a half.
fn uneven(about: Duration) -> Duration {
    about / 2 + about.mul_f64((random() % 1_000) as f64 / 1_000.0)
}

/// Enough for unevenness: the standard library seeds its hashers at random.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
