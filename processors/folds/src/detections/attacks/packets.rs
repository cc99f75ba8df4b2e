//! Packets as ranges of numbers: at most so many ranges, and always the total.

use watchfold_schemas::alert::{PACKET_RANGES_MAX, PacketRanges};

/// Counts one more packet. Numbers grow; where there would be too many ranges, the two that lie closest become one.
pub fn add_packet(packets: &mut PacketRanges, packet: u64) {
    packets.total += 1;
    match packets.ranges.last_mut() {
        Some((_, last)) if packet <= *last => {}
        Some((_, last)) if packet == *last + 1 => *last = packet,
        _ => packets.ranges.push((packet, packet)),
    }
    if packets.ranges.len() > PACKET_RANGES_MAX {
        join_closest(packets);
    }
}

fn join_closest(packets: &mut PacketRanges) {
    let gaps = packets.ranges.windows(2).map(|pair| pair[1].0 - pair[0].1);
    // The first of the smallest.
    let Some((index, _)) = gaps.enumerate().min_by_key(|(index, gap)| (*gap, *index)) else {
        return;
    };
    let (_, last) = packets.ranges.remove(index + 1);
    packets.ranges[index].1 = last;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(numbers: impl IntoIterator<Item = u64>) -> PacketRanges {
        let mut packets = PacketRanges::default();
        numbers
            .into_iter()
            .for_each(|number| add_packet(&mut packets, number));
        packets
    }

    #[test]
    fn neighbours_share_a_range_and_the_total_counts_all() {
        let packets = ranges([3, 4, 5, 9, 9, 12, 13]);
        assert_eq!(packets.ranges, [(3, 5), (9, 9), (12, 13)]);
        assert_eq!(packets.total, 7);
    }

    #[test]
    fn the_closest_ranges_are_joined_when_there_are_too_many() {
        let apart = (1..=PACKET_RANGES_MAX as u64 + 1).map(|number| number * 100);
        let packets = ranges(apart.chain([6_502, 9_000]));
        assert_eq!(packets.ranges.len(), PACKET_RANGES_MAX);
        assert_eq!(packets.ranges.first(), Some(&(100, 300)));
        assert_eq!(packets.ranges.last(), Some(&(9_000, 9_000)));
        assert!(packets.ranges.contains(&(6_500, 6_502)), "{packets:?}");
        assert_eq!(packets.total, PACKET_RANGES_MAX as u64 + 3);
    }
}
