//! Reads capture files: pcap and pcapng, plain, gzip or zstd, from a path or standard input, packet by packet.
//!
//! Memory is bounded by one block of the file. A file that ends within a packet gives what stands before, and says so.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use flate2::read::MultiGzDecoder;
use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock, OptionCode, PcapNGOption};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{PcapBlockOwned, PcapError, PcapHeader, create_reader};
use watchfold_schemas::{Span, Time};

use crate::parse::LinkType;
use crate::pcapng::PACKET_ID;

/// Bytes read at once: what a core's own cache holds beside what is made of them. A block of a file has to fit into
/// [`BLOCK_BYTES_MAX`], to which the buffer grows when needed.
const BUFFER_BYTES: usize = 256 * 1024;

/// The largest block that is read. libpcap's own limit for one packet is 256 KiB; blocks of names are larger.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Interfaces of one section of a pcapng file; further ones are passed over, and so are their packets.
pub const INTERFACES_MAX: usize = 4_096;

const PCAP_HEADER_BYTES: usize = 24;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("failed to open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a capture file: pcap and pcapng are read, plain, as .gz or as .zst", path.display())]
    NotACapture { path: PathBuf },
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
    /// Its place in the file, counted from 1, packets that are passed over included: as other programs count.
    pub number: u64,
    pub at: Time,
    pub link: LinkType,
    pub link_type: i32,
    pub snap_length: u32,
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
    reader: Box<dyn PcapReaderIterator + Send>,
    format: Format,
    packets: u64,
    skipped: u64,
    failed: Failed,
}

/// Why reading failed, of which the parser says no more than that it did.
type Failed = Arc<OnceLock<io::Error>>;

/// What is read, with the error that ends it kept.
struct Watched<R> {
    input: R,
    failed: Failed,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                // The first one counts.
                self.failed
                    .get_or_init(|| io::Error::new(error.kind(), error.to_string()));
            }
        })
    }
}

/// What the file has said about the packets to come.
enum Format {
    Pcap {
        link_type: i32,
        snap_length: u32,
        is_nanoseconds: bool,
    },
    PcapNg {
        interfaces: Vec<Interface>,
    },
    Unknown,
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: i32,
    snap_length: u32,
    units_per_second: u64,
    offset_seconds: i64,
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
        let unpacked = unpack(input)
            .and_then(with_whole_header)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => FileError::Read {
                    path: path.to_owned(),
                    packets: 0,
                    reason: "its compressed bytes end early".to_owned(),
                },
                _ => FileError::Open {
                    path: path.to_owned(),
                    source,
                },
            })?;
        let failed = Failed::default();
        let watched = Watched {
            input: unpacked,
            failed: failed.clone(),
        };
        let reader = create_reader(BUFFER_BYTES, watched).map_err(|error| match error {
            PcapError::ReadError => FileError::Read {
                path: path.to_owned(),
                packets: 0,
                reason: "its compressed bytes are damaged".to_owned(),
            },
            _ => FileError::NotACapture {
                path: path.to_owned(),
            },
        })?;
        Ok(CaptureFile {
            path: path.to_owned(),
            reader,
            format: Format::Unknown,
            packets: 0,
            skipped: 0,
            failed,
        })
    }

    /// Packets given so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that the file gives no time or no interface for.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Gives every packet in the order of the file.
    pub fn for_each(
        &mut self,
        mut visit: impl FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> Result<End, FileError> {
        let mut capacity = BUFFER_BYTES;
        loop {
            match self.reader.next() {
                Ok((offset, block)) => {
                    let flow = match self.format.frame(&block) {
                        Parsed::Frame(frame) => {
                            self.packets += 1;
                            let number = self.packets + self.skipped;
                            visit(Frame { number, ..frame })
                        }
                        Parsed::Skipped => {
                            self.skipped += 1;
                            ControlFlow::Continue(())
                        }
                        Parsed::NoPacket => ControlFlow::Continue(()),
                    };
                    // What is left is moved to the front when more is read, and not when half of it has been taken.
                    self.reader.consume_noshift(offset);
                    if flow.is_break() {
                        return Ok(End::Stopped);
                    }
                }
                Err(PcapError::Eof) => return Ok(End::Whole),
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.reader_exhausted() {
                        return Ok(self.torn("it ends within a packet"));
                    }
                    let refilled = self.reader.refill().map_err(|error| error.to_owned_vec());
                    if let Err(error) = refilled {
                        return self.ended(&error);
                    }
                }
                Err(PcapError::BufferTooSmall) if capacity < BLOCK_BYTES_MAX => {
                    capacity = (capacity * 2).min(BLOCK_BYTES_MAX);
                    if !self.reader.grow(capacity) {
                        return Ok(self.torn("it claims a packet larger than any is"));
                    }
                }
                Err(error) => {
                    let error = error.to_owned_vec();
                    return self.ended(&error);
                }
            }
        }
    }

    fn ended(&self, error: &PcapError<&[u8]>) -> Result<End, FileError> {
        match error {
            PcapError::Eof => Ok(End::Whole),
            PcapError::UnexpectedEof | PcapError::Incomplete(_) => Ok(self.torn("it ends within a packet")),
            PcapError::BufferTooSmall => Ok(self.torn("it claims a packet larger than any is")),
            PcapError::NomError(..) | PcapError::OwnedNomError(..) | PcapError::HeaderNotRecognized => {
                Ok(self.torn("what follows is no packet"))
            }
            PcapError::ReadError => match self.failed.get() {
                Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Ok(self.torn("its compressed bytes end early"))
                }
                error => Err(FileError::Read {
                    path: self.path.clone(),
                    packets: self.packets,
                    reason: error.map_or_else(|| "the disk failed".to_owned(), ToString::to_string),
                }),
            },
        }
    }

    fn torn(&self, reason: &str) -> End {
        End::Torn {
            packets: self.packets,
            reason: reason.to_owned(),
        }
    }
}

