//! `watchfold capture`: what capture files hold, by the code that makes batches of packets; interfaces, and a look at one.

mod live;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;
use watchfold_capture::Unread;
use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::file::{CaptureFile, End};
use watchfold_capture::file_time::FileTime;
use watchfold_capture::parse::{NOT_IP, Packet, decode};
use watchfold_schemas::Time;
use watchfold_schemas::codec::encode;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource, PacketBatch, marks};

use crate::cli::{CaptureCommand, CaptureStatArgs, Format};
use crate::exit;
use watchfold_kit::{console, errln, outln};

/// A file was read to its tear or not at all, or packets were skipped because their times or interfaces are not known.
const TROUBLE: u8 = 2;

/// Addresses told apart for the count of them; beyond it the count is a lower bound and says so.
const ADDRESSES_MAX: usize = 1_000_000;

pub fn run(command: &CaptureCommand) -> anyhow::Result<ExitCode> {
    match command {
        CaptureCommand::Stat(args) => stat(args),
        CaptureCommand::Interfaces(args) => live::interfaces(args),
        CaptureCommand::Live(args) => live::live(args),
    }
}

fn stat(args: &CaptureStatArgs) -> anyhow::Result<ExitCode> {
    let mut status = ExitCode::SUCCESS;
    for path in &args.files {
        match read(path) {
            Ok(stat) => {
                let is_read = console::while_read(stat.print(path, args.format))?;
                if let End::Torn { reason, .. } = &stat.end {
                    errln!(
                        "watchfold: {}: {reason}; what stands before is counted",
                        path.display()
                    );
                    status = ExitCode::from(TROUBLE);
                }
                if stat.unread.skipped() > 0 {
                    status = ExitCode::from(TROUBLE);
                }
                if !is_read {
                    break;
                }
            }
            Err(error) => {
                errln!("watchfold: {}", exit::sentence(&error));
                status = ExitCode::from(TROUBLE);
            }
        }
    }
    Ok(status)
}

/// What a file holds.
struct Stat {
    end: End,
    packets: u64,
    rows: u64,
    batches: u64,
    stored_bytes: u64,
    wire_bytes: u64,
    first: Option<Time>,
    last: Option<Time>,
    unread: Unread,
    protocols: BTreeMap<&'static str, u64>,
    fragments: u64,
    truncated: u64,
    malformed: u64,
    tunnelled: u64,
    time: FileTime,
    addresses: HashSet<std::net::IpAddr>,
    seconds: f64,
}

fn read(path: &Path) -> anyhow::Result<Stat> {
    let began = Instant::now();
    let mut file = CaptureFile::open(path)?;
    let source = CaptureSource {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        ..CaptureSource::default()
    };
    let mut builder = BatchBuilder::new(source, &[]);
    let mut stat = Stat::new();
    let end = file.for_each(|frame| {
        stat.packets += 1;
        stat.wire_bytes += u64::from(frame.wire_length);
        stat.first = stat.first.or(Some(frame.at));
        stat.time.push(frame.at);
        stat.last = Some(stat.last.map_or(frame.at, |last| last.max(frame.at)));
        let packet = match decode(frame.link, frame.bytes, frame.wire_length) {
            Ok(packet) => packet,
            Err(why) => {
                stat.unread.add(why);
                return ControlFlow::Continue(());
            }
        };
        stat.count(&packet);
        if builder.push(stat.packets, frame.at, frame.wire_length, packet.clone()) == Pushed::Full {
            stat.stored(&builder.take(CaptureCounts::default()));
            // An empty builder takes any packet.
            builder.push(stat.packets, frame.at, frame.wire_length, packet);
        }
        ControlFlow::Continue(())
    })?;
    if !builder.is_empty() {
        stat.stored(&builder.take(CaptureCounts::default()));
    }
    while stat.time.decide() {}
    stat.end = end;
    stat.unread.set_skipped(file.skipped_by_reason());
    stat.seconds = began.elapsed().as_secs_f64();
    Ok(stat)
}

impl Stat {
    fn new() -> Stat {
        Stat {
            end: End::Whole,
            packets: 0,
            rows: 0,
            batches: 0,
            stored_bytes: 0,
            wire_bytes: 0,
            first: None,
            last: None,
            unread: Unread::default(),
            protocols: BTreeMap::new(),
            fragments: 0,
            truncated: 0,
            malformed: 0,
            tunnelled: 0,
            time: FileTime::default(),
            addresses: HashSet::new(),
            seconds: 0.0,
        }
    }

