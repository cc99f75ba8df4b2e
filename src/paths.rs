//! Where things are: the data directory and what lies in it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use watchfold_kit::files::create_private;

pub use watchfold_kit::files::write_private;

/// A data directory.
#[derive(Clone, Debug)]
pub struct Data(PathBuf);

impl Data {
    /// The given directory, else the service manager's, else the user's.
    pub fn locate(given: Option<&Path>) -> anyhow::Result<Data> {
        if let Some(given) = given {
            return Ok(Data(given.to_owned()));
        }
        let from = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(state) = from("STATE_DIRECTORY") {
            return Ok(Data(state));
        }
        let base = if cfg!(windows) {
            from("LOCALAPPDATA")
        } else {
            from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")))
        };
        base.map(|base| Data(base.join("watchfold")))
            .context("there is no home directory to keep data in: say where with --data DIR")
    }

    /// Makes the directory where there is none, readable by its owner only.
    pub fn create(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.0)
            .with_context(|| format!("failed to make the data directory {}", self.0.display()))?;
        create_private(&self.0)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("watchfold.toml")
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Whole packets that captures of a site keep, where they keep some: a directory for each collector.
    pub fn rings(&self, site: &str) -> PathBuf {
        self.0.join(watchfold_capture::RINGS).join(site)
    }

    /// What the sinks of a site remember.
    pub fn sinks(&self, site: &str) -> PathBuf {
        self.0.join("sinks").join(site)
    }

    /// Holds the link with the access token; readable by its owner only.
    pub fn link(&self) -> PathBuf {
        self.0.join("link")
    }
}
