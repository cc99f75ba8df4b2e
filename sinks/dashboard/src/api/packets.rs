//! The packets behind an alert, as a file for packet analysers. Where they are kept is not known here: the dashboard is given a
//! function for it, asks it for one alert at a time, and passes on what it says.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use watchfold_schemas::alert::SeenBy;
use watchfold_schemas::{Span, Time};
use watchfold_web::ApiError;

use super::App;
use super::explain::window_before;
use super::params::Params;

/// The largest file that is handed out; packets beyond it are left out by whoever cuts it.
pub const PACKETS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Files cut at once; a further one gets 503.
const CUT_AT_ONCE: usize = 2;
/// How long cutting one may take: below the limit of every request, so that it gets an answer of its own.
const CUT_TIMEOUT: Duration = Duration::from_secs(25);
/// What lies this long before and after the packets that counted tells how it began and what came of it.
const AROUND: Span = Span::from_seconds(5);

/// What of the kept packets is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketsRequest {
    /// Who captured it, and the numbers of the packets that counted.
    pub seen_by: SeenBy,
    /// From the beginning of the alert's window, and some time before.
    pub from: Time,
    /// To when it fired, and some time after.
    pub until: Time,
    pub bytes_max: usize,
}

/// Gives the packets as one pcapng file. The future may read files, and ends its work when it is dropped.
pub type Packets = Arc<
    dyn Fn(PacketsRequest) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, PacketsFailure>> + Send>>
        + Send
        + Sync,
>;

/// Why there are no packets, in words for an operator that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum PacketsFailure {
    /// This collector keeps none.
    #[error("{0}")]
    NotKept(String),
    /// They were kept, and newer ones took their place.
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    Unreadable(String),
}

/// Who may have packets now.
pub struct Cutting {
    packets: Option<Packets>,
    places: Semaphore,
}

impl Cutting {
    pub fn new(packets: Option<Packets>) -> Cutting {
        Cutting {
            packets,
            places: Semaphore::new(CUT_AT_ONCE),
        }
    }

    async fn cut(&self, request: PacketsRequest) -> Result<Vec<u8>, ApiError> {
        let Some(packets) = &self.packets else {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "packets_not_kept",
                "no packets are kept here: set ring_mib in the [[capture]] table of the configuration to keep them from now on",
            ));
        };
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!(
                limit = CUT_AT_ONCE,
                "packets were refused: too many are asked for"
            );
            return Err(ApiError::unavailable(
                "busy",
                "packets are cut for others right now: try again in a moment",
            ));
        };
        match timeout(CUT_TIMEOUT, packets(request)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(PacketsFailure::NotKept(why))) => {
                Err(ApiError::new(StatusCode::NOT_FOUND, "packets_not_kept", why))
            }
            Ok(Err(PacketsFailure::Gone(why))) => Err(ApiError::new(StatusCode::GONE, "packets_gone", why)),
            Ok(Err(PacketsFailure::Unreadable(why))) => {
                tracing::warn!(why, "kept packets could not be read");
                Err(ApiError::unavailable("packets_unreadable", why))
            }
            Err(_) => Err(ApiError::unavailable(
                "timeout",
                format!(
                    "the packets were not found within {} s: try again when the disk is less busy",
                    CUT_TIMEOUT.as_secs()
                ),
            )),
        }
    }
}

pub async fn of_alert(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    params.allow(&[])?;
    let found = app.live.read(|projection| {
        let entry = projection.alert(&id)?;
        Some(PacketsRequest {
            seen_by: entry.alert.seen_by.clone(),
            from: window_before(entry.at, entry.alert.measured.window_ms) - AROUND,
            until: entry.at + AROUND,
            bytes_max: PACKETS_BYTES_MAX,
        })
    });
    let request = found.ok_or_else(|| ApiError::not_found("no alert that is kept has this id"))?;
    if request.seen_by.packets.total == 0 {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "packets_not_kept",
            "this alert came of no packets: its rule looks at something else",
        ));
    }
    let bytes = app.cutting.cut(request).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-pcapng".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"alert-{}.pcapng\"", file_name(&id)),
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// Ids are hexadecimal digits; anything else has no place in a header.
fn file_name(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}
