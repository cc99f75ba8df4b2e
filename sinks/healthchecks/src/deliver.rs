//! Sends pings: one attempt at a time, and what the server's answer means for the next.
//!
//! It neither judges stages nor decides what is due; [`mod@crate::judge`] and [`crate::schedule`] do.
//!
//! On a clean stop one `/log` ping says so, at once and whatever the spacing: it is the only one out of turn, and the
//! pings before it are at least 12 s apart, so that it is never more than the sixth in a minute.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_sink_kit::{Count, Failure, Outlet, OutletContext, Secret, SinkError};

use crate::config::HealthchecksConfig;
use crate::judge::{Stage, Verdict, judge};
use crate::render::{BODY_BYTES_DEFAULT, body, cut};
use crate::schedule::{Answer, Kind, Ping, Schedule, Timing};

/// How long the ping about a clean stop may take, in milliseconds; the process ends without it otherwise.
const STOP_TIMEOUT_MS: u64 = 700;

/// The longest answer that is read, in bytes; it is `OK` and a few words.
const ANSWER_BYTES_MAX: usize = 1_024;

/// The sink's name in faults and subjects.
pub const SINK: &str = "healthchecks";

/// The stages as they are now.
pub trait StageSource: Send + Sync + 'static {
    fn stages(&self) -> Vec<Stage>;
}

impl<F: Fn() -> Vec<Stage> + Send + Sync + 'static> StageSource for F {
    fn stages(&self) -> Vec<Stage> {
        self()
    }
}

/// Pings until it is cancelled. `outlet` records a server that takes no pings; `progress` shows whether pings are recorded
/// and is not among `stages`.
pub async fn run(
    stages: Arc<dyn StageSource>,
    config: watch::Receiver<Arc<HealthchecksConfig>>,
    outlet: OutletContext,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), SinkError> {
    run_timed(stages, config, outlet, progress, cancel, Timing::default()).await
}

/// The same under other figures; for tests.
pub async fn run_timed(
    stages: Arc<dyn StageSource>,
    mut config: watch::Receiver<Arc<HealthchecksConfig>>,
    outlet: OutletContext,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    timing: Timing,
) -> Result<(), SinkError> {
    let first = config.borrow_and_update().clone();
    let mut pinger = Pinger::new(stages, first, Outlet::new(outlet), progress, timing)?;
    let mut reloads = true;
    while !cancel.is_cancelled() {
        let next_look = tokio::select! {
            () = cancel.cancelled() => break,
            next_look = pinger.look() => next_look,
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            changed = config.changed(), if reloads => match changed {
                Ok(()) => pinger.reconfigure(config.borrow_and_update().clone()),
                Err(_) => reloads = false,
            },
            () = tokio::time::sleep_until(next_look) => {}
        }
    }
    pinger.say_goodbye().await;
    Ok(())
}

struct Pinger {
    stages: Arc<dyn StageSource>,
    config: Arc<HealthchecksConfig>,
    outlet: Outlet,
    progress: Arc<Progress>,
    client: reqwest::Client,
    schedule: Schedule,
    started: Instant,
    body_bytes_max: usize,
    /// Makes the runs of this process distinct from those of others.
    seed: u64,
    recorded: u64,
    refusal_told: Option<String>,
}

impl Pinger {
    fn new(
        stages: Arc<dyn StageSource>,
        config: Arc<HealthchecksConfig>,
        outlet: Outlet,
        progress: Arc<Progress>,
        timing: Timing,
    ) -> Result<Pinger, SinkError> {
        let client = reqwest::Client::builder()
            .timeout(timing.attempt_timeout)
            // A redirected POST would become a GET, which a check may ignore with 200.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("Watchfold/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SinkError::Client(error.without_url().to_string()))?;
        let schedule = Schedule::new(config.period, timing);
        Ok(Pinger {
            stages,
            config,
            outlet,
            progress,
            client,
            schedule,
            started: Instant::now(),
            body_bytes_max: BODY_BYTES_DEFAULT,
            // The standard library seeds its hashers at random; a run's id needs no more than being distinct.
            seed: std::hash::RandomState::new().build_hasher().finish(),
            recorded: 0,
            refusal_told: None,
        })
    }

