//! Access tokens: given in the environment, or made once and kept in a file that only its owner may read; compared in
//! constant time.
//!
//! The token itself appears in its file and in requests; in no log line, error or answer.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

/// Random bytes in a token: 256 bits.
const TOKEN_BYTES: usize = 32;
/// Their base64url form.
const TOKEN_TEXT_BYTES: usize = 43;

/// Where a token is given that is not in a file: containers are told their secrets so.
pub const TOKEN_VARIABLE: &str = "WATCHFOLD_TOKEN";
/// Fewer characters than this can be guessed.
const GIVEN_BYTES_MIN: usize = 32;
/// More than this is a file that went into the wrong place.
const GIVEN_BYTES_MAX: usize = 512;

/// An access token. Its `Debug` does not show it.
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{path} does not hold an access token: delete it, and a new one is made at the next start")]
    Damaged { path: PathBuf },
    #[error("failed to {action} {path}: {source}; make its directory writable and start again")]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{TOKEN_VARIABLE} is no access token: give {GIVEN_BYTES_MIN} to {GIVEN_BYTES_MAX} of the letters a-z, A-Z, \
         digits, '-', '_', '.' and '~' (`openssl rand -hex 32` makes one), or leave it out, and one is made"
    )]
    Given,
    #[error("the system gave no random bytes for an access token: {0}")]
    Random(String),
}

impl Token {
    /// The token of the environment, if it gives one, else that of `path`.
    pub fn given_or_kept(path: &Path) -> Result<Token, TokenError> {
        match std::env::var_os(TOKEN_VARIABLE) {
            Some(text) => Token::given(&text.to_string_lossy()),
            None => Token::load_or_create(path),
        }
    }

    /// A token that somebody chose. It goes into links and cookies as it is.
    fn given(text: &str) -> Result<Token, TokenError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if (GIVEN_BYTES_MIN..=GIVEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Token(text.to_owned()))
        } else {
            Err(TokenError::Given)
        }
    }

    /// Reads `path`, or makes it with a new token that only the owner may read.
    pub fn load_or_create(path: &Path) -> Result<Token, TokenError> {
        match watchfold_config::read_text(path) {
            Ok(text) => Token::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Token::create(path),
            Err(source) => Err(TokenError::File {
                action: "read",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// A new token of 256 random bits.
    pub fn random() -> Result<Token, TokenError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        Ok(Token(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A token that a test chose.
    pub fn known(text: &str) -> Token {
        Token(text.to_owned())
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn is(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// For the owner's link.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn parse(path: &Path, text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        let decoded = URL_SAFE_NO_PAD.decode(text);
        if text.len() != TOKEN_TEXT_BYTES || !decoded.is_ok_and(|bytes| bytes.len() == TOKEN_BYTES) {
            return Err(TokenError::Damaged {
                path: path.to_owned(),
            });
        }
        Ok(Token(text.to_owned()))
    }

    fn create(path: &Path) -> Result<Token, TokenError> {
        let token = Token::random()?;
        let fail = |action| {
            move |source| TokenError::File {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_token_is_long_and_plain() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(Token::given(&hex).unwrap().is(&hex));
        let long = "x".repeat(GIVEN_BYTES_MAX + 1);
        let odd = [
            &hex[..31],
            "",
            &long,
            &format!("{hex} "),
            &format!("{hex};"),
            &format!("{hex}é"),
        ];
        for text in odd {
            let error = Token::given(text).unwrap_err().to_string();
            assert!(
                error.contains(TOKEN_VARIABLE) && error.contains("openssl"),
                "{error}"
            );
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
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
}
