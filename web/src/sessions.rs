//! Sessions of browsers: a random value for each, kept as a hash, over restarts, until it was not used for a while or the access token
//! changed.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watchfold_kit::token::{Token, TokenError};

use crate::Access;

/// A session ends when it was not used for this long.
pub const SESSION_UNUSED_S_MAX: u64 = 30 * 86_400;
/// A use is written down when the last one written is older than this, so that a busy page writes once a day.
const RENEW_AFTER_S: u64 = 86_400;
/// Sessions at once; a further one ends the one that was not used for longest.
pub const SESSIONS_MAX: usize = 64;
/// The longest file that is read: [`SESSIONS_MAX`] sessions take a quarter of it.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The version of the file.
const VERSION: u32 = 1;

/// The sessions of one page.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    kept: Mutex<Kept>,
    /// Held while the file is replaced, so that the newest content is written last.
    writing: Mutex<()>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u32,
    /// The hash of the access token under which the sessions were opened.
    token: String,
    sessions: Vec<Session>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    /// The hash of the cookie's value.
    id: String,
    #[serde(flatten)]
    access: Access,
    opened_s: u64,
    used_s: u64,
}

impl Sessions {
    /// The sessions in `path` that were opened under `token`. A file that is not one of ours is left behind with a warning.
    pub fn load(path: PathBuf, token: &Token) -> Arc<Sessions> {
        let token = hash(token.expose());
        let kept = match read(&path) {
            Ok(kept) if kept.token == token && kept.v == VERSION => kept.sessions,
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "failed to read the sessions of browsers: they have to open the link again");
                Vec::new()
            }
        };
        let mut sessions = kept;
        sessions.truncate(SESSIONS_MAX);
        Arc::new(Sessions {
            path,
            kept: Mutex::new(Kept {
                v: VERSION,
                token,
                sessions,
            }),
            writing: Mutex::default(),
        })
    }

    /// Opens a session and returns the value of its cookie. The session of `replaced`, which is an earlier cookie, ends.
    pub fn open(
        self: &Arc<Sessions>,
        access: Access,
        replaced: Option<&str>,
        now_s: u64,
    ) -> Result<String, TokenError> {
        let value = Token::random()?;
        let replaced = replaced.map(hash);
        let session = Session {
            id: hash(value.expose()),
            access,
            opened_s: now_s,
            used_s: now_s,
        };
        let mut kept = self.kept();
        kept.sessions
            .retain(|session| session.is_alive(now_s) && Some(&session.id) != replaced.as_ref());
        if kept.sessions.len() >= SESSIONS_MAX {
            let unused = kept
                .sessions
                .iter()
                .enumerate()
                .min_by_key(|(_, session)| session.used_s);
            if let Some((index, _)) = unused {
                kept.sessions.remove(index);
            }
        }
        kept.sessions.push(session);
        drop(kept);
        self.save();
        Ok(value.expose().to_owned())
    }

    /// Whose session the value of a cookie is, if it has one that is still alive. Its life is counted from now on.
    pub fn find(self: &Arc<Sessions>, value: &str, now_s: u64) -> Option<Access> {
        let id = hash(value);
        let mut kept = self.kept();
        let session = kept
            .sessions
            .iter_mut()
            .find(|session| session.id == id && session.is_alive(now_s))?;
        let is_due = now_s.saturating_sub(session.used_s) >= RENEW_AFTER_S;
        if is_due {
            session.used_s = now_s;
        }
        let access = session.access.clone();
        drop(kept);
        if is_due {
            self.save();
        }
        Some(access)
    }

    /// Writes the file, away from those who answer requests. Without it a browser has to open the link again after a restart.
    fn save(self: &Arc<Sessions>) {
        let sessions = Arc::clone(self);
        let write = move || {
            if let Err(error) = sessions.write() {
                tracing::warn!(path = %sessions.path.display(), %error, "failed to keep the sessions of browsers: make the data directory writable");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&*self.kept())?;
        let folder = self.path.parent().unwrap_or_else(|| std::path::Path::new("."));
        // A temporary file is readable by its owner alone from its first moment.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// A clock that was set back makes a session live longer, and ends none.
    fn is_alive(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.used_s) < SESSION_UNUSED_S_MAX
    }
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a browser stays signed in is no matter of the log, and must survive restarts"
)]
pub fn wall_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn read(path: &std::path::Path) -> std::io::Result<Kept> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is too long"));
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// SHA-256 in hexadecimal. The values have 128 bits of randomness or more, so nobody finds one by trying.
fn hash(value: &str) -> String {
    Sha256::digest(value)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_785_715_200;

    #[test]
    fn a_session_survives_a_restart_and_its_value_is_nowhere_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.json");
        let token = Token::known("a token that is long enough for it");
        let sessions = Sessions::load(path.clone(), &token);
        let value = sessions.open(Access::owner(), None, NOW_S).unwrap();
        let other = sessions.open(Access::owner(), None, NOW_S).unwrap();
        assert_ne!(value, other);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&value) && !text.contains(token.expose()), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let sessions = Sessions::load(path.clone(), &token);
        assert_eq!(sessions.find(&value, NOW_S), Some(Access::owner()));
        assert_eq!(sessions.find("other", NOW_S), None);
        assert_eq!(
            sessions.find(token.expose(), NOW_S),
            None,
            "the token is no session"
        );
        let renewed = sessions.open(Access::owner(), Some(&value), NOW_S).unwrap();
        assert_eq!(
            sessions.find(&value, NOW_S),
            None,
            "the earlier session of this browser ended"
        );
        assert!(sessions.find(&renewed, NOW_S).is_some() && sessions.find(&other, NOW_S).is_some());
        let rotated = Sessions::load(path.clone(), &Token::known("another token that is long enough"));
        assert_eq!(rotated.find(&other, NOW_S), None, "a new token ends all sessions");
        std::fs::write(&path, "{\"v\":").unwrap();
        assert_eq!(Sessions::load(path, &token).find(&other, NOW_S), None);
    }

    #[test]
    fn use_prolongs_a_session_and_disuse_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.json");
        let token = Token::known("t");
        let sessions = Sessions::load(path.clone(), &token);
        let value = sessions.open(Access::owner(), None, NOW_S).unwrap();
        let mut now_s = NOW_S;
        for _ in 0..3 {
            now_s += SESSION_UNUSED_S_MAX - 1;
            assert!(Sessions::load(path.clone(), &token).find(&value, now_s).is_some());
        }
        now_s += SESSION_UNUSED_S_MAX;
        assert!(Sessions::load(path.clone(), &token).find(&value, now_s).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_least_used_ends() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::load(folder.path().join("sessions.json"), &Token::known("t"));
        let values: Vec<String> = (0..=SESSIONS_MAX as u64)
            .map(|n| sessions.open(Access::owner(), None, NOW_S + n).unwrap())
            .collect();
        assert_eq!(sessions.kept().sessions.len(), SESSIONS_MAX);
        assert!(sessions.find(&values[0], NOW_S + 100).is_none());
        assert!(sessions.find(&values[1], NOW_S + 100).is_some());
    }
}
