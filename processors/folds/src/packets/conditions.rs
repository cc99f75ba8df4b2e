//! Conditions over a whole batch: each check once over its column, then the rules' expressions over sets of rows.
//!
//! A check on a column that every packet has runs over the column. A check on a side table runs over that table's rows
//! alone. What a row says of a field is the same as [`super::rows::PacketRow`] says, which a property test holds.

use watchfold_schemas::Time;
use watchfold_schemas::fields::Field;
use watchfold_schemas::packets::marks;

use super::columns::{Columns, Known};
use super::extract::addresses::{Class, Site};
use super::mask::Mask;
use super::rows::payload_text;
use crate::engine::cell::Cell;
use crate::engine::check::Check;
use crate::engine::compile::Leaf;
use crate::engine::expression::Expression;

/// More ranges than this are looked up in a table of all numbers instead of being tried one by one.
const RANGES_TRIED: usize = 2;

/// How many values 16 bits have.
const NARROW_VALUES: usize = 1 << 16;

/// One check, ready for columns.
#[derive(Debug)]
pub struct ColumnCheck {
    field: Field,
    check: Check,
    /// For numbers of 16 bits: which of them meet the check, where there are many ranges.
    table: Option<Box<[bool]>>,
}

impl ColumnCheck {
    pub fn of(leaf: &Leaf) -> ColumnCheck {
        let table = match &leaf.check {
            Check::Numbers(ranges) if ranges.as_slice().len() > RANGES_TRIED => Some(
                (0..NARROW_VALUES)
                    .map(|value| ranges.contains(value as i64))
                    .collect(),
            ),
            _ => None,
        };
        ColumnCheck {
            field: leaf.field,
            check: leaf.check.clone(),
            table,
        }
    }

    /// The rows that meet it.
    pub fn rows(&self, columns: &Columns<'_>, site: &Site) -> Mask {
        let kinds = &columns.kinds;
        match self.field {
            Field::SourceIp => self.addresses(columns, &columns.sources),
            Field::DestinationIp => self.addresses(columns, &columns.destinations),
            Field::ExternalIp => self.addresses(columns, &columns.external),
            Field::SourcePrivate => self.classes(columns, &columns.sources, Class::private),
            Field::DestinationPrivate => self.classes(columns, &columns.destinations, Class::private),
            Field::SourceExternal => self.classes(columns, &columns.sources, Class::external),
            Field::DestinationExternal => self.classes(columns, &columns.destinations, Class::external),
            Field::SourcePort => self.numbers(&columns.source_ports, &kinds.with_ports),
            Field::DestinationPort => self.numbers(&columns.destination_ports, &kinds.with_ports),
            Field::IcmpType => self.numbers(&columns.source_ports, &kinds.with_type),
            Field::IcmpCode => self.numbers(&columns.destination_ports, &kinds.with_type),
            Field::Bytes => self.numbers(&columns.lengths, &kinds.all),
            Field::TcpFlags => self.bytes(columns.view.all_tcp_flags(), &kinds.with_flags),
            Field::TcpSyn => self.bits(columns.view.all_tcp_flags(), 2, &kinds.with_flags),
            Field::TcpAck => self.bits(columns.view.all_tcp_flags(), 16, &kinds.with_flags),
            Field::TcpFin => self.bits(columns.view.all_tcp_flags(), 1, &kinds.with_flags),
            Field::TcpRst => self.bits(columns.view.all_tcp_flags(), 4, &kinds.with_flags),
            Field::LaterFragment => self.bits(columns.view.all_marks(), marks::LATER_FRAGMENT, &kinds.all),
            Field::Truncated => self.bits(columns.view.all_marks(), marks::TRUNCATED, &kinds.all),
            Field::Malformed => self.bits(columns.view.all_marks(), marks::MALFORMED, &kinds.all),
            Field::Tunnelled => self.bits(columns.view.all_marks(), marks::TUNNELLED, &kinds.all),
            Field::HasPayload => self.bits(columns.view.all_marks(), marks::PAYLOAD, &kinds.all),
            Field::Transport => self.transports(columns),
            Field::OwnService => self.own_service(columns, site),
            Field::Duplicate => self.truths(columns.duplicates.clone(), &kinds.all, columns),
            _ => self.side_table(columns),
        }
    }

    /// What rows say that lack the field.
    fn wants_missing(&self) -> bool {
        self.check == Check::Exists(false)
    }

