//! `watchfold bench live`: live capture at stated rates, beside a bare libpcap loop and tcpdump that receive the same.
//!
//! Everything happens in a network of its own, which the kernel takes away with the last process in it: a pair of virtual
//! interfaces, packets going in at one and being captured at the other. Nothing leaves the machine.

mod receivers;
mod sender;
mod table;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use watchfold_capture::CaptureConfig;

use super::{machine, workspace};
use crate::cli::{BenchLiveArgs, LiveRole, SendRate};
use receivers::{Counted, READY};
use sender::Sent;
use table::{Held, LIBPCAP, Run, TCPDUMP, Table, WHOLE};
use watchfold_kit::outln;

const SENDS: &str = "wf-out";
const RECEIVES: &str = "wf-in";

/// How long receivers get for what is still on its way when everything was sent.
const SETTLE: Duration = Duration::from_millis(500);

/// Buffers whose size in packets is measured.
const HELD_MIB: [u32; 5] = [16, 32, 64, 128, 256];

const MIB: u64 = 1024 * 1024;

pub fn live(args: &BenchLiveArgs) -> anyhow::Result<()> {
    match args.role {
        None => in_a_network_of_its_own(),
        Some(LiveRole::Inside) => measure(args),
        Some(LiveRole::Sender) => {
            let rate = *args.rates.first().context("a sender needs a rate")?;
            let sent = sender::send(SENDS, rate, args.seconds, args.payload as usize)?;
            outln!("{}", serde_json::to_string(&sent)?)?;
            Ok(())
        }
        Some(LiveRole::Libpcap) => receivers::bare(&capture(args), false),
        Some(LiveRole::Late) => receivers::bare(&capture(args), true),
        Some(LiveRole::Whole) => {
            let directory = workspace(&args.common)?;
            receivers::whole(capture(args), &args.rules, directory.path())
        }
    }
}

fn capture(args: &BenchLiveArgs) -> CaptureConfig {
    let mut capture = CaptureConfig::of(RECEIVES);
    if let Some(mib) = args.buffer_mib {
        capture.buffer_bytes = u64::from(mib) * MIB;
    }
    capture
}

