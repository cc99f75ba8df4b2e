//! Bytes as a file, for what reads files by their path. One file for each process, written anew each time.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Writes the bytes to a file of this name in the directory for temporary files, and gives its path.
pub fn file(name: &str, bytes: &[u8]) -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("watchfold-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("there is room for temporary files");
        directory.join(name)
    });
    std::fs::write(path, bytes).expect("there is room for temporary files");
    path
}
