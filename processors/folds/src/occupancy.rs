//! Who is here: the confirmed presence of each PC, and its sessions from first to last moment.
//!
//! A PC is present while any signal says so; one missed round is ignored. A changed state holds once it has agreed
//! for `min_session`. While an ancestor is down, or nothing can be measured, states are held and clocks stand still.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::{PcHost, Signal};
use watchfold_schemas::event::{EventBody, OccupancySnapshot, Session, SubjectChanged, SubjectState};
use watchfold_schemas::observation::{Outcome, PC_SUBJECT_PREFIX, PingRowRef};
use watchfold_schemas::{SiteConfig, Span, Time};

use crate::fold::{Board, Ctx, Fold, FoldState, Moment};
use crate::rows::Row;
use crate::table::Table;
use crate::timers::TimerClock;

/// A signal's answer counts for this many intervals and one timeout; then only newer ones do.
const ANSWER_INTERVALS: u64 = 2;

/// The fold.
pub struct Occupancy;

timers! { Occupancy:
    /// A changed state is confirmed.
    Confirm = "confirm",
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pc {
    /// Confirmed.
    present: bool,
    /// A state other than the confirmed one, since its first moment.
    pending: Option<Pending>,
    /// The first of the failed rounds in a row, once there is one.
    missed: Option<Moment>,
    session: Option<OpenSession>,
    collector: String,
    /// The latest answer of each signal.
    answers: BTreeMap<String, Time>,
    frozen: bool,
    /// Since when its clocks stand still.
    paused_since: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    since: Moment,
    paused: Span,
    /// The confirmation is due, and waits for the next round to tell whether the last one was merely lost.
    due: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenSession {
    since: Moment,
    unmeasured: Span,
}

#[derive(Debug)]
pub struct OccupancyState {
    pcs: Table<Pc>,
    /// The name and the key of each configured PC by subject; from the configuration.
    hosts: BTreeMap<String, PcHost>,
    /// Whether the PCs are frozen; derived from them.
    frozen: bool,
}

impl Default for OccupancyState {
    fn default() -> OccupancyState {
        OccupancyState {
            pcs: Table::new("occupancy/pc/"),
            hosts: BTreeMap::new(),
            frozen: false,
        }
    }
}

impl FoldState for OccupancyState {
    stored! { pcs }

    fn rebuild(&mut self, config: &SiteConfig, board: &mut Board) -> Result<(), String> {
        self.follow_config(config, board);
        Ok(())
    }
}

impl Fold for Occupancy {
    const NAME: &'static str = "occupancy";
    const VERSION: u32 = 1;
    type State = OccupancyState;
    type Timer = Timer;

    fn before(state: &mut OccupancyState, ctx: &mut Ctx<'_>) {
        state.follow_blame(ctx);
    }

    fn row(state: &mut OccupancyState, row: &Row<'_>, ctx: &mut Ctx<'_>) {
        if let Some(row) = row.ping()
            && let Some(key) = row.subject.strip_prefix(PC_SUBJECT_PREFIX)
        {
            state.row(key, row, ctx);
        }
    }

    fn timer(state: &mut OccupancyState, timer: Timer, key: &str, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Confirm => state.due(key, ctx),
        }
    }

    fn jump(state: &mut OccupancyState, span: Span, ctx: &mut Ctx<'_>) {
        state.jump(span, ctx);
    }

    fn tick(state: &mut OccupancyState, previous: Option<Time>, ctx: &mut Ctx<'_>) {
        state.tick(previous, ctx);
    }

    fn activated(state: &mut OccupancyState, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        state.activated(previous, ctx);
    }
}

impl OccupancyState {
    fn follow_config(&mut self, config: &SiteConfig, board: &mut Board) {
        self.hosts = config
            .occupancy
            .hosts
            .iter()
            .map(|host| (host.key().to_owned(), host.clone()))
            .collect();
        self.frozen = self.pcs.iter().any(|(_, pc)| pc.frozen);
        self.count(board);
    }

    fn count(&self, board: &mut Board) {
        board.pcs_total = self.hosts.len() as u32;
        board.pcs_present = self
            .hosts
            .keys()
            .filter(|key| self.pcs.get(key).is_some_and(|pc| pc.present))
            .count() as u32;
    }

    fn row(&mut self, key: &str, row: &PingRowRef<'_>, ctx: &mut Ctx<'_>) {
        let moment = ctx.moment;
        // A PC that is known is configured; only others are looked up.
        let pc = match self.pcs.get_mut(key) {
            Some(pc) => pc,
            None if self.hosts.contains_key(key) => self.pcs.entry_or_default(key),
            None => return,
        };
        pc.frozen = self.frozen;
        if let Some(collector) = ctx.collector
            && pc.collector != collector
        {
            collector.clone_into(&mut pc.collector);
        }
        if row.outcome == Outcome::Fault {
            pc.pause(key, moment, ctx);
            return;
        }
        // Another machine may answer under this address.
        let is_foreign = |seen: &str| {
            let host = self.hosts.get(key);
            host.is_some_and(|host| host.mac.as_deref().is_some_and(|mac| mac != seen))
        };
        let answered = row.outcome == Outcome::Ok && !row.mac.is_some_and(is_foreign);
        if answered {
            pc.answered(row.signal, moment.steady);
        } else {
            pc.answers.remove(row.signal.name());
        }
        if pc.frozen {
            return;
        }
        pc.resume(key, moment, ctx);
        if !answered && !pc.answers_still(row.signal, moment, ctx) {
            pc.missed(key, ctx);
        } else if pc.seen(key, ctx) {
            self.confirm(key, ctx);
        }
    }

    /// The pending state has held for `min_session`.
    fn due(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let Some(pc) = self.pcs.get_mut(key) else { return };
        if !pc.present && pc.missed.is_some() {
            if let Some(pending) = &mut pc.pending {
                pending.due = true;
            }
            return;
        }
        self.confirm(key, ctx);
    }

    fn confirm(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let name = self
            .hosts
            .get(key)
            .map_or_else(|| key.to_owned(), |host| host.name.clone());
        let Some(pc) = self.pcs.get_mut(key) else { return };
        let Some(pending) = pc.pending.take() else { return };
        ctx.cancel_timer(Timer::Confirm, key);
        pc.present = !pc.present;
        let is_present = pc.present;
        let (from, to) = if pc.present {
            (SubjectState::Down, SubjectState::Up)
        } else {
            (SubjectState::Up, SubjectState::Down)
        };
        let subject = format!("{PC_SUBJECT_PREFIX}{key}");
        let change = SubjectChanged {
            subject: subject.clone(),
            from,
            to,
            since: pending.since.at,
            root: None,
            detail: None,
        };
        if pc.present {
            pc.session = Some(OpenSession {
                since: pending.since,
                unmeasured: Span::ZERO,
            });
            let session = started(&ctx.config.site, key, &name, pending.since.at);
            ctx.emit(&subject, EventBody::SubjectChanged(change));
            ctx.emit(&session.id.clone(), EventBody::SessionStarted(session));
        } else {
            let open = pc.session.take();
            ctx.emit(&subject, EventBody::SubjectChanged(change));
            if let Some(open) = open {
                let session = ended(&ctx.config.site, key, &name, &open, pending.since);
                ctx.emit(&session.id.clone(), EventBody::SessionEnded(session));
            }
        }
        ctx.board.pcs_present = if is_present {
            ctx.board.pcs_present + 1
        } else {
            ctx.board.pcs_present.saturating_sub(1)
        };
    }

    /// Freezes or thaws every PC when the ancestors' state asks for it.
    fn follow_blame(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.board.occupancy_blame.is_some() == self.frozen {
            return;
        }
        let blame = ctx.board.occupancy_blame.clone();
        self.frozen = blame.is_some();
        let differs = |pc: &Pc| pc.frozen != blame.is_some();
        for key in self.pcs.keys() {
            let Some(pc) = self.pcs.get_mut(&key).filter(|pc| differs(pc)) else {
                continue;
            };
            pc.frozen = blame.is_some();
            let moment = ctx.moment_for(&pc.collector);
            let confirmed = if pc.present {
                SubjectState::Up
            } else {
                SubjectState::Down
            };
            let (from, to) = match &blame {
                Some(blame) => {
                    pc.missed = None;
                    if pc
                        .pending
                        .as_ref()
                        .is_some_and(|pending| blame.covers(pending.since, &pc.collector))
                    {
                        pc.pending = None;
                        ctx.cancel_timer(Timer::Confirm, &key);
                    }
                    pc.pause(&key, moment, ctx);
                    (confirmed, SubjectState::Frozen)
                }
                None => {
                    pc.resume(&key, moment, ctx);
                    (SubjectState::Frozen, confirmed)
                }
            };
            let subject = format!("{PC_SUBJECT_PREFIX}{key}");
            let root = blame.as_ref().map(|blame| blame.root.clone());
            let body = SubjectChanged {
                subject: subject.clone(),
                from,
                to,
                since: moment.at,
                root,
                detail: None,
            };
            ctx.emit(&subject, EventBody::SubjectChanged(body));
        }
    }

    fn jump(&mut self, span: Span, ctx: &mut Ctx<'_>) {
        for key in self.pcs.keys() {
            let mine = |pc: &&Pc| Some(pc.collector.as_str()) == ctx.collector && pc.session.is_some();
            if self.pcs.get(&key).filter(mine).is_none() || !span.is_positive() {
                continue;
            }
            if let Some(session) = self.pcs.get_mut(&key).and_then(|pc| pc.session.as_mut()) {
                session.unmeasured = session.unmeasured + span;
            }
        }
    }

    /// PCs that are no longer configured end their sessions; a change of name or range keeps what is known.
    fn activated(&mut self, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        let named: BTreeMap<String, String> = previous
            .occupancy
            .hosts
            .iter()
            .map(|host| (host.key().to_owned(), host.name.clone()))
            .collect();
        self.follow_config(ctx.config, ctx.board);
        for key in self.pcs.keys() {
            if self.hosts.contains_key(&key) {
                continue;
            }
            let Some(pc) = self.pcs.remove(&key) else { continue };
            ctx.cancel_timer(Timer::Confirm, &key);
            if let Some(open) = pc.session {
                let name = named.get(&key).unwrap_or(&key);
                let session = ended(&ctx.config.site, &key, name, &open, ctx.moment_for(&pc.collector));
                ctx.emit(&session.id.clone(), EventBody::SessionEnded(session));
            }
        }
        self.count(ctx.board);
    }

    fn tick(&mut self, previous: Option<Time>, ctx: &mut Ctx<'_>) {
        let config = &ctx.config.occupancy;
        if !config.hourly_snapshot || self.hosts.is_empty() {
            return;
        }
        let Some(previous) = previous else { return };
        let hour = local_hour(ctx.moment.at, &ctx.config.time_zone);
        if hour <= local_hour(previous, &ctx.config.time_zone) {
            return;
        }
        let (current, total) = (ctx.board.pcs_present, ctx.board.pcs_total);
        let percent = (u64::from(current) * 100)
            .checked_div(u64::from(total))
            .unwrap_or_default() as u32;
        let frozen = ctx.board.occupancy_blame.is_some();
        let site = ctx.config.site.clone();
        ctx.emit(
            &site,
            EventBody::OccupancySnapshot(OccupancySnapshot {
                at: hour,
                current,
                total,
                percent,
                frozen,
            }),
        );
    }
}

impl Pc {
    /// It answered. Tells whether a presence that only waited for this is confirmed now.
    fn seen(&mut self, key: &str, ctx: &mut Ctx<'_>) -> bool {
        self.missed = None;
        if self.present {
            if self.pending.take().is_some() {
                ctx.cancel_timer(Timer::Confirm, key);
            }
            return false;
        }
        if let Some(pending) = &self.pending {
            return pending.due;
        }
        self.begin(key, ctx.moment, ctx);
        false
    }

    fn missed(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let moment = ctx.moment;
        let interval = Span::from_millis(ctx.config.occupancy.interval_ms as i64);
        let Some(first) = self.missed else {
            self.missed = Some(moment);
            return;
        };
        // Several signals of one round are one missed round.
        if moment.steady.since(first.steady).0 * 2 < interval.0 {
            return;
        }
        if self.present {
            if self.pending.is_none() {
                self.begin(key, first, ctx);
            }
        } else if self.pending.take().is_some() {
            ctx.cancel_timer(Timer::Confirm, key);
        }
    }

    fn begin(&mut self, key: &str, since: Moment, ctx: &mut Ctx<'_>) {
        self.pending = Some(Pending {
            since,
            paused: Span::ZERO,
            due: false,
        });
        self.set_confirm(key, ctx);
    }

    fn set_confirm(&self, key: &str, ctx: &mut Ctx<'_>) {
        if let Some(pending) = &self.pending {
            let min_session = Span::from_millis(ctx.config.occupancy.min_session_ms as i64);
            let deadline = pending.since.steady + min_session + pending.paused;
            let clock = TimerClock::Collector(self.collector.clone());
            ctx.set_timer(Timer::Confirm, key, clock, deadline);
        }
    }

    fn pause(&mut self, key: &str, now: Moment, ctx: &mut Ctx<'_>) {
        if self.paused_since.is_none() {
            self.paused_since = Some(now);
            ctx.cancel_timer(Timer::Confirm, key);
        }
    }

    fn resume(&mut self, key: &str, now: Moment, ctx: &mut Ctx<'_>) {
        let Some(since) = self.paused_since.take() else {
            return;
        };
        let paused = now.steady.since(since.steady).max(Span::ZERO);
        if let Some(session) = &mut self.session {
            session.unmeasured = session.unmeasured + paused;
        }
        if let Some(pending) = &mut self.pending {
            pending.paused = pending.paused + paused;
            self.set_confirm(key, ctx);
        }
    }

    fn answered(&mut self, signal: Signal, at: Time) {
        match self.answers.get_mut(signal.name()) {
            Some(answer) => *answer = at,
            None => drop(self.answers.insert(signal.name().to_owned(), at)),
        }
    }

    /// Whether a signal other than `but` answered recently enough to count.
    fn answers_still(&self, but: Signal, now: Moment, ctx: &Ctx<'_>) -> bool {
        let config = &ctx.config.occupancy;
        let fresh = Span::from_millis((config.interval_ms * ANSWER_INTERVALS + config.timeout_ms) as i64);
        self.answers
            .iter()
            .any(|(signal, at)| signal != but.name() && now.steady.since(*at) < fresh)
    }
}

fn started(site: &str, key: &str, name: &str, started_at: Time) -> Session {
    Session {
        id: Session::derive_id(site, key, started_at),
        pc: key.to_owned(),
        name: name.to_owned(),
        started_at,
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 0,
    }
}

fn ended(site: &str, key: &str, name: &str, open: &OpenSession, until: Moment) -> Session {
    let wall = until.at.since(open.since.at);
    let steady = until.steady.since(open.since.steady);
    Session {
        ended_at: Some(until.at),
        duration_ms: Some(wall.max(steady).max(Span::ZERO).as_millis() as u64),
        unmeasured_ms: open.unmeasured.as_millis() as u64,
        ..started(site, key, name, open.since.at)
    }
}

/// The first instant of the clock hour that holds `at`, where people read that zone's clocks.
pub fn local_hour(at: Time, time_zone: &str) -> Time {
    let hour = Span::from_seconds(3_600);
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let Ok(timestamp) = jiff::Timestamp::from_nanosecond(i128::from(at.0)) else {
        return at.floor(hour);
    };
    let offset = Span::from_seconds(i64::from(zone.to_offset(timestamp).seconds()));
    (at + offset).floor(hour) - offset
}
