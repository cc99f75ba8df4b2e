//! Networks in CIDR notation, in the one spelling that rules have.

use core::net::IpAddr;

/// A network with the bits of its hosts cleared; `None` for what is none.
pub fn network(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u32 = prefix
        .parse()
        .ok()
        .filter(|prefix| is_number && *prefix <= bits)?;
    let first: IpAddr = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    };
    Some(format!("{first}/{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_one_spelling() {
        for (text, want) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3/32", Some("10.1.2.3/32")),
            ("10.1.2.3/0", Some("0.0.0.0/0")),
            ("2001:DB8::1/32", Some("2001:db8::/32")),
            ("::1/128", Some("::1/128")),
            ("::1/0", Some("::/0")),
            ("10.1.2.3", None),
            ("10.1.2.3/33", None),
            ("10.1.2.3/+8", None),
            ("10.1.2.3/", None),
            ("10.1.2/8", None),
        ] {
            assert_eq!(network(text).as_deref(), want, "{text}");
        }
    }
}
