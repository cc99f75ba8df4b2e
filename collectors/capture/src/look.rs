//! A look at what passes an interface: counted, and written to a file if wanted. Nothing reaches a log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use watchfold_config::CaptureConfig;
use watchfold_kit::{Clock, SystemClock};
use watchfold_schemas::packets::{CaptureCounts, CaptureSource};
use watchfold_schemas::{Span, Time};

use crate::error::CaptureError;
use crate::parse::{LinkType, Packet, decode};
use crate::pcapng::{self, PacketRecord};
use crate::tap::{Tap, Wire};

/// How often it is told what was seen.
const TELL_EVERY: Span = Span::from_seconds(1);

const REST: Duration = Duration::from_millis(5);

/// Packets read before time is looked at again.
const PACKETS_AT_ONCE: usize = 4_096;

/// Looks at the interface until `tell` says that it is enough. It is told counts every second; `visit` sees each row.
pub fn look(
    config: &CaptureConfig,
    write: Option<&Path>,
    mut visit: impl FnMut(&Packet<'_>),
    mut tell: impl FnMut(Span, &CaptureCounts) -> bool,
) -> Result<CaptureCounts, CaptureError> {
    let mut tap = Tap::open(config)?;
    let link = LinkType::from(tap.link_type());
    let mut file = match write {
        Some(path) => Some(Recording::begin(path, config, tap.link_type())?),
        None => None,
    };
    let clock = SystemClock::new();
    let (began, mut told) = (clock.monotonic(), clock.monotonic());
    let mut counts = CaptureCounts::default();
    loop {
        let mut written = Ok(());
        let read = tap.read(PACKETS_AT_ONCE, &mut |raw| {
            counts.received += 1;
            match decode(link, raw.bytes, raw.wire_length) {
                Ok(packet) => visit(&packet),
                Err(_) => counts.undecoded += 1,
            }
            if let Some(file) = file.as_mut().filter(|_| written.is_ok()) {
                written = file.add(PacketRecord {
                    interface: 0,
                    number: counts.received,
                    at: Time(raw.wall_ns),
                    wire_length: raw.wire_length,
                    bytes: raw.bytes,
                });
            }
        })?;
        written?;
        let now = clock.monotonic();
        if now - told >= TELL_EVERY {
            told = now;
            let drops = tap.drops();
            counts.dropped_by_kernel = drops.by_kernel;
            counts.dropped_by_interface = drops.by_interface;
            if !tell(now - began, &counts) {
                break;
            }
        }
        if read == 0 {
            thread::sleep(REST);
        }
    }
    if let Some(file) = file {
        file.end()?;
    }
    Ok(counts)
}

/// The file that packets are written to.
struct Recording<'p> {
    path: &'p Path,
    out: BufWriter<File>,
    bytes: Vec<u8>,
}

impl<'p> Recording<'p> {
    fn begin(path: &'p Path, config: &CaptureConfig, link_type: i32) -> Result<Recording<'p>, CaptureError> {
        let file = File::create(path).map_err(|source| failed(path, source))?;
        let mut recording = Recording {
            path,
            out: BufWriter::new(file),
            bytes: Vec::new(),
        };
        pcapng::section(&mut recording.bytes, "");
        let source = CaptureSource {
            name: config.interface.clone(),
            link_type,
            snap_length: config.snap_length,
        };
        pcapng::interface(&mut recording.bytes, &source);
        recording.write()?;
        Ok(recording)
    }

    fn add(&mut self, packet: PacketRecord<'_>) -> Result<(), CaptureError> {
        pcapng::packet(&mut self.bytes, &packet);
        self.write()
    }

    fn write(&mut self) -> Result<(), CaptureError> {
        let written = self.out.write_all(&self.bytes);
        self.bytes.clear();
        written.map_err(|source| failed(self.path, source))
    }

    fn end(mut self) -> Result<(), CaptureError> {
        self.out.flush().map_err(|source| failed(self.path, source))
    }
}

fn failed(path: &Path, source: std::io::Error) -> CaptureError {
    CaptureError::Write {
        path: path.to_owned(),
        source,
    }
}
