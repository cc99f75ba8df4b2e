//! The packs that ship, as the Sigma files that they are.

use std::fmt;

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
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
