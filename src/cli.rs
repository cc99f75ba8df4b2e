//! The command line.

mod bench;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use watchfold_connect::ConnectArgs;
use watchfold_schemas::{Body, EventBody, Span, Time};

pub use bench::{
    BenchAccuracyArgs, BenchArgs, BenchChainArgs, BenchCommand, BenchLiveArgs, BenchLogArgs,
    BenchPacketsArgs, BenchPageArgs, BenchReplayArgs, LiveRole, SendRate,
};

/// Watches small sites: who answers, who is here, what went wrong, and tells.
#[derive(Debug, Parser)]
#[command(name = "watchfold", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to log, `debug` or `warn,watchfold_ping=trace` for example.
    #[arg(long, global = true, env = "WATCHFOLD_LOG", value_name = "FILTER")]
    pub log_level: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch: everything in one process, with the log embedded.
    Up(UpArgs),
    /// Write a configuration, asking what cannot be found out.
    Init(InitArgs),
    /// Work with configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// See whether this machine can do what is asked of it: permissions, sockets, time, disk, sinks.
    Doctor(DoctorArgs),
    /// Look into the log of a data directory, while it runs or not.
    #[command(subcommand)]
    Log(LogCommand),
    /// Make a portable file of a piece of the log, while it runs or not.
    Record(RecordArgs),
    /// Fold a log, a recording or capture files once more: as recorded, under another configuration or other rules, or both
    /// and compare. Tells nobody.
    Replay(ReplayArgs),
    /// Show why an incident, a session, an attack or an event came about: the records and packets that caused it, derived
    /// once more.
    Explain(ExplainArgs),
    /// Make tests of what happened, and run them.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Work with the rules by which packets and other rows are judged: Sigma, checked whole.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Show a café that does not exist, alive on the page: no root, no network, no configuration, nothing kept.
    Demo(DemoArgs),
    /// Look into capture files: pcap and pcapng, plain, gzip or zstd.
    #[command(subcommand)]
    Capture(CaptureCommand),
    /// Measure how fast this build is on this machine, beside what it is compared with. Takes the disk and every core.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Ask a process here whether it is ready: exit status 0 or 1, for health checks of containers.
    Ready(ReadyArgs),
    /// Print completions for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct UpArgs {
    /// The configuration; without it `watchfold.toml` in the data directory, made at the first start.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Where the page listens, in place of the configured address.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// The data directory: log, state, access token. Default: `$STATE_DIRECTORY`, else the user's data directory.
    #[arg(long = "data", env = "WATCHFOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write. Default: `watchfold.toml` in the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Ask nothing: take what was found, and defaults for the rest.
    #[arg(long)]
    pub no_input: bool,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file whole, and show what it comes to.
    Check(CheckArgs),
    /// Record a file as the configuration of its site, for processes elsewhere that follow the log.
    Activate(Box<ActivateArgs>),
}

#[derive(Debug, Args)]
pub struct ReadyArgs {
    /// Where the process listens, `http://127.0.0.1:9100` for example; without a path, /readyz is asked.
    pub url: String,
}

#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The configuration of one site.
    pub file: PathBuf,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Stay, and record every good change of the file, and the whole once a day so that retention never takes it.
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Warnings are errors too.
    #[arg(long)]
    pub deny_warnings: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the page listens. Default: 127.0.0.1:8737, or another port when that one is taken.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// How many times faster than a clock the café lives.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub speed: u32,
    /// Another number is another day: other people, other minutes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Which part of a log.
#[derive(Debug, Args)]
pub struct SpanArgs {
    /// Only this site. Default: every site.
    #[arg(long)]
    pub site: Option<String>,
    /// From what was stored at this time on, `2026-01-31T08:15:00Z` for example.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Time>,
    /// Up to what was stored before this time.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Time>,
}

