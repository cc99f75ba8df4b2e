//! What programs that run one sink, or none, make of a file; the whole file is tested with the command.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lamp {
    colour: String,
}

/// A program that runs one sink only.
fn lamp(text: &str, naming: Naming) -> Result<Config<Option<String>>, ConfigError> {
    parse(
        text,
        Path::new("watchfold.toml"),
        naming,
        |sinks: Sinks<Lamp>, around, problems| {
            let lamp = sinks.discord?;
            if lamp.colour == around.site {
                problems.push("sinks.discord.colour is the site's name".to_owned());
            }
            Some(lamp.colour)
        },
    )
}

fn refused(text: &str, naming: Naming, words: &[&str]) {
    let error = lamp(text, naming).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in:\n{error}");
    }
}

#[test]
fn sections_of_others_are_passed_over_and_unknown_ones_are_not() {
    let site = "site = \"a\"\n[[network.targets]]\nname = \"r\"\naddress = \"::1\"\n";
    let text = format!("{site}[sinks.discord]\ncolour = \"red\"\n[sinks.healthchecks]\nanything = 1\n");
    let config = lamp(&text, Naming::Required).unwrap();
    assert_eq!(
        (config.site.site.as_str(), config.sinks.as_deref()),
        ("a", Some("red"))
    );
    refused(
        &format!("{site}[sinks.healthcheck]\nurl = \"x\"\n"),
        Naming::Required,
        &["line 5", "did you mean `healthchecks`?"],
    );
    refused(
        &format!("{site}[sinks.discord]\ncolor = \"red\"\n"),
        Naming::Required,
        &["line 6", "did you mean `colour`?"],
    );
    refused(
        &format!("{site}[sinks.discord]\ncolour = \"a\"\n"),
        Naming::Required,
        &["sinks.discord.colour is the site's name"],
    );
}

#[test]
fn a_file_for_many_sites_names_none() {
    let text = "[sinks.discord]\ncolour = \"red\"\n";
    let config = lamp(text, Naming::Optional).unwrap();
    assert_eq!((config.site.site.as_str(), config.warnings.len()), ("", 0));
    refused(text, Naming::Required, &["site", "is missing"]);
    refused("site = \"a b\"\n", Naming::Optional, &["\"a b\"", "letters a-z"]);
}

#[test]
fn a_program_without_sinks_reads_the_same_file() {
    let directory = std::env::temp_dir().join(format!("watchfold-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("watchfold.toml");
    std::fs::write(
        &path,
        "site = \"a\"\n[sinks.discord]\nalerts = { env = \"NOT_SET\" }\n",
    )
    .unwrap();
    let config = load_site(&path).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(config.site.site, "a");
    assert!(!format!("{:?}", config.seen).contains("NOT_SET"));
    let error = load_site(&path).unwrap_err().to_string();
    assert!(error.contains("watchfold init"), "{error}");
}

#[test]
fn rules_are_checked_as_far_as_the_file_alone_allows() {
    let site = "site = \"a\"\n";
    let config = lamp(
        &format!(
            "{site}[rules]\nset = \"classic\"\nport_scan_threshold = 20\nport_scan_window = 12\nexfil_window = \"2m\"\nalert_cooldown = \
             \"30s\"\nsuspicious_ports = [4444]\nown_networks = [\"203.0.113.0/24\", \"2001:db8::1\"]\n[rules.states]\nport_scan = \
             \"record\"\n[[rules.exclude]]\nrule = \"port_scan\"\nsource = \"10.0.0.0/8\"\n"
        ),
        Naming::Required,
    )
    .unwrap();
    let rules = config.rules;
    assert_eq!(
        (rules.set.as_str(), rules.alert_cooldown_ms),
        ("classic", Some(30_000))
    );
    assert_eq!(rules.thresholds.port_scan_threshold, Some(20));
    assert_eq!(rules.thresholds.port_scan_window, Some(Window(12_000)));
    assert_eq!(rules.thresholds.exfil_window, Some(Window(120_000)));
    assert_eq!(rules.thresholds.suspicious_ports, Some(vec![4444]));
    assert_eq!((rules.own_networks.len(), rules.exclude.len()), (2, 1));
    let state = rules.states.get("port_scan");
    assert_eq!(state, Some(&watchfold_schemas::rules::RuleState::Record));
    assert_eq!(
        lamp(site, Naming::Required).unwrap().rules,
        RulesConfig::default()
    );
    for (text, words) in [
        (
            "[rules]\nport_scan_treshold = 1\n",
            &["line 3", "did you mean `port_scan_threshold`?"][..],
        ),
        (
            "[rules.states]\nport_scan = \"recrod\"\n",
            &["line 3", "did you mean `record`?"],
        ),
        ("[rules.states]\n\"a b\" = \"off\"\n", &["rules.states", "a b"]),
        (
            "[rules]\nport_scan_threshold = 0\n",
            &["rules.port_scan_threshold", "from 1"],
        ),
        (
            "[rules]\nsyn_flood_threshold = 1000000\n",
            &["rules.syn_flood_threshold", "100000"],
        ),
        ("[rules]\nexfil_threshold = 0\n", &["rules.exfil_threshold"]),
        (
            "[rules]\nbrute_force_window = \"25h\"\n",
            &["rules.brute_force_window", "24h"],
        ),
        ("[rules]\nicmp_flood_window = 0\n", &["rules.icmp_flood_window"]),
        ("[rules]\nicmp_flood_window = -5\n", &["line 3", "10s"]),
        ("[rules]\nalert_cooldown = \"10ms\"\n", &["rules.alert_cooldown"]),
        (
            "[rules]\nsuspicious_ports = []\n",
            &["rules.suspicious_ports", "[rules.states]"],
        ),
        (
            "[rules]\nown_networks = [\"10.0.0.0/33\"]\n",
            &["rules.own_networks", "10.0.0.0/33"],
        ),
        (
            "[rules]\ngateways = [\"10.0.0.0/8\"]\n",
            &["rules.gateways", "an address"],
        ),
        ("[[rules.exclude]]\nrule = \"a\"\n", &["excludes everything"]),
        (
            "[[rules.exclude]]\nrule = \"a\"\nsource = \"x\"\n",
            &["source", "neither an address"],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\ndst = \"x\"\n",
            &["line 4", "dst"],
        ),
    ] {
        refused(&format!("{site}{text}"), Naming::Required, words);
    }
}
