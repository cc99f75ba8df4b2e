//! `watchfold rules`: files of rules checked, rules shown, test directories run. Activates nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use watchfold_config::RuleExclusion;
use watchfold_kit::{Clock as _, SystemClock};
use watchfold_rules::{
    PackName, RuleSource, RulesConfig, RulesError, load, load_together, rule_set, test_in_words,
    trigger_in_words,
};
use watchfold_schemas::Time;
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::{Exclusion, Rule, RuleSet, RuleState};

use crate::cli::{Format, RulesCheckArgs, RulesCommand, RulesListArgs, ScenarioCommand};
use crate::config;
use crate::paths::Data;
use crate::scenario;
use watchfold_kit::{console, errln};

/// Files have problems.
const PROBLEMS: u8 = 1;
/// Something cannot be read, so nothing is known.
const TROUBLE: u8 = 2;

pub fn run(command: RulesCommand) -> anyhow::Result<ExitCode> {
    match command {
        RulesCommand::Check(args) => check(&args),
        RulesCommand::List(args) => list(&args),
        RulesCommand::Test(args) => scenario::run(&ScenarioCommand::Test(args)),
    }
}

fn check(args: &RulesCheckArgs) -> anyhow::Result<ExitCode> {
    let sources: Vec<RuleSource> = args.paths.iter().map(|path| source(path)).collect();
    match load_together(&sources) {
        Ok(set) => {
            errln!("{} rules, and nothing is wrong with them", set.rules.len());
            Ok(ExitCode::SUCCESS)
        }
        Err(RulesError::Invalid(problems)) => {
            let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            tell(&lines)?;
            let word = if problems.len() == 1 {
                "problem"
            } else {
                "problems"
            };
            errln!("{} {word}", problems.len());
            Ok(ExitCode::from(PROBLEMS))
        }
        Err(error) => {
            errln!("watchfold: {error}");
            Ok(ExitCode::from(TROUBLE))
        }
    }
}

fn source(text: &str) -> RuleSource {
    let Ok(source) = text.parse();
    source
}

