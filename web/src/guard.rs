//! What every request passes through: its host, credential, role and origin, a time limit, counting, and security headers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};

use crate::auth::{Auth, Refusal};
use crate::hosts::HostProblem;
use crate::requests::Requests;
use crate::routes::{Declared, Routes, Table};
use crate::server::{HEAD_BYTES_MAX, Peer};
use crate::{Access, ApiError, Permission};

/// A request that takes longer is answered with 503. The live stream is answered at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The page's own files only; styles also inline, since charts size their elements so.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The longest part of a foreign host's name that an error shows.
const HOST_SHOWN_CHARS_MAX: usize = 100;

/// Who may pass to which route.
pub struct Guard {
    auth: Auth,
    table: Table,
    requests: Arc<Requests>,
}

impl Guard {
    /// Puts a guard in front of `routes`.
    pub fn around(routes: Routes, auth: Auth, requests: Arc<Requests>) -> Router {
        let (router, table) = routes.into_parts();
        let guard = Guard {
            auth,
            table,
            requests,
        };
        router.layer(from_fn_with_state(Arc::new(guard), guarded))
    }

    /// What the route of a request declares. What is no route, and a method that a path does not have, gets its answer from the
    /// router, for those who may view.
    fn declared(&self, request: &Request) -> Declared {
        let method = match *request.method() {
            Method::HEAD => "GET",
            ref method => method.as_str(),
        };
        let path = request.extensions().get::<MatchedPath>();
        let declared = path.and_then(|path| self.table.get(&(path.as_str(), method)));
        declared.copied().unwrap_or(Declared {
            permission: Permission::View,
            is_guarded: method != "GET",
        })
    }

    /// Lets the request pass as somebody, or as nobody where nobody is asked, or gives the answer that it gets instead.
    fn admit(&self, request: &Request) -> Result<Option<Access>, Box<Response>> {
        let path = request.uri().path();
        let declared = self.declared(request);
        let is_open = declared.permission == Permission::Open;
        self.well_formed(request, is_open)?;
        if is_open {
            return Ok(None);
        }
        if path == "/"
            && let Some(token) = link_token(request.uri().query())
        {
            return Err(Box::new(match self.auth.check_link(token) {
                Ok(()) => {
                    keep_place(request);
                    self.enter(request)
                }
                Err(refusal) => refuse(path, refusal),
            }));
        }
        let access = self
            .auth
            .check(request.headers(), declared.is_guarded)
            .map_err(|refusal| Box::new(refuse(path, refusal)))?;
        keep_place(request);
        if !access.role.may(declared.permission) {
            let message = "your role does not allow this: ask an administrator";
            let error = ApiError::new(StatusCode::FORBIDDEN, "not_allowed", message);
            return Err(Box::new(error.into_response()));
        }
        Ok(Some(access))
    }

