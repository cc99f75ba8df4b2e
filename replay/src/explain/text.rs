//! An explanation as text for a person.

use std::fmt;

use watchfold_schemas::EventBody;
use watchfold_schemas::alert::RuleRef;
use watchfold_schemas::origin::Cause;
use watchfold_schemas::rules::RuleState;

use super::{Condition, ExplainedPacket, ExplainedPackets, ExplainedRecord, ExplainedRule, Explanation};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  {}  {}",
            self.id,
            self.site,
            self.subject.as_deref().unwrap_or("")
        )?;
        if let Some(rule) = &self.rule {
            writeln!(f, "{rule}")?;
        }
        for step in &self.steps {
            write!(f, "\n{}  {}", step.at, step.kind.replace('_', " "))?;
            match &step.condition {
                None => {}
                Some(Condition::Length {
                    setting,
                    limit_ms,
                    found_ms,
                }) => write!(f, "  after {found_ms} ms; {setting} is {limit_ms} ms")?,
                Some(Condition::Count {
                    setting,
                    limit,
                    found,
                    within_ms,
                }) => write!(f, "  {found} within {within_ms} ms; {setting} is {limit}")?,
                Some(Condition::Rule {
                    rule,
                    observed,
                    threshold,
                    base_threshold,
                    window_ms,
                }) => {
                    write!(f, "  {rule}: {observed}, its threshold is {threshold}")?;
                    if threshold != base_threshold {
                        write!(f, " (of {base_threshold}, by reputation)")?;
                    }
                    match window_ms {
                        0 => {}
                        whole if whole % 1_000 == 0 => write!(f, " within {} s", whole / 1_000)?,
                        part => write!(f, " within {part} ms")?,
                    }
                }
            }
            if let Some(message) = message(&step.event.body) {
                write!(f, "\n    {message}")?;
            }
            match &step.cause {
                Cause::Message(message) => write!(f, "\n    by the record {message}")?,
                Cause::Timer { timer, .. } => write!(f, "\n    by the timer {timer}")?,
                Cause::Packet {
                    collector, packet, ..
                } => write!(f, "\n    by the packet {packet} of {collector}")?,
            }
        }
        writeln!(f, "\n\ncaused by")?;
        // A round without a result of the subject only says how far measuring had come.
        let tells = |record: &&ExplainedRecord| !record.rows.is_empty() || !record.body.is_null();
        let silent = self.records.iter().filter(|record| !tells(record)).count();
        for record in self.records.iter().filter(tells) {
            writeln!(
                f,
                "{:>8}  {}  {}  {}",
                record.sequence, record.observed_at, record.id, record.kind
            )?;
            for row in &record.rows {
                write!(
                    f,
                    "          {}  {}  {}  {:?}",
                    row.at,
                    row.address,
                    row.signal.name(),
                    row.outcome
                )?;
                if let Some(rtt_us) = row.rtt_us {
                    write!(f, "  {rtt_us} us")?;
                }
                writeln!(f, "  {}", row.detail.as_deref().unwrap_or(""))?;
            }
            if !record.body.is_null() {
                writeln!(f, "          {}", record.body)?;
            }
        }
        match silent {
            0 => {}
            1 => writeln!(f, "1 round without a result of it is not listed")?,
            count => writeln!(f, "{count} rounds without a result of it are not listed")?,
        }
        if self.records_left_out > 0 {
            writeln!(f, "{} further records are not shown", self.records_left_out)?;
        }
        for verdict in &self.verdicts {
            writeln!(
                f,
                "\n{} said of {} at {}: {} malicious, {} suspicious, score {}",
                verdict.oracle,
                verdict.subject,
                verdict.at,
                verdict.malicious,
                verdict.suspicious,
                verdict.score
            )?;
        }
        match &self.packets {
            Some(packets) => write!(f, "\n{packets}"),
            None => Ok(()),
        }
    }
}

/// What a rule said when it fired.
fn message(body: &EventBody) -> Option<&str> {
    match body {
        EventBody::AlertRaised(alert) => Some(&alert.message),
        EventBody::AttackGrew(attack) => Some(&attack.message),
        _ => None,
    }
}

impl fmt::Display for ExplainedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleRef {
            name,
            title,
            version,
            set,
            ..
        } = &self.rule;
        write!(
            f,
            "by the rule {name}, version {version} of the set {set}: {title}"
        )?;
        match self.state {
            RuleState::Enforce => Ok(()),
            RuleState::Record => write!(f, " (it is recorded, and nobody is told)"),
            RuleState::Off => write!(f, " (it is off)"),
        }
    }
}

impl fmt::Display for ExplainedPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} packets counted, captured by {} on {}",
            self.total, self.collector, self.interface
        )?;
        for packet in &self.packets {
            writeln!(f, "{packet}")?;
        }
        let shown = self.packets.len() as u64;
        if self.total > shown {
            writeln!(f, "{} further packets are not shown", self.total - shown)?;
        }
        if !self.is_found {
            writeln!(f, "some of them are not here any more, or lie before the span")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExplainedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: &Option<String>, port: Option<u16>| {
            let address = address.as_deref().unwrap_or("?");
            port.map_or_else(|| address.to_owned(), |port| format!("{address} {port}"))
        };
        write!(
            f,
            "{:>10}  {}  {}  {} -> {}  {} B",
            self.number,
            self.at,
            self.protocol,
            end(&self.source, self.source_port),
            end(&self.destination, self.destination_port),
            self.length
        )?;
        if !self.tcp_flags.is_empty() {
            write!(f, "  {}", self.tcp_flags)?;
        }
        match &self.detail {
            Some(detail) => write!(f, "  {detail}"),
            None => Ok(()),
        }
    }
}
