//! Alerts and attacks: lists, single ones, and exports for other tools.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watchfold_schemas::Time;
use watchfold_schemas::event::Severity;
use watchfold_web::ApiError;

use super::filter::{self, AlertFilter};
use super::params::{LIMIT_DEFAULT, LIMIT_MAX, Page, Params, cursor};
use super::{App, csv, eve};
use crate::projection::shapes::{AlertShown, AttackShown};

/// An alert, and the incident that it belongs to where people are told of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OneAlert {
    #[serde(flatten)]
    shown: AlertShown,
    incident: Option<String>,
}

/// Newest first.
pub async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Json<Page<AlertShown>>, ApiError> {
    params.allow(&[&filter::NAMES[..], &["limit", "after"]].concat())?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let filter = AlertFilter::of(&params)?;
    let alerts = kept(&app, params.cursor()?).into_iter();
    let wanted = alerts.filter(|shown| filter.takes(shown));
    Ok(Json(Page::of(wanted, limit, |shown| cursor(shown.at, &shown.id))))
}

/// The alerts of one attack that are asked for, by the newest of them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Detection {
    /// The attack's id, or the alert's where it belongs to none.
    detection: String,
    alerts: u64,
    first_at: Time,
    /// The worst of them.
    severity: Severity,
    latest: AlertShown,
}

