//! Mistakes that people make, and what they are told.

use std::path::Path;

use super::*;

const SITE: &str = "site = \"cafe-1\"\n";

fn parse_text(text: &str) -> Result<Config, ConfigError> {
    parse(text, Path::new("watchfold.toml"))
}

/// The error of `SITE` with `text` after it holds each of `words`.
fn check(text: &str, words: &[&str]) {
    let error = parse_text(&format!("{SITE}{text}")).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in:\n{error}");
    }
}

#[test]
fn a_mistyped_key_names_its_line_and_what_was_meant() {
    check(
        "[network]\nintervall = \"2s\"\n",
        &["watchfold.toml", ":3:", "intervall", "did you mean `interval`?"],
    );
    check(
        "[sinks.discrod]\nalerts = \"x\"\n",
        &[":2:", "did you mean `discord`?"],
    );
    check(
        "[[network.targets]]\nname = \"a\"\nadress = \"1.1.1.1\"\n",
        &[":4:", "did you mean `address`?"],
    );
}

#[test]
fn values_without_sense_say_what_to_write() {
    check("[network]\ninterval = 2\n", &[":3:", "write it as \"2s\""]);
    check(
        "[network]\ninterval = \"2 parsecs\"\n",
        &[":3:", "is not a duration"],
    );
    check(
        "[network]\ninterval = \"50ms\"\n[[network.targets]]\nname = \"a\"\naddress = \"::1\"\n",
        &["under 200ms"],
    );
    check(
        "[[network.targets]]\nname = \"a b\"\naddress = \"::1\"\n",
        &["\"a b\"", "letters a-z"],
    );
    check(
        "[[network.targets]]\nname = \"a\"\naddress = \"300.1.1.1\"\n",
        &["300.1.1.1", "neither an address nor"],
    );
    check(
        "[[network.targets]]\nname = \"a\"\naddress = \"::1\"\nquorum = 2\n",
        &["quorum 2 of 1"],
    );
    check(
        "[[network.targets]]\nname = \"a\"\naddress = \"::1\"\nsignals = [\"pong\"]\n",
        &["no signal \"pong\""],
    );
    check(
        "time_zone = \"Mars/Olympus\"\n",
        &["Mars/Olympus", "Europe/Berlin"],
    );
    check(
        "[occupancy]\nranges = [{ from = \"192.168.1.250\", count = 20 }]\n",
        &["at most 5 fit"],
    );
    check(
        "[occupancy]\nranges = [{ cidr = \"10.0.0.0/8\" }]\n",
        &["larger than a /20"],
    );
    check(
        "[sinks.discord]\nalerts = { env = \"WATCHFOLD_TEST_NOT_SET\" }\n",
        &["sinks.discord.alerts", "not set"],
    );
    check(
        "[sinks.discord]\nalerts = { file = \"none\" }\n",
        &["sinks.discord.alerts", "failed to read"],
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "[[network.targets]]\nname = \"a\"\naddress = \"::1\"\ndepends_on = [\"b\"]\n\
                [[network.targets]]\nname = \"a\"\naddress = \"::2\"\n";
    check(text, &["2 problems", "depends on \"b\"", "given twice"]);
}

#[test]
fn one_pass_finds_every_mistake_with_its_place() {
    let text = "site = \"cafe 1\"\n\
                time_zone =\n\
                [network]\n\
                intervall = \"2s\"\n\
                timeout = 5\n\
                [[network.targets]]\n\
                name = \"router\"\n\
                adress = \"192.0.2.1\"\n\
                [[network.targets]]\n\
                name = \"web\"\n\
                address = [\"192.0.2.2\", \"300.1.1.1\"]\n\
                quorum = 3\n\
                depends_on = [\"router\", \"nothing\"]\n\
                [sinks.discord]\n\
                alert = \"x\"\n\
                [[rules.exclude]]\n\
                rule = \"port_scan\"\n\
                sorce = \"10.0.0.1\"\n\
                [[capture]]\n\
                interface = \"eth0\"\n\
                snap_length = 1\n";
    let Err(ConfigError::Invalid { mistakes, .. }) = parse_text(text) else {
        panic!("the file is taken");
    };
    let found: Vec<(usize, Option<&str>)> = mistakes
        .iter()
        .map(|mistake| (mistake.line.unwrap(), mistake.key.as_deref()))
        .collect();
    let expected = [
        (1, Some("site")),
        (2, None),
        (4, Some("network.intervall")),
        (5, Some("network.timeout")),
        (8, Some("network.targets[0].adress")),
        (11, Some("network.targets[1].address[1]")),
        (12, Some("network.targets[1].quorum")),
        (13, Some("network.targets[1].depends_on[1]")),
        (15, Some("sinks.discord.alert")),
        (18, Some("rules.exclude[0].sorce")),
        (21, Some("capture[0].snap_length")),
    ];
    assert_eq!(found, expected, "{mistakes:#?}");
    assert_eq!(mistakes[2].help.as_deref(), Some("did you mean `interval`?"));
    assert_eq!(mistakes[5].column, Some(25));
}

#[test]
fn nothing_depends_on_itself() {
    let text = "[[network.targets]]\nname = \"a\"\naddress = \"::1\"\ndepends_on = [\"b\"]\n\
                [[network.targets]]\nname = \"b\"\naddress = \"::2\"\ndepends_on = [\"a\"]\n";
    check(text, &["\"a\" depends on itself", "\"b\" depends on itself"]);
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "[sinks.discord]\nalert = \"https://x.test/api/webhooks/1/s3cret\"\n",
        "[sinks.discord]\nalerts = \"https://x.test/api/webhooks/1/s3cret\n",
        "[sinks]\ndiscord = \"https://x.test/api/webhooks/1/s3cret\"\n",
        "[sinks.discord]\nalerts = [\"https://x.test/api/webhooks/1/s3cret\"]\n",
        "[sinks.discord]\nalerts = { fil = \"s3cret-of-some-length-and-more\" }\n",
    ] {
        let error = parse_text(&format!("{SITE}{text}")).unwrap_err().to_string();
        assert!(
            !error.contains("s3cret") && error.contains("watchfold.toml:"),
            "{error}"
        );
    }
    let error = parse_text(&format!(
        "{SITE}[sinks.discord]\nalerts = \"s3cret-without-scheme\"\n"
    ))
    .unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let config = parse_text(&format!(
        "{SITE}[sinks.discord]\nalerts = \"https://x.test/api/webhooks/1/s3cret\"\n"
    ));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_documented_file_becomes_what_the_parts_are_given() {
    let config = parse_text(include_str!("../../docs/watchfold.example.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = config
        .site
        .network
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    assert_eq!(names, ["router", "server", "internet", "web"]);
    assert_eq!(config.site.network.targets[2].depends_on, ["router"]);
    let hosts = &config.site.occupancy.hosts;
    let (first, hall, counter) = (&hosts[0], &hosts[20], &hosts[34]);
    assert_eq!((first.name.as_str(), first.key()), ("PC-1", "192.168.1.110"));
    assert_eq!((hall.name.as_str(), hall.key()), ("Hall-1", "192.168.2.1"));
    assert_eq!(
        (counter.name.as_str(), counter.key()),
        ("Counter", "02:00:00:00:00:05")
    );
    assert_eq!(config.site.occupancy.depends_on, ["router"]);
    // What it shows as defaults are the defaults.
    let shown = watchfold_schemas::config::NetworkConfig {
        targets: Vec::new(),
        ..config.site.network
    };
    assert_eq!(shown, watchfold_schemas::config::NetworkConfig::default());
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse_text("site = \"a\"\ntime_zone = \"UTC\"\n").unwrap();
    assert_eq!(
        config.site.network,
        watchfold_schemas::config::NetworkConfig::default()
    );
    assert_eq!(config.listen.to_string(), "127.0.0.1:8737");
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_named_host_takes_its_place_in_a_range() {
    let text = "[occupancy]\nranges = [{ from = \"10.0.0.1\", count = 2 }]\n\
                hosts = [{ name = \"Till\", address = \"10.0.0.2\", mac = \"02-00-5E-10-00-01\" }]\n";
    let config = parse_text(&format!("{SITE}{text}")).unwrap();
    let got: Vec<(&str, &str)> = config
        .site
        .occupancy
        .hosts
        .iter()
        .map(|host| (host.name.as_str(), host.key()))
        .collect();
    assert_eq!(got, [("PC-1", "10.0.0.1"), ("Till", "02:00:5e:10:00:01")]);
}

#[test]
fn the_documented_files_are_good_and_show_the_defaults() {
    let all = parse_text(include_str!("../../docs/watchfold.example.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    let network = watchfold_schemas::config::NetworkConfig {
        targets: Vec::new(),
        ..all.site.network
    };
    assert_eq!(network, watchfold_schemas::config::NetworkConfig::default());
    let default = watchfold_schemas::config::OccupancyConfig::default();
    let occupancy = watchfold_schemas::config::OccupancyConfig {
        hosts: Vec::new(),
        depends_on: Vec::new(),
        ..all.site.occupancy
    };
    assert_eq!(occupancy, default);
    let readme = include_str!("../../README.md");
    let shown = readme
        .split("```")
        .find_map(|block| block.strip_prefix("toml\n"))
        .unwrap();
    // Its sinks name files and variables that are not here.
    let shown = parse_text(shown.split("[sinks").next().unwrap()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(shown.site.occupancy.hosts.len(), 20);
}
