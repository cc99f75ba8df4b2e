//! From the command line to the exit status of a program: one part or a few in a process, or all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use tokio_util::sync::CancellationToken;
use watchfold_config::ConfigError;
use watchfold_connect::{ConnectArgs, Opened, Patience};

use crate::address_space;
use crate::args::ProcessArgs;
use crate::exit::{self, Usage};
use crate::files::{create_private, create_privately};
use crate::frame::{Frame, Scope, Setup};
use crate::notify::Notifier;
use crate::open_files;
use crate::part::{Kind, Part, Parts};
use crate::pulse::Pulse;
use crate::reload::{Followed, follow_file};
use crate::sections::Loaded;
use crate::signals::listen_for_signals;
use crate::status::StatusPort;
use crate::tracing_setup::{choose_tls, start_tracing};
use crate::{errln, outln};

/// Everything has ended by then, or is left behind: an operator who stops it waits no longer.
const DRAIN: Duration = Duration::from_secs(5);

/// Enough for folding, the log and the page together; the machine belongs to its users.
const WORKER_THREADS: usize = 2;

/// What a small program runs; its fields are its own arguments.
pub trait Program: Args + Send + 'static {
    /// `discord`, say, of `watchfold-discord`.
    const NAME: &'static str;
    /// The section of the configuration without which it has nothing to do.
    const NEEDS: Option<&'static str> = None;

    /// Reads the file for the parts of this program.
    fn read(path: &Path) -> Result<Loaded, ConfigError>;

    /// Checks what can be checked without the log.
    fn check(_file: Option<&Loaded>, _state: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    fn parts(self) -> Parts;
}

impl<P: Part + Args> Program for P {
    const NAME: &'static str = P::NAME;
    const NEEDS: Option<&'static str> = P::NEEDS;

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        <P as Part>::read(path)
    }

    fn check(file: Option<&Loaded>, state: &Path) -> anyhow::Result<()> {
        <P as Part>::check(file, state)
    }

    fn parts(self) -> Parts {
        crate::parts![self]
    }
}

/// The command line of a small program.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct CommandLine<P: Args> {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    program: P,
}

/// The whole of a small program's `main`.
pub fn main<P: Program>() -> ExitCode {
    let name = format!("watchfold-{}", P::NAME);
    // What the doc comment of the part says is what the program is about.
    let about = P::augment_args(clap::Command::default());
    let mut command = CommandLine::<P>::command().name(name.clone());
    if let Some(text) = about.get_about() {
        command = command.about(text.clone());
    }
    let parsed = command
        .try_get_matches()
        .and_then(|matches| CommandLine::<P>::from_arg_matches(&matches));
    let line = match parsed {
        Ok(line) => line,
        Err(error) => return exit::of_usage(&name, &error),
    };
    start_tracing(line.process.log_level.as_deref());
    address_space::bound();
    create_privately();
    open_files::raise();
    choose_tls();
    match checked_and_run(&name, line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::of_output(&name, &error).unwrap_or_else(|| {
            errln!("{name}: {}", exit::sentence(&error));
            exit::of(&error)
        }),
    }
}

fn checked_and_run<P: Program>(name: &str, line: CommandLine<P>) -> anyhow::Result<()> {
    let (args, program) = (line.process, line.program);
    let file = args.file(P::NEEDS, Arc::new(P::read))?;
    P::check(file.as_ref().map(|file| &file.current), &args.state)?;
    let warnings = file.as_ref().map(|file| file.current.warnings.clone());
    if args.check_config {
        for warning in warnings.unwrap_or_default() {
            errln!("{name}: warning: {warning}");
        }
        match &args.config {
            Some(path) => outln!("{} is good", path.display())?,
            None => outln!("the arguments are good; no configuration was given")?,
        }
        return Ok(());
    }
    for warning in warnings.unwrap_or_default() {
        tracing::warn!("{warning}");
    }
    create_private(&args.state)?;
    let process = Process {
        name: name.to_owned(),
        software: format!("{name} {}", env!("CARGO_PKG_VERSION")),
        scope: args.scope(file.as_ref())?,
        connect: args.connect,
        state: args.state,
        status: args.status,
        is_whole: false,
        file,
    };
    process.run(program.parts(), |_| (), |_| ())
}

