//! Decompresses gzip and zstd, as a stream, several members or frames in a row.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::magic::{self, Kind};

/// The largest zstd window, which has to be in memory: what `zstd --long` uses, and the zstd command takes by default.
pub const WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;

const PACKED_BYTES_AT_ONCE: usize = 64 * 1024;

/// Returns the bytes of the input, decompressed where they begin like gzip or zstd.
pub fn unpack(mut input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let head = magic::head(&mut input)?;
    let kind = magic::kind(&head);
    let whole = Cursor::new(head).chain(input);
    Ok(match kind {
        Some(Kind::Gzip) => Box::new(MultiGzDecoder::new(BufReader::new(whole))),
        Some(Kind::Zstd) => Box::new(Zstd::new(BufReader::with_capacity(PACKED_BYTES_AT_ONCE, whole))),
        Some(Kind::Pcap(_) | Kind::PcapNg) | None => Box::new(whole),
    })
}

/// The frames of a zstd file, one after the other.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Zstd<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Zstd {
            source,
            decoder,
            is_in_frame: false,
        }
    }

    /// Reads the header of the next frame; `false` at the end of the file.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.is_in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length)?,
                Err(error) => return Err(reason(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u32) -> io::Result<()> {
        let length = u64::from(length);
        let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
        match skipped == length {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The decoder computes the checksum of a frame that has one, and leaves the comparison to its caller.
    fn end_frame(&mut self) -> io::Result<()> {
        self.is_in_frame = false;
        let written = self.decoder.get_checksum_from_data();
        if written.is_some() && written != self.decoder.get_calculated_checksum() {
            return Err(damaged(&"the checksum of a frame does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.is_in_frame || self.begin_frame()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self
                    .decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(reason)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.end_frame()?;
        }
        Ok(0)
    }
}

/// What is wrong, in words: an error of the input itself where that is the cause, so that a file that ends early is told apart
/// from one that is damaged.
fn reason(error: FrameDecoderError) -> io::Error {
    if let FrameDecoderError::WindowSizeTooBig { requested, .. } = error {
        return io::Error::new(
            ErrorKind::InvalidData,
            format!(
                "it was packed with a zstd window of {} MiB, and at most {} MiB are supported; pack it again without --ultra or --long",
                requested.div_ceil(1024 * 1024),
                WINDOW_BYTES_MAX / (1024 * 1024),
            ),
        );
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(of_input) = this.downcast_ref::<io::Error>() {
            return io::Error::new(of_input.kind(), of_input.to_string());
        }
        cause = this.source();
    }
    damaged(&error)
}

fn damaged(what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("its compressed bytes are damaged: {what}"),
    )
}
