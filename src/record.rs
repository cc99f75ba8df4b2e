//! `watchfold record`: a piece of the log as one portable file, at once or for as long as the log grows.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use watchfold_capture::file::is_capture;
use watchfold_replay::recording::BeginningState;
use watchfold_replay::{Followed, Following, RecordOptions, Recorded, Selection, Under};
use watchfold_schemas::{Span, Time};

use crate::cli::RecordArgs;
use crate::exit;
use crate::outside::{outside, under};
use crate::paths::Data;
use watchfold_kit::signals::listen_for_signals;
use watchfold_kit::{console, errln, outln};

/// Something is wrong with what it was made from, or it could not be made.
const TROUBLE: u8 = 2;

/// How often a recording looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looking reads the newest segment again, up to 64 MiB; it waits so many times as long as that took, so that it takes a
/// twentieth of a core at most.
const REST_PER_LOOK: u32 = 20;

/// How far behind those who read the file meanwhile are at most, unless looking takes long. Each time costs a frame.
const READABLE_EVERY: Duration = Duration::from_secs(2);

/// Steps copied before it looks whether to stop: some milliseconds.
const STEPS_AT_ONCE: usize = 4_096;

/// How long it waits at the end for the last events: live derives within milliseconds, and may have stopped.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// A silent log does not show that the span is over; the clock does, this much later.
const AFTER_SPAN: Span = Span::from_seconds(2);

pub fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    make(args).or_else(|error| {
        if console::output_error(&error).is_some() {
            return Err(error);
        }
        errln!("watchfold: {}", exit::sentence(&error));
        Ok(exit::of_input(&error, TROUBLE))
    })
}

fn make(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let input = match &args.input {
        Some(input) => input.clone(),
        None => Data::locate(args.data.data.as_deref())?.path().to_owned(),
    };
    let options = RecordOptions {
        selection: Selection {
            site: args.span.site.clone(),
            from: args.span.from,
            to: args.span.to,
            with_events: true,
            without_packets: false,
            outside: outside(),
        },
        kinds: args.kinds.clone(),
        out: args.out.clone(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        under: match is_capture(&input) {
            true => under(None, Some(&args.rules), true)?,
            false => Under::recorded(),
        },
    };
    let recorded = if args.follow {
        if input.is_file() || is_capture(&input) {
            bail!(
                "{} is no data directory and does not grow: follow one",
                input.display()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        runtime.block_on(follow(&input, &options))?
    } else {
        watchfold_replay::record(&input, &options)?
    };
    console::while_read(tell(args, &recorded))?;
    for problem in &recorded.problems {
        errln!("watchfold: {problem}");
    }
    Ok(if recorded.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TROUBLE)
    })
}

/// Records until it is stopped or the span is over. Whatever ends it, the file can be read up to its last frame.
async fn follow(input: &Path, options: &RecordOptions) -> anyhow::Result<Recorded> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let mut following = Following::open(input, options)?;
    errln!("recording into {}; Ctrl-C ends it", options.out.display());
    let mut ends_by = None;
    let mut readable_since = Instant::now();
    loop {
        let looking_since = Instant::now();
        let followed = following.advance(STEPS_AT_ONCE)?;
        let is_over = stop.is_cancelled() || options.selection.to.is_some_and(|to| now() > to + AFTER_SPAN);
        match (followed, ends_by) {
            (Followed::Over, _) => break,
            (Followed::Behind, _) => tokio::task::yield_now().await,
            (Followed::CaughtUp, Some(ends_by)) => {
                if following.has_all_events() || Instant::now() > ends_by {
                    break;
                }
                sleep(LOOK_EVERY / 10).await;
            }
            // It looks once more: what was stored up to now belongs to it.
            (Followed::CaughtUp, None) if is_over => {
                while following.advance(STEPS_AT_ONCE)? == Followed::Behind {}
                following.end_observations();
                ends_by = Some(Instant::now() + LAST_EVENTS);
            }
            (Followed::CaughtUp, None) => {
                let rest = LOOK_EVERY.max(looking_since.elapsed() * REST_PER_LOOK);
                if readable_since.elapsed() + rest > READABLE_EVERY {
                    following.flush()?;
                    readable_since = Instant::now();
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(rest) => {}
                }
            }
        }
    }
    Ok(following.finish()?)
}

/// The clock that the log stamps with.
fn now() -> Time {
    (watchfold_log::Options::default().clock)()
}

fn tell(args: &RecordArgs, recorded: &Recorded) -> anyhow::Result<()> {
    let header = &recorded.header;
    outln!(
        "{}: {} observations and {} events of {}, {} bytes",
        args.out.display(),
        recorded.records,
        recorded.events,
        header.sites.join(", "),
        recorded.bytes
    )?;
    if !header.is_basis() {
        outln!(
            "only {} was recorded: it can be looked at, and is no basis for deriving events again",
            header.kinds.join(", ")
        )?;
    }
    for beginning in header.beginnings.iter().filter(|_| header.is_basis()) {
        let site = &beginning.site;
        match beginning.state {
            BeginningState::Empty | BeginningState::Snapshot => {}
            BeginningState::LeadIn { from_sequence } => outln!(
                "{site}: what was so before is folded from record {from_sequence} on; the log keeps nothing earlier"
            )?,
            BeginningState::Cut => {
                outln!("{site}: the log keeps nothing earlier, so its first hour will count as warm-up")?;
            }
        }
    }
    outln!("hash {}", recorded.hash)?;
    for sentence in &recorded.unread {
        errln!("{sentence}");
    }
    for problem in &recorded.problems {
        errln!("watchfold: {problem}");
    }
    Ok(())
}
