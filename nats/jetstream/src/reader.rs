//! Reads one stream in order over a consumer of its own that keeps no state worth keeping: whenever it stalls, skips or
//! vanishes, another is made at the place reached. Acknowledges nothing, and judges no payload.
//!
//! What tells that nothing more is there is never the consumer, which may lag behind the stream, but the stream's leader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use async_nats::{Message, StatusCode};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use watchfold_log::{Batch, LogError, LogReader, LostRange, Record, Start};
use watchfold_schemas::Stream;

use crate::feed::{Feed, first_at};
use crate::log::{Shared, filter_in};
use crate::record;
use crate::streams;

/// Without any word for this long the consumer is taken for lost: two heartbeats and a slow network.
const STALLED_AFTER: Duration = Duration::from_secs(12);
/// The first wait before another consumer is made in a row, doubled up to the longest.
const REBUILD_MIN: Duration = Duration::from_millis(20);
const REBUILD_MAX: Duration = Duration::from_secs(2);
/// How long a stream that ends before what was read from it is asked again: a new leader may still be catching up.
const TAIL_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Reader {
    shared: Arc<Shared>,
    stream: Stream,
    filter: String,
    /// [`streams::log_id`] at the time of opening.
    log_id: String,
    /// Everything before this was handed out, is in `found`, or does not match.
    next: u64,
    /// The last sequence that is known to have been there.
    last_sequence: u64,
    found: VecDeque<Found>,
    feed: Option<Feed>,
    rebuilds: u32,
    /// The broker is away, and that has been told.
    away: bool,
    connects: watch::Receiver<u64>,
}

enum Found {
    Record(Record),
    Lost(LostRange),
    /// Passed over between two records: does not match, or was gone. Only the stream knows.
    Gap(LostRange),
}

/// What to do after a message.
enum Then {
    GoOn,
    Rebuild(&'static str),
    /// A pull has ended without anything more to say.
    PullEnded,
}

impl Reader {
    pub(crate) async fn open(
        shared: Arc<Shared>,
        stream: Stream,
        filter: String,
        start: Start,
    ) -> Result<Reader, LogError> {
        let connects = shared.link.connects();
        let info = shared.info(stream).await?;
        let glance = streams::glance(&info);
        let next = match start {
            Start::First => glance.first_sequence,
            Start::New => glance.last_sequence + 1,
            Start::Sequence(sequence) => sequence.max(1),
            Start::StoredAt(time) => {
                let from = &*shared;
                from.link
                    .patiently(|client| async move { first_at(from, &client, stream, time).await })
                    .await?
            }
        };
        Ok(Reader {
            stream,
            filter,
            log_id: streams::log_id(&info),
            next,
            last_sequence: info.state.last_sequence,
            found: VecDeque::new(),
            feed: None,
            rebuilds: 0,
            away: false,
            connects,
            shared,
        })
    }

    /// What is found and settled, at most `max` records.
    fn take(&mut self, max: usize) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.records.len() < max.max(1) {
            match self.found.pop_front() {
                Some(Found::Record(record)) => batch.records.push(record),
                Some(Found::Lost(lost)) if batch.records.is_empty() && batch.lost.is_none() => {
                    batch.lost = Some(lost)
                }
                Some(other) => {
                    self.found.push_front(other);
                    break;
                }
                None => break,
            }
        }
        batch.last_sequence = self.last_sequence;
        (!batch.records.is_empty() || batch.lost.is_some()).then_some(batch)
    }

    async fn read(&mut self, max: usize) -> Result<Batch, LogError> {
        loop {
            self.settle().await?;
            if let Some(batch) = self.take(max) {
                return Ok(batch);
            }
            self.fill().await?;
        }
    }

    async fn try_read(&mut self, max: usize) -> Result<Batch, LogError> {
        self.drain();
        let mut stalled = false;
        loop {
            self.settle().await?;
            if let Some(batch) = self.take(max) {
                return Ok(batch);
            }
            if !self.anything_more().await? {
                return Ok(Batch {
                    last_sequence: self.last_sequence,
                    ..Batch::default()
                });
            }
            let give_up = Instant::now() + self.shared.link.options.deadline;
            while self.found.is_empty() {
                match timeout_at(give_up, self.fill()).await {
                    Ok(filled) => filled?,
                    // It may be gone since; then nothing more is there, and the leader says so.
                    Err(_) if !stalled => break,
                    Err(_) => return Err(self.stalled()),
                }
            }
            if self.found.is_empty() {
                stalled = true;
                self.rebuild("it does not deliver what is there");
            }
        }
    }