    /// Those of `there` that meet the check, which have the field, and where it asks for them those that lack it.
    fn within(&self, met: Mask, there: &Mask, columns: &Columns<'_>) -> Mask {
        let mut out = if self.wants_missing() {
            let mut missing = columns.kinds.all.clone();
            missing.without(there);
            return missing;
        } else {
            met
        };
        out.and(there);
        out
    }

    fn truths(&self, truths: Mask, there: &Mask, columns: &Columns<'_>) -> Mask {
        let met = match self.check {
            Check::Truth(false) => {
                let mut out = columns.kinds.all.clone();
                out.without(&truths);
                out
            }
            Check::Truth(true) => truths,
            Check::Exists(true) => there.clone(),
            _ => Mask::EMPTY,
        };
        self.within(met, there, columns)
    }

    fn bits(&self, column: &[u8], bit: u8, there: &Mask) -> Mask {
        let (wanted, is_exists) = match self.check {
            Check::Truth(wanted) => (wanted, false),
            Check::Exists(wanted) => (wanted, true),
            _ => return Mask::EMPTY,
        };
        let mut met = match (is_exists, wanted) {
            (true, true) => return there.clone(),
            (true, false) => {
                let mut missing = Mask::all(column.len());
                missing.without(there);
                return missing;
            }
            (false, true) => Mask::of(column, |flags: u8| flags & bit != 0),
            (false, false) => Mask::of(column, |flags: u8| flags & bit == 0),
        };
        met.and(there);
        met
    }

    fn bytes(&self, column: &[u8], there: &Mask) -> Mask {
        let mut table = [false; 256];
        for (value, met) in table.iter_mut().enumerate() {
            *met = self.check.holds(Some(&Cell::Number(value as i64)));
        }
        let mut met = Mask::of(column, |value: u8| table[usize::from(value)]);
        if self.wants_missing() {
            met = Mask::all(column.len());
            met.without(there);
            return met;
        }
        met.and(there);
        met
    }

    fn numbers(&self, column: &[u16], there: &Mask) -> Mask {
        let mut met = match (&self.check, &self.table) {
            (Check::Exists(true), _) => return there.clone(),
            (Check::Exists(false), _) => {
                let mut missing = Mask::all(column.len());
                missing.without(there);
                return missing;
            }
            (_, Some(table)) => Mask::of(column, |value: u16| table[usize::from(value)]),
            (Check::Numbers(ranges), None) => ranges
                .as_slice()
                .iter()
                .filter_map(|(from, to)| narrow(*from, *to))
                .fold(Mask::EMPTY, |mut met, (from, to)| {
                    met.or(&Mask::of(column, |value: u16| from <= value && value <= to));
                    met
                }),
            _ => Mask::EMPTY,
        };
        met.and(there);
        met
    }

    /// Once for each address of the dictionary, then by index for each row.
    fn by_address(&self, columns: &Columns<'_>, indices: &[u16], met: impl Fn(&Known) -> bool) -> Mask {
        let mut table: Vec<bool> = columns.known.iter().map(met).collect();
        let known = table.len();
        // What has no address looks here.
        table.push(false);
        Mask::of(indices, |index: u16| table[usize::from(index).min(known)])
    }

    fn addresses(&self, columns: &Columns<'_>, indices: &[u16]) -> Mask {
        let there = self.by_address(columns, indices, |_| true);
        let met = self.by_address(columns, indices, |known| {
            self.check.holds(Some(&Cell::Address(known.address)))
        });
        self.within(met, &there, columns)
    }

    fn classes(&self, columns: &Columns<'_>, indices: &[u16], is: fn(Class) -> bool) -> Mask {
        let there = self.by_address(columns, indices, |_| true);
        let truths = self.by_address(columns, indices, |known| is(known.class));
        self.truths(truths, &there, columns)
    }

    fn transports(&self, columns: &Columns<'_>) -> Mask {
        let kinds = &columns.kinds;
        let words = [
            ("tcp", &kinds.tcp),
            ("udp", &kinds.udp),
            ("icmp", &kinds.icmp),
            ("icmpv6", &kinds.icmpv6),
            ("arp", &kinds.arp),
        ];
        let mut met = Mask::EMPTY;
        let mut other = kinds.all.clone();
        for (word, rows) in words {
            other.without(rows);
            if self.check.holds(Some(&Cell::text(word))) {
                met.or(rows);
            }
        }
        if self.check.holds(Some(&Cell::text("other"))) {
            met.or(&other);
        }
        self.within(met, &kinds.all, columns)
    }

