//! `/metrics` in Prometheus' text format. Label values come from the configuration and from code, never from strangers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use watchfold_kit::metrics::Page;
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
    let mut page = Page::default();
    let software = app.live.identity().software.clone();
    page.sample("watchfold_build_info", &[("software", &software)], 1_u64);
    add_stages(&mut page, stages);
    add_data(&mut page, app);
    if app.live.catching_up().is_none() {
        add_site(&mut page, app);
    }
    add_viewers(&mut page, app);
    for (stream, info) in streams {
        page.sample(
            "watchfold_log_last_sequence",
            &[("stream", stream)],
            info.last_sequence,
        );
        page.sample("watchfold_log_bytes", &[("stream", stream)], info.bytes);
    }
    for ((route, status), count) in app.requests.counts() {
        let labels = [("route", route.as_str()), ("status", &status.to_string())];
        page.sample("watchfold_http_requests_total", &labels, count);
    }
    app.places.add_to(&mut page);
    (app.figures)(&mut page);
    page.text()
}

fn add_viewers(page: &mut Page, app: &App) {
    let live = &app.live;
    let (evicted, malformed) = live.read(|projection| (projection.evicted(), projection.malformed()));
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    page.sample("watchfold_viewers", &[], app.viewers());
    for (name, value) in [
        ("watchfold_viewer_resyncs_total", load(&live.resyncs)),
        ("watchfold_viewers_unread_total", load(&live.unread)),
        ("watchfold_viewers_refused_total", load(&live.turned_away)),
        ("watchfold_viewer_snapshots_total", load(&live.snapshots)),
        ("watchfold_viewer_resumes_total", load(&live.resumes)),
        ("watchfold_deltas_total", load(&live.deltas)),
        ("watchfold_projection_evicted_total", evicted),
        ("watchfold_projection_malformed_total", malformed),
        ("watchfold_projection_lost_total", load(&app.feed.lost)),
        (
            "watchfold_projection_undecodable_total",
            load(&app.feed.undecodable),
        ),
    ] {
        page.sample(name, &[], value);
    }
}

/// What is known of the site; left out of a scrape until all that the log held is folded, rather than told from before.
fn add_site(page: &mut Page, app: &App) {
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
    add_probes(page, &targets, &outcomes);
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
    for (name, value) in [
        ("watchfold_pcs", occupancy.total),
        ("watchfold_pcs_present", occupancy.current),
    ] {
        page.sample(name, &[], value);
    }
    add_alerts(page, app);
    let parity = app.live.read(|projection| {
        [Chain::Site, Chain::Packets].map(|chain| (chain.token(), projection.parity(chain).clone()))
    });
    add_parity(page, &parity);
}

/// The rules are those of the sets that were in force; the table of them is bounded.
fn add_alerts(page: &mut Page, app: &App) {
    let (rules, open) = app.live.read(|projection| {
        let open = projection.alert_totals().attacks_open;
        (projection.alerts_by_rule().clone(), open)
    });
    let name = "watchfold_alerts_total";
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
        page.sample(name, &labels, *count);
    }
    let name = "watchfold_attacks_open";
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

/// Whether the log answers, and how old the newest record is.
fn add_data(page: &mut Page, app: &App) {
    let data = app.freshness.data_age();
    page.sample(
        "watchfold_log_answers",
        &[],
        u8::from(app.freshness.log_answers()),
    );
    let name = "watchfold_data_stale";
    page.sample(name, &[], u8::from(data.stale.is_some()));
    let name = "watchfold_data_age_seconds";
    if let Some(age_ms) = data.age_ms {
        page.sample(name, &[], age_ms as f64 / 1e3);
    }
}

fn add_stages(page: &mut Page, stages: &[Stage]) {
    type Value = fn(&Stage) -> Option<f64>;
    let families: [(&str, Value); 4] = [
        ("watchfold_stage_ok", |stage| Some(f64::from(u8::from(stage.ok)))),
        ("watchfold_stage_position", |stage| {
            stage.position.map(|at| at as f64)
        }),
        ("watchfold_stage_lag_records", |stage| {
            stage.lag.map(|lag| lag as f64)
        }),
        ("watchfold_stage_age_seconds", |stage| {
            stage.age_ms.map(|age_ms| age_ms as f64 / 1e3)
        }),
    ];
    for (name, value) in families {
        for stage in stages {
            if let Some(value) = value(stage) {
                page.sample(name, &[("stage", &stage.name)], value);
            }
        }
    }
}

fn add_probes(page: &mut Page, targets: &[Target], outcomes: &BTreeMap<String, Outcome>) {
    for (target, outcome) in outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Fault) {
        page.sample(
            "probe_success",
            &[("target", target)],
            u8::from(*outcome == Outcome::Ok),
        );
    }
    for target in targets {
        if let Some(rtt_us) = target.rtt_us {
            page.sample(
                "probe_duration_seconds",
                &[("target", &target.name)],
                seconds(rtt_us),
            );
        }
    }
    for (name, signal, phase) in [
        (
            "probe_icmp_duration_seconds",
            Signal::Echo,
            Some(("phase", "rtt")),
        ),
        ("probe_dns_lookup_time_seconds", Signal::Dns, None),
    ] {
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

fn add_parity(page: &mut Page, chains: &[(&str, ParityChecks)]) {
    let name = "watchfold_parity_checks_total";
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
    let gauges: [(&str, Reading); 2] = [
        ("watchfold_parity_agreed_seconds", |parity| parity.agreed_hour),
        ("watchfold_parity_checked_seconds", |parity| parity.checked_at),
    ];
    for (name, reading) in gauges {
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
