//! Numbers in the byte order of a file, and the check sequence at the end of a frame.

/// The byte order of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub is_big_endian: bool,
}

impl Order {
    /// The number at this offset; 0 behind the end, so that callers check lengths first.
    pub fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = array(bytes, at);
        match self.is_big_endian {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        }
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = array(bytes, at);
        match self.is_big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        }
    }

    pub fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let bytes = array(bytes, at);
        match self.is_big_endian {
            true => u64::from_be_bytes(bytes),
            false => u64::from_le_bytes(bytes),
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let slice = bytes.get(at..).and_then(|rest| rest.first_chunk());
    slice.copied().unwrap_or([0; N])
}

/// Cuts a frame check sequence off the end of a frame, as far as the capture kept it, and off its length on the wire: most
/// captures have none, and the same packet is to look the same in all of them.
pub fn without_fcs(bytes: &[u8], wire_length: u32, fcs_bytes: u8) -> (&[u8], u32) {
    if fcs_bytes == 0 {
        return (bytes, wire_length);
    }
    let not_kept = (wire_length as usize).saturating_sub(bytes.len());
    let kept = usize::from(fcs_bytes).saturating_sub(not_kept);
    let bytes = &bytes[..bytes.len().saturating_sub(kept)];
    (bytes, wire_length.saturating_sub(u32::from(fcs_bytes)))
}
