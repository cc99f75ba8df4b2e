//! From conditions that hold to alerts and attacks: the cooldown, and one attack from its beginning to its end.
//!
//! Of one collector alone: capture points have their own clocks. It is asked only for rows for which a condition holds, and
//! a row inside a cooldown costs a look at the table and no memory. It judges no packet: rules do, before it.

mod packets;
mod stored;

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::{Alert, Attack, Measured, Reputation, SeenBy, Tier, VICTIMS_MAX};
use watchfold_schemas::event::{EventBody, Severity};
use watchfold_schemas::rules::{Rule, RuleState};
use watchfold_schemas::{Span, Time};

pub use packets::add_packet;
pub use stored::StoredAttacks;

use super::arrivals::{Arrivals, Slot, hash_bytes, hash_words};
use super::reputation::{self, Verdicts};
use super::telling::{self, RowFacts};
use crate::engine::compile::CompiledRule;
use crate::engine::print::Print;
use crate::engine::segment::Segment;

/// The most attacks of one collector that are open at a time; the one that would end first ends early.
pub const ATTACKS_MAX: usize = 4_096;

/// The most attacks that begin within one minute: what a flood of invented sources may tell. Every one is three events, so
/// that a flood which lasts writes ten in a second, and a storm of a hundred real ones is still told whole.
pub const BEGINNINGS_PER_MINUTE_MAX: u32 = 200;

/// The most victims of one attack that are told apart; beyond it the total is a lower bound.
pub const VICTIMS_TOLD_APART_MAX: usize = 256;

/// An attack is told again once its peak is so many times what was told.
const TOLD_AGAIN_AT: u128 = 2;

/// An attack that goes on is told again after this long, so that silence means that its end was lost.
const TOLD_AGAIN_AFTER: Span = Span::from_seconds(3_600);

const MINUTE: Span = Span::from_seconds(60);

/// Who saw a row.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub site: &'a str,
    pub collector: &'a str,
    pub incarnation: u64,
    pub interface: &'a str,
}

/// A row for which a rule's condition holds.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    pub rule: &'a CompiledRule,
    /// The values of the rule's subject. Rules of one category spell them alike.
    pub key: Print,
    pub at: Time,
    /// `None` where the row is no packet.
    pub packet: Option<u64>,
    pub measured: Measured,
    /// Of the row's reputation subject.
    pub tier: Tier,
    pub victim: Option<Victim<'a>>,
}

/// Whom it was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim<'a> {
    Address(IpAddr, Segment),
    Text(&'a str),
}

/// What follows, for the chain to make an event of. The event's key is the attack's id.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// In the time that people are told.
    pub at: Time,
    pub attack: String,
    pub because: Because,
    pub body: EventBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The row or record that is being folded.
    Row,
    /// Its condition was absent for long enough: a timer that was due then, in the time that is counted in.
    Deadline(Time),
}

/// An attack that has not ended, and the cooldown of its kind and subject. It lasts at least as long as the cooldown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    key: (u64, u64),
    /// Counts attacks from their collector's first.
    ordinal: u64,
    attack: Attack,
    linger: Span,
    /// When its condition last held, in the time that is counted in.
    last: Time,
    /// How much longer it lasts because nobody measured for so long since its condition last held.
    unseen: Span,
    /// Where it stands among those that are due. Its end may have moved further since.
    due: Time,
    alert_at: Time,
    alert_severity: Severity,
    told_peak: Measured,
    /// In order.
    victims: Vec<[u64; 2]>,
    last_victim: Option<[u64; 2]>,
    /// When it was last told, in the time that is counted in.
    #[serde(default)]
    told: Time,
}

/// The attacks of one collector.
#[derive(Clone, Debug, Default)]
pub struct Attacks {
    open: Arrivals<Open>,
    due: BTreeMap<(Time, u64), Slot>,
    next_ordinal: u64,
    minute: Time,
    begun_in_minute: u32,
    shift: Span,
    /// Attacks that ended early because too many were open.
    pub evicted: u64,
    /// Rows that would have begun an attack in a minute that had begun too many.
    pub refused: u64,
}

impl Attacks {
    /// How far the time that people are told is ahead of the time that is counted in. Packets have one time; a collector's
    /// clock without jumps has another than the wall.
    pub fn set_shift(&mut self, shift: Span) {
        self.shift = shift;
    }