    fn own_service(&self, columns: &Columns<'_>, site: &Site) -> Mask {
        let mut truths = Mask::EMPTY;
        if columns.known.iter().any(|known| known.class.own_address()) {
            let ends = [
                (&columns.sources, &columns.source_ports),
                (&columns.destinations, &columns.destination_ports),
            ];
            for row in columns.kinds.with_ports.rows() {
                let at = usize::from(row);
                let is_own = ends.iter().any(|(addresses, ports)| {
                    let known = columns.known(addresses[at]);
                    known.is_some_and(|known| site.is_own_service(known.class, ports[at]))
                });
                if is_own {
                    truths.set(row);
                }
            }
        }
        self.truths(truths, &columns.kinds.all, columns)
    }

    /// Checks on what few rows have run over these alone.
    fn side_table(&self, columns: &Columns<'_>) -> Mask {
        let batch = columns.batch();
        let (mut met, mut there) = (Mask::EMPTY, Mask::EMPTY);
        let mut see = |row: u16, cell: Option<Cell<'_>>| {
            if let Some(cell) = cell {
                there.set(row);
                if self.check.holds(Some(&cell)) {
                    met.set(row);
                }
            }
        };
        let number = |number: u32| Some(Cell::Number(i64::from(number)));
        match self.field {
            Field::Vlan => batch
                .vlans
                .iter()
                .for_each(|(row, vlan)| see(*row, number(u32::from(*vlan)))),
            Field::InnerVlan => batch
                .inner_vlans
                .iter()
                .for_each(|(row, vlan)| see(*row, number(u32::from(*vlan)))),
            Field::TlsServerName => batch
                .tls_names
                .iter()
                .for_each(|(row, name)| see(*row, Some(Cell::text(name)))),
            Field::HttpHost => batch
                .http_hosts
                .iter()
                .for_each(|(row, host)| see(*row, Some(Cell::text(host)))),
            Field::PayloadText => batch.heads.iter().for_each(|head| {
                let text = payload_text(&head.bytes);
                see(head.row, Some(Cell::text(&text)));
            }),
            Field::ArpReplyChanged => {
                batch
                    .arp
                    .iter()
                    .zip(&columns.arp_changed)
                    .for_each(|(arp, changed)| {
                        see(arp.row, changed.map(Cell::Truth));
                    })
            }
            field => batch.dns.iter().zip(&columns.names).for_each(|(dns, name)| {
                let cell = match field {
                    Field::DnsName => Some(Cell::text(&dns.name)),
                    Field::DnsLength => number(name.length),
                    Field::DnsZone => Some(Cell::text(name.zone)),
                    Field::DnsSubdomainEntropy => number(name.entropy_centibits),
                    Field::DnsSubdomainLength => number(name.subdomain_length),
                    Field::DnsLabelLength => number(name.label_length_max),
                    Field::DnsType => number(u32::from(dns.query_type)),
                    Field::DnsIsResponse => Some(Cell::Truth(dns.is_response)),
                    Field::DnsResponseCode => number(u32::from(dns.response_code)),
                    Field::DnsAnswers => number(u32::from(dns.answers)),
                    _ => None,
                };
                see(dns.row, cell);
            }),
        }
        self.within(met, &there, columns)
    }
}

/// The part of a range that 16 bits can hold.
fn narrow(from: i64, to: i64) -> Option<(u16, u16)> {
    let (from, to) = (from.max(0), to.min(i64::from(u16::MAX)));
    (from <= to).then_some((from as u16, to as u16))
}

/// The rows that meet an expression, given those that meet each check and the time of each row.
pub fn rows_of(expression: &Expression, leaves: &[Option<Mask>], all: &Mask, times: &[Time]) -> Mask {
    match expression {
        Expression::Leaf(number) => match leaves.get(*number) {
            Some(Some(rows)) => rows.clone(),
            _ => Mask::EMPTY,
        },
        Expression::Before(until) => {
            let mut out = Mask::of(times, |at| at < *until);
            out.and(all);
            out
        }
        Expression::Not(part) => {
            let mut out = all.clone();
            out.without(&rows_of(part, leaves, all, times));
            out
        }
        Expression::All(parts) => parts.iter().fold(all.clone(), |mut out, part| {
            if !out.is_empty() {
                out.and(&rows_of(part, leaves, all, times));
            }
            out
        }),
        Expression::Any(parts) => parts.iter().fold(Mask::EMPTY, |mut out, part| {
            out.or(&rows_of(part, leaves, all, times));
            out
        }),
    }
}

#[cfg(test)]
mod tests;
