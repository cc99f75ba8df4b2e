//! The digest of what the chain derives, hour by hour of its own ticks, so that anybody who folds the same hour again can
//! tell whether the same came of it. It is no fold: it looks at the events of all of them, and only at those.

use serde::{Deserialize, Serialize};
use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::event::{Event, HourDigest};
use watchfold_schemas::{Span, Time};

use crate::table::{Change, Table};

/// What a digest covers.
const HOUR: Span = Span::from_seconds(3_600);

/// The most versions that one hour names: nobody replaces the software more often within an hour.
const SOFTWARE_MAX: usize = 8;

/// The running hour.
#[derive(Debug)]
pub struct Hours {
    /// What derives here, as [`crate::software`] names it.
    software: String,
    running: Table<Running>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Running {
    /// The tick after which it began; none before the first tick.
    from: Option<Time>,
    digest: EventDigest,
    software: Vec<String>,
}

impl Hours {
    pub fn new(software: String) -> Hours {
        Hours {
            software,
            running: Table::new("chain/digest/"),
        }
    }

    pub fn add(&mut self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let running = self.running();
        for event in events {
            // Content that cannot be encoded cannot be published either.
            let _ = running.digest.add(event);
        }
    }

    /// Ends the hour when this tick is in another one. Everything that came of the tick was added before.
    pub fn tick(&mut self, now: Time) -> Option<HourDigest> {
        match self.running.get("").and_then(|running| running.from) {
            Some(from) if from.floor(HOUR) == now.floor(HOUR) => None,
            Some(from) => {
                let ended = std::mem::take(self.running());
                self.begin(now);
                Some(HourDigest {
                    hour: from.floor(HOUR),
                    from,
                    until: now,
                    events: ended.digest.events(),
                    sha256: ended.digest.hex(),
                    software: ended.software,
                })
            }
            None => {
                self.begin(now);
                None
            }
        }
    }

    /// After loading: what derives from here on may be other software.
    pub fn resume(&mut self) {
        let is_other = |running: &Running| running.software.last() != Some(&self.software);
        if self.running.get("").is_some_and(is_other) {
            self.running();
        }
    }

    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.running.drain_dirty(out);
    }

    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.running.store_all(out);
    }

    pub fn load(&mut self, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        self.running.load(key, bytes)
    }

    fn begin(&mut self, now: Time) {
        self.running().from = Some(now);
    }

    /// The running hour, in the name of this software.
    fn running(&mut self) -> &mut Running {
        let running = self.running.entry_or_default("");
        if running.software.last() != Some(&self.software) && running.software.len() < SOFTWARE_MAX {
            running.software.push(self.software.clone());
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Time {
        Time::from_seconds(minute * 60)
    }

    #[test]
    fn an_hour_ends_with_the_first_tick_past_it_and_nothing_else_ends_it() {
        let mut hours = Hours::new("0.0.2".to_owned());
        assert_eq!(hours.tick(at(59)), None, "it begins in the middle");
        let ends = |hours: &mut Hours, minute| {
            hours
                .tick(at(minute))
                .map(|digest| (digest.hour, digest.from, digest.until))
        };
        assert_eq!(ends(&mut hours, 60), Some((at(0), at(59), at(60))));
        assert_eq!(ends(&mut hours, 119), None);
        assert_eq!(
            ends(&mut hours, 300),
            Some((at(60), at(60), at(300))),
            "we were absent"
        );
        assert_eq!(
            ends(&mut hours, 290),
            Some((at(300), at(300), at(290))),
            "the clock was set"
        );
        assert_eq!(ends(&mut hours, 299), None);
    }

    #[test]
    fn an_hour_in_which_the_software_was_replaced_names_both() {
        let mut hours = Hours::new("0.0.2".to_owned());
        hours.tick(at(1));
        hours.running().software = vec!["0.0.1".to_owned()];
        let mut stored = Vec::new();
        hours.store_all(&mut stored);
        let mut again = Hours::new("0.0.2".to_owned());
        assert!(again.load(&stored[0].0, &stored[0].1).unwrap());
        again.resume();
        assert_eq!(again.tick(at(61)).unwrap().software, ["0.0.1", "0.0.2"]);
        assert_eq!(again.tick(at(121)).unwrap().software, ["0.0.2"]);
    }
}
