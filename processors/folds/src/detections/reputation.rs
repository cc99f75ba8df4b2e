//! What an outside oracle said, and what follows from it: tiers, scaled thresholds, raised severities, and when to ask.
//!
//! It asks nobody: it says that a look-up is wanted, and reads the verdicts that come back as observations.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::{LookupWanted, Reputation, SubjectKind, Tier, Verdict};
use watchfold_schemas::event::Severity;
use watchfold_schemas::{Span, Time};

/// The most verdicts kept. An oracle with a public key gives 500 a day, so this is months of them.
pub const VERDICTS_MAX: usize = 65_536;

/// The most subjects whose last question is remembered.
pub const QUESTIONS_MAX: usize = 16_384;

/// The most questions within one minute of packet time; the sink has a budget of its own and drops what it cannot ask.
pub const QUESTIONS_PER_MINUTE_MAX: u32 = 120;

/// How near to its threshold a rule must be before anybody is asked, in thousandths.
pub const ASK_FROM_PERMILLE: u32 = 500;

/// How much nearer a rule must come before the same subject is asked about again within [`ASK_AGAIN_AFTER`].
const ASK_STEP_PERMILLE: u32 = 250;

/// Nearer than its threshold is no rule: what has fired is as urgent as can be.
const NEAREST_PERMILLE: u32 = 1_000;

const ASK_AGAIN_AFTER: Span = Span::from_seconds(3_600);

const MINUTE: Span = Span::from_seconds(60);

/// The longest name that DNS allows, without its final dot.
const NAME_BYTES_MAX: usize = 253;

/// Last labels of names that mean something inside a network alone, or nothing at all.
const INNER_ZONES: [&str; 9] = [
    "local",
    "arpa",
    "internal",
    "lan",
    "localhost",
    "test",
    "example",
    "invalid",
    "onion",
];

/// How bad a verdict is.
pub fn tier(verdict: &Verdict) -> Tier {
    if !verdict.known {
        return Tier::Clean;
    }
    match (verdict.malicious, verdict.suspicious, verdict.score) {
        (9.., _, _) => Tier::Critical,
        (3.., _, _) => Tier::High,
        (1.., _, _) | (_, 5.., _) => Tier::Medium,
        (_, _, ..=-11) => Tier::Low,
        _ => Tier::Clean,
    }
}

/// What has to be reached for a subject of this tier: the base times the tier's factor, rounded up, and at least 1.
pub fn threshold(base: u64, tier: Tier) -> u64 {
    let percent: u128 = match tier {
        Tier::Critical => 10,
        Tier::High => 25,
        Tier::Medium => 50,
        Tier::Low => 75,
        Tier::Clean => 100,
    };
    let scaled = (u128::from(base) * percent).div_ceil(100);
    u64::try_from(scaled).unwrap_or(base).max(1)
}

/// The severity of an alert about a subject of this tier.
pub fn severity(base: Severity, tier: Tier) -> Severity {
    match tier {
        Tier::Critical => Severity::Critical,
        Tier::High | Tier::Medium => match base {
            Severity::Info => Severity::Low,
            Severity::Low => Severity::Medium,
            Severity::Medium => Severity::High,
            Severity::High | Severity::Critical => Severity::Critical,
        },
        Tier::Low | Tier::Clean => base,
    }
}

/// What is kept of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub tier: Tier,
    pub malicious: u32,
    pub score: i64,
    expires_at: Time,
    /// False when the oracle knows nothing of it. The last field, because state is stored by position.
    #[serde(default = "is_known")]
    known: bool,
}

const fn is_known() -> bool {
    true
}

impl Judged {
    fn believed_at(&self, at: Time) -> bool {
        at <= self.expires_at
    }
}

/// The verdicts that still count, by what they are about.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    addresses: BTreeMap<IpAddr, Judged>,
    names: BTreeMap<String, Judged>,
    /// In the order in which they go when there are too many: what expires first goes first.
    addresses_by_expiry: BTreeSet<(Time, IpAddr)>,
    names_by_expiry: BTreeSet<(Time, String)>,
    /// Verdicts that had to go before they expired.
    pub evicted: u64,
    /// Verdicts about something that is no address although it should be.
    pub malformed: u64,
}

/// [`Verdicts`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredVerdicts {
    addresses: Vec<(IpAddr, Judged)>,
    names: Vec<(String, Judged)>,
    evicted: u64,
    malformed: u64,
}

impl Verdicts {
    /// Takes over what an oracle said; it replaces what was said before.
    pub fn learn(&mut self, verdict: &Verdict) {
        let judged = Judged {
            tier: tier(verdict),
            malicious: if verdict.known { verdict.malicious } else { 0 },
            score: if verdict.known { verdict.score } else { 0 },
            expires_at: verdict.expires_at,
            known: verdict.known,
        };
        match verdict.kind {
            SubjectKind::Address => match verdict.subject.parse() {
                Ok(address) => self.learn_address(address, judged),
                Err(_) => self.malformed += 1,
            },
            SubjectKind::Name => self.learn_name(name_of(&verdict.subject), judged),
        }
        while self.addresses.len() + self.names.len() > VERDICTS_MAX {
            self.evict();
        }
    }

