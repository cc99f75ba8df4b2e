//! What look-ups came to, as counters for `/metrics` and for tests. Counting only; nothing is decided by them.

use watchfold_sink_kit::{Counted, Stats};

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupCount {
    /// Questions read from the log.
    Asked,
    /// Of these, about what is private, one's own or no subject at all.
    Private,
    /// Questions that were too old when they were read, or waited for too long.
    Stale,
    /// Questions that needed no call.
    FromCache,
    /// Questions dropped because too many waited.
    Dropped,
    /// Calls made.
    Calls,
    /// Calls that were answered, with what is known or that nothing is.
    Answered,
    /// Of these, that nothing is known.
    Unknown,
    /// Calls that were refused: the subject or the key.
    Refused,
    /// Calls that VirusTotal called too many.
    TooMuch,
    /// Calls without a usable answer.
    Away,
    /// Verdicts that the log has.
    Verdicts,
    /// Records that the log did not take; they are tried again.
    PublishFailures,
    /// Events lost to retention before they were read, or that could not be read.
    Lost,
    /// Times that a named limit was reached.
    LimitsHit,
    /// State files set aside, or that could not be written.
    StateFailures,
}

impl Counted for LookupCount {
    const ALL: &'static [LookupCount] = &[
        LookupCount::Asked,
        LookupCount::Private,
        LookupCount::Stale,
        LookupCount::FromCache,
        LookupCount::Dropped,
        LookupCount::Calls,
        LookupCount::Answered,
        LookupCount::Unknown,
        LookupCount::Refused,
        LookupCount::TooMuch,
        LookupCount::Away,
        LookupCount::Verdicts,
        LookupCount::PublishFailures,
        LookupCount::Lost,
        LookupCount::LimitsHit,
        LookupCount::StateFailures,
    ];

    fn name(self) -> &'static str {
        match self {
            LookupCount::Asked => "asked",
            LookupCount::Private => "private",
            LookupCount::Stale => "stale",
            LookupCount::FromCache => "from_cache",
            LookupCount::Dropped => "dropped",
            LookupCount::Calls => "calls",
            LookupCount::Answered => "answered",
            LookupCount::Unknown => "unknown",
            LookupCount::Refused => "refused",
            LookupCount::TooMuch => "too_much",
            LookupCount::Away => "away",
            LookupCount::Verdicts => "verdicts",
            LookupCount::PublishFailures => "publish_failures",
            LookupCount::Lost => "lost",
            LookupCount::LimitsHit => "limits_hit",
            LookupCount::StateFailures => "state_failures",
        }
    }
}

/// What look-ups came to since the process started.
pub type LookupStats = Stats<LookupCount>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let stats = LookupStats::default();
        for (index, count) in LookupCount::ALL.iter().enumerate() {
            stats.add(*count, index as u64 + 1);
        }
        let values: Vec<u64> = stats.rows().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=LookupCount::ALL.len() as u64).collect::<Vec<u64>>());
    }
}
