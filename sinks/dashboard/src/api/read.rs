//! What can be read: state, targets and their history, incidents, occupancy, sessions, events.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use watchfold_log::{LogError, Start};
use watchfold_schemas::event::{self, Session};
use watchfold_schemas::{Event, EventBody, Span, Stream, Time, decode_event, subjects};
use watchfold_web::ApiError;

use super::params::{LIMIT_DEFAULT, LIMIT_MAX, Page, Params, cursor};
use super::{App, csv};
use crate::projection::Resolution;
use crate::projection::shapes::{HistoryPoint, Incident, Maintenance, Occupancy, Target};

/// Points of a history at most: two days of minutes.
pub const POINTS_MAX: usize = 2_880;
/// How long the log may take to give the records of one request.
const LOG_READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Records of the event stream that one request looks through at most.
const EVENTS_SCANNED_MAX: usize = 20_000;

pub async fn state(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.allow(&[])?;
    let text = app.live.state_json().map_err(|error| {
        tracing::error!(%error, "the state could not be encoded; please report this");
        ApiError::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the state could not be encoded",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// By name.
pub async fn targets(State(app): State<Arc<App>>, params: Params) -> Result<Json<Page<Target>>, ApiError> {
    params.allow(&["limit", "after"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let mut targets: Vec<Target> = app.live.read(|projection| projection.targets().collect());
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let rest = targets
        .into_iter()
        .filter(|target| params.get("after").is_none_or(|after| *target.name > *after));
    Ok(Json(Page::of(rest, limit, |target| target.name.clone())))
}

/// Oldest first.
pub async fn history(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Page<HistoryPoint>>, ApiError> {
    params.allow(&["resolution", "from", "to", "limit", "after"])?;
    let (resolution, span) = match params.get("resolution").unwrap_or("minute") {
        "minute" => (Resolution::Minute, Span::from_seconds(86_400)),
        "hour" => (Resolution::Hour, Span::from_seconds(30 * 86_400)),
        "day" => (Resolution::Day, Span::from_seconds(400 * 86_400)),
        _ => return Err(ApiError::parameter("resolution", "minute, hour or day")),
    };
    let limit = params.limit(POINTS_MAX / 2, POINTS_MAX)?;
    let now = app.live.read(|projection| projection.now());
    let to = params.time("to")?.unwrap_or(now + Span(1));
    let mut from = params.time("from")?.unwrap_or(to - span);
    if from >= to {
        return Err(ApiError::parameter("from", "a time before `to`"));
    }
    if let Some(after) = params.time("after")? {
        from = from.max(after + Span(1));
    }
    let points = app
        .live
        .read(|projection| projection.history(&name, resolution, from, to, limit + 1));
    let points = points.ok_or_else(|| unknown_target(&name))?;
    Ok(Json(Page::of(points.into_iter(), limit, |point| {
        point.at.to_string()
    })))
}

/// Newest first.
pub async fn incidents(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<Incident>>, ApiError> {
    params.allow(&["state", "subject", "limit", "after"])?;
    let open = match params.get("state") {
        None => None,
        Some("open") => Some(true),
        Some("closed") => Some(false),
        Some(_) => return Err(ApiError::parameter("state", "open or closed")),
    };
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.cursor()?;
    Ok(Json(app.live.read(|projection| {
        let wanted = projection
            .incidents(after)
            .filter(|entry| open.is_none_or(|open| open == entry.incident.ended_at.is_none()))
            .filter(|entry| {
                params
                    .get("subject")
                    .is_none_or(|subject| subject == entry.incident.subject)
            });
        Page::of(
            wanted.map(|entry| projection.incident_shown(entry)),
            limit,
            |shown| cursor(shown.incident.opened_at, &shown.incident.id),
        )
    })))
}

/// Oldest first, as a running log.
pub async fn incidents_csv(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.allow(&[])?;
    let mut incidents: Vec<event::Incident> = app.live.read(|projection| {
        let entries = projection.incidents(None);
        entries.map(|entry| entry.incident.clone()).collect()
    });
    incidents.reverse();
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"incidents.csv\"",
        ),
    ];
    Ok((headers, csv::incidents(&incidents)).into_response())
}

pub async fn occupancy(State(app): State<Arc<App>>, params: Params) -> Result<Json<Occupancy>, ApiError> {
    params.allow(&[])?;
    Ok(Json(app.live.read(|projection| projection.occupancy())))
}

/// Newest first: those that ran at some time in `from..to`.
pub async fn sessions(State(app): State<Arc<App>>, params: Params) -> Result<Json<Page<Session>>, ApiError> {
    params.allow(&["pc", "from", "to", "limit", "after"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let (from, to, after) = (params.time("from")?, params.time("to")?, params.cursor()?);
    if from.is_some() && to.is_some() && from >= to {
        return Err(ApiError::parameter("from", "a time before `to`"));
    }
    Ok(Json(app.live.read(|projection| {
        let wanted = projection
            .sessions(after)
            .filter(|session| params.get("pc").is_none_or(|pc| pc == session.pc))
            .filter(|session| to.is_none_or(|to| session.started_at < to))
            .filter(|session| {
                from.is_none_or(|from| session.ended_at.is_none_or(|ended_at| ended_at > from))
            });
        Page::of(wanted.cloned(), limit, |session| {
            cursor(session.started_at, &session.id)
        })
    })))
}

/// Those that run or are to come, by when they begin.
pub async fn maintenance(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<Maintenance>>, ApiError> {
    params.allow(&["limit", "after"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.cursor()?;
    let windows = app.live.read(|projection| projection.maintenance());
    let is_after = |window: &Maintenance| {
        after
            .as_ref()
            .is_none_or(|(from, id)| (window.from, &window.id) > (*from, id))
    };
    Ok(Json(Page::of(
        windows.into_iter().filter(is_after),
        limit,
        |window| cursor(window.from, &window.id),
    )))
}

/// An event as recorded, with its place in the stream.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordedEvent {
    sequence: u64,
    stored_at: Time,
    #[cfg_attr(test, schemars(with = "super::described::EventKind"))]
    kind: &'static str,
    /// As `schemas/json/event.json` describes it; `body` has one key, its kind.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    event: Event,
}

/// Oldest first, from the log itself.
pub async fn events(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<RecordedEvent>>, ApiError> {
    params.allow(&["after", "limit", "kind"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.number("after")?.unwrap_or(0);
    let kind = params.get("kind").unwrap_or("*");
    if kind != "*" && !EventBody::KINDS.contains(&kind) {
        return Err(ApiError::parameter(
            "kind",
            &format!("one of {}", EventBody::KINDS.join(", ")),
        ));
    }
    let log_failed = |error: LogError| {
        tracing::warn!(%error, "events could not be read from the log");
        ApiError::unavailable("log_unavailable", "the log cannot be read at the moment")
    };
    let filter = subjects::events_of_kind(&app.live.identity().site, kind);
    let read = timeout(LOG_READ_TIMEOUT, read_events(&app, &filter, after, limit));
    let page = read.await.unwrap_or_else(|_| {
        Err(LogError::Stopped(format!(
            "no answer within {} s",
            LOG_READ_TIMEOUT.as_secs()
        )))
    });
    Ok(Json(page.map_err(log_failed)?))
}

async fn read_events(
    app: &App,
    filter: &str,
    after: u64,
    limit: usize,
) -> Result<Page<RecordedEvent>, LogError> {
    let start = Start::Sequence(after.saturating_add(1));
    let mut reader = app.log.reader(Stream::Events, filter, start).await?;
    let mut items = Vec::new();
    let (mut last, mut scanned, mut more) = (after, 0, true);
    while more && items.len() < limit && scanned < EVENTS_SCANNED_MAX {
        let batch = reader.try_next(limit - items.len()).await?;
        more = !batch.records.is_empty() || batch.lost.is_some();
        scanned += batch.records.len();
        for record in batch.records {
            last = record.sequence;
            more = last < batch.last_sequence;
            // One that this version cannot read is not shown; the projection counts them.
            if let Ok(event) = decode_event(&record.payload) {
                let (sequence, stored_at, kind) = (record.sequence, record.stored_at, event.body.kind());
                items.push(RecordedEvent {
                    sequence,
                    stored_at,
                    kind,
                    event,
                });
            }
        }
    }
    Ok(Page {
        items,
        next: more.then(|| last.to_string()),
    })
}

pub fn unknown_target(name: &str) -> ApiError {
    let name: String = name.chars().take(60).collect();
    ApiError::not_found(format!("{name}: no target of this name is configured"))
}