    fn learn_address(&mut self, address: IpAddr, judged: Judged) {
        if let Some(old) = self.addresses.insert(address, judged) {
            self.addresses_by_expiry.remove(&(old.expires_at, address));
        }
        self.addresses_by_expiry.insert((judged.expires_at, address));
    }

    fn learn_name(&mut self, name: String, judged: Judged) {
        if let Some(old) = self.names.insert(name.clone(), judged) {
            self.names_by_expiry.remove(&(old.expires_at, name.clone()));
        }
        self.names_by_expiry.insert((judged.expires_at, name));
    }

    fn evict(&mut self) {
        let address = self.addresses_by_expiry.first().map(|(at, _)| *at);
        let name = self.names_by_expiry.first().map(|(at, _)| *at);
        // Of those that expire together addresses go first.
        if address.is_some_and(|address| name.is_none_or(|name| address <= name)) {
            if let Some((_, address)) = self.addresses_by_expiry.pop_first() {
                self.addresses.remove(&address);
            }
        } else if let Some((_, name)) = self.names_by_expiry.pop_first() {
            self.names.remove(&name);
        }
        self.evicted += 1;
    }

    /// Whether there is nothing to look up, so that a chain need not try.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    /// The tier of an address at an instant; clean where nothing is known or what was known has expired.
    pub fn tier_of_address(&self, address: IpAddr, at: Time) -> Tier {
        let judged = self.addresses.get(&address.to_canonical());
        judged
            .filter(|judged| judged.believed_at(at))
            .map_or(Tier::Clean, |judged| judged.tier)
    }

    /// The same of a name as packets carry it: in lower case, without the final dot.
    pub fn tier_of_name(&self, name: &str, at: Time) -> Tier {
        let judged = self.names.get(name);
        judged
            .filter(|judged| judged.believed_at(at))
            .map_or(Tier::Clean, |judged| judged.tier)
    }

    /// Returns what an alert says about an address or name, or `None` if no verdict about it counts at that instant.
    pub fn reputation(&self, subject: &str, at: Time) -> Option<Reputation> {
        let judged = match subject.parse::<IpAddr>() {
            Ok(address) => self.addresses.get(&address.to_canonical()),
            Err(_) => self.names.get(subject),
        };
        let judged = judged.filter(|judged| judged.believed_at(at))?;
        Some(Reputation {
            subject: subject.to_owned(),
            tier: judged.tier,
            malicious: judged.malicious,
            score: judged.score,
            known: judged.known,
        })
    }

    fn knows(&self, subject: &Subject<'_>, at: Time) -> bool {
        let judged = match subject {
            Subject::Address(address) => self.addresses.get(address),
            Subject::Name(name) => self.names.get(*name),
        };
        judged.is_some_and(|judged| judged.believed_at(at))
    }

    pub fn store(&self) -> StoredVerdicts {
        StoredVerdicts {
            addresses: self
                .addresses
                .iter()
                .map(|(key, judged)| (*key, *judged))
                .collect(),
            names: self
                .names
                .iter()
                .map(|(key, judged)| (key.clone(), *judged))
                .collect(),
            evicted: self.evicted,
            malformed: self.malformed,
        }
    }

    pub fn load(stored: StoredVerdicts) -> Verdicts {
        let mut out = Verdicts {
            evicted: stored.evicted,
            malformed: stored.malformed,
            ..Verdicts::default()
        };
        for (address, judged) in stored.addresses {
            out.learn_address(address, judged);
        }
        for (name, judged) in stored.names {
            out.learn_name(name, judged);
        }
        out
    }
}

/// A name as packets carry it.
fn name_of(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

/// What somebody may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    Address(IpAddr),
    /// In lower case, without the final dot.
    Name(&'a str),
}

impl Subject<'_> {
    fn kind(&self) -> SubjectKind {
        match self {
            Subject::Address(_) => SubjectKind::Address,
            Subject::Name(_) => SubjectKind::Name,
        }
    }

    fn text(&self) -> String {
        match self {
            Subject::Address(address) => address.to_string(),
            Subject::Name(name) => (*name).to_owned(),
        }
    }
}

/// Whether a name may be told to an outsider: it has a zone above it, and that is none of a network's own.
pub fn may_ask_name(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    let zone = labels.next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    labels.next().is_some()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(plain)
        && !name.split('.').any(str::is_empty)
        // Addresses are written with digits last; no zone is.
        && !zone.bytes().all(|byte| byte.is_ascii_digit())
        && !INNER_ZONES.contains(&zone)
}

