//! A site on loopback: a service that a test takes away and brings back, probed by the real collector.

use watchfold_tests::service::Service;

/// The service's name in the configuration.
pub const SERVICE: &str = "service";

/// A site that watches it, as fast as the configuration allows.
pub fn site_config(service: &Service, site: &str, webhook: &str) -> String {
    format!(
        r#"
site = "{site}"
time_zone = "UTC"
[network]
interval = "200ms"
timeout = "200ms"
retry_delay = "50ms"
min_incident = "1s"
remind_every = "0"
escalate_after = "0"
[[network.targets]]
name = "{SERVICE}"
address = "{}"
signals = [{{ tcp = {} }}]
[sinks.discord]
alerts = "{webhook}"
"#,
        service.address.ip(),
        service.address.port()
    )
}
