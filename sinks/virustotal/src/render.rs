//! The pure part: the path of a look-up, and the verdict that an answer comes to.
//!
//! It keeps what VirusTotal says and weighs none of it; which tier that is, folds say.

use serde_json::{Map, Value};
use watchfold_schemas::alert::{SubjectKind, Verdict};
use watchfold_schemas::{Span, Time};

use crate::ORACLE;
use crate::subject::Subject;

/// So many engines make something malicious, so that its verdict is renewed sooner.
pub const MALICIOUS_MIN: u32 = 3;

/// Categories in a verdict.
const CATEGORIES_MAX: usize = 3;

/// The longest text taken over from an answer, in characters; names of networks and registrars are shorter.
const TEXT_CHARS_MAX: usize = 96;

/// How long verdicts hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of what fewer than [`MALICIOUS_MIN`] engines call malicious, and of what nobody knows.
    pub clean: Span,
    pub malicious: Span,
}

/// What VirusTotal says of a subject; figures that it does not give are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub malicious: u32,
    pub suspicious: u32,
    pub harmless: u32,
    pub undetected: u32,
    pub score: i64,
    pub country: Option<String>,
    pub owner: Option<String>,
    pub categories: Vec<String>,
}

/// Where a subject is looked up, below the API's address. A [`Subject`] has no character that needs an escape.
pub fn path(subject: &Subject) -> String {
    match subject.kind {
        SubjectKind::Address => format!("ip_addresses/{}", subject.text),
        SubjectKind::Name => format!("domains/{}", subject.text),
    }
}

/// Reads an answer, leniently: a field that is missing or of another type counts as not given. `None` when it is no
/// object of VirusTotal at all.
pub fn report(kind: SubjectKind, body: &[u8]) -> Option<Report> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let attributes = body.get("data")?.get("attributes")?.as_object()?;
    let stats = attributes.get("last_analysis_stats");
    let count = |name: &str| {
        let count = stats.and_then(|stats| stats.get(name)).and_then(Value::as_u64);
        count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    let owner = match kind {
        SubjectKind::Address => "as_owner",
        SubjectKind::Name => "registrar",
    };
    Some(Report {
        malicious: count("malicious"),
        suspicious: count("suspicious"),
        harmless: count("harmless"),
        undetected: count("undetected"),
        score: attributes.get("reputation").and_then(Value::as_i64).unwrap_or(0),
        country: text(attributes, "country"),
        owner: text(attributes, owner),
        categories: categories(attributes.get("categories")),
    })
}

/// The verdict of a report; `None` is that nothing is known of the subject.
pub fn verdict(subject: &Subject, report: Option<Report>, at: Time, lifetimes: Lifetimes) -> Verdict {
    let known = report.is_some();
    let report = report.unwrap_or_default();
    let lifetime = if report.malicious >= MALICIOUS_MIN {
        lifetimes.malicious
    } else {
        lifetimes.clean
    };
    Verdict {
        at,
        oracle: ORACLE.to_owned(),
        kind: subject.kind,
        subject: subject.text.clone(),
        known,
        malicious: report.malicious,
        suspicious: report.suspicious,
        harmless: report.harmless,
        undetected: report.undetected,
        score: report.score,
        country: report.country,
        owner: report.owner,
        categories: report.categories,
        expires_at: at + lifetime,
    }
}

fn text(attributes: &Map<String, Value>, name: &str) -> Option<String> {
    attributes.get(name)?.as_str().and_then(plain)
}

