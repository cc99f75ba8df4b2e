//! The `[clock]` section of the configuration.

use std::time::Duration;

use serde::Deserialize;

/// How often "now" advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// Milliseconds between ticks, 100 to 60,000. Default 1,000; a hub of many sites uses 10,000.
    pub interval_ms: u32,
}

impl ClockConfig {
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms as u64)
    }
}

impl Default for ClockConfig {
    fn default() -> ClockConfig {
        ClockConfig { interval_ms: 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default_and_unknown_keys_are_refused() {
        #[derive(Deserialize)]
        struct File {
            clock: ClockConfig,
        }
        let example: File = toml::from_str(include_str!("../example.toml")).unwrap();
        assert_eq!(example.clock, ClockConfig::default());
        assert!(toml::from_str::<ClockConfig>("interval = 1").is_err());
    }
}