#[derive(Debug, Args)]
pub struct RecordArgs {
    /// A data directory, a recording to make a shorter one of, or a capture file. Default: the data directory.
    #[arg(value_name = "INPUT")]
    pub input: Option<PathBuf>,
    /// By what a capture file is judged: `default`, `classic`, a directory of Sigma rules, or one file.
    #[arg(long, value_name = "SET", default_value = "default")]
    pub rules: String,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub span: SpanArgs,
    /// Only observations of these kinds, separated by commas. What chains derive cannot be derived again without all of
    /// them but receipts.
    #[arg(long = "kind", value_name = "KIND", num_args = 1.., value_delimiter = ',', value_parser = PossibleValuesParser::new(Body::KINDS))]
    pub kinds: Vec<String>,
    /// Go on as the log grows, until Ctrl-C or the end of the span. The file can be read meanwhile.
    #[arg(long)]
    pub follow: bool,
    /// The file to make. It must not exist.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Recordings or data directories: of several sites, or pieces of one that follow each other. Or capture files, `-` for
    /// standard input.
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Fold under this configuration from the start of the span on, in place of those recorded. Its rules count where it has
    /// a section for them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Judge by these rules in place of those recorded, and find again: `default`, `classic`, a directory of Sigma rules, or
    /// one file. Capture files are judged by `default`.
    #[arg(long, value_name = "SET")]
    pub rules: Option<String>,
    #[command(flatten)]
    pub span: SpanArgs,
    /// Show what differs, and end with 0 for the same, 1 for different, 2 for trouble. Without a configuration or rules:
    /// events as they were recorded, against what is derived now. With them: as recorded, against these.
    #[arg(long)]
    pub diff: bool,
    /// The first side of the difference: this configuration or these rules in place of those recorded; or what another
    /// detector said of the same packets, Suricata's eve.json or Zeek's notice.log.
    #[arg(long, value_name = "FILE|SET", requires = "diff")]
    pub against: Option<String>,
    /// How far apart in time an alert and what another detector said may be to be the same.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span, requires = "against")]
    pub window: Span,
    /// How fast: as fast as it goes (`max`), or so many times as fast as it happened (`1x`, `10x`).
    #[arg(long, value_name = "SPEED", default_value = "max", value_parser = speed, conflicts_with = "diff")]
    pub speed: Speed,
    /// Print only events of these kinds, separated by commas. Without it every event is printed, except the hourly digests of
    /// capture files.
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', conflicts_with_all = ["diff", "dashboard"], value_parser = PossibleValuesParser::new(EventBody::KINDS))]
    pub kinds: Vec<String>,
    /// Show it on the page, read-only, instead of printing it; the page stays until Ctrl-C. The day before --from comes along.
    #[arg(long, conflicts_with_all = ["diff", "format"])]
    pub dashboard: bool,
    /// Where the page listens. Default: 127.0.0.1:8737, or another port when that one is taken.
    #[arg(long, value_name = "ADDR", requires = "dashboard")]
    pub listen: Option<SocketAddr>,
    #[arg(long, value_enum, default_value_t)]
    pub format: ReplayFormat,
}

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    Max,
    /// So many times as fast as it happened.
    Times(f64),
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The id of an incident, a session, an attack or an event.
    pub id: String,
    /// A recording, a data directory or a capture file. Default: the data directory.
    pub input: Option<PathBuf>,
    /// By what a capture file is judged: `default`, `classic`, a directory of Sigma rules, or one file.
    #[arg(long, value_name = "SET", default_value = "default")]
    pub rules: String,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub span: SpanArgs,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Make a test directory of what happened: a recording of it, and the events that follow from it today.
    Cut(CutArgs),
    /// Compare what follows from test directories with what they expect, and end with 0 for the same, 1 for different,
    /// 2 for trouble.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub struct CutArgs {
    /// A recording, a data directory or a capture file.
    pub input: PathBuf,
    /// The id of an incident, a session, an attack or an event.
    #[arg(long, value_name = "ID")]
    pub around: String,
    /// By what a capture file is judged: `default`, `classic`, a directory of Sigma rules, or one file.
    #[arg(long, value_name = "SET", default_value = "default")]
    pub rules: String,
    /// What comes along from before it.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    pub before: Span,
    /// What comes along from after it.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    pub after: Span,
    /// The directory to make. It must not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Test directories, or directories that hold them.
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Expect from now on what follows today.
    #[arg(long)]
    pub bless: bool,
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Check files of rules and tell every problem with its line; end with 0 when there is none, 1 when there are, 2 when
    /// something cannot be read.
    Check(RulesCheckArgs),
    /// Show rules: their state, severity, rows, and what makes them fire. Without --rules those that a configuration puts
    /// in force.
    List(RulesListArgs),
    /// Compare what follows from test directories with what they expect, as `scenario test` does.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub struct RulesCheckArgs {
    /// Files, directories, or packs; together they are one set, so that rules of one file may name those of another.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RulesListArgs {
    /// `default`, `classic`, a directory of Sigma rules, or one file.
    #[arg(long, value_name = "RULES", conflicts_with = "config")]
    pub rules: Option<String>,
    /// The configuration whose rules are shown, with its states, thresholds and exclusions.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplayFormat {
    #[default]
    Text,
    /// One JSON object a line: an event, or an attack that had not ended; with --diff the whole difference.
    Jsonl,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum CaptureCommand {
    /// What each file holds: packets, protocols, addresses, and why some packets give no row. Status 2 when a file is torn or
    /// packets are skipped.
    Stat(CaptureStatArgs),
    /// The interfaces of this machine, and whether packets can be captured on them.
    Interfaces(CaptureInterfacesArgs),
    /// Look at what passes an interface, without a log: counts each second, and a file if wanted.
    Live(CaptureLiveArgs),
}

