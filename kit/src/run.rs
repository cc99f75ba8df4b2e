//! From the command line to the exit status of a small program.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use watchfold_config::{Naming, Sinks};
use watchfold_connect::Patience;

use crate::address_space;
use crate::args::ProcessArgs;
use crate::exit;
use crate::files::{create_private, create_privately};
use crate::frame::Frame;
use crate::notify::Notifier;
use crate::open_files;
use crate::pulse::Pulse;
use crate::signals::listen_for_signals;
use crate::status::StatusPort;
use crate::tracing_setup::{choose_tls, start_tracing};
use crate::{errln, outln};

/// Everything has ended by then, or is left behind: an operator who stops it waits no longer.
const DRAIN: Duration = Duration::from_secs(5);

/// Enough for one part; the machine belongs to its users.
const WORKER_THREADS: usize = 2;

/// A small program: its arguments, and what it starts.
pub trait Program: clap::Parser + Send + 'static {
    fn process(&self) -> &ProcessArgs;

    /// Reads and checks everything that can be checked without the log. What is odd but not wrong comes back.
    ///
    /// As it stands here it is for programs that a file tells nothing: one given all the same is checked.
    fn check(&self) -> anyhow::Result<Vec<String>> {
        let Some(path) = &self.process().config else {
            return Ok(Vec::new());
        };
        Ok(watchfold_config::load(path, Naming::Optional, |_: Sinks, _, _| ())?.warnings)
    }

    /// Starts the parts and returns; it does not wait for the log, which may be away.
    fn start(self, frame: Arc<Frame>) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The whole of a small program's `main`.
pub fn run<P: Program>() -> ExitCode {
    let program = match P::try_parse() {
        Ok(program) => program,
        Err(error) => return exit::of_usage(P::command().get_name(), &error),
    };
    start_tracing(program.process().log_level.as_deref());
    address_space::bound();
    create_privately();
    open_files::raise();
    choose_tls();
    let name = P::command().get_name().to_owned();
    match checked_and_run(&name, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::of_output(&name, &error).unwrap_or_else(|| {
            errln!("{name}: {}", exit::sentence(&error));
            exit::of(&error)
        }),
    }
}

fn checked_and_run<P: Program>(name: &str, program: P) -> anyhow::Result<()> {
    let warnings = program.check()?;
    if program.process().check_config {
        for warning in warnings {
            errln!("{name}: warning: {warning}");
        }
        match &program.process().config {
            Some(path) => outln!("{} is good", path.display())?,
            None => outln!("the arguments are good; no configuration was given")?,
        }
        return Ok(());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    create_private(&program.process().state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let ended = runtime.block_on(serve(name, program));
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended
}

async fn serve<P: Program>(name: &str, program: P) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let notifier = Arc::new(Notifier::from_environment());
    let args = program.process().clone();
    let opened = tokio::select! {
        opened = watchfold_connect::open(&args.connect, Patience::Forever) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let frame = Frame::new(name, &opened, &args.state);
    let pulse = Pulse::new(frame.clone(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
    let ending = CancellationToken::new();
    let _ended = ending.clone().drop_guard();
    if let Some(listen) = args.status {
        let port = StatusPort::bind(listen, &args.state).await?;
        tell_port(&port);
        tokio::spawn(port.run(pulse.clone(), ending.clone()));
    }
    let beating = tokio::spawn(pulse.clone().run(notifier.clone()));
    let outcome = tokio::select! {
        started = program.start(frame.clone()) => match started {
            Ok(()) => {
                tracing::info!(log = %frame.place, "{name} is up");
                pulse.started();
                notifier.ready();
                until_stopped(&frame, &pulse, &stop).await
            }
            Err(error) => Err(error),
        },
        () = stop.cancelled() => Ok(()),
    };
    notifier.stopping();
    beating.abort();
    let drained = async {
        frame.drain().await;
        opened.close().await;
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(
            seconds = DRAIN.as_secs(),
            "some parts did not end in time; nothing acknowledged is lost"
        );
    }
    outcome
}

async fn until_stopped(frame: &Frame, pulse: &Pulse, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = pulse.log_stopped() => Err(error.into()),
        why = frame.failure() => Err(anyhow::anyhow!(why)),
    }
}

fn tell_port(port: &StatusPort) {
    match &port.token_path {
        Some(path) => tracing::info!(
            address = %port.address,
            token = %path.display(),
            "the status port is open; /metrics takes the token in that file"
        ),
        None => tracing::info!(address = %port.address, "the status port is open"),
    }
}
