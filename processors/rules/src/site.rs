//! What a site's `[rules]` section makes of a set: its states, thresholds, cooldown and exclusions folded in.

use std::path::Path;

use watchfold_config::{ExcludedField, RuleExclusion, RulesConfig, Thresholds, Window};
use watchfold_schemas::fields::{Field, Kind, Source};
use watchfold_schemas::rules::{Compare, Exclusion, FieldTest, Rule, RuleSet, Test, Trigger, Value};

use crate::error::{RulesError, SectionProblem};
use crate::network::network;
use crate::sigma::{excluded_test, known_field};
use crate::source::{RuleSource, load};
use crate::suggest::nearest;

/// The names that both packs give to the rules that the old keys are about.
const PORT_SCAN: &str = "port_scan";
const SYN_FLOOD: &str = "syn_flood";
const ICMP_FLOOD: &str = "icmp_flood";
const DNS_TUNNEL: &str = "dns_tunnel";
const EXFILTRATION: &str = "exfiltration";
const BRUTE_FORCE: &str = "brute_force";
/// A category: one detector may be several rules.
const SUSPICIOUS_PORT: &str = "suspicious_port";

/// The rules of a site, for all chains ([`RuleSet::of_chain`]). A set that is no pack is looked for in `directory`, which
/// is the configuration file's.
pub fn rule_set(config: &RulesConfig, directory: &Path) -> Result<RuleSet, RulesError> {
    let source = match crate::PackName::from_name(&config.set) {
        Some(pack) => RuleSource::Pack(pack),
        None => RuleSource::Directory(directory.join(&config.set)),
    };
    fold_in(config, load(&source)?)
}

/// A set that was loaded already, with what the section says folded in.
pub fn fold_in(config: &RulesConfig, mut set: RuleSet) -> Result<RuleSet, RulesError> {
    let mut problems = Vec::new();
    states(config, &mut set, &mut problems);
    thresholds(&config.thresholds, &mut set, &mut problems);
    if let Some(cooldown_ms) = config.alert_cooldown_ms {
        for rule in &mut set.rules {
            rule.cooldown_ms = cooldown_ms;
        }
    }
    for (index, exclusion) in config.exclude.iter().enumerate() {
        exclude(exclusion, index, &mut set, &mut problems);
    }
    // What stood in files was held against the folds when it was loaded; this is what the section made of it.
    let unfit = watchfold_folds::rules_problems(&set);
    problems.extend(
        unfit
            .iter()
            .map(|problem| wrong("rules".to_owned(), format!("rules: {problem}"))),
    );
    match problems.is_empty() {
        true => Ok(set),
        false => Err(RulesError::Section(problems)),
    }
}

fn wrong(key: String, reason: String) -> SectionProblem {
    SectionProblem {
        key,
        place: None,
        reason,
    }
}

fn states(config: &RulesConfig, set: &mut RuleSet, problems: &mut Vec<SectionProblem>) {
    for (name, state) in &config.states {
        match set.rules.iter_mut().find(|rule| rule.name == *name) {
            Some(rule) => rule.state = *state,
            None => {
                let key = format!("rules.states.{name}");
                let reason = format!("{key}: {}", no_such_rule(name, set));
                problems.push(wrong(key, reason));
            }
        }
    }
}

fn no_such_rule(name: &str, set: &RuleSet) -> String {
    let names = || set.rules.iter().map(|rule| rule.name.as_str());
    let instead = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    format!("the set `{}` has no rule `{name}`; {instead}", set.name)
}

fn thresholds(old: &Thresholds, set: &mut RuleSet, problems: &mut Vec<SectionProblem>) {
    let numbers = [
        ("port_scan_threshold", PORT_SCAN, old.port_scan_threshold),
        ("syn_flood_threshold", SYN_FLOOD, old.syn_flood_threshold),
        ("icmp_flood_threshold", ICMP_FLOOD, old.icmp_flood_threshold),
        ("dns_tunnel_threshold", DNS_TUNNEL, old.dns_tunnel_threshold),
        ("exfil_threshold", EXFILTRATION, old.exfil_threshold),
        ("brute_force_threshold", BRUTE_FORCE, old.brute_force_threshold),
    ];
    for (key, name, number) in numbers {
        if let Some(number) = number {
            change(key, name, set, problems, |rule| set_threshold(rule, number));
        }
    }
    let windows = [
        ("port_scan_window", PORT_SCAN, old.port_scan_window),
        ("syn_flood_window", SYN_FLOOD, old.syn_flood_window),
        ("icmp_flood_window", ICMP_FLOOD, old.icmp_flood_window),
        ("exfil_window", EXFILTRATION, old.exfil_window),
        ("brute_force_window", BRUTE_FORCE, old.brute_force_window),
    ];
    for (key, name, window) in windows {
        if let Some(Window(window_ms)) = window {
            change(key, name, set, problems, |rule| set_window(rule, window_ms));
        }
    }
    if let Some(ports) = &old.suspicious_ports {
        let mut found = false;
        for rule in set
            .rules
            .iter_mut()
            .filter(|rule| rule.category == SUSPICIOUS_PORT)
        {
            found |= set_ports(&mut rule.test, ports);
        }
        if !found {
            let reason = format!(
                "rules.suspicious_ports: the set `{}` has no rule of category `{SUSPICIOUS_PORT}` that lists ports",
                set.name
            );
            problems.push(wrong("rules.suspicious_ports".to_owned(), reason));
        }
    }
}

