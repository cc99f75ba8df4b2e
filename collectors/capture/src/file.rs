//! Reads capture files: pcap and pcapng, plain, gzip or zstd, from a path or standard input, packet by packet.
//!
//! Memory is bounded by one block of the file. A file that ends within a packet gives the packets before it and is reported as torn. Nothing
//! that a header says is passed over: it is computed, or its packets are skipped for a reason that is counted.

mod blocks;
mod fields;
mod legacy;
mod magic;
mod skipped;
mod unpack;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use watchfold_schemas::Time;

use crate::parse::LinkType;
use blocks::PcapNg;
use legacy::Pcap;
use magic::Kind;
use window::Window;

pub use magic::is_capture;
pub use skipped::Skipped;
pub use unpack::WINDOW_BYTES_MAX;

/// The largest block that is read. libpcap's own limit for one packet is 256 KiB; blocks of names are larger.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Interfaces of one section of a pcapng file; packets of further ones are skipped and counted.
pub const INTERFACES_MAX: usize = 4_096;

/// Reasons for which a file ends within a packet.
const ENDS_WITHIN: &str = "it ends within a packet";
const TOO_LARGE: &str = "it claims a packet larger than any is";
const NO_PACKET: &str = "what follows is no packet";
const PACKED_ENDS: &str = "its compressed bytes end early";

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("failed to open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a capture file: pcap and pcapng are read, plain, as .gz or as .zst", path.display())]
    NotACapture { path: PathBuf },
    #[error("{} cannot be read: {reason}", path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("failed to read {} after {packets} packets: {reason}", path.display())]
    Read {
        path: PathBuf,
        packets: u64,
        reason: String,
    },
}

/// A packet as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its place in the file, counted from 1, packets that are skipped included: as other programs count.
    pub number: u64,
    pub at: Time,
    pub link: LinkType,
    pub link_type: i32,
    pub snap_length: u32,
    /// Without a frame check sequence, as the bytes are.
    pub wire_length: u32,
    pub bytes: &'a [u8],
    /// The number that whoever wrote the file gave it, if any.
    pub given_number: Option<u64>,
}

/// How reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was read.
    Whole,
    /// The file ends, or turns into something else, after this many packets.
    Torn { packets: u64, reason: String },
    /// Whoever was given the packets wanted no more.
    Stopped,
}

/// An open capture file.
pub struct CaptureFile {
    path: PathBuf,
    window: Window,
    format: Format,
    packets: u64,
    skipped: BTreeMap<Skipped, u64>,
}

