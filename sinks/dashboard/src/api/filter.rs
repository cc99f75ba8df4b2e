//! Which alerts are asked for: the parameters that the list and all exports share.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use watchfold_schemas::Time;
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::RuleState;
use watchfold_web::ApiError;

use super::params::Params;
use crate::projection::shapes::AlertShown;

/// The longest text that is looked for, in characters.
pub const TEXT_CHARS_MAX: usize = 200;

/// The names of the parameters.
pub const NAMES: [&str; 10] = [
    "severity",
    "category",
    "rule",
    "source",
    "destination",
    "state",
    "from",
    "to",
    "text",
    "attack",
];

/// All of them must hold; what is absent holds.
#[derive(Debug, Default)]
pub struct AlertFilter {
    severity: Option<Severity>,
    category: Option<String>,
    /// A rule's name or id.
    rule: Option<String>,
    source: Option<Network>,
    destination: Option<Network>,
    state: Option<RuleState>,
    from: Option<Time>,
    to: Option<Time>,
    /// In lower case.
    text: Option<String>,
    attack: Option<String>,
}

impl AlertFilter {
    pub fn of(params: &Params) -> Result<AlertFilter, ApiError> {
        let text = |name| params.get(name).map(str::to_owned);
        let filter = AlertFilter {
            severity: word(params, "severity", "info, low, medium, high or critical")?,
            category: text("category"),
            rule: text("rule"),
            source: network(params, "source")?,
            destination: network(params, "destination")?,
            state: word(params, "state", "enforce or record")?,
            from: params.time("from")?,
            to: params.time("to")?,
            text: text("text").map(|text| text.to_lowercase()),
            attack: text("attack"),
        };
        if filter.from.is_some() && filter.to.is_some() && filter.from >= filter.to {
            return Err(ApiError::parameter("from", "a time before `to`"));
        }
        if filter
            .text
            .as_ref()
            .is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX)
        {
            return Err(ApiError::parameter(
                "text",
                &format!("at most {TEXT_CHARS_MAX} characters"),
            ));
        }
        Ok(filter)
    }

    pub fn takes(&self, shown: &AlertShown) -> bool {
        let alert = &shown.alert;
        let within = |network: &Option<Network>, ip: &Option<String>| {
            network
                .as_ref()
                .is_none_or(|network| ip.as_deref().is_some_and(|ip| network.holds(ip)))
        };
        self.severity.is_none_or(|least| alert.severity >= least)
            && self.state.is_none_or(|state| alert.state == state)
            && self.from.is_none_or(|from| shown.at >= from)
            && self.to.is_none_or(|to| shown.at < to)
            && self
                .category
                .as_ref()
                .is_none_or(|wanted| *wanted == alert.category)
            && self
                .rule
                .as_ref()
                .is_none_or(|wanted| *wanted == alert.rule.name || *wanted == alert.rule.id)
            && self.attack.as_ref().is_none_or(|wanted| *wanted == alert.attack)
            && within(&self.source, &alert.source.ip)
            && within(&self.destination, &alert.destination.ip)
            && self.text.as_ref().is_none_or(|wanted| mentions(shown, wanted))
    }
}

/// Whether any of what people read of an alert holds `wanted`, which is in lower case.
fn mentions(shown: &AlertShown, wanted: &str) -> bool {
    let alert = &shown.alert;
    let ends = [&alert.source, &alert.destination].into_iter();
    let of_ends = ends
        .flat_map(|end| end.ip.iter().chain(&end.mac))
        .map(String::as_str);
    let facts = alert.facts.iter().map(|(_, value)| value.as_str());
    let mut texts = [
        alert.category.as_str(),
        &alert.rule.name,
        &alert.rule.title,
        &alert.subject,
        &alert.message,
        &alert.transport,
        &alert.seen_by.collector,
        &alert.seen_by.interface,
    ]
    .into_iter()
    .chain(of_ends)
    .chain(facts)
    .chain(alert.community_id.as_deref());
    texts.any(|text| text.to_lowercase().contains(wanted))
}

fn word<'de, T: Deserialize<'de>>(
    params: &'de Params,
    name: &str,
    wanted: &str,
) -> Result<Option<T>, ApiError> {
    let parsed = params
        .get(name)
        .map(|text| T::deserialize(StrDeserializer::<ValueError>::new(text)));
    parsed.transpose().map_err(|_| ApiError::parameter(name, wanted))
}

/// Addresses whose first `bits` are those of `address`.
#[derive(Debug)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn holds(&self, ip: &str) -> bool {
        match (self.address, ip.parse()) {
            (IpAddr::V4(own), Ok(IpAddr::V4(other))) => {
                same_beginning(own.to_bits().into(), other.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(own), Ok(IpAddr::V6(other))) => {
                same_beginning(own.to_bits(), other.to_bits(), 128 - self.bits)
            }
            _ => false,
        }
    }
}

/// Whether two addresses are the same but for their last `rest` bits.
fn same_beginning(own: u128, other: u128, rest: u32) -> bool {
    (own ^ other).checked_shr(rest).unwrap_or(0) == 0
}

fn network(params: &Params, name: &str) -> Result<Option<Network>, ApiError> {
    let parse = |text: &str| -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Network { address, bits })
    };
    let parsed = params.get(name).map(|text| {
        parse(text).ok_or_else(|| ApiError::parameter(name, "an address or a network such as 10.0.0.0/8"))
    });
    parsed.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, ip, want) in [
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::2", true),
            ("2001:db8::/32", "2001:db9::2", false),
            ("::/0", "2001:db9::2", true),
            ("::1", "::1", true),
        ] {
            let (address, bits) = network.split_once('/').unwrap_or((network, ""));
            let address: IpAddr = address.parse().unwrap();
            let bits = bits.parse().unwrap_or(if address.is_ipv4() { 32 } else { 128 });
            let found = Network { address, bits }.holds(ip);
            assert_eq!(found, want, "{ip} in {network}");
        }
    }
}
