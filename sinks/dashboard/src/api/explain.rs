//! Why an incident, a session, an alert or an attack came about. How that is found out is not known here: the dashboard is given a function for
//! it, asks it one thing at a time, and passes on what it says.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use watchfold_schemas::{Chain, Span, Time};
use watchfold_web::ApiError;

use super::App;
use super::params::Params;
use crate::projection::Projection;

/// Explanations made at once: each reads the log anew and takes a core while it does.
const EXPLAINED_AT_ONCE: usize = 1;
/// Explanations that are made or wait for their turn; a further one gets 503.
const EXPLANATIONS_WAITING_MAX: usize = 8;
/// How long one may take, waiting included: below the limit of every request, so that it gets an answer of its own.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// What is to be explained. Incidents and sessions come from the site chain; alerts and attacks from either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainKind {
    Incident,
    Session,
    Alert,
    Attack,
}

impl ExplainKind {
    const fn name(self) -> &'static str {
        match self {
            ExplainKind::Incident => "incident",
            ExplainKind::Session => "session",
            ExplainKind::Alert => "alert",
            ExplainKind::Attack => "attack",
        }
    }
}

/// What is to be explained, and from where in the log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    pub kind: ExplainKind,
    /// The chain that derived it.
    pub chain: Chain,
    /// Of an incident, a session or an attack; an alert's is that of its event.
    pub id: String,
    /// When it began: what caused it was observed then or later.
    pub started_at: Time,
}

/// Held while an explanation is made. Work that goes on for a moment after its future was dropped holds it until it ends.
#[derive(Debug, Default)]
pub struct ExplainTurn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Explains something, as `openapi.json` describes an `Explanation`. The future ends its work when it is dropped.
pub type Explain = Arc<
    dyn Fn(ExplainRequest, ExplainTurn) -> Pin<Box<dyn Future<Output = Result<Value, ExplainFailure>> + Send>>
        + Send
        + Sync,
>;

/// Why something could not be explained, in words for an operator.
#[derive(Debug, thiserror::Error)]
pub enum ExplainFailure {
    #[error("{0}")]
    NotDerived(String),
    #[error("{0}")]
    Unreadable(String),
}

/// Who may explain now, and who may wait.
pub struct Explaining {
    explain: Option<Explain>,
    places: Semaphore,
    turn: Arc<Semaphore>,
}

impl Explaining {
    pub fn new(explain: Option<Explain>) -> Explaining {
        Explaining {
            explain,
            places: Semaphore::new(EXPLANATIONS_WAITING_MAX),
            turn: Arc::new(Semaphore::new(EXPLAINED_AT_ONCE)),
        }
    }

    async fn answer(&self, request: ExplainRequest) -> Result<Json<Value>, ApiError> {
        let Some(explain) = &self.explain else {
            return Err(ApiError::conflict(
                "not_explained_here",
                "the log is not where this page is served: run `watchfold explain` with the id where it is",
            ));
        };
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!(
                limit = EXPLANATIONS_WAITING_MAX,
                "an explanation was refused: too many are asked for"
            );
            return Err(ApiError::unavailable(
                "busy",
                "too many explanations are asked for at once: try again in a moment",
            ));
        };
        let made = async {
            // It is never closed; if it were, one more at once would do no harm.
            let turn = ExplainTurn {
                _permit: self.turn.clone().acquire_owned().await.ok(),
            };
            explain(request, turn).await
        };
        match timeout(EXPLAIN_TIMEOUT, made).await {
            Ok(Ok(explanation)) => Ok(Json(explanation)),
            Ok(Err(ExplainFailure::NotDerived(why))) => Err(ApiError::new(
                axum::http::StatusCode::NOT_FOUND,
                "not_derived",
                why,
            )),
            Ok(Err(ExplainFailure::Unreadable(why))) => {
                tracing::warn!(why, "the log could not be read for an explanation");
                Err(ApiError::unavailable("log_unavailable", why))
            }
            Err(_) => Err(ApiError::unavailable(
                "timeout",
                format!(
                    "not explained within {} s: run `watchfold explain` with the id, which has all the time it needs",
                    EXPLAIN_TIMEOUT.as_secs()
                ),
            )),
        }
    }
}

pub async fn incident(
    app: State<Arc<App>>,
    id: Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    explained(app, ExplainKind::Incident, id, params).await
}

pub async fn session(
    app: State<Arc<App>>,
    id: Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    explained(app, ExplainKind::Session, id, params).await
}

pub async fn alert(app: State<Arc<App>>, id: Path<String>, params: Params) -> Result<Json<Value>, ApiError> {
    explained(app, ExplainKind::Alert, id, params).await
}

pub async fn attack(app: State<Arc<App>>, id: Path<String>, params: Params) -> Result<Json<Value>, ApiError> {
    explained(app, ExplainKind::Attack, id, params).await
}

async fn explained(
    State(app): State<Arc<App>>,
    kind: ExplainKind,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.allow(&[])?;
    let found = app.live.read(|known| beginning(known, kind, &id));
    let (chain, started_at) =
        found.ok_or_else(|| ApiError::not_found(format!("no {} has this id", kind.name())))?;
    let request = ExplainRequest {
        kind,
        chain,
        id,
        started_at,
    };
    app.explaining.answer(request).await
}

/// The chain that something comes from, and from when on that is to be folded again.
fn beginning(known: &Projection, kind: ExplainKind, id: &str) -> Option<(Chain, Time)> {
    Some(match kind {
        ExplainKind::Incident => (Chain::Site, known.incident(id)?.incident.started_at),
        ExplainKind::Session => (Chain::Site, known.session(id)?.started_at),
        ExplainKind::Alert => {
            let entry = known.alert(id)?;
            let window_ms = entry.alert.measured.window_ms;
            (entry.chain, window_before(entry.at, window_ms))
        }
        ExplainKind::Attack => {
            let shown = known.attack(id)?;
            let window_ms = shown.attack.peak.window_ms;
            (shown.chain, window_before(shown.attack.began_at, window_ms))
        }
    })
}

/// What counted towards a rule that fired was observed within its window.
pub fn window_before(at: Time, window_ms: u64) -> Time {
    at - Span::from_millis(i64::try_from(window_ms).unwrap_or(i64::MAX))
}
