//! The access token and who may pass: a bearer, the cookie that the link sets once, and nobody else.
//!
//! The token itself appears in its file, in the owner's link and in requests; in no log line, error or answer.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::DashboardError;

/// Random bytes in a token: 256 bits.
const TOKEN_BYTES: usize = 32;
/// Their base64url form.
const TOKEN_TEXT_BYTES: usize = 43;
/// Wrong tokens answered with 401 in each window; further ones get 429. A right one always passes, so that nobody can
/// lock the owner out.
pub const FAILURES_MAX: u32 = 60;
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// The access token. Its `Debug` does not show it.
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads `path`, or makes it with a new token that only the owner may read.
    pub fn load_or_create(path: &Path) -> Result<Token, DashboardError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Token::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Token::create(path),
            Err(source) => Err(DashboardError::Data {
                action: "read",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn is(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// For the cookie and the owner's link.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn parse(path: &Path, text: &str) -> Result<Token, DashboardError> {
        let text = text.trim();
        let decoded = URL_SAFE_NO_PAD.decode(text);
        if text.len() != TOKEN_TEXT_BYTES || !decoded.is_ok_and(|bytes| bytes.len() == TOKEN_BYTES) {
            return Err(DashboardError::Token {
                path: path.to_owned(),
            });
        }
        Ok(Token(text.to_owned()))
    }

    fn create(path: &Path) -> Result<Token, DashboardError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| DashboardError::Random(error.to_string()))?;
        let token = Token(URL_SAFE_NO_PAD.encode(bytes));
        let fail = |action| {
            move |source| DashboardError::Data {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        std::fs::create_dir_all(&folder).map_err(fail("create the folder of"))?;
        // A temporary file is readable by its owner alone from its first moment.
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(fail("create"))?;
        writeln!(file, "{}", token.0).map_err(fail("write"))?;
        file.as_file().sync_all().map_err(fail("sync"))?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(token),
            // Another process was first: its token counts.
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Token::load_or_create(path)
            }
            Err(error) => Err(fail("create")(error.error)),
        }
    }
}

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
    fn a_token_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("token");
        let first = Token::load_or_create(&path).unwrap();
        assert_eq!(first.expose().len(), TOKEN_TEXT_BYTES);
        assert!(Token::load_or_create(&path).unwrap().is(first.expose()));
        assert!(!first.is("") && !first.is(&first.expose()[1..]));
        assert!(!format!("{first:?}").contains(first.expose()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        std::fs::write(&path, "short").unwrap();
        let error = Token::load_or_create(&path).unwrap_err();
        assert!(
            error.to_string().contains("delete it") && !error.to_string().contains("short"),
            "{error}"
        );
    }

    #[test]
    fn credentials_and_origins() {
        let auth = Auth::new(Token("right".into()), 80);
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
        let auth = Auth::new(Token("right".into()), 80);
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
