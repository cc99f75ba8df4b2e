//! Alerts as lines of Suricata's EVE format, for tools that read it.
//!
//! Pure. EVE knows three severities and a number for each rule; ours are told besides, among `metadata`, as they are.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use watchfold_schemas::alert::Alert;
use watchfold_schemas::event::Severity;
use watchfold_schemas::hash::short_hash;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Span, Time};

use crate::projection::shapes::AlertShown;

/// Rule numbers lie above those that rule sets for Suricata use …
const SIGNATURE_FIRST: u64 = 1_000_000_000;
/// … and below the greatest that fits into 31 bits: so many that two of a few hundred rules hardly share one.
const SIGNATURES: u64 = 1_000_000_000;
/// Flow numbers fit into what JavaScript holds exactly.
const FLOW_BITS: u32 = 52;

/// One line.
pub fn line(site: &str, shown: &AlertShown) -> String {
    let alert = &*shown.alert;
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
    put("timestamp", timestamp(shown.at).into());
    put("flow_id", flow_id(alert).into());
    put("in_iface", alert.seen_by.interface.clone().into());
    put("event_type", "alert".into());
    for (end, ip, port) in [
        (&alert.source, "src_ip", "src_port"),
        (&alert.destination, "dest_ip", "dest_port"),
    ] {
        if let Some(address) = &end.ip {
            put(ip, address.clone().into());
        }
        if let Some(number) = end.port {
            put(port, number.into());
        }
    }
    put("proto", protocol(&alert.transport).into());
    if let Some(community_id) = &alert.community_id {
        put("community_id", community_id.clone().into());
    }
    put("alert", signature(site, shown));
    Value::Object(line).to_string()
}

fn signature(site: &str, shown: &AlertShown) -> Value {
    let alert = &*shown.alert;
    let title = match alert.rule.title.is_empty() {
        true => &alert.rule.name,
        false => &alert.rule.title,
    };
    let mut metadata = json!({
        "watchfold_id": [shown.id],
        "watchfold_site": [site],
        "watchfold_collector": [alert.seen_by.collector],
        "watchfold_rule": [alert.rule.name],
        "watchfold_rule_id": [alert.rule.id],
        "watchfold_set": [alert.rule.set],
        "watchfold_severity": [severity_name(alert.severity)],
        "watchfold_state": [if alert.state == RuleState::Record { "record" } else { "enforce" }],
        "watchfold_attack": [alert.attack],
        "watchfold_subject": [alert.subject],
        "watchfold_message": [alert.message],
        "watchfold_observed": [alert.measured.observed.to_string()],
        "watchfold_threshold": [alert.measured.threshold.to_string()],
    });
    // Only what an oracle knows: a reader takes "clean" for a look-up that found nothing bad.
    if let Some(reputation) = alert.reputation.as_ref().filter(|reputation| reputation.known) {
        metadata["watchfold_reputation"] = json!([reputation.tier.name()]);
    }
    json!({
        "action": "allowed",
        "gid": 1,
        "signature_id": signature_id(&alert.rule.id),
        "rev": alert.rule.version,
        "signature": title,
        "category": alert.category,
        "severity": priority(alert.severity),
        "metadata": metadata,
    })
}

/// As those who read EVE count: 1 is the worst.
const fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Critical | Severity::High => 1,
        Severity::Medium => 2,
        Severity::Low => 3,
        Severity::Info => 4,
    }
}

pub const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// The same for the same rule, whatever version and set.
fn signature_id(rule: &str) -> u64 {
    SIGNATURE_FIRST + number(&["signature", rule]) % SIGNATURES
}

/// The same in both directions of a flow, where there is a Community ID; else for the same two ends.
fn flow_id(alert: &Alert) -> u64 {
    let hash = match &alert.community_id {
        Some(community_id) => number(&["flow", community_id]),
        None => {
            let end = |ip: &Option<String>| ip.clone().unwrap_or_default();
            number(&[
                "ends",
                &end(&alert.source.ip),
                &end(&alert.destination.ip),
                &alert.transport,
            ])
        }
    };
    hash >> (64 - FLOW_BITS)
}

fn number(parts: &[&str]) -> u64 {
    // A hash has 32 hexadecimal digits, of which 16 make a number.
    short_hash(parts)
        .get(..16)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_default()
}

