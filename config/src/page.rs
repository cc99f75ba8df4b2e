//! Under which names and through which proxies the page is reached.

use std::net::IpAddr;
use std::str::FromStr;

use super::Problems;
use super::check::is_host_name;

/// Names and proxies in one list each.
pub const PAGE_ENTRIES_MAX: usize = 32;

/// The part of `[dashboard]` that says from where the page may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageAccess {
    /// The address of the page for readers of messages, with its scheme.
    pub public_url: Option<String>,
    /// Host names of the page, besides those that it knows by itself.
    pub hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-Proto` counts.
    pub proxies: Vec<AddressBlock>,
}

/// The addresses that share their first `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    address: IpAddr,
    bits: u32,
}

impl AddressBlock {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let differ = |own: u128, other: u128, rest: u32| (own ^ other).checked_shr(rest).unwrap_or(0) != 0;
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                !differ(own.to_bits().into(), other.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => !differ(own.to_bits(), other.to_bits(), 128 - self.bits),
            _ => false,
        }
    }
}

impl FromStr for AddressBlock {
    type Err = ();

    fn from_str(text: &str) -> Result<AddressBlock, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(drop)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        match bits <= all {
            true => Ok(AddressBlock { address, bits }),
            false => Err(()),
        }
    }
}

pub fn check(file: &super::file::Dashboard, problems: &mut Problems) -> PageAccess {
    if let Some(url) = &file.public_url
        && host_of(url).is_none()
    {
        problems.push("dashboard.public_url", format!(
            "dashboard.public_url {url:?} is not an http or https address: write it as \"https://watch.example.org\""
        ));
    }
    for (key, entries) in [("hosts", &file.hosts), ("proxies", &file.proxies)] {
        if entries.len() > PAGE_ENTRIES_MAX {
            problems.push(
                format!("dashboard.{key}"),
                format!(
                    "dashboard.{key}: {} entries, and the limit is {PAGE_ENTRIES_MAX}",
                    entries.len()
                ),
            );
        }
    }
    for (index, host) in file.hosts.iter().enumerate() {
        if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
            problems.push(format!("dashboard.hosts[{index}]"), format!(
                "dashboard.hosts: {host:?} is not a host name: write it without scheme, port and path, as \"watch.example.org\""
            ));
        }
    }
    let mut proxies = Vec::new();
    for (index, proxy) in file.proxies.iter().enumerate() {
        match proxy.parse() {
            Ok(block) => proxies.push(block),
            Err(()) => problems.push(format!("dashboard.proxies[{index}]"), format!(
                "dashboard.proxies: {proxy:?} is not an address: write it as \"127.0.0.1\" or \"10.0.0.0/8\""
            )),
        }
    }
    PageAccess {
        public_url: file.public_url.clone(),
        hosts: file.hosts.clone(),
        proxies,
    }
}

/// The authority of an http or https address.
fn host_of(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next()?;
    (!host.is_empty() && !host.contains('@')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain_their_addresses() {
        for (block, ip, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "192.0.2.1", false),
            ("::/0", "::1", true),
        ] {
            let block: AddressBlock = block.parse().unwrap();
            assert_eq!(block.contains(ip.parse().unwrap()), want, "{ip} in {block:?}");
        }
        for text in ["", "x", "10.0.0.0/33", "::1/129", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
    }
}
