//! One small file per sink: how far both streams were read, what is undelivered, and which messages can be edited.
//!
//! It is a fold of the log and never the truth: when it is missing, damaged or from another log it is set aside and
//! built again from both streams. JSON, replaced as a whole, synced before it counts. A sink that keeps something else
//! writes and reads its file by the same functions.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use watchfold_log::Position;
use watchfold_schemas::observation::Receipt;
use watchfold_schemas::{EventId, Time};

use crate::destination::Edit;
use crate::plan::PendingRequest;

/// The version of the file that this code writes. A newer one is set aside like a damaged one.
pub const STATE_VERSION: u16 = 1;

/// The largest file that is read back, in bytes; the limits of what goes in keep it far smaller.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateFile {
    pub v: u16,
    pub site: String,
    pub sink: String,
    /// The last record read of `WF_EVT`.
    pub events: Option<Position>,
    /// The last record read of `WF_OBS`.
    pub receipts: Option<Position>,
    pub pending: Vec<PendingRequest>,
    /// Receipts that were not durable when the file was written.
    pub due: Vec<Vec<Receipt>>,
    /// (incident, message id).
    pub messages: Vec<(String, String)>,
    pub edits: Vec<Edit>,
    /// Destinations that take nothing as far as the log knows, with the reason.
    #[serde(default)]
    pub faults: BTreeMap<String, String>,
    /// (request, when it has expired): settled, so that it is not sent again should it be published again.
    #[serde(default)]
    pub settled: Vec<(EventId, Time)>,
    /// Requests that expired before this are not asked for again.
    #[serde(default)]
    pub receipts_from: Option<Time>,
}

impl StateFile {
    /// What stays true under another log: what was delivered, with or without a receipt, and which messages exist.
    pub fn without_positions(self) -> StateFile {
        StateFile {
            events: None,
            receipts: None,
            pending: Vec::new(),
            faults: BTreeMap::new(),
            ..self
        }
    }
}

/// What was found at the path.
pub(crate) enum Found {
    Nothing,
    State(Box<StateFile>),
    /// It was unusable and lies beside its old place now.
    SetAside {
        reason: String,
    },
}

/// Reads the file of this site's sink. Does not fail: an unusable file is set aside.
pub(crate) fn load(path: &Path, site: &str, sink: &str) -> Found {
    let reason = match read_state::<StateFile>(path) {
        Ok(None) => return Found::Nothing,
        Ok(Some(state)) if state.v == STATE_VERSION && state.site == site && state.sink == sink => {
            return Found::State(Box::new(state));
        }
        Ok(Some(state)) => format!("it is version {} of {} at {}", state.v, state.sink, state.site),
        Err(reason) => reason,
    };
    set_aside_state(path);
    Found::SetAside { reason }
}

/// Moves the file out of the way; an older one that was set aside is replaced, so that at most two exist.
pub fn set_aside_state(path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".set-aside");
    if let Err(error) = fs::rename(path, PathBuf::from(aside)) {
        tracing::warn!(path = %path.display(), %error, "failed to set a sink's state aside; it will be overwritten");
    }
}

/// Replaces the file; it is durable when this returns.
pub fn save_state<T: Serialize>(path: &Path, state: &T) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let bytes = serde_json::to_vec(state).map_err(io::Error::other)?;
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)?;
    sync_directory(parent)
}

/// Reads the file; `None` when there is none, and why it cannot be used otherwise.
pub fn read_state<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if length > STATE_BYTES_MAX {
        return Err(format!(
            "its {length} bytes are over the limit of {STATE_BYTES_MAX}"
        ));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// The part of a state file that names faulty destinations.
#[derive(Default, Deserialize)]
struct Faults {
    #[serde(default)]
    faults: BTreeMap<String, String>,
}

/// The destinations that take nothing according to a sink's state file, with the reasons; none without a usable file.
pub fn recorded_faults(path: &Path) -> BTreeMap<String, String> {
    match read_state::<Faults>(path) {
        Ok(Some(state)) => state.faults,
        Ok(None) | Err(_) => BTreeMap::new(),
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Windows has no handle to sync a directory by; the rename itself is journalled there.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
