//! Classes of addresses: private, outside, the site's own, worth asking an oracle about. Meant for the dictionary of a
//! batch: once for each address, and not for each packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watchfold_schemas::rules::Surroundings;

use crate::engine::check::Addresses;

/// What an address is, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    const PRIVATE: u8 = 1;
    const EXTERNAL: u8 = 2;
    const MAY_ASK: u8 = 4;
    const OWN_ADDRESS: u8 = 8;
    const GATEWAY: u8 = 16;

    /// Private, link-local or loopback (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
    pub const fn private(self) -> bool {
        self.0 & Class::PRIVATE != 0
    }

    /// Unicast, and neither private nor shared (RFC 6598) nor reserved nor in a network of the site's own.
    pub const fn external(self) -> bool {
        self.0 & Class::EXTERNAL != 0
    }

    /// External, and not from a range that is set aside for documentation, benchmarks or protocols.
    pub const fn may_ask(self) -> bool {
        self.0 & Class::MAY_ASK != 0
    }

    /// Watchfold itself listens there.
    pub const fn own_address(self) -> bool {
        self.0 & Class::OWN_ADDRESS != 0
    }

    /// A configured router.
    pub const fn gateway(self) -> bool {
        self.0 & Class::GATEWAY != 0
    }
}

/// What rules know of the site, read once when they come into force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    own_networks: Vec<Addresses>,
    own_addresses: Vec<IpAddr>,
    own_ports: Vec<u16>,
    gateways: Vec<IpAddr>,
    /// Whether an oracle is configured.
    pub lookups: bool,
}

impl Site {
    /// Texts that are no address and no network are left out; whoever activates has checked them.
    pub fn of(surroundings: &Surroundings) -> Site {
        let sorted = |texts: &[String]| {
            let mut addresses: Vec<IpAddr> = texts
                .iter()
                .filter_map(|text| text.parse::<IpAddr>().ok())
                .map(|address| address.to_canonical())
                .collect();
            addresses.sort_unstable();
            addresses
        };
        let mut own_ports = surroundings.own_ports.clone();
        own_ports.sort_unstable();
        Site {
            own_networks: surroundings
                .own_networks
                .iter()
                .filter_map(|text| Addresses::parse(text))
                .collect(),
            own_addresses: sorted(&surroundings.own_addresses),
            own_ports,
            gateways: sorted(&surroundings.gateways),
            lookups: surroundings.lookups,
        }
    }

    pub fn classify(&self, address: IpAddr) -> Class {
        let address = address.to_canonical();
        let private = is_private(address);
        let external = !private
            && is_outside(address)
            && !self.own_networks.iter().any(|network| network.contains(address));
        let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
        Class(
            bit(private, Class::PRIVATE)
                | bit(external, Class::EXTERNAL)
                | bit(external && !is_set_aside(address), Class::MAY_ASK)
                | bit(
                    self.own_addresses.binary_search(&address).is_ok(),
                    Class::OWN_ADDRESS,
                )
                | bit(self.gateways.binary_search(&address).is_ok(), Class::GATEWAY),
        )
    }

    /// Whether an end of a packet is one of Watchfold's own.
    pub fn is_own_service(&self, class: Class, port: u16) -> bool {
        class.own_address() && self.own_ports.binary_search(&port).is_ok()
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local() || address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_unicast_link_local() || address.is_loopback()
        }
    }
}

/// Whether an address that is not private may stand for one host elsewhere.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // "This network", the space shared behind carriers, multicast, and what is reserved up to the broadcast.
            !(first == 0 || (first == 100 && second & 0xc0 == 64) || first >= 224)
        }
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// 2000::/3, and IPv4 behind a translator, 64:ff9b::/96.
fn is_global_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if bits >> 32 == 0x0064_ff9b << 64 {
        let inner = IpAddr::V4(Ipv4Addr::from_bits(bits as u32));
        return !is_private(inner) && is_outside(inner);
    }
    bits >> 125 == 0b001
}

/// Documentation, benchmarks and protocols: nobody can know anything of a host there.
fn is_set_aside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
            [198, second, ..] => second & 0xfe == 18,
            _ => false,
        },
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            // 2001:db8::/32 and 3fff::/20 document; 2001::/23 belongs to protocols.
            (first == 0x2001 && (second == 0xdb8 || second < 0x200)) || (first == 0x3fff && second < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::of(&Surroundings {
            own_networks: vec!["45.83.12.0/22".into(), "2a02:8109::/32".into(), "nonsense".into()],
            own_ports: vec![8443, 443],
            own_addresses: vec!["10.0.0.2".into(), "::1".into()],
            gateways: vec!["10.0.0.1".into(), "::ffff:10.0.0.254".into()],
            lookups: true,
        })
    }

    #[test]
    fn addresses_have_their_classes() {
        // p: private, e: external, a: may be asked about.
        for (address, want) in [
            ("10.0.0.5", "p"),
            ("172.16.0.1", "p"),
            ("172.31.255.255", "p"),
            ("172.32.0.0", "ea"),
            ("192.168.255.1", "p"),
            ("169.254.1.1", "p"),
            ("127.0.0.1", "p"),
            ("8.8.8.8", "ea"),
            ("::ffff:8.8.8.8", "ea"),
            ("::ffff:10.1.1.1", "p"),
            ("45.83.12.1", ""),
            ("45.83.15.255", ""),
            ("45.83.16.0", "ea"),
            ("0.0.0.0", ""),
            ("100.64.0.1", ""),
            ("100.127.255.255", ""),
            ("100.128.0.0", "ea"),
            ("224.0.0.251", ""),
            ("240.0.0.1", ""),
            ("255.255.255.255", ""),
            ("192.0.2.7", "e"),
            ("198.51.100.7", "e"),
            ("203.0.113.7", "e"),
            ("198.18.0.1", "e"),
            ("198.19.255.1", "e"),
            ("198.20.0.1", "ea"),
            ("192.0.0.1", "e"),
            ("192.0.1.1", "ea"),
            ("fe80::1", "p"),
            ("fd00::1", "p"),
            ("fc00::1", "p"),
            ("::1", "p"),
            ("::", ""),
            ("ff02::1", ""),
            ("2606:4700::1111", "ea"),
            ("2a02:8109::7", ""),
            ("2a02:810a::7", "ea"),
            ("2001:db8::1", "e"),
            ("2001::1", "e"),
            ("2001:4860:4860::8888", "ea"),
            ("3fff::1", "e"),
            ("64:ff9b::8.8.8.8", "ea"),
            ("64:ff9b::10.0.0.1", ""),
            ("4000::1", ""),
        ] {
            let class = site().classify(address.parse().unwrap());
            let mut got = String::new();
            got.extend(class.private().then_some('p'));
            got.extend(class.external().then_some('e'));
            got.extend(class.may_ask().then_some('a'));
            assert_eq!(got, want, "{address}");
        }
    }

    #[test]
    fn own_services_and_gateways_are_known() {
        let site = site();
        let class = |text: &str| site.classify(text.parse().unwrap());
        assert!(class("10.0.0.1").gateway() && class("10.0.0.254").gateway() && !class("10.0.0.2").gateway());
        assert!(site.is_own_service(class("10.0.0.2"), 8443));
        assert!(!site.is_own_service(class("10.0.0.2"), 8444));
        assert!(!site.is_own_service(class("10.0.0.3"), 8443));
        assert!(site.is_own_service(class("::1"), 443));
    }
}
