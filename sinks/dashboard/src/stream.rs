//! `GET /api/v1/stream`: one viewer's WebSocket. What viewers send is read and ignored, but for their answers to pings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use watchfold_web::{ApiError, Io, Socket};

use crate::api::App;
use crate::api::params::Params;
use crate::frames::{Frame, Inbox, Received, accept};
use crate::live::Joined;
use crate::projection::shapes::Position;

/// A viewer is asked for a sign of life this often …
const PING_EVERY: Duration = Duration::from_secs(15);
/// … and is gone when it has answered none of the questions for this long: it reads nothing, whatever else it sends.
const UNANSWERED_MAX: Duration = Duration::from_secs(45);
/// Pings that may still be answered: a slow viewer reads them behind everything that was sent before.
const PINGS_OPEN_MAX: u64 = 3;
/// A viewer that has not taken a whole message within this time is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The last word to a viewer takes no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of one read; viewers send answers to pings.
const READ_BYTES: usize = 512;
/// RFC 6455, section 7.4.1: the server is going away.
const CLOSE_GOING_AWAY: u16 = 1001;
/// The same section: the purpose is fulfilled.
const CLOSE_NORMAL: u16 = 1000;

pub async fn stream(
    State(app): State<Arc<App>>,
    params: Params,
    mut request: Request,
) -> Result<Response, ApiError> {
    params.allow(&["after"])?;
    let after = params.get("after").map(|text| {
        parse_position(text).ok_or_else(|| ApiError::parameter("after", "two sequences, as in after=12,345"))
    });
    let after = after.transpose()?;
    let answer = accept(request.headers()).map_err(|lack| ApiError::bad_request("upgrade_required", lack))?;
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(ApiError::bad_request(
            "upgrade_required",
            "this connection cannot become a WebSocket",
        ));
    };
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
    tokio::spawn(async move {
        // What hyper needed for HTTP is given back; a viewer keeps its socket and what it has not sent in whole.
        let parts = upgrade
            .await
            .ok()
            .and_then(|upgraded| upgraded.downcast::<Io>().ok());
        if let Some(parts) = parts {
            let (read, write) = tokio::io::split(parts.io.into_inner());
            let mut inbox = Inbox::default();
            inbox.extend(&parts.read_buf);
            drop(parts.read_buf);
            Viewer::new(read, write, inbox).view(&app, after).await;
        }
        drop(place);
    });
    Ok(answer)
}

/// One viewer's end.
struct Viewer {
    read: ReadHalf<Socket>,
    write: WriteHalf<Socket>,
    inbox: Inbox,
    /// The number of the last ping. The first one is random: nobody answers a ping without reading it.
    asked: u64,
    /// When the viewer last answered one.
    answered: Instant,
}

/// The viewer is gone, or has to go.
struct Gone;

impl Viewer {
    fn new(read: ReadHalf<Socket>, write: WriteHalf<Socket>, inbox: Inbox) -> Viewer {
        Viewer {
            read,
            write,
            inbox,
            // Without random numbers they are only easier to guess.
            asked: getrandom::u64().unwrap_or_default(),
            answered: Instant::now(),
        }
    }

    /// Serves the viewer until either side ends it.
    async fn view(mut self, app: &App, after: Option<Position>) {
        let mut joined = app.live.join(after);
        if self.send_first(&mut joined).await.is_err() {
            return;
        }
        if let Some(beat) = app.live.stale_beat()
            && self.send(&beat).await.is_err()
        {
            return;
        }
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bytes = [0; READ_BYTES];
        loop {
            let alive = tokio::select! {
                // Answers are taken before the next question is asked, and questions are asked under any load.
                biased;
                () = app.cancel.cancelled() => {
                    let close = Frame::close(CLOSE_GOING_AWAY, "the server stops");
                    // It stops either way.
                    let _ = timeout(CLOSE_TIMEOUT, self.send(&close)).await;
                    Err(Gone)
                }
                read = self.read.read(&mut bytes) => match read {
                    Ok(count) if count > 0 => self.take(&bytes[..count]).await,
                    _ => Err(Gone),
                },
                _ = ping.tick() => self.ask(app).await,
                next = joined.next.recv() => match next {
                    Ok(message) => self.send(&message).await,
                    Err(RecvError::Lagged(missed)) => {
                        app.live.resyncs.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(missed, "a viewer fell behind and gets a whole state");
                        joined = app.live.join(None);
                        self.send_first(&mut joined).await
                    }
                    Err(RecvError::Closed) => Err(Gone),
                },
            };
            if alive.is_err() {
                return;
            }
        }
    }

    async fn send_first(&mut self, joined: &mut Joined) -> Result<(), Gone> {
        for message in std::mem::take(&mut joined.first) {
            self.send(&message).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, app: &App) -> Result<(), Gone> {
        if self.answered.elapsed() >= UNANSWERED_MAX {
            app.live.unread.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("a viewer that reads nothing is disconnected");
            return Err(Gone);
        }
        self.asked = self.asked.wrapping_add(1);
        self.send(&Frame::ping(self.asked)).await
    }

    /// Takes what the viewer sent.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.inbox.extend(bytes);
        while let Some(received) = self.inbox.next().map_err(|_| Gone)? {
            match received {
                Received::Ping(payload) => self.send(&Frame::pong(&payload)).await?,
                Received::Pong(payload) if answers(&payload, self.asked) => self.answered = Instant::now(),
                Received::Pong(_) | Received::Data => {}
                Received::Close => {
                    // It leaves either way.
                    let _ = timeout(CLOSE_TIMEOUT, self.send(&Frame::close(CLOSE_NORMAL, ""))).await;
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Gone> {
        let write = async {
            self.write.write_all(frame.bytes()).await?;
            self.write.flush().await
        };
        match timeout(SEND_TIMEOUT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

/// Whether a pong carries the number of one of the last pings.
fn answers(payload: &[u8], asked: u64) -> bool {
    let number = payload.try_into().map(u64::from_be_bytes);
    number.is_ok_and(|number| asked.wrapping_sub(number) < PINGS_OPEN_MAX)
}

fn parse_position(text: &str) -> Option<Position> {
    let (events, observations) = text.split_once(',')?;
    Some(Position {
        events: events.parse().ok()?,
        observations: observations.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_of_a_late_ping_is_an_answer() {
        for (payload, asked, want) in [
            (&7_u64.to_be_bytes()[..], 7, true),
            (&5_u64.to_be_bytes(), 7, true),
            (&4_u64.to_be_bytes(), 7, false),
            (&8_u64.to_be_bytes(), 7, false),
            (&u64::MAX.to_be_bytes(), 1, true),
            (b"", 7, false),
            (b"7", 7, false),
        ] {
            assert_eq!(answers(payload, asked), want, "{payload:?} after {asked}");
        }
    }
}
