//! The segment of a packet: within a capture point an address means something only within its VLAN.

use serde::{Deserialize, Serialize};

use super::print::Print;

/// The VLANs of a packet, the outermost in the lowest 12 bits. A tag with VLAN 0 says only a priority, so it is as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment(pub u32);

const ID_BITS: u32 = 12;
const ID_MASK: u32 = (1 << ID_BITS) - 1;

impl Segment {
    /// Without a tag.
    pub const NONE: Segment = Segment(0);

    /// This segment, and a VLAN within it; beyond two tags nothing is told apart.
    pub const fn within(self, vlan: u16) -> Segment {
        let vlan = vlan as u32 & ID_MASK;
        match self.0 >> ID_BITS {
            0 if self.0 == 0 => Segment(vlan),
            0 => Segment(self.0 | vlan << ID_BITS),
            _ => self,
        }
    }

    /// The VLANs, the outermost first.
    pub fn vlans(self) -> Vec<u16> {
        let ids = [self.0 & ID_MASK, self.0 >> ID_BITS];
        ids.into_iter()
            .filter(|id| *id != 0)
            .map(|id| id as u16)
            .collect()
    }

    /// The print of an address here. Without a tag it is the address's own.
    pub fn print(self, address: Print) -> Print {
        match self {
            Segment::NONE => address,
            Segment(ids) => address.with(Print::of_number(i64::from(ids))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tags_count_and_a_priority_is_none() {
        let of = |vlans: &[u16]| {
            vlans
                .iter()
                .fold(Segment::NONE, |segment, vlan| segment.within(*vlan))
        };
        for (vlans, want) in [
            (&[][..], &[][..]),
            (&[10], &[10]),
            (&[0], &[]),
            (&[0, 10], &[10]),
            (&[10, 0], &[10]),
            (&[10, 20], &[10, 20]),
            (&[10, 20, 30], &[10, 20]),
        ] {
            assert_eq!(of(vlans).vlans(), want, "{vlans:?}");
        }
        assert_ne!(of(&[10, 20]), of(&[20, 10]));
        let address = Print::of_address([10, 0, 0, 1].into());
        assert_eq!(of(&[0]).print(address), address);
        assert_ne!(of(&[10]).print(address), of(&[20]).print(address));
    }
}
