//! Parts of a DNS name: its zone, lengths, and how random what stands before the zone looks. All in whole numbers, so that
//! every machine says the same.

/// The longest name, in bytes, as `watchfold_schemas::packets` bounds it; of a longer one the entropy is that of so much.
const NAME_BYTES_MAX: usize = 255;

/// Labels of a zone: `example.org`.
const ZONE_LABELS: usize = 2;

/// Below a zone of two letters with a short second label there is one more: `example.co.uk`.
const COUNTRY_LETTERS: usize = 2;
const SECOND_LETTERS_MAX: usize = 3;

/// How many binary digits after the point logarithms have.
const FRACTION_BITS: u32 = 32;

/// What rules may ask about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameFacts<'a> {
    /// Characters of the name.
    pub length: u32,
    pub zone: &'a str,
    /// Characters before the zone, without the dot between; 0 where there are none.
    pub subdomain_length: u32,
    /// Characters of the longest label.
    pub label_length_max: u32,
    /// Shannon entropy of the characters before the zone, in hundredths of a bit for each.
    pub entropy_centibits: u32,
}

/// Of a name in lower case without its final dot, as packets carry it.
pub fn facts(name: &str) -> NameFacts<'_> {
    let zone = &name[zone_start(name)..];
    let subdomain = name[..name.len() - zone.len()].trim_end_matches('.');
    let characters = |text: &str| text.chars().count() as u32;
    NameFacts {
        length: characters(name),
        zone,
        subdomain_length: characters(subdomain),
        label_length_max: name.split('.').map(characters).max().unwrap_or_default(),
        entropy_centibits: entropy_centibits(subdomain.as_bytes()),
    }
}

/// Where the zone begins: the last two labels, or the last three below a country's second level.
fn zone_start(name: &str) -> usize {
    let mut labels = name.rsplit('.');
    let top = labels.next().unwrap_or_default();
    let second = labels.next().unwrap_or_default();
    let below_country = top.len() == COUNTRY_LETTERS && (1..=SECOND_LETTERS_MAX).contains(&second.len());
    let dots = ZONE_LABELS + usize::from(below_country) - 1;
    name.rmatch_indices('.').nth(dots).map_or(0, |(dot, _)| dot + 1)
}

/// log₂ n − (Σ c·log₂ c) / n over the counts c of n bytes.
fn entropy_centibits(bytes: &[u8]) -> u32 {
    let bytes = &bytes[..bytes.len().min(NAME_BYTES_MAX)];
    let mut counts = [0_u8; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let count = bytes.len() as u64;
    if count == 0 {
        return 0;
    }
    let sum: u64 = counts
        .iter()
        .map(|count| u64::from(*count) * LOG2[usize::from(*count)])
        .sum();
    let bits = LOG2[bytes.len()].saturating_sub(sum / count);
    let half = 1 << (FRACTION_BITS - 1);
    ((bits * 100 + half) >> FRACTION_BITS) as u32
}

/// Logarithms to base 2 of 1 to 255 with [`FRACTION_BITS`]; that of 0 is never meant and is 0.
const LOG2: [u64; NAME_BYTES_MAX + 1] = {
    let mut table = [0; NAME_BYTES_MAX + 1];
    let mut number = 1;
    while number <= NAME_BYTES_MAX {
        table[number] = log2(number as u64);
        number += 1;
    }
    table
};

/// Digit by digit: squaring a number between 1 and 2 doubles its logarithm, so each square tells one more digit.
const fn log2(number: u64) -> u64 {
    let whole = number.ilog2();
    // The number as 1.something with 62 digits after the point.
    let mut rest = (number as u128) << (62 - whole);
    let mut log = whole as u64;
    let mut digit = 0;
    while digit < FRACTION_BITS {
        rest = (rest * rest) >> 62;
        log <<= 1;
        if rest >= 2 << 62 {
            rest >>= 1;
            log |= 1;
        }
        digit += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_the_last_labels() {
        for (name, zone, subdomain_length) in [
            ("www.example.org", "example.org", 3),
            ("a.b.example.org", "example.org", 3),
            ("example.org", "example.org", 0),
            ("org", "org", 0),
            ("", "", 0),
            ("www.example.co.uk", "example.co.uk", 3),
            ("example.co.uk", "example.co.uk", 0),
            ("co.uk", "co.uk", 0),
            ("x.www.abc.de", "www.abc.de", 1),
            ("www.beispiel.de", "beispiel.de", 3),
            ("1.0.0.10.in-addr.arpa", "in-addr.arpa", 8),
            ("a..b", ".b", 1),
            ("..", ".", 0),
        ] {
            let facts = facts(name);
            assert_eq!(
                (facts.zone, facts.subdomain_length),
                (zone, subdomain_length),
                "{name}"
            );
        }
    }

    #[test]
    fn lengths_count_characters() {
        let name = format!("{}.t.example.org", "a".repeat(40));
        let of = facts(&name);
        assert_eq!(
            (of.length, of.label_length_max, of.subdomain_length),
            (54, 40, 42)
        );
        assert_eq!(facts("bücher.example.org").label_length_max, 7);
        assert_eq!(facts("").length, 0);
    }

    #[test]
    fn entropy_is_in_hundredths_of_a_bit() {
        let hex = "0123456789abcdef";
        let long = format!("{}{}.example.org", hex, hex);
        let base32 = "abcdefghijklmnopqrstuvwxyz234567.example.org";
        for (name, want) in [
            ("example.org", 0),
            ("aaaa.example.org", 0),
            ("ab.example.org", 100),
            ("aab.example.org", 92),
            ("abc.example.org", 158),
            ("www.example.org", 0),
            ("mail.example.org", 200),
            ("mississippi.example.org", 182),
            ("0123456789abcdef.example.org", 400),
            (long.as_str(), 400),
            (base32, 500),
        ] {
            assert_eq!(facts(name).entropy_centibits, want, "{name}");
        }
        assert_eq!(
            facts(&format!("{}.example.org", "é".repeat(200))).entropy_centibits,
            100
        );
    }

    #[test]
    fn logarithms_are_right_to_the_last_digit_but_one() {
        for (number, log) in LOG2.iter().enumerate().skip(1) {
            let exact = (number as f64).log2() * f64::from(2_u32.pow(31)) * 2.0;
            assert!((*log as f64 - exact).abs() <= 2.0, "{number}: {log} and {exact}");
        }
    }
}
