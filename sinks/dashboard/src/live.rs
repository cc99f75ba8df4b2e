//! One encoder, many viewers: the shared projection, the deltas made from it, and how a viewer joins.
//!
//! A delta is encoded once and shared by all viewers. Each viewer reads from one bounded ring at its own pace; one that
//! falls behind the ring starts again from a whole state. It opens no sockets and reads no log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;
use watchfold_schemas::Time;

use crate::frames::Frame;
use crate::freshness::{DataAge, Freshness};
use crate::projection::Projection;
use crate::projection::shapes::{Change, Folded, Position, Stage};

/// Messages that a viewer may be behind before it starts again from a whole state.
pub const VIEWER_QUEUE_MAX: usize = 256;
/// Deltas kept for viewers that come back, by number …
pub const RESUME_DELTAS_MAX: usize = 1_024;
/// … and by bytes.
pub const RESUME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A whole state is encoded again when the deltas since the last one take more than this part of it. Between, all who join share one, so
/// that many who come at once, or read slowly, do not each hold their own.
const SNAPSHOT_DELTAS_SHARE: usize = 2;

/// What stays the same while the server runs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub site: String,
    pub software: String,
    pub read_only: bool,
    /// Whether incidents and sessions can be explained.
    pub explains: bool,
    /// Whether the packets of alerts can be had.
    pub packets: bool,
}

pub struct Live {
    identity: Identity,
    freshness: Arc<Freshness>,
    inner: Mutex<Inner>,
    sender: broadcast::Sender<Frame>,
    /// Viewers that fell behind and were given a whole state again.
    pub resyncs: AtomicU64,
    /// Viewers that were disconnected because they read nothing.
    pub unread: AtomicU64,
    /// Viewers that found no place.
    pub turned_away: AtomicU64,
    pub deltas: AtomicU64,
    pub snapshots: AtomicU64,
    pub resumes: AtomicU64,
}

struct Inner {
    projection: Projection,
    /// What the log held when catching up with it began, until that is done: nothing else is told before.
    catching_up: Option<Position>,
    stages: Vec<Stage>,
    /// Where viewers stand who got everything sent so far.
    told: Position,
    /// Deltas for those who come back, each with the place that it leads to.
    recent: VecDeque<(Position, Frame)>,
    recent_bytes: usize,
    /// Where the first of `recent` begins.
    recent_from: Position,
    /// Deltas made since the last viewer left. Beyond [`RESUME_DELTAS_MAX`] none could go on from here, so none is made.
    unwatched: usize,
    /// The whole state at a place on the way to `told`, once somebody asked for it.
    snapshot: Option<(Position, Frame)>,
}

impl Inner {
    /// Whoever comes back from before gets a whole state.
    fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
        self.recent_from = self.told;
    }

    /// The deltas after `after`, where `after` is a place on the way that led here and all of them are kept.
    fn deltas_after(&self, after: Position) -> Option<Vec<Frame>> {
        if !self.recent_from.within(after) || !after.within(self.told) {
            return None;
        }
        let known = self
            .recent
            .iter()
            .take_while(|(position, _)| position.within(after))
            .count();
        let missed = self.recent.iter().skip(known);
        if missed.clone().any(|(position, _)| !after.within(*position)) {
            return None;
        }
        Some(missed.map(|(_, frame)| frame.clone()).collect())
    }
}

/// A viewer's first messages, and where the next ones come from.
pub struct Joined {
    pub first: Vec<Frame>,
    pub next: broadcast::Receiver<Frame>,
}

/// The whole state as it is sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct State<'a> {
    site: &'a str,
    software: &'a str,
    read_only: bool,
    explains: bool,
    packets: bool,
    #[serde(flatten)]
    folded: Folded,
    stages: &'a [Stage],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "StreamMessage"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message<'a> {
    CatchingUp {
        position: Position,
        head: Position,
        #[serde(skip_serializing_if = "Option::is_none")]
        stale: Option<String>,
    },
    Snapshot {
        position: Position,
        state: Box<State<'a>>,
    },
    Resumed {
        position: Position,
        now: Time,
    },
    Delta {
        position: Position,
        now: Time,
        changes: &'a [Change],
    },
    Beat {
        position: Position,
        now: Time,
        data: DataAge,
    },
}

