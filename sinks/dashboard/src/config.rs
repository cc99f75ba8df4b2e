//! The `[dashboard]` section of the configuration file.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The port when none is configured.
pub const PORT_DEFAULT: u16 = 8737;

/// Where the page and the API are served; `public_url`, `hosts` and `proxies` are read by `watchfold-config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DashboardConfig {
    /// Only this machine can reach a loopback address. Default `127.0.0.1:8737`.
    pub listen: SocketAddr,
}

impl Default for DashboardConfig {
    fn default() -> DashboardConfig {
        DashboardConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_the_defaults() {
        let example: DashboardConfig = toml::from_str(include_str!("../example.toml")).unwrap();
        assert_eq!(example, DashboardConfig::default());
        assert!(toml::from_str::<DashboardConfig>("listn = \"127.0.0.1:1\"").is_err());
    }
}
