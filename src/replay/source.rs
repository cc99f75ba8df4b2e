//! What a replay reads and derives, and what it says about it on standard error: progress, summary, digests, trouble.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use watchfold_capture::file::is_capture;
use watchfold_config::CaptureConfig;
use watchfold_folds::PacketCounters;
use watchfold_replay::digest::Digests;
use watchfold_replay::peers::is_of_peer;
use watchfold_replay::{Engine, Inputs, Outcomes, ReplayError, Selection, Step, recorded_findings};
use watchfold_rules::PackName;
use watchfold_schemas::{Chain, Event, SiteConfig, Time};

use crate::cli::ReplayArgs;
use crate::config::{self, Config, ConfigError};
use crate::outside::{outside, outside_like, under};
use watchfold_kit::{console, errln};

/// Between two looks of the progress line.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The length of the progress bar.
const BAR_CHARS: usize = 20;

/// The input, and how far it was read.
pub struct Source {
    input: Inputs,
    paths: Vec<PathBuf>,
    selection: Selection,
    started: Instant,
    shown: Option<Instant>,
}

/// One derivation and what became of it.
pub struct Side {
    pub engine: Engine,
    pub outcomes: Outcomes,
    pub digests: Digests,
    kinds: BTreeMap<&'static str, u64>,
}

impl Source {
    /// The sites that it holds.
    pub fn known_sites(&self) -> Result<Vec<String>, ReplayError> {
        self.input.known_sites()
    }

    /// `from` is where reading begins; the command line may mean another moment by it.
    pub fn open(args: &ReplayArgs, from: Option<Time>, with_events: bool) -> anyhow::Result<Source> {
        let mut selection = Selection {
            site: args.span.site.clone(),
            from,
            to: args.span.to,
            with_events,
            without_packets: false,
            outside: outside(),
        };
        let against = Against::of(args);
        let configs = [args.config.as_deref(), against.config()].into_iter().flatten();
        let loaded: Vec<Config> = configs.map(config::load).collect::<Result<_, ConfigError>>()?;
        let captures: Vec<CaptureConfig> = loaded.iter().flat_map(|config| config.captures.clone()).collect();
        selection.outside = outside_like(&captures);
        let configs: Vec<SiteConfig> = loaded.into_iter().map(|config| config.site).collect();
        if selection.site.is_none() && !configs.is_empty() {
            selection.site = Some(match args.inputs.iter().any(|path| is_capture(path)) {
                // A capture file says of no site that it is its own.
                true => configs[0].site.clone(),
                false => site_of(args, &configs)?,
            });
        }
        let input = Inputs::open(&args.inputs, &selection)?;
        for sentence in input.passed_over() {
            errln!("watchfold: {sentence}");
        }
        // Events that run over the same terminal show how far it is, and would be mixed with a line that is drawn again and again.
        let is_quiet = args.diff || args.dashboard || !console::is_output_terminal();
        Ok(Source {
            input,
            paths: args.inputs.clone(),
            selection,
            started: Instant::now(),
            shown: (is_quiet && console::is_messages_terminal()).then(Instant::now),
        })
    }

    /// Whether it is of capture files: nothing was derived of them before.
    pub fn is_of_captures(&self) -> bool {
        self.input.is_of_captures()
    }

    pub fn side(&self, config: Option<&Path>, rules: Option<&str>) -> anyhow::Result<Side> {
        let under = under(config, rules, self.is_of_captures())?;
        let mut engine = Engine::new(under.clone());
        if under.rules.is_some() && !self.is_of_captures() {
            engine = engine.with_recorded_findings(recorded_findings(&self.paths, &self.selection)?);
        }
        Ok(Side {
            engine,
            outcomes: Outcomes::default(),
            digests: Digests::default(),
            kinds: BTreeMap::new(),
        })
    }

    pub fn next(&mut self, side: &Side) -> anyhow::Result<Option<Step>> {
        let step = self.input.next_step();
        self.show_progress_when_due(side);
        if !matches!(step, Ok(Some(_))) && self.shown.is_some() {
            console::write_message(format_args!("\r\x1b[K"));
        }
        if step.is_err() {
            self.tell_problems();
        }
        Ok(step?)
    }

    pub fn show_progress_when_due(&mut self, side: &Side) {
        if self.shown.is_some_and(|shown| shown.elapsed() > PROGRESS_EVERY) {
            self.show_progress(side);
        }
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
        let counters = side.engine.counters();
        let (what, count) = match counters.packets {
            0 => ("results", counters.results),
            packets => ("packets", packets),
        };
        let rate = thousands(count as f64 / elapsed_s);
        // How much a compressed file holds nobody knows.
        match done > 0.0 {
            true => console::write_message(format_args!(
                "\r\x1b[K{} {:3.0} %  {at}  {rate} {what}/s  {} left",
                bar(done),
                done * 100.0,
                clock(left_s)
            )),
            false => console::write_message(format_args!("\r\x1b[K{at}  {rate} {what}/s")),
        }
    }

