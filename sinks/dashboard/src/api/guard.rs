//! What every request passes through: the token, the origin, a time limit, counting, and security headers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use super::App;
use super::error::ApiError;
use crate::auth::{Access, Refusal};
use crate::deliver::{HEAD_BYTES_MAX, Peer};
use crate::hosts::HostProblem;

/// A request that takes longer is answered with 503. The live stream is answered at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The page's own files only; styles also inline, since charts size their elements so.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The longest part of a foreign host's name that an error shows.
const HOST_SHOWN_CHARS_MAX: usize = 100;
/// Catching up takes a moment, unless there was no snapshot.
const CATCHING_UP_RETRY_AFTER_S: u32 = 1;
/// What does not come from the projection, or says itself how far that is.
const TOLD_AT_ONCE: [&str; 4] = [
    "/api/v1/health",
    "/api/v1/stream",
    "/api/v1/events",
    "/api/v1/openapi.json",
];

pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "page".to_owned());
    let mut response = match admit(&app, &request) {
        Ok(access) => {
            let mut request = request;
            request
                .extensions_mut()
                .extend(access.map(extension).unwrap_or_default());
            match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    ApiError::unavailable("timeout", "the answer took too long; try again").into_response()
                }
            }
        }
        Err(response) => *response,
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        response = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "not a method of this address",
        )
        .into_response();
        response
            .headers_mut()
            .extend(allow.map(|allow| (header::ALLOW, allow)));
    }
    app.http.count(&route, response.status().as_u16());
    secure(&mut response);
    response
}

fn extension(access: Access) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(access);
    extensions
}

/// Lets the request pass as somebody, or as nobody where nobody is asked, or gives the answer that it gets instead.
fn admit(app: &App, request: &Request) -> Result<Option<Access>, Box<Response>> {
    let path = request.uri().path();
    let is_open = matches!(path, "/livez" | "/readyz");
    well_formed(request, is_open, app)?;
    if is_open {
        return Ok(None);
    }
    if path == "/"
        && let Some(token) = link_token(request.uri().query())
    {
        return Err(Box::new(match app.auth.check_link(token) {
            Ok(()) => {
                keep_place(request);
                enter(app, request)
            }
            Err(refusal) => refuse(path, refusal),
        }));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let guarded = changes || path == "/api/v1/stream";
    let access = app
        .auth
        .check(request.headers(), guarded)
        .map_err(|refusal| Box::new(refuse(path, refusal)))?;
    keep_place(request);
    if path.starts_with("/api/") && !TOLD_AT_ONCE.contains(&path) {
        caught_up(app)?;
    }
    Ok(Some(access))
}

/// Refuses heads that are too long and hosts that are not ours. `is_open` paths say nothing about the site, and probes ask for them under
/// any name.
fn well_formed(request: &Request, is_open: bool, app: &App) -> Result<(), Box<Response>> {
    if head_bytes(request) > HEAD_BYTES_MAX {
        let error = ApiError::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head_too_large",
            format!("the head of the request is longer than {HEAD_BYTES_MAX} bytes"),
        );
        return Err(Box::new(error.into_response()));
    }
    let error = match app.auth.hosts.check(request.uri(), request.headers()) {
        Ok(()) => return Ok(()),
        Err(HostProblem::Foreign(_)) if is_open => return Ok(()),
        Err(HostProblem::Missing) => ApiError::bad_request("no_host", "the request has no Host header"),
        Err(HostProblem::Doubled) => {
            ApiError::bad_request("two_hosts", "the request has more than one Host header")
        }
        Err(HostProblem::Malformed) => {
            ApiError::bad_request("invalid_host", "the request's Host header is not a host and port")
        }
        Err(HostProblem::Foreign(name)) => {
            let name: String = name.chars().take(HOST_SHOWN_CHARS_MAX).collect();
            ApiError::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                format!(
                    "{name:?} is not a name of this page: if it should be, add it to hosts in the section [dashboard] of \
                     the configuration, as in hosts = [{name:?}], or set public_url there, and restart"
                ),
            )
        }
    };
    Err(Box::new(error.into_response()))
}

/// The bytes of a request's head as HTTP/1.1 writes it.
fn head_bytes(request: &Request) -> usize {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(1, |target| target.as_str().len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len() + "http://".len());
    let line = request.method().as_str().len() + target + authority + "  HTTP/1.1\r\n\r\n".len();
    let headers = request.headers().iter();
    headers.fold(line, |sum, (name, value)| {
        sum + name.as_str().len() + value.len() + ": \r\n".len()
    })
}

/// The connection of a request with a valid credential keeps its place.
fn keep_place(request: &Request) {
    if let Some(peer) = request.extensions().get::<Peer>() {
        peer.place.showed_credential();
    }
}

/// What is known of the site is older than the log until all of that is folded again, and is not told before.
fn caught_up(app: &App) -> Result<(), Box<Response>> {
    let Some((position, head)) = app.live.catching_up() else {
        return Ok(());
    };
    let (done, all) = (
        position.events + position.observations,
        head.events + head.observations,
    );
    let percent = (done.min(all) * 100).checked_div(all).unwrap_or(0);
    let message = format!("Watchfold reads what its log holds, {percent} % so far: ask again in a moment");
    let error = ApiError::unavailable("catching_up", message).retry_after(CATCHING_UP_RETRY_AFTER_S);
    Err(Box::new(error.into_response()))
}

/// Where the link leads, relative to it: a proxy may serve the page below a prefix that is not known here (RFC 9110 section 10.2.2).
const PAGE: HeaderValue = HeaderValue::from_static("./");

/// Opens a session and leads to the page without the token in the address.
fn enter(app: &App, request: &Request) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
    let cookie = match app.auth.enter(request.headers(), peer) {
        Ok(cookie) => cookie,
        Err(error) => {
            tracing::error!(%error, "no session could be opened for a browser");
            return ApiError::unavailable("no_random_bytes", "the system gave no random bytes")
                .into_response();
        }
    };
    let Ok(cookie) = HeaderValue::try_from(cookie) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, PAGE)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn refuse(path: &str, refusal: Refusal) -> Response {
    let (status, code, message) = match refusal {
        Refusal::Missing => (
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send the access token: Authorization: Bearer …",
        ),
        Refusal::Wrong => (
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this is not the access token",
        ),
        Refusal::Ended => (
            StatusCode::UNAUTHORIZED,
            "session_ended",
            "this browser's session has ended: open the link with the token again",
        ),
        Refusal::Limited => (
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_failures",
            "too many wrong tokens; try later",
        ),
        Refusal::ForeignOrigin => (
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "only the page itself may ask for this",
        ),
    };
    if path == "/" && status == StatusCode::UNAUTHORIZED {
        return (status, Html(include_str!("../signin.html"))).into_response();
    }
    ApiError::new(status, code, message).into_response()
}

/// The token has only characters that stand for themselves in an address.
fn link_token(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

fn secure(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}
