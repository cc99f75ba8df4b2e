//! A service that a test takes away and brings back, and the small site that watches it: addresses of loopback only.

use std::collections::HashSet;

use crate::watchfold::House;

/// Where the service is when it is there.
const SERVICE: &str = "127.0.0.1:8000";

/// Eight hosts, 20 PCs and the service, as fast as the configuration allows.
pub fn config(webhook: &str) -> String {
    let hosts = (2..10)
        .map(|n| format!("[[network.targets]]\nname = \"host-{n}\"\naddress = \"127.0.0.{n}\"\n"))
        .collect::<String>();
    format!(
        r#"
site = "cafe-1"
time_zone = "UTC"
[network]
interval = "200ms"
timeout = "200ms"
retry_delay = "50ms"
min_incident = "1s"
remind_every = "0"
escalate_after = "0"
[[network.targets]]
name = "service"
address = "127.0.0.1"
signals = [{{ tcp = 8000 }}]
{hosts}
[occupancy]
interval = "200ms"
timeout = "200ms"
min_session = "1s"
batch_window = "1s"
snapshot = false
ranges = [{{ from = "127.0.1.1", count = 20 }}]
[sinks.discord]
alerts = "{webhook}"
occupancy = "{webhook}"
"#
    )
}

/// The service, and the incidents that it had.
pub struct Service {
    service: watchfold_tests::service::Service,
    incidents: HashSet<String>,
}

impl Service {
    pub async fn open() -> Service {
        Service {
            service: watchfold_tests::service::Service::at(SERVICE).await,
            incidents: HashSet::new(),
        }
    }

    pub async fn up(&mut self) {
        self.service.up().await;
    }

    pub async fn down(&mut self) {
        self.service.down().await;
    }

    /// Takes it away until a new incident of it is open, and brings it back until that is closed.
    pub async fn one_outage(&mut self, house: &House) {
        house
            .wait_for("the service is up", "targets", |targets| {
                state(targets, "service") == Some("up")
            })
            .await;
        self.down().await;
        // After a restart the page begins with what it knew, and is not at the end of the log at once.
        let incident = house
            .wait(
                "an incident is open",
                "incidents?subject=service&state=open",
                |page| {
                    let outages = items(page)
                        .iter()
                        .filter(|incident| incident["class"] == "outage");
                    let mut ids = outages.filter_map(|incident| incident["id"].as_str());
                    ids.find(|id| !self.incidents.contains(*id)).map(str::to_owned)
                },
            )
            .await;
        self.up().await;
        house
            .wait_for("it is closed", "incidents?subject=service&state=closed", |page| {
                items(page).iter().any(|closed| closed["id"] == incident.as_str())
            })
            .await;
        self.incidents.insert(incident);
    }
}

/// The list in a page of the API.
pub fn items(page: &serde_json::Value) -> &[serde_json::Value] {
    page["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The state of a target.
pub fn state<'v>(targets: &'v serde_json::Value, name: &str) -> Option<&'v str> {
    let target = items(targets).iter().find(|target| target["name"] == name)?;
    target["state"].as_str()
}
