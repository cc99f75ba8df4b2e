//! A batch as rules read it: columns of numbers, its dictionary with what is known of each address, and the side tables by
//! row. Built once for each batch; nothing here is kept.

use core::net::IpAddr;

use watchfold_schemas::Time;
use watchfold_schemas::packets::{ArpRow, DnsRow, NO_ADDRESS, PacketBatch, PacketView, marks};

use super::arrivals::{Arrivals, hash_words};
use super::extract::addresses::{Class, Site};
use super::extract::dns::{NameFacts, facts};
use super::mask::Mask;
use super::protocols;
use crate::engine::print::Print;
use crate::engine::segment::Segment;

/// The protocol of what is not IP.
const NOT_IP: u8 = 255;

/// An address of the dictionary.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub address: IpAddr,
    pub print: Print,
    pub class: Class,
}

/// Columns of a batch.
pub struct Columns<'a> {
    pub view: PacketView<'a>,
    /// When each row counts: its time, or the newest before it where it came late.
    pub times: &'a [Time],
    pub known: Vec<Known>,
    pub sources: Vec<u16>,
    pub destinations: Vec<u16>,
    /// The destination where the source is private, else the source.
    pub external: Vec<u16>,
    pub source_ports: Vec<u16>,
    pub destination_ports: Vec<u16>,
    pub lengths: Vec<u16>,
    pub kinds: Kinds,
    pub names: Vec<NameFacts<'a>>,
    /// For each ARP row whether it is a reply that changes an owner; `None` for other messages.
    pub arp_changed: Vec<Option<bool>>,
    /// Copies of packets that were seen before.
    pub duplicates: Mask,
    segments: Segments,
    is_in_order: bool,
}

/// The segments of rows with a VLAN tag, by row.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<(u16, Segment)>);

impl Segments {
    pub fn of(batch: &PacketBatch) -> Segments {
        let tagged = batch.vlans.iter();
        let mut rows: Vec<(u16, Segment)> = tagged
            .map(|(row, vlan)| (*row, Segment::NONE.within(*vlan)))
            .collect();
        if !rows.is_sorted_by_key(|(row, _)| *row) {
            rows.sort_by_key(|(row, _)| *row);
        }
        for (row, vlan) in &batch.inner_vlans {
            if let Ok(place) = rows.binary_search_by_key(row, |(row, _)| *row) {
                rows[place].1 = rows[place].1.within(*vlan);
            }
        }
        rows.retain(|(_, segment)| *segment != Segment::NONE);
        Segments(rows)
    }

    pub fn of_row(&self, row: u16) -> Segment {
        let place = self.0.binary_search_by_key(&row, |(row, _)| *row);
        place.map_or(Segment::NONE, |place| self.0[place].1)
    }
}

/// Which rows are what.
pub struct Kinds {
    pub all: Mask,
    pub tcp: Mask,
    pub udp: Mask,
    pub icmp: Mask,
    pub icmpv6: Mask,
    pub arp: Mask,
    /// With the header that says ports, flags, or type and code.
    pub with_header: Mask,
    /// With ports.
    pub with_ports: Mask,
    /// TCP with flags.
    pub with_flags: Mask,
    /// ICMP or ICMPv6 with type and code.
    pub with_type: Mask,
}

impl<'a> Columns<'a> {
    pub fn of(
        view: PacketView<'a>,
        times: &'a [Time],
        site: &Site,
        arp_changed: Vec<Option<bool>>,
        duplicates: Mask,
        segments: Segments,
    ) -> Columns<'a> {
        let batch = view.batch();
        let known_of = |address: IpAddr| Known {
            address,
            print: Print::of_address(address),
            class: site.classify(address),
        };
        let mut known: Vec<Known> = (0..view.addresses() as u16)
            .filter_map(|index| view.address(index))
            .map(known_of)
            .collect();
        let mut sources: Vec<u16> = view.sources().collect();
        let mut destinations: Vec<u16> = view.destinations().collect();
        // An ARP message is no IP packet, so its addresses stand in no dictionary.
        for arp in &batch.arp {
            let row = usize::from(arp.row);
            for (column, octets) in [(&mut sources, arp.sender_ip), (&mut destinations, arp.target_ip)] {
                if column[row] == NO_ADDRESS && known.len() < usize::from(NO_ADDRESS) {
                    column[row] = known.len() as u16;
                    known.push(known_of(octets.into()));
                }
            }
        }
        tell_segments_apart(&segments, &mut known, [&mut sources, &mut destinations]);
        let is_private = |index: u16| {
            known
                .get(usize::from(index))
                .is_some_and(|known| known.class.private())
        };
        let external = sources
            .iter()
            .zip(&destinations)
            .map(|(source, destination)| {
                if is_private(*source) {
                    *destination
                } else {
                    *source
                }
            })
            .collect();
        Columns {
            kinds: Kinds::of(&view),
            view,
            times,
            known,
            sources,
            destinations,
            external,
            source_ports: view.source_ports().collect(),
            destination_ports: view.destination_ports().collect(),
            lengths: view.lengths().collect(),
            names: batch.dns.iter().map(|dns| facts(&dns.name)).collect(),
            arp_changed,
            duplicates,
            segments,
            is_in_order: are_in_order(batch),
        }
    }

    pub fn batch(&self) -> &'a PacketBatch {
        self.view.batch()
    }

    pub fn len(&self) -> usize {
        self.view.len()
    }

    pub fn known(&self, index: u16) -> Option<&Known> {
        self.known.get(usize::from(index))
    }

    /// The DNS message of a row, and what its name is made of.
    pub fn dns(&self, row: u16) -> Option<(&'a DnsRow, &NameFacts<'a>)> {
        let rows = &self.batch().dns;
        let number = found(rows, row, self.is_in_order, |dns| dns.row)?;
        Some((&rows[number], &self.names[number]))
    }

    /// The ARP message of a row, and whether it changes an owner.
    pub fn arp(&self, row: u16) -> Option<(&'a ArpRow, Option<bool>)> {
        let rows = &self.batch().arp;
        let number = found(rows, row, self.is_in_order, |arp| arp.row)?;
        Some((&rows[number], self.arp_changed.get(number).copied().flatten()))
    }

    pub fn vlan(&self, row: u16) -> Option<u16> {
        let rows = &self.batch().vlans;
        found(rows, row, self.is_in_order, |(row, _)| *row).map(|number| rows[number].1)
    }

    pub fn inner_vlan(&self, row: u16) -> Option<u16> {
        let rows = &self.batch().inner_vlans;
        found(rows, row, self.is_in_order, |(row, _)| *row).map(|number| rows[number].1)
    }

    pub fn segment(&self, row: u16) -> Segment {
        self.segments.of_row(row)
    }

    pub fn tls_name(&self, row: u16) -> Option<&'a str> {
        let rows = &self.batch().tls_names;
        found(rows, row, self.is_in_order, |(row, _)| *row).map(|number| rows[number].1.as_str())
    }

    pub fn http_host(&self, row: u16) -> Option<&'a str> {
        let rows = &self.batch().http_hosts;
        found(rows, row, self.is_in_order, |(row, _)| *row).map(|number| rows[number].1.as_str())
    }

    pub fn head(&self, row: u16) -> Option<&'a [u8]> {
        let rows = &self.batch().heads;
        found(rows, row, self.is_in_order, |head| head.row).map(|number| rows[number].bytes.as_slice())
    }
}