    fn stalled(&mut self) -> LogError {
        self.rebuild("it does not deliver what is there");
        LogError::Unreachable {
            place: self.shared.link.place().to_owned(),
            reason: format!("{} has more and does not deliver it", self.stream.name()),
            remedy: "see the log of the server; this goes on by itself once it delivers".to_owned(),
        }
    }

    /// Asks the stream's leader whether there is anything more for us, now. Tells of what is gone.
    async fn anything_more(&mut self) -> Result<bool, LogError> {
        let info = self.look().await?;
        self.pass_lost(&info);
        if !self.found.is_empty() {
            return Ok(true);
        }
        let last = info.state.last_sequence;
        if self.next > last {
            return Ok(false);
        }
        if self.is_match_next().await? {
            return Ok(true);
        }
        self.next = self.next.max(last + 1);
        Ok(false)
    }

    /// Whether a record that matches stands at [`Reader::next`] or after it.
    async fn is_match_next(&self) -> Result<bool, LogError> {
        let which = json!({ "seq": self.next, "next_by_subj": self.filter });
        let found = self.shared.find(self.stream, &which).await?;
        Ok(found.is_some())
    }

    /// What the stream is like now. An error when it is not the one that was read before.
    async fn look(&mut self) -> Result<Info, LogError> {
        let since = Instant::now();
        loop {
            let info = self.shared.info(self.stream).await?;
            let same = streams::log_id(&info) == self.log_id;
            if same && info.state.last_sequence >= self.last_sequence {
                self.last_sequence = info.state.last_sequence;
                return Ok(info);
            }
            if !same || since.elapsed() >= TAIL_PATIENCE {
                let what = if same { "lost its tail" } else { "was made anew" };
                return Err(LogError::Stopped(format!(
                    "{} on {} {what}: it ends at {} where {} was known",
                    self.stream.name(),
                    self.shared.link.place(),
                    info.state.last_sequence,
                    self.last_sequence
                )));
            }
            sleep(REBUILD_MAX / 8).await;
        }
    }

    /// Notes what retention took before it was read.
    fn pass_lost(&mut self, info: &Info) {
        let first = streams::glance(info).first_sequence;
        if self.next < first {
            self.found.push_back(Found::Lost(LostRange {
                from: self.next,
                to: first - 1,
            }));
            self.next = first;
            self.feed = None;
        }
    }

    /// Finds out what the gaps between records are. It may take for lost what did not match and is gone since: told too
    /// often rather than not at all.
    async fn settle(&mut self) -> Result<(), LogError> {
        let is_gap = |found: &Found| matches!(found, Found::Gap(_));
        if !self.found.iter().any(is_gap) {
            return Ok(());
        }
        let first = if self.sees_all() {
            u64::MAX
        } else {
            let info = self.look().await?;
            streams::glance(&info).first_sequence
        };
        let found = std::mem::take(&mut self.found);
        self.found = found
            .into_iter()
            .filter_map(|found| match found {
                Found::Gap(gap) if gap.from >= first => None,
                Found::Gap(gap) => Some(Found::Lost(LostRange {
                    from: gap.from,
                    to: gap.to.min(first - 1),
                })),
                other => Some(other),
            })
            .collect();
        Ok(())
    }

    fn sees_all(&self) -> bool {
        self.filter == filter_in(self.stream, ">")
    }

    /// Waits for more, in a way that may be dropped at any time. Returns after anything happened.
    async fn fill(&mut self) -> Result<(), LogError> {
        if self.feed.is_none() {
            return self.build().await;
        }
        if self.connects.has_changed().unwrap_or(false) {
            self.connects.mark_unchanged();
            self.rebuild("the connection was made anew");
            return Ok(());
        }
        let Some(feed) = self.feed.as_mut() else {
            return Ok(());
        };
        if !feed.pulling {
            let client = self.shared.link.connected().await;
            let limit = self.shared.link.payload_max().unwrap_or(0);
            feed.pull(&client, limit).await;
        }
        let message = tokio::select! {
            message = timeout_at(feed.heard + STALLED_AFTER, feed.messages.next()) => message,
            _ = self.connects.changed() => {
                self.rebuild("the connection was made anew");
                return Ok(());
            }
        };
        match message {
            Ok(Some(message)) => {
                let then = self.handle(message);
                if self.act(then) {
                    return self.idle().await;
                }
                self.drain();
            }
            Ok(None) => self.rebuild("its inbox was closed"),
            Err(_) => self.rebuild("no word from it"),
        }
        Ok(())
    }

