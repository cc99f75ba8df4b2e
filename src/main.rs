//! The all-in-one command: reads the command line, runs what was asked, and ends with a status that says how it went.

mod bench;
mod cli;
mod config;
mod demo;
mod doctor;
mod exit;
mod explain;
mod init;
mod logs;
mod narrate;
mod parts;
mod paths;
mod record;
mod reload;
mod replay;
mod scenario;
mod supervise;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command, ConfigCommand};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error),
    };
    start_tracing(cli.log_level.as_deref());
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("watchfold: {error:#}");
            exit::of(&error)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => {
            // The provider of TLS can be chosen once; a second choice would be the same one.
            drop(rustls::crypto::ring::default_provider().install_default());
            up::up(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Init(args) => init::init(&args),
        Command::Config(ConfigCommand::Check(args)) => init::check(&args),
        Command::Doctor(args) => {
            drop(rustls::crypto::ring::default_provider().install_default());
            doctor::doctor(&args)
        }
        Command::Log(command) => logs::run(command),
        Command::Record(args) => record::record(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Scenario(command) => scenario::run(&command),
        Command::Demo(args) => {
            demo::demo(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(command) => bench::run(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "watchfold", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Log lines go to standard error: coloured on a terminal, plain elsewhere.
fn start_tracing(level: Option<&str>) {
    use std::io::IsTerminal;
    let filter = level.map_or_else(
        || tracing_subscriber::EnvFilter::new("warn,watchfold=info"),
        tracing_subscriber::EnvFilter::new,
    );
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
}
