//! All documents of a set together: names, references, limits, and the rules that come of them.

use std::collections::{BTreeMap, BTreeSet};

use rsigma_parser::{CorrelationRule, Level, SigmaRule};
use watchfold_folds::rules_problems;
use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::{Field, Source};
use watchfold_schemas::rules::{Exclusion, RULES_MAX, Rule, RuleSet, Test, Trigger};

use super::attributes::{Attributes, attributes, refuse_all};
use super::detection::{source_of, take_threshold, test_of};
use super::document::{Document, File, Sigma, documents as documents_of, name_of};
use super::trigger::trigger_of;
use crate::error::Problem;
use crate::suggest::nearest;

/// The most comparisons of all rules together; the folds look for equal ones among them.
const TESTS_MAX: usize = 20_000;

/// The rules of a set, or everything that is wrong with it, by file and line.
pub fn rules_of(name: &str, files: &[File]) -> Result<RuleSet, Vec<Problem>> {
    let mut problems = Vec::new();
    let (mut documents, mut whole) = (Vec::new(), true);
    for file in files {
        let (read, is_all) = documents_of(file, &mut problems);
        documents.extend(read);
        // What a document that cannot be read would have said is not missed.
        whole &= is_all;
    }
    let all = names(&documents, &mut problems);
    let detections: BTreeMap<usize, Detection<'_>> = documents
        .iter()
        .enumerate()
        .filter_map(|(index, document)| match &document.sigma {
            Sigma::Detection(rule) => {
                let source = source_of(document, rule, &mut problems)?;
                let test = test_of(document, rule, source, &mut problems);
                Some((index, Detection { rule, source, test }))
            }
            Sigma::Correlation(_) => None,
        })
        .collect();
    let set = Set {
        documents: &documents,
        names: &all,
        detections: &detections,
        whole,
    };
    let mut rules = set.rules(&mut problems);
    if documents.is_empty() && problems.is_empty() {
        problems.push(Problem {
            file: files
                .first()
                .map_or_else(|| name.to_owned(), |file| file.name.clone()),
            line: 0,
            reason: "there is no rule".to_owned(),
            instead: None,
        });
    }
    let mut whole_set = |reason| {
        problems.push(Problem {
            file: name.to_owned(),
            line: 0,
            reason,
            instead: None,
        });
    };
    let tests: usize = rules.iter().map(tests_of).sum();
    if rules.len() > RULES_MAX {
        whole_set(format!("{} rules, and the limit is {RULES_MAX}", rules.len()));
    } else if tests > TESTS_MAX {
        whole_set(format!(
            "{tests} comparisons in all rules, and the limit is {TESTS_MAX}"
        ));
    }
    if !problems.is_empty() {
        problems.sort();
        problems.dedup();
        return Err(problems);
    }
    rules.sort_by(|one, other| one.name.cmp(&other.name));
    let rules = RuleSet {
        name: name.to_owned(),
        rules,
    };
    let unfit: Vec<Problem> = rules_problems(&rules)
        .into_iter()
        .map(|problem| {
            let of = all.iter().position(|name| *name == problem.rule);
            let field = problem
                .field
                .map_or_else(String::new, |field| format!("`{field}`: "));
            match of.map(|index| &documents[index]) {
                Some(document) => document.problem(&["title"], field + &problem.reason),
                None => Problem {
                    file: name.to_owned(),
                    line: 0,
                    reason: field + &problem.reason,
                    instead: None,
                },
            }
        })
        .collect();
    match unfit.is_empty() {
        true => Ok(rules),
        false => Err(unfit),
    }
}

/// How many comparisons a rule makes.
fn tests_of(rule: &Rule) -> usize {
    fn count(test: &Test) -> usize {
        match test {
            Test::All(tests) | Test::Any(tests) => tests.iter().map(count).sum(),
            Test::Not(inner) => count(inner),
            Test::Field(_) => 1,
        }
    }
    count(&rule.test)
        + rule
            .exclusions
            .iter()
            .map(|exclusion| count(&exclusion.test))
            .sum::<usize>()
}

/// A detection once its rows are known.
struct Detection<'d> {
    rule: &'d SigmaRule,
    source: Source,
    test: Test,
}