/// Gives an address an entry of its own for each segment that it is seen in, so that every column of addresses tells them
/// apart.
fn tell_segments_apart(segments: &Segments, known: &mut Vec<Known>, columns: [&mut Vec<u16>; 2]) {
    let mut entries: Arrivals<(Segment, u16, u16)> = Arrivals::default();
    for column in columns {
        for (row, segment) in &segments.0 {
            let index = column[usize::from(*row)];
            let Some(address) = known.get(usize::from(index)).copied() else {
                continue;
            };
            // Of this batch alone, so no hash has to be kept from anybody.
            let hash = hash_words(0, &[u64::from(segment.0), u64::from(index)]);
            let entry = entries.find(hash, |entry| (entry.0, entry.1) == (*segment, index));
            if let Some((_, _, here)) = entry.and_then(|slot| entries.get(slot)) {
                column[usize::from(*row)] = *here;
            } else if known.len() < usize::from(NO_ADDRESS) {
                let here = known.len() as u16;
                entries.push(hash, (*segment, index, here));
                column[usize::from(*row)] = here;
                known.push(Known {
                    print: segment.print(address.print),
                    ..address
                });
            }
        }
    }
}

/// Where a side table has this row.
fn found<T>(rows: &[T], row: u16, is_in_order: bool, row_of: impl Fn(&T) -> u16) -> Option<usize> {
    if is_in_order {
        return rows.binary_search_by_key(&row, row_of).ok();
    }
    rows.iter().position(|entry| row_of(entry) == row)
}

/// Whether every side table has its rows in their order, as builders write them. One that has not is searched whole.
fn are_in_order(batch: &PacketBatch) -> bool {
    batch.dns.is_sorted_by_key(|dns| dns.row)
        && batch.arp.is_sorted_by_key(|arp| arp.row)
        && batch.vlans.is_sorted_by_key(|(row, _)| *row)
        && batch.inner_vlans.is_sorted_by_key(|(row, _)| *row)
        && batch.tls_names.is_sorted_by_key(|(row, _)| *row)
        && batch.http_hosts.is_sorted_by_key(|(row, _)| *row)
        && batch.heads.is_sorted_by_key(|head| head.row)
}

impl Kinds {
    fn of(view: &PacketView<'_>) -> Kinds {
        let all = Mask::all(view.len());
        let protocol = |wanted: u8| Mask::of(view.protocols(), |protocol| protocol == wanted);
        let (tcp, udp) = (protocol(protocols::TCP), protocol(protocols::UDP));
        let (icmp, icmpv6) = (protocol(protocols::ICMP), protocol(protocols::ICMPV6));
        let mut arp = Mask::EMPTY;
        for row in &view.batch().arp {
            arp.set(row.row);
        }
        arp.and(&protocol(NOT_IP));
        let mut with_header = all.clone();
        with_header.without(&Mask::of(view.all_marks(), |bits| {
            bits & marks::LATER_FRAGMENT != 0
        }));
        let headed = |one: &Mask, other: &Mask| {
            let mut out = one.clone();
            out.or(other);
            out.and(&with_header);
            out
        };
        Kinds {
            with_ports: headed(&tcp, &udp),
            with_flags: headed(&tcp, &tcp),
            with_type: headed(&icmp, &icmpv6),
            all,
            tcp,
            udp,
            icmp,
            icmpv6,
            arp,
            with_header,
        }
    }
}
