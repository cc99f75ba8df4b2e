//! Exit statuses of the command: those of every process, and the page's.

use std::process::ExitCode;

use watchfold_capture::CaptureError;
use watchfold_dashboard::DashboardError;
use watchfold_process::exit::{CONFIG, IO, UNAVAILABLE, USAGE, status};
use watchfold_process::token::TokenError;
use watchfold_rules::RulesError;

pub use watchfold_process::exit::{of_output, of_usage, sentence};

/// The status of an error that ends the command.
pub fn of(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<DashboardError>() {
            return ExitCode::from(match error {
                DashboardError::AddressInUse { .. } | DashboardError::Listen { .. } => UNAVAILABLE,
                DashboardError::Token(TokenError::Given) => CONFIG,
                _ => IO,
            });
        }
        if let Some(CaptureError::UnknownInterface { .. } | CaptureError::Filter { .. }) =
            cause.downcast_ref()
        {
            return ExitCode::from(USAGE);
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
