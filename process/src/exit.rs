//! Exit statuses, after sysexits.h: scripts and service managers can tell a slip from a fault.

use std::error::Error;
use std::io::ErrorKind;
use std::process::ExitCode;

use watchfold_config::ConfigError;
use watchfold_connect::ConnectError;
use watchfold_log::LogError;

use crate::status::StatusError;
use crate::token::TokenError;

/// EX_USAGE: the command line makes no sense.
pub const USAGE: u8 = 64;
/// EX_UNAVAILABLE: something needed belongs to somebody else just now, or cannot be reached.
pub const UNAVAILABLE: u8 = 69;
/// EX_IOERR
pub const IO: u8 = 74;
/// EX_NOPERM
pub const NO_PERMISSION: u8 = 77;
/// EX_CONFIG
pub const CONFIG: u8 = 78;

/// A program cannot run with what it was given; the text says what to give instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Something that the program needs is taken or cannot be reached; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What an error says, and its causes as far as it has not said them itself.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence.push_str(": ");
            sentence.push_str(&cause);
        }
    }
    sentence
}

/// The status of an error that ends a program.
pub fn of(error: &anyhow::Error) -> ExitCode {
    let status = error.chain().find_map(status);
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The status that one cause stands for, if it stands for one.
pub fn status(cause: &(dyn Error + 'static)) -> Option<u8> {
    if cause.is::<Usage>() {
        return Some(USAGE);
    }
    if cause.is::<Unavailable>() || cause.is::<StatusError>() {
        return Some(UNAVAILABLE);
    }
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(match error {
            ConnectError::Log(error) => status(error)?,
            ConnectError::Panicked(_) => UNAVAILABLE,
            // What was asked for does not name a log, or not us.
            _ => USAGE,
        });
    }
    if cause.is::<ConfigError>() || matches!(cause.downcast_ref(), Some(TokenError::Given)) {
        return Some(CONFIG);
    }
    if let Some(error) = cause.downcast_ref::<LogError>() {
        return Some(match error {
            LogError::Locked { .. } => UNAVAILABLE,
            _ => IO,
        });
    }
    let error = cause.downcast_ref::<std::io::Error>()?;
    Some(match error.kind() {
        ErrorKind::PermissionDenied => NO_PERMISSION,
        _ => IO,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to open it: {source}")]
        struct Twice {
            source: std::io::Error,
        }
        let source = || std::io::Error::other("no such thing");
        let check = |error: anyhow::Error, expected| assert_eq!(sentence(&error), expected);
        check(
            Twice { source: source() }.into(),
            "failed to open it: no such thing",
        );
        check(
            anyhow::Error::from(source()).context("reading it"),
            "reading it: no such thing",
        );
    }
}
