//! `/api/v1/health`, `/livez` and `/readyz`: whether everything advances.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use watchfold_log::StreamInfo;
use watchfold_schemas::{Stream, Time};
use watchfold_web::ApiError;

use super::App;
use super::params::Params;
use crate::freshness::DataAge;
use crate::projection::shapes::Stage;

/// How long the log may take to tell about its streams; the answer comes without them then.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    ok: bool,
    now: Time,
    software: String,
    site: String,
    started_at: Time,
    /// How old what is shown is.
    data: DataAge,
    stages: Vec<Stage>,
    streams: Vec<StreamHealth>,
}

/// What a stream of the log holds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StreamHealth {
    name: &'static str,
    first_sequence: u64,
    last_sequence: u64,
    last_stored_at: Option<Time>,
    bytes: u64,
    damaged: u64,
}

pub async fn health(State(app): State<Arc<App>>, params: Params) -> Result<Json<Health>, ApiError> {
    params.allow(&[])?;
    let stages = app.stages();
    let streams: Vec<StreamHealth> = streams(&app).await.into_iter().map(StreamHealth::from).collect();
    let data = app.freshness.data_age();
    Ok(Json(Health {
        ok: stages.iter().all(|stage| stage.ok) && !streams.is_empty() && data.stale.is_none(),
        now: app.now(),
        software: app.live.identity().software.clone(),
        site: app.live.identity().site.clone(),
        started_at: app.started_at.unwrap_or_else(|| app.now()),
        data,
        stages,
        streams,
    }))
}

pub async fn livez() -> &'static str {
    "ok"
}

/// Ready while what is shown is the present: it has caught up with a log that answers and gets records, every part has
/// begun, and every chain evaluates what it reads. Sinks do not count: a destination that cannot be reached is no reason to
/// send nobody to the page.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    match unready(&app) {
        None => "ok".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// Why it is not ready, without places, paths and what far sides say: the answer takes no token.
fn unready(app: &App) -> Option<String> {
    if let Some(why) = app.freshness.stale_in_public() {
        return Some(why);
    }
    if app.live.catching_up().is_some() {
        return Some("starting: it reads what the log holds".to_owned());
    }
    let stages = (app.stages)().into_iter();
    let health = watchfold_kit::health::Health {
        // Asked above.
        log_answers_for: Some(Duration::ZERO),
        started: true,
        stages: stages.filter(|stage| !stage.name.starts_with("sink:")).collect(),
    };
    health.unready_in_public()
}

/// The streams that the log can tell about in time.
pub async fn streams(app: &App) -> Vec<(&'static str, StreamInfo)> {
    let ask = async |stream: Stream| match timeout(STREAMS_TIMEOUT, app.log.info(stream)).await {
        Ok(Ok(info)) => Some((stream.name(), info)),
        Ok(Err(error)) => {
            tracing::debug!(%error, %stream, "the log does not tell about a stream");
            None
        }
        Err(_) => {
            tracing::debug!(%stream, "the log does not tell about a stream in time");
            None
        }
    };
    let [packets, observations, events, _, snapshots] = Stream::ALL;
    let asked = tokio::join!(ask(observations), ask(events), ask(packets), ask(snapshots));
    let asked = [asked.0, asked.1, asked.2, asked.3];
    asked.into_iter().flatten().collect()
}

impl From<(&'static str, StreamInfo)> for StreamHealth {
    fn from((name, info): (&'static str, StreamInfo)) -> StreamHealth {
        StreamHealth {
            name,
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
            last_stored_at: info.last_stored_at,
            bytes: info.bytes,
            damaged: info.damaged,
        }
    }
}
