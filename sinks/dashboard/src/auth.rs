//! The access token and who may pass: a bearer, the cookie that the link sets once, and nobody else.
//!
//! The token itself appears in its file, in the owner's link and in requests; in no log line, error or answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::time::Instant;
use watchfold_process::token::Token;

/// Wrong tokens answered with 401 in each window; further ones get 429. A right one always passes, so that nobody can
/// lock the owner out.
pub const FAILURES_MAX: u32 = 60;
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// By what a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Bearer,
    /// Browsers send it by themselves, so the request's origin is checked too.
    Cookie,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Wrong,
    /// Too many wrong ones lately.
    Limited,
    /// A cookie from a page of another origin.
    ForeignOrigin,
}

pub struct Auth {
    pub token: Token,
    cookie: String,
    failures: Mutex<(Instant, u32)>,
}

impl Auth {
    /// `port` goes into the cookie's name, since cookies do not tell the ports of one host apart.
    pub fn new(token: Token, port: u16) -> Auth {
        Auth {
            token,
            cookie: format!("watchfold_{port}"),
            failures: Mutex::new((Instant::now(), 0)),
        }
    }

    /// The cookie that lets a browser in.
    pub fn set_cookie(&self) -> String {
        // A year: the token does not expire by itself either.
        format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000",
            self.cookie,
            self.token.expose()
        )
    }

    /// `guarded` requests change something or open the stream; from a browser they must come from our own page.
    pub fn check(&self, headers: &HeaderMap, guarded: bool) -> Result<Credential, Refusal> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let bearer = value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
            });
            return match bearer {
                Some(token) if self.token.is(token) => Ok(Credential::Bearer),
                _ => Err(self.failed()),
            };
        }
        match cookie(headers, &self.cookie) {
            None => Err(Refusal::Missing),
            Some(value) if !self.token.is(value) => Err(self.failed()),
            Some(_) if guarded && !same_origin(headers) => Err(Refusal::ForeignOrigin),
            Some(_) => Ok(Credential::Cookie),
        }
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

/// Whether `Origin` names the host that the request was sent to.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)),
        _ => false,
    }
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

    #[test]
    fn credentials_and_origins() {
        let auth = Auth::new(Token::known("right"), 80);
        let cookie = "other=1; watchfold_80=right";
        for (pairs, guarded, want) in [
            (&[][..], false, Err(Refusal::Missing)),
            (&[("authorization", "Bearer right")], true, Ok(Credential::Bearer)),
            (
                &[("authorization", "bearer right")],
                false,
                Ok(Credential::Bearer),
            ),
            (&[("authorization", "Bearer wrong")], false, Err(Refusal::Wrong)),
            (&[("authorization", "Basic right")], false, Err(Refusal::Wrong)),
            (
                &[("authorization", "wrong"), ("cookie", cookie)],
                false,
                Err(Refusal::Wrong),
            ),
            (&[("cookie", cookie)], false, Ok(Credential::Cookie)),
            (&[("cookie", "watchfold_81=right")], false, Err(Refusal::Missing)),
            (&[("cookie", "watchfold_80=wrong")], false, Err(Refusal::Wrong)),
            (&[("cookie", cookie)], true, Err(Refusal::ForeignOrigin)),
            (
                &[("cookie", cookie), ("host", "a:1"), ("origin", "http://a:1")],
                true,
                Ok(Credential::Cookie),
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
            assert_eq!(auth.check(&headers(pairs), guarded), want, "{pairs:?} {guarded}");
        }
    }

    #[tokio::test]
    async fn many_wrong_tokens_are_limited_and_the_right_one_still_passes() {
        let auth = Auth::new(Token::known("right"), 80);
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
