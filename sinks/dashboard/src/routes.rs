//! Everything that is served: each address, the permission that it needs, and its handler.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use watchfold_web::{Access, ApiError, Permission, Routes};

use crate::api::{App, acts, alerts, explain, health, packets, read};
use crate::assets;
use crate::scrape;
use crate::stream::stream;

/// The description that is served. The tests in `api/described/` generate it.
const OPENAPI: &str = include_str!("../openapi.json");
/// Catching up takes a moment, unless there was no snapshot.
const CATCHING_UP_RETRY_AFTER_S: u32 = 1;

/// Everything that is served.
pub fn routes(app: Arc<App>) -> Routes {
    let site = app.live.identity().site.clone();
    let in_scope = move |access: &Access| match access.scope.covers(&site) {
        true => Ok(()),
        false => Err(ApiError::not_found("this credential is for other sites")),
    };
    let (of_site, folding) = (in_scope.clone(), Arc::clone(&app));
    let shown = shown().gated(move |access| of_site(access).and_then(|()| caught_up(&folding)));
    open()
        .merge(told_at_once().gated(in_scope))
        .merge(shown)
        .fallback(page)
        .with_state(app)
}

/// What is known of the site is older than the log until all of that is folded again, and is not told before.
fn caught_up(app: &App) -> Result<(), ApiError> {
    let Some((position, head)) = app.live.catching_up() else {
        return Ok(());
    };
    let (done, all) = (
        position.events + position.observations,
        head.events + head.observations,
    );
    let percent = (done.min(all) * 100).checked_div(all).unwrap_or(0);
    let message = format!("Watchfold reads what its log holds, {percent} % so far: ask again in a moment");
    Err(ApiError::unavailable("catching_up", message).retry_after(CATCHING_UP_RETRY_AFTER_S))
}

/// What says nothing about the site.
fn open() -> Routes<Arc<App>> {
    Routes::new().get("/livez", Permission::Open, health::livez).get(
        "/readyz",
        Permission::Open,
        health::readyz,
    )
}

/// What does not come from the projection, or says itself how far that is.
fn told_at_once() -> Routes<Arc<App>> {
    Routes::new()
        .get("/metrics", Permission::View, scrape::metrics)
        .get("/api/v1/health", Permission::View, health::health)
        .socket("/api/v1/stream", Permission::View, stream)
        .get("/api/v1/events", Permission::View, read::events)
        .get("/api/v1/openapi.json", Permission::View, openapi)
}

/// What is folded from the log.
fn shown() -> Routes<Arc<App>> {
    use Permission::{Operate, View};
    Routes::new()
        .get("/api/v1/state", View, read::state)
        .get("/api/v1/targets", View, read::targets)
        .get("/api/v1/targets/{name}/history", View, read::history)
        .post("/api/v1/targets/{name}/mute", Operate, acts::mute)
        .delete("/api/v1/targets/{name}/mute", Operate, acts::unmute)
        .get("/api/v1/incidents", View, read::incidents)
        .get("/api/v1/incidents.csv", View, read::incidents_csv)
        .post("/api/v1/incidents/{id}/ack", Operate, acts::acknowledge)
        .get("/api/v1/incidents/{id}/explain", View, explain::incident)
        .get("/api/v1/maintenance", View, read::maintenance)
        .post("/api/v1/maintenance", Operate, acts::plan_maintenance)
        .delete("/api/v1/maintenance/{id}", Operate, acts::cancel_maintenance)
        .get("/api/v1/occupancy", View, read::occupancy)
        .get("/api/v1/sessions", View, read::sessions)
        .get("/api/v1/sessions/{id}/explain", View, explain::session)
        .get("/api/v1/alerts", View, alerts::list)
        .get("/api/v1/detections", View, alerts::detections)
        .get("/api/v1/alerts.csv", View, alerts::as_csv)
        .get("/api/v1/alerts.json", View, alerts::as_json)
        .get("/api/v1/alerts.jsonl", View, alerts::as_json_lines)
        .get("/api/v1/alerts.eve", View, alerts::as_eve)
        .get("/api/v1/alerts/{id}", View, alerts::one)
        .get("/api/v1/alerts/{id}/explain", View, explain::alert)
        .get("/api/v1/alerts/{id}/packets.pcapng", View, packets::of_alert)
        .get("/api/v1/attacks", View, alerts::attacks)
        .get("/api/v1/attacks/{id}", View, alerts::attack)
        .get("/api/v1/attacks/{id}/explain", View, explain::attack)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_declares_the_permission_that_it_needs() {
        let all = open().merge(told_at_once()).merge(shown());
        let mut walked = 0;
        for (path, method, declared) in all.declared() {
            let want = match (path, method) {
                ("/livez" | "/readyz", _) => Permission::Open,
                (_, "GET") => Permission::View,
                _ => Permission::Operate,
            };
            assert_eq!(declared.permission, want, "{method} {path}");
            let is_guarded = method != "GET" || path == "/api/v1/stream";
            assert_eq!(declared.is_guarded, is_guarded, "{method} {path}");
            walked += 1;
        }
        assert_eq!(walked, 34);
    }

    #[test]
    fn every_route_is_described_and_every_described_operation_has_a_route() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let all = open().merge(told_at_once()).merge(shown());
        let routed: BTreeSet<(String, String)> = all
            .declared()
            .map(|(path, method, _)| (path.to_owned(), method.to_owned()))
            .collect();
        assert_eq!(described, routed);
    }
}