/// A process that is about to run.
pub struct Process {
    pub name: String,
    /// Name and version, as shown.
    pub software: String,
    pub scope: Scope,
    pub connect: ConnectArgs,
    /// Where what must survive a restart is kept.
    pub state: PathBuf,
    /// Where it answers /livez, /readyz and /metrics.
    pub status: Option<SocketAddr>,
    /// Every part of a site runs in it.
    pub is_whole: bool,
    pub file: Option<Followed>,
}

impl Process {
    /// Runs the parts until it is asked to stop, or until one fails that nothing works without. `prepare` comes before the parts
    /// start, `started` once all have.
    pub fn run(
        self,
        parts: Parts,
        prepare: impl FnOnce(&Arc<Frame>),
        started: impl FnOnce(&Arc<Frame>),
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        let ended = runtime.block_on(self.serve(parts, prepare, started));
        runtime.shutdown_timeout(Duration::from_millis(500));
        ended
    }

    async fn serve(
        self,
        parts: Parts,
        prepare: impl FnOnce(&Arc<Frame>),
        started: impl FnOnce(&Arc<Frame>),
    ) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        listen_for_signals(stop.clone()).context("failed to listen for signals")?;
        let notifier = Arc::new(Notifier::from_environment());
        let opened = tokio::select! {
            opened = watchfold_connect::open(&self.connect, Patience::Forever) => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let frame = self.frame(&opened);
        prepare(&frame);
        let pulse = Pulse::new(frame.clone(), frame.software.clone());
        let ending = CancellationToken::new();
        let _ended = ending.clone().drop_guard();
        if let Some(listen) = self.status {
            let port = StatusPort::bind(listen, frame.state()).await?;
            log_port(&port);
            tokio::spawn(port.run(pulse.clone(), ending.clone()));
        }
        let beating = tokio::spawn(pulse.clone().run(notifier.clone()));
        let outcome = tokio::select! {
            ready = frame.start(parts) => match ready {
                Ok(()) => {
                    if let Some(file) = self.file {
                        follow(&frame, file);
                    }
                    tracing::debug!(log = %frame.place, "{} is up", frame.name);
                    pulse.started();
                    notifier.ready();
                    started(&frame);
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

    fn frame(&self, opened: &Opened) -> Arc<Frame> {
        let sections = self.file.as_ref().map(|file| file.current.sections.clone());
        let setup = Setup {
            name: self.name.clone(),
            software: self.software.clone(),
            scope: self.scope.clone(),
            state: self.state.clone(),
            is_whole: self.is_whole,
            is_elsewhere: self.connect.is_elsewhere(),
            sections: sections.unwrap_or_default(),
        };
        Frame::new(setup, opened)
    }
}

/// Hands every good change of the file to the parts.
fn follow(frame: &Arc<Frame>, file: Followed) {
    let progress = frame.stages.add("config");
    let group = frame.group(Kind::Activation);
    let inside = frame.clone();
    let following = follow_file(file, progress, group.cancel, move |loaded| {
        let frame = inside.clone();
        Box::pin(async move { frame.take_over(loaded).await })
    });
    group.tasks.spawn(following);
}

async fn until_stopped(frame: &Frame, pulse: &Pulse, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = pulse.log_stopped() => Err(error.into()),
        why = frame.failure() => Err(anyhow::anyhow!(why)),
    }
}

fn log_port(port: &StatusPort) {
    match &port.token_path {
        Some(path) => tracing::info!(
            address = %port.address,
            token = %path.display(),
            "the status port is open; /metrics takes the token in that file"
        ),
        None => tracing::info!(address = %port.address, "the status port is open"),
    }
}

impl ProcessArgs {
    /// The file that was given, read. A program that needs a section of it needs the file.
    fn file(&self, needs: Option<&str>, load: crate::reload::Load) -> anyhow::Result<Option<Followed>> {
        let path = match (&self.config, needs) {
            (Some(path), _) => path.clone(),
            (None, None) => return Ok(None),
            (None, Some(section)) => {
                return Err(Usage(format!("give --config FILE with a section [{section}]")).into());
            }
        };
        let current = load(&path)?;
        Ok(Some(Followed { path, load, current }))
    }

    /// The sites of the command line, else the one that the file names, else none in particular.
    fn scope(&self, file: Option<&Followed>) -> Result<Scope, Usage> {
        let named = file.and_then(|file| file.current.site.clone());
        Ok(Scope::Named(match self.sites.is_empty() {
            true => named.into_iter().collect(),
            false => self.sites.clone(),
        }))
    }
}