/// When which subject was asked about last, and how near its rule was.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    addresses: BTreeMap<IpAddr, Asked>,
    names: BTreeMap<String, Asked>,
    /// In the order in which they are forgotten.
    addresses_by_age: BTreeSet<(Time, IpAddr)>,
    names_by_age: BTreeSet<(Time, String)>,
    minute: Time,
    in_minute: u32,
    /// Questions that were not asked because their minute was full; one that stays wanted counts again.
    pub put_off: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    at: Time,
    step: u32,
}

/// [`Questions`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredQuestions {
    addresses: Vec<(IpAddr, Time, u32)>,
    names: Vec<(String, Time, u32)>,
    minute: Time,
    in_minute: u32,
    put_off: u64,
}

impl Questions {
    /// Whether to ask about a subject for which `rule` is this near, in thousandths of its threshold. The caller has seen to
    /// it that an address is nobody's own; names are checked here.
    pub fn want(
        &mut self,
        subject: Subject<'_>,
        nearness_permille: u32,
        rule: &str,
        at: Time,
        verdicts: &Verdicts,
    ) -> Option<LookupWanted> {
        if nearness_permille < ASK_FROM_PERMILLE {
            return None;
        }
        let step = nearness_permille.min(NEAREST_PERMILLE) / ASK_STEP_PERMILLE;
        if self.was_asked(&subject, step, at) || verdicts.knows(&subject, at) {
            return None;
        }
        if let Subject::Name(name) = subject
            && !may_ask_name(name)
        {
            return None;
        }
        if !self.minute_has_room(at) {
            self.put_off += 1;
            return None;
        }
        self.remember(&subject, Asked { at, step });
        Some(LookupWanted {
            kind: subject.kind(),
            subject: subject.text(),
            nearness_permille,
            rule: rule.to_owned(),
        })
    }

    fn was_asked(&self, subject: &Subject<'_>, step: u32, at: Time) -> bool {
        let asked = match subject {
            Subject::Address(address) => self.addresses.get(address),
            Subject::Name(name) => self.names.get(*name),
        };
        asked.is_some_and(|asked| asked.step >= step && at.since(asked.at) < ASK_AGAIN_AFTER)
    }

    /// Counts one more question within its minute, unless the minute is full. Collectors' clocks may differ: an earlier
    /// minute than the one that is counted has no count of its own.
    fn minute_has_room(&mut self, at: Time) -> bool {
        let minute = at.floor(MINUTE);
        if minute > self.minute {
            self.minute = minute;
            self.in_minute = 0;
        }
        let room = self.in_minute < QUESTIONS_PER_MINUTE_MAX;
        self.in_minute += u32::from(room);
        room
    }

    fn remember(&mut self, subject: &Subject<'_>, asked: Asked) {
        match subject {
            Subject::Address(address) => {
                if let Some(old) = self.addresses.insert(*address, asked) {
                    self.addresses_by_age.remove(&(old.at, *address));
                }
                self.addresses_by_age.insert((asked.at, *address));
            }
            Subject::Name(name) => {
                let name = (*name).to_owned();
                if let Some(old) = self.names.insert(name.clone(), asked) {
                    self.names_by_age.remove(&(old.at, name.clone()));
                }
                self.names_by_age.insert((asked.at, name));
            }
        }
        while self.addresses.len() + self.names.len() > QUESTIONS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let address = self.addresses_by_age.first().map(|(at, _)| *at);
        let name = self.names_by_age.first().map(|(at, _)| *at);
        if address.is_some_and(|address| name.is_none_or(|name| address <= name)) {
            if let Some((_, address)) = self.addresses_by_age.pop_first() {
                self.addresses.remove(&address);
            }
        } else if let Some((_, name)) = self.names_by_age.pop_first() {
            self.names.remove(&name);
        }
    }

    pub fn store(&self) -> StoredQuestions {
        StoredQuestions {
            addresses: self
                .addresses
                .iter()
                .map(|(key, asked)| (*key, asked.at, asked.step))
                .collect(),
            names: self
                .names
                .iter()
                .map(|(key, asked)| (key.clone(), asked.at, asked.step))
                .collect(),
            minute: self.minute,
            in_minute: self.in_minute,
            put_off: self.put_off,
        }
    }

    pub fn load(stored: StoredQuestions) -> Questions {
        let mut out = Questions {
            minute: stored.minute,
            in_minute: stored.in_minute,
            put_off: stored.put_off,
            ..Questions::default()
        };
        for (address, at, step) in stored.addresses {
            out.remember(&Subject::Address(address), Asked { at, step });
        }
        for (name, at, step) in stored.names {
            out.remember(&Subject::Name(&name), Asked { at, step });
        }
        out
    }
}

#[cfg(test)]
mod tests;
