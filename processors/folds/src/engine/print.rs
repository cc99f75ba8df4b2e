//! 128 bits that stand for a value or for several: what windows and attacks are kept by.
//!
//! The print of one address, number or hardware address is exact: no other value of its kind has it. Prints of texts and
//! of several values are mixed; two of them agree by chance once in 2^64 keys. They are the same on every machine, because
//! state that holds them moves between machines.

use core::net::IpAddr;

use super::cell::Cell;

/// A value, or several, as 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Print(pub u64, pub u64);

/// Odd constants without structure: the fractional parts of square roots of primes.
const ONE: u64 = 0x6a09_e667_f3bc_c909;
const TWO: u64 = 0xbb67_ae85_84ca_a73b;
const THREE: u64 = 0x3c6e_f372_fe94_f82b;

/// Kinds of value, so that the number 1 and `true` are two things.
const NUMBER: u64 = 1;
const TRUTH: u64 = 2;
const MAC: u64 = 3;
const TEXT: u64 = 4;

impl Print {
    pub fn of_address(address: IpAddr) -> Print {
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        scramble(bits as u64, (bits >> 64) as u64)
    }

    pub fn of_number(number: i64) -> Print {
        scramble(number as u64, NUMBER << 32)
    }

    pub fn of_text(text: &str) -> Print {
        let mut print = Print(ONE, TEXT);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0_u8; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = from.to_ascii_lowercase();
            }
            let word = u64::from_le_bytes(word);
            print = Print(mix(print.0 ^ word), mix(print.1.rotate_left(23) ^ word ^ TWO));
        }
        scramble(print.0 ^ text.len() as u64, print.1)
    }

    pub fn of(cell: &Cell<'_>) -> Print {
        match cell {
            Cell::Address(address) => Print::of_address(*address),
            Cell::Number(number) => Print::of_number(*number),
            Cell::Truth(truth) => scramble(u64::from(*truth), TRUTH << 32),
            Cell::Mac(mac) => {
                let mut word = [0_u8; 8];
                word[..6].copy_from_slice(mac);
                scramble(u64::from_le_bytes(word), MAC << 32)
            }
            Cell::Text(text) => Print::of_text(text),
        }
    }

    /// This and another, in this order.
    pub fn with(self, other: Print) -> Print {
        let low = self.0.rotate_left(29).wrapping_mul(ONE | 1).wrapping_add(other.0);
        let high = self.1.rotate_left(31).wrapping_mul(TWO).wrapping_add(other.1);
        scramble(low, high)
    }

    /// Where it is looked for. It cannot be foretold without knowing the seed.
    pub fn place(self, seed: Print) -> usize {
        mix(mix(self.0 ^ seed.0) ^ self.1 ^ seed.1) as usize
    }

    /// 64 bits of it, for values within a window: numbers stay exact.
    pub const fn short(self) -> u64 {
        self.0
    }
}

/// Three rounds of a Feistel network: no two inputs give one output.
const fn scramble(mut low: u64, mut high: u64) -> Print {
    high ^= mix(low.wrapping_add(ONE));
    low ^= mix(high.wrapping_add(TWO));
    high ^= mix(low.wrapping_add(THREE));
    Print(low, high)
}

/// Every bit of the input reaches every bit of the output, and nothing is lost.
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn values_and_their_order_are_told_apart() {
        let address = |text: &str| Print::of_address(text.parse().unwrap());
        let cells = [
            Cell::Number(1),
            Cell::Number(0),
            Cell::Truth(true),
            Cell::Truth(false),
            Cell::Mac([1, 0, 0, 0, 0, 0]),
            Cell::text(""),
            Cell::text("a"),
            Cell::text("a\0"),
            Cell::text("aaaaaaaa"),
            Cell::text("aaaaaaaaa"),
        ];
        let mut seen: BTreeSet<_> = cells.iter().map(Print::of).collect();
        seen.extend((0..10_000_u32).map(|number| Print::of_address(IpAddr::V4(number.into()))));
        assert_eq!(seen.len(), 10_010);
        let (one, two) = (address("192.0.2.1"), address("2001:db8::1"));
        assert_ne!(one.with(two), two.with(one));
        assert_ne!(one.with(two).short(), one.short());
        assert_eq!(Print::of_text("Example.ORG"), Print::of_text("example.org"));
    }

    #[test]
    fn prints_are_the_same_for_ever() {
        let print = Print::of_address(IpAddr::from([192, 0, 2, 1])).with(Print::of_number(443));
        assert_eq!(
            format!("{:016x}{:016x}", print.0, print.1),
            "da8001dfc774a180d2f88cb9dc48ee96"
        );
    }
}
