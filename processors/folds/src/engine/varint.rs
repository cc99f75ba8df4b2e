//! Small numbers in few bytes: how windows are stored. Reading foreign bytes gives `None` and never more than was asked for.

/// Appends numbers.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub fn fixed(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

/// Takes them off again.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn fixed(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// How many of something follow; what the bytes cannot hold is refused.
    pub fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_torn_ones_do_not() {
        let mut writer = Writer::default();
        let signed = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        for value in signed {
            writer.signed(value);
        }
        writer.fixed(7);
        writer.unsigned(u64::MAX);
        let mut reader = Reader(&writer.0);
        for value in signed {
            assert_eq!(reader.signed(), Some(value));
        }
        assert_eq!(
            (reader.fixed(), reader.unsigned(), reader.unsigned()),
            (Some(7), Some(u64::MAX), None)
        );
        assert_eq!(Reader(&[0x80]).unsigned(), None);
        assert_eq!(Reader(&[0xff; 11]).unsigned(), None);
        assert_eq!(Reader(&[5, 1]).length(), None);
    }
}
