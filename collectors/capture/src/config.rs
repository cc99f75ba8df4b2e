//! The `[capture]` section: what of the packets is kept beside their headers.

use serde::Deserialize;

/// Ports whose payloads' first bytes may be kept.
pub const HEAD_PORTS_MAX: usize = 64;

/// What to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// Packets from or to these ports keep the first 64 bytes of their payload; at most [`HEAD_PORTS_MAX`] count.
    pub head_ports: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default_and_unknown_keys_are_refused() {
        #[derive(Deserialize)]
        struct File {
            capture: CaptureConfig,
        }
        let example: File = toml::from_str(include_str!("../example.toml")).unwrap();
        assert_eq!(example.capture, CaptureConfig::default());
        assert!(toml::from_str::<CaptureConfig>("ports = [1]").is_err());
    }
}
