//! Questions that wait: one for each subject, however often and by however many sites it is asked. Pure.
//!
//! The nearest to a threshold goes first, then the oldest. It makes no calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

use crate::subject::Subject;

/// Subjects that wait at most. The public API answers 240 in an hour, and after an hour nobody wants the answer.
pub const WAITING_MAX: usize = 1_024;

/// Sites that wait for one subject at most; more ask again within the hour.
pub const SITES_MAX: usize = 1_024;

/// How long a question waits: a rule that still wants to know asks again after as long.
pub const WAIT_MAX: Span = Span::from_seconds(3_600);

/// A subject that somebody wants to know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub subject: Subject,
    /// The greatest that was asked with.
    pub nearness_permille: u32,
    /// When it was asked first and last.
    pub first_at: Time,
    pub last_at: Time,
    pub sites: BTreeSet<String>,
    /// Calls that failed.
    pub attempts: u32,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    New,
    /// The subject waits already.
    Joined,
    /// There were too many; this one was the least urgent.
    Dropped(Subject),
    /// Too many sites wait for the subject.
    SitesFull,
}

/// The questions.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<Subject, Waiting>,
}

impl Queue {
    pub fn from_list(list: Vec<Waiting>) -> Queue {
        let by_subject = list
            .into_iter()
            .take(WAITING_MAX)
            .map(|waiting| (waiting.subject.clone(), waiting));
        Queue {
            waiting: by_subject.collect(),
        }
    }

