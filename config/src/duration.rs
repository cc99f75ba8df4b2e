//! Durations as people write them: `2s`, `500ms`, `1h 30m`.

use serde::{Deserialize, Deserializer};

/// A span of time in a configuration file, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// The longest duration that a file may hold: a year. Longer ones are slips of a unit.
const MILLIS_MAX: u64 = 366 * 86_400_000;

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            toml::Value::Integer(0) => return Ok(Millis(0)),
            other => {
                let message =
                    format!("{other} has no unit: write it as \"{other}s\", \"{other}ms\" or \"{other}m\"");
                return Err(serde::de::Error::custom(message));
            }
        };
        read(&text).map_err(serde::de::Error::custom)
    }
}

fn read(text: &str) -> Result<Millis, String> {
    let wrong = || format!("{text:?} is not a duration: write it as \"2s\", \"500ms\", \"3m\" or \"1h 30m\"");
    if text.trim() == "0" {
        return Ok(Millis(0));
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let millis = u64::try_from(duration.as_millis()).map_err(|_| wrong())?;
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return Err(format!(
            "{text:?} is finer than a millisecond, which is the finest that is measured"
        ));
    }
    if millis > MILLIS_MAX {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(Millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, want) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("3m", 180_000),
            ("1h 30m", 5_400_000),
            ("0", 0),
            ("1.5s", 1_500),
        ] {
            assert_eq!(read(text), Ok(Millis(want)), "{text}");
        }
        for text in ["", "2", "-2s", "2 parsecs", "10us", "9999999h"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
