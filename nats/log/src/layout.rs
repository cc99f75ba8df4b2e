//! A stream's directory as it was found: which segments there are, and where the last one stops being valid. Repairs
//! nothing, so that it can look into the directory of a running process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfold_schemas::Time;

use crate::LogError;
use crate::disk::{Disk, DiskFile, io_error, read_full_at};
use crate::frame::{FORMAT, HeaderProblem, LogId, SEGMENT_HEADER_BYTES, SegmentHeader, frame_seed};
use crate::index::Index;
use crate::meta::{META_NAME, Meta, MetaRead};
use crate::walk::{Found, Walk};

const SEGMENT_SUFFIX: &str = ".wfl";
const INDEX_SUFFIX: &str = ".wfi";

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rises with each segment of a stream; never given out twice.
    pub number: u64,
    pub first_sequence: u64,
    /// Not known when the header is damaged.
    pub created_at: Option<Time>,
    /// Valid bytes, the header included.
    pub bytes: u64,
    pub path: PathBuf,
}

impl Segment {
    pub(crate) fn name(number: u64, first_sequence: u64) -> String {
        format!("{number:010}-{first_sequence:020}{SEGMENT_SUFFIX}")
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.path.with_extension(&INDEX_SUFFIX[1..])
    }

    /// A walk over its records from the first.
    pub(crate) fn walk(&self, file: Arc<dyn DiskFile>, log_id: LogId) -> Walk {
        let seed = frame_seed(log_id, self.number);
        Walk::new(
            file,
            seed,
            SEGMENT_HEADER_BYTES as u64,
            self.bytes,
            self.first_sequence,
        )
    }
}

/// The segment's number and first sequence, as its name says.
fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (number, first) = name.strip_suffix(SEGMENT_SUFFIX)?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(first)).then_some(())?;
    Some((number.parse().ok()?, first.parse().ok()?))
}

/// What is in the directory.
pub(crate) struct Layout {
    pub(crate) meta: Option<Meta>,
    pub(crate) log_id: Option<LogId>,
    /// By number; their `bytes` are the lengths of the files.
    pub(crate) segments: Vec<Segment>,
    /// Files that are no part of the log any more, or never became one.
    pub(crate) leftovers: Vec<PathBuf>,
    pub(crate) next_segment: u64,
}

impl Layout {
    pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Layout, LogError> {
        let meta = match Meta::read(disk, dir)? {
            MetaRead::Found(meta) => Some(meta),
            MetaRead::Missing => None,
            MetaRead::Damaged => {
                let path = dir.join(META_NAME);
                tracing::warn!(path = %path.display(), "file is damaged: it is made again from the segments");
                None
            }
        };
        let names = disk.list(dir).map_err(|error| io_error("list", dir, error))?;
        let mut named: Vec<(u64, u64)> = names.iter().filter_map(|name| parse_name(name)).collect();
        named.sort_unstable();
        let next_segment = named.last().map_or(1, |(number, _)| number + 1);
        let mut layout = Layout {
            meta,
            log_id: meta.map(|meta| meta.log_id),
            segments: Vec::new(),
            leftovers: Vec::new(),
            next_segment,
        };
        for (position, &(number, first_sequence)) in named.iter().enumerate() {
            let path = dir.join(Segment::name(number, first_sequence));
            let follower = named.get(position + 1).map(|(_, first)| *first);
            let covers_nothing = follower.is_some_and(|follower| follower <= first_sequence);
            if covers_nothing || meta.is_some_and(|meta| number < meta.first_segment) {
                layout.leftovers.push(path);
                continue;
            }
            layout.add_segment(disk, number, first_sequence, path, follower.is_none())?;
        }
        layout.find_stray_files(dir, &names);
        Ok(layout)
    }

