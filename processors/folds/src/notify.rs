//! Who should be told of what: a map from events to requests, plus the batch windows, the mutes and the schedules.
//!
//! It finds no words and reaches no sink.

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{
    Event, EventBody, Incident, Notice, NoticeClass, NotificationRequest, Session, SessionList, Silence,
};
use watchfold_schemas::observation::{Act, OperatorAct};
use watchfold_schemas::{Span, Time};

use crate::fold::{Ctx, Fold, FoldState};
use crate::incidents::LATE_AFTER;
use crate::table::Table;
use crate::timers::TimerClock;

/// An incident is worth telling for three days, should every way out be cut that long.
const ALERT_EXPIRES: Span = Span::from_seconds(3 * 86_400);
/// Who came and went is worth telling for a day.
const SESSIONS_EXPIRE: Span = Span::from_seconds(86_400);
/// A snapshot is worth telling until the next.
const SNAPSHOT_EXPIRES: Span = Span::from_seconds(3_600);

/// The most sessions that one batch keeps in full; more are counted.
const BATCH_SESSIONS_MAX: usize = 4_096;

/// The most mutes and maintenance windows at a time; a further one is told as not active, so that whoever asked for it
/// sees that it did not take.
pub const SILENCES_MAX: usize = 256;

/// The fold.
pub struct Notify;

timers! { Notify:
    /// The window of a batch of sessions is over.
    Batch = "batch",
}

/// What was told of an incident that is open, or whose end a mute holds back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    incident: Incident,
    /// Its opening was requested.
    opened: bool,
}

/// Sessions that wait to be told together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    from: Time,
    started: Vec<Session>,
    started_total: u32,
    ended: Vec<Session>,
    ended_total: u32,
}

#[derive(Debug)]
pub struct NotifyState {
    told: Table<Told>,
    batch: Table<Batch>,
    silences: Table<Silence>,
}

impl Default for NotifyState {
    fn default() -> NotifyState {
        NotifyState {
            told: Table::new("notify/told/"),
            batch: Table::new("notify/batch/"),
            silences: Table::new("notify/silence/"),
        }
    }
}

impl FoldState for NotifyState {
    stored! { told, batch, silences }
}

impl Fold for Notify {
    const NAME: &'static str = "notify";
    const VERSION: u32 = 2;
    type State = NotifyState;
    type Timer = Timer;

    fn before(state: &mut NotifyState, ctx: &mut Ctx<'_>) {
        for event in ctx.emitted().to_vec() {
            state.take(&event, ctx);
        }
    }

    fn timer(state: &mut NotifyState, timer: Timer, _key: &str, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Batch => state.tell_batch(ctx),
        }
    }

    fn tick(state: &mut NotifyState, _previous: Option<Time>, ctx: &mut Ctx<'_>) {
        state.end_silences(ctx);
        state.tell_untold(ctx);
        state.tell_held_ends(ctx);
    }

    fn operator(state: &mut NotifyState, act: &OperatorAct, ctx: &mut Ctx<'_>) {
        state.operator(act, ctx);
    }
}

impl NotifyState {
    fn take(&mut self, event: &Event, ctx: &mut Ctx<'_>) {
        match &event.body {
            EventBody::IncidentOpened(incident) => self.opened(incident, ctx),
            EventBody::IncidentEscalated(incident) | EventBody::IncidentAcknowledged(incident) => {
                self.updated(incident, ctx);
            }
            EventBody::IncidentReminded(incident) => self.reminded(incident, ctx),
            EventBody::IncidentClosed(incident) => self.closed(incident, ctx),
            EventBody::SessionStarted(session) => {
                let batch = self.batch_open(ctx);
                batch.started_total += 1;
                keep(&mut batch.started, session);
            }
            EventBody::SessionEnded(session) => {
                let batch = self.batch_open(ctx);
                batch.ended_total += 1;
                keep(&mut batch.ended, session);
            }
            EventBody::OccupancySnapshot(snapshot) => {
                let notice = Notice::OccupancySnapshot {
                    snapshot: snapshot.clone(),
                };
                let key = format!("snapshot:{}", snapshot.at.as_seconds());
                request(NoticeClass::Occupancy, &key, SNAPSHOT_EXPIRES, notice, ctx);
            }
            EventBody::SubjectChanged(_)
            | EventBody::SubjectDegraded(_)
            | EventBody::JitterRecorded(_)
            | EventBody::TargetRollup(_)
            | EventBody::NotificationRequested(_)
            | EventBody::SilenceChanged(_)
            | EventBody::Digest(_)
            | EventBody::AlertRaised(_)
            | EventBody::AttackBegan(_)
            | EventBody::AttackGrew(_)
            | EventBody::AttackEnded(_)
            | EventBody::LookupWanted(_) => {}
        }
    }