impl Live {
    pub fn new(identity: Identity, freshness: Arc<Freshness>) -> Live {
        Live {
            identity,
            freshness,
            inner: Mutex::new(Inner {
                projection: Projection::default(),
                catching_up: Some(Position::default()),
                stages: Vec::new(),
                told: Position::default(),
                recent: VecDeque::new(),
                recent_bytes: 0,
                recent_from: Position::default(),
                unwatched: RESUME_DELTAS_MAX,
                snapshot: None,
            }),
            sender: broadcast::Sender::new(VIEWER_QUEUE_MAX),
            resyncs: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            deltas: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Those who follow right now.
    pub fn viewers(&self) -> usize {
        self.sender.receiver_count()
    }

    pub fn read<R>(&self, read: impl FnOnce(&Projection) -> R) -> R {
        read(&self.inner().projection)
    }

    /// Changes the projection; [`Live::flush`] tells the viewers.
    pub fn fold<R>(&self, fold: impl FnOnce(&mut Projection) -> R) -> R {
        fold(&mut self.inner().projection)
    }

    /// Starts anew from `projection`, which is older than the log, whose end is `head`: until [`Live::begin`] it is shown to nobody.
    pub fn reset(&self, projection: Projection, head: Position) {
        let mut inner = self.inner();
        inner.projection = projection;
        inner.projection.forget_changes();
        inner.told = inner.projection.position();
        inner.forget_recent();
        inner.catching_up = Some(head);
        self.send_catching_up(&inner);
    }

    /// Tells those who wait how far it is.
    pub fn tell_catching_up(&self) {
        self.send_catching_up(&self.inner());
    }

    /// Ends catching up: what was folded so far is told to nobody as a change, and who is there gets a whole state.
    pub fn begin(&self) {
        let mut inner = self.inner();
        inner.catching_up = None;
        inner.projection.forget_changes();
        self.restart(&mut inner);
    }

    /// How far catching up with the log is, and where that ends; `None` once it is done.
    pub fn catching_up(&self) -> Option<(Position, Position)> {
        let inner = self.inner();
        Some((inner.projection.position(), inner.catching_up?))
    }

    /// The whole state as JSON.
    pub fn state_json(&self) -> Result<String, serde_json::Error> {
        let inner = self.inner();
        serde_json::to_string(&self.state(&inner))
    }

    /// Tells viewers what changed since the last call.
    pub fn flush(&self) {
        self.flush_inner(&mut self.inner());
    }

    /// Tells viewers how the stages advance. Not kept for those who come back: it is told again soon.
    pub fn tell_stages(&self, stages: Vec<Stage>) {
        let mut inner = self.inner();
        inner.stages = stages;
        inner.snapshot = None;
        if self.viewers() > 0 && inner.catching_up.is_none() {
            self.flush_inner(&mut inner);
            let now = inner.projection.now();
            let changes = [Change::Stages(inner.stages.clone())];
            self.send(&Message::Delta {
                position: inner.told,
                now,
                changes: &changes,
            });
        }
    }

    /// A sign of life with the place that viewers are at.
    pub fn beat(&self) {
        let mut inner = self.inner();
        self.flush_inner(&mut inner);
        self.send(&self.beat_message(&inner));
    }

    /// What one who joins has to hear at once: that what it was given is not the present. `None` while it is.
    pub fn stale_beat(&self) -> Option<Frame> {
        let inner = self.inner();
        self.freshness.data_age().stale?;
        match inner.catching_up {
            Some(_) => None,
            None => self.encode(&self.beat_message(&inner)),
        }
    }

    fn beat_message(&self, inner: &Inner) -> Message<'static> {
        Message::Beat {
            position: inner.told,
            now: inner.projection.now(),
            data: self.freshness.data_age(),
        }
    }

    /// Joins a viewer, after `after` if the deltas since then are still there.
    pub fn join(&self, after: Option<Position>) -> Joined {
        let mut inner = self.inner();
        if inner.catching_up.is_some() {
            let first = self.catching_up_message(&inner).into_iter().collect();
            let next = self.sender.subscribe();
            return Joined { first, next };
        }
        // What the snapshot holds must not be told again as a delta: samples would come twice.
        self.flush_inner(&mut inner);
        let next = self.sender.subscribe();
        let first = match after.and_then(|after| self.resume(&inner, after)) {
            Some(messages) => {
                self.resumes.fetch_add(1, Ordering::Relaxed);
                messages
            }
            None => {
                self.snapshots.fetch_add(1, Ordering::Relaxed);
                self.whole(&mut inner)
            }
        };
        Joined { first, next }
    }

    fn send_catching_up(&self, inner: &Inner) {
        if self.viewers() > 0
            && let Some(text) = self.catching_up_message(inner)
        {
            let _ = self.sender.send(text);
        }
    }

    fn catching_up_message(&self, inner: &Inner) -> Option<Frame> {
        let position = inner.projection.position();
        let head = inner.catching_up?;
        let stale = self.freshness.data_age().stale;
        self.encode(&Message::CatchingUp {
            position,
            head,
            stale,
        })
    }

    fn flush_inner(&self, inner: &mut Inner) {
        let position = inner.projection.position();
        if !inner.projection.has_changes() {
            inner.told = position;
            return;
        }
        inner.told = position;
        inner.unwatched = if self.viewers() > 0 {
            0
        } else {
            inner.unwatched.saturating_add(1)
        };
        if inner.unwatched > RESUME_DELTAS_MAX {
            inner.projection.forget_changes();
            inner.forget_recent();
            inner.snapshot = None;
            return;
        }
        let changes = inner.projection.take_changes();
        if changes.restart {
            self.restart(inner);
            return;
        }
        let now = inner.projection.now();
        let Some(text) = self.encode(&Message::Delta {
            position,
            now,
            changes: &changes.list,
        }) else {
            return;
        };
        self.deltas.fetch_add(1, Ordering::Relaxed);
        inner.recent_bytes += text.len();
        inner.recent.push_back((position, text.clone()));
        while inner.recent.len() > RESUME_DELTAS_MAX || inner.recent_bytes > RESUME_BYTES_MAX {
            let Some((dropped_to, dropped)) = inner.recent.pop_front() else {
                break;
            };
            inner.recent_bytes -= dropped.len();
            inner.recent_from = dropped_to;
        }
        // No receivers is no error: nobody watches.
        let _ = self.sender.send(text);
    }

    fn restart(&self, inner: &mut Inner) {
        inner.told = inner.projection.position();
        inner.forget_recent();
        inner.snapshot = None;
        if self.viewers() > 0 {
            for frame in self.whole(inner) {
                let _ = self.sender.send(frame);
            }
        }
    }

    /// The deltas after `after`, where `after` is a place on the way that led here.
    fn resume(&self, inner: &Inner, after: Position) -> Option<Vec<Frame>> {
        let missed = inner.deltas_after(after)?;
        let position = after;
        let resumed = self.encode(&Message::Resumed {
            position,
            now: inner.projection.now(),
        })?;
        Some(std::iter::once(resumed).chain(missed).collect())
    }

    /// The whole state: one that was encoded before and the deltas since then, or a new one where these take too much.
    fn whole(&self, inner: &mut Inner) -> Vec<Frame> {
        if let Some((position, snapshot)) = &inner.snapshot
            && let Some(deltas) = inner.deltas_after(*position)
            && deltas.iter().map(Frame::len).sum::<usize>() <= snapshot.len() / SNAPSHOT_DELTAS_SHARE
        {
            return std::iter::once(snapshot.clone()).chain(deltas).collect();
        }
        let message = Message::Snapshot {
            position: inner.told,
            state: Box::new(self.state(inner)),
        };
        let snapshot = self.encode(&message);
        inner.snapshot = snapshot.clone().map(|snapshot| (inner.told, snapshot));
        snapshot.into_iter().collect()
    }

    fn state<'a>(&'a self, inner: &'a Inner) -> State<'a> {
        State {
            site: &self.identity.site,
            software: &self.identity.software,
            read_only: self.identity.read_only,
            explains: self.identity.explains,
            packets: self.identity.packets,
            folded: inner.projection.folded(),
            stages: &inner.stages,
        }
    }

    fn send(&self, message: &Message<'_>) {
        if let Some(text) = self.encode(message) {
            // No receivers is no error: nobody watches.
            let _ = self.sender.send(text);
        }
    }

    fn encode(&self, message: &Message<'_>) -> Option<Frame> {
        match Frame::json(message) {
            Ok(frame) => Some(frame),
            Err(error) => {
                tracing::error!(%error, "a message to viewers could not be encoded; please report this");
                None
            }
        }
    }

    /// A panic elsewhere leaves whole values behind: every fold of one record is applied before anything can fail.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::event::{EVENT_VERSION, Place, Silence};
    use watchfold_schemas::origin::{Cause, EventId, MessageId};
    use watchfold_schemas::{Chain, Event, EventBody};

    use super::*;

    fn live() -> Live {
        let live = Live::new(
            Identity {
                site: "cafe".into(),
                software: "test".into(),
                read_only: false,
                explains: false,
                packets: false,
            },
            Freshness::new(None),
        );
        live.begin();
        live
    }

    /// Folds one event at `sequence` and tells it.
    fn happen(live: &Live, sequence: u64) {
        let silence = Silence {
            id: format!("maintenance:{sequence}"),
            subjects: Vec::new(),
            from: Time(0),
            until: Time(1),
            who: "owner".into(),
            active: true,
        };
        let event = Event {
            v: EVENT_VERSION,
            id: EventId(format!("{sequence:032x}")),
            site: "cafe".into(),
            chain: Chain::Site,
            at: Time(sequence as i64),
            key: silence.id.clone(),
            cause: Cause::Message(MessageId("cafe/operator/1/1".into())),
            n: 0,
            place: Place {
                input: sequence,
                index: 0,
            },
            causes: Default::default(),
            body: EventBody::SilenceChanged(silence),
        };
        live.fold(|projection| projection.apply_event(sequence, &event));
        live.flush();
    }

    /// The types of the first messages of one who comes back from `events`.
    fn back_from(live: &Live, events: u64) -> Vec<String> {
        let joined = live.join(Some(Position {
            events,
            observations: 0,
        }));
        let parsed = joined
            .first
            .iter()
            .map(|text| serde_json::from_str::<serde_json::Value>(text.text()).unwrap());
        parsed
            .map(|message| message["type"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn nothing_is_kept_for_nobody_and_enough_for_those_who_come_back() {
        let live = live();
        happen(&live, 1);
        assert_eq!(live.deltas.load(Ordering::Relaxed), 0, "nobody ever watched");
        let viewer = live.join(None);
        happen(&live, 2);
        drop(viewer);
        for sequence in 3..=RESUME_DELTAS_MAX as u64 {
            happen(&live, sequence);
        }
        let last = RESUME_DELTAS_MAX as u64;
        assert_eq!(back_from(&live, 0), ["snapshot"]);
        assert_eq!(
            back_from(&live, 1).len(),
            RESUME_DELTAS_MAX,
            "resumed, and all but the first delta"
        );
        assert_eq!(back_from(&live, last - 1), ["resumed", "delta"]);
        assert_eq!(back_from(&live, last), ["resumed"]);
        assert_eq!(back_from(&live, last + 1), ["snapshot"]);
        for sequence in last + 1..=3 * last {
            happen(&live, sequence);
        }
        assert_eq!(live.inner().recent.len(), 0, "nobody came back in time");
        assert_eq!(back_from(&live, last), ["snapshot"]);
        assert_eq!(back_from(&live, 3 * last), ["resumed"]);
    }

    #[test]
    fn nothing_old_is_told_while_catching_up() {
        let live = live();
        let head = Position {
            events: 9,
            observations: 0,
        };
        live.reset(Projection::default(), head);
        assert_eq!(live.catching_up(), Some((Position::default(), head)));
        let mut early = live.join(None);
        assert_eq!(early.first[0].text(), catching_up(0));
        live.fold(|projection| projection.skip_event(4));
        live.tell_catching_up();
        assert_eq!(early.next.try_recv().unwrap().text(), catching_up(4));
        live.begin();
        assert_eq!(live.catching_up(), None);
        let whole = early.next.try_recv().unwrap();
        assert!(whole.text().starts_with("{\"type\":\"snapshot\""));
        assert!(early.next.try_recv().is_err(), "once");
    }

    fn catching_up(events: u64) -> String {
        format!(
            "{{\"type\":\"catching_up\",\"position\":{{\"events\":{events},\"observations\":0}},\"head\":{{\"events\":9,\"observations\":0}}}}"
        )
    }

    #[tokio::test]
    async fn one_who_falls_behind_is_told_so() {
        let live = live();
        let mut slow = live.join(None);
        for sequence in 1..=VIEWER_QUEUE_MAX as u64 + 1 {
            happen(&live, sequence);
        }
        let lagged = slow.next.recv().await;
        assert!(
            matches!(lagged, Err(broadcast::error::RecvError::Lagged(1))),
            "{lagged:?}"
        );
    }
}
