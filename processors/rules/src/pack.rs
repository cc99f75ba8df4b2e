//! The packs that ship, as the Sigma files that they are.

use std::fmt;

use crate::sigma::File;

/// A pack by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackName {
    /// The detectors of the system before, to the letter.
    Classic,
    /// The same, and better; in force where nothing else is said.
    Default,
}

impl PackName {
    pub const ALL: [PackName; 2] = [PackName::Classic, PackName::Default];

    pub const fn name(self) -> &'static str {
        match self {
            PackName::Classic => "classic",
            PackName::Default => "default",
        }
    }

    pub fn from_name(name: &str) -> Option<PackName> {
        PackName::ALL.into_iter().find(|pack| pack.name() == name)
    }

    /// Its text, as it is in the repository.
    pub fn files(self) -> Vec<File> {
        let files = match self {
            PackName::Classic => CLASSIC,
            PackName::Default => DEFAULT,
        };
        let file = |(name, text): &(&str, &str)| File {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        files.iter().map(file).collect()
    }
}

/// The files of a pack.
macro_rules! pack {
    ($pack:literal: $($file:literal),+ $(,)?) => {
        &[$((
            concat!($pack, "/", $file, ".yml"),
            include_str!(concat!("../packs/", $pack, "/", $file, ".yml")),
        )),+]
    };
}

const CLASSIC: &[(&str, &str)] = pack!("classic": "arp_spoofing", "brute_force", "dns_tunnel", "exfiltration", "icmp_flood", "port_scan", "suspicious_port", "syn_flood");
const DEFAULT: &[(&str, &str)] = pack!("default": "brute_force", "dns_tunnel", "exfiltration", "icmp_flood", "mining", "neighbour_spoofing", "port_scan", "suspicious_port", "syn_flood");

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
