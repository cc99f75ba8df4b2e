//! Incidents and alerts for those who open them in a spreadsheet.

use std::fmt::Write;

use watchfold_schemas::event::Incident;
use watchfold_schemas::rules::RuleState;

use super::eve::severity_name;
use crate::projection::shapes::AlertShown;

/// One line for each incident, times in UTC, durations as `h:mm:ss`.
pub fn incidents(incidents: &[Incident]) -> String {
    let mut out = String::from("Start Time,End Time,Duration,Cause,Notes,Id\r\n");
    for incident in incidents {
        let end = incident.ended_at.map(|at| at.to_string()).unwrap_or_default();
        let duration = incident.duration_ms.map(clock).unwrap_or_default();
        let cause = format!("{} {}", incident.subject, incident.class.name().replace('_', " "));
        let fields = [
            &incident.started_at.to_string(),
            &end,
            &duration,
            &cause,
            &notes(incident),
            &incident.id,
        ];
        put(&mut out, fields.map(String::as_str));
    }
    out
}

/// One line for each alert, times in UTC.
pub fn alerts(alerts: &[AlertShown]) -> String {
    let mut out = String::from(
        "Time,Severity,Category,Rule,Source,Source Port,Destination,Destination Port,Transport,Message,Observed,\
         Threshold,State,Attack,Community ID,Id\r\n",
    );
    for shown in alerts {
        let alert = &*shown.alert;
        let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
        let address = |ip: &Option<String>| ip.clone().unwrap_or_default();
        put(
            &mut out,
            [
                &shown.at.to_string(),
                severity_name(alert.severity),
                &alert.category,
                &alert.rule.name,
                &address(&alert.source.ip),
                &port(alert.source.port),
                &address(&alert.destination.ip),
                &port(alert.destination.port),
                &alert.transport,
                &alert.message,
                &alert.measured.observed.to_string(),
                &alert.measured.threshold.to_string(),
                if alert.state == RuleState::Record {
                    "record"
                } else {
                    "enforce"
                },
                &alert.attack,
                alert.community_id.as_deref().unwrap_or_default(),
                &shown.id,
            ],
        );
    }
    out
}

fn put<const N: usize>(out: &mut String, fields: [&str; N]) {
    let line = fields.map(field);
    // Writing into a String cannot fail.
    let _ = write!(out, "{}\r\n", line.join(","));
}

fn notes(incident: &Incident) -> String {
    let mut notes: Vec<String> = Vec::new();
    notes.extend(incident.in_words());
    if !incident.suppressed.is_empty() {
        notes.push(format!("also unreachable: {}", incident.suppressed.join(" ")));
    }
    if incident.unmeasured_ms > 0 {
        notes.push(format!("not measured for {}", clock(incident.unmeasured_ms)));
    }
    if let Some(who) = &incident.acknowledged_by {
        notes.push(format!("acknowledged by {who}"));
    }
    if incident.late {
        notes.push("learnt late".into());
    }
    notes.join("; ")
}

fn clock(duration_ms: u64) -> String {
    let seconds = duration_ms / 1_000;
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A field that no spreadsheet takes for a formula.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\r', '\n', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::alerts::tests::{ping_alert, scan};
    use super::*;

    #[test]
    fn an_alert_is_one_line() {
        let want = "Time,Severity,Category,Rule,Source,Source Port,Destination,Destination Port,Transport,Message,\
            Observed,Threshold,State,Attack,Community ID,Id\r\n\
            2026-08-03T00:00:12.3456789Z,high,port_scan,port_scan,203.0.113.9,40111,192.0.2.10,22,tcp,\
            203.0.113.9 tried 15 ports of 192.0.2.10,15,4,enforce,0123456789abcdef,\
            1:LQU9qZlK+B5F3KDmev6m5PMibrg=,a1\r\n\
            2026-08-03T00:00:12.3456789Z,low,port_scan,port_scan,,,,,tcp,\
            \"'=cmd|' /C calc'!A0, \"\"quoted\"\"\",15,4,record,0123456789abcdef,,p1\r\n";
        assert_eq!(alerts(&[scan("a1"), ping_alert("p1")]), want);
    }

    #[test]
    fn fields_are_quoted_and_formulas_are_text() {
        for (text, want) in [
            ("router outage", "router outage"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
        ] {
            assert_eq!(field(text), want, "{text:?}");
        }
        assert_eq!(clock(3_723_999), "1:02:03");
    }
}
