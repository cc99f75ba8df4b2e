//! `GET /api/v1/stream`: one viewer's WebSocket. What viewers send is read and ignored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::api::App;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::projection::shapes::Position;

/// Viewers at once; the next one gets 503.
pub const VIEWERS_MAX: usize = 2_000;
/// The largest frame taken from a viewer, who has nothing to say.
const VIEWER_FRAME_BYTES_MAX: usize = 4 * 1024;
/// A viewer is asked for a sign of life this often …
const PING_EVERY: Duration = Duration::from_secs(15);
/// … and is gone when none came for this long.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A viewer that takes no bytes for this long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 6455, section 7.4.1: the server is going away.
const CLOSE_GOING_AWAY: u16 = 1001;

pub async fn stream(
    State(app): State<Arc<App>>,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    params.allow(&["after"])?;
    let after = params.get("after").map(|text| {
        parse_position(text).ok_or_else(|| ApiError::parameter("after", "two sequences, as in after=12,345"))
    });
    let after = after.transpose()?;
    let upgrade =
        upgrade.map_err(|rejection| ApiError::bad_request("upgrade_required", &rejection.body_text()))?;
    let Ok(place) = Arc::clone(&app.viewer_places).try_acquire_owned() else {
        app.live.turned_away.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            limit = app.viewers_max,
            "a viewer was turned away: there are too many"
        );
        return Err(ApiError::unavailable(
            "too_many_viewers",
            "too many viewers: close some, or try again later",
        ));
    };
    let upgrade = upgrade
        .max_message_size(VIEWER_FRAME_BYTES_MAX)
        .max_frame_size(VIEWER_FRAME_BYTES_MAX);
    let respond = upgrade.on_upgrade(move |socket| async move {
        view(socket, &app, after).await;
        drop(place);
    });
    Ok(respond.into_response())
}

/// Serves one viewer until either side ends it.
async fn view(mut socket: WebSocket, app: &App, after: Option<Position>) {
    let mut joined = app.live.join(after);
    let mut heard = Instant::now();
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for message in std::mem::take(&mut joined.first) {
        if !send(&mut socket, message).await {
            return;
        }
    }
    loop {
        let alive = tokio::select! {
            () = app.cancel.cancelled() => {
                let reason = Utf8Bytes::from_static("the server stops");
                let close = Message::Close(Some(CloseFrame { code: CLOSE_GOING_AWAY, reason }));
                // It stops either way.
                let _ = timeout(Duration::from_millis(500), socket.send(close)).await;
                false
            }
            next = joined.next.recv() => match next {
                Ok(message) => send(&mut socket, message).await,
                Err(RecvError::Lagged(missed)) => {
                    app.live.resyncs.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(missed, "a viewer fell behind and gets a whole state");
                    joined = app.live.join(None);
                    send_all(&mut socket, std::mem::take(&mut joined.first)).await
                }
                Err(RecvError::Closed) => false,
            },
            received = socket.recv() => {
                heard = Instant::now();
                matches!(received, Some(Ok(ref message)) if !matches!(message, Message::Close(_)))
            }
            _ = ping.tick() => {
                let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                heard.elapsed() < SILENCE_MAX && matches!(timeout(SEND_TIMEOUT, ping).await, Ok(Ok(())))
            }
        };
        if !alive {
            return;
        }
    }
}

async fn send_all(socket: &mut WebSocket, messages: Vec<Utf8Bytes>) -> bool {
    for message in messages {
        if !send(socket, message).await {
            return false;
        }
    }
    true
}

async fn send(socket: &mut WebSocket, text: Utf8Bytes) -> bool {
    matches!(
        timeout(SEND_TIMEOUT, socket.send(Message::Text(text))).await,
        Ok(Ok(()))
    )
}

fn parse_position(text: &str) -> Option<Position> {
    let (events, observations) = text.split_once(',')?;
    Some(Position {
        events: events.parse().ok()?,
        observations: observations.parse().ok()?,
    })
}
