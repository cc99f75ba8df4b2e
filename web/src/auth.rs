//! Checks credentials: the access token, and the cookies of sessions that the link opened. Each gives an [`Access`].
//!
//! The token itself appears in its file, in the owner's link and in requests; in no cookie, log line, error or answer.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::time::Instant;
use watchfold_kit::token::{Token, TokenError};

use crate::Access;
use crate::hosts::Hosts;
use crate::sessions::{Sessions, wall_s};

/// Wrong tokens answered with 401 in each window; further ones get 429. A right one always passes, so that nobody can
/// lock the owner out.
pub const FAILURES_MAX: u32 = 60;
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// How long a browser keeps its cookie: as long as browsers allow (RFC 6265bis). The server ends the session itself.
const COOKIE_S_MAX: u64 = 400 * 86_400;

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Wrong,
    /// Too many wrong ones lately.
    Limited,
    /// A cookie of a session that ended: unused for long, or opened under another token.
    Ended,
    /// A cookie from a page of another origin.
    ForeignOrigin,
}

pub struct Auth {
    pub token: Token,
    pub hosts: Hosts,
    sessions: Arc<Sessions>,
    cookie: String,
    failures: Mutex<(Instant, u32)>,
}

impl Auth {
    /// `port` goes into the cookie's name, since cookies do not tell the ports of one host apart.
    pub fn new(token: Token, port: u16, hosts: Hosts, sessions: Arc<Sessions>) -> Auth {
        Auth {
            token,
            hosts,
            sessions,
            cookie: format!("watchfold_{port}"),
            failures: Mutex::new((Instant::now(), 0)),
        }
    }

    /// Opens a session for a browser that came by the link, in place of the one that it had, and returns its cookie.
    pub fn enter(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<String, TokenError> {
        let earlier = cookie(headers, &self.cookie);
        let value = self.sessions.open(Access::owner(), earlier, wall_s())?;
        let secure = match self.hosts.is_https(peer, headers) {
            true => "; Secure",
            false => "",
        };
        // Without a path the cookie is for the folder of the link, also where a proxy serves the page below a prefix.
        let name = &self.cookie;
        Ok(format!(
            "{name}={value}; HttpOnly; SameSite=Strict; Max-Age={COOKIE_S_MAX}{secure}"
        ))
    }

    /// `guarded` requests change something or open the stream; from a browser they must come from our own page.
    pub fn check(&self, headers: &HeaderMap, guarded: bool) -> Result<Access, Refusal> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let bearer = value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
            });
            return match bearer {
                Some(token) if self.token.is(token) => Ok(Access::owner()),
                _ => Err(self.failed()),
            };
        }
        let value = cookie(headers, &self.cookie).ok_or(Refusal::Missing)?;
        let access = self.sessions.find(value, wall_s()).ok_or(Refusal::Ended)?;
        if guarded && !self.hosts.is_same_origin(headers) {
            return Err(Refusal::ForeignOrigin);
        }
        Ok(access)
    }

    /// Checks a token from the link.
    pub fn check_link(&self, token: &str) -> Result<(), Refusal> {
        if self.token.is(token) {
            Ok(())
        } else {
            Err(self.failed())
        }
    }

    fn failed(&self) -> Refusal {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.0.elapsed() >= FAILURES_WINDOW {
            *failures = (Instant::now(), 0);
        }
        failures.1 = failures.1.saturating_add(1);
        match failures.1 {
            count if count <= FAILURES_MAX => Refusal::Wrong,
            count => {
                if count == FAILURES_MAX + 1 {
                    tracing::warn!(
                        limit = FAILURES_MAX,
                        "wrong access tokens are refused with 429 for a minute"
                    );
                }
                Refusal::Limited
            }
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|text| {
            text.split(';').find_map(|pair| {
                let (key, value) = pair.trim().split_once('=')?;
                (key == name).then_some(value)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<header::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    fn auth() -> (Auth, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::known("right");
        let sessions = Sessions::load(folder.path().join("sessions.json"), &token);
        let hosts = Hosts::new(([127, 0, 0, 1], 80).into(), Default::default());
        (Auth::new(token, 80, hosts, sessions), folder)
    }

    #[test]
    fn credentials_and_origins() {
        let (auth, _folder) = auth();
        let entered = auth.enter(&headers(&[]), None).unwrap();
        let cookie = &*format!("other=1; {}", entered.split(';').next().unwrap());
        for (pairs, guarded, want) in [
            (&[][..], false, Err(Refusal::Missing)),
            (&[("authorization", "Bearer right")], true, Ok(())),
            (&[("authorization", "bearer right")], false, Ok(())),
            (&[("authorization", "Bearer wrong")], false, Err(Refusal::Wrong)),
            (&[("authorization", "Basic right")], false, Err(Refusal::Wrong)),
            (
                &[("authorization", "wrong"), ("cookie", cookie)],
                false,
                Err(Refusal::Wrong),
            ),
            (&[("cookie", cookie)], false, Ok(())),
            (&[("cookie", "watchfold_81=right")], false, Err(Refusal::Missing)),
            (&[("cookie", "watchfold_80=wrong")], false, Err(Refusal::Ended)),
            (&[("cookie", "watchfold_80=right")], false, Err(Refusal::Ended)),
            (&[("cookie", cookie)], true, Err(Refusal::ForeignOrigin)),
            (
                &[("cookie", cookie), ("host", "a:1"), ("origin", "http://a:1")],
                true,
                Ok(()),
            ),
            (
                &[("cookie", cookie), ("host", "a:1"), ("origin", "http://a:2")],
                true,
                Err(Refusal::ForeignOrigin),
            ),
            (
                &[("cookie", cookie), ("host", "a:1"), ("origin", "null")],
                true,
                Err(Refusal::ForeignOrigin),
            ),
        ] {
            let found = auth.check(&headers(pairs), guarded).map(drop);
            assert_eq!(found, want, "{pairs:?} {guarded}");
        }
    }

    #[tokio::test]
    async fn many_wrong_tokens_are_limited_and_the_right_one_still_passes() {
        let (auth, _folder) = auth();
        let wrong = headers(&[("authorization", "Bearer wrong")]);
        for _ in 0..FAILURES_MAX {
            assert_eq!(auth.check(&wrong, false), Err(Refusal::Wrong));
        }
        assert_eq!(auth.check(&wrong, false), Err(Refusal::Limited));
        assert_eq!(auth.check_link("wrong"), Err(Refusal::Limited));
        assert!(
            auth.check(&headers(&[("authorization", "Bearer right")]), false)
                .is_ok()
        );
        assert!(auth.check_link("right").is_ok());
    }
}
