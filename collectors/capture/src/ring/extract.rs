//! Cuts the packets of an alert, and those around it, out of a ring or out of capture files.

use std::ops::ControlFlow;
use std::path::PathBuf;

use watchfold_schemas::packets::CaptureSource;
use watchfold_schemas::{Span, Time};

use super::files;
use crate::error::CaptureError;
use crate::file::{CaptureFile, End, Frame};
use crate::observe::source_name;
use crate::order::in_time_order;
use crate::pcapng::{self, PacketRecord};

/// Files are told apart by the time of their first packet, and a packet may come this much late.
const LATE: Span = Span::from_seconds(1);

/// Where packets are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The ring of one collector: a directory.
    Ring(PathBuf),
    /// Capture files that were read as one.
    Files(Vec<PathBuf>),
}

/// What is wanted of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Packets are numbered within it; files know only one.
    pub incarnation: u64,
    /// The packets themselves: first and last of each range.
    pub ranges: Vec<(u64, u64)>,
    /// Packets around them.
    pub from: Time,
    pub until: Time,
    /// The size of what is given. Packets around are left out first.
    pub bytes_max: usize,
}

impl Wanted {
    fn is_of_it(&self, number: u64) -> bool {
        self.ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    }

    fn is_around(&self, at: Time) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

/// The wanted packets as one pcapng file. It reads files and takes its time: at most a ring, or the files given.
pub fn extract(kept: &Kept, wanted: &Wanted) -> Result<Vec<u8>, CaptureError> {
    let sources = sources(kept, wanted)?;
    let (mut own, mut all) = (0, 0);
    visit(&sources, |number, frame, _| {
        let size = record(0, number, frame).size();
        if wanted.is_of_it(number) {
            own += size;
            all += size;
        } else if wanted.is_around(frame.at) {
            all += size;
        }
    })?;
    if all == 0 {
        return Err(CaptureError::Gone);
    }
    let mut room_own = wanted.bytes_max;
    let mut room_around = wanted.bytes_max.saturating_sub(own);
    let comment = match all > wanted.bytes_max {
        true => format!(
            "{all} bytes of packets were wanted; this is what fits into {}",
            wanted.bytes_max
        ),
        false => String::new(),
    };
    let mut cut = Cut::new(&comment);
    visit(&sources, |number, frame, name| {
        let room = match (wanted.is_of_it(number), wanted.is_around(frame.at)) {
            (true, _) => &mut room_own,
            (false, true) => &mut room_around,
            (false, false) => return,
        };
        let size = record(0, number, frame).size();
        if size <= *room {
            *room -= size;
            cut.push(number, frame, name);
        }
    })?;
    Ok(cut.out)
}

/// A file, and the number before its first packet.
struct Source {
    path: PathBuf,
    /// `None` where packets hold their numbers.
    before: Option<u64>,
}

fn sources(kept: &Kept, wanted: &Wanted) -> Result<Vec<Source>, CaptureError> {
    let directory = match kept {
        Kept::Ring(directory) => directory,
        Kept::Files(paths) => {
            let given = |path: &PathBuf| Source {
                path: path.clone(),
                before: Some(0),
            };
            return Ok(in_time_order(paths)?.iter().map(given).collect());
        }
    };
    let failed = |source| CaptureError::Ring {
        path: directory.clone(),
        source,
    };
    let all = files::list(directory).map_err(failed)?;
    if all.is_empty() {
        return Err(CaptureError::NotKept {
            path: directory.clone(),
        });
    }
    let of_it: Vec<_> = all
        .into_iter()
        .filter(|file| file.incarnation == wanted.incarnation)
        .collect();
    let mut sources = Vec::new();
    for (index, file) in of_it.iter().enumerate() {
        let next = of_it.get(index + 1);
        let last = next.map_or(u64::MAX, |next| next.first.saturating_sub(1));
        let last_at = next.map_or(Time(i64::MAX), |next| next.at + LATE);
        let overlaps = |(first, to): &(u64, u64)| *first <= last && *to >= file.first;
        let is_in_time = wanted.from <= last_at && wanted.until >= file.at - LATE;
        if is_in_time || wanted.ranges.iter().any(overlaps) {
            sources.push(Source {
                path: file.path.clone(),
                before: None,
            });
        }
    }
    Ok(sources)
}

/// Every packet with its number. A file that went away meanwhile has none any more, and a torn one gives what it has.
fn visit(sources: &[Source], mut visit: impl FnMut(u64, &Frame<'_>, &str)) -> Result<(), CaptureError> {
    let mut before = 0;
    for source in sources {
        let mut file = match CaptureFile::open(&source.path) {
            Ok(file) => file,
            Err(_) if source.before.is_none() && !source.path.exists() => continue,
            // Killed before its header was whole.
            Err(error) if source.before.is_none() => {
                tracing::debug!(%error, "a file of packets is left out");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let name = source_name(&source.path);
        let end = file.for_each(|frame| {
            let number = match source.before {
                Some(_) => Some(before + frame.number),
                None => frame.given_number,
            };
            if let Some(number) = number {
                visit(number, &frame, &name);
            }
            ControlFlow::Continue(())
        })?;
        before += file.packets() + file.skipped();
        if let End::Torn { packets, reason } = end {
            tracing::debug!(path = %source.path.display(), packets, reason, "a file of packets is torn");
        }
    }
    Ok(())
}

fn record<'a>(interface: u32, number: u64, frame: &Frame<'a>) -> PacketRecord<'a> {
    PacketRecord {
        interface,
        number,
        at: frame.at,
        wire_length: frame.wire_length,
        bytes: frame.bytes,
    }
}

/// The file that is given.
struct Cut {
    out: Vec<u8>,
    /// Link type and length of each interface so far.
    interfaces: Vec<(i32, u32)>,
}

/// Interfaces of one file; packets of further ones are left out.
const INTERFACES_MAX: usize = 64;

impl Cut {
    fn new(comment: &str) -> Cut {
        let mut out = Vec::new();
        pcapng::section(&mut out, comment);
        Cut {
            out,
            interfaces: Vec::new(),
        }
    }

    fn push(&mut self, number: u64, frame: &Frame<'_>, name: &str) {
        let kind = (frame.link_type, frame.snap_length);
        let known = self.interfaces.iter().position(|known| *known == kind);
        if known.is_none() && self.interfaces.len() >= INTERFACES_MAX {
            return;
        }
        let place = known.unwrap_or_else(|| {
            let source = CaptureSource {
                name: name.to_owned(),
                link_type: frame.link_type,
                snap_length: frame.snap_length,
            };
            pcapng::interface(&mut self.out, &source);
            self.interfaces.push(kind);
            self.interfaces.len() - 1
        });
        pcapng::packet(&mut self.out, &record(place as u32, number, frame));
    }
}
