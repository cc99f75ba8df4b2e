//! What is known already: verdicts until they expire, failures until they may be tried again, and which site was told
//! what. Pure.
//!
//! It is shared by all sites, because a subject is the same everywhere; each site is told a verdict once, unless it shows
//! that it has lost it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::Verdict;
use watchfold_schemas::{Span, Time};

use crate::subject::Subject;

/// Subjects that are remembered: eight days of what the public API answers. Beyond it the next to expire goes.
pub const CACHED_MAX: usize = 4_096;

/// Sites of which it is remembered that they were told of a subject; of a further one it is forgotten, and it may be
/// told twice, which changes nothing.
const TOLD_MAX: usize = 1_024;

/// A site that asks this long after it was told has lost what it was told, to eviction or with its state. Before that the
/// verdict may still be on its way to the rules, and the clocks of two machines differ.
pub const LOST_AFTER: Span = Span::from_seconds(30);

/// How long a subject that VirusTotal refuses to answer is left alone.
pub const REFUSED_FOR: Span = Span::from_seconds(86_400);

/// How long a subject is left alone whose calls failed [`ATTEMPTS_MAX`] times.
pub const FAILED_FOR: Span = Span::from_seconds(3_600);

/// Calls for one question.
pub const ATTEMPTS_MAX: u32 = 3;

/// What is known of a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    pub subject: Subject,
    pub known: Known,
    /// Sites that were told, and when the log had it.
    told: BTreeMap<String, Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    Verdict(Box<Verdict>),
    /// There is none, and asking again is of no use before this.
    Failed {
        until: Time,
    },
}

/// What to do about a site that asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// Ask VirusTotal.
    Ask,
    /// The site is told this.
    Tell(Box<Verdict>),
    /// The site was told, and what it was told still holds.
    Told,
    /// There is nothing to tell.
    Hopeless,
}

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Subject, Cached>,
    by_expiry: BTreeSet<(Time, Subject)>,
}

impl Known {
    fn until(&self) -> Time {
        match self {
            Known::Verdict(verdict) => verdict.expires_at,
            Known::Failed { until } => *until,
        }
    }
}

impl Cache {
    pub fn from_list(list: Vec<Cached>) -> Cache {
        let mut cache = Cache::default();
        for entry in list.into_iter().take(CACHED_MAX) {
            cache.put(entry);
        }
        cache
    }

