//! `watchfold-capture`: the part by itself, in a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchfold_kit::main::<watchfold_capture::Capture>()
}