/// Changes the rule that a key is about, or says that it cannot.
fn change(
    key: &str,
    name: &str,
    set: &mut RuleSet,
    problems: &mut Vec<SectionProblem>,
    change: impl FnOnce(&mut Rule) -> bool,
) {
    let reason = match set.rules.iter_mut().find(|rule| rule.name == name) {
        None => format!("the set `{}` has no rule `{name}`", set.name),
        Some(rule) => {
            if change(rule) {
                return;
            }
            format!("the rule `{name}` of the set `{}` has no such number", set.name)
        }
    };
    let key = format!("rules.{key}");
    let reason = format!("{key}: {reason}; change the rule itself, or take the key out");
    problems.push(wrong(key, reason));
}

fn set_threshold(rule: &mut Rule, number: u64) -> bool {
    match &mut rule.trigger {
        Trigger::Count { at_least, .. } | Trigger::Value { at_least, .. } | Trigger::Sum { at_least, .. } => {
            *at_least = number
        }
        // In the default pack the length of a name is one condition among others.
        Trigger::Distinct { .. } if rule.name == DNS_TUNNEL => return set_length(&mut rule.test, number),
        Trigger::Distinct { at_least, .. } => *at_least = number,
        Trigger::Each => return false,
    }
    true
}

fn set_length(test: &mut Test, number: u64) -> bool {
    let lengths = [Field::DnsLength.name(), Field::DnsSubdomainLength.name()];
    let Ok(number) = i64::try_from(number) else {
        return false;
    };
    change_fields(test, &mut |field| {
        let is_length = lengths.contains(&field.field.as_str()) && field.compare == Compare::AtLeast;
        if is_length {
            field.values = vec![Value::Number(number)];
        }
        is_length
    })
}

fn set_window(rule: &mut Rule, number: u64) -> bool {
    match &mut rule.trigger {
        Trigger::Count { window_ms, .. }
        | Trigger::Distinct { window_ms, .. }
        | Trigger::Sum { window_ms, .. } => *window_ms = number,
        Trigger::Each | Trigger::Value { .. } => return false,
    }
    true
}

fn set_ports(test: &mut Test, ports: &[u16]) -> bool {
    let fields = [Field::SourcePort.name(), Field::DestinationPort.name()];
    change_fields(test, &mut |field| {
        let is_list = fields.contains(&field.field.as_str()) && field.compare == Compare::Equals;
        if is_list {
            field.values = ports.iter().map(|port| Value::Number(i64::from(*port))).collect();
        }
        is_list
    })
}

/// Whether any field was changed.
fn change_fields(test: &mut Test, change: &mut impl FnMut(&mut FieldTest) -> bool) -> bool {
    match test {
        Test::All(tests) | Test::Any(tests) => tests
            .iter_mut()
            .fold(false, |changed, test| change_fields(test, change) | changed),
        Test::Not(inner) => change_fields(inner, change),
        Test::Field(field) => change(field),
    }
}

fn exclude(exclusion: &RuleExclusion, index: usize, set: &mut RuleSet, problems: &mut Vec<SectionProblem>) {
    let name = &exclusion.rule;
    let wrong = |line: usize, key: &str, reason: String| SectionProblem {
        key: format!("rules.exclude[{index}].{key}"),
        place: (line > 0).then(|| (exclusion.file.clone(), line)),
        reason: format!("rules.exclude of `{name}`: {reason}"),
    };
    let unknown = no_such_rule(name, set);
    let Some(rule) = set.rules.iter_mut().find(|rule| rule.name == *name) else {
        problems.push(wrong(exclusion.line, "rule", unknown));
        return;
    };
    let before = problems.len();
    let mut tests = Vec::new();
    for field in &exclusion.fields {
        match field_test(field, rule.source) {
            Ok(test) => tests.push(test),
            Err(reasons) => {
                let found = reasons
                    .into_iter()
                    .map(|reason| wrong(field.line, &field.key, reason));
                problems.extend(found);
            }
        }
    }
    if problems.len() == before {
        rule.exclusions.push(Exclusion {
            test: Test::All(tests),
            reason: exclusion.reason.clone(),
            until: exclusion.until,
        });
    }
}

/// What a row must have in one field to be passed over, or everything that is wrong with it.
fn field_test(excluded: &ExcludedField, source: Source) -> Result<Test, Vec<String>> {
    let told = |reason: String, instead: Option<String>| match instead {
        Some(instead) => format!("{reason}; {instead}"),
        None => reason,
    };
    let field = match known_field(&excluded.field, source) {
        Ok(field) => field,
        Err(unknown) => {
            let has: Vec<&str> = Field::ALL
                .iter()
                .filter(|field| field.is_of(source))
                .map(|field| field.name())
                .collect();
            let reason = format!("{} rows have no `{}`", source.name(), excluded.field);
            let instead = unknown
                .instead
                .unwrap_or_else(|| format!("they have {}", has.join(", ")));
            return Err(vec![told(reason, Some(instead))]);
        }
    };
    let is_plain = excluded.modifiers.is_empty();
    let is_network = |value: &&Value| {
        let text = match value {
            Value::Text(text) => text,
            _ => return false,
        };
        is_plain && field.kind() == Kind::Address && network(text).is_some()
    };
    let (networks, others): (Vec<&Value>, Vec<&Value>) = excluded.values.iter().partition(is_network);
    let mut tests = Vec::new();
    let mut found = Vec::new();
    for (modifier, values) in [(Some("cidr"), networks), (None, others)] {
        if values.is_empty() {
            continue;
        }
        let words = excluded.modifiers.iter().map(String::as_str).chain(modifier);
        match excluded_test(field, words, &values) {
            Ok(test) => tests.push(test),
            Err(wrong) => found.extend(wrong.into_iter().map(|wrong| told(wrong.reason, wrong.instead))),
        }
    }
    match (found.is_empty(), tests.len()) {
        (false, _) => Err(found),
        (true, 1) => Ok(tests.remove(0)),
        (true, _) => Ok(Test::Any(tests)),
    }
}