/// The newest first, by their newest alerts.
pub async fn detections(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<Detection>>, ApiError> {
    params.allow(&[&filter::NAMES[..], &["limit", "after"]].concat())?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let filter = AlertFilter::of(&params)?;
    let after = params.cursor()?;
    // Of all that are kept: what is newer than the cursor says whose newest alert is on an earlier page.
    let alerts = kept(&app, None).into_iter();
    let found = grouped(alerts.filter(|shown| filter.takes(shown)));
    let wanted = found.into_iter().filter(|one| {
        let place = (one.latest.at, &one.latest.id);
        after.as_ref().is_none_or(|(at, id)| place < (*at, id))
    });
    Ok(Json(Page::of(wanted, limit, |one| {
        cursor(one.latest.at, &one.latest.id)
    })))
}

/// Groups alerts, which come newest first, by what they belong to.
fn grouped(alerts: impl Iterator<Item = AlertShown>) -> Vec<Detection> {
    let mut found: Vec<Detection> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for shown in alerts {
        let detection = match shown.alert.attack.as_str() {
            "" => &shown.id,
            attack => attack,
        };
        if let Some(known) = places.get(detection).and_then(|place| found.get_mut(*place)) {
            known.alerts += 1;
            known.first_at = known.first_at.min(shown.at);
            known.severity = known.severity.max(shown.alert.severity);
            continue;
        }
        places.insert(detection.to_owned(), found.len());
        found.push(Detection {
            detection: detection.to_owned(),
            alerts: 1,
            first_at: shown.at,
            severity: shown.alert.severity,
            latest: shown,
        });
    }
    found
}

pub async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<OneAlert>, ApiError> {
    params.allow(&[])?;
    let found = app.live.read(|projection| {
        let shown = AlertShown::from(projection.alert(&id)?);
        let incident = projection
            .attack(&shown.alert.attack)
            .and_then(|attack| attack.incident);
        Some(OneAlert { shown, incident })
    });
    found
        .map(Json)
        .ok_or_else(|| ApiError::not_found("no alert that is kept has this id"))
}

/// Newest first, by when they began.
pub async fn attacks(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<AttackShown>>, ApiError> {
    params.allow(&["state", "category", "limit", "after"])?;
    let open = match params.get("state") {
        None => None,
        Some("open") => Some(true),
        Some("ended") => Some(false),
        Some(_) => return Err(ApiError::parameter("state", "open or ended")),
    };
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.cursor()?;
    Ok(Json(app.live.read(|projection| {
        let wanted = projection
            .attacks(after)
            .filter(|shown| open.is_none_or(|open| open == shown.attack.ended_at.is_none()))
            .filter(|shown| {
                params
                    .get("category")
                    .is_none_or(|category| category == shown.attack.category)
            });
        Page::of(wanted, limit, |shown| {
            cursor(shown.attack.began_at, &shown.attack.id)
        })
    })))
}

pub async fn attack(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<AttackShown>, ApiError> {
    params.allow(&[])?;
    let found = app.live.read(|projection| projection.attack(&id));
    found
        .map(Json)
        .ok_or_else(|| ApiError::not_found("no attack that is kept has this id"))
}

pub async fn as_csv(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let alerts = exported(&app, &params)?;
    let text = csv::alerts(&alerts);
    Ok(file("text/csv; charset=utf-8; header=present", "csv", text))
}

/// One array.
pub async fn as_json(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let alerts = exported(&app, &params)?;
    let text = serde_json::to_string(&alerts).map_err(|error| unencodable(&error))?;
    Ok(file("application/json", "json", text))
}

/// One object in each line.
pub async fn as_json_lines(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let alerts = exported(&app, &params)?;
    let mut text = String::new();
    for shown in &alerts {
        let line = serde_json::to_string(shown).map_err(|error| unencodable(&error))?;
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    Ok(file("application/x-ndjson", "jsonl", text))
}

pub async fn as_eve(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let alerts = exported(&app, &params)?;
    let site = &app.live.identity().site;
    let lines: String = alerts.iter().map(|shown| eve::line(site, shown) + "\n").collect();
    Ok(file("application/x-ndjson", "eve.json", lines))
}

/// All that are kept and wanted, oldest first, as a running log.
fn exported(app: &App, params: &Params) -> Result<Vec<AlertShown>, ApiError> {
    params.allow(&filter::NAMES)?;
    let filter = AlertFilter::of(params)?;
    let mut alerts = kept(app, None);
    alerts.retain(|shown| filter.takes(shown));
    alerts.reverse();
    Ok(alerts)
}

/// Newest first. Looked through only when the projection is free again.
fn kept(app: &App, after: Option<(Time, String)>) -> Vec<AlertShown> {
    app.live
        .read(|projection| projection.alerts(after).map(AlertShown::from).collect())
}

fn file(content_type: &'static str, extension: &str, text: String) -> Response {
    let disposition = format!("attachment; filename=\"alerts.{extension}\"");
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, text).into_response()
}

fn unencodable(error: &serde_json::Error) -> ApiError {
    tracing::error!(%error, "alerts could not be encoded; please report this");
    ApiError::new(
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the alerts could not be encoded",
    )
}

#[cfg(test)]
pub mod tests {
    use watchfold_schemas::alert::{
        Alert, Endpoint, Measured, PacketRanges, Reputation, RuleRef, SeenBy, Tier,
    };
    use watchfold_schemas::event::Severity;
    use watchfold_schemas::rules::RuleState;
    use watchfold_schemas::{Chain, Time};

    use crate::projection::shapes::AlertShown;
    use crate::projection::shared::Shared;

    /// A port scan, a little after midnight on a Monday.
    pub fn scan(id: &str) -> AlertShown {
        let alert = Alert {
            rule: RuleRef {
                id: "5f0c7d1e-0000-4000-8000-000000000001".into(),
                name: "port_scan".into(),
                title: "Port scan".into(),
                version: 3,
                set: "default".into(),
            },
            category: "port_scan".into(),
            severity: Severity::High,
            state: RuleState::Enforce,
            attack: "0123456789abcdef".into(),
            subject: "203.0.113.9".into(),
            source: Endpoint {
                ip: Some("203.0.113.9".into()),
                port: Some(40_111),
                mac: None,
            },
            destination: Endpoint {
                ip: Some("192.0.2.10".into()),
                port: Some(22),
                mac: None,
            },
            transport: "tcp".into(),
            community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
            measured: Measured {
                observed: 15,
                threshold: 4,
                base_threshold: 15,
                window_ms: 10_000,
            },
            reputation: Some(Reputation {
                subject: "203.0.113.9".into(),
                tier: Tier::High,
                malicious: 4,
                score: -30,
                known: true,
            }),
            seen_by: SeenBy {
                collector: "capture-lan".into(),
                incarnation: 7,
                interface: "eth0".into(),
                vlans: Vec::new(),
                packets: PacketRanges {
                    ranges: vec![(100, 114)],
                    total: 15,
                },
            },
            message: "203.0.113.9 tried 15 ports of 192.0.2.10".into(),
            facts: Vec::new(),
        };
        AlertShown {
            id: id.into(),
            at: Time(1_785_715_212_345_678_900),
            chain: Chain::Packets,
            alert: Shared::new(alert),
        }
    }

    /// Of a rule on probes that only records.
    pub fn ping_alert(id: &str) -> AlertShown {
        let of_packets = scan(id);
        let alert = Alert {
            severity: Severity::Low,
            state: RuleState::Record,
            source: Endpoint::default(),
            destination: Endpoint::default(),
            community_id: None,
            reputation: None,
            message: "=cmd|' /C calc'!A0, \"quoted\"".into(),
            ..(*of_packets.alert).clone()
        };
        AlertShown {
            chain: Chain::Site,
            alert: Shared::new(alert),
            ..of_packets
        }
    }
}
