//! `watchfold replay`: a log or a recording through today's folds once more. Tells standard output, and nobody else.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use watchfold_replay::diff::{Diff, diff};
use watchfold_replay::digest::Digests;
use watchfold_replay::{Engine, Input, Outcomes, RecordedEvents, ReplayError, Selection, Under};
use watchfold_schemas::{Event, SiteConfig};

use crate::cli::{ReplayArgs, ReplayFormat};
use crate::config::{self, ConfigError};

/// As `diff` ends: the two sides differ.
const DIFFERENT: u8 = 1;
/// As `diff` ends: the input is damaged or cannot be used, so nothing is known, or not all.
const TROUBLE: u8 = 2;

/// Between two looks of the progress line.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let ended = if args.diff { compare(args) } else { tell(args) };
    match ended {
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        // A wrong configuration is told by its own status, but for a comparison, where 1 says that the sides differ.
        Err(error) if args.diff || !error.is::<ConfigError>() => {
            eprintln!("watchfold: {error:#}");
            Ok(ExitCode::from(TROUBLE))
        }
        ended => ended,
    }
}

/// Derives the events and prints them.
fn tell(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let mut source = Source::open(args, false)?;
    let mut side = source.side(args.config.as_deref())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    while let Some(step) = source.next(&side)? {
        for event in side.engine.take(&step) {
            side.note(&event)?;
            print(&mut out, &event, args.format)?;
        }
    }
    out.flush()?;
    source.summarize(&side);
    side.tell_digests("digest");
    Ok(source.exit(ExitCode::SUCCESS))
}

fn print(out: &mut impl Write, event: &Event, format: ReplayFormat) -> anyhow::Result<()> {
    match format {
        ReplayFormat::Jsonl => writeln!(out, "{}", serde_json::to_string(event)?)?,
        ReplayFormat::Text => {
            let body = serde_json::to_value(&event.body)?;
            // The body's only key is its kind.
            let body = body
                .as_object()
                .and_then(|body| body.values().next())
                .unwrap_or(&body);
            writeln!(
                out,
                "{}  {}  {}  {}  {body}",
                event.at,
                event.site,
                event.body.kind(),
                event.key
            )?;
        }
    }
    Ok(())
}

/// Derives both sides in one pass and prints what they differ in.
fn compare(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let with_recorded = args.config.is_none() && args.against.is_none();
    let mut source = Source::open(args, with_recorded)?;
    let mut after = source.side(args.config.as_deref())?;
    let mut before = source.side(args.against.as_deref())?;
    let mut recorded = RecordedEvents::default();
    while let Some(step) = source.next(&after)? {
        let events = if with_recorded {
            recorded.take(&step).into_iter().collect()
        } else {
            before.engine.take(&step)
        };
        events.iter().try_for_each(|event| before.add(event))?;
        after
            .engine
            .take(&step)
            .iter()
            .try_for_each(|event| after.add(event))?;
    }
    // What was told while the state was not known whole is not comparable.
    let warm_up = after.engine.warm_ups();
    if with_recorded && !warm_up.is_empty() {
        bail!(
            "the state before the first record is not known ({}): take a recording with a snapshot, or a later --from",
            warm_up
                .iter()
                .map(|one| one.reason.as_str())
                .collect::<Vec<_>>()
                .join("; ")
        );
    }
    let found = diff(&before.outcomes, &after.outcomes);
    let digests = (before.digests.finish(), after.digests.finish());
    // Under another configuration events differ by their nature; recorded ones should not.
    let is_same = found.is_same() && (!with_recorded || digests.0 == digests.1);
    print_diff(&found, is_same, args.format, with_recorded)?;
    source.summarize(&after);
    before.tell_digests(if with_recorded {
        "digest recorded"
    } else {
        "digest before"
    });
    after.tell_digests(if with_recorded {
        "digest derived "
    } else {
        "digest after "
    });
    Ok(source.exit(if is_same {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    }))
}

fn print_diff(found: &Diff, is_same: bool, format: ReplayFormat, with_recorded: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        ReplayFormat::Jsonl => {
            let mut value = serde_json::to_value(found)?;
            value["is_same"] = json!(is_same);
            writeln!(out, "{value}")?;
        }
        ReplayFormat::Text => {
            writeln!(out, "{found}")?;
            if with_recorded && found.is_same() && !is_same {
                writeln!(
                    out,
                    "but other events differ: compare `watchfold log cat` with `watchfold replay --format jsonl`"
                )?;
            }
        }
    }
    Ok(())
}

/// The input, and how far it was read.
struct Source {
    input: Input,
    started: Instant,
    shown: Option<Instant>,
}

/// One derivation and what became of it.
struct Side {
    engine: Engine,
    outcomes: Outcomes,
    digests: Digests,
    kinds: BTreeMap<&'static str, u64>,
}

