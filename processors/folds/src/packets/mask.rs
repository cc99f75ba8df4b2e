//! Sets of rows of one batch, one bit each: conditions are evaluated for 64 rows at a time.

use watchfold_schemas::packets::PACKET_ROWS_MAX;

const WORDS: usize = PACKET_ROWS_MAX / 64;

/// Rows of a batch. Bits past its last row are never set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: [u64; WORDS],
}

impl Mask {
    pub const EMPTY: Mask = Mask { words: [0; WORDS] };

    /// The first `rows` rows.
    pub fn all(rows: usize) -> Mask {
        let mut out = Mask::EMPTY;
        for (number, word) in out.words.iter_mut().enumerate() {
            *word = match rows.saturating_sub(number * 64) {
                64.. => u64::MAX,
                left => (1 << left) - 1,
            };
        }
        out
    }

    /// The rows whose value `holds`.
    pub fn of<T: Copy>(column: &[T], holds: impl Fn(T) -> bool) -> Mask {
        let mut out = Mask::EMPTY;
        for (word, values) in out.words.iter_mut().zip(column.chunks(64)) {
            let mut flags = [0_u8; 64];
            for (flag, value) in flags.iter_mut().zip(values) {
                *flag = u8::from(holds(*value));
            }
            *word = packed(&flags);
        }
        out
    }

    pub fn set(&mut self, row: u16) {
        self.words[usize::from(row) / 64] |= 1 << (row % 64);
    }

    pub fn has(&self, row: u16) -> bool {
        self.words[usize::from(row) / 64] & (1 << (row % 64)) != 0
    }

    pub fn and(&mut self, other: &Mask) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, other)| *word &= other);
    }

    pub fn or(&mut self, other: &Mask) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, other)| *word |= other);
    }

    pub fn without(&mut self, other: &Mask) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, other)| *word &= !other);
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many rows.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = u16> + '_ {
        self.words.iter().enumerate().flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some((number * 64) as u16 + bit as u16)
            })
        })
    }
}

/// 64 flags of 0 or 1 as 64 bits: one multiplication brings eight of them together.
fn packed(flags: &[u8; 64]) -> u64 {
    let mut out = 0;
    for (number, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        out |= bits << (number * 8);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_set_combined_and_listed_in_order() {
        let column: Vec<u16> = (0..300).collect();
        let threes = Mask::of(&column, |value| value % 3 == 0);
        let want: Vec<u16> = (0..300).filter(|row| row % 3 == 0).collect();
        assert_eq!(threes.rows().collect::<Vec<_>>(), want);
        let mut odd = Mask::all(300);
        odd.without(&Mask::of(&column, |value| value % 2 == 0));
        let mut both = threes.clone();
        both.and(&odd);
        assert_eq!(both.rows().take(3).collect::<Vec<_>>(), [3, 9, 15]);
        both.or(&threes);
        assert_eq!(both, threes);
        assert_eq!(Mask::all(300).rows().count(), 300);
        assert_eq!(Mask::all(PACKET_ROWS_MAX).rows().last(), Some(4_095));
        let mut one = Mask::EMPTY;
        assert!(one.is_empty() && Mask::all(0).is_empty());
        one.set(130);
        assert!(one.has(130) && !one.has(131) && !one.is_empty());
        assert_eq!(one.rows().collect::<Vec<_>>(), [130]);
    }
}
