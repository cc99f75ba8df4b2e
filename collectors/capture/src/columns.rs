//! Rows of a batch until it is taken, and the dictionary of their addresses. Pure.
//!
//! A row is written once, in one piece; columns are made of all rows together, so that each has its own size and one loop.

use core::net::IpAddr;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use watchfold_schemas::packets::{NO_ADDRESS, PacketBatch};

/// Addresses whose place is found without a look into the map: most packets are of few addresses.
const RECENT: usize = 1 << RECENT_BITS;
const RECENT_BITS: u32 = 11;

/// Spreads addresses over [`RECENT`]: two to the power of 64, divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One packet without its side tables.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub at_ns: i32,
    pub number: i32,
    /// Numbers of [`Dictionary::index`].
    pub source: u16,
    pub destination: u16,
    pub source_port: u16,
    pub destination_port: u16,
    pub length: u16,
    pub protocol: u8,
    pub tcp_flags: u8,
    pub marks: u8,
}

/// Writes the columns and the dictionary.
pub fn write(rows: &[Row], dictionary: &Dictionary, batch: &mut PacketBatch) {
    let places = dictionary.write(batch);
    let place = |index: u16| places.get(usize::from(index)).copied().unwrap_or(NO_ADDRESS);
    batch.at_ns = column(rows, |row| row.at_ns.to_le_bytes());
    if !count_on(rows) {
        batch.numbers = column(rows, |row| row.number.to_le_bytes());
    }
    batch.sources = column(rows, |row| place(row.source).to_le_bytes());
    batch.destinations = column(rows, |row| place(row.destination).to_le_bytes());
    batch.source_ports = column(rows, |row| row.source_port.to_le_bytes());
    batch.destination_ports = column(rows, |row| row.destination_port.to_le_bytes());
    batch.lengths = column(rows, |row| row.length.to_le_bytes());
    batch.protocols = column(rows, |row| [row.protocol]);
    batch.tcp_flags = column(rows, |row| [row.tcp_flags]);
    batch.marks = column(rows, |row| [row.marks]);
}

fn column<const BYTES: usize>(rows: &[Row], value: impl Fn(&Row) -> [u8; BYTES]) -> Vec<u8> {
    let mut out = vec![0; rows.len() * BYTES];
    for (bytes, row) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(rows) {
        *bytes = value(row);
    }
    out
}

/// Whether numbers grow by one from 0 on, so that they need not be written.
fn count_on(rows: &[Row]) -> bool {
    rows.iter()
        .enumerate()
        .all(|(place, row)| row.number as usize == place)
}

/// The addresses of a batch in the order of their first packet; IPv6 is moved behind IPv4 when it is written.
pub struct Dictionary {
    indices: HashMap<IpAddr, u16, RandomState>,
    addresses: Vec<IpAddr>,
    /// By a hash that anybody may know: what does not stand there is looked up in the map.
    recent: Box<[Recent; RECENT]>,
    /// Counts batches from 1, so that nothing has to be cleared between them.
    batch: u32,
}

/// Where the last address of this hash stands, in this batch.
#[derive(Clone, Copy, Default)]
struct Recent {
    /// What [`word_of`] makes of the address: an IPv4 address is known by it alone.
    word: u64,
    batch: u32,
    index: u16,
    is_v4: bool,
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        Dictionary {
            indices: HashMap::default(),
            addresses: Vec::new(),
            recent: Box::new([Recent::default(); RECENT]),
            batch: 1,
        }
    }
}

impl Dictionary {
    /// The number of an address in this batch.
    #[inline]
    pub fn index(&mut self, address: Option<IpAddr>) -> u16 {
        let Some(address) = address else {
            return NO_ADDRESS;
        };
        let (word, is_v4) = (word_of(address), address.is_ipv4());
        let place = word.wrapping_mul(SPREAD) >> (u64::BITS - RECENT_BITS);
        let recent = &mut self.recent[place as usize];
        if (recent.batch, recent.word, recent.is_v4) == (self.batch, word, is_v4)
            && (is_v4 || self.addresses.get(usize::from(recent.index)) == Some(&address))
        {
            return recent.index;
        }
        // Two for each row at most, so that 16 bits always do.
        let next = self.addresses.len() as u16;
        let addresses = &mut self.addresses;
        let index = *self.indices.entry(address).or_insert_with(|| {
            addresses.push(address);
            next
        });
        *recent = Recent {
            word,
            batch: self.batch,
            index,
            is_v4,
        };
        index
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.indices.clear();
        self.addresses.clear();
        self.batch = self.batch.wrapping_add(1);
        if self.batch == 0 {
            self.recent.fill(Recent::default());
            self.batch = 1;
        }
    }

    /// Writes the addresses, IPv4 first, and says where each number stands.
    fn write(&self, batch: &mut PacketBatch) -> Vec<u16> {
        let v4_count = self.addresses.iter().filter(|address| address.is_ipv4()).count() as u16;
        let (mut next_v4, mut next_v6) = (0, v4_count);
        let mut places = Vec::with_capacity(self.addresses.len());
        for address in &self.addresses {
            let next = match address {
                IpAddr::V4(address) => {
                    batch.v4.extend_from_slice(&address.octets());
                    &mut next_v4
                }
                IpAddr::V6(address) => {
                    batch.v6.extend_from_slice(&address.octets());
                    &mut next_v6
                }
            };
            places.push(*next);
            *next += 1;
        }
        places
    }
}

/// An IPv4 address, or both halves of an IPv6 one.
fn word_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn an_address_has_one_number_whichever_others_share_its_place() {
        let mut dictionary = Dictionary::default();
        for _ in 0..3 {
            // Many times more than places for recent ones.
            let addresses: Vec<IpAddr> = (0..RECENT as u32 * 8)
                .map(|number| match number % 3 {
                    0 => Ipv6Addr::from_bits(u128::from(number) << 64 | 7).into(),
                    _ => Ipv4Addr::from_bits(number).into(),
                })
                .collect();
            for _ in 0..2 {
                for (number, address) in addresses.iter().enumerate() {
                    assert_eq!(dictionary.index(Some(*address)), number as u16);
                    assert_eq!(dictionary.index(Some(addresses[0])), 0);
                }
            }
            assert_eq!(dictionary.index(None), NO_ADDRESS);
            dictionary.clear();
        }
    }
}
