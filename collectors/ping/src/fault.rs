//! Which subjects cannot be measured, told once at each change.
//!
//! It does not decide what a fault is worth; folds do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use watchfold_kit::{KitError, Publisher};
use watchfold_schemas::Body;
use watchfold_schemas::observation::Fault;

/// Open faults: by subject, then by cause. Subjects are those of the plan, causes a handful of words.
#[derive(Default)]
struct Open(BTreeMap<String, BTreeMap<&'static str, String>>);

pub(crate) struct FaultBoard {
    publisher: Arc<Publisher>,
    open: Mutex<Open>,
}

impl FaultBoard {
    pub(crate) fn new(publisher: Arc<Publisher>) -> FaultBoard {
        FaultBoard {
            publisher,
            open: Mutex::default(),
        }
    }

    /// Tells that no fault of the collector itself is known yet.
    pub(crate) fn begin(&self) -> Result<(), KitError> {
        self.publisher.submit_with(|stamp| {
            Body::Fault(Fault {
                subject: String::new(),
                at: stamp.now(),
                reason: "the collector starts".to_owned(),
                active: false,
            })
        })
    }

    /// The subject cannot be measured for this cause, or (`None`) can be again. The subject of the collector itself
    /// is empty.
    pub(crate) fn set(
        &self,
        subject: &str,
        cause: &'static str,
        reason: Option<String>,
    ) -> Result<(), KitError> {
        let change = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .change(subject, cause, reason);
        let Some((reason, active)) = change else {
            return Ok(());
        };
        if active {
            tracing::warn!(subject, reason, "cannot be measured");
        } else {
            tracing::info!(subject, "can be measured again");
        }
        let subject = subject.to_owned();
        self.publisher.submit_with(|stamp| {
            Body::Fault(Fault {
                subject,
                at: stamp.now(),
                reason,
                active,
            })
        })
    }

    /// Ends the faults of subjects that are no longer probed.
    pub(crate) fn keep_only(&self, is_probed: impl Fn(&str) -> bool) -> Result<(), KitError> {
        let gone: Vec<(String, Vec<&'static str>)> = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = open
                .0
                .iter()
                .filter(|(subject, _)| !subject.is_empty() && !is_probed(subject));
            gone.map(|(subject, causes)| (subject.clone(), causes.keys().copied().collect()))
                .collect()
        };
        for (subject, causes) in gone {
            for cause in causes {
                self.set(&subject, cause, None)?;
            }
        }
        Ok(())
    }
}

impl Open {
    /// What to tell: the reason, and whether the subject is in fault now.
    fn change(
        &mut self,
        subject: &str,
        cause: &'static str,
        reason: Option<String>,
    ) -> Option<(String, bool)> {
        match reason {
            Some(reason) => {
                let causes = self.0.entry(subject.to_owned()).or_default();
                let new = !causes.contains_key(cause);
                causes.insert(cause, reason.clone());
                new.then_some((reason, true))
            }
            None => {
                let causes = self.0.get_mut(subject)?;
                let ended = causes.remove(cause)?;
                match causes.values().next() {
                    Some(other) => Some((other.clone(), true)),
                    None => {
                        self.0.remove(subject);
                        Some((ended, false))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let mut open = Open::default();
        let mut check = |subject: &str, cause, reason: Option<&str>, want: Option<(&str, bool)>| {
            let got = open.change(subject, cause, reason.map(str::to_owned));
            assert_eq!(
                got,
                want.map(|(reason, active)| (reason.to_owned(), active)),
                "{subject} {cause}"
            );
        };
        check("", "echo", None, None);
        check("", "echo", Some("denied"), Some(("denied", true)));
        check("", "echo", Some("denied"), None);
        check("", "pcs", Some("no route"), Some(("no route", true)));
        check("router", "probe", Some("no route"), Some(("no route", true)));
        check("", "echo", None, Some(("no route", true)));
        check("", "pcs", None, Some(("no route", false)));
        check("", "pcs", None, None);
        check("router", "probe", None, Some(("no route", false)));
        assert!(open.0.is_empty());
    }
}