    fn reconfigure(&mut self, config: Arc<HealthchecksConfig>) {
        if config == self.config {
            return;
        }
        self.schedule.reconfigure(config.period);
        self.body_bytes_max = BODY_BYTES_DEFAULT;
        self.refusal_told = None;
        if config.url != self.config.url {
            self.outlet.renew();
        }
        self.config = config;
    }

    /// Sends what is due, if anything, and says when to look again.
    async fn look(&mut self) -> Instant {
        let began = self.started.elapsed();
        let stages = self.stages.stages();
        let verdict = judge(&stages, began);
        let wanted = match verdict {
            Verdict::Advancing => Some(Kind::Success),
            Verdict::Stalled(_) | Verdict::Blind => Some(Kind::Fail),
            Verdict::Starting => None,
        };
        if let Some(ping) = self.schedule.due(began, wanted) {
            let text = body(ping.kind, &self.config.site, &stages, &verdict, began);
            let answer = self.attempt(&ping, &text).await;
            if self.schedule.answered(began, self.started.elapsed(), &answer) {
                tracing::warn!(kind = ?ping.kind, "a ping of healthchecks is given up after its repetitions");
            }
        } else if self.recorded > 0 {
            // Nothing is due, and that is how it should be between two pings.
            self.progress.advance(self.recorded, self.recorded);
        }
        self.outlet.report();
        self.started + self.schedule.next_look(self.started.elapsed())
    }

    async fn attempt(&mut self, ping: &Ping, text: &str) -> Answer {
        let Some(url) = address(&self.config.url, ping.kind, &self.run_id(ping.run)) else {
            return self.refused("the configured url is not an address".to_owned());
        };
        let body = cut(text, self.body_bytes_max).to_owned();
        let response = match self.client.post(url).body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return self.failed(Answer::Unreached, "no connection"),
            Err(error) if error.is_timeout() => return self.failed(Answer::Unclear, "no answer in time"),
            Err(_) => return self.failed(Answer::Unclear, "the connection broke before an answer"),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        if let Some(limit) = number("ping-body-limit") {
            self.body_bytes_max = usize::try_from(limit).unwrap_or(usize::MAX);
        }
        let said = read_answer(response).await;
        match status.as_u16() {
            200..=299 => self.accepted(said.as_deref()),
            429 => {
                let asked = number("retry-after").map(Duration::from_secs);
                self.failed(Answer::Wait(asked), "429: pings come too fast for this check")
            }
            408 | 425 | 500..=599 => self.failed(
                Answer::Unclear,
                &format!("the server answers {}", status.as_u16()),
            ),
            _ => {
                let detail = refusal(status, said.as_deref().unwrap_or_default());
                self.refused(scrub(&detail, &self.config.url))
            }
        }
    }

    /// The hosted service answers 200 with a remark where a ping by UUID was not recorded.
    fn accepted(&mut self, said: Option<&str>) -> Answer {
        match said {
            // The status came: the ping was taken, whatever became of the rest.
            None => self.recorded(),
            Some(said) if said.contains("not found") => {
                self.refused("no check has this address (200, not found)".to_owned())
            }
            Some(said) if said.contains("rate limited") => self.failed(
                Answer::Wait(None),
                "pings come too fast for this check (200, rate limited)",
            ),
            Some(_) => self.recorded(),
        }
    }

    fn recorded(&mut self) -> Answer {
        self.recorded += 1;
        self.outlet.count(Count::Delivered);
        self.progress.advance(self.recorded, self.recorded);
        self.progress.ok();
        self.outlet.took();
        self.refusal_told = None;
        Answer::Recorded
    }

    fn failed(&mut self, answer: Answer, detail: &str) -> Answer {
        tracing::info!(detail, "a ping of healthchecks failed and is tried again");
        self.progress.fail(detail.to_owned());
        self.outlet.count(Count::Retried);
        self.outlet.failed(Failure::Unavailable, detail.to_owned());
        answer
    }

    fn refused(&mut self, detail: String) -> Answer {
        if self.refusal_told.as_deref() != Some(detail.as_str()) {
            tracing::warn!(
                detail,
                "healthchecks refuses pings; correct sinks.healthchecks.url or the check"
            );
            self.refusal_told = Some(detail.clone());
        }
        self.outlet.count(Count::Rejected);
        self.outlet.failed(Failure::Refused, detail.clone());
        self.progress.fail(detail);
        Answer::Refused
    }