    /// Tells at once, unless it is muted, or learnt late: then it may be over already, and is told when known.
    fn opened(&mut self, incident: &Incident, ctx: &mut Ctx<'_>) {
        let tell = !incident.late && !self.silenced(incident, ctx.now.at);
        self.told.insert(
            &incident.id,
            Told {
                incident: incident.clone(),
                opened: tell,
            },
        );
        if tell {
            tell_opened(incident, ctx);
        }
    }

    fn updated(&mut self, incident: &Incident, ctx: &mut Ctx<'_>) {
        let Some(told) = self.told.get_mut(&incident.id) else {
            return;
        };
        told.incident = incident.clone();
        if told.opened {
            let notice = Notice::IncidentUpdated {
                incident: incident.clone(),
            };
            request(NoticeClass::Alerts, &incident.id, ALERT_EXPIRES, notice, ctx);
        }
    }

    fn reminded(&mut self, incident: &Incident, ctx: &mut Ctx<'_>) {
        let silenced = self.silenced(incident, ctx.now.at);
        let Some(told) = self.told.get_mut(&incident.id) else {
            return;
        };
        told.incident = incident.clone();
        if told.opened && !silenced {
            let open_for_ms = ctx.now.at.since(incident.started_at).max(Span::ZERO).as_millis() as u64;
            let notice = Notice::IncidentReminder {
                incident: incident.clone(),
                open_for_ms,
            };
            request(NoticeClass::Alerts, &incident.id, ALERT_EXPIRES, notice, ctx);
        }
    }

    fn closed(&mut self, incident: &Incident, ctx: &mut Ctx<'_>) {
        let silenced = self.silenced(incident, ctx.now.at);
        let Some(told) = self.told.get_mut(&incident.id) else {
            return;
        };
        if told.opened && silenced {
            // People know of the opening, so they get the end too: when the mute is over.
            told.incident = incident.clone();
            return;
        }
        // One that was over before we learnt of it is told once; one that was muted all along is not told.
        let tell = told.opened || incident.late && !silenced;
        self.told.remove(&incident.id);
        if tell {
            tell_closed(incident, ctx);
        }
    }

    /// Requests the ends that a mute held back, once it is over. An end that is older than a request lives is dropped.
    fn tell_held_ends(&mut self, ctx: &mut Ctx<'_>) {
        let held: Vec<Incident> = self
            .told
            .iter()
            .filter(|(_, told)| told.opened && told.incident.ended_at.is_some())
            .map(|(_, told)| told.incident.clone())
            .collect();
        for incident in held {
            let is_old = incident
                .ended_at
                .is_some_and(|ended_at| ctx.now.at.since(ended_at) > ALERT_EXPIRES);
            if !is_old && self.silenced(&incident, ctx.now.at) {
                continue;
            }
            self.told.remove(&incident.id);
            if !is_old {
                tell_closed(&incident, ctx);
            }
        }
    }

    /// Openings that were held back and hold still: the mute is over, or their collector has caught up.
    fn tell_untold(&mut self, ctx: &mut Ctx<'_>) {
        let untold: Vec<Incident> = self
            .told
            .iter()
            .filter(|(_, told)| !told.opened)
            .map(|(_, told)| told.incident.clone())
            .collect();
        if untold.is_empty() || behind(ctx) {
            return;
        }
        for incident in untold {
            if self.silenced(&incident, ctx.now.at) {
                continue;
            }
            if let Some(told) = self.told.get_mut(&incident.id) {
                told.opened = true;
            }
            tell_opened(&incident, ctx);
        }
    }

    fn batch_open(&mut self, ctx: &mut Ctx<'_>) -> &mut Batch {
        if self.batch.get("").is_none() {
            let window = Span::from_millis(ctx.config.occupancy.batch_window_ms as i64);
            ctx.set_timer(Timer::Batch, "", TimerClock::Site, ctx.now.steady + window);
            self.batch.insert(
                "",
                Batch {
                    from: ctx.now.at,
                    ..Batch::default()
                },
            );
        }
        self.batch.entry_or_default("")
    }

    fn tell_batch(&mut self, ctx: &mut Ctx<'_>) {
        let Some(batch) = self.batch.remove("") else {
            return;
        };
        let to = ctx.now.at;
        let named_max = ctx.config.occupancy.named_max;
        let list = |sessions: Vec<Session>, total: u32| SessionList {
            named: if total > named_max { Vec::new() } else { sessions },
            total,
            from: batch.from,
            to,
        };
        let stamp = batch.from.as_millis();
        if batch.started_total > 0 {
            let notice = Notice::SessionsStarted {
                sessions: list(batch.started, batch.started_total),
            };
            request(
                NoticeClass::Occupancy,
                &format!("started:{stamp}"),
                SESSIONS_EXPIRE,
                notice,
                ctx,
            );
        }
        if batch.ended_total > 0 {
            let notice = Notice::SessionsEnded {
                sessions: list(batch.ended, batch.ended_total),
            };
            request(
                NoticeClass::Occupancy,
                &format!("ended:{stamp}"),
                SESSIONS_EXPIRE,
                notice,
                ctx,
            );
        }
    }