    /// Takes what has arrived, without waiting.
    fn drain(&mut self) {
        while let Some(feed) = self.feed.as_mut() {
            let Some(Some(message)) = feed.messages.next().now_or_never() else {
                return;
            };
            let then = self.handle(message);
            if self.act(then) {
                return;
            }
        }
    }

    /// Whether a pull has ended.
    fn act(&mut self, then: Then) -> bool {
        match then {
            Then::GoOn => false,
            Then::Rebuild(why) => {
                self.rebuild(why);
                false
            }
            Then::PullEnded => {
                if let Some(feed) = self.feed.as_mut() {
                    feed.pulling = false;
                }
                true
            }
        }
    }

    fn handle(&mut self, message: Message) -> Then {
        if let Some(feed) = self.feed.as_mut() {
            feed.heard = Instant::now();
        }
        match message.status {
            None | Some(StatusCode::OK) => self.delivered(message),
            Some(StatusCode::IDLE_HEARTBEAT) => Then::GoOn,
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Then::PullEnded,
            Some(StatusCode::REQUEST_TERMINATED) => {
                let why = message.description.unwrap_or_default().to_lowercase();
                if why.contains("maxbytes") || why.contains("batch completed") {
                    Then::PullEnded
                } else {
                    Then::Rebuild("the server ended it")
                }
            }
            Some(_) => Then::Rebuild("it is gone"),
        }
    }

    fn delivered(&mut self, message: Message) -> Then {
        let sees_all = self.sees_all();
        let Some(feed) = self.feed.as_mut() else {
            return Then::GoOn;
        };
        let Some(delivered) = record::of_delivered(self.stream, message) else {
            return Then::Rebuild("it delivered what cannot be read");
        };
        if delivered.consumer_sequence != feed.delivered + 1 {
            return Then::Rebuild("it skipped a message");
        }
        feed.delivered += 1;
        self.rebuilds = 0;
        let record = delivered.record;
        if record.sequence < self.next {
            return Then::GoOn;
        }
        if record.sequence > self.next {
            self.found.push_back(Found::Gap(LostRange {
                from: self.next,
                to: record.sequence - 1,
            }));
        }
        self.next = record.sequence + 1;
        self.last_sequence = self.last_sequence.max(record.sequence);
        if sees_all {
            self.last_sequence = self.last_sequence.max(record.sequence + delivered.pending);
        }
        self.found.push_back(Found::Record(record));
        feed.asked = feed.asked.saturating_sub(1);
        if feed.asked == 0 {
            // The server says nothing at the end of a pull that it filled.
            feed.pulling = false;
        }
        Then::GoOn
    }

    /// A pull ended with nothing: an idle reader goes along with the stream, so that what retention takes behind it
    /// is not taken for lost; and a consumer that missed something is replaced.
    async fn idle(&mut self) -> Result<(), LogError> {
        if !self.found.is_empty() {
            return Ok(());
        }
        if self.anything_more().await? && self.found.is_empty() && self.feed.is_some() {
            self.drain();
            if self.found.is_empty() {
                self.rebuild("it does not deliver what is there");
            }
        }
        Ok(())
    }

    fn rebuild(&mut self, why: &'static str) {
        tracing::debug!(
            stream = self.stream.name(),
            filter = self.filter,
            next = self.next,
            why,
            "making another consumer"
        );
        self.feed = None;
    }

    /// Makes a consumer at [`Reader::next`].
    async fn build(&mut self) -> Result<(), LogError> {
        if self.rebuilds > 0 {
            let wait = REBUILD_MIN
                .saturating_mul(1 << self.rebuilds.min(10))
                .min(REBUILD_MAX);
            sleep(wait).await;
        }
        self.rebuilds = self.rebuilds.saturating_add(1);
        self.connects.mark_unchanged();
        let info = self.look().await?;
        self.pass_lost(&info);
        let filter = if self.sees_all() { "" } else { self.filter.as_str() };
        let (shared, stream, next) = (&self.shared, self.stream, self.next);
        let feed = shared
            .link
            .patiently(|client| async move { Feed::make(shared, &client, stream, filter, next).await })
            .await?;
        self.feed = Some(feed);
        Ok(())
    }
}

impl LogReader for Reader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            loop {
                match self.read(max).await {
                    // Whoever waits for the next record waits out a broker that is away, too.
                    Err(error @ LogError::Unreachable { .. }) => {
                        if !self.away {
                            tracing::warn!(stream = self.stream.name(), %error, "waiting for the broker to read on");
                        }
                        self.away = true;
                    }
                    outcome => {
                        self.away = false;
                        return outcome;
                    }
                }
            }
        }
        .boxed()
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        self.try_read(max).boxed()
    }
}
