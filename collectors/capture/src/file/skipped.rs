//! Why a packet of a capture file is skipped: it cannot be placed in time, or its link type is not known.

use super::INTERFACES_MAX;

/// Why a packet is skipped before it is decoded. It keeps its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Skipped {
    #[error("in a simple packet block, which has no time")]
    Simple,
    #[error("of an interface that the file does not describe before it")]
    UnknownInterface,
    #[error("of an interface beyond the first {INTERFACES_MAX} of a section")]
    TooManyInterfaces,
    #[error("with times in a unit that cannot be computed (if_tsresol {0}: 10^-{0} s)")]
    Resolution(u8),
    #[error("of an interface whose option {0} has a wrong length")]
    OptionLength(&'static str),
    #[error("of an interface whose options cannot be read")]
    Options,
    #[error("with a check sequence of a length that does not exist (if_fcslen {0})")]
    FcsLength(u8),
    #[error("with a time before 1677 or after 2262")]
    TimeOutOfRange,
    #[error("with more than a second in the fraction of their time")]
    Fraction,
    #[error("longer than the block that holds them")]
    Contradictory,
}
