//! Sets of ordered values as ranges: every comparison with a number or a network is one.

/// Ranges in order, apart from each other, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ranges<T> {
    ranges: Vec<(T, T)>,
}

impl<T: Copy + Ord> Ranges<T> {
    pub fn one(from: T, to: T) -> Ranges<T> {
        Ranges {
            ranges: if from <= to { vec![(from, to)] } else { Vec::new() },
        }
    }

    pub const fn none() -> Ranges<T> {
        Ranges { ranges: Vec::new() }
    }

    pub fn as_slice(&self) -> &[(T, T)] {
        &self.ranges
    }

    pub fn contains(&self, value: T) -> bool {
        let after = self.ranges.partition_point(|(from, _)| *from <= value);
        after > 0 && value <= self.ranges[after - 1].1
    }

    /// What is in either.
    pub fn or(mut self, other: Ranges<T>) -> Ranges<T> {
        self.ranges.extend(other.ranges);
        self.ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(self.ranges.len());
        for (from, to) in self.ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Ranges { ranges: merged }
    }

    /// What is in both.
    pub fn and(&self, other: &Ranges<T>) -> Ranges<T> {
        let mut out = Vec::new();
        for (from, to) in &self.ranges {
            for (other_from, other_to) in &other.ranges {
                let (from, to) = (*from.max(other_from), *to.min(other_to));
                if from <= to {
                    out.push((from, to));
                }
            }
        }
        out.sort_unstable();
        Ranges { ranges: out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_united_and_cut() {
        let set = Ranges::one(1, 3)
            .or(Ranges::one(2, 5))
            .or(Ranges::one(9, 9))
            .or(Ranges::one(4, 1));
        assert_eq!(set.as_slice(), [(1, 5), (9, 9)]);
        for (value, want) in [
            (0, false),
            (1, true),
            (5, true),
            (6, false),
            (9, true),
            (10, false),
        ] {
            assert_eq!(set.contains(value), want, "{value}");
        }
        assert_eq!(set.and(&Ranges::one(5, 9)).as_slice(), [(5, 5), (9, 9)]);
        assert!(!Ranges::<i32>::none().contains(0));
    }
}