    pub fn list(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn get(&self, subject: &Subject) -> Option<&Waiting> {
        self.waiting.get(subject)
    }

    pub fn add(&mut self, subject: Subject, site: &str, nearness_permille: u32, at: Time) -> Added {
        if let Some(waiting) = self.waiting.get_mut(&subject) {
            waiting.nearness_permille = waiting.nearness_permille.max(nearness_permille);
            waiting.last_at = waiting.last_at.max(at);
            if waiting.sites.len() >= SITES_MAX && !waiting.sites.contains(site) {
                return Added::SitesFull;
            }
            waiting.sites.insert(site.to_owned());
            return Added::Joined;
        }
        let waiting = Waiting {
            subject: subject.clone(),
            nearness_permille,
            first_at: at,
            last_at: at,
            sites: BTreeSet::from([site.to_owned()]),
            attempts: 0,
        };
        self.waiting.insert(subject, waiting);
        if self.waiting.len() <= WAITING_MAX {
            return Added::New;
        }
        match self.waiting.values().max_by_key(|waiting| urgency(waiting)) {
            Some(least) => {
                let least = least.subject.clone();
                self.waiting.remove(&least);
                Added::Dropped(least)
            }
            None => Added::New,
        }
    }

    /// The most urgent one that `free` lets through.
    pub fn first(&self, free: impl Fn(&Waiting) -> bool) -> Option<&Waiting> {
        self.waiting
            .values()
            .filter(|waiting| free(waiting))
            .min_by_key(|waiting| urgency(waiting))
    }

    /// A call for it failed; tells how many have.
    pub fn failed(&mut self, subject: &Subject) -> u32 {
        self.waiting.get_mut(subject).map_or(0, |waiting| {
            waiting.attempts += 1;
            waiting.attempts
        })
    }

    /// A site has its answer.
    pub fn answered(&mut self, subject: &Subject, site: &str) {
        if let Some(waiting) = self.waiting.get_mut(subject) {
            waiting.sites.remove(site);
            if waiting.sites.is_empty() {
                self.waiting.remove(subject);
            }
        }
    }

    /// There will be no answer.
    pub fn remove(&mut self, subject: &Subject) {
        self.waiting.remove(subject);
    }

    /// Drops what nobody has asked about for [`WAIT_MAX`]; tells how many.
    pub fn expire(&mut self, now: Time) -> usize {
        let before = self.waiting.len();
        self.waiting
            .retain(|_, waiting| now.since(waiting.last_at) <= WAIT_MAX);
        before - self.waiting.len()
    }
}

/// Less is sooner; the subject makes it an order without ties.
fn urgency(waiting: &Waiting) -> (std::cmp::Reverse<u32>, Time, &Subject) {
    (
        std::cmp::Reverse(waiting.nearness_permille),
        waiting.first_at,
        &waiting.subject,
    )
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::alert::SubjectKind;

    use super::*;

    fn subject(number: usize) -> Subject {
        Subject {
            kind: SubjectKind::Address,
            text: format!("8.8.{}.{}", number / 256, number % 256),
        }
    }

    fn at(second: i64) -> Time {
        Time::from_seconds(1_000 + second)
    }

    /// Adds (subject, nearness) a second apart, and takes all out again by urgency.
    fn check(asked: &[(usize, u32)], want: &[usize]) {
        let mut queue = Queue::default();
        for (second, (number, nearness)) in asked.iter().enumerate() {
            queue.add(subject(*number), "cafe-1", *nearness, at(second as i64));
        }
        let mut got = Vec::new();
        while let Some(next) = queue.first(|_| true).map(|waiting| waiting.subject.clone()) {
            queue.answered(&next, "cafe-1");
            got.push(next);
        }
        let want: Vec<Subject> = want.iter().map(|number| subject(*number)).collect();
        assert_eq!(got, want, "{asked:?}");
    }

    #[test]
    fn the_nearest_goes_first_and_then_the_oldest() {
        check(&[(1, 500), (2, 900), (3, 500), (4, 1_200)], &[4, 2, 1, 3]);
        // Asked again with more, it overtakes; asked again with less, it keeps its place.
        check(&[(1, 500), (2, 900), (1, 950)], &[1, 2]);
        check(&[(1, 900), (2, 800), (1, 500)], &[1, 2]);
    }

    #[test]
    fn one_subject_waits_once_for_all_sites_that_ask() {
        let mut queue = Queue::default();
        assert_eq!(queue.add(subject(1), "cafe-1", 500, at(0)), Added::New);
        assert_eq!(queue.add(subject(1), "cafe-2", 600, at(1)), Added::Joined);
        assert_eq!(queue.len(), 1);
        queue.answered(&subject(1), "cafe-1");
        assert_eq!(
            queue.get(&subject(1)).unwrap().sites,
            BTreeSet::from(["cafe-2".to_owned()])
        );
        queue.answered(&subject(1), "cafe-2");
        assert!(queue.is_empty());
    }

    #[test]
    fn over_the_limit_the_least_urgent_goes() {
        let mut queue = Queue::default();
        for number in 0..WAITING_MAX {
            assert_eq!(
                queue.add(subject(number), "cafe-1", 600, at(number as i64)),
                Added::New
            );
        }
        let over = subject(WAITING_MAX);
        assert_eq!(
            queue.add(over.clone(), "cafe-1", 500, at(0)),
            Added::Dropped(over.clone())
        );
        let youngest = subject(WAITING_MAX - 1);
        assert_eq!(
            queue.add(over.clone(), "cafe-1", 900, at(5_000)),
            Added::Dropped(youngest)
        );
        assert_eq!(queue.len(), WAITING_MAX);
        assert_eq!(queue.first(|_| true).unwrap().subject, over);
        for site in 0..SITES_MAX {
            queue.add(over.clone(), &format!("site-{site}"), 500, at(0));
        }
        assert_eq!(queue.add(over, "one-more", 500, at(0)), Added::SitesFull);
    }

    #[test]
    fn what_nobody_asks_about_any_more_is_dropped() {
        let mut queue = Queue::default();
        queue.add(subject(1), "cafe-1", 500, at(0));
        queue.add(subject(2), "cafe-1", 500, at(0));
        queue.add(subject(2), "cafe-1", 500, at(10));
        assert_eq!(queue.expire(at(3_600)), 0);
        assert_eq!(queue.expire(at(3_601)), 1);
        assert!(queue.get(&subject(2)).is_some());
    }
}
