//! `watchfold init` and `watchfold config check`: making a configuration from what is found, and checking one.

use std::io::{BufRead, IsTerminal};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use watchfold_config::{Problems, RulesConfig};
use watchfold_kit::{Clock as _, SystemClock};
use watchfold_ping::{default_gateway, local_subnets};
use watchfold_rules::{RulesError, rule_set};
use watchfold_schemas::rules::{Exclusion, RuleSet};
use watchfold_schemas::subjects::{is_token, tokenize};

use crate::cli::{CheckArgs, Format, InitArgs};
use crate::config::{self, ConfigError, Mistake};
use crate::exit;
use crate::paths::{Data, write_private};
use watchfold_kit::{console, errln, outln};

/// What a configuration begins as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub site: String,
    pub router: Option<IpAddr>,
    pub internet: Vec<IpAddr>,
    pub pcs: Option<(Ipv4Addr, u32)>,
    pub discord: Option<String>,
    pub healthchecks: Option<String>,
}

impl Draft {
    /// What this machine tells without asking anybody.
    pub fn discover() -> Draft {
        let router = default_gateway().map(|gateway| gateway.address);
        let name = std::fs::read_to_string("/etc/hostname")
            .ok()
            .or_else(|| std::env::var("COMPUTERNAME").ok());
        let name = name
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        Draft {
            site: name.map_or_else(|| "site-1".to_owned(), |name| tokenize(&name)),
            router,
            internet: vec![Ipv4Addr::new(8, 8, 8, 8).into(), Ipv4Addr::new(1, 1, 1, 1).into()],
            pcs: None,
            discord: None,
            healthchecks: None,
        }
    }

    /// One sentence for the first start.
    pub fn summary(&self) -> String {
        let internet: Vec<String> = self.internet.iter().map(IpAddr::to_string).collect();
        let internet = internet.join(" and ");
        match self.router {
            Some(router) => format!("watching the router {router} and the internet by {internet}"),
            None => format!("found no default gateway, so watching the internet by {internet} only"),
        }
    }

    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# The configuration of this site. A running `watchfold up` takes changes over by itself.\n\
             # Check it with `watchfold config check`. All keys: docs/watchfold.example.toml.\n\n",
        );
        text += &format!("site = {:?}\n\n[network]\n", self.site);
        text += "# interval = \"2s\"\n# min_incident = \"10s\"\n";
        if let Some(router) = self.router {
            text += &format!("\n[[network.targets]]\nname = \"router\"\naddress = \"{router}\"\n");
        }
        let addresses: Vec<String> = self
            .internet
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        text += &format!(
            "\n[[network.targets]]\nname = \"internet\"\naddress = [{}]\n",
            addresses.join(", ")
        );
        if self.router.is_some() {
            text += "depends_on = [\"router\"]\n";
        }
        text += "\n# PCs, to see who is here:\n";
        match self.pcs {
            Some((from, count)) => {
                text += &format!("[occupancy]\nranges = [{{ from = \"{from}\", count = {count} }}]\n");
            }
            None => {
                let from = self.proposed_pcs();
                text += &format!(
                    "# [occupancy]\n# ranges = [{{ from = \"{from}\", count = 20, name = \"PC-{{n}}\" }}]\n"
                );
            }
        }
        text += "\n# By which rules captured packets are judged: \"default\", \"classic\", or a directory of Sigma files.\n";
        text += "# [rules]\n# set = \"default\"\n";
        text += "\n# Secrets may also be { file = \"path\" } or { env = \"NAME\" }.\n";
        text += &match &self.discord {
            Some(url) => format!("[sinks.discord]\nalerts = {url:?}\noccupancy = {url:?}\n"),
            None => "# [sinks.discord]\n# alerts = \"https://discord.com/api/webhooks/…\"\n".to_owned(),
        };
        text += &match &self.healthchecks {
            Some(url) => format!("\n[sinks.healthchecks]\nurl = {url:?}\n"),
            None => "\n# [sinks.healthchecks]\n# url = \"https://hc-ping.com/…\"\n".to_owned(),
        };
        text
    }

    /// Where PCs are likely: the usual first address of the local network.
    fn proposed_pcs(&self) -> Ipv4Addr {
        let own = local_subnets()
            .into_iter()
            .flatten()
            .find_map(|subnet| match subnet.address {
                IpAddr::V4(address) if self.router.is_none_or(|router| subnet.contains(router)) => {
                    Some(address)
                }
                _ => None,
            });
        let [a, b, c, _] = own.unwrap_or(Ipv4Addr::new(192, 168, 1, 0)).octets();
        Ipv4Addr::new(a, b, c, 110)
    }
}