fn protocol(transport: &str) -> String {
    match transport {
        "icmpv6" => "IPv6-ICMP".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

/// `2026-01-31T08:15:00.123456+0000`
fn timestamp(at: Time) -> String {
    let second = at.floor(Span::from_seconds(1));
    let micros = at.since(second).0 / 1_000;
    let whole = second.to_string();
    let mut text = whole.trim_end_matches('Z').to_owned();
    // Writing into a String cannot fail.
    let _ = write!(text, ".{micros:06}+0000");
    text
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::alert::Tier;

    use super::super::alerts::tests::{ping_alert, scan};
    use super::*;
    use crate::projection::shared::Shared;

    #[test]
    fn a_line_is_what_readers_of_eve_expect() {
        let want = json!({
            "timestamp": "2026-08-03T00:00:12.345678+0000",
            "flow_id": 2_345_468_332_157_272_u64,
            "in_iface": "eth0",
            "event_type": "alert",
            "src_ip": "203.0.113.9",
            "src_port": 40_111,
            "dest_ip": "192.0.2.10",
            "dest_port": 22,
            "proto": "TCP",
            "community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "alert": {
                "action": "allowed",
                "gid": 1,
                "signature_id": 1_267_239_689,
                "rev": 3,
                "signature": "Port scan",
                "category": "port_scan",
                "severity": 1,
                "metadata": {
                    "watchfold_id": ["a1"],
                    "watchfold_site": ["cafe"],
                    "watchfold_collector": ["capture-lan"],
                    "watchfold_rule": ["port_scan"],
                    "watchfold_rule_id": ["5f0c7d1e-0000-4000-8000-000000000001"],
                    "watchfold_set": ["default"],
                    "watchfold_severity": ["high"],
                    "watchfold_state": ["enforce"],
                    "watchfold_attack": ["0123456789abcdef"],
                    "watchfold_subject": ["203.0.113.9"],
                    "watchfold_message": ["203.0.113.9 tried 15 ports of 192.0.2.10"],
                    "watchfold_observed": ["15"],
                    "watchfold_threshold": ["4"],
                    "watchfold_reputation": ["high"],
                },
            },
        });
        let got: Value = serde_json::from_str(&line("cafe", &scan("a1"))).unwrap();
        assert_eq!(got, want);
    }

    #[test]
    fn a_reputation_without_a_look_up_or_a_verdict_is_absent() {
        let reputation_of = |change: fn(&mut Alert)| {
            let mut shown = scan("a1");
            let mut alert = (*shown.alert).clone();
            change(&mut alert);
            shown.alert = Shared::new(alert);
            let got: Value = serde_json::from_str(&line("cafe", &shown)).unwrap();
            got["alert"]["metadata"].get("watchfold_reputation").cloned()
        };
        let clean = |alert: &mut Alert| alert.reputation.as_mut().unwrap().tier = Tier::Clean;
        assert_eq!(reputation_of(clean), Some(json!(["clean"])), "looked up");
        assert_eq!(
            reputation_of(|alert| alert.reputation = None),
            None,
            "not looked up"
        );
        let unknown = |alert: &mut Alert| alert.reputation.as_mut().unwrap().known = false;
        assert_eq!(reputation_of(unknown), None, "the oracle knows nothing of it");
    }

    #[test]
    fn an_alert_about_no_packet_has_no_ends() {
        let got: Value = serde_json::from_str(&line("cafe", &ping_alert("p1"))).unwrap();
        for absent in ["src_ip", "src_port", "dest_ip", "dest_port", "community_id"] {
            assert!(got.get(absent).is_none(), "{got}");
        }
        assert_eq!(got["alert"]["severity"], 3);
        assert_eq!(got["alert"]["metadata"]["watchfold_state"], json!(["record"]));
    }

    #[test]
    fn times_have_six_digits_and_an_offset() {
        for (nanos, want) in [
            (0, "1970-01-01T00:00:00.000000+0000"),
            (1_500, "1970-01-01T00:00:00.000001+0000"),
            (-1_000, "1969-12-31T23:59:59.999999+0000"),
        ] {
            assert_eq!(timestamp(Time(nanos)), want);
        }
    }
}
