//! `watchfold bench`: how fast this build is on this machine, each figure beside a peer of the same run.
//!
//! The code measured is the code that works live; nothing here has a faster way of its own. No figure is judged.

mod accuracy;
mod chain;
#[cfg(target_os = "linux")]
mod live;
mod log;
mod machine;
mod month;
mod packets;
mod page;
mod replay;
mod report;

use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{BenchArgs, BenchCommand};

pub fn run(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Replay(args) => replay::replay(args)?.print(args.common.format)?,
        BenchCommand::Accuracy(args) => accuracy::accuracy(args)?,
        BenchCommand::Chain(args) => chain::chain(args)?.print(args.common.format)?,
        #[cfg(target_os = "linux")]
        BenchCommand::Live(args) => live::live(args)?,
        #[cfg(not(target_os = "linux"))]
        BenchCommand::Live(_) => {
            anyhow::bail!("bench live makes a network of its own, which it can on Linux alone")
        }
        BenchCommand::Packets(args) => packets::packets(args)?.print(args.common.format)?,
        BenchCommand::Page(args) => return page::page(args),
        BenchCommand::Log(args) => match &args.open_only {
            Some(dir) => log::open_only(dir)?,
            None => log::log(args)?.print(args.common.format)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// A directory of the measurement's own, which goes when it is dropped.
fn workspace(args: &BenchArgs) -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("watchfold-bench-");
    let made = match &args.dir {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    made.context("failed to make a directory for the measurement: choose a writable one with --dir")
}