struct Set<'d> {
    documents: &'d [Document],
    names: &'d [String],
    detections: &'d BTreeMap<usize, Detection<'d>>,
    /// Every document was read, so what is not there is missing.
    whole: bool,
}

/// The name of each document, and whether two have one name or one id.
fn names(documents: &[Document], problems: &mut Vec<Problem>) -> Vec<String> {
    let names: Vec<String> = documents.iter().map(|document| name_of(&document.map)).collect();
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (index, document) in documents.iter().enumerate() {
        let id = document.text("id").map(str::to_ascii_lowercase);
        let taken = [("name", Some(names[index].clone())), ("id", id)];
        for (key, value) in taken {
            let Some(value) = value else { continue };
            match first.get(&format!("{key} {value}")) {
                Some(other) => {
                    let other = &documents[*other];
                    let reason = format!(
                        "{key} `{value}` is that of the rule at {}:{}",
                        other.file,
                        other.lines.line(&[key])
                    );
                    problems.push(document.problem(&[key], reason));
                }
                None => {
                    first.insert(format!("{key} {value}"), index);
                }
            }
        }
    }
    names
}

impl Set<'_> {
    fn rules(&self, problems: &mut Vec<Problem>) -> Vec<Rule> {
        let mut rules = Vec::new();
        let before = problems.len();
        // Detections that fire only through a correlation.
        let mut silent = BTreeSet::new();
        for (index, document) in self.documents.iter().enumerate() {
            let Sigma::Correlation(correlation) = &document.sigma else {
                continue;
            };
            let of = self.referenced(document, correlation, problems);
            if !correlation.generate {
                silent.extend(of.iter().copied());
            }
            rules.extend(self.correlation(index, correlation, &of, problems));
        }
        // A rule without a level may be one that a correlation meant to name.
        let may_be_named = !self.whole || problems.len() > before;
        for (index, detection) in self.detections {
            let document = &self.documents[*index];
            if may_be_named && !document.map.contains_key("level") {
                continue;
            }
            if silent.contains(index) {
                refuse_all(document, problems);
            } else {
                rules.extend(self.detection(*index, detection, problems));
            }
        }
        rules
    }

    /// The detections that a correlation names.
    fn referenced(
        &self,
        document: &Document,
        correlation: &CorrelationRule,
        problems: &mut Vec<Problem>,
    ) -> Vec<usize> {
        let path = ["correlation", "rules"];
        if correlation.rules.is_empty() {
            problems.push(document.problem(&path, "the correlation names no rule"));
        }
        let mut of = Vec::new();
        for name in &correlation.rules {
            let is_it = |index: &usize| {
                let id = self.documents[*index].text("id");
                self.names[*index] == *name || id.is_some_and(|id| id.eq_ignore_ascii_case(name))
            };
            match (0..self.documents.len()).find(is_it) {
                Some(index) if matches!(self.documents[index].sigma, Sigma::Detection(_)) => of.push(index),
                Some(_) => problems.push(Problem {
                    instead: Some("name the detections".to_owned()),
                    ..document.problem_with(
                        &path,
                        name,
                        format!("`{name}` is a correlation, and these are not correlated again"),
                    )
                }),
                None if !self.whole => {}
                None => {
                    let known = self.names.iter().map(String::as_str);
                    let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
                    problems.push(Problem {
                        instead: near,
                        ..document.problem_with(&path, name, format!("there is no rule `{name}`"))
                    });
                }
            }
        }
        of
    }

    fn correlation(
        &self,
        index: usize,
        correlation: &CorrelationRule,
        of: &[usize],
        problems: &mut Vec<Problem>,
    ) -> Option<Rule> {
        let document = &self.documents[index];
        let detections: Vec<&Detection<'_>> =
            of.iter().filter_map(|index| self.detections.get(index)).collect();
        let source = detections.first()?.source;
        if detections.iter().any(|detection| detection.source != source) {
            let reason = "rules that look at different rows cannot be counted together";
            problems.push(document.problem(&["correlation", "rules"], reason));
            return None;
        }
        let attributes = attributes(document, source, problems);
        let trigger = trigger_of(document, correlation, source, &attributes, problems);
        let severity = severity(document, correlation.level, problems);
        let test = match detections.as_slice() {
            [only] => only.test.clone(),
            several => Test::Any(several.iter().map(|detection| detection.test.clone()).collect()),
        };
        let subject = match &trigger {
            Some(
                Trigger::Count { group_by, .. }
                | Trigger::Distinct { group_by, .. }
                | Trigger::Sum { group_by, .. },
            ) => group_by.clone(),
            _ => Vec::new(),
        };
        let told = Told {
            id: correlation.id.as_deref(),
            title: &correlation.title,
            severity: severity?,
            subject,
        };
        Some(self.rule(index, told, attributes, source, test, trigger?))
    }

    fn detection(
        &self,
        index: usize,
        detection: &Detection<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Rule> {
        let document = &self.documents[index];
        let source = detection.source;
        let attributes = attributes(document, source, problems);
        if attributes.parts.is_some()
            && let Some((_, path)) = document.attribute("watchfold.parts")
        {
            problems.push(document.problem(&path, "`watchfold.parts` is for value_sum"));
        }
        if attributes.withdrawn_by.is_some()
            && let Some((_, path)) = document.attribute("watchfold.withdrawn_by")
        {
            problems.push(document.problem(&path, "`watchfold.withdrawn_by` is for value_count"));
        }
        let severity = severity(document, detection.rule.level, problems);
        let (test, trigger) = match attributes.scaled {
            None => (detection.test.clone(), Trigger::Each),
            Some(field) => match take_threshold(detection.test.clone(), field) {
                Ok((test, at_least)) => {
                    let field = field.name().to_owned();
                    (test, Trigger::Value { field, at_least })
                }
                Err(reason) => {
                    problems.push(document.problem(&["detection"], reason));
                    return None;
                }
            },
        };
        let subject = match source {
            Source::Packet | Source::Connection | Source::Neighbour => Field::SourceIp,
            Source::Ping => Field::PingTarget,
        };
        let told = Told {
            id: detection.rule.id.as_deref(),
            title: &detection.rule.title,
            severity: severity?,
            subject: vec![subject.name().to_owned()],
        };
        Some(self.rule(index, told, attributes, source, test, trigger))
    }

    fn rule(
        &self,
        index: usize,
        told: Told<'_>,
        attributes: Attributes,
        source: Source,
        test: Test,
        trigger: Trigger,
    ) -> Rule {
        let name = self.names[index].clone();
        let subject = attributes.subject.unwrap_or(told.subject);
        let message = attributes.message.unwrap_or_else(|| {
            let about: Vec<String> = subject.iter().map(|field| format!("{{{field}}}")).collect();
            // Braces in a title are no fields.
            format!("{}: {}", told.title.replace(['{', '}'], ""), about.join(" "))
        });
        Rule {
            id: told.id.map_or_else(|| name.clone(), str::to_owned),
            title: told.title.to_owned(),
            version: attributes.version,
            category: attributes.category.unwrap_or_else(|| name.clone()),
            severity: told.severity,
            state: attributes.state,
            source,
            test,
            exclusions: attributes.exclusions.into_iter().map(Exclusion::from).collect(),
            trigger,
            subject,
            cooldown_ms: attributes.cooldown_ms,
            reputation: attributes.reputation,
            counts_duplicates: attributes.counts_duplicates,
            withdrawn_by: attributes.withdrawn_by,
            message,
            name,
        }
    }
}

/// What a rule of either kind says of itself.
struct Told<'d> {
    id: Option<&'d str>,
    title: &'d str,
    severity: Severity,
    /// Where it names none.
    subject: Vec<String>,
}

fn severity(document: &Document, level: Option<Level>, problems: &mut Vec<Problem>) -> Option<Severity> {
    match level {
        Some(Level::Informational) => Some(Severity::Info),
        Some(Level::Low) => Some(Severity::Low),
        Some(Level::Medium) => Some(Severity::Medium),
        Some(Level::High) => Some(Severity::High),
        Some(Level::Critical) => Some(Severity::Critical),
        // A level that is none is told already.
        None if document.map.contains_key("level") => None,
        None => {
            problems.push(Problem {
                instead: Some("write `level: medium`, for example".to_owned()),
                ..document.problem(&["title"], "the rule has no level")
            });
            None
        }
    }
}
