//! The bytes of a file that are in memory: as many as the block at hand needs, and what was read with them.

use std::io::{self, ErrorKind, Read};

/// Bytes read at once: what a core's own cache holds beside what is made of them. It grows for a longer block.
const BUFFER_BYTES: usize = 256 * 1024;

/// A buffer over an input, from which blocks are taken in order.
pub struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    pub fn new(input: Box<dyn Read + Send>) -> Window {
        Window {
            input,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
        }
    }

    /// Returns the next bytes without taking them: at least `bytes` of them, or fewer at the end of the input.
    pub fn peek(&mut self, bytes: usize) -> io::Result<&[u8]> {
        if self.end - self.start < bytes {
            self.fill(bytes)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        if self.buffer.len() - self.start < bytes {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() < bytes {
                self.buffer.resize(bytes.next_power_of_two(), 0);
            }
        }
        while self.end - self.start < bytes {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes bytes that [`Window::peek`] has returned.
    pub fn take(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}