    /// Those that have not ended, as they stand, in the order in which they began.
    pub fn open(&self) -> impl Iterator<Item = &Attack> {
        self.open.iter().map(|open| &open.attack)
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A condition holds for a row. Rows come in time order, and those that are due by then have ended before.
    pub fn hold(
        &mut self,
        seen: Seen<'_>,
        hold: &Hold<'_>,
        row: &dyn RowFacts,
        verdicts: &Verdicts,
        said: &mut Vec<Said>,
    ) {
        let hash = place_of(&hold.rule.rule.category, (hold.key.0, hold.key.1));
        let Some(slot) = self.open.find(hash, |open| open.is_about(hold)) else {
            return self.begin(hash, seen, hold, row, verdicts, said);
        };
        if let Some(open) = self.open.get_mut(slot) {
            open.hold(seen, hold, self.shift, row, verdicts, said);
        }
    }

    fn begin(
        &mut self,
        hash: u64,
        seen: Seen<'_>,
        hold: &Hold<'_>,
        row: &dyn RowFacts,
        verdicts: &Verdicts,
        said: &mut Vec<Said>,
    ) {
        if !self.minute_has_room(hold.at) {
            self.refused += 1;
            return;
        }
        while self.open.len() >= ATTACKS_MAX {
            self.evict(hold.at, said);
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        let open = Open::begin(ordinal, seen, hold, self.shift, row, verdicts, said);
        let due = open.due;
        let slot = self.open.push(hash, open);
        self.due.insert((due, ordinal), slot);
    }

    fn minute_has_room(&mut self, at: Time) -> bool {
        let minute = at.floor(MINUTE);
        if minute != self.minute {
            self.minute = minute;
            self.begun_in_minute = 0;
        }
        let room = self.begun_in_minute < BEGINNINGS_PER_MINUTE_MAX;
        self.begun_in_minute += u32::from(room);
        room
    }

    fn evict(&mut self, at: Time, said: &mut Vec<Said>) {
        if let Some(slot) = self.first_to_end() {
            self.evicted += 1;
            self.end(slot, at, Because::Row, said);
        }
    }

    /// No attack ends before this; it may be that none ends then. `None` while none is open.
    pub fn next_due(&self) -> Option<Time> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// Ends what is over by `until`, each at its own time.
    pub fn pop_due(&mut self, until: Time, said: &mut Vec<Said>) {
        while self.next_due().is_some_and(|due| due <= until) {
            let Some(slot) = self.first_to_end() else {
                return;
            };
            let Some(due) = self
                .open
                .get(slot)
                .map(|open| open.due)
                .filter(|due| *due <= until)
            else {
                return;
            };
            self.end(slot, due, Because::Deadline(due), said);
        }
    }

    /// The attack that ends first if nothing more happens. Where it stands in `due` is put right on the way.
    fn first_to_end(&mut self) -> Option<Slot> {
        loop {
            let (place, slot) = self.due.first_key_value().map(|(place, slot)| (*place, *slot))?;
            let Some(open) = self.open.get_mut(slot) else {
                self.due.remove(&place);
                continue;
            };
            let due = open.ends_at();
            if due <= place.0 {
                return Some(slot);
            }
            open.due = due;
            self.due.remove(&place);
            self.due.insert((due, place.1), slot);
        }
    }

    /// Nobody measured for this long: what waits for its end waits as much longer.
    pub fn postpone(&mut self, unseen: Span) {
        for slot in self.due.values() {
            if let Some(open) = self.open.get_mut(*slot) {
                open.unseen = Span(open.unseen.0.saturating_add(unseen.0));
            }
        }
    }

    /// Ends every attack, in the order in which they began: its collector began anew.
    pub fn end_all(&mut self, at: Time, said: &mut Vec<Said>) {
        self.keep_only(at, |_, _| false, said);
    }

    /// Ends the attacks of categories and states that no rule in force has.
    pub fn keep_only(&mut self, at: Time, keep: impl Fn(&str, RuleState) -> bool, said: &mut Vec<Said>) {
        let gone: Vec<Slot> = self
            .due
            .values()
            .copied()
            .filter(|slot| {
                let attack = self.open.get(*slot).map(|open| &open.attack);
                attack.is_some_and(|attack| !keep(&attack.category, attack.state))
            })
            .collect();
        let mut gone: Vec<(u64, Slot)> = gone
            .into_iter()
            .filter_map(|slot| Some((self.open.get(slot)?.ordinal, slot)))
            .collect();
        gone.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        for (_, slot) in gone {
            self.end(slot, at, Because::Row, said);
        }
    }

    fn end(&mut self, slot: Slot, at: Time, because: Because, said: &mut Vec<Said>) {
        let Some(open) = self.open.remove(slot) else {
            return;
        };
        self.due.remove(&(open.due, open.ordinal));
        let mut attack = open.attack;
        // Rules may come into force at a time before the last row.
        let at = (at + self.shift).max(attack.last_at);
        attack.ended_at = Some(at);
        said.push(Said {
            at,
            attack: attack.id.clone(),
            because,
            body: EventBody::AttackEnded(Box::new(attack)),
        });
    }
}

impl Open {
    fn is_about(&self, hold: &Hold<'_>) -> bool {
        self.key == (hold.key.0, hold.key.1)
            && self.attack.state == hold.rule.rule.state
            && self.attack.category == hold.rule.rule.category
    }

    fn ends_at(&self) -> Time {
        self.last + self.linger + self.unseen
    }

    /// The first alert, and the attack that it begins.
    fn begin(
        ordinal: u64,
        seen: Seen<'_>,
        hold: &Hold<'_>,
        shift: Span,
        row: &dyn RowFacts,
        verdicts: &Verdicts,
        said: &mut Vec<Said>,
    ) -> Open {
        let subject = telling::subject(hold.rule, row);
        let told_at = hold.at + shift;
        let id = attack_id(seen, &hold.rule.rule, &subject, row.segment(), told_at);
        let alert = alert(seen, hold, row, verdicts, &id, subject);
        let mut open = Open {
            key: (hold.key.0, hold.key.1),
            ordinal,
            attack: attack_of(&alert, told_at),
            linger: hold.rule.quiet_after(),
            last: hold.at,
            unseen: Span::ZERO,
            due: hold.at + hold.rule.quiet_after(),
            alert_at: hold.at,
            alert_severity: alert.severity,
            told_peak: hold.measured,
            victims: Vec::new(),
            last_victim: None,
            told: hold.at,
        };
        open.add_victim(hold.victim);
        open.say(told_at, EventBody::AlertRaised(Box::new(alert)), said);
        open.say(
            told_at,
            EventBody::AttackBegan(Box::new(open.attack.clone())),
            said,
        );
        open
    }

    /// Another row for which the condition holds.
    fn hold(
        &mut self,
        seen: Seen<'_>,
        hold: &Hold<'_>,
        shift: Span,
        row: &dyn RowFacts,
        verdicts: &Verdicts,
        said: &mut Vec<Said>,
    ) {
        let told_at = hold.at + shift;
        let severity = reputation::severity(hold.rule.rule.severity, hold.tier);
        self.last = self.last.max(hold.at);
        self.attack.last_at = self.attack.last_at.max(told_at);
        self.attack.matches += 1;
        self.unseen = Span::ZERO;
        self.linger = self.linger.max(hold.rule.quiet_after());
        if let Some(packet) = hold.packet {
            add_packet(&mut self.attack.seen_by.packets, packet);
        }
        self.add_victim(hold.victim);
        if is_times(1, hold.measured, self.attack.peak) && hold.measured != self.attack.peak {
            self.attack.peak = hold.measured;
            self.attack.peak_at = told_at;
        }
        let rested = hold.at.since(self.alert_at) >= cooldown_of(hold.rule);
        let fires = rested || severity > self.alert_severity;
        let grows = severity > self.attack.severity
            || is_times(TOLD_AGAIN_AT, self.attack.peak, self.told_peak)
            || hold.at.since(self.told) >= TOLD_AGAIN_AFTER;
        if !fires && !grows {
            return;
        }
        let alert = alert(
            seen,
            hold,
            row,
            verdicts,
            &self.attack.id,
            self.attack.subject.clone(),
        );
        self.follow(&alert);
        if fires {
            self.attack.alerts += 1;
            self.alert_at = hold.at;
            self.alert_severity = severity;
            self.say(told_at, EventBody::AlertRaised(Box::new(alert)), said);
        }
        if grows {
            self.told_peak = self.attack.peak;
            self.told = hold.at;
            self.say(
                told_at,
                EventBody::AttackGrew(Box::new(self.attack.clone())),
                said,
            );
        }
    }

    /// The attack is told in the words of its latest alert.
    fn follow(&mut self, alert: &Alert) {
        self.attack.severity = self.attack.severity.max(alert.severity);
        self.attack.rule.clone_from(&alert.rule);
        self.attack.destination.clone_from(&alert.destination);
        self.attack.transport.clone_from(&alert.transport);
        self.attack.community_id.clone_from(&alert.community_id);
        self.attack.reputation.clone_from(&alert.reputation);
        self.attack.seen_by.interface.clone_from(&alert.seen_by.interface);
        self.attack.message.clone_from(&alert.message);
    }

    fn add_victim(&mut self, victim: Option<Victim<'_>>) {
        let Some(victim) = victim else {
            return;
        };
        let mark = victim.mark();
        if self.last_victim == Some(mark) {
            return;
        }
        self.last_victim = Some(mark);
        let Err(place) = self.victims.binary_search(&mark) else {
            return;
        };
        if self.victims.len() >= VICTIMS_TOLD_APART_MAX {
            return;
        }
        self.victims.insert(place, mark);
        self.attack.victims_total = self.victims.len() as u64;
        if self.attack.victims.len() < VICTIMS_MAX {
            self.attack.victims.push(victim.text());
        }
    }

    fn say(&self, at: Time, body: EventBody, said: &mut Vec<Said>) {
        said.push(Said {
            at,
            attack: self.attack.id.clone(),
            because: Because::Row,
            body,
        });
    }
}

impl Victim<'_> {
    fn text(self) -> String {
        match self {
            Victim::Address(address, _) => address.to_string(),
            Victim::Text(text) => text.to_owned(),
        }
    }

    /// What tells it apart from others.
    fn mark(self) -> [u64; 2] {
        match self {
            Victim::Address(IpAddr::V4(address), segment) => {
                [u64::from(segment.0) << 32, u64::from(address.to_bits())]
            }
            Victim::Address(IpAddr::V6(address), segment) => {
                let bits = address.to_bits();
                let here = hash_words(0, &[u64::from(segment.0)]);
                let mixed = if segment == Segment::NONE { 0 } else { here };
                [(bits >> 64) as u64 ^ mixed, bits as u64]
            }
            Victim::Text(text) => [hash_bytes(1, text.as_bytes()), hash_bytes(2, text.as_bytes())],
        }
    }
}

/// Whether one is at least `times` the other, each as a share of its own rule's threshold.
fn is_times(times: u128, one: Measured, other: Measured) -> bool {
    let base = |measured: Measured| u128::from(measured.base_threshold.max(1));
    u128::from(one.observed) * base(other) >= times * u128::from(other.observed) * base(one)
}

fn cooldown_of(rule: &CompiledRule) -> Span {
    Span::from_millis(i64::try_from(rule.rule.cooldown_ms).unwrap_or(i64::MAX))
}

/// Where an attack is looked for.
fn place_of(category: &str, key: (u64, u64)) -> u64 {
    hash_words(hash_bytes(0, category.as_bytes()), &[key.0, key.1])
}

/// Rules that are only recorded have attacks of their own: what nobody is told keeps nobody from being told.
fn attack_id(seen: Seen<'_>, rule: &Rule, subject: &str, segment: Segment, at: Time) -> String {
    // One address in two segments is two subjects of one name.
    let subject = match segment {
        Segment::NONE => subject,
        Segment(ids) => &format!("{subject} in {ids}"),
    };
    match rule.state {
        RuleState::Record => {
            let category = format!("{} recorded", rule.category);
            Attack::derive_id(seen.site, seen.collector, &category, subject, at)
        }
        RuleState::Enforce | RuleState::Off => {
            Attack::derive_id(seen.site, seen.collector, &rule.category, subject, at)
        }
    }
}

fn alert(
    seen: Seen<'_>,
    hold: &Hold<'_>,
    row: &dyn RowFacts,
    verdicts: &Verdicts,
    attack: &str,
    subject: String,
) -> Alert {
    let rule = hold.rule;
    let judged = rule.reputation.and_then(|field| row.readable(field));
    let reputation: Option<Reputation> = judged.and_then(|judged| verdicts.reputation(&judged, hold.at));
    Alert {
        rule: rule.reference.clone(),
        category: rule.rule.category.clone(),
        severity: reputation::severity(rule.rule.severity, hold.tier),
        state: rule.rule.state,
        attack: attack.to_owned(),
        subject,
        source: row.source(),
        destination: row.destination(),
        transport: row.transport(),
        community_id: row.community_id(),
        measured: hold.measured,
        message: telling::message(rule, row, hold.measured, reputation.as_ref()),
        reputation,
        seen_by: SeenBy {
            collector: seen.collector.to_owned(),
            incarnation: seen.incarnation,
            interface: seen.interface.to_owned(),
            vlans: row.segment().vlans(),
            packets: row.packets(),
        },
        facts: telling::facts(rule, row),
    }
}

/// The attack that an alert begins.
fn attack_of(alert: &Alert, at: Time) -> Attack {
    Attack {
        id: alert.attack.clone(),
        rule: alert.rule.clone(),
        category: alert.category.clone(),
        severity: alert.severity,
        state: alert.state,
        subject: alert.subject.clone(),
        source: alert.source.clone(),
        destination: alert.destination.clone(),
        transport: alert.transport.clone(),
        community_id: alert.community_id.clone(),
        began_at: at,
        last_at: at,
        ended_at: None,
        peak: alert.measured,
        peak_at: at,
        alerts: 1,
        matches: 1,
        victims: Vec::new(),
        victims_total: 0,
        reputation: alert.reputation.clone(),
        seen_by: alert.seen_by.clone(),
        message: alert.message.clone(),
    }
}

#[cfg(test)]
mod tests;
