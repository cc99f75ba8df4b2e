//! What an operator can do: acknowledge, mute, plan maintenance. Each act is published as an observation and answered
//! once the log has synced it; what it means is for the folds to say.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use watchfold_kit::Publisher;
use watchfold_schemas::observation::{Act, OperatorAct};
use watchfold_schemas::subjects::is_token;
use watchfold_schemas::{Body, Span, Stream, Time};
use watchfold_web::{Access, ApiError};

use super::App;
use super::read::unknown_target;

/// The most that a note may hold.
const NOTE_CHARS_MAX: usize = 1_000;
/// The longest mute or maintenance window: 90 days.
const SILENCE_MAX: Span = Span::from_seconds(90 * 86_400);
/// The most subjects in one maintenance window.
const SUBJECTS_MAX: usize = 1_000;
/// How long the log may take to sync an act.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// The act is in the log under this message id.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Accepted {
    /// Of a maintenance window.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    observation: String,
}

type Answer = Result<(StatusCode, Json<Accepted>), ApiError>;

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AckBody {
    #[cfg_attr(test, schemars(length(max = NOTE_CHARS_MAX)))]
    note: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MuteBody {
    #[cfg_attr(test, schemars(range(min = 1, max = SILENCE_MAX.as_millis())))]
    for_ms: u64,
    #[cfg_attr(test, schemars(length(max = NOTE_CHARS_MAX)))]
    note: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceBody {
    #[cfg_attr(test, schemars(length(max = SUBJECTS_MAX)))]
    subjects: Vec<String>,
    from: Time,
    until: Time,
    #[cfg_attr(test, schemars(length(max = NOTE_CHARS_MAX)))]
    note: Option<String>,
}

pub async fn acknowledge(
    State(app): State<Arc<App>>,
    access: Access,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let operator = operator(&app)?;
    let body = bytes(body)?;
    let AckBody { note } = if body.is_empty() {
        AckBody::default()
    } else {
        parse(&body)?
    };
    let ended = app.live.read(|projection| {
        projection
            .incident(&id)
            .map(|entry| entry.incident.ended_at.is_some())
    });
    match ended {
        None => return Err(ApiError::not_found("no incident has this id")),
        Some(true) => return Err(ApiError::conflict("incident_closed", "the incident is over")),
        Some(false) => {}
    }
    publish(
        &app,
        operator,
        access,
        |_| Act::Acknowledge { incident: id },
        note,
        None,
    )
    .await
}

pub async fn mute(
    State(app): State<Arc<App>>,
    access: Access,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let operator = operator(&app)?;
    let MuteBody { for_ms, note } = parse(&bytes(body)?)?;
    known_target(&app, &name)?;
    let span = i64::try_from(for_ms).map(Span::from_millis).ok();
    let Some(span) = span.filter(|span| span.is_positive() && *span <= SILENCE_MAX) else {
        return Err(ApiError::parameter(
            "for_ms",
            &format!("from 1 to {} (90 days)", SILENCE_MAX.as_millis()),
        ));
    };
    publish(
        &app,
        operator,
        access,
        |now| Act::Mute {
            subject: name,
            until: now + span,
        },
        note,
        None,
    )
    .await
}

pub async fn unmute(State(app): State<Arc<App>>, access: Access, Path(name): Path<String>) -> Answer {
    let operator = operator(&app)?;
    known_target(&app, &name)?;
    publish(
        &app,
        operator,
        access,
        |_| Act::Unmute { subject: name },
        None,
        None,
    )
    .await
}

pub async fn plan_maintenance(
    State(app): State<Arc<App>>,
    access: Access,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let operator = operator(&app)?;
    let MaintenanceBody {
        subjects,
        from,
        until,
        note,
    } = parse(&bytes(body)?)?;
    if subjects.len() > SUBJECTS_MAX {
        return Err(ApiError::parameter(
            "subjects",
            &format!("at most {SUBJECTS_MAX} names"),
        ));
    }
    for name in &subjects {
        known_target(&app, name)?;
    }
    if until <= from || until.since(from) > SILENCE_MAX {
        return Err(ApiError::parameter(
            "until",
            "a time after `from`, by at most 90 days",
        ));
    }
    if until <= operator.now() {
        return Err(ApiError::parameter("until", "a time that is still to come"));
    }
    let id = random_id()?;
    let window = id.clone();
    publish(
        &app,
        operator,
        access,
        |_| Act::Maintenance {
            id: window,
            subjects,
            from,
            until,
        },
        note,
        Some(id),
    )
    .await
}

pub async fn cancel_maintenance(
    State(app): State<Arc<App>>,
    access: Access,
    Path(id): Path<String>,
) -> Answer {
    let operator = operator(&app)?;
    if !is_token(&id) || !app.live.read(|projection| projection.has_maintenance(&id)) {
        return Err(ApiError::not_found(
            "no maintenance window of this id is planned or runs",
        ));
    }
    publish(
        &app,
        operator,
        access,
        |_| Act::CancelMaintenance { id },
        None,
        None,
    )
    .await
}

/// `act` gets the moment of the record that carries it.
async fn publish(
    app: &App,
    operator: &Publisher,
    access: Access,
    act: impl FnOnce(Time) -> Act,
    note: Option<String>,
    id: Option<String>,
) -> Answer {
    if note
        .as_ref()
        .is_some_and(|note| note.chars().count() > NOTE_CHARS_MAX)
    {
        return Err(ApiError::parameter(
            "note",
            &format!("at most {NOTE_CHARS_MAX} characters"),
        ));
    }
    let acted = |stamp: &watchfold_kit::Stamp| {
        Body::Operator(OperatorAct {
            at: stamp.now(),
            who: access.who,
            act: act(stamp.now()),
            note,
        })
    };
    let not_taken = || {
        ApiError::unavailable(
            "log_unavailable",
            "the log did not take it in time; it may still, so look before you repeat it",
        )
    };
    let ack = match tokio::time::timeout(SYNC_TIMEOUT, operator.publish_with(acted)).await {
        Ok(Ok(ack)) => ack,
        Ok(Err(error)) => {
            tracing::warn!(%error, "an operator's act was not recorded");
            return Err(not_taken());
        }
        Err(_) => {
            tracing::warn!("an operator's act was not recorded in time");
            return Err(not_taken());
        }
    };
    let record = app
        .log
        .get(Stream::Observations, ack.sequence)
        .await
        .ok()
        .flatten();
    let observation = record.map(|record| record.id.0).unwrap_or_default();
    Ok((StatusCode::ACCEPTED, Json(Accepted { id, observation })))
}

fn operator(app: &App) -> Result<&Publisher, ApiError> {
    app.operator
        .as_deref()
        .ok_or_else(|| ApiError::conflict("read_only", "a recording is shown: nothing can be changed"))
}

fn known_target(app: &App, name: &str) -> Result<(), ApiError> {
    if app.live.read(|projection| projection.has_target(name)) {
        Ok(())
    } else {
        Err(unknown_target(name))
    }
}

fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            "too_large"
        } else {
            "invalid_body"
        };
        ApiError::new(rejection.status(), code, rejection.body_text())
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request("invalid_body", &format!("not the body expected: {error}")))
}

fn random_id() -> Result<String, ApiError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gave no random bytes");
        ApiError::unavailable("no_random_bytes", "the system gave no random bytes")
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
