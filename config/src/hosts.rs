//! Ranges, CIDR blocks and lists of PCs, as one list without repetitions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watchfold_schemas::config::{PCS_MAX, PcHost};

use super::Problems;
use super::file::{Host, Range};

/// The PCs in the order of the file. Hosts given by name take the place of the same address in a range.
pub fn hosts(ranges: &[Range], named: &[Host], problems: &mut Problems) -> Vec<PcHost> {
    let mut out: Vec<PcHost> = Vec::new();
    // The key of the file that each of them is from.
    let mut keys: Vec<String> = Vec::new();
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    for (index, range) in ranges.iter().enumerate() {
        let key = format!("occupancy.ranges[{index}]");
        match addresses(range) {
            Ok(addresses) => {
                let pattern = range.name.as_deref().unwrap_or("PC-{n}");
                for address in addresses {
                    let number = numbers.entry(pattern).or_default();
                    *number += 1;
                    let name = pattern.replace("{n}", &number.to_string());
                    out.push(PcHost {
                        address: address.to_string(),
                        mac: None,
                        name,
                    });
                    keys.push(key.clone());
                }
            }
            Err(why) => problems.push(key.as_str(), format!("{key}: {why}")),
        }
    }
    for (index, host) in named.iter().enumerate() {
        let key = format!("occupancy.hosts[{index}]");
        match pc(host) {
            Ok(pc) => match out.iter().position(|other| other.address == pc.address) {
                Some(place) => (out[place], keys[place]) = (pc, key),
                None => {
                    out.push(pc);
                    keys.push(key);
                }
            },
            Err(why) => problems.push(key, format!("occupancy.hosts {:?}: {why}", host.name)),
        }
    }
    refuse_repetitions(&out, &keys, problems);
    if out.len() > PCS_MAX {
        problems.push(
            "occupancy",
            format!(
                "occupancy: {} PCs, and the limit is {PCS_MAX}: watch fewer from one place",
                out.len()
            ),
        );
    }
    out
}

fn refuse_repetitions(hosts: &[PcHost], from: &[String], problems: &mut Problems) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for (host, from) in hosts.iter().zip(from) {
        if let Some(other) = keys.insert(host.key(), &host.name) {
            problems.push(
                from,
                format!(
                    "occupancy: {} is given twice, as {other} and {}",
                    host.key(),
                    host.name
                ),
            );
        }
        if let Some(other) = names.insert(&host.name, &host.address) {
            problems.push(
                from,
                format!("occupancy: {} names both {other} and {}", host.name, host.address),
            );
        }
    }
}

fn pc(host: &Host) -> Result<PcHost, String> {
    let address: IpAddr = host
        .address
        .parse()
        .map_err(|_| format!("{:?} is not an IPv4 or IPv6 address", host.address))?;
    let mac = host.mac.as_deref().map(read_mac).transpose()?;
    if host.name.trim().is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok(PcHost {
        address: address.to_string(),
        mac,
        name: host.name.trim().to_owned(),
    })
}

fn read_mac(text: &str) -> Result<String, String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | '.'))
        .collect::<String>()
        .to_lowercase();
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "{text:?} is not a hardware address: write it as 02:00:5e:10:00:01"
        ));
    }
    let pairs: Vec<&str> = (0..6).map(|i| &digits[i * 2..i * 2 + 2]).collect();
    Ok(pairs.join(":"))
}

fn addresses(range: &Range) -> Result<Vec<IpAddr>, String> {
    match (&range.from, range.count, &range.cidr) {
        (Some(from), Some(count), None) => counted(from, count),
        (None, None, Some(cidr)) => block(cidr),
        _ => Err("give either from and count, or cidr".to_owned()),
    }
}

fn counted(from: &str, count: u32) -> Result<Vec<IpAddr>, String> {
    let first: IpAddr = from
        .parse()
        .map_err(|_| format!("from {from:?} is not an IPv4 or IPv6 address"))?;
    if count == 0 || count as usize > PCS_MAX {
        return Err(format!("count {count} is not between 1 and {PCS_MAX}"));
    }
    match first {
        IpAddr::V4(first) => {
            let last = u64::from(u32::from(first)) + u64::from(count) - 1;
            let same_subnet = last >> 8 == u64::from(u32::from(first)) >> 8;
            if !same_subnet || last & 0xff == 0xff {
                let fits = 254u32.saturating_sub(u32::from(first.octets()[3])) + 1;
                return Err(format!(
                    "{count} PCs from {first} go past the end of its /24: at most {fits} fit; use several ranges or cidr"
                ));
            }
            Ok((u32::from(first)..=last as u32)
                .map(|address| Ipv4Addr::from(address).into())
                .collect())
        }
        IpAddr::V6(first) => {
            let first = u128::from(first);
            let last = first
                .checked_add(u128::from(count) - 1)
                .ok_or("it goes past the last address")?;
            Ok((first..=last)
                .map(|address| Ipv6Addr::from(address).into())
                .collect())
        }
    }
}

/// All host addresses of an IPv4 block, without network and broadcast address.
fn block(cidr: &str) -> Result<Vec<IpAddr>, String> {
    let wrong = || format!("cidr {cidr:?} is not an IPv4 block such as 192.168.1.0/24");
    let (address, bits) = cidr.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u32 = bits.parse().map_err(|_| wrong())?;
    if !(20..=32).contains(&bits) {
        return Err(format!(
            "cidr {cidr:?} is larger than a /20, the most that one collector sweeps"
        ));
    }
    let size = 1u32 << (32 - bits);
    let network = u32::from(address) & !(size - 1);
    let inner = if size <= 2 {
        network..=network + (size - 1)
    } else {
        network + 1..=network + (size - 2)
    };
    Ok(inner.map(|address| Ipv4Addr::from(address).into()).collect())
}