fn list(args: &RulesListArgs) -> anyhow::Result<ExitCode> {
    let set = listed(args)?;
    match args.format {
        Format::Human => tell(&table(&set, SystemClock::new().wall()))?,
        Format::Json => tell(&(serde_json::to_string_pretty(&set)? + "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules that are named, or those of a configuration; the default pack where there is neither.
fn listed(args: &RulesListArgs) -> anyhow::Result<RuleSet> {
    if let Some(rules) = &args.rules {
        return Ok(load(&source(rules))?);
    }
    let usual = Data::locate(args.data.data.as_deref())?.config();
    let path = match &args.config {
        Some(path) => path,
        None if usual.exists() => &usual,
        None => return Ok(load(&RuleSource::Pack(PackName::Default))?),
    };
    let config = config::load(path)?;
    Ok(rule_set(&config.rules, path.parent().unwrap_or(Path::new(".")))?)
}

fn table(set: &RuleSet, now: Time) -> String {
    let width = set.rules.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    let mut text = format!("{}: {} rules\n", set.name, set.rules.len());
    for rule in &set.rules {
        let (state, severity) = (state_in_words(rule.state), severity_in_words(rule.severity));
        let _ = writeln!(
            text,
            "\n{:width$}  {state}, {severity}: {}",
            rule.name, rule.title
        );
        for (what, told) in details(rule, now) {
            let _ = writeln!(text, "{:width$}  {what} {told}", "");
        }
    }
    text
}

fn details(rule: &Rule, now: Time) -> Vec<(&'static str, String)> {
    let mut details = vec![
        ("at  ", trigger_in_words(&rule.trigger)),
        (
            "rows",
            format!("{}: {}", rule.source.name(), test_in_words(&rule.test)),
        ),
        (
            "told",
            format!(
                "as {} of {}, again after {}",
                rule.category,
                rule.subject.join(" and "),
                watchfold_rules::span_in_words(rule.cooldown_ms)
            ),
        ),
    ];
    if let Some(field) = &rule.reputation {
        details.push(("asks", format!("about {field}")));
    }
    let excluded = rule.exclusions.iter();
    details.extend(excluded.map(|exclusion| ("not ", exclusion_in_words(exclusion, now))));
    details
}

/// What a rule does not count, until when, and why.
pub fn exclusion_in_words(exclusion: &Exclusion, now: Time) -> String {
    let mut words = test_in_words(&exclusion.test);
    match exclusion.until {
        Some(until) if exclusion.is_over(now) => {
            let _ = write!(words, ", expired: it ended at {until}");
        }
        Some(until) => {
            let _ = write!(words, ", until {until}");
        }
        None => {}
    }
    if let Some(reason) = &exclusion.reason {
        let _ = write!(words, " ({reason})");
    }
    words
}

/// One warning for each exclusion of the configuration that excludes nothing any more.
pub fn expired(config: &RulesConfig, now: Time) -> Vec<String> {
    let until = |exclusion: &RuleExclusion| exclusion.until.filter(|until| *until <= now);
    let warning = |exclusion: &RuleExclusion| {
        until(exclusion).map(|until| {
            format!(
                "{}:{}: rules.exclude of {:?} expired at {until}, and the rule counts these rows again: take it out, or give it another \
                 `until`",
                exclusion.file, exclusion.line, exclusion.rule
            )
        })
    };
    config.exclude.iter().filter_map(warning).collect()
}

fn state_in_words(state: RuleState) -> &'static str {
    match state {
        RuleState::Enforce => "enforce",
        RuleState::Record => "record",
        RuleState::Off => "off",
    }
}

fn severity_in_words(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "informational",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// A closed pipe does not change the status.
fn tell(text: &str) -> anyhow::Result<()> {
    console::while_read(console::write(text).map_err(Into::into)).map(drop)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(arguments: &[&str]) -> RulesCommand {
        let all = ["watchfold", "rules"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Rules(command) => command,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn ends(arguments: &[&str], status: u8) {
        let ended = run(command(arguments)).unwrap();
        assert_eq!(ended, ExitCode::from(status), "{arguments:?}");
    }

    #[test]
    fn the_status_tells_good_from_wrong_from_unreadable() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let base = "title: A\nname: a\nlogsource:\n  category: packet\ndetection:\n  s:\n    tcp.syn: true\n  condition: s\n";
        let counts = "title: B\nlevel: low\ncorrelation:\n  type: event_count\n  rules: [a]\n  timespan: 5s\n  condition:\n    gte: 3\n";
        let (base, counts) = (file("a.yml", base), file("b.yml", counts));
        ends(&["check", "default"], 0);
        ends(&["check", &base, &counts], 0);
        ends(&["check", &directory.path().display().to_string()], 0);
        ends(&["check", &counts], PROBLEMS);
        ends(&["check", "/no/such/rules"], TROUBLE);
        ends(&["list", "--rules", "classic", "--format", "json"], 0);
    }

    #[test]
    fn a_configuration_lists_what_it_puts_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("watchfold.toml");
        let text = "site = \"a\"\n[rules]\nset = \"classic\"\nport_scan_threshold = 33\n[rules.states]\nsyn_flood = \"record\"\n[[rules.exclude]]\nrule \
                    = \"icmp_flood\"\nsource = \"10.0.0.0/8\"\nreason = \"monitoring\"\nuntil = 2020-05-01T00:00:00Z\n[[rules.exclude]]\n\
                    rule = \"dns_tunnel\"\ndns.question.zone = [\"a\\\\*b\", \"*a\\\\*b*\"]\nuntil = 2200-01-01T00:00:00Z\n";
        std::fs::write(&path, text).unwrap();
        let RulesCommand::List(args) = command(&["list", "--config", &path.display().to_string()]) else {
            panic!("another command");
        };
        let table = table(&listed(&args).unwrap(), Time::from_seconds(1_800_000_000));
        for line in [
            "classic: 9 rules",
            "record, critical: SYN flood",
            "at   33 different destination.port in 10s of one source.ip",
            "not  source.ip lies in 10.0.0.0/8, expired: it ended at 2020-05-01T00:00:00Z (monitoring)",
            r"not  (dns.question.zone is a\*b or dns.question.zone is like *a\*b*), until 2200",
            "asks about external.ip",
            "told as suspicious_port of source.ip and destination.port, again after 15s",
        ] {
            assert!(table.contains(line), "{line:?} is not in\n{table}");
        }
    }
}
