//! The routes of the API, what handlers share, and what every request passes through.

mod acts;
mod alerts;
mod csv;
#[cfg(test)]
mod described;
pub mod error;
pub mod eve;
pub mod explain;
mod filter;
mod guard;
pub mod health;
pub mod packets;
pub mod params;
mod read;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use watchfold_kit::places::Places;
use watchfold_kit::{ProgressSnapshot, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::Time;

use crate::Figures;
use crate::assets;
use crate::auth::Auth;
use crate::feed::FeedCounters;
use crate::freshness::Freshness;
use crate::live::Live;
use crate::metrics::HttpCounters;
use crate::projection::shapes::Stage;
use crate::stream::stream;
use error::ApiError;
use explain::Explaining;
use packets::Cutting;

/// The largest request body: a maintenance window that names a thousand targets.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The description that is served. The test in `described` generates it.
const OPENAPI: &str = include_str!("../../openapi.json");

/// What handlers share.
pub struct App {
    pub live: Arc<Live>,
    pub log: Arc<dyn MessageLog>,
    pub operator: Option<Arc<Publisher>>,
    pub stages: Arc<dyn Fn() -> Vec<ProgressSnapshot> + Send + Sync>,
    /// What other parts count.
    pub figures: Figures,
    pub feed: Arc<FeedCounters>,
    /// How old what is shown is.
    pub freshness: Arc<Freshness>,
    pub auth: Auth,
    pub http: HttpCounters,
    pub explaining: Explaining,
    pub cutting: Cutting,
    pub places: Arc<Places>,
    /// Viewers at once.
    pub viewers_max: usize,
    /// One permit for each viewer that may still come.
    pub viewer_places: Arc<Semaphore>,
    pub started_at: Option<Time>,
    pub cancel: CancellationToken,
}

impl App {
    /// The collector's clock; in a recording, its own time.
    pub fn now(&self) -> Time {
        match &self.operator {
            Some(operator) => operator.now(),
            None => self.live.read(|projection| projection.now()),
        }
    }

    pub fn stages(&self) -> Vec<Stage> {
        (self.stages)().into_iter().map(health::stage_of).collect()
    }

    pub fn viewers(&self) -> usize {
        self.viewers_max - self.viewer_places.available_permits()
    }
}

/// Everything that is served.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, _, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(page)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

/// Path, methods and handler.
type Route = (&'static str, &'static [&'static str], MethodRouter<Arc<App>>);

fn routes() -> Vec<Route> {
    vec![
        ("/livez", &["get"], get(health::livez)),
        ("/readyz", &["get"], get(health::readyz)),
        ("/metrics", &["get"], get(health::metrics)),
        ("/api/v1/state", &["get"], get(read::state)),
        ("/api/v1/health", &["get"], get(health::health)),
        ("/api/v1/stream", &["get"], get(stream)),
        ("/api/v1/targets", &["get"], get(read::targets)),
        ("/api/v1/targets/{name}/history", &["get"], get(read::history)),
        (
            "/api/v1/targets/{name}/mute",
            &["post", "delete"],
            post(acts::mute).delete(acts::unmute),
        ),
        ("/api/v1/incidents", &["get"], get(read::incidents)),
        ("/api/v1/incidents.csv", &["get"], get(read::incidents_csv)),
        ("/api/v1/incidents/{id}/ack", &["post"], post(acts::acknowledge)),
        ("/api/v1/incidents/{id}/explain", &["get"], get(explain::incident)),
        (
            "/api/v1/maintenance",
            &["get", "post"],
            get(read::maintenance).post(acts::plan_maintenance),
        ),
        (
            "/api/v1/maintenance/{id}",
            &["delete"],
            delete(acts::cancel_maintenance),
        ),
        ("/api/v1/occupancy", &["get"], get(read::occupancy)),
        ("/api/v1/sessions", &["get"], get(read::sessions)),
        ("/api/v1/sessions/{id}/explain", &["get"], get(explain::session)),
        ("/api/v1/alerts", &["get"], get(alerts::list)),
        ("/api/v1/detections", &["get"], get(alerts::detections)),
        ("/api/v1/alerts.csv", &["get"], get(alerts::as_csv)),
        ("/api/v1/alerts.json", &["get"], get(alerts::as_json)),
        ("/api/v1/alerts.jsonl", &["get"], get(alerts::as_json_lines)),
        ("/api/v1/alerts.eve", &["get"], get(alerts::as_eve)),
        ("/api/v1/alerts/{id}", &["get"], get(alerts::one)),
        ("/api/v1/alerts/{id}/explain", &["get"], get(explain::alert)),
        (
            "/api/v1/alerts/{id}/packets.pcapng",
            &["get"],
            get(packets::of_alert),
        ),
        ("/api/v1/attacks", &["get"], get(alerts::attacks)),
        ("/api/v1/attacks/{id}", &["get"], get(alerts::attack)),
        ("/api/v1/attacks/{id}/explain", &["get"], get(explain::attack)),
        ("/api/v1/events", &["get"], get(read::events)),
        ("/api/v1/openapi.json", &["get"], get(openapi)),
    ]
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Whatever is no route: a file of the page, or nothing.
async fn page(State(_): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return ApiError::not_found("there is nothing at this address; see /api/v1/openapi.json")
            .into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    assets::serve(path, request.headers())
}
