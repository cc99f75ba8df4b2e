//! Calls VirusTotal: runs the look-ups while there is a key and its lease is ours, and makes one call at a time.
//!
//! What is asked when is [`crate::oracle`]'s to say, what an answer means [`crate::answer`]'s.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Clock, KitError, Progress, Publisher};
use watchfold_log::{Leases, MessageLog};
use watchfold_schemas::alert::SubjectKind;
use watchfold_sink_kit::Secret;

use crate::answer::{Answer, interpret};
use crate::config::{KEY_VARIABLE, VirusTotalConfig};
use crate::memory::Memory;
use crate::oracle::{Oracle, fingerprint};
use crate::stats::LookupStats;
use crate::telling::{Slots, end_faults};
use crate::{LookupError, ORACLE};

/// One call, from connecting to the last byte of the answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the clock is looked at: how late a budget that is free again is noticed.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two attempts to get the lease of the key, or to reach a log that is away.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The longest answer that is read: the verdicts of ninety engines, certificates and records are some 200 kB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Opens the publisher of verdicts for a site; it is asked once for each.
pub type Publishers =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Arc<Publisher>, KitError>> + Send + Sync>;

/// What look-ups are given.
#[derive(Clone)]
pub struct LookupContext {
    pub log: Arc<dyn MessageLog>,
    pub leases: Arc<dyn Leases>,
    pub publishers: Publishers,
    /// The sites to answer; empty for all of the log.
    pub sites: BTreeSet<String>,
    /// The wall clock, by which days begin and verdicts expire.
    pub clock: Arc<dyn Clock>,
    pub state_path: PathBuf,
    pub progress: Arc<Progress>,
    pub stats: Arc<LookupStats>,
}

/// The one publisher of a process that serves one site.
pub fn one_site(publisher: Arc<Publisher>) -> Publishers {
    Arc::new(move |_| {
        let publisher = publisher.clone();
        async move { Ok(publisher) }.boxed()
    })
}

/// Figures that only tests change.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub call_timeout: Duration,
    pub look_every: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            call_timeout: CALL_TIMEOUT,
            look_every: LOOK_EVERY,
        }
    }
}

/// Answers questions until cancelled. Without a configuration, or a key in it, nothing is asked.
pub async fn run(
    context: LookupContext,
    config: watch::Receiver<Option<Arc<VirusTotalConfig>>>,
    cancel: CancellationToken,
) -> Result<(), LookupError> {
    run_timed(context, config, Timing::default(), cancel).await
}

