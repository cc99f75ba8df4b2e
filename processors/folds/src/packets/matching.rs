//! What one rule says about the rows of a batch by itself, for those who explain what counted.
//!
//! It keeps no windows, attacks or tables: a rule on what only earlier packets can tell is not for it.

use watchfold_schemas::Time;
use watchfold_schemas::fields::{Field, Source};
use watchfold_schemas::packets::PacketBatch;
use watchfold_schemas::rules::{RuleSet, RuleState, RulesActivation};

use super::columns::{Columns, Segments};
use super::duplicates::Duplicates;
use super::rulebook::Rulebook;

/// One rule of packets, as it was in force.
#[derive(Debug)]
pub struct RuleRows {
    book: Rulebook,
    duplicates: Duplicates,
}

impl RuleRows {
    /// The rule of this name; `None` where there is none, or where it looks at more than packets themselves.
    pub fn of(name: &str, activation: &RulesActivation) -> Option<RuleRows> {
        let mut rule = activation
            .set
            .rules
            .iter()
            .find(|rule| rule.name == name)?
            .clone();
        if rule.source != Source::Packet {
            return None;
        }
        rule.state = RuleState::Enforce;
        let book = Rulebook::of(RulesActivation {
            set: RuleSet {
                name: activation.set.name.clone(),
                rules: vec![rule],
            },
            ..activation.clone()
        });
        let is_whole = book.of_packets().len() == 1;
        (is_whole && !book.compiled.reads(Source::Packet, Field::ArpReplyChanged)).then(|| RuleRows {
            book,
            duplicates: Duplicates::default(),
        })
    }

    /// The rows that meet it, in order. A batch whose columns disagree has none.
    /// Batches are given in order, so that copies are told from what they are copies of.
    pub fn rows(&mut self, batch: &PacketBatch) -> Vec<u16> {
        let Ok(view) = batch.view() else {
            return Vec::new();
        };
        let times: Vec<Time> = (0..view.len()).map(|row| view.at(row)).collect();
        let arp_changed = vec![None; batch.arp.len()];
        let duplicates = self.duplicates.of(view);
        let segments = Segments::of(batch);
        let columns = Columns::of(view, &times, &self.book.site, arp_changed, duplicates, segments);
        let found = self.book.rows(&columns);
        found.iter().flat_map(|(_, rows)| rows.rows()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::testing::rules::classic;
    use crate::packets::testing::{Wire, activation, batch};
    use watchfold_schemas::Body;
    use watchfold_schemas::rules::Surroundings;

    fn check(rule: &str, packets: &[Wire], want: Option<&[u16]>) {
        let Body::Rules(rules) = activation(&classic(), Surroundings::default()).body else {
            unreachable!("an activation holds rules");
        };
        let found = RuleRows::of(rule, &rules).map(|mut rule| rule.rows(&batch(packets, 1)));
        assert_eq!(found.as_deref(), want, "{rule}");
    }

    #[test]
    fn a_rule_says_which_packets_it_looks_at() {
        let packets = [
            Wire::at(0).syn().to("10.0.0.2", 80),
            Wire::at(1).dns("a.example"),
            Wire::at(2).echo(),
            Wire::at(3).syn().to("10.0.0.2", 22),
        ];
        check("syn_flood", &packets, Some(&[0, 3]));
        check("icmp_flood", &packets, Some(&[2]));
        check("arp_spoofing", &packets, None);
        check("nobody", &packets, None);
    }
}