/// Runs the same once more where nobody else's packets are.
fn in_a_network_of_its_own() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to see who this is")?;
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let status = Command::new("unshare")
        .args((!is_root).then_some("--map-root-user"))
        .args(["--net", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--role", "inside"])
        .status()
        .context("failed to run unshare, which comes with util-linux")?;
    ensure!(
        status.success(),
        "the measurement failed; if a network could not be made, run it as root or allow user namespaces"
    );
    Ok(())
}

fn measure(args: &BenchLiveArgs) -> anyhow::Result<()> {
    shell(&format!(
        "ip link add {SENDS} type veth peer name {RECEIVES}
         ip link set {SENDS} addrgenmode none
         ip link set {RECEIVES} addrgenmode none
         ip link set {SENDS} up
         ip link set {RECEIVES} up"
    ))?;
    let directory = workspace(&args.common)?;
    let mut table = Table {
        seconds: args.seconds,
        buffer_mib: (capture(args).buffer_bytes / MIB) as u32,
        runs: Vec::new(),
        held: Vec::new(),
    };
    for rate in &args.rates {
        for receiver in [LIBPCAP, TCPDUMP, WHOLE] {
            table.runs.push(run(args, receiver, *rate, directory.path())?);
        }
    }
    for buffer_mib in HELD_MIB.into_iter().filter(|_| args.held) {
        let late = Receiver::of_ours(args, LiveRole::Late, buffer_mib)?;
        send(args, SendRate(None))?;
        let packets = late.end()?.received;
        table.held.push(Held { buffer_mib, packets });
    }
    table.print(args.common.format)?;
    Ok(())
}

fn run(
    args: &BenchLiveArgs,
    receiver: &'static str,
    rate: SendRate,
    directory: &Path,
) -> anyhow::Result<Run> {
    let buffer_mib = (capture(args).buffer_bytes / MIB) as u32;
    let receiving = match receiver {
        LIBPCAP => Receiver::of_ours(args, LiveRole::Libpcap, buffer_mib)?,
        TCPDUMP => Receiver::tcpdump(buffer_mib, &directory.join("tcpdump.pcap"))?,
        _ => Receiver::of_ours(args, LiveRole::Whole, buffer_mib)?,
    };
    let before = receiving.thread_times();
    let sent = send(args, rate)?;
    std::thread::sleep(SETTLE);
    let threads_s = receiving
        .thread_times()
        .into_iter()
        .map(|(name, time)| {
            let used = time.saturating_sub(before.get(&name).copied().unwrap_or_default());
            (name, used.as_secs_f64())
        })
        .collect();
    Ok(Run {
        rate,
        receiver,
        sent,
        counted: receiving.end()?,
        threads_s,
    })
}

fn send(args: &BenchLiveArgs, rate: SendRate) -> anyhow::Result<Sent> {
    let output = ours(args, LiveRole::Sender)?
        .args(["--rate", &rate.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start the sender")?;
    ensure!(output.status.success(), "the sender failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the sender did not say what it sent")
}

/// This program in another role.
fn ours(args: &BenchLiveArgs, role: LiveRole) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let role = match role {
        LiveRole::Sender => "sender",
        LiveRole::Libpcap => "libpcap",
        LiveRole::Late => "late",
        LiveRole::Whole => "whole",
        LiveRole::Inside => bail!("what is inside starts nothing like itself"),
    };
    command.args(["bench", "live", "--role", role]);
    command.args(["--seconds", &args.seconds.to_string()]);
    command.args(["--payload", &args.payload.to_string()]);
    command.args(["--rules", &args.rules.to_string()]);
    if let Some(dir) = &args.common.dir {
        command.arg("--dir").arg(dir);
    }
    Ok(command)
}

/// A process that receives.
struct Receiver {
    child: Child,
    is_ours: bool,
}

impl Receiver {
    fn of_ours(args: &BenchLiveArgs, role: LiveRole, buffer_mib: u32) -> anyhow::Result<Receiver> {
        let mut child = ours(args, role)?
            .args(["--buffer-mib", &buffer_mib.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start a receiver")?;
        let out = child.stdout.as_mut().context("a receiver has no output")?;
        let mut said = [0; READY.len() + 1];
        out.read_exact(&mut said)
            .context("a receiver ended before it was ready")?;
        Ok(Receiver { child, is_ours: true })
    }

    fn tcpdump(buffer_mib: u32, file: &Path) -> anyhow::Result<Receiver> {
        let mut child = Command::new("tcpdump")
            // As root, because it may not change who it is in a user namespace.
            .args(["-n", "-Z", "root", "-s", "65535", "-i", RECEIVES, "-B"])
            .arg((buffer_mib * 1024).to_string())
            .arg("-w")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start tcpdump, which is a peer of this measurement: install it")?;
        let errors = child.stderr.as_mut().context("tcpdump has no output")?;
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"listening") {
            errors.read_exact(&mut byte).with_context(|| {
                let said = String::from_utf8_lossy(&said);
                format!("tcpdump ended before it was ready: {said}")
            })?;
            said.push(byte[0]);
        }
        Ok(Receiver {
            child,
            is_ours: false,
        })
    }

    fn thread_times(&self) -> BTreeMap<String, Duration> {
        machine::thread_times(&self.child.id().to_string()).unwrap_or_default()
    }

    /// Everything was sent; what did it count?
    fn end(mut self) -> anyhow::Result<Counted> {
        if !self.is_ours {
            return self.end_tcpdump();
        }
        drop(self.child.stdin.take());
        let out = self.child.stdout.take().context("a receiver has no output")?;
        let line = BufReader::new(out).lines().next();
        let line = line.context("a receiver ended before it said what it counted")??;
        ensure!(self.child.wait()?.success(), "a receiver failed");
        serde_json::from_str(&line).with_context(|| format!("a receiver said {line:?}"))
    }

    fn end_tcpdump(mut self) -> anyhow::Result<Counted> {
        shell(&format!("kill -INT {}", self.child.id()))?;
        let mut said = String::new();
        let errors = self.child.stderr.as_mut().context("tcpdump has no output")?;
        errors.read_to_string(&mut said)?;
        self.child.wait()?;
        let number = |what: &str| {
            let line = said.lines().find(|line| line.contains(what))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(Counted {
            received: number("packets captured").with_context(|| format!("tcpdump said {said:?}"))?,
            dropped_by_kernel: number("dropped by kernel").unwrap_or_default(),
            dropped_by_interface: number("dropped by interface").unwrap_or_default(),
            ..Counted::default()
        })
    }
}

fn shell(line: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-ec", line]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {said}");
    Ok(())
}
