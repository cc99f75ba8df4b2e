//! The command line of `watchfold bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Fold a generated month of pings, beside bare reading and decoding of it, and go to minutes in a recording of it.
    Replay(BenchReplayArgs),
    /// Run a site's chain over a log, from its observations to its store and its published events.
    Chain(BenchChainArgs),
    /// What rule packs say of a labelled set of capture files, and how much of it is right.
    Accuracy(BenchAccuracyArgs),
    /// Append to the embedded log, read and open it, beside a bare checksummed write of as many bytes, and JetStream.
    Log(BenchLogArgs),
    /// Judge a capture file: read, decoded, batched, recorded, folded and told, beside a bare libpcap loop over it.
    Packets(BenchPacketsArgs),
    /// Serve the page to many viewers: the time from the log to each, beside bare writes of as many bytes to as many sockets.
    Page(BenchPageArgs),
    /// Capture what is sent at stated rates over a network of its own, beside a bare libpcap loop and tcpdump. Linux only.
    Live(BenchLiveArgs),
}

#[derive(Debug, Args)]
pub struct BenchPageArgs {
    /// Viewers that follow the live stream.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub viewers: u32,
    /// Further viewers that never read.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub silent: u32,
    /// Events a second.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// How long events are appended. The viewers answer no pings, so the server disconnects them after 45 s.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub seconds: u32,
    /// Makes this process the viewers of the server at this address.
    #[arg(long, value_name = "ADDR", hide = true)]
    pub watch: Option<String>,
    #[command(flatten)]
    pub common: BenchArgs,
}

impl BenchPageArgs {
    /// How many events are appended.
    pub fn events(&self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }
}

#[derive(Debug, Args)]
pub struct BenchLiveArgs {
    /// Packets a second, or `max` for as many as can be sent; may be given several times.
    #[arg(long = "rate", value_name = "N", default_values = ["50000", "100000", "200000", "400000", "max"])]
    pub rates: Vec<SendRate>,
    /// How long each rate is sent to each receiver.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// The most bytes of payload in one packet: 1448 gives packets of 540 bytes on average.
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=1_448))]
    pub payload: u32,
    /// The kernel's buffer of each receiver. Default: what a capture has that says nothing of it.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub buffer_mib: Option<u32>,
    /// Also measure how many packets buffers of several sizes hold while nobody reads.
    #[arg(long)]
    pub held: bool,
    /// The rules of the whole path: `default`, `classic`, or a directory or file.
    #[arg(long, value_name = "PACK", default_value = "default")]
    pub rules: watchfold_rules::RuleSource,
    /// What this process does of the measurement.
    #[arg(long, value_enum, hide = true)]
    pub role: Option<LiveRole>,
    #[command(flatten)]
    pub common: BenchArgs,
}

/// How many packets are sent in a second; `None` is as many as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRate(pub Option<u64>);

impl std::str::FromStr for SendRate {
    type Err = String;

    fn from_str(text: &str) -> Result<SendRate, String> {
        if text == "max" {
            return Ok(SendRate(None));
        }
        match text.parse() {
            Ok(rate @ 1..=100_000_000) => Ok(SendRate(Some(rate))),
            _ => Err("write packets a second, 200000 for example, or max".to_owned()),
        }
    }
}

impl std::fmt::Display for SendRate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(rate) => write!(out, "{rate}"),
            None => out.write_str("max"),
        }
    }
}

/// The processes of `bench live`, which starts itself once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LiveRole {
    /// Starts the others, in a network of its own.
    Inside,
    Sender,
    /// A bare libpcap loop.
    Libpcap,
    /// The same, which reads only when everything was sent.
    Late,
    /// The whole path.
    Whole,
}

#[derive(Debug, Args)]
pub struct BenchPacketsArgs {
    /// The capture file. Without it one is generated, the same in every run.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How many packets are generated.
    #[arg(long, value_name = "N", default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub packets: u64,
    /// The rules of the whole path: `default`, `classic`, or a directory or file.
    #[arg(long, value_name = "PACK", default_value = "default")]
    pub rules: watchfold_rules::RuleSource,
    /// Judge a flood of this many invented sources as well.
    #[arg(long, value_name = "SOURCES", value_parser = clap::value_parser!(u64).range(1..))]
    pub flood: Option<u64>,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchReplayArgs {
    /// How many days are generated and folded.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// How large a recording minutes are looked up in, `10G` for example. Default: the one that was folded.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub size: Option<u64>,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchChainArgs {
    /// How many hours of observations the chain is given.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub hours: u32,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchAccuracyArgs {
    /// The set: capture files and their labels, as `tests/accuracy.sh` makes them.
    #[arg(value_name = "DIR")]
    pub set: PathBuf,
    /// A pack, or a directory of rules; may be given several times.
    #[arg(long, value_name = "RULES", default_values_t = ["classic".to_owned(), "default".to_owned()])]
    pub rules: Vec<String>,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct BenchLogArgs {
    /// A JetStream server to append to as well, `nats://localhost:4222` for example. The records stay there, so name one
    /// that is for this alone.
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// Bytes of one payload.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub size: u32,
    /// How many records are appended in one round.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// How many records are in one append.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// How long an append that nobody waits for may stay unsynced, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=50))]
    pub sync_delay_ms: u64,
    /// How large a log is opened, `10G` for example. Default: the one that was appended to.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub open_size: Option<u64>,
    /// Opens the log in this directory, says what that took, and ends.
    #[arg(long, value_name = "DIR", hide = true)]
    pub open_only: Option<PathBuf>,
    #[command(flatten)]
    pub common: BenchArgs,
}

/// What every measurement is told.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Where files are made, and removed again. Default: the directory for temporary files.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A number of bytes: `4096`, `64k`, `10G`, in powers of ten.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "not a number of bytes: write it as 4096, 64k or 10G".to_owned())
}