/// Foreign text, cut and without control characters.
fn plain(text: &str) -> Option<String> {
    let kept: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(TEXT_CHARS_MAX)
        .collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// The first different ones in the order of the services that give them; also where they are a plain list.
fn categories(given: Option<&Value>) -> Vec<String> {
    let values: Vec<&Value> = match given {
        Some(Value::Object(by_service)) => {
            let mut services: Vec<_> = by_service.iter().collect();
            services.sort_unstable_by_key(|(service, _)| *service);
            services.into_iter().map(|(_, category)| category).collect()
        }
        Some(Value::Array(list)) => list.iter().collect(),
        _ => Vec::new(),
    };
    let mut kept: Vec<String> = Vec::new();
    for category in values.into_iter().filter_map(Value::as_str).filter_map(plain) {
        if kept.len() < CATEGORIES_MAX && !kept.contains(&category) {
            kept.push(category);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        clean: Span::from_seconds(86_400),
        malicious: Span::from_seconds(21_600),
    };

    fn subject(kind: SubjectKind, text: &str) -> Subject {
        Subject {
            kind,
            text: text.to_owned(),
        }
    }

    /// The whole verdict, as JSON, for an answer at 2026-11-20T10:00:00Z.
    fn check(kind: SubjectKind, text: &str, answer: Option<Value>, want: Value) {
        let at: Time = "2026-11-20T10:00:00Z".parse().unwrap();
        let report = answer.map(|answer| report(kind, answer.to_string().as_bytes()).unwrap());
        let got = verdict(&subject(kind, text), report, at, LIFETIMES);
        assert_eq!(serde_json::to_value(&got).unwrap(), want, "{text}");
    }

    #[test]
    fn an_address_has_its_figures_its_country_and_its_owner() {
        check(
            SubjectKind::Address,
            "185.220.101.1",
            Some(json!({ "data": {
                "id": "185.220.101.1",
                "type": "ip_address",
                "links": { "self": "https://www.virustotal.com/api/v3/ip_addresses/185.220.101.1" },
                "attributes": {
                    "as_owner": "Network for Tor-Exit traffic.",
                    "asn": 60729,
                    "country": "DE",
                    "network": "185.220.101.0/24",
                    "jarm": "00000000000000000000000000000000000000000000000000000000000000",
                    "last_analysis_date": 1_763_600_000,
                    "last_analysis_results": { "Engine": { "category": "malicious", "result": "malware" } },
                    "last_analysis_stats":
                        { "harmless": 51, "malicious": 14, "suspicious": 2, "undetected": 27, "timeout": 0 },
                    "reputation": -33,
                    "tags": ["tor"],
                    "total_votes": { "harmless": 3, "malicious": 40 },
                    "a_field_of_tomorrow": [1, { "two": null }],
                },
            } })),
            json!({
                "at": "2026-11-20T10:00:00Z",
                "oracle": "virustotal",
                "kind": "address",
                "subject": "185.220.101.1",
                "known": true,
                "malicious": 14,
                "suspicious": 2,
                "harmless": 51,
                "undetected": 27,
                "score": -33,
                "country": "DE",
                "owner": "Network for Tor-Exit traffic.",
                "categories": [],
                "expires_at": "2026-11-20T16:00:00Z",
            }),
        );
    }

    #[test]
    fn a_name_has_its_registrar_and_three_categories() {
        check(
            SubjectKind::Name,
            "example.com",
            Some(json!({ "data": {
                "id": "example.com",
                "type": "domain",
                "attributes": {
                    "registrar": "RESERVED-Internet Assigned Numbers Authority",
                    "as_owner": "not of a name",
                    "categories": {
                        "Xcitium Verdict Cloud": "media sharing",
                        "BitDefender": "computersandsoftware",
                        "Sophos": "computersandsoftware",
                        "alphaMountain.ai": "Reference",
                        "Forcepoint ThreatSeeker": "information technology",
                    },
                    "last_analysis_stats": { "harmless": 60, "malicious": 2, "suspicious": 5, "undetected": 30 },
                    "reputation": 7,
                },
            } })),
            json!({
                "at": "2026-11-20T10:00:00Z",
                "oracle": "virustotal",
                "kind": "name",
                "subject": "example.com",
                "known": true,
                "malicious": 2,
                "suspicious": 5,
                "harmless": 60,
                "undetected": 30,
                "score": 7,
                "country": null,
                "owner": "RESERVED-Internet Assigned Numbers Authority",
                "categories": ["computersandsoftware", "information technology", "media sharing"],
                "expires_at": "2026-11-21T10:00:00Z",
            }),
        );
    }

    #[test]
    fn what_is_not_known_has_only_zeros() {
        check(
            SubjectKind::Name,
            "nobody-asked.example.org",
            None,
            json!({
                "at": "2026-11-20T10:00:00Z",
                "oracle": "virustotal",
                "kind": "name",
                "subject": "nobody-asked.example.org",
                "known": false,
                "malicious": 0,
                "suspicious": 0,
                "harmless": 0,
                "undetected": 0,
                "score": 0,
                "country": null,
                "owner": null,
                "categories": [],
                "expires_at": "2026-11-21T10:00:00Z",
            }),
        );
    }

    #[test]
    fn fields_of_other_types_count_as_not_given() {
        let odd = json!({ "data": { "attributes": {
            "last_analysis_stats": { "malicious": "9", "suspicious": -1, "harmless": u64::MAX, "undetected": 1.5 },
            "reputation": "bad",
            "country": 7,
            "as_owner": "  \u{7}\n ",
            "categories": ["one", 2, "one", "two\u{0}"],
        } } });
        let got = report(SubjectKind::Address, odd.to_string().as_bytes()).unwrap();
        let want = Report {
            harmless: u32::MAX,
            categories: vec!["one".to_owned(), "two".to_owned()],
            ..Report::default()
        };
        assert_eq!(got, want);
        let bare = report(SubjectKind::Address, br#"{"data":{"attributes":{}}}"#);
        assert_eq!(bare, Some(Report::default()));
        let long = json!({ "data": { "attributes": { "as_owner": "ü".repeat(1_000) } } }).to_string();
        let owner = report(SubjectKind::Address, long.as_bytes())
            .unwrap()
            .owner
            .unwrap();
        assert_eq!(owner.chars().count(), TEXT_CHARS_MAX);
    }

    #[test]
    fn what_is_no_object_of_virustotal_is_no_report() {
        for body in [
            "",
            "<html>sign in to this network</html>",
            "[]",
            "null",
            "7",
            r#"{"data":null}"#,
            r#"{"data":{"attributes":[]}}"#,
            r#"{"data":[{"attributes":{}}]}"#,
            r#"{"error":{"code":"NotFoundError"}}"#,
            "{\"data\":{\"attributes\":{",
        ] {
            assert_eq!(report(SubjectKind::Address, body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_path_is_by_kind() {
        for (kind, text, want) in [
            (SubjectKind::Address, "8.8.8.8", "ip_addresses/8.8.8.8"),
            (SubjectKind::Address, "2a00::1", "ip_addresses/2a00::1"),
            (SubjectKind::Name, "example.com", "domains/example.com"),
        ] {
            assert_eq!(path(&subject(kind, text)), want);
        }
    }
}