pub fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let data = Data::locate(args.data.data.as_deref())?;
    let path = args.config.clone().unwrap_or_else(|| data.config());
    if path.exists() && !args.force {
        bail!(
            "{} is already there: edit it, or replace it with --force",
            path.display()
        );
    }
    let mut draft = Draft::discover();
    if !args.no_input {
        if !std::io::stdin().is_terminal() {
            bail!("standard input is not a terminal: add --no-input to take what is found");
        }
        ask_all(&mut draft, &mut std::io::stdin().lock())?;
    }
    let text = draft.to_toml();
    config::parse(&text, &path)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
    }
    write_private(&path, &text).with_context(|| format!("failed to write {}", path.display()))?;
    outln!("wrote {}: {}", path.display(), draft.summary())?;
    outln!("start it with: {}", start_command(args))?;
    Ok(ExitCode::SUCCESS)
}

/// The command that starts what was made, with the same file and directory.
fn start_command(args: &InitArgs) -> String {
    let options = [("--config", &args.config), ("--data", &args.data.data)];
    let given = options
        .into_iter()
        .filter_map(|(option, path)| Some((option, path.as_ref()?)));
    let given = given.map(|(option, path)| format!(" {option} {}", quoted(path)));
    format!("watchfold up{}", given.collect::<String>())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:\\".contains(char);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn ask_all(draft: &mut Draft, input: &mut impl BufRead) -> anyhow::Result<()> {
    draft.site = ask(input, "Name of this place", &draft.site, |text| {
        is_token(text)
            .then(|| text.to_owned())
            .ok_or("letters, digits, '-' and '_' only")
    })?;
    let router = draft
        .router
        .map(|address| address.to_string())
        .unwrap_or_default();
    draft.router = ask(
        input,
        "Address of the router (empty for none)",
        &router,
        |text| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| "not an address"),
        },
    )?;
    let count = ask(input, "How many PCs are there to watch", "0", |text| {
        text.parse::<u32>()
            .ok()
            .filter(|count| *count <= 254)
            .ok_or("a number up to 254")
    })?;
    if count > 0 {
        let from = draft.proposed_pcs().to_string();
        let from = ask(input, "Address of the first one", &from, |text| {
            text.parse().map_err(|_| "not an IPv4 address")
        })?;
        draft.pcs = Some((from, count));
    }
    let optional = |text: &str| match text {
        "" => Ok(None),
        text if text.starts_with("http") => Ok(Some(text.to_owned())),
        _ => Err("an address that begins with https://"),
    };
    draft.discord = ask(input, "Discord webhook (empty for none)", "", optional)?;
    draft.healthchecks = ask(
        input,
        "healthchecks.io ping address (empty for none)",
        "",
        optional,
    )?;
    Ok(())
}

/// Asks until the answer can be read; an empty answer is the default.
fn ask<T>(
    input: &mut impl BufRead,
    question: &str,
    default: &str,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> anyhow::Result<T> {
    loop {
        let shown = if default.is_empty() {
            String::new()
        } else {
            format!(" [{default}]")
        };
        console::write_message(format_args!("{question}{shown}: "));
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("no answer to {question:?}: add --no-input to take what is found");
        }
        let answer = if line.trim().is_empty() {
            default
        } else {
            line.trim()
        };
        match read(answer) {
            Ok(value) => return Ok(value),
            Err(why) => errln!("  {why}"),
        }
    }
}

pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let data = Data::locate(args.data.data.as_deref())?;
    let path = args.config.clone().unwrap_or_else(|| data.config());
    let (config, rules) = match checked(&path) {
        Ok(good) => good,
        Err(error) if args.format == Format::Json => {
            let errors = mistakes_of(&error, &path);
            outln!(
                "{}",
                serde_json::to_string_pretty(&serde_json::json!({ "errors": errors }))?
            )?;
            return Ok(exit::of(&error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    let mut warnings = config.warnings.clone();
    warnings.extend(crate::rules::expired(&config.rules, SystemClock::new().wall()));
    for warning in &warnings {
        errln!("warning: {warning}");
    }
    match args.format {
        Format::Human => {
            let targets: Vec<&str> = config
                .site
                .network
                .targets
                .iter()
                .map(|target| target.name.as_str())
                .collect();
            outln!("{} is good: site {}", path.display(), config.site.site)?;
            outln!(
                "  targets  {}",
                if targets.is_empty() {
                    "none".to_owned()
                } else {
                    targets.join(", ")
                }
            )?;
            outln!("  PCs      {}", config.site.occupancy.hosts.len())?;
            outln!("  captures {}", interfaces(&config))?;
            outln!("  page     {}", config.listen)?;
            outln!("  rules    {}: {}", rules.name, rules.rules.len())?;
            for (rule, exclusion) in excluded(&rules) {
                let words = crate::rules::exclusion_in_words(exclusion, SystemClock::new().wall());
                outln!("  excluded {rule}: {words}")?;
            }
            outln!("  sinks    {}", sinks(&config))?;
        }
        Format::Json => outln!("{}", serde_json::to_string_pretty(&config.site)?)?,
    }
    let denied = args.deny_warnings && !warnings.is_empty();
    Ok(if denied {
        ExitCode::from(78)
    } else {
        ExitCode::SUCCESS
    })
}

/// The file and its rules. Mistakes of both are found in one pass.
fn checked(path: &Path) -> Result<(config::Config, RuleSet), ConfigError> {
    let rules_of = |rules: &RulesConfig| rule_set(rules, path.parent().unwrap_or(Path::new(".")));
    match config::load(path) {
        Ok(config) => match rules_of(&config.rules) {
            Ok(rules) => Ok((config, rules)),
            Err(error) => Err(ConfigError::Invalid {
                path: path.to_owned(),
                mistakes: mistakes_of_rules(error, path),
                rules: None,
            }),
        },
        Err(ConfigError::Invalid {
            path: of,
            mut mistakes,
            rules,
        }) => {
            let more = rules.as_deref().and_then(|rules| rules_of(rules).err());
            mistakes.extend(more.into_iter().flat_map(|error| mistakes_of_rules(error, path)));
            Err(ConfigError::Invalid {
                path: of,
                mistakes,
                rules: None,
            })
        }
        Err(error) => Err(error),
    }
}

fn mistakes_of(error: &ConfigError, path: &Path) -> Vec<Mistake> {
    match error {
        ConfigError::Invalid { mistakes, .. } => mistakes.clone(),
        ConfigError::Read { .. } => vec![whole_file(path.display().to_string(), error.to_string())],
    }
}

fn mistakes_of_rules(error: RulesError, path: &Path) -> Vec<Mistake> {
    match error {
        RulesError::Section(problems) => {
            let mut found = Problems::default();
            for problem in problems {
                found.push(problem.key, problem.reason);
            }
            mistakes_of(&watchfold_config::refuse(path, found), path)
        }
        RulesError::Invalid(problems) => problems
            .into_iter()
            .map(|problem| Mistake {
                line: Some(problem.line).filter(|line| *line > 0),
                help: problem.instead,
                ..whole_file(problem.file, problem.reason)
            })
            .collect(),
        error => {
            let mut found = Problems::default();
            found.push("rules.set", format!("rules.set: {error}"));
            mistakes_of(&watchfold_config::refuse(path, found), path)
        }
    }
}

fn whole_file(file: String, message: String) -> Mistake {
    Mistake {
        file,
        line: None,
        column: None,
        key: None,
        message,
        help: None,
    }
}

/// What rules do not count, with the rule's name.
fn excluded(rules: &RuleSet) -> impl Iterator<Item = (&str, &Exclusion)> {
    rules.rules.iter().flat_map(|rule| {
        let exclusions = rule.exclusions.iter();
        exclusions.map(|exclusion| (rule.name.as_str(), exclusion))
    })
}

fn interfaces(config: &config::Config) -> String {
    let names: Vec<&str> = config
        .captures
        .iter()
        .map(|capture| capture.interface.as_str())
        .collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn sinks(config: &config::Config) -> String {
    let named = [
        ("discord", config.discord.is_some()),
        ("healthchecks", config.healthchecks.is_some()),
        ("virustotal", config.virustotal.is_some()),
    ];
    let there: Vec<&str> = named
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            site: "cafe-1".into(),
            router: Some("192.168.1.1".parse().unwrap()),
            internet: vec!["8.8.8.8".parse().unwrap()],
            pcs: Some(("192.168.1.110".parse().unwrap(), 20)),
            discord: Some("https://discord.test/api/webhooks/1/x".into()),
            healthchecks: None,
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let nothing = Draft {
            router: None,
            pcs: None,
            discord: None,
            ..draft()
        };
        for (draft, pcs) in [(draft(), 20), (nothing, 0)] {
            let config =
                config::parse(&draft.to_toml(), Path::new("x")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.site.occupancy.hosts.len(), pcs);
            assert_eq!(config.site.site, "cafe-1");
        }
    }

    #[test]
    fn mistakes_of_a_file_and_of_its_rules_are_found_in_one_pass() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("watchfold.toml");
        std::fs::create_dir(directory.path().join("rules")).unwrap();
        std::fs::write(directory.path().join("rules/a.yml"), "title: A\nlogsorce: {}\n").unwrap();
        std::fs::write(&path, "site = \"a\"\nlisten = 1\n[rules]\nset = \"rules\"\n").unwrap();
        let found = |path: &Path| mistakes_of(&checked(path).unwrap_err(), path);
        let mistakes = found(&path);
        let names: Vec<&str> = mistakes
            .iter()
            .filter_map(|mistake| mistake.file.rsplit('/').next())
            .collect();
        assert_eq!(
            (names[0], mistakes[0].line),
            ("watchfold.toml", Some(2)),
            "{mistakes:#?}"
        );
        assert!(names[1..].contains(&"a.yml"), "{mistakes:#?}");
        let text = "site = \"a\"\n[rules.states]\nport_scam = \"off\"\n[[rules.exclude]]\nrule = \"port_scan\"\n\
                    dns.question.name = \"x\"\n";
        std::fs::write(&path, text).unwrap();
        let keys: Vec<(Option<usize>, Option<String>)> = found(&path)
            .into_iter()
            .map(|mistake| (mistake.line, mistake.key))
            .collect();
        assert_eq!(
            keys,
            [
                (Some(3), Some("rules.states.port_scam".to_owned())),
                (Some(6), Some("rules.exclude[0].dns.question.name".to_owned())),
            ]
        );
        let missing = found(&directory.path().join("none.toml"));
        assert!(missing[0].message.contains("watchfold init"), "{missing:#?}");
    }

    #[test]
    fn the_command_to_start_names_what_init_was_given() {
        let args = |config: Option<&str>, data: Option<&str>| InitArgs {
            config: config.map(Into::into),
            data: crate::cli::DataArgs {
                data: data.map(Into::into),
            },
            force: false,
            no_input: true,
        };
        assert_eq!(start_command(&args(None, None)), "watchfold up");
        assert_eq!(
            start_command(&args(None, Some("/srv/x"))),
            "watchfold up --data /srv/x"
        );
        assert_eq!(
            start_command(&args(Some("a b.toml"), Some("d"))),
            "watchfold up --config 'a b.toml' --data d"
        );
    }

    #[test]
    fn answers_are_asked_for_until_they_can_be_read() {
        let mut draft = draft();
        let answers = "my cafe\ncafe-2\n\n3\n10.0.0.5\n\nnonsense\nhttps://hc-ping.com/x\n";
        ask_all(&mut draft, &mut answers.as_bytes()).unwrap();
        assert_eq!(draft.site, "cafe-2");
        assert_eq!(draft.router, Some("192.168.1.1".parse().unwrap()));
        assert_eq!(draft.pcs, Some(("10.0.0.5".parse().unwrap(), 3)));
        assert_eq!(
            (draft.discord.as_deref(), draft.healthchecks.as_deref()),
            (None, Some("https://hc-ping.com/x"))
        );
        assert!(ask_all(&mut draft, &mut "".as_bytes()).is_err());
    }
}