#[derive(Debug, Args)]
pub struct CaptureInterfacesArgs {
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CaptureLiveArgs {
    /// As `watchfold capture interfaces` lists it.
    #[arg(value_name = "INTERFACE")]
    pub interface: String,
    /// Only packets that it lets through, as tcpdump takes it.
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Ends after so many seconds; without it, with Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u32>,
    /// Writes the packets to this file, as pcapng.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Bytes kept of each packet.
    #[arg(long, value_name = "BYTES", default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(96..=262_144))]
    pub snap_length: u32,
    /// Leaves packets for others alone.
    #[arg(long)]
    pub not_promiscuous: bool,
}

#[derive(Debug, Args)]
pub struct CaptureStatArgs {
    /// Capture files; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// What each stream holds, at a glance; of a broker too.
    Stat(StatArgs),
    /// Print records in order; of a broker too.
    Cat(CatArgs),
    /// Read and check every record. Status 1 when some are damaged.
    Verify(LogArgs),
}

#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub struct CatArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// The stream: `WF_OBS`, `WF_EVT` or `WF_SNAP`.
    #[arg(long, default_value = "WF_EVT")]
    pub stream: String,
    /// Only subjects that match, `wf.evt.*.site.incident_opened.>` for example.
    #[arg(long, default_value = ">", value_name = "SUBJECT")]
    pub filter: String,
    /// Begin at this sequence.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// At most this many records.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    #[arg(long, value_enum, default_value_t)]
    pub format: CatFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CatFormat {
    #[default]
    Human,
    /// One JSON object a line.
    Jsonl,
}

/// A length of time as configurations write it.
fn span(text: &str) -> Result<Span, String> {
    let parsed = text.parse::<jiff::SignedDuration>();
    let nanos = parsed
        .ok()
        .and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    match nanos {
        Some(nanos) if nanos >= 0 => Ok(Span::from_nanos(nanos)),
        _ => Err("not a length of time: write it as 90s, 5m or 1h".to_owned()),
    }
}

/// `max`, or a factor: `10x`.
pub fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times = text
        .strip_suffix(['x', 'X'])
        .and_then(|times| times.parse::<f64>().ok());
    match times {
        Some(times) if SPEEDS.contains(&times) => Ok(Speed::Times(times)),
        _ => Err("write it as max, or as 1x, 10x, 0.5x: from 0.001x to 1000000x".to_owned()),
    }
}

/// Slower nobody waits for, faster is `max`.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1e6;
