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
    assert!(!format!("{:?}", config.text).contains("NOT_SET"));
    let error = load_site(&path).unwrap_err().to_string();
    assert!(error.contains("watchfold init"), "{error}");
}
