//! Lists of values that ship, for `|expand` in rules.

/// A list by the name that rules put between percent signs, and its file.
pub const LISTS: [(&str, &str); 1] = [(
    "dns_reputation_zones",
    include_str!("../packs/lists/dns_reputation_zones.txt"),
)];

/// The values of a list: one a line, what stands behind a `#` is for people.
pub fn list(name: &str) -> Option<Vec<&'static str>> {
    let (_, text) = LISTS.iter().find(|(known, _)| *known == name)?;
    let value = |line: &'static str| line.split('#').next().unwrap_or_default().trim();
    Some(
        text.lines()
            .map(value)
            .filter(|value| !value.is_empty())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn zones_are_sorted_within_reach_and_there_once() {
        let zones = list("dns_reputation_zones").unwrap();
        let once: BTreeSet<&str> = zones.iter().copied().collect();
        assert_eq!(once.len(), zones.len());
        for zone in zones {
            let labels: Vec<&str> = zone.split('.').collect();
            // A dot first, so that only names below the zone end with it, and never a whole top-level zone.
            assert!(labels.len() >= 3 && labels[0].is_empty(), "{zone}");
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            assert!(labels[1..].iter().all(|label| !label.is_empty()), "{zone}");
            assert!(zone.bytes().all(is_plain), "{zone}");
        }
        assert_eq!(list("zones"), None);
    }
}