    fn operator(&mut self, act: &OperatorAct, ctx: &mut Ctx<'_>) {
        match &act.act {
            Act::Acknowledge { .. } => {}
            Act::Mute { subject, until } => {
                let silence = Silence {
                    id: format!("mute:{subject}"),
                    subjects: vec![subject.clone()],
                    from: act.at,
                    until: *until,
                    who: act.who.clone(),
                    active: true,
                };
                self.begin_silence(silence, ctx);
            }
            Act::Unmute { subject } => self.cancel_silence(&format!("mute:{subject}"), ctx),
            Act::Maintenance {
                id,
                subjects,
                from,
                until,
            } => {
                let silence = Silence {
                    id: format!("maintenance:{id}"),
                    subjects: subjects.clone(),
                    from: *from,
                    until: *until,
                    who: act.who.clone(),
                    active: true,
                };
                self.begin_silence(silence, ctx);
            }
            Act::CancelMaintenance { id } => self.cancel_silence(&format!("maintenance:{id}"), ctx),
        }
    }

    fn begin_silence(&mut self, silence: Silence, ctx: &mut Ctx<'_>) {
        if silence.until <= silence.from || silence.until <= ctx.now.at {
            return;
        }
        if self.silences.len() >= SILENCES_MAX && self.silences.get(&silence.id).is_none() {
            let refused = Silence {
                active: false,
                ..silence
            };
            ctx.emit(&refused.id.clone(), EventBody::SilenceChanged(refused));
            return;
        }
        ctx.emit(&silence.id.clone(), EventBody::SilenceChanged(silence.clone()));
        self.silences.insert(&silence.id.clone(), silence);
    }

    /// The end is a wall-clock time that a person chose, so our own absence does not move it.
    fn end_silences(&mut self, ctx: &mut Ctx<'_>) {
        let over = |silence: &&Silence| silence.until <= ctx.now.at;
        let ended: Vec<String> = self
            .silences
            .iter()
            .map(|(_, silence)| silence)
            .filter(over)
            .map(|silence| silence.id.clone())
            .collect();
        for id in ended {
            self.cancel_silence(&id, ctx);
        }
    }

    fn cancel_silence(&mut self, id: &str, ctx: &mut Ctx<'_>) {
        let Some(mut silence) = self.silences.remove(id) else {
            return;
        };
        silence.active = false;
        ctx.emit(id, EventBody::SilenceChanged(silence));
    }

    fn silenced(&self, incident: &Incident, now: Time) -> bool {
        self.silences.iter().any(|(_, silence)| {
            silence.from <= now
                && now < silence.until
                && (silence.subjects.is_empty() || silence.subjects.contains(&incident.subject))
        })
    }
}

/// Whether some collector is still telling the past: what looks open may be over.
fn behind(ctx: &Ctx<'_>) -> bool {
    ctx.clocks
        .collectors
        .iter()
        .any(|(_, clock)| clock.measures && !clock.silent && ctx.now.at.since(clock.through) > LATE_AFTER)
}

fn tell_opened(incident: &Incident, ctx: &mut Ctx<'_>) {
    let pcs_present = (ctx.board.pcs_total > 0).then_some(ctx.board.pcs_present);
    let notice = Notice::IncidentOpened {
        incident: incident.clone(),
        pcs_present,
    };
    request(NoticeClass::Alerts, &incident.id, ALERT_EXPIRES, notice, ctx);
}

fn tell_closed(incident: &Incident, ctx: &mut Ctx<'_>) {
    let pcs_present = (ctx.board.pcs_total > 0).then_some(ctx.board.pcs_present);
    let notice = Notice::IncidentClosed {
        incident: incident.clone(),
        pcs_present,
    };
    request(NoticeClass::Alerts, &incident.id, ALERT_EXPIRES, notice, ctx);
}

fn request(class: NoticeClass, coalesce_key: &str, expires: Span, notice: Notice, ctx: &mut Ctx<'_>) {
    let body = NotificationRequest {
        class,
        coalesce_key: coalesce_key.to_owned(),
        expires_at: ctx.now.at.max(ctx.moment.at) + expires,
        time_zone: ctx.config.time_zone.clone(),
        notice,
    };
    ctx.emit(coalesce_key, EventBody::NotificationRequested(Box::new(body)));
}

fn keep(sessions: &mut Vec<Session>, session: &Session) {
    if sessions.len() < BATCH_SESSIONS_MAX {
        sessions.push(session.clone());
    }
}
