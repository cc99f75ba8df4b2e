//! Exit statuses of the command: those of every process, the page's, and that of captures that cannot be evaluated.

use std::process::ExitCode;

use watchfold_capture::CaptureError;
use watchfold_dashboard::{DashboardError, WebError};
use watchfold_kit::exit::{CONFIG, IO, UNAVAILABLE, USAGE, status};
use watchfold_kit::token::TokenError;
use watchfold_replay::ReplayError;
use watchfold_rules::RulesError;

pub use watchfold_kit::exit::{of_output, of_usage, sentence};

/// EX_DATAERR: capture files hold no packet that could be evaluated, so that finding nothing in them says nothing.
pub const NOTHING_READ: u8 = 65;

/// The status of an error that ends the command.
pub fn of(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<DashboardError>() {
            return ExitCode::from(match error {
                DashboardError::Web(WebError::AddressInUse { .. } | WebError::Listen { .. }) => UNAVAILABLE,
                DashboardError::Web(WebError::Token(TokenError::Given)) => CONFIG,
                _ => IO,
            });
        }
        if let Some(CaptureError::UnknownInterface { .. } | CaptureError::Filter { .. }) =
            cause.downcast_ref()
        {
            return ExitCode::from(USAGE);
        }
        if is_nothing_read(cause) {
            return ExitCode::from(NOTHING_READ);
        }
        if cause.is::<RulesError>() {
            return ExitCode::from(CONFIG);
        }
        if let Some(status) = status(cause) {
            return ExitCode::from(status);
        }
    }
    ExitCode::FAILURE
}

/// The status of an error that ends a command for which `trouble` stands for everything else that goes wrong.
pub fn of_input(error: &anyhow::Error, trouble: u8) -> ExitCode {
    match error.chain().any(is_nothing_read) {
        true => ExitCode::from(NOTHING_READ),
        false => ExitCode::from(trouble),
    }
}

fn is_nothing_read(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(ReplayError::NothingRead { .. }))
}
