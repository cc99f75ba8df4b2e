//! The packets that made a rule fire, looked up by their numbers, and what the rule was.
//!
//! Between which packets counted the alert says itself, as ranges of numbers; of those within, what the rule says about packets, held against
//! them once more, and the addresses that the alert is about leave what counted. Where a rule looks at more than packets themselves, the
//! addresses decide alone.

use core::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};
use watchfold_folds::RuleRows;
use watchfold_schemas::alert::{Attack, Measured, Reputation, RuleRef, SeenBy, Verdict};
use watchfold_schemas::packets::{PacketBatch, PacketView};
use watchfold_schemas::rules::{Rule, RuleState, RulesActivation};
use watchfold_schemas::{Body, Event, EventBody, Observation};

/// The most packets that are shown, the first ones.
pub const PACKETS_MAX: usize = 100;

/// The most verdicts that are shown; an oracle is asked once an hour at most.
const VERDICTS_MAX: usize = 16;

const TCP_FLAGS: [(u8, &str); 8] = [
    (1, "FIN"),
    (2, "SYN"),
    (4, "RST"),
    (8, "PSH"),
    (16, "ACK"),
    (32, "URG"),
    (64, "ECE"),
    (128, "CWR"),
];

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ExplainedRule {
    pub rule: RuleRef,
    pub category: String,
    pub state: RuleState,
    /// As it was in force; `None` for one that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "json-schema",
        schemars(with = "Option<serde_json::Map<String, Value>>")
    )]
    pub definition: Option<Rule>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ExplainedPackets {
    pub collector: String,
    pub incarnation: u64,
    pub interface: String,
    /// The first [`PACKETS_MAX`] of them.
    pub packets: Vec<ExplainedPacket>,
    /// How many counted.
    pub total: u64,
    /// Whether every range was found whole.
    pub is_found: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ExplainedPacket {
    pub number: u64,
    pub at: watchfold_schemas::Time,
    pub source: Option<String>,
    pub source_port: Option<u16>,
    pub destination: Option<String>,
    pub destination_port: Option<u16>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a number.
    pub protocol: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tcp_flags: String,
    /// Bytes on the wire.
    pub length: u16,
    /// A name that was asked for, or who an ARP message says is where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a rule measured, where an event is about one.
pub(super) fn measured(body: &EventBody) -> Option<(&str, &Measured)> {
    match body {
        EventBody::AlertRaised(alert) => Some((&alert.rule.name, &alert.measured)),
        EventBody::AttackBegan(attack) | EventBody::AttackGrew(attack) | EventBody::AttackEnded(attack) => {
            Some((&attack.rule.name, &attack.peak))
        }
        _ => attack_of(body).map(|attack| (attack.rule.name.as_str(), &attack.peak)),
    }
}

/// The rule of an event, as these rules have it.
pub(super) fn rule_of(event: &Event, activation: Option<&RulesActivation>) -> Option<ExplainedRule> {
    let (rule, category, state) = match &event.body {
        EventBody::AlertRaised(alert) => (&alert.rule, &alert.category, alert.state),
        body => {
            let attack = attack_of(body)?;
            (&attack.rule, &attack.category, attack.state)
        }
    };
    let mut rules = activation
        .into_iter()
        .flat_map(|activation| &activation.set.rules);
    Some(ExplainedRule {
        rule: rule.clone(),
        category: category.clone(),
        state,
        definition: rules.find(|known| known.name == rule.name).cloned(),
    })
}

/// What stands of a batch among other records.
pub(super) fn summary(batch: &PacketBatch) -> Value {
    json!({ "first": batch.first, "packets": batch.len(), "interface": batch.source.name })
}

fn attack_of(body: &EventBody) -> Option<&Attack> {
    match body {
        EventBody::AttackBegan(attack) | EventBody::AttackGrew(attack) | EventBody::AttackEnded(attack) => {
            Some(attack)
        }
        EventBody::IncidentOpened(incident)
        | EventBody::IncidentEscalated(incident)
        | EventBody::IncidentReminded(incident)
        | EventBody::IncidentAcknowledged(incident)
        | EventBody::IncidentClosed(incident) => incident.attack.as_deref(),
        _ => None,
    }
}

/// Looks for the packets that counted, batch by batch.
pub(super) struct Counted {
    seen_by: SeenBy,
    /// Addresses that an alert is about, where its ranges hold packets that did not count.
    addresses: Vec<IpAddr>,
    /// What the rule says about packets, likewise.
    rows: Option<RuleRows>,
    reputation: Option<Reputation>,
    found: ExplainedPackets,
    /// Packets of the ranges that were met.
    met: u64,
    verdicts: Vec<Verdict>,
    is_past: bool,
}

impl Counted {
    /// The packets of the last event that names any: of an attack, its last word.
    pub(super) fn of<'e>(events: impl Iterator<Item = &'e Event>, rows: Option<RuleRows>) -> Option<Counted> {
        let of_event = |event: &Event| match &event.body {
            EventBody::AlertRaised(alert) => Some((
                alert.seen_by.clone(),
                alert.subject.clone(),
                alert.reputation.clone(),
            )),
            body => attack_of(body).map(|attack| {
                (
                    attack.seen_by.clone(),
                    attack.subject.clone(),
                    attack.reputation.clone(),
                )
            }),
        };
        let named = events.filter_map(of_event);
        let (seen_by, subject, reputation) = named
            .filter(|(seen_by, _, _)| !seen_by.packets.ranges.is_empty())
            .last()?;
        let held = covered(&seen_by);
        let is_exact = held == seen_by.packets.total;
        let addresses = subject.split(' ').filter_map(|part| part.parse().ok());
        Some(Counted {
            addresses: addresses.filter(|_| !is_exact).collect(),
            rows: rows.filter(|_| !is_exact),
            reputation,
            found: ExplainedPackets {
                collector: seen_by.collector.clone(),
                incarnation: seen_by.incarnation,
                interface: seen_by.interface.clone(),
                packets: Vec::new(),
                total: seen_by.packets.total,
                is_found: false,
            },
            seen_by,
            met: 0,
            verdicts: Vec::new(),
            is_past: false,
        })
    }

    pub(super) fn take(&mut self, observation: &Observation) {
        match &observation.body {
            Body::Verdict(verdict) => self.take_verdict(verdict),
            Body::Batch(batch) => {
                let origin = &observation.origin;
                if (origin.collector.as_str(), origin.incarnation)
                    == (self.seen_by.collector.as_str(), self.seen_by.incarnation)
                {
                    self.take_batch(batch);
                }
            }
            _ => {}
        }
    }

    /// Whether nothing more can be found.
    pub(super) fn is_complete(&self) -> bool {
        self.is_past
    }

    pub(super) fn finish(mut self) -> (ExplainedPackets, Vec<Verdict>) {
        self.found.is_found = self.met >= covered(&self.seen_by).min(self.seen_by.packets.total);
        (self.found, self.verdicts)
    }

    fn take_batch(&mut self, batch: &PacketBatch) {
        let Ok(view) = batch.view() else {
            return;
        };
        let last = self.seen_by.packets.ranges.last().map_or(0, |(_, last)| *last);
        if batch.first > last {
            self.is_past = true;
            return;
        }
        let (Some(first), Some(end)) = (self.seen_by.packets.ranges.first(), view.len().checked_sub(1))
        else {
            return;
        };
        if view.number(end) < first.0 {
            return;
        }
        let meeting = self.rows.as_mut().map(|rows| rows.rows(batch));
        for row in 0..view.len() {
            let number = view.number(row);
            let ranges = &self.seen_by.packets.ranges;
            let at = ranges.partition_point(|(_, last)| *last < number);
            if ranges.get(at).is_none_or(|(first, _)| number < *first) {
                continue;
            }
            self.met += 1;
            let meets = |rows: &Vec<u16>| rows.binary_search(&(row as u16)).is_ok();
            let counts = meeting.as_ref().is_none_or(meets) && self.is_about(&view, row);
            if counts && self.found.packets.len() < PACKETS_MAX {
                self.found.packets.push(explained(&view, row));
            }
        }
    }

    fn is_about(&self, view: &PacketView<'_>, row: usize) -> bool {
        let ends = [view.source(row), view.destination(row)];
        self.addresses
            .iter()
            .all(|address| ends.contains(&Some(*address)))
    }

    fn take_verdict(&mut self, verdict: &Verdict) {
        let asked = self.reputation.as_ref().map(|reputation| &reputation.subject);
        if asked == Some(&verdict.subject) && !self.is_past {
            self.verdicts.push(verdict.clone());
            if self.verdicts.len() > VERDICTS_MAX {
                self.verdicts.remove(0);
            }
        }
    }
}

/// How many packets the ranges hold.
fn covered(seen_by: &SeenBy) -> u64 {
    let lengths = seen_by.packets.ranges.iter();
    lengths
        .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
        .fold(0, u64::saturating_add)
}

fn explained(view: &PacketView<'_>, row: usize) -> ExplainedPacket {
    let protocol = view.protocol(row);
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string());
    let has_ports = matches!(protocol, 6 | 17 | 132);
    let flags = view.tcp_flags(row);
    let names = TCP_FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    let names: Vec<&str> = names.map(|(_, name)| *name).collect();
    ExplainedPacket {
        number: view.number(row),
        at: view.at(row),
        source: text(view.source(row)),
        source_port: has_ports.then(|| view.source_port(row)),
        destination: text(view.destination(row)),
        destination_port: has_ports.then(|| view.destination_port(row)),
        protocol: protocol_name(view, row),
        tcp_flags: names.join(" "),
        length: view.length(row),
        detail: detail(view.batch(), row),
    }
}

fn protocol_name(view: &PacketView<'_>, row: usize) -> String {
    let is_arp = || view.batch().arp.iter().any(|arp| usize::from(arp.row) == row);
    match view.protocol(row) {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        255 if is_arp() => "arp".to_owned(),
        other => other.to_string(),
    }
}

fn detail(batch: &PacketBatch, row: usize) -> Option<String> {
    let is_here = |at: u16| usize::from(at) == row;
    if let Some(dns) = batch.dns.iter().find(|dns| is_here(dns.row)) {
        return Some(dns.name.clone());
    }
    let arp = batch.arp.iter().find(|arp| is_here(arp.row))?;
    let address = core::net::Ipv4Addr::from(arp.sender_ip);
    let mac: Vec<String> = arp.sender_mac.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{address} is at {}", mac.join(":")))
}