    pub fn summarize(&self, side: &Side) {
        let counters = side.engine.counters();
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let per_second = |count: u64| thousands(count as f64 / elapsed_s.max(1e-9));
        if !self.is_of_captures() {
            errln!(
                "{} observations with {} results in {elapsed_s:.2} s: {} results/s, {} events",
                counters.records,
                counters.results,
                per_second(counters.results),
                counters.events
            );
        }
        if counters.packets > 0 || self.is_of_captures() {
            errln!(
                "{} packets in {elapsed_s:.2} s: {} packets/s, {} events",
                counters.packets,
                per_second(counters.packets),
                counters.events
            );
        }
        for sentence in self.input.unread() {
            errln!("{sentence}");
        }
        for line in order_of(side) {
            errln!("{line}");
        }
        let kinds: Vec<String> = side
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        if !kinds.is_empty() {
            errln!("{}", kinds.join(", "));
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
                counters.joints,
                "sites began anew with a further input, which does not go on where the one before ended",
            ),
            (
                counters.ignored_activations,
                "recorded configurations and rule sets were ignored",
            ),
            (
                counters.left_out_findings,
                "recorded findings are not made by these rules, and left out",
            ),
        ] {
            if count > 0 {
                errln!("{count} {what}");
            }
        }
        match side.engine.still_open().len() {
            0 => {}
            1 => errln!("1 attack had not ended when the input did"),
            count => errln!("{count} attacks had not ended when the input did"),
        }
        for warm_up in side.engine.warm_ups() {
            let until = warm_up.until.map(|until| until.to_string()).unwrap_or_default();
            let chain = match warm_up.chain {
                Chain::Site => "",
                Chain::Packets => "/packets",
            };
            errln!(
                "{}{chain}: warm-up until {until}: {}",
                warm_up.site,
                warm_up.reason
            );
        }
        self.tell_problems();
    }

    fn tell_problems(&self) {
        for problem in self.input.problems() {
            errln!("watchfold: {problem}");
        }
    }

    /// The status of a replay whose inputs were whole, or the one for trouble.
    pub fn exit(&self, otherwise: ExitCode, trouble: u8) -> ExitCode {
        if self.input.problems().is_empty() {
            otherwise
        } else {
            ExitCode::from(trouble)
        }
    }
}

impl Side {
    pub fn add(&mut self, event: &Event) -> Result<(), ReplayError> {
        self.outcomes.add(event)?;
        self.note(event)
    }

    pub fn note(&mut self, event: &Event) -> Result<(), ReplayError> {
        *self.kinds.entry(event.body.kind()).or_default() += 1;
        Ok(self.digests.add(event)?)
    }

    pub fn tell_digests(&self, what: &str) {
        for (site, digest, events) in self.digests.finish() {
            errln!("{what} {site} {digest} ({events} events)");
        }
    }
}

/// The first side of a difference, where one is named.
pub enum Against {
    Nothing,
    Config(PathBuf),
    Rules(String),
    /// What another detector said.
    Peer(PathBuf),
}

impl Against {
    /// By what stands there: a directory, the name of a pack or a file of rules; a file of another detector; else a configuration.
    pub fn of(args: &ReplayArgs) -> Against {
        let Some(named) = &args.against else {
            return Against::Nothing;
        };
        let path = PathBuf::from(named);
        let is_pack = !path.exists() && PackName::from_name(named).is_some();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if is_pack || path.is_dir() || matches!(extension, Some("yml" | "yaml")) {
            return Against::Rules(named.clone());
        }
        match is_of_peer(&path) {
            true => Against::Peer(path),
            false => Against::Config(path),
        }
    }

    /// What is named and is neither there nor a pack.
    pub fn missing(args: &ReplayArgs) -> Option<&str> {
        let named = args.against.as_deref()?;
        (!Path::new(named).exists() && PackName::from_name(named).is_none()).then_some(named)
    }

    pub fn config(&self) -> Option<&Path> {
        match self {
            Against::Config(path) => Some(path),
            Against::Nothing | Against::Rules(_) | Against::Peer(_) => None,
        }
    }
}

/// A configuration is of one site: the only one of the input, or the one that it names.
fn site_of(args: &ReplayArgs, configs: &[SiteConfig]) -> anyhow::Result<String> {
    let known = Inputs::open(&args.inputs, &Selection::default())?.known_sites()?;
    match &known[..] {
        [site] => Ok(site.clone()),
        [] => bail!("there is no observation of any site in it"),
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

/// Twenty characters, filled as far as it is.
fn bar(done: f64) -> String {
    let filled = (done * BAR_CHARS as f64) as usize;
    (0..BAR_CHARS)
        .map(|at| if at < filled { '█' } else { '░' })
        .collect()
}

/// Seconds as people read them.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
/// What is said of packets that were seen twice or out of order.
fn order_of(side: &Side) -> Vec<String> {
    let count = |count: fn(PacketCounters) -> u64| side.engine.packet_count(count);
    let counts = [
        (
            count(|counters| counters.duplicate_packets),
            ["packet was", "packets were"],
            "seen twice; rules count each once unless they say otherwise",
        ),
        (
            count(|counters| counters.late_packets),
            ["packet is", "packets are"],
            "more than a second behind those before; they count at the later time",
        ),
        (
            count(|counters| counters.ahead_packets),
            ["packet has", "packets have"],
            "a time more than a second ahead of those after; they count at the earlier time",
        ),
    ];
    counts
        .into_iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, [one, several], what)| {
            let words = if count == 1 { one } else { several };
            format!("{count} {words} {what}")
        })
        .collect()
}