/// [`run`] by other figures.
pub async fn run_timed(
    context: LookupContext,
    mut config: watch::Receiver<Option<Arc<VirusTotalConfig>>>,
    timing: Timing,
    cancel: CancellationToken,
) -> Result<(), LookupError> {
    let slots = Slots::default();
    let (mut off_told, mut off_done) = (false, false);
    while !cancel.is_cancelled() {
        let current = config.borrow_and_update().clone();
        let keyed = current.clone().and_then(|config| {
            let key = config.key.clone()?;
            Some((config, key))
        });
        let Some((current, key)) = keyed else {
            if current.is_some() && !off_told {
                tracing::info!(
                    "VirusTotal is not asked: there is no key in sinks.virustotal.key or {KEY_VARIABLE}"
                );
                off_told = true;
            }
            if !off_done {
                end_faults(&context, &slots, "VirusTotal is not asked any more").await;
                off_done = true;
            }
            idle(&context, &mut config, &cancel).await;
            continue;
        };
        (off_told, off_done) = (false, false);
        context.progress.resume();
        let lease = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            lease = context.leases.acquire(&lease_name(&key)) => lease,
        };
        let ended = match lease {
            Ok(Some(lease)) => {
                let asking = Asking::new(&key, timing)?;
                let opened = Oracle::open(context.clone(), current, &key, asking, slots.clone()).await;
                match opened {
                    Ok(mut oracle) => oracle.run(&mut config, &cancel, lease.lost()).await,
                    Err(error) => Err(error),
                }
            }
            Ok(None) => {
                // Somebody else asks with this key.
                context.progress.advance(0, 0);
                context.progress.ok();
                wait(&mut config, &cancel).await;
                Ok(())
            }
            Err(error) => Err(LookupError::Log(error)),
        };
        match ended {
            Ok(()) => {}
            // A log that is away is waited for; anything else is somebody's to mend, and shown meanwhile.
            Err(LookupError::Log(error)) => {
                context.progress.fail(error.to_string());
                wait(&mut config, &cancel).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The lease under which a key is used, whatever the sites.
pub fn lease_name(key: &Secret) -> String {
    format!("{ORACLE}.{}", fingerprint(key))
}

/// Until the configuration changes; says meanwhile that there is nothing to do.
async fn idle(
    context: &LookupContext,
    config: &mut watch::Receiver<Option<Arc<VirusTotalConfig>>>,
    cancel: &CancellationToken,
) {
    context.progress.idle();
    wait(config, cancel).await;
}

async fn wait(config: &mut watch::Receiver<Option<Arc<VirusTotalConfig>>>, cancel: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        // Nobody reloads any more, because everything is about to stop.
        changed = config.changed() => if changed.is_err() { cancel.cancelled().await },
        () = tokio::time::sleep(AGAIN_AFTER) => {}
    }
}

/// Reads the state file; one that cannot be used is set aside.
pub(crate) async fn load_memory(context: &LookupContext) -> Memory {
    let path = context.state_path.clone();
    let loaded = tokio::task::spawn_blocking(move || Memory::load(&path)).await;
    let (memory, reason) = loaded.unwrap_or_else(|error| (Memory::default(), Some(error.to_string())));
    if let Some(reason) = reason {
        context.stats.add(crate::LookupCount::StateFailures, 1);
        tracing::warn!(path = %context.state_path.display(), reason,
            "what is known from VirusTotal is set aside; it is asked for again");
    }
    memory
}

/// Writes the state file; tells whether it is durable.
pub(crate) async fn save_memory(context: &LookupContext, memory: &Memory, warn: bool) -> bool {
    let (path, file) = (context.state_path.clone(), memory.to_file());
    let saved = tokio::task::spawn_blocking(move || file.save(&path)).await;
    match saved.map_err(std::io::Error::other).and_then(|saved| saved) {
        Ok(()) => true,
        Err(error) => {
            context.stats.add(crate::LookupCount::StateFailures, 1);
            if warn {
                tracing::warn!(path = %context.state_path.display(), %error,
                    "failed to write what is known from VirusTotal; after a restart it is asked for again");
            }
            false
        }
    }
}

/// The client, and the key as it is sent.
#[derive(Clone)]
pub(crate) struct Asking {
    client: reqwest::Client,
    key: HeaderValue,
    pub timing: Timing,
}

impl Asking {
    pub fn new(key: &Secret, timing: Timing) -> Result<Asking, LookupError> {
        let client = reqwest::Client::builder()
            .timeout(timing.call_timeout)
            // The key goes nowhere but to the address that was configured.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("Watchfold/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| LookupError::Client(error.without_url().to_string()))?;
        // Checked with the configuration: letters and digits.
        let mut key = HeaderValue::from_str(key.expose())
            .map_err(|_| LookupError::Client("the key cannot stand in a header".to_owned()))?;
        key.set_sensitive(true);
        Ok(Asking { client, key, timing })
    }

    /// One call and what its answer means. It never fails: no answer is an answer too.
    pub async fn ask(self, kind: SubjectKind, url: String) -> Answer {
        let request = self
            .client
            .get(url)
            .header("x-apikey", self.key)
            .header("accept", "application/json");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return unanswered(&error),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).cloned();
        let retry_after = retry_after.as_ref().and_then(|header| header.to_str().ok());
        let body = read_body(response).await;
        interpret(kind, status, retry_after, body.as_deref())
    }
}

/// `None` where it broke off or is longer than any answer of VirusTotal.
async fn read_body(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => return Some(bytes),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

fn unanswered(error: &reqwest::Error) -> Answer {
    let what = match error {
        error if error.is_timeout() => "no answer in time",
        error if error.is_connect() => "no connection to VirusTotal",
        _ => "the connection broke before an answer",
    };
    Answer::Away {
        wait: None,
        detail: what.to_owned(),
    }
}
