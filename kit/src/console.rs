//! Standard output and standard error of a command, for every program here: the only place that writes to either.
//!
//! `println!` panics when the reader has closed the pipe or the device is full, and `eprintln!` does the same on standard error. Here a
//! failed write to standard output is an error that the caller passes up: `main` ends quietly when the reader closed the pipe, and with
//! status 74 otherwise ([`exit`](crate::exit)). A failed write to standard error is ignored, because no other place could report it.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Standard output did not take what was written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output: {0}")]
pub struct OutputError(#[source] io::Error);

impl OutputError {
    /// The reader has seen enough: `| head` closes the pipe.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Standard output as a writer; each of its errors holds an [`OutputError`].
#[derive(Debug)]
pub struct Output(io::Stdout);

/// Returns a writer to standard output. For many lines put a `BufWriter` around it, and flush that.
#[expect(clippy::disallowed_methods, reason = "the one writer of standard output")]
pub fn output() -> Output {
    Output(io::stdout())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

/// The kind is kept, so that interrupted writes are repeated.
fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), OutputError(error))
}

/// Standard error as a writer that never fails.
#[derive(Debug)]
pub struct Messages(io::Stderr);

/// Returns a writer to standard error.
#[expect(clippy::disallowed_methods, reason = "the one writer of standard error")]
pub fn messages() -> Messages {
    Messages(io::stderr())
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Counts as written whatever becomes of it.
        drop(self.0.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        drop(self.0.flush());
        Ok(())
    }
}

/// Writes to standard output and flushes it. Use [`outln!`](crate::outln) for a line.
pub fn write(text: impl fmt::Display) -> Result<(), OutputError> {
    let Output(mut stdout) = output();
    // One write for a whole text: lines of several processes on one terminal are not mixed.
    let written = stdout.write_all(text.to_string().as_bytes());
    written.and_then(|()| stdout.flush()).map_err(OutputError)
}

/// Writes a line that a service prints at its start. A service goes on without a reader; a full device is a warning.
pub fn announce(line: impl fmt::Display) {
    match write(format_args!("{line}\n")) {
        Err(error) if !error.is_closed_pipe() => tracing::warn!("{error}; the service goes on"),
        _ => {}
    }
}

/// Writes to standard error as it is, for progress that redraws its line. Use [`errln!`](crate::errln) for a message.
pub fn write_message(text: fmt::Arguments<'_>) {
    // As one write, as above; `Messages` does not fail.
    drop(messages().write_all(text.to_string().as_bytes()));
}

/// Writes a line to standard error, with control characters of what it repeats escaped.
pub fn write_line(text: fmt::Arguments<'_>) {
    write_message(format_args!("{}\n", without_controls(&text.to_string())));
}

/// Messages repeat names from files, which must neither steer a terminal nor change the direction of writing.
fn without_controls(text: &str) -> String {
    let steers = |letter: char| {
        letter.is_control() && !matches!(letter, '\n' | '\t')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match steers(letter) {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
    out
}

/// Returns whether standard output is a terminal.
pub fn is_output_terminal() -> bool {
    output().0.is_terminal()
}

/// Returns whether standard error is a terminal.
pub fn is_messages_terminal() -> bool {
    messages().0.is_terminal()
}

/// The failure of standard output behind an error, if it is one.
pub fn output_error(error: &anyhow::Error) -> Option<&OutputError> {
    error.chain().find_map(|cause| {
        // An `io::Error` is no source of what it wraps.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause
            .downcast_ref()
            .or_else(|| wrapped.and_then(|inner| inner.downcast_ref()))
    })
}

/// Returns whether the error says that the reader of standard output has closed the pipe.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    output_error(error).is_some_and(OutputError::is_closed_pipe)
}

/// For a command whose status is a verdict (`doctor`, `rules check`): a reader that has seen enough does not change it. Returns whether
/// somebody still reads.
pub fn while_read(written: anyhow::Result<()>) -> anyhow::Result<bool> {
    match written {
        Err(error) if is_closed_pipe(&error) => Ok(false),
        written => written.map(|()| true),
    }
}

/// Writes a line to standard output, as a `Result` with an [`OutputError`](crate::console::OutputError).
#[macro_export]
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::console::write(::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}

/// Writes a line to standard error; nothing fails when nobody can read it.
#[macro_export]
macro_rules! errln {
    ($($argument:tt)*) => {
        $crate::console::write_line(::core::format_args!($($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{IO, status};

    fn of(kind: ErrorKind) -> OutputError {
        OutputError(kind.into())
    }

    #[test]
    fn control_characters_of_a_message_are_escaped() {
        assert_eq!(
            without_controls("no `k\u{1b}[31m\u{202e}`\nline\ttwo: Büro\r"),
            "no `k\\u{1b}[31m\\u{202e}`\nline\ttwo: Büro\\r"
        );
    }

    #[test]
    fn a_failed_write_is_recognised_as_it_is_and_inside_an_io_error() {
        let check = |error: anyhow::Error, is_closed: bool| {
            assert!(output_error(&error).is_some(), "{error:?}");
            assert_eq!(is_closed_pipe(&error), is_closed, "{error:?}");
            assert_eq!(error.chain().find_map(status), Some(IO), "{error:?}");
        };
        check(of(ErrorKind::BrokenPipe).into(), true);
        check(of(ErrorKind::StorageFull).into(), false);
        check(named(ErrorKind::BrokenPipe.into()).into(), true);
        // A device that may not be written to is still a failed output, not a missing permission.
        check(named(ErrorKind::PermissionDenied.into()).into(), false);
        let behind = anyhow::Error::from(named(ErrorKind::BrokenPipe.into())).context("printing");
        check(behind, true);
    }

    #[test]
    fn a_broken_pipe_elsewhere_is_no_closed_output() {
        let error = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe)).context("asking the broker");
        assert!(!is_closed_pipe(&error));
        assert!(while_read(Err(error)).is_err());
    }

    #[test]
    fn an_interrupted_write_stays_one() {
        assert_eq!(
            named(ErrorKind::Interrupted.into()).kind(),
            ErrorKind::Interrupted
        );
    }

    #[test]
    fn only_a_closed_pipe_keeps_the_status_of_a_verdict() {
        assert!(!while_read(Err(of(ErrorKind::BrokenPipe).into())).unwrap());
        assert!(while_read(Ok(())).unwrap());
        let full = while_read(Err(of(ErrorKind::StorageFull).into())).unwrap_err();
        assert!(
            full.to_string()
                .starts_with("failed to write to standard output: "),
            "{full}"
        );
    }
}
