//! Contexts of the `nats` command (NATS ADR-21): where a broker is and who we are there, by name, in files that its
//! users already have. Reads them; writes none.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use watchfold_schemas::plain_text::text_of;

use crate::ConnectError;

/// A context's name; the `nats` command takes the same.
const NAME_BYTES_MAX: usize = 255;

/// What we use of a context. Keys that are not here are of no meaning for a log.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) creds: String,
    pub(crate) nkey: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) tls_first: bool,
    pub(crate) inbox_prefix: String,
    pub(crate) jetstream_domain: String,
}

/// The folder with contexts: `$XDG_CONFIG_HOME/nats`, else `~/.config/nats`.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let config = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".config")))?;
    Some(config.join("nats"))
}

fn home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from)
}

/// The context of that name, or without one the selected context.
pub(crate) fn load(folder: &Path, name: Option<&str>) -> Result<Context, ConnectError> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => selected(folder)?,
    };
    let plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(['/', '\\'])
        && !name.starts_with('.');
    let path = folder.join("context").join(format!("{name}.json"));
    if !plain || !path.exists() {
        return Err(ConnectError::UnknownContext {
            name,
            known: known(folder),
        });
    }
    let text = read_text(&path).map_err(|source| ConnectError::Unreadable {
        what: "context",
        path: path.clone(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| ConnectError::BadContext {
        path,
        // The error of a parser may quote the file, and the file may hold a password: only the place is told.
        at: format!("line {}, column {}", error.line(), error.column()),
    })
}

fn selected(folder: &Path) -> Result<String, ConnectError> {
    let text = read_text(&folder.join("context.txt")).unwrap_or_default();
    match text.trim() {
        "" => Err(ConnectError::NoSelectedContext { known: known(folder) }),
        name => Ok(name.to_owned()),
    }
}

/// The text of a small file, with or without a byte order mark.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    text_of(std::fs::read(path)?).map_err(|not_text| std::io::Error::new(ErrorKind::InvalidData, not_text))
}

/// The names of those that exist, for whoever mistook one.
fn known(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder.join("context"));
    let names: BTreeSet<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    if names.is_empty() {
        format!("none in {}", folder.join("context").display())
    } else {
        names.into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// A path in a context may begin with `~`.
pub(crate) fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], name: Option<&str>, want: Result<&str, &str>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        for (path, text) in files {
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        match (load(dir.path(), name), want) {
            (Ok(context), Ok(want)) => assert_eq!(context.url, want),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (Ok(_), Err(want)) => panic!("{name:?} is no {want}"),
            (Err(error), Ok(_)) => panic!("{name:?}: {error}"),
        }
    }

    #[test]
    fn contexts_are_found_by_name_and_by_selection() {
        let files = [
            (
                "context/hub.json",
                r#"{"description":"x","url":"nats://hub:4222","user":"u"}"#,
            ),
            ("context/lab.json", r#"{"url":"nats://lab:4222"}"#),
            (
                "context/torn.json",
                r#"{"url":"nats://lab:4222","password":"hunter2"#,
            ),
            ("context.txt", "lab\n"),
        ];
        check(&files, Some("hub"), Ok("nats://hub:4222"));
        check(&files, None, Ok("nats://lab:4222"));
        check(&files, Some("hubb"), Err("hub, lab, torn"));
        check(&files, Some("../hub"), Err("hub, lab, torn"));
        check(&files, Some("torn"), Err("line 1"));
        check(&files[..2], None, Err("hub, lab"));
        check(&[], Some("hub"), Err("none in"));
    }

    #[test]
    fn a_torn_context_does_not_show_its_password() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        std::fs::write(
            dir.path().join("context/torn.json"),
            r#"{"url":1,"password":"hunter2"}"#,
        )
        .unwrap();
        let error = load(dir.path(), Some("torn")).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