    fn count(&mut self, packet: &Packet<'_>) {
        *self.protocols.entry(protocol_name(packet.protocol)).or_default() += 1;
        let has = |mark: u8| u64::from(packet.marks & mark != 0);
        self.fragments += has(marks::FIRST_FRAGMENT | marks::LATER_FRAGMENT);
        self.truncated += has(marks::TRUNCATED);
        self.malformed += has(marks::MALFORMED);
        self.tunnelled += has(marks::TUNNELLED);
        if self.addresses.len() < ADDRESSES_MAX {
            self.addresses
                .extend(packet.source.into_iter().chain(packet.destination));
        }
    }

    fn stored(&mut self, batch: &PacketBatch) {
        self.batches += 1;
        self.rows += batch.len() as u64;
        match encode(batch) {
            Ok(bytes) => self.stored_bytes += bytes.len() as u64,
            Err(error) => errln!("watchfold: a batch of {} packets: {error}", batch.len()),
        }
    }

    fn print(&self, path: &Path, format: Format) -> anyhow::Result<()> {
        let per_packet = self.stored_bytes as f64 / (self.rows.max(1)) as f64;
        let rate = self.packets as f64 / self.seconds.max(1e-9);
        if matches!(format, Format::Json) {
            let line = json!({
                "file": path.display().to_string(),
                "is_whole": self.end == End::Whole,
                "packets": self.packets,
                "rows": self.rows,
                "skipped": self.unread.skipped(),
                "skipped_by_reason": self.unread.skipped_by_reason().collect::<BTreeMap<_, _>>(),
                "undecoded": self.unread.undecoded_by_reason().collect::<BTreeMap<_, _>>(),
                "protocols": self.protocols,
                "fragments": self.fragments,
                "truncated": self.truncated,
                "malformed": self.malformed,
                "tunnelled": self.tunnelled,
                "late": self.time.late,
                "ahead": self.time.ahead,
                "addresses": self.addresses.len(),
                "addresses_is_lower_bound": self.addresses.len() >= ADDRESSES_MAX,
                "wire_bytes": self.wire_bytes,
                "first": self.first.map(|time| time.to_string()),
                "last": self.last.map(|time| time.to_string()),
                "batches": self.batches,
                "stored_bytes": self.stored_bytes,
                "stored_bytes_per_packet": per_packet,
                "packets_per_s": rate,
            });
            return Ok(outln!("{line}")?);
        }
        outln!("{}", path.display())?;
        outln!(
            "  {} packets, {} bytes on the wire",
            self.packets,
            self.wire_bytes
        )?;
        if let (Some(first), Some(last)) = (self.first, self.last) {
            outln!("  from {first} to {last}")?;
        }
        let protocols: Vec<String> = self
            .protocols
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        outln!("  {} rows: {}", self.rows, protocols.join(", "))?;
        let at_least = if self.addresses.len() >= ADDRESSES_MAX {
            "at least "
        } else {
            ""
        };
        outln!(
            "  {at_least}{} addresses; {} fragments, {} truncated, {} malformed, {} from inside a tunnel",
            self.addresses.len(),
            self.fragments,
            self.truncated,
            self.malformed,
            self.tunnelled
        )?;
        for (why, count) in self.unread.undecoded_by_reason() {
            outln!("  {count} without a row: {why}")?;
        }
        for (why, count) in self.unread.skipped_by_reason() {
            outln!("  {count} skipped: {why}")?;
        }
        for (count, what) in [
            (self.time.late, "more than a second behind packets before them"),
            (
                self.time.ahead,
                "with a time more than a second ahead of those after them",
            ),
        ] {
            if count > 0 {
                outln!("  {count} {what}")?;
            }
        }
        outln!(
            "  {} batches, {per_packet:.1} bytes a packet; {rate:.0} packets/s",
            self.batches
        )?;
        Ok(())
    }
}

fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        1 => "ICMP",
        2 => "IGMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        NOT_IP => "ARP",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_counted_to_its_tear() {
        let mut bytes = Vec::new();
        for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            bytes.extend(word.to_le_bytes());
        }
        let arp = {
            let mut frame = vec![0xFF; 6];
            frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            frame.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5]);
            frame
        };
        for frame in [&arp[..], &[0; 20], &arp] {
            for word in [1_700_000_000, 0, frame.len() as u32, frame.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend_from_slice(frame);
        }
        bytes.truncate(bytes.len() - 1);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("torn.pcap");
        std::fs::write(&path, bytes).unwrap();
        let stat = read(&path).unwrap();
        assert!(matches!(stat.end, End::Torn { packets: 2, .. }), "{:?}", stat.end);
        assert_eq!((stat.packets, stat.rows, stat.batches), (2, 1, 1));
        assert_eq!(stat.unread.undecoded(), 1);
        assert_eq!((stat.protocols["ARP"], stat.addresses.len()), (1, 2));
        assert!(stat.stored_bytes > 0);
    }
}
