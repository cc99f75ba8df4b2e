//! Exit statuses, after sysexits.h: scripts and service managers can tell a slip from a fault.

use std::error::Error;
use std::io::ErrorKind;
use std::process::ExitCode;

use watchfold_config::ConfigError;
use watchfold_connect::ConnectError;
use watchfold_log::LogError;

use crate::console::{self, OutputError};
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

/// Ends a program whose standard output failed; `None` for every other error. Nothing is wrong when the reader has closed the pipe.
pub fn of_output(name: &str, error: &anyhow::Error) -> Option<ExitCode> {
    let output = console::output_error(error)?;
    if output.is_closed_pipe() {
        return Some(ExitCode::SUCCESS);
    }
    crate::errln!("{name}: {output}");
    Some(ExitCode::from(IO))
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
    if cause.is::<OutputError>() {
        return Some(IO);
    }
    let error = cause.downcast_ref::<std::io::Error>()?;
    if error.get_ref().is_some_and(|inner| inner.is::<OutputError>()) {
        return Some(IO);
    }
    Some(match error.kind() {
        ErrorKind::PermissionDenied => NO_PERMISSION,
        _ => IO,
    })
}

/// Prints an answer of clap: a wrong argument to standard error, help and version, which are no errors, to standard output.
pub fn of_usage(name: &str, error: &clap::Error) -> ExitCode {
    let is_coloured = match error.use_stderr() {
        true => console::is_messages_terminal(),
        false => console::is_output_terminal(),
    };
    let text = match is_coloured && !is_colour_refused() {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    if error.use_stderr() {
        console::write_message(format_args!("{text}"));
        return ExitCode::from(USAGE);
    }
    let written = console::write(text).map_err(anyhow::Error::from);
    let failed = written.err().and_then(|error| of_output(name, &error));
    failed.unwrap_or(ExitCode::SUCCESS)
}

/// <https://no-color.org>, and terminals that know no colours.
pub(crate) fn is_colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some() || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
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
