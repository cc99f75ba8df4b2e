//! Writes the café's days and packets into the log: up to an hour as fast as it goes, then at a chosen speed.
//!
//! The log stamps what it stores with the demo's time, which stands in [`DemoTime`]. Nothing here waits for anything
//! but the log, the chain and the pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::{Append, MessageLog, StoredAtClock};
use watchfold_schemas::{Observation, Span, Stream, Time, codec, subjects};

use super::capture::Capture;
use super::day::Days;

/// Records in one append: a few minutes of the café, some hundred KB.
const APPEND_RECORDS: usize = 1_024;

/// How far the writer may be ahead of the chain. It keeps the page's halves together, and is far less than what
/// retention keeps.
const AHEAD_RECORDS: u64 = 8_192;

/// How often it looks whether the chain has caught up.
const CHAIN_POLL: Duration = Duration::from_millis(5);

/// The page is told in steps of this, so that time on it seems to flow.
const STEP: Duration = Duration::from_millis(100);

/// A step counts as no longer than this: a machine that slept does not make the café jump.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Nothing happens while the café is closed, so nights pass this much faster.
const NIGHT_FASTER: u32 = 20;

/// The demo's present, as the log stamps it.
#[derive(Clone)]
pub struct DemoTime(Arc<AtomicI64>);

impl DemoTime {
    pub fn new(at: Time) -> DemoTime {
        DemoTime(Arc::new(AtomicI64::new(at.0)))
    }

    pub fn clock(&self) -> StoredAtClock {
        let now = self.clone();
        Arc::new(move || now.get())
    }

    pub fn get(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: Time) {
        self.0.fetch_max(at.0, Ordering::Relaxed);
    }
}

/// The writer.
pub struct Feed {
    pub log: Arc<dyn MessageLog>,
    pub days: Days,
    pub time: DemoTime,
    /// How far the chain is.
    pub chain: Arc<Progress>,
    pub progress: Arc<Progress>,
    capture: Option<(Capture, Arc<Progress>)>,
    next: Option<Observation>,
    next_captured: Option<Observation>,
    appended: u64,
    captured: u64,
}

impl Feed {
    pub fn new(
        log: Arc<dyn MessageLog>,
        days: Days,
        time: DemoTime,
        chain: Arc<Progress>,
        progress: Arc<Progress>,
    ) -> Feed {
        Feed {
            log,
            days,
            time,
            chain,
            progress,
            capture: None,
            next: None,
            next_captured: None,
            appended: 0,
            captured: 0,
        }
    }

    /// Packets besides, and how far their chain is.
    pub fn with_packets(self, capture: Capture, chain: Arc<Progress>) -> Feed {
        Feed {
            capture: Some((capture, chain)),
            ..self
        }
    }

    /// Writes everything before `until` as fast as the log and the chain take it.
    pub async fn write_until(&mut self, until: Time) -> anyhow::Result<()> {
        loop {
            let (batch, last) = self.batch(until)?;
            let Some(last) = last else {
                return Ok(());
            };
            self.time.set(last);
            let streams: Vec<Stream> = batch.iter().map(|append| append.stream).collect();
            for (stream, ack) in streams.into_iter().zip(self.log.append(batch).await?) {
                match stream {
                    Stream::Packets => self.captured = ack.sequence,
                    _ => self.appended = ack.sequence,
                }
            }
            self.progress.advance(self.appended, self.appended);
            while self.is_far_ahead() {
                sleep(CHAIN_POLL).await;
            }
        }
    }

    /// Goes on at `speed` until cancelled.
    pub async fn run(mut self, mut now: Time, speed: u32, cancel: CancellationToken) -> anyhow::Result<()> {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = steps.tick() => {}
            }
            let elapsed = before.elapsed().min(STEP_MAX);
            before = Instant::now();
            let faster = if self.days.is_night() { NIGHT_FASTER } else { 1 };
            let passed = elapsed.saturating_mul(speed).saturating_mul(faster);
            now = now + Span::from_nanos(i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX));
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                written = self.write_until(now) => written?,
            }
        }
    }

    /// The last observation written.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The last record of packets written.
    pub fn captured(&self) -> u64 {
        self.captured
    }

    fn is_far_ahead(&self) -> bool {
        let packets = self.capture.as_ref().map(|(_, chain)| chain.snapshot().position);
        self.chain.snapshot().position + AHEAD_RECORDS < self.appended
            || packets.is_some_and(|position| position + AHEAD_RECORDS < self.captured)
    }

    /// The earlier one of what the days and the capture have next.
    fn coming(&mut self) -> Option<Observation> {
        let next = self.next.take().or_else(|| self.days.next());
        let captured = self.next_captured.take().or_else(|| {
            let (capture, _) = self.capture.as_mut()?;
            capture.next()
        });
        match (next, captured) {
            (Some(next), Some(captured)) if captured.observed_at < next.observed_at => {
                self.next = Some(next);
                Some(captured)
            }
            (Some(next), captured) => {
                self.next_captured = captured;
                Some(next)
            }
            (None, captured) => captured,
        }
    }

    fn put_back(&mut self, observation: Observation) {
        match observation.body.stream() {
            Stream::Packets => self.next_captured = Some(observation),
            _ => self.next = Some(observation),
        }
    }

    fn batch(&mut self, until: Time) -> anyhow::Result<(Vec<Append>, Option<Time>)> {
        let (mut batch, mut last) = (Vec::new(), None);
        while batch.len() < APPEND_RECORDS {
            let Some(observation) = self.coming() else {
                break;
            };
            if observation.observed_at >= until {
                self.put_back(observation);
                break;
            }
            last = Some(observation.observed_at);
            batch.push(append_of(&observation)?);
        }
        Ok((batch, last))
    }
}

fn append_of(observation: &Observation) -> Result<Append, codec::CodecError> {
    let (origin, body) = (&observation.origin, &observation.body);
    let stream = body.stream();
    Ok(Append {
        stream,
        subject: subjects::of_observation(stream, &origin.site, body.kind(), &origin.collector),
        id: origin.message_id(),
        payload: codec::encode_observation(observation)?.into(),
    })
}
