//! Exit statuses of the command: those of every process, and the page's.

use std::process::ExitCode;

use watchfold_dashboard::DashboardError;
use watchfold_process::exit::{CONFIG, IO, UNAVAILABLE, status};
use watchfold_process::token::TokenError;
use watchfold_rules::RulesError;

pub use watchfold_process::exit::of_usage;

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
        if cause.is::<RulesError>() {
            return ExitCode::from(CONFIG);
        }
        if let Some(status) = status(cause) {
            return ExitCode::from(status);
        }
    }
    ExitCode::FAILURE
}