/// Looks at the first bytes and unpacks what is packed.
fn unpack(mut input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let is_gzip = magic.starts_with(&[0x1F, 0x8B]);
    let is_zstd = magic == [0x28, 0xB5, 0x2F, 0xFD];
    let whole = io::Cursor::new(magic).chain(input);
    if is_gzip {
        return Ok(Box::new(MultiGzDecoder::new(BufReader::new(whole))));
    }
    if is_zstd {
        return Ok(Box::new(zstd::Decoder::new(whole)?));
    }
    Ok(Box::new(whole))
}

/// The parser wants the file's header with the first read, which a pipe need not give.
fn with_whole_header(mut input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(PCAP_HEADER_BYTES);
    input.by_ref().take(12).read_to_end(&mut head)?;
    let wanted = match head[..] {
        // A section header of pcapng tells its length, in the byte order that it tells next.
        [0x0A, 0x0D, 0x0D, 0x0A, a, b, c, d, 0x1A, 0x2B, 0x3C, 0x4D] => u32::from_be_bytes([a, b, c, d]),
        [0x0A, 0x0D, 0x0D, 0x0A, a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
        _ => PCAP_HEADER_BYTES as u32,
    };
    let rest = u64::from(wanted.min(BUFFER_BYTES as u32)).saturating_sub(head.len() as u64);
    input.by_ref().take(rest).read_to_end(&mut head)?;
    Ok(Box::new(io::Cursor::new(head).chain(input)))
}

enum Parsed<'a> {
    Frame(Frame<'a>),
    /// A packet that the file tells too little about.
    Skipped,
    NoPacket,
}

impl Format {
    fn frame<'a>(&mut self, block: &'a PcapBlockOwned<'_>) -> Parsed<'a> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                *self = Format::of_pcap(header);
                Parsed::NoPacket
            }
            PcapBlockOwned::Legacy(packet) => {
                let Format::Pcap {
                    link_type,
                    snap_length,
                    is_nanoseconds,
                } = self
                else {
                    return Parsed::Skipped;
                };
                let unit = if *is_nanoseconds { 1 } else { 1_000 };
                let nanos =
                    i64::from(packet.ts_sec) * NANOS_PER_SECOND as i64 + i64::from(packet.ts_usec) * unit;
                let kept = packet.data.len().min(packet.caplen as usize);
                Parsed::Frame(Frame {
                    number: 0,
                    at: Time(nanos),
                    link: LinkType::from(*link_type),
                    link_type: *link_type,
                    snap_length: *snap_length,
                    wire_length: packet.origlen,
                    bytes: &packet.data[..kept],
                    given_number: None,
                })
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                *self = Format::PcapNg {
                    interfaces: Vec::new(),
                };
                Parsed::NoPacket
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                self.add_interface(description);
                Parsed::NoPacket
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let Format::PcapNg { interfaces } = self else {
                    return Parsed::Skipped;
                };
                let Some(interface) = interfaces.get(packet.if_id as usize) else {
                    return Parsed::Skipped;
                };
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let Some(at) = interface.time(ticks) else {
                    return Parsed::Skipped;
                };
                Parsed::Frame(Frame {
                    number: 0,
                    at,
                    link: LinkType::from(interface.link_type),
                    link_type: interface.link_type,
                    snap_length: interface.snap_length,
                    wire_length: packet.origlen,
                    bytes: packet.packet_data(),
                    given_number: given_number(&packet.options),
                })
            }
            // A simple packet has no time, and what cannot be placed in time cannot be judged.
            PcapBlockOwned::NG(Block::SimplePacket(_)) => Parsed::Skipped,
            PcapBlockOwned::NG(_) => Parsed::NoPacket,
        }
    }

    fn of_pcap(header: &PcapHeader) -> Format {
        Format::Pcap {
            // The upper bits say how the frame check sequence is kept.
            link_type: header.network.0 & 0x0FFF_FFFF,
            snap_length: header.snaplen,
            is_nanoseconds: header.is_nanosecond_precision(),
        }
    }

    fn add_interface(&mut self, description: &InterfaceDescriptionBlock<'_>) {
        let Format::PcapNg { interfaces } = self else {
            return;
        };
        if interfaces.len() < INTERFACES_MAX {
            interfaces.push(Interface {
                link_type: description.linktype.0,
                snap_length: description.snaplen,
                units_per_second: description.ts_resolution().unwrap_or(1_000_000),
                offset_seconds: description.ts_offset(),
            });
        }
    }
}