impl Source {
    fn open(args: &ReplayArgs, with_events: bool) -> anyhow::Result<Source> {
        let mut selection = Selection {
            site: args.span.site.clone(),
            from: args.span.from,
            to: args.span.to,
            with_events,
        };
        let configs = [&args.config, &args.against].into_iter().flatten();
        let configs: Vec<SiteConfig> = configs
            .map(|path| Ok(config::load(path)?.site))
            .collect::<Result<_, ConfigError>>()?;
        if selection.site.is_none() && !configs.is_empty() {
            selection.site = Some(site_of(args, &configs)?);
        }
        let input = Input::open(&args.input, &selection)?;
        Ok(Source {
            input,
            started: Instant::now(),
            shown: std::io::stderr().is_terminal().then(Instant::now),
        })
    }

    fn side(&self, config: Option<&Path>) -> anyhow::Result<Side> {
        let under = match config {
            Some(path) => Under::Given(Box::new(config::load(path)?.site)),
            None => Under::Recorded,
        };
        let engine = Engine::new(under);
        let engine = match self.input.header() {
            Some(header) => engine.with_header(header),
            None => engine,
        };
        Ok(Side {
            engine,
            outcomes: Outcomes::default(),
            digests: Digests::default(),
            kinds: BTreeMap::new(),
        })
    }

    fn next(&mut self, side: &Side) -> anyhow::Result<Option<watchfold_replay::Step>> {
        let step = self.input.next_step();
        if self.shown.is_some_and(|shown| shown.elapsed() > PROGRESS_EVERY) {
            self.show_progress(side);
        }
        if !matches!(step, Ok(Some(_))) && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
        if step.is_err() {
            self.tell_problems();
        }
        Ok(step?)
    }

    fn show_progress(&mut self, side: &Side) {
        self.shown = Some(Instant::now());
        let done = self.input.progress().unwrap_or(0.0).clamp(0.0, 1.0);
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let left_s = if done > 0.0 {
            elapsed_s * (1.0 - done) / done
        } else {
            0.0
        };
        let at = side.engine.now().map(|now| now.to_string()).unwrap_or_default();
        let rate = side.engine.counters().results as f64 / elapsed_s;
        eprint!(
            "\r\x1b[K{:3.0} %  {at}  {} results/s  {left_s:.0} s left",
            done * 100.0,
            thousands(rate)
        );
    }

    fn summarize(&self, side: &Side) {
        let counters = side.engine.counters();
        let elapsed_s = self.started.elapsed().as_secs_f64();
        eprintln!(
            "{} observations with {} results in {elapsed_s:.2} s: {} results/s, {} events",
            counters.records,
            counters.results,
            thousands(counters.results as f64 / elapsed_s.max(1e-9)),
            counters.events
        );
        let kinds: Vec<String> = side
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        if !kinds.is_empty() {
            eprintln!("{}", kinds.join(", "));
        }
        for (count, what) in [
            (
                counters.lead_in_records,
                "observations before the span were folded silently",
            ),
            (counters.warm_up_events, "events of the warm-up are left out"),
            (counters.duplicates, "duplicates were dropped"),
            (counters.quarantined, "records could not be folded"),
            (counters.lost_records, "records are gone or damaged"),
            (
                counters.ignored_activations,
                "recorded configurations were ignored",
            ),
        ] {
            if count > 0 {
                eprintln!("{count} {what}");
            }
        }
        for warm_up in side.engine.warm_ups() {
            let until = warm_up.until.map(|until| until.to_string()).unwrap_or_default();
            eprintln!("{}: warm-up until {until}: {}", warm_up.site, warm_up.reason);
        }
        self.tell_problems();
    }

    fn tell_problems(&self) {
        for problem in self.input.problems() {
            eprintln!("watchfold: {problem}");
        }
    }

    fn exit(&self, otherwise: ExitCode) -> ExitCode {
        if self.input.problems().is_empty() {
            otherwise
        } else {
            ExitCode::from(TROUBLE)
        }
    }
}

impl Side {
    fn add(&mut self, event: &Event) -> Result<(), ReplayError> {
        self.outcomes.add(event)?;
        self.note(event)
    }

    fn note(&mut self, event: &Event) -> Result<(), ReplayError> {
        *self.kinds.entry(event.body.kind()).or_default() += 1;
        Ok(self.digests.add(event)?)
    }

    fn tell_digests(&self, what: &str) {
        for (site, digest, events) in self.digests.finish() {
            eprintln!("{what} {site} {digest} ({events} events)");
        }
    }
}

/// A configuration is of one site: the only one of the input, or the one that it names.
fn site_of(args: &ReplayArgs, configs: &[SiteConfig]) -> anyhow::Result<String> {
    let known = Input::open(&args.input, &Selection::default())?.known_sites()?;
    match &known[..] {
        [site] => Ok(site.clone()),
        [] => bail!("{} holds no observation of any site", args.input.display()),
        known => match configs.iter().find(|config| known.contains(&config.site)) {
            Some(config) => Ok(config.site.clone()),
            None => bail!(
                "a configuration is of one site: choose one with --site, of {}",
                known.join(", ")
            ),
        },
    }
}

fn thousands(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.1} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

/// `| head` closes the pipe when it has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
