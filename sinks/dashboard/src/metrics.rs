//! `/metrics` in Prometheus' text format. Label values come from the configuration and from code, never from strangers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use watchfold_log::StreamInfo;
use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{IncidentClass, Severity};
use watchfold_schemas::observation::Outcome;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Time};

use crate::api::App;
use crate::api::eve::severity_name;
use crate::projection::ParityChecks;
use crate::projection::shapes::{AddressStatus, Stage, Target};

/// What a scrape shows. `streams` are those whose log could tell.
pub fn render(app: &App, stages: &[Stage], streams: &[(&'static str, StreamInfo)]) -> String {
    let mut page = Page(String::new());
    page.family("watchfold_build_info", "gauge", "The software that runs.");
    page.sample(
        "watchfold_build_info",
        &[("software", &app.live.identity().software)],
        1,
    );
    stage_families(&mut page, stages);
    data_families(&mut page, app);
    if app.live.catching_up().is_none() {
        site_families(&mut page, app);
    }
    let live = &app.live;
    let (evicted, malformed) = live.read(|projection| (projection.evicted(), projection.malformed()));
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    for (name, kind, help, value) in [
        (
            "watchfold_viewers",
            "gauge",
            "Open live streams.",
            app.viewers() as u64,
        ),
        (
            "watchfold_viewer_resyncs_total",
            "counter",
            "Viewers that fell behind and began anew.",
            load(&live.resyncs),
        ),
        (
            "watchfold_viewers_unread_total",
            "counter",
            "Viewers disconnected because they read nothing.",
            load(&live.unread),
        ),
        (
            "watchfold_viewers_refused_total",
            "counter",
            "Viewers that found no place.",
            load(&live.turned_away),
        ),
        (
            "watchfold_viewer_snapshots_total",
            "counter",
            "Whole states sent to new viewers.",
            load(&live.snapshots),
        ),
        (
            "watchfold_viewer_resumes_total",
            "counter",
            "Viewers that went on where they were.",
            load(&live.resumes),
        ),
        (
            "watchfold_deltas_total",
            "counter",
            "Deltas made for viewers.",
            load(&live.deltas),
        ),
        (
            "watchfold_projection_evicted_total",
            "counter",
            "Live things pushed out by a limit.",
            evicted,
        ),
        (
            "watchfold_projection_malformed_total",
            "counter",
            "Ping rounds whose columns disagree.",
            malformed,
        ),
        (
            "watchfold_projection_lost_total",
            "counter",
            "Records gone before they were read.",
            load(&app.feed.lost),
        ),
        (
            "watchfold_projection_undecodable_total",
            "counter",
            "Records that could not be decoded.",
            load(&app.feed.undecodable),
        ),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
    page.family(
        "watchfold_log_last_sequence",
        "gauge",
        "Last synced sequence of a stream.",
    );
    for (stream, info) in streams {
        page.sample(
            "watchfold_log_last_sequence",
            &[("stream", stream)],
            info.last_sequence,
        );
    }
    page.family("watchfold_log_bytes", "gauge", "Bytes that a stream takes.");
    for (stream, info) in streams {
        page.sample("watchfold_log_bytes", &[("stream", stream)], info.bytes);
    }
    page.family(
        "watchfold_http_requests_total",
        "counter",
        "HTTP requests answered.",
    );
    for ((route, status), count) in app.requests.counts() {
        page.sample(
            "watchfold_http_requests_total",
            &[("route", &route), ("status", &status.to_string())],
            count,
        );
    }
    page.0.push_str(&app.places.figures());
    page.0.push_str(&(app.figures)());
    page.0
}

/// What is known of the site; left out of a scrape until all that the log held is folded, rather than told from before.
fn site_families(page: &mut Page, app: &App) {
    let (targets, outcomes, occupancy, open) = app.live.read(|projection| {
        let mut open: BTreeMap<&'static str, u64> = BTreeMap::new();
        for entry in projection
            .incidents(None)
            .filter(|entry| entry.incident.ended_at.is_none())
        {
            *open.entry(entry.incident.class.name()).or_default() += 1;
        }
        (
            projection.targets().collect::<Vec<_>>(),
            projection.latest_outcomes(),
            projection.occupancy().count,
            open,
        )
    });
    probe_families(page, &targets, &outcomes);
    page.family("watchfold_incidents_open", "gauge", "Open incidents by class.");
    for class in [
        IncidentClass::Outage,
        IncidentClass::Flapping,
        IncidentClass::CollectorSilent,
        IncidentClass::MeasurementFault,
        IncidentClass::Parity,
        IncidentClass::Attack,
        IncidentClass::DeliveryFault,
    ] {
        let count = open.get(class.name()).copied().unwrap_or(0);
        page.sample("watchfold_incidents_open", &[("class", class.name())], count);
    }
    for (name, help, value) in [
        ("watchfold_pcs", "PCs configured.", occupancy.total),
        ("watchfold_pcs_present", "PCs present.", occupancy.current),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    alert_families(page, app);
    let parity = app.live.read(|projection| {
        [Chain::Site, Chain::Packets].map(|chain| (chain.token(), projection.parity(chain).clone()))
    });
    parity_families(page, &parity);
}

/// The rules are those of the sets that were in force; the table of them is bounded.
fn alert_families(page: &mut Page, app: &App) {
    let (rules, open) = app.live.read(|projection| {
        let open = projection.alert_totals().attacks_open;
        (projection.alerts_by_rule().clone(), open)
    });
    let name = "watchfold_alerts_total";
    page.family(
        name,
        "counter",
        "Alerts by rule, severity and whether the rule is enforced.",
    );
    for (counted, count) in &rules {
        let state = if counted.state == RuleState::Record {
            "record"
        } else {
            "enforce"
        };
        let labels = [
            ("rule", counted.rule.as_str()),
            ("severity", severity_name(counted.severity)),
            ("state", state),
        ];
        page.sample(name, &labels, count);
    }
    let name = "watchfold_attacks_open";
    page.family(name, "gauge", "Open attacks of rules that are enforced.");
    for severity in [
        Severity::Info,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ] {
        page.sample(name, &[("severity", severity_name(severity))], open.of(severity));
    }
}

/// How old what is shown is.
fn data_families(page: &mut Page, app: &App) {
    let data = app.freshness.data_age();
    page.family("watchfold_log_answers", "gauge", "Whether the log answers.");
    page.sample(
        "watchfold_log_answers",
        &[],
        u8::from(app.freshness.log_answers()),
    );
    let name = "watchfold_data_stale";
    page.family(
        name,
        "gauge",
        "Whether the log does not answer or gets no records.",
    );
    page.sample(name, &[], u8::from(data.stale.is_some()));
    let name = "watchfold_data_age_seconds";
    page.family(name, "gauge", "Age of the newest record in the log.");
    if let Some(age_ms) = data.age_ms {
        page.sample(name, &[], age_ms as f64 / 1e3);
    }
}

fn stage_families(page: &mut Page, stages: &[Stage]) {
    type Value = fn(&Stage) -> Option<f64>;
    let families: [(&str, &str, Value); 4] = [
        ("watchfold_stage_ok", "Whether a stage advances.", |stage| {
            Some(f64::from(u8::from(stage.ok)))
        }),
        (
            "watchfold_stage_position",
            "The last sequence dealt with.",
            |stage| stage.position.map(|at| at as f64),
        ),
        (
            "watchfold_stage_lag_records",
            "Records still to be dealt with.",
            |stage| stage.lag.map(|lag| lag as f64),
        ),
        (
            "watchfold_stage_age_seconds",
            "Time since it last advanced.",
            |stage| stage.age_ms.map(|age_ms| age_ms as f64 / 1e3),
        ),
    ];
    for (name, help, value) in families {
        page.family(name, "gauge", help);
        for stage in stages {
            if let Some(value) = value(stage) {
                page.sample(name, &[("stage", &stage.name)], value);
            }
        }
    }
}

fn probe_families(page: &mut Page, targets: &[Target], outcomes: &BTreeMap<String, Outcome>) {
    page.family(
        "probe_success",
        "gauge",
        "Whether the latest probe of a target was answered.",
    );
    for (target, outcome) in outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Fault) {
        page.sample(
            "probe_success",
            &[("target", target)],
            u8::from(*outcome == Outcome::Ok),
        );
    }
    page.family(
        "probe_duration_seconds",
        "gauge",
        "Best round-trip time of a target's latest probe.",
    );
    for target in targets {
        if let Some(rtt_us) = target.rtt_us {
            page.sample(
                "probe_duration_seconds",
                &[("target", &target.name)],
                seconds(rtt_us),
            );
        }
    }
    for (name, help, signal, phase) in [
        (
            "probe_icmp_duration_seconds",
            "Round-trip time of the latest echo.",
            Signal::Echo,
            Some(("phase", "rtt")),
        ),
        (
            "probe_dns_lookup_time_seconds",
            "Time of the latest DNS query.",
            Signal::Dns,
            None,
        ),
    ] {
        page.family(name, "gauge", help);
        for target in targets {
            let of_signal =
                |status: &&AddressStatus| status.signal == signal && status.outcome == Outcome::Ok;
            if let Some(rtt_us) = target
                .addresses
                .iter()
                .filter(of_signal)
                .filter_map(|status| status.rtt_us)
                .min()
            {
                let mut labels = vec![("target", target.name.as_str())];
                labels.extend(phase);
                page.sample(name, &labels, seconds(rtt_us));
            }
        }
    }
}

fn parity_families(page: &mut Page, chains: &[(&str, ParityChecks)]) {
    let name = "watchfold_parity_checks_total";
    page.family(
        name,
        "counter",
        "Stretches of a chain folded again, by what came of it.",
    );
    for (chain, parity) in chains {
        for (verdict, count) in [
            ("agreed", parity.agreed),
            ("differed", parity.differed),
            ("not_compared", parity.not_compared),
        ] {
            page.sample(name, &[("chain", chain), ("verdict", verdict)], count);
        }
    }
    type Reading = fn(&ParityChecks) -> Option<Time>;
    let gauges: [(&str, &str, Reading); 2] = [
        (
            "watchfold_parity_agreed_hour_seconds",
            "The latest hour, or packets after a snapshot, that agreed, by its start.",
            |parity| parity.agreed_hour,
        ),
        (
            "watchfold_parity_checked_seconds",
            "When the chain was checked last.",
            |parity| parity.checked_at,
        ),
    ];
    for (name, help, reading) in gauges {
        page.family(name, "gauge", help);
        for (chain, parity) in chains {
            if let Some(at) = reading(parity) {
                page.sample(name, &[("chain", chain)], at.as_seconds());
            }
        }
    }
}

fn seconds(rtt_us: u32) -> f64 {
    f64::from(rtt_us) / 1e6
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}
