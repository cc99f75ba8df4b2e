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
                problems.push("sinks.discord.colour", "sinks.discord.colour is the site's name");
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
        &[":5:", "did you mean `healthchecks`?"],
    );
    refused(
        &format!("{site}[sinks.discord]\ncolor = \"red\"\n"),
        Naming::Required,
        &[":6:", "did you mean `colour`?"],
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
            &[":3:", "did you mean `port_scan_threshold`?"][..],
        ),
        (
            "[rules.states]\nport_scan = \"recrod\"\n",
            &[":3:", "did you mean `record`?"],
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
        ("[rules]\nicmp_flood_window = -5\n", &[":3:", "10s"]),
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
        (
            "[[rules.exclude]]\nrule = \"a\"\n",
            &[":3:", "excludes everything"],
        ),
        (
            "[[rules.exclude]]\nsource = \"10.0.0.1\"\n",
            &[":3:", "name the rule"],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nport = 1.5\n",
            &[":4:", "`port` is a text, a whole number"],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nport = 1\nreason = 7\n",
            &[":5:", "reason is one line"],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nport = 1\nuntil = 12:00:00\n",
            &[":5:", "until \"12:00:00\"", "2026-12-31"],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nport = 1\nuntil = \"soon\"\n",
            &[":5:", "until \"soon\""],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nquery = \"x\"\nsorce = \"10.0.0.1\"\nsource = \"x\"\nvlan = 1\n",
            &[
                "4 problems",
                ":4:",
                "did you mean `dns.question.name`?",
                ":5:",
                "did you mean `source`?",
                ":6:",
                "neither an address",
                ":7:",
                "did you mean `network.vlan.id`?",
            ],
        ),
        (
            "[[rules.exclude]]\nrule = \"a\"\nsource = \"x\"\n",
            &["source", "neither an address"],
        ),
        ("[[rules.exclude]]\nrule = \"a\"\ndst = \"x\"\n", &[":4:", "dst"]),
        (
            "[[rules.exclude]]\nrule = \"a\"\nport = 1\nexpiry = 2026-12-31\ncomment = \"x\"\n",
            &[":5:", "did you mean `until`?", ":6:", "did you mean `reason`?"],
        ),
    ] {
        refused(&format!("{site}{text}"), Naming::Required, words);
    }
}

#[test]
fn an_exclusion_names_fields_values_a_reason_and_an_end() {
    let of = |text: &str| {
        let text =
            format!("site = \"a\"\ntime_zone = \"Europe/Berlin\"\n[[rules.exclude]]\nrule = \"r\"\n{text}\n");
        let mut exclude = lamp(&text, Naming::Required)
            .unwrap_or_else(|error| panic!("{error}"))
            .rules
            .exclude;
        exclude.remove(0)
    };
    // A field's name with quotes and as a path of tables is the same.
    for text in [
        "\"dns.question.zone\" = [\"a.example\", \"*.b.example\"]",
        "dns.question.zone = [\"a.example\", \"*.b.example\"]",
    ] {
        let exclusion = of(&format!("source = \"10.0.0.0/8\"\n{text}\nreason = \"ours\""));
        let fields: Vec<(&str, &str, usize, usize)> = exclusion
            .fields
            .iter()
            .map(|field| {
                (
                    field.key.as_str(),
                    field.field.as_str(),
                    field.line,
                    field.values.len(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                ("source", "source.ip", 5, 1),
                ("dns.question.zone", "dns.question.zone", 6, 2)
            ]
        );
        assert_eq!((exclusion.line, exclusion.reason.as_deref()), (4, Some("ours")));
    }
    let with_modifier = of("\"dns.question.name|endswith\" = \".example\"");
    assert_eq!(with_modifier.fields[0].modifiers, ["endswith"]);
    // A day ends with it, by the site's clocks.
    for (until, want) in [
        ("2026-12-31", "2026-12-31T23:00:00Z"),
        ("\"2026-12-31\"", "2026-12-31T23:00:00Z"),
        ("2026-07-01T12:00:00", "2026-07-01T10:00:00Z"),
        ("2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z"),
        ("2026-07-01 12:00:00+05:00", "2026-07-01T07:00:00Z"),
    ] {
        let until = of(&format!("port = 1\nuntil = {until}")).until.unwrap();
        assert_eq!(until.to_string(), want);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let directory = std::env::temp_dir().join(format!("watchfold-config-mark-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let text = "site = \"cafe-1\"\n";
    let path = write("utf8.toml", format!("\u{feff}{text}").as_bytes());
    assert_eq!(load_site(&path).unwrap().site.site, "cafe-1");
    let utf16: Vec<u8> = "\u{feff}site = \"cafe-1\"\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(
        load_site(&write("utf16.toml", &utf16)).unwrap().site.site,
        "cafe-1"
    );
    let error = load_site(&write("bare.toml", &utf16[2..]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("UTF-16 without a byte order mark"), "{error}");
    write("secret", b"\xef\xbb\xbfs3cret\r\n");
    let secret = SecretRef::File("secret".to_owned());
    assert_eq!(
        secret.resolve::<String>("key", &directory).as_deref(),
        Ok("s3cret")
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn names_with_control_or_invisible_characters_report_line_and_key() {
    let sections = [
        "[[network.targets]]\naddress = \"::1\"\nname = ",
        "[[occupancy.hosts]]\naddress = \"192.0.2.1\"\nname = ",
        "[[occupancy.ranges]]\ncidr = \"192.0.2.0/30\"\nname = ",
    ];
    for section in sections {
        for (escaped, point) in [
            ("PC\\n1", "U+000A"),
            ("PC\\u00001", "U+0000"),
            ("PC\\u001b[2J", "U+001B"),
            ("PC\\u202Etxt", "U+202E"),
            ("PC\\u2066", "U+2066"),
            ("PC\\u200B", "U+200B"),
            ("PC\\u2028", "U+2028"),
        ] {
            let text = format!("site = \"a\"\n{section}\"{escaped}\"\n");
            refused(&text, Naming::Required, &[":4:", "`name`", point]);
        }
        let long = format!("site = \"a\"\n{section}\"{}\"\n", "x".repeat(101));
        refused(&long, Naming::Required, &[":4:", "`name`", "at most 100"]);
    }
    let fine =
        "site = \"a\"\n[[occupancy.hosts]]\naddress = \"192.0.2.1\"\nname = \"Büro 1 – می\u{200c}خواهم\"\n";
    assert!(lamp(fine, Naming::Required).is_ok());
}
