//! Exit statuses, after sysexits.h: scripts and service managers can tell a slip from a fault.

use std::io::ErrorKind;
use std::process::ExitCode;

use watchfold_dashboard::DashboardError;
use watchfold_log::LogError;

use crate::config::ConfigError;

/// EX_USAGE: the command line makes no sense.
const USAGE: u8 = 64;
/// EX_UNAVAILABLE: something needed belongs to somebody else just now.
const UNAVAILABLE: u8 = 69;
/// EX_IOERR
const IO: u8 = 74;
/// EX_NOPERM
const NO_PERMISSION: u8 = 77;
/// EX_CONFIG
const CONFIG: u8 = 78;

/// The status of an error that ends the command.
pub fn of(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return ExitCode::from(CONFIG);
        }
        if let Some(error) = cause.downcast_ref::<LogError>() {
            return ExitCode::from(match error {
                LogError::Locked { .. } | LogError::Unreachable { .. } => UNAVAILABLE,
                LogError::Refused { .. } => NO_PERMISSION,
                LogError::Mismatch { .. } => CONFIG,
                _ => IO,
            });
        }
        if let Some(error) = cause.downcast_ref::<DashboardError>() {
            let taken = matches!(
                error,
                DashboardError::AddressInUse { .. } | DashboardError::Listen { .. }
            );
            return ExitCode::from(if taken { UNAVAILABLE } else { IO });
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return ExitCode::from(if error.kind() == ErrorKind::PermissionDenied {
                NO_PERMISSION
            } else {
                IO
            });
        }
    }
    ExitCode::FAILURE
}

/// Prints what clap has to say; help and version are no errors.
pub fn of_usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to tell it to when standard error is gone.
    drop(error.print());
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
