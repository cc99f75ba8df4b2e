//! What a configuration file says to each part, found by the type of its section.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use watchfold_config::{Config, ConfigError, Seen};

/// A file as it was read for the parts of one process.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The site that the file names, if it does.
    pub site: Option<String>,
    pub sections: Sections,
    /// The file and those that it names as they were read, to tell a change by.
    pub seen: Seen,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// A file without sections for a part.
    pub fn of<S>(config: Config<S>) -> Result<Loaded, ConfigError> {
        Ok(Loaded {
            site: Some(config.site.site).filter(|site| !site.is_empty()),
            sections: Sections::default(),
            seen: config.seen,
            warnings: config.warnings,
        })
    }

    pub fn with<S: Section>(mut self, section: Option<S>) -> Loaded {
        self.sections = self.sections.with(section);
        self
    }
}

/// What a file says to one part.
pub trait Section: PartialEq + Send + Sync + 'static {}

impl<S: PartialEq + Send + Sync + 'static> Section for S {}

/// Sections by their types.
#[derive(Clone, Debug, Default)]
pub struct Sections(BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Sections {
    pub fn with<S: Section>(mut self, section: Option<S>) -> Sections {
        if let Some(section) = section {
            self.0.insert(TypeId::of::<S>(), Arc::new(section));
        }
        self
    }

    pub fn get<S: Section>(&self) -> Option<Arc<S>> {
        let section = self.0.get(&TypeId::of::<S>())?.clone();
        section.downcast().ok()
    }
}

/// The sections in force, for those who follow them.
#[derive(Default)]
pub struct SectionsInForce(Mutex<InForce>);

#[derive(Default)]
struct InForce {
    sections: Sections,
    followers: Vec<Follower>,
}

/// Hands one section on; false once nobody follows it any more.
type Follower = Box<dyn Fn(&Sections) -> bool + Send>;

impl SectionsInForce {
    pub fn new(sections: Sections) -> SectionsInForce {
        SectionsInForce(Mutex::new(InForce {
            sections,
            followers: Vec::new(),
        }))
    }

    /// One section, and every later one that differs.
    pub fn follow<S: Section>(&self) -> watch::Receiver<Option<Arc<S>>> {
        let mut in_force = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = watch::channel(in_force.sections.get::<S>());
        in_force.followers.push(Box::new(move |sections| {
            let new = sections.get::<S>();
            sender.send_if_modified(|old| {
                let changed = *old != new;
                if changed {
                    *old = new;
                }
                changed
            });
            !sender.is_closed()
        }));
        receiver
    }

    pub fn replace(&self, sections: Sections) {
        let mut in_force = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.sections = sections;
        let InForce { sections, followers } = &mut *in_force;
        followers.retain(|follower| follower(sections));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_follows_its_own_section_and_hears_of_changes_alone() {
        let first = Sections::default().with(Some(1_u32)).with(Some("a".to_owned()));
        let in_force = SectionsInForce::new(first);
        let (mut numbers, mut words) = (in_force.follow::<u32>(), in_force.follow::<String>());
        let absent = in_force.follow::<bool>();
        assert_eq!(numbers.borrow_and_update().as_deref(), Some(&1));
        words.borrow_and_update();
        in_force.replace(Sections::default().with(Some(2_u32)).with(Some("a".to_owned())));
        assert_eq!(
            (numbers.has_changed().unwrap(), words.has_changed().unwrap()),
            (true, false)
        );
        assert_eq!(numbers.borrow_and_update().as_deref(), Some(&2));
        in_force.replace(Sections::default());
        assert!(numbers.borrow().is_none() && words.borrow().is_none() && absent.borrow().is_none());
    }
}