    /// Refuses heads that are too long and hosts that are not ours. `is_open` paths say nothing about the site, and probes ask for them
    /// under any name.
    fn well_formed(&self, request: &Request, is_open: bool) -> Result<(), Box<Response>> {
        if head_bytes(request) > HEAD_BYTES_MAX {
            let error = ApiError::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head_too_large",
                format!("the head of the request is longer than {HEAD_BYTES_MAX} bytes"),
            );
            return Err(Box::new(error.into_response()));
        }
        match self.auth.hosts.check(request.uri(), request.headers()) {
            Ok(()) => Ok(()),
            Err(HostProblem::Foreign(_)) if is_open => Ok(()),
            Err(problem) => Err(Box::new(refuse_host(problem).into_response())),
        }
    }

    /// Opens a session and leads to the page without the token in the address.
    fn enter(&self, request: &Request) -> Response {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let cookie = match self.auth.enter(request.headers(), peer) {
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
}

async fn guarded(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "page".to_owned());
    let mut response = match guard.admit(&request) {
        Ok(access) => {
            if let Some(access) = access {
                request.extensions_mut().insert(access);
            }
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
        response = wrong_method(&response);
    }
    guard.requests.count(&route, response.status().as_u16());
    secure(&mut response);
    response
}

fn wrong_method(response: &Response) -> Response {
    let allow = response.headers().get(header::ALLOW).cloned();
    let message = "not a method of this address";
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut answer = error.into_response();
    answer
        .headers_mut()
        .extend(allow.map(|allow| (header::ALLOW, allow)));
    answer
}

fn refuse_host(problem: HostProblem) -> ApiError {
    match problem {
        HostProblem::Missing => ApiError::bad_request("no_host", "the request has no Host header"),
        HostProblem::Doubled => {
            ApiError::bad_request("two_hosts", "the request has more than one Host header")
        }
        HostProblem::Malformed => {
            ApiError::bad_request("invalid_host", "the request's Host header is not a host and port")
        }
        HostProblem::Foreign(name) => {
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
    }
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

/// Where the link leads, relative to it: a proxy may serve the page below a prefix that is not known here (RFC 9110 section 10.2.2).
const PAGE: HeaderValue = HeaderValue::from_static("./");

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
        return (status, Html(include_str!("signin.html"))).into_response();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use watchfold_kit::token::Token;

    use super::*;
    use crate::hosts::Hosts;
    use crate::sessions::{Sessions, wall_s};
    use crate::{Role, Scope};

    /// The status of a request to routes of every permission, with the cookie of a session that has `role`.
    async fn status(role: Option<Role>, method: &str, path: &str, origin: Option<&str>) -> u16 {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::known("right");
        let sessions = Sessions::load(folder.path().join("sessions.json"), &token);
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if let Some(role) = role {
            let access = Access {
                who: "somebody".into(),
                role,
                scope: Scope::Sites(BTreeSet::from(["cafe".into()])),
            };
            let value = sessions.open(access, None, wall_s()).unwrap();
            request = request.header("cookie", format!("watchfold_80={value}"));
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let hosts = Hosts::new(([127, 0, 0, 1], 80).into(), Default::default());
        let auth = Auth::new(token, 80, hosts, sessions);
        let ok = || async { "ok" };
        let gate = |access: &Access| match access.scope.covers("cafe") {
            true => Err(ApiError::unavailable("gated", "behind a gate")),
            false => Ok(()),
        };
        let gated = Routes::new().get("/gated", Permission::View, ok).gated(gate);
        let routes = Routes::new()
            .get("/open", Permission::Open, ok)
            .get("/view", Permission::View, ok)
            .socket("/stream", Permission::View, ok)
            .post("/act", Permission::Operate, ok)
            .get("/act", Permission::View, ok)
            .delete("/users", Permission::Administer, ok)
            .merge(gated)
            .fallback(ok);
        let router = Guard::around(routes, auth, Arc::default());
        let request = request.body(Body::empty()).unwrap();
        let answer = TowerToHyperService::new(router).call(request).await.unwrap();
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn a_route_answers_those_whose_role_has_its_permission() {
        use Role::{Admin, Operator, Viewer};
        let own = Some("http://localhost");
        for (role, method, path, origin, want) in [
            (None, "GET", "/open", None, 200),
            (None, "GET", "/view", None, 401),
            (None, "POST", "/act", None, 401),
            (None, "GET", "/no-route", None, 401),
            (None, "POST", "/open", None, 401),
            (Some(Viewer), "GET", "/view", None, 200),
            (Some(Viewer), "HEAD", "/view", None, 200),
            (Some(Viewer), "GET", "/no-route", None, 200),
            (Some(Viewer), "GET", "/gated", None, 503),
            (Some(Viewer), "GET", "/act", None, 200),
            (Some(Viewer), "POST", "/act", own, 403),
            (Some(Viewer), "POST", "/view", own, 405),
            (Some(Operator), "POST", "/act", own, 200),
            (Some(Operator), "POST", "/act", None, 403),
            (Some(Operator), "POST", "/act", Some("http://evil.example"), 403),
            (Some(Operator), "DELETE", "/users", own, 403),
            (Some(Admin), "DELETE", "/users", own, 200),
            (Some(Viewer), "GET", "/stream", None, 403),
            (Some(Viewer), "GET", "/stream", own, 200),
        ] {
            let found = status(role, method, path, origin).await;
            assert_eq!(found, want, "{role:?} {method} {path} {origin:?}");
        }
    }
}
