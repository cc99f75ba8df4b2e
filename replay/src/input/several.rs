//! Several inputs as one, in the order of time: pieces of one site's log one after the other, and logs of several sites side by side.
//!
//! Inputs that hold the same time of the same site are refused: nobody could tell which of two records at one moment came first. What lies
//! between two pieces is not known; the site begins anew with the second, unless that goes on where the first ended.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use watchfold_schemas::Time;

use super::{Input, Selection, Sites, Step, names};
use crate::ReplayError;

/// The most inputs of one replay: each holds a file open and a frame in memory.
const INPUTS_MAX: usize = 256;

/// One or several inputs being read.
pub struct Inputs {
    members: Vec<Member>,
    /// Inputs that hold nothing of what is selected.
    passed_over: Vec<String>,
    /// Why a member gave nothing; it counts when none gave anything.
    nothing: Option<ReplayError>,
}

struct Member {
    input: Input,
    /// `None` for the only one: its sites need not be known.
    sites: Sites,
    /// Members that have to end before this one begins.
    waits_for: Vec<usize>,
    state: State,
}

enum State {
    Waiting,
    /// With the step that comes next, once it was read.
    Reading(Option<Step>),
    Ended,
}

/// What is known of an input before it is read.
struct Opened {
    input: Input,
    sites: Vec<String>,
    /// When its first and its last observation were stored.
    span: Option<(Time, Time)>,
}

impl Inputs {
    /// Opens recordings and directories, at least one.
    pub fn open(paths: &[PathBuf], selection: &Selection) -> Result<Inputs, ReplayError> {
        if paths.len() > INPUTS_MAX {
            return Err(ReplayError::TooManyInputs { limit: INPUTS_MAX });
        }
        if let [path] = paths {
            return Ok(Inputs::alone(Input::open(path, selection)?));
        }
        let captures = paths
            .iter()
            .filter(|path| selection.outside.is_capture(path))
            .count();
        if captures == paths.len() {
            return Ok(Inputs::alone(Input::of_captures(paths, selection)?));
        }
        if captures > 0 {
            return Err(ReplayError::MixedInputs);
        }
        let opened = paths.iter().map(|path| Opened::look(path.clone(), selection));
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let (wanted, others): (Vec<_>, Vec<_>) = opened.into_iter().partition(|one| one.holds(selection));
        if wanted.is_empty() {
            return Err(nothing_there(selection, &others));
        }
        let passed_over = others
            .iter()
            .map(|one| {
                let path = one.input.path().display();
                format!("{path} holds nothing of what is asked for, and is passed over")
            })
            .collect();
        Ok(Inputs {
            members: members(wanted, selection)?,
            passed_over,
            nothing: None,
        })
    }

    fn alone(input: Input) -> Inputs {
        Inputs {
            members: vec![Member {
                input,
                sites: None,
                waits_for: Vec::new(),
                state: State::Waiting,
            }],
            passed_over: Vec::new(),
            nothing: None,
        }
    }

    /// Whether these are capture files: there is no log, and nothing was derived before.
    pub fn is_of_captures(&self) -> bool {
        self.members.iter().any(|member| member.input.is_of_captures())
    }

    /// The next step of all of them, in the order of time; of one site in the order of its log.
    pub fn next_step(&mut self) -> Result<Option<Step>, ReplayError> {
        let is_alone = self.members.len() == 1;
        loop {
            self.begin_due();
            if is_alone
                && let Some(Member {
                    input,
                    state: State::Reading(head),
                    ..
                }) = self.members.first_mut()
            {
                return match head.take() {
                    Some(step) => Ok(Some(step)),
                    None => input.next_step(),
                };
            }
            let mut next = None;
            for (index, member) in self.members.iter_mut().enumerate() {
                if let Some(at) = member.head_at(&mut self.nothing)?
                    && next.is_none_or(|(earliest, _)| at < earliest)
                {
                    next = Some((at, index));
                }
            }
            let Some((_, index)) = next else {
                // Somebody may have waited for one that has ended just now.
                let has_ended = |member: &Member| matches!(member.state, State::Ended);
                if !self.members.iter().all(has_ended) {
                    continue;
                }
                let has_begun = self.members.iter().any(|member| member.input.has_begun());
                return match self.nothing.take() {
                    Some(error) if !has_begun => Err(error),
                    _ => Ok(None),
                };
            };
            if let Some(Member {
                state: State::Reading(head),
                ..
            }) = self.members.get_mut(index)
            {
                return Ok(head.take());
            }
        }
    }

    /// The sites that they hold.
    pub fn known_sites(&self) -> Result<Vec<String>, ReplayError> {
        let mut known = BTreeSet::new();
        for member in &self.members {
            match &member.sites {
                Some(sites) => known.extend(sites.iter().cloned()),
                None => known.extend(member.input.known_sites()?),
            }
        }
        Ok(known.into_iter().collect())
    }

    /// What was wrong with them so far, and which of several are passed over.
    pub fn problems(&self) -> Vec<String> {
        let is_alone = self.members.len() == 1 && self.passed_over.is_empty();
        let of_members = self.members.iter().flat_map(|member| {
            let path = member.input.path().display();
            member.input.problems().iter().map(move |problem| {
                if is_alone {
                    problem.clone()
                } else {
                    format!("{path}: {problem}")
                }
            })
        });
        of_members.collect()
    }

    /// Packets of capture files that were read and gave no row, as sentences by file.
    pub fn unread(&self) -> Vec<String> {
        self.members
            .iter()
            .flat_map(|member| member.input.unread())
            .collect()
    }

