//! Secrets: inline, from a file, or from the environment.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer};
use watchfold_schemas::plain_text;

/// The longest file of a secret, in bytes; addresses and keys have some hundred.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is. Its `Debug` shows a reference, never an inline value.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    Inline(String),
    File(String),
    Env(String),
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretRef, D::Error> {
        let wrong =
            || serde::de::Error::custom("a secret is \"text\", { file = \"path\" } or { env = \"NAME\" }");
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(SecretRef::Inline(text)),
            toml::Value::Table(table) if table.len() == 1 => match table.into_iter().next() {
                Some((key, toml::Value::String(path))) if key == "file" => Ok(SecretRef::File(path)),
                Some((key, toml::Value::String(name))) if key == "env" => Ok(SecretRef::Env(name)),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretRef::Inline(_) => f.write_str("inline"),
            SecretRef::File(at) => write!(f, "file {at:?}"),
            SecretRef::Env(at) => write!(f, "env {at:?}"),
        }
    }
}

impl SecretRef {
    /// The secret itself, in the caller's type for secrets; `key` is for the message when it is not there.
    pub fn resolve<S: From<String>>(&self, key: &str, directory: &Path) -> Result<S, String> {
        match self {
            SecretRef::Inline(text) => Ok(S::from(text.trim().to_owned())),
            SecretRef::File(at) => {
                let path = directory.join(at);
                let text = text_of(&path).map_err(|error| {
                    format!(
                        "{key}: failed to read the secret's file {}: {error}",
                        path.display()
                    )
                })?;
                match text.trim() {
                    "" => Err(format!(
                        "{key}: the secret's file {} is empty: write the secret into it",
                        path.display()
                    )),
                    text => Ok(S::from(text.to_owned())),
                }
            }
            SecretRef::Env(at) => match std::env::var(at) {
                Ok(text) if text.trim().is_empty() => Err(format!(
                    "{key}: the environment variable {at} is empty: set it, or give {{ file = … }}"
                )),
                Ok(text) => Ok(S::from(text.trim().to_owned())),
                Err(_) => Err(format!(
                    "{key}: the environment variable {at} is not set: set it, or give {{ file = … }}"
                )),
            },
        }
    }
}

fn text_of(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it is longer than {SECRET_BYTES_MAX} bytes"
        )));
    }
    plain_text::text_of(bytes).map_err(|not_text| std::io::Error::new(ErrorKind::InvalidData, not_text))
}

/// A warning when a file that holds an inline secret can be read by every user of the machine.
#[cfg(unix)]
pub fn readable_by_others(path: &Path, text: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let inline = text.lines().any(|line| {
        let line = line.trim_start();
        let address = line.contains("\"http") && (line.contains("webhooks/") || line.starts_with("url"));
        let key = line
            .strip_prefix("key")
            .and_then(|rest| rest.trim_start().strip_prefix('='))
            .is_some_and(|value| value.trim_start().starts_with(['"', '\'']));
        !line.starts_with('#') && (address || key)
    });
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (inline && mode & 0o004 != 0).then(|| {
        format!(
            "{} holds a secret and every user can read it: run `chmod 600 {}`",
            path.display(),
            path.display()
        )
    })
}

#[cfg(not(unix))]
pub fn readable_by_others(_path: &Path, _text: &str) -> Option<String> {
    None
}