/// What the file has said about the packets to come.
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// The next item of a file.
enum Next<'w> {
    Frame(Frame<'w>),
    /// A packet that cannot be placed in time, or of which the file says too little.
    Skipped(Skipped),
    /// Something else than a packet.
    Nothing,
    End,
    Torn(&'static str),
    /// Another version of the format.
    Unsupported(String),
}

impl CaptureFile {
    /// Opens a path; `-` is standard input.
    pub fn open(path: &Path) -> Result<CaptureFile, FileError> {
        if path == Path::new("-") {
            return CaptureFile::read(path, Box::new(io::stdin()));
        }
        let file = File::open(path).map_err(|source| FileError::Open {
            path: path.to_owned(),
            source,
        })?;
        CaptureFile::read(path, Box::new(file))
    }

    /// Reads from anything; `path` is what errors call it.
    pub fn read(path: &Path, input: Box<dyn Read + Send>) -> Result<CaptureFile, FileError> {
        let opened = unpack::unpack(input).and_then(|input| Format::begin(Window::new(input)));
        let refused = match opened {
            Ok(Ok((window, format))) => {
                return Ok(CaptureFile {
                    path: path.to_owned(),
                    window,
                    format,
                    packets: 0,
                    skipped: BTreeMap::new(),
                });
            }
            Ok(Err(refused)) => refused,
            Err(error) => Refused::of(error),
        };
        let path = path.to_owned();
        Err(match refused {
            Refused::NotACapture => FileError::NotACapture { path },
            Refused::Unsupported(reason) => FileError::Unsupported { path, reason },
            Refused::Damaged(reason) => FileError::Read {
                path,
                packets: 0,
                reason,
            },
            Refused::Unreadable(source) => FileError::Open { path, source },
        })
    }

    /// Packets given so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets skipped so far: those that cannot be placed in time, or of which the file says too little.
    pub fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Returns the skipped packets by reason.
    pub fn skipped_by_reason(&self) -> &BTreeMap<Skipped, u64> {
        &self.skipped
    }

    /// Gives every packet in the order of the file.
    pub fn for_each(
        &mut self,
        mut visit: impl FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> Result<End, FileError> {
        let mut skipped = self.skipped();
        loop {
            let next = match &mut self.format {
                Format::Pcap(pcap) => pcap.next(&mut self.window),
                Format::PcapNg(blocks) => blocks.next(&mut self.window),
            };
            let (next, size) = match next {
                Ok(next) => next,
                Err(error) => return self.failed(error),
            };
            let mut flow = ControlFlow::Continue(());
            match next {
                Next::Frame(frame) => {
                    self.packets += 1;
                    let number = self.packets + skipped;
                    flow = visit(Frame { number, ..frame });
                }
                Next::Skipped(why) => {
                    skipped += 1;
                    *self.skipped.entry(why).or_default() += 1;
                }
                Next::Nothing => {}
                Next::End => return Ok(End::Whole),
                Next::Torn(reason) => return Ok(self.torn(reason.to_owned())),
                Next::Unsupported(reason) => return Ok(self.torn(reason)),
            }
            self.window.take(size);
            if flow.is_break() {
                return Ok(End::Stopped);
            }
        }
    }

    fn failed(&self, error: io::Error) -> Result<End, FileError> {
        if error.kind() == ErrorKind::UnexpectedEof {
            return Ok(self.torn(PACKED_ENDS.to_owned()));
        }
        Err(FileError::Read {
            path: self.path.clone(),
            packets: self.packets,
            reason: error.to_string(),
        })
    }

    fn torn(&self, reason: String) -> End {
        End::Torn {
            packets: self.packets,
            reason,
        }
    }
}

/// Why a file is refused before its first packet.
enum Refused {
    NotACapture,
    Unsupported(String),
    Damaged(String),
    Unreadable(io::Error),
}

impl Refused {
    fn of(error: io::Error) -> Refused {
        match error.kind() {
            ErrorKind::UnexpectedEof => Refused::Damaged(PACKED_ENDS.to_owned()),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => Refused::Damaged(error.to_string()),
            _ => Refused::Unreadable(error),
        }
    }
}

impl Format {
    /// Reads the header of the file, which says what the rest is.
    fn begin(mut window: Window) -> io::Result<Result<(Window, Format), Refused>> {
        let kind = magic::kind(window.peek(magic::HEAD_BYTES)?);
        let format = match kind {
            Some(Kind::Pcap(variant)) => {
                let head = window.peek(legacy::HEADER_BYTES)?;
                let Some(header) = head.get(..legacy::HEADER_BYTES) else {
                    return Ok(Err(Refused::Damaged("it ends within its header".to_owned())));
                };
                let begun = Pcap::begin(variant, header);
                window.take(legacy::HEADER_BYTES);
                begun.map(Format::Pcap).map_err(Refused::Unsupported)
            }
            Some(Kind::PcapNg) => {
                let mut blocks = PcapNg::new();
                let (next, size) = blocks.next(&mut window)?;
                let refused = match next {
                    Next::Unsupported(reason) => Some(Refused::Unsupported(reason)),
                    Next::Torn(ENDS_WITHIN) => Some(Refused::Damaged("it ends within its header".to_owned())),
                    Next::Torn(_) => Some(Refused::NotACapture),
                    _ => None,
                };
                window.take(size);
                refused.map_or(Ok(Format::PcapNg(blocks)), Err)
            }
            // What is packed twice is nothing that anybody makes.
            Some(Kind::Gzip | Kind::Zstd) | None => Err(Refused::NotACapture),
        };
        Ok(format.map(|format| (window, format)))
    }
}
