//! What can go wrong with capturing, and what to do then.

use crate::file::FileError;

/// Why packets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    File(#[from] FileError),
}
