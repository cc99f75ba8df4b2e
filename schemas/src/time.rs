//! Instants and spans in nanoseconds. Neither knows what time it is now: only the edge of the system does.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: nanoseconds since 1970-01-01T00:00:00Z. MessagePack holds the integer, JSON holds RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

/// A length of time in nanoseconds; negative where one instant precedes another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl Time {
    pub const EPOCH: Time = Time(0);

    pub const fn from_seconds(seconds: i64) -> Time {
        Time(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    pub const fn from_millis(millis: i64) -> Time {
        Time(millis.saturating_mul(NANOS_PER_MILLI))
    }

    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(NANOS_PER_MILLI)
    }

    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// The span since `earlier`, negative if `earlier` is later.
    #[inline]
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The start of the period of length `every` that holds this instant, counted from the epoch.
    pub const fn floor(self, every: Span) -> Time {
        Time(self.0 - self.0.rem_euclid(every.0))
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn from_nanos(nanos: i64) -> Span {
        Span(nanos)
    }

    pub const fn from_millis(millis: i64) -> Span {
        Span(millis.saturating_mul(NANOS_PER_MILLI))
    }

    pub const fn from_seconds(seconds: i64) -> Span {
        Span(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    pub const fn as_millis(self) -> i64 {
        self.0 / NANOS_PER_MILLI
    }

    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Add<Span> for Time {
    type Output = Time;
    #[inline]
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    #[inline]
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Span;
    #[inline]
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Span;
    #[inline]
    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "@{}ns", self.0),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0 as f64 / NANOS_PER_MILLI as f64)
    }
}

/// The text is not an RFC 3339 instant between the years 1677 and 2262.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a time: write it as 2026-01-31T08:15:00Z")]
pub struct TimeParseError(String);

impl FromStr for Time {
    type Err = TimeParseError;
    fn from_str(text: &str) -> Result<Time, TimeParseError> {
        let invalid = || TimeParseError(text.to_owned());
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        i64::try_from(timestamp.as_nanosecond())
            .map(Time)
            .map_err(|_| invalid())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Time)
        }
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "date-time",
            "description": "RFC 3339 in UTC; in MessagePack an integer of nanoseconds since 1970"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc3339_and_back() {
        let time = Time::from_millis(1_769_847_300_250);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-01-31T08:15:00.25Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }

    #[test]
    fn messagepack_is_the_integer() {
        let bytes = rmp_serde::to_vec(&Time(5)).unwrap();
        assert_eq!(bytes, [5]);
        assert_eq!(rmp_serde::from_slice::<Time>(&bytes).unwrap(), Time(5));
    }

    #[test]
    fn out_of_range_text_is_an_error_that_says_what_to_write() {
        let error = "9999-01-01T00:00:00Z".parse::<Time>().unwrap_err();
        assert!(error.to_string().contains("write it as"), "{error}");
    }

    #[test]
    fn floor_goes_down_before_the_epoch_too() {
        assert_eq!(Time(-1).floor(Span(10)), Time(-10));
        assert_eq!(Time(19).floor(Span(10)), Time(10));
    }
}