    fn add_segment(
        &mut self,
        disk: &dyn Disk,
        number: u64,
        first_sequence: u64,
        path: PathBuf,
        is_last: bool,
    ) -> Result<(), LogError> {
        let failed = |error| io_error("read", &path, error);
        let file = match disk.open_read(&path) {
            Ok(file) => file,
            // Retention of a running owner was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let bytes = file.len().map_err(failed)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let filled = read_full_at(file.as_ref(), 0, &mut header).map_err(failed)?;
        let header = match SegmentHeader::decode(&header[..filled]) {
            Ok(header) => Some(header),
            Err(HeaderProblem::Newer(found)) => {
                return Err(LogError::Newer {
                    path: path.display().to_string(),
                    found,
                    known: FORMAT,
                });
            }
            // The last file was being made when the process ended; nothing in it was acknowledged.
            Err(HeaderProblem::Damaged) if is_last && filled < SEGMENT_HEADER_BYTES => {
                self.leftovers.push(path);
                return Ok(());
            }
            Err(HeaderProblem::Damaged) => {
                tracing::warn!(path = %path.display(), "segment header is damaged: its name is believed instead");
                None
            }
        };
        if let Some(header) = header {
            let log_id = *self.log_id.get_or_insert(header.log_id);
            if (header.log_id, header.number, header.first_sequence) != (log_id, number, first_sequence) {
                let foreign = "it is a segment of another log, or was renamed: move it away";
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, foreign)));
            }
        }
        let created_at = header.map(|header| header.created_at);
        self.segments.push(Segment {
            number,
            first_sequence,
            created_at,
            bytes,
            path,
        });
        Ok(())
    }

    /// Index files without their segment.
    fn find_stray_files(&mut self, dir: &Path, names: &[String]) {
        for name in names.iter().filter(|name| name.ends_with(INDEX_SUFFIX)) {
            let path = dir.join(name);
            if !self.segments.iter().any(|segment| segment.index_path() == path) {
                self.leftovers.push(path);
            }
        }
    }
}

/// How the last segment ends.
#[derive(Default)]
pub(crate) struct Tail {
    /// Where validity ends: the length to cut it to.
    pub(crate) end: u64,
    /// Where the last commit begins; `end` when there is none.
    pub(crate) last_commit: u64,
    /// Bytes after `end`.
    pub(crate) torn_bytes: u64,
    pub(crate) next_sequence: u64,
    pub(crate) last_stored_at: Option<Time>,
    pub(crate) index: Index,
    /// Sequences lost to damage before `end`, as (from, to).
    pub(crate) damaged: Vec<(u64, u64)>,
}

/// Finds the end of the last segment, giving each valid frame to `each`.
///
/// A crash can tear only what was written after the last sync, which is the last commit. So damage with a later commit
/// behind it was synced and is skipped, and so is damage below the sequence that `meta` vouches for; other damage is a
/// torn tail and ends the segment, with whatever the disk kept behind it: taking that would put messages of one append
/// in another order.
pub(crate) fn find_tail(
    disk: &dyn Disk,
    segment: &Segment,
    meta: &Meta,
    mut each: impl FnMut(&Found),
) -> Result<Tail, LogError> {
    let failed = |error| io_error("read", &segment.path, error);
    let file = disk.open_read(&segment.path).map_err(failed)?;
    let mut walk = segment.walk(file, meta.log_id);
    let mut tail = Tail {
        end: (SEGMENT_HEADER_BYTES as u64).min(segment.bytes),
        last_commit: segment.bytes,
        next_sequence: segment.first_sequence,
        ..Tail::default()
    };
    // Frames behind damage that no later commit has vouched for yet.
    let mut doubtful: Vec<Found> = Vec::new();
    let mut is_doubtful = false;
    while let Some(found) = walk.next().map_err(failed)? {
        is_doubtful |= found.skipped > 0;
        let is_vouched = found.frame.first_of_commit || found.frame.sequence < meta.next_sequence;
        if is_doubtful && !is_vouched {
            doubtful.push(found);
            continue;
        }
        is_doubtful = false;
        for found in doubtful.drain(..).chain([found]) {
            tail.take(&found);
            each(&found);
        }
    }
    tail.torn_bytes = segment.bytes.saturating_sub(tail.end);
    Ok(tail)
}

impl Tail {
    fn take(&mut self, found: &Found) {
        let frame = &found.frame;
        if frame.sequence > self.next_sequence {
            self.damaged.push((self.next_sequence, frame.sequence - 1));
        }
        if frame.first_of_commit {
            self.last_commit = found.offset;
        }
        self.index.note(frame.sequence, found.offset, frame.stored_at);
        self.end = found.offset + frame.bytes as u64;
        self.next_sequence = frame.sequence + 1;
        self.last_stored_at = Some(frame.stored_at);
    }
}