    /// One attempt and no more: the process is ending.
    async fn say_goodbye(&mut self) {
        if self.recorded == 0 {
            return;
        }
        let text = body(
            Kind::Log,
            &self.config.site,
            &[],
            &Verdict::Advancing,
            self.started.elapsed(),
        );
        let ping = Ping {
            kind: Kind::Log,
            run: 0,
        };
        let limit = Duration::from_millis(STOP_TIMEOUT_MS);
        if tokio::time::timeout(limit, self.attempt(&ping, &text))
            .await
            .is_err()
        {
            tracing::info!("healthchecks was not told of the stop: no answer in time");
        }
    }

    fn run_id(&self, run: u64) -> String {
        uuid(self.seed, run)
    }
}

/// A canonical UUID (version 4, variant 1) from a seed and a counter.
fn uuid(seed: u64, run: u64) -> String {
    let high = (seed & !0xf000) | 0x4000;
    let low = (run & (u64::MAX >> 2)) | (1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

fn address(url: &Secret, kind: Kind, run_id: &str) -> Option<Url> {
    let mut url = Url::parse(url.expose()).ok()?;
    let suffix = match kind {
        Kind::Start => Some("start"),
        Kind::Success => None,
        Kind::Fail => Some("fail"),
        Kind::Log => Some("log"),
    };
    let mut segments = url.path_segments_mut().ok()?;
    segments.pop_if_empty();
    if let Some(suffix) = suffix {
        segments.push(suffix);
    }
    drop(segments);
    url.query_pairs_mut().append_pair("rid", run_id);
    Some(url)
}

/// What a refusal means, in words that say what to do.
fn refusal(status: StatusCode, said: &str) -> String {
    let advice = match status.as_u16() {
        404 => "no check has this address; copy it again from the check's page",
        409 => "several checks share this slug; give one of them another, or use the UUID",
        400 => "the server does not take this ping",
        300..=399 => "the address leads elsewhere; give the final one",
        _ => "the server does not take pings at this address",
    };
    let said: String = said
        .chars()
        .filter(|letter| !letter.is_control())
        .take(100)
        .collect();
    if said.is_empty() {
        format!("{}: {advice}", status.as_u16())
    } else {
        format!("{}: {advice} ({said})", status.as_u16())
    }
}

/// Foreign text without the parts of the address that are the secret.
fn scrub(text: &str, url: &Secret) -> String {
    let address = url.expose();
    let mut text = text.replace(address, "(address)");
    let path = address
        .split(['?', '#'])
        .next()
        .unwrap_or(address)
        .splitn(4, '/')
        .nth(3)
        .unwrap_or("");
    for part in path.split('/').filter(|part| part.len() >= 8) {
        text = text.replace(part, "(secret)");
    }
    text
}

/// The beginning of the answer, or `None` where it broke off.
async fn read_answer(mut response: reqwest::Response) -> Option<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= ANSWER_BYTES_MAX {
            bytes.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Some(String::from_utf8_lossy(&bytes).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::is_uuid;

    #[test]
    fn run_ids_are_canonical_and_distinct() {
        assert_eq!(
            uuid(0x0123_4567_89ab_cdef, 1),
            "01234567-89ab-4def-8000-000000000001"
        );
        for run in [0, 1, u64::MAX] {
            assert!(is_uuid(&uuid(u64::MAX, run)));
        }
        assert_ne!(uuid(5, 1), uuid(5, 2));
    }

    #[test]
    fn addresses_keep_their_query() {
        for (url, kind, want) in [
            (
                "https://hc.example/abc",
                Kind::Success,
                "https://hc.example/abc?rid=r",
            ),
            (
                "https://hc.example/abc/",
                Kind::Fail,
                "https://hc.example/abc/fail?rid=r",
            ),
            (
                "https://hc.example/key/slug?create=1",
                Kind::Start,
                "https://hc.example/key/slug/start?create=1&rid=r",
            ),
        ] {
            assert_eq!(address(&Secret::new(url), kind, "r").unwrap().as_str(), want);
        }
    }

    #[test]
    fn a_server_that_repeats_the_secret_does_not_spread_it() {
        let url = Secret::new("https://hc.example/fqOOd6-F4MMNuCEnzTU01w/slug");
        let got = scrub(
            "no /fqOOd6-F4MMNuCEnzTU01w/slug at https://hc.example/fqOOd6-F4MMNuCEnzTU01w/slug",
            &url,
        );
        assert_eq!(got, "no /(secret)/slug at (address)");
    }
}