    pub fn list(&self) -> impl Iterator<Item = &Cached> {
        self.entries.values()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Learns about a subject; nobody was told yet. Tells how many others had to be forgotten for it.
    pub fn learn(&mut self, subject: Subject, known: Known, now: Time) -> usize {
        while let Some((until, _)) = self.by_expiry.first()
            && *until < now
        {
            self.forget_first();
        }
        self.put(Cached {
            subject,
            known,
            told: BTreeMap::new(),
        });
        let mut forgotten = 0;
        while self.entries.len() > CACHED_MAX {
            self.forget_first();
            forgotten += 1;
        }
        forgotten
    }

    /// A verdict holds up to and with the instant at which it expires, as it does for the folds.
    pub fn advise(&self, subject: &Subject, site: &str, now: Time) -> Advice {
        let Some(entry) = self
            .entries
            .get(subject)
            .filter(|entry| now <= entry.known.until())
        else {
            return Advice::Ask;
        };
        match &entry.known {
            Known::Verdict(_) if entry.told.contains_key(site) => Advice::Told,
            Known::Verdict(verdict) => Advice::Tell(verdict.clone()),
            Known::Failed { .. } => Advice::Hopeless,
        }
    }

    /// A site has the verdict that expires then; a newer one it does not have yet.
    pub fn told(&mut self, subject: &Subject, site: &str, expires_at: Time, now: Time) {
        if let Some(entry) = self.entries.get_mut(subject)
            && matches!(&entry.known, Known::Verdict(verdict) if verdict.expires_at == expires_at)
            && entry.told.len() < TOLD_MAX
        {
            entry.told.insert(site.to_owned(), now);
        }
    }

    /// A site asked at `at`. Who has a verdict does not ask, so long after it was told it is to be told again.
    pub fn asked(&mut self, subject: &Subject, site: &str, at: Time) {
        if let Some(entry) = self.entries.get_mut(subject)
            && let Some(told_at) = entry.told.get(site)
            && at.since(*told_at) > LOST_AFTER
        {
            entry.told.remove(site);
        }
    }

    fn put(&mut self, entry: Cached) {
        let (subject, until) = (entry.subject.clone(), entry.known.until());
        if let Some(old) = self.entries.insert(subject.clone(), entry) {
            self.by_expiry.remove(&(old.known.until(), subject.clone()));
        }
        self.by_expiry.insert((until, subject));
    }

    fn forget_first(&mut self) {
        if let Some((_, subject)) = self.by_expiry.pop_first() {
            self.entries.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::alert::SubjectKind;

    use super::*;
    use crate::render::{Lifetimes, verdict};

    const LIFETIMES: Lifetimes = Lifetimes {
        clean: Span::from_seconds(100),
        malicious: Span::from_seconds(10),
    };

    fn subject(number: usize) -> Subject {
        Subject {
            kind: SubjectKind::Address,
            text: format!("8.{}.{}.1", number / 256, number % 256),
        }
    }

    fn at(second: i64) -> Time {
        Time::from_seconds(1_000 + second)
    }

    fn known(number: usize, second: i64) -> Known {
        Known::Verdict(Box::new(verdict(&subject(number), None, at(second), LIFETIMES)))
    }

    #[test]
    fn a_site_is_told_once_for_as_long_as_the_verdict_holds() {
        let mut cache = Cache::default();
        let one = subject(1);
        let advice = |cache: &Cache, site, second| match cache.advise(&one, site, at(second)) {
            Advice::Ask => "ask",
            Advice::Tell(_) => "tell",
            Advice::Told => "told",
            Advice::Hopeless => "hopeless",
        };
        assert_eq!(advice(&cache, "cafe-1", 0), "ask");
        cache.learn(one.clone(), known(1, 0), at(0));
        assert_eq!(advice(&cache, "cafe-1", 0), "tell");
        cache.told(&one, "cafe-1", at(100), at(60));
        assert_eq!(advice(&cache, "cafe-1", 100), "told");
        // What was asked before the verdict could arrive is answered by it; later the site has lost it.
        cache.asked(&one, "cafe-1", at(90));
        assert_eq!(advice(&cache, "cafe-1", 100), "told");
        cache.asked(&one, "cafe-1", at(91));
        assert_eq!(advice(&cache, "cafe-1", 100), "tell");
        cache.told(&one, "cafe-1", at(100), at(92));
        assert_eq!(advice(&cache, "cafe-1", 100), "told");
        assert_eq!(advice(&cache, "cafe-2", 100), "tell");
        assert_eq!(advice(&cache, "cafe-1", 101), "ask");
        cache.learn(one.clone(), known(1, 101), at(101));
        // Word that the old one arrived says nothing about the new one.
        cache.told(&one, "cafe-1", at(100), at(101));
        assert_eq!(advice(&cache, "cafe-1", 101), "tell");
        let failed = Known::Failed { until: at(300) };
        cache.learn(one.clone(), failed, at(202));
        assert_eq!(advice(&cache, "cafe-1", 300), "hopeless");
        assert_eq!(advice(&cache, "cafe-1", 301), "ask");
    }

    #[test]
    fn the_next_to_expire_is_forgotten_and_what_has_expired_first() {
        let mut cache = Cache::default();
        for number in 0..CACHED_MAX {
            assert_eq!(cache.learn(subject(number), known(number, 0), at(0)), 0);
        }
        // All expire at once: the order of subjects decides.
        assert_eq!(cache.learn(subject(CACHED_MAX), known(1, 5), at(5)), 1);
        assert_eq!(cache.len(), CACHED_MAX);
        assert_eq!(cache.advise(&subject(0), "cafe-1", at(5)), Advice::Ask);
        // A second after they expired none of them is in the way.
        assert_eq!(cache.learn(subject(1), known(1, 101), at(101)), 0);
        assert_eq!(cache.len(), 2);
        let again = Cache::from_list(cache.list().cloned().collect());
        assert_eq!(
            (&again.entries, &again.by_expiry),
            (&cache.entries, &cache.by_expiry)
        );
    }
}
