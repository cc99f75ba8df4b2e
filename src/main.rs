//! The all-in-one command: reads the command line, runs what was asked, and ends with a status that says how it went.

mod activate;
mod bench;
mod capture;
mod cli;
mod config;
mod demo;
mod doctor;
mod exit;
mod explain;
mod init;
mod logs;
mod narrate;
mod open_page;
mod outside;
mod parts;
mod paths;
mod ready;
mod record;
mod replay;
mod rules;
mod scenario;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use watchfold_kit::tracing_setup::choose_tls;

use cli::{Cli, Command, ConfigCommand};
use watchfold_kit::{console, errln};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage("watchfold", &error),
    };
    // What a log says while it is driven to its limits would stand between the figures.
    let quiet = matches!(cli.command, Command::Bench(_)).then_some("error");
    watchfold_kit::tracing_setup::start_tracing(cli.log_level.as_deref().or(quiet));
    watchfold_kit::address_space::bound();
    watchfold_kit::files::create_privately();
    watchfold_kit::open_files::raise();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => exit::of_output("watchfold", &error).unwrap_or_else(|| {
            errln!("watchfold: {}", exit::sentence(&error));
            exit::of(&error)
        }),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => {
            choose_tls();
            up::up(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Init(args) => init::init(&args),
        Command::Config(ConfigCommand::Check(args)) => init::check(&args),
        Command::Config(ConfigCommand::Activate(args)) => {
            choose_tls();
            activate::activate(&args)
        }
        Command::Doctor(args) => {
            choose_tls();
            doctor::doctor(&args)
        }
        Command::Log(command) => logs::run(command),
        Command::Capture(command) => capture::run(&command),
        Command::Record(args) => record::record(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Scenario(command) => scenario::run(&command),
        Command::Rules(command) => rules::run(command),
        Command::Demo(args) => {
            demo::demo(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(command) => bench::run(&command),
        Command::Ready(args) => ready::ready(&args),
        Command::Completions { shell } => {
            // It panics where it cannot write, so it writes to memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "watchfold", &mut script);
            console::write(String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