/// `epb_packetid`, in the byte order of this machine: only files that it wrote itself are asked.
fn given_number(options: &[PcapNGOption<'_>]) -> Option<u64> {
    let option = options
        .iter()
        .find(|option| option.code == OptionCode(PACKET_ID))?;
    let bytes = option.value().get(..8)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

impl Interface {
    /// `None` for a time that no clock shows.
    fn time(&self, ticks: u64) -> Option<Time> {
        let units = i128::from(self.units_per_second.max(1));
        let nanos =
            i128::from(ticks) * NANOS_PER_SECOND / units + i128::from(self.offset_seconds) * NANOS_PER_SECOND;
        i64::try_from(nanos).ok().map(|nanos| Time::EPOCH + Span(nanos))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A pcap file of Ethernet with these packets, one a second.
    fn pcap(packets: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            file.extend(word.to_le_bytes());
        }
        for (second, packet) in (1_700_000_000_u32..).zip(packets) {
            let length = packet.len() as u32;
            for word in [second, 250_000, length, length + 1] {
                file.extend(word.to_le_bytes());
            }
            file.extend_from_slice(packet);
        }
        file
    }

    fn read(bytes: Vec<u8>) -> (Vec<(Time, Vec<u8>)>, End) {
        let mut file = CaptureFile::read(Path::new("test.pcap"), Box::new(io::Cursor::new(bytes))).unwrap();
        let mut packets = Vec::new();
        let end = file
            .for_each(|frame| {
                assert_eq!(frame.wire_length as usize, frame.bytes.len() + 1);
                packets.push((frame.at, frame.bytes.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        (packets, end)
    }

    #[test]
    fn packets_keep_their_times_and_bytes_packed_or_not() {
        let plain = pcap(&[b"one packet", b"another one"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let packed = [
            gzip.finish().unwrap(),
            zstd::encode_all(&plain[..], 1).unwrap(),
            plain,
        ];
        for bytes in packed {
            let (packets, end) = read(bytes);
            assert_eq!(end, End::Whole);
            assert_eq!(
                packets[0],
                (Time(1_700_000_000_250_000_000), b"one packet".to_vec())
            );
            assert_eq!(packets[1].1, b"another one");
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_what_stands_before() {
        let whole = pcap(&[b"one packet", b"another one"]);
        for length in 24..whole.len() {
            let (packets, end) = read(whole[..length].to_vec());
            let expected = usize::from(length >= 24 + 26);
            assert_eq!(packets.len(), expected, "{length}");
            let is_at_an_edge = length == 24 || length == 24 + 26;
            assert_eq!(end == End::Whole, is_at_an_edge, "{length}: {end:?}");
        }
    }

    #[test]
    fn a_packed_file_cut_anywhere_gives_what_stands_before() {
        // Several blocks of zstd, of which each is unpacked as a whole.
        let packets: Vec<Vec<u8>> = (0..10_000_u32).map(|number| vec![number as u8; 60]).collect();
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let plain = pcap(&packets);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(&plain).unwrap();
        for whole in [gzip.finish().unwrap(), zstd::encode_all(&plain[..], -50).unwrap()] {
            let cut = whole[..whole.len() * 3 / 4].to_vec();
            let (frames, end) = read(cut);
            assert!(frames.len() > 1_000, "{}", frames.len());
            assert!(
                matches!(&end, End::Torn { reason, .. } if reason.contains("end early")),
                "{end:?}"
            );
        }
        let (magic, error) = (vec![0x28, 0xB5, 0x2F, 0xFD], "end early");
        let path = Path::new("cut.pcap.zst");
        let refused = CaptureFile::read(path, Box::new(io::Cursor::new(magic))).err();
        assert!(refused.unwrap().to_string().contains(error));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_after_a_header_never_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            is_pcapng in proptest::prelude::any::<bool>(),
        ) {
            let mut file = pcap(&[]);
            if is_pcapng {
                file = [0x0A0D_0D0A_u32, 28, 0x1A2B_3C4D, 1, u32::MAX, u32::MAX, 28].iter().flat_map(|word| word.to_le_bytes()).collect();
            }
            file.extend(bytes);
            if let Ok(mut opened) = CaptureFile::read(Path::new("x"), Box::new(io::Cursor::new(file))) {
                drop(opened.for_each(|_| ControlFlow::Continue(())));
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        for bytes in [
            &b""[..],
            b"hello, this is no capture file at all",
            &[0x1F, 0x8B, 0, 0],
        ] {
            let opened = CaptureFile::read(Path::new("x"), Box::new(io::Cursor::new(bytes.to_vec())));
            assert!(opened.is_err(), "{bytes:?}");
        }
    }
}