    /// Inputs that hold nothing of what is selected, as sentences.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// How much of all of them was read, from 0 to 1, where that can be told.
    pub fn progress(&self) -> Option<f64> {
        let (mut done, mut total) = (0.0, 0.0);
        for member in &self.members {
            let bytes = member.input.bytes() as f64;
            total += bytes;
            done += bytes
                * match member.state {
                    State::Waiting => 0.0,
                    State::Reading(_) => member.input.progress()?,
                    State::Ended => 1.0,
                };
        }
        (total > 0.0).then(|| done / total)
    }

    /// Lets those begin that wait for nobody any more.
    fn begin_due(&mut self) {
        let has_ended: Vec<bool> = self
            .members
            .iter()
            .map(|member| matches!(member.state, State::Ended))
            .collect();
        let ended = |index: &usize| has_ended.get(*index).copied().unwrap_or(true);
        for member in &mut self.members {
            if matches!(member.state, State::Waiting) && member.waits_for.iter().all(ended) {
                let header = member.input.header();
                member.state = State::Reading(Some(Step::Begins {
                    sites: member.sites.clone(),
                    activations: header.map_or_else(Vec::new, |header| header.activations.clone()),
                }));
            }
        }
    }
}

impl Member {
    /// When its next step is due, reading it where that is needed; `None` for one that waits or has ended.
    fn head_at(&mut self, nothing: &mut Option<ReplayError>) -> Result<Option<Time>, ReplayError> {
        let State::Reading(head) = &mut self.state else {
            return Ok(None);
        };
        if head.is_none() {
            *head = match self.input.next_step() {
                Ok(step) => step.map(|step| of_sites(step, &self.sites)),
                // Others may hold some of what is asked for.
                Err(error @ (ReplayError::EmptySpan { .. } | ReplayError::NoSuchSite { .. })) => {
                    *nothing = Some(error);
                    None
                }
                Err(error) => return Err(error),
            };
        }
        match head {
            Some(Step::Record { record, .. }) => Ok(Some(record.stored_at)),
            // Nothing else has a time, and all of it belongs to the record that follows.
            Some(_) => Ok(Some(Time(i64::MIN))),
            None => {
                self.state = State::Ended;
                Ok(None)
            }
        }
    }
}

impl Opened {
    fn look(path: PathBuf, selection: &Selection) -> Result<Opened, ReplayError> {
        let input = Input::open(&path, selection)?;
        Ok(Opened {
            sites: input.known_sites()?,
            span: input.observed()?,
            input,
        })
    }

    fn holds(&self, selection: &Selection) -> bool {
        let Some((first, last)) = self.span else {
            return false;
        };
        selection
            .site
            .as_ref()
            .is_none_or(|site| self.sites.contains(site))
            && selection.from.is_none_or(|from| last >= from)
            && selection.to.is_none_or(|to| first < to)
    }

    /// A site that both of them have and that is asked for.
    fn shares_with(&self, other: &Opened, selection: &Selection) -> Option<&String> {
        self.sites.iter().find(|site| {
            other.sites.contains(site) && selection.site.as_ref().is_none_or(|wanted| wanted == *site)
        })
    }
}

/// Inputs in the order of time, each with those that it has to wait for.
fn members(mut opened: Vec<Opened>, selection: &Selection) -> Result<Vec<Member>, ReplayError> {
    opened.sort_by_key(|one| one.span);
    let mut waits = Vec::new();
    for (index, one) in opened.iter().enumerate() {
        let mut waits_for = Vec::new();
        for (before, other) in opened.iter().enumerate().take(index) {
            let Some(site) = other.shares_with(one, selection) else {
                continue;
            };
            let (Some(first_span), Some(second_span)) = (other.span, one.span) else {
                continue;
            };
            if second_span.0 <= first_span.1 {
                return Err(ReplayError::Overlap {
                    site: site.clone(),
                    first: other.input.path().to_owned(),
                    first_span,
                    second: one.input.path().to_owned(),
                    second_span,
                });
            }
            waits_for.push(before);
        }
        waits.push(waits_for);
    }
    let member = |(one, waits_for): (Opened, Vec<usize>)| Member {
        input: one.input,
        sites: Some(one.sites.into()),
        waits_for,
        state: State::Waiting,
    };
    Ok(opened.into_iter().zip(waits).map(member).collect())
}

/// What an input says of every site it says of its own alone.
fn of_sites(step: Step, all: &Sites) -> Step {
    let narrowed = |sites: Sites| sites.or_else(|| all.as_ref().map(Arc::clone));
    match step {
        Step::Cut {
            stream,
            reason,
            sites,
        } => Step::Cut {
            stream,
            reason,
            sites: narrowed(sites),
        },
        Step::Lost {
            stream,
            from,
            to,
            lead_in,
            sites,
        } => Step::Lost {
            stream,
            from,
            to,
            lead_in,
            sites: narrowed(sites),
        },
        step @ (Step::Begins { .. } | Step::Snapshot(_) | Step::Record { .. } | Step::Captured { .. }) => {
            step
        }
    }
}

fn nothing_there(selection: &Selection, opened: &[Opened]) -> ReplayError {
    let sites: BTreeSet<&String> = opened.iter().flat_map(|one| &one.sites).collect();
    if let Some(site) = selection.site.as_ref().filter(|site| !sites.contains(site)) {
        return ReplayError::NoSuchSite {
            site: site.clone(),
            known: sites.into_iter().cloned().collect(),
        };
    }
    let spans = || opened.iter().filter_map(|one| one.span);
    ReplayError::EmptySpan {
        inputs: names(opened.iter().map(|one| one.input.path())),
        from: selection.from,
        to: selection.to,
        first: spans().map(|(first, _)| first).min(),
        last: spans().map(|(_, last)| last).max(),
    }
}
