//! The incident log for those who open it in a spreadsheet.

use std::fmt::Write;

use watchfold_schemas::event::Incident;

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
        let line: Vec<String> = fields.into_iter().map(|text| field(text)).collect();
        // Writing into a String cannot fail.
        let _ = write!(out, "{}\r\n", line.join(","));
    }
    out
}

fn notes(incident: &Incident) -> String {
    let mut notes: Vec<String> = Vec::new();
    notes.extend(incident.detail.clone());
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
    use super::*;

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
