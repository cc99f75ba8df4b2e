//! Attributes of our own: what Sigma has no word for.

use watchfold_schemas::fields::{Field, Kind, Source};
use watchfold_schemas::rules::{GROUP_FIELDS_MAX, RuleState, Test, WINDOW_MS_MAX};
use watchfold_schemas::subjects::is_token;
use yaml_serde::Value;

use super::detection::{known_field, selection};
use super::document::Document;
use super::keys::ATTRIBUTES;
use crate::error::Problem;

/// The cooldown where a rule names none.
const COOLDOWN_MS: u64 = 15_000;

/// The shortest cooldown: a rule speaks at most once a second about one thing.
const COOLDOWN_MS_MIN: u64 = 1_000;

/// The longest message before its fields are filled in.
const MESSAGE_CHARS_MAX: usize = 300;

/// The most parts of a window; finer ones bound nothing.
pub const PARTS_MAX: u32 = 1_000;

/// The most exclusions of one rule.
const EXCLUSIONS_MAX: usize = 64;

/// What braces of a message may hold beside fields.
const MEASURED: [&str; 3] = ["observed", "threshold", "window"];

/// What the attributes of a rule say.
#[derive(Debug)]
pub struct Attributes {
    pub category: Option<String>,
    pub subject: Option<Vec<String>>,
    pub cooldown_ms: u64,
    pub reputation: Option<String>,
    pub state: RuleState,
    pub exclusions: Vec<Test>,
    pub version: u32,
    pub message: Option<String>,
    pub parts: Option<u32>,
    pub counts_duplicates: bool,
    /// Rows whose value no longer counts.
    pub withdrawn_by: Option<Test>,
    /// The number whose threshold reputation may scale.
    pub scaled: Option<Field>,
}

/// Reads what is given; what is wrong is added and left at what it is without.
pub fn attributes(document: &Document, source: Source, problems: &mut Vec<Problem>) -> Attributes {
    let mut reader = Reader {
        document,
        source,
        problems,
    };
    Attributes {
        category: reader.category(),
        subject: reader.subject(),
        cooldown_ms: reader.cooldown(),
        reputation: reader.reputation(),
        state: reader.state(),
        exclusions: reader.exclusions(),
        version: reader.number("watchfold.version", 1, u32::MAX).unwrap_or(1),
        message: reader.message(),
        parts: reader.number("watchfold.parts", 1, PARTS_MAX),
        counts_duplicates: reader.counts_duplicates(),
        withdrawn_by: reader.withdrawn_by(),
        scaled: reader.scaled(),
    }
}

/// Attributes of a rule that never fires by itself mean nothing, so they are a mistake.
pub fn refuse_all(document: &Document, problems: &mut Vec<Problem>) {
    for key in ATTRIBUTES {
        if let Some((_, path)) = document.attribute(key) {
            problems.push(Problem {
                instead: Some("put it into the correlation".to_owned()),
                ..document.problem(
                    &path,
                    format!("`{key}` has no effect: only correlations fire for this rule"),
                )
            });
        }
    }
}

/// A span as Sigma writes it, `15s` for example, in milliseconds.
pub fn span_ms(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    count.checked_mul(seconds)?.checked_mul(1_000)
}

struct Reader<'d> {
    document: &'d Document,
    source: Source,
    problems: &'d mut Vec<Problem>,
}

impl<'d> Reader<'d> {
    fn given(&self, key: &'static str) -> Option<(&'d Value, Vec<&'static str>)> {
        let document: &'d Document = self.document;
        document.attribute(key)
    }

    fn wrong(&mut self, path: &[&str], reason: String, instead: Option<String>) {
        let problem = self.document.problem(path, reason);
        self.problems.push(Problem { instead, ..problem });
    }

    fn number(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let (value, path) = self.given(key)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let upper = if most == u32::MAX {
                String::new()
            } else {
                format!(" to {most}")
            };
            self.wrong(
                &path,
                format!("`{key}` is a whole number from {least}{upper}"),
                None,
            );
        }
        number
    }

    fn category(&mut self) -> Option<String> {
        let (value, path) = self.given("watchfold.category")?;
        match value.as_str().filter(|text| is_token(text)) {
            Some(text) => Some(text.to_owned()),
            None => {
                let reason = "`watchfold.category` is a word of the letters a-z, A-Z, digits, '-' and '_'";
                self.wrong(&path, reason.to_owned(), None);
                None
            }
        }
    }

    fn subject(&mut self) -> Option<Vec<String>> {
        let (value, path) = self.given("watchfold.subject")?;
        let listed: Vec<&Value> = match value {
            Value::Sequence(fields) => fields.iter().collect(),
            one => vec![one],
        };
        let mut fields = Vec::new();
        for one in &listed {
            let Some(name) = one.as_str() else {
                self.wrong(&path, "`watchfold.subject` is a list of fields".to_owned(), None);
                return None;
            };
            fields.extend(self.field(&path, name).map(|field| field.name().to_owned()));
        }
        if listed.is_empty() || listed.len() > GROUP_FIELDS_MAX {
            self.wrong(
                &path,
                format!("`watchfold.subject` has 1 to {GROUP_FIELDS_MAX} fields"),
                None,
            );
        }
        Some(fields)
    }

    fn field(&mut self, path: &[&str], name: &str) -> Option<Field> {
        match known_field(name, self.source) {
            Ok(field) => Some(field),
            Err(unknown) => {
                let problem = self.document.problem_with(path, name, unknown.reason);
                self.problems.push(Problem {
                    instead: unknown.instead,
                    ..problem
                });
                None
            }
        }
    }

    fn cooldown(&mut self) -> u64 {
        let Some((value, path)) = self.given("watchfold.cooldown") else {
            return COOLDOWN_MS;
        };
        let span = value.as_str().and_then(span_ms);
        match span.filter(|span| (COOLDOWN_MS_MIN..=WINDOW_MS_MAX).contains(span)) {
            Some(span) => span,
            None => {
                let instead = Some("write it as 15s, 5m or 1h".to_owned());
                self.wrong(
                    &path,
                    "`watchfold.cooldown` is a span from 1s to 1d".to_owned(),
                    instead,
                );
                COOLDOWN_MS
            }
        }
    }

    fn reputation(&mut self) -> Option<String> {
        let (value, path) = self.given("watchfold.reputation")?;
        let name = value.as_str().unwrap_or_default();
        let field = self.field(&path, name)?;
        if !matches!(field.kind(), Kind::Address | Kind::Text) {
            let reason =
                format!("`{name}` is neither an address nor a name, and nobody can be asked about it");
            self.wrong(&path, reason, None);
            return None;
        }
        Some(field.name().to_owned())
    }

    fn state(&mut self) -> RuleState {
        let Some((value, path)) = self.given("watchfold.state") else {
            return RuleState::Enforce;
        };
        match state_of(value.as_str().unwrap_or_default()) {
            Some(state) => state,
            None => {
                self.wrong(
                    &path,
                    "`watchfold.state` is enforce, record or off".to_owned(),
                    None,
                );
                RuleState::Enforce
            }
        }
    }

    fn exclusions(&mut self) -> Vec<Test> {
        let Some((value, path)) = self.given("watchfold.exclude") else {
            return Vec::new();
        };
        let several: Vec<&Value> = match value {
            Value::Sequence(several) => several.iter().collect(),
            one => vec![one],
        };
        if several.len() > EXCLUSIONS_MAX {
            self.wrong(&path, format!("more than {EXCLUSIONS_MAX} exclusions"), None);
            return Vec::new();
        }
        let tests = several.into_iter();
        tests
            .map(|one| selection(self.document, self.source, &path, one, self.problems))
            .collect()
    }

    fn message(&mut self) -> Option<String> {
        let (value, path) = self.given("watchfold.message")?;
        let text = value.as_str().unwrap_or_default();
        let length = text.chars().count();
        if length == 0 || length > MESSAGE_CHARS_MAX || text.chars().any(char::is_control) {
            let reason = format!("`watchfold.message` is one line of 1 to {MESSAGE_CHARS_MAX} characters");
            self.wrong(&path, reason, None);
            return None;
        }
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let inside = rest[at..]
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside else {
                self.wrong(
                    &path,
                    "a brace of `watchfold.message` has no partner".to_owned(),
                    None,
                );
                return None;
            };
            if !MEASURED.contains(&name) {
                self.field(&path, name);
            }
            rest = after;
        }
        Some(text.to_owned())
    }

    fn counts_duplicates(&mut self) -> bool {
        let Some((value, path)) = self.given("watchfold.duplicates") else {
            return false;
        };
        match value.as_str() {
            Some("count") => true,
            Some("skip") => false,
            _ => {
                let reason = "`watchfold.duplicates` is skip or count".to_owned();
                self.wrong(&path, reason, None);
                false
            }
        }
    }

    fn withdrawn_by(&mut self) -> Option<Test> {
        let (value, path) = self.given("watchfold.withdrawn_by")?;
        if self.source != Source::Connection {
            let reason = "`watchfold.withdrawn_by` is for rules on `category: connection`".to_owned();
            self.wrong(&path, reason, None);
            return None;
        }
        Some(selection(self.document, self.source, &path, value, self.problems))
    }

    fn scaled(&mut self) -> Option<Field> {
        let (value, path) = self.given("watchfold.scaled")?;
        let name = value.as_str().unwrap_or_default();
        let field = self.field(&path, name)?;
        if field.kind() != Kind::Number {
            self.wrong(
                &path,
                format!("`{name}` is no number, and no threshold of it can be scaled"),
                None,
            );
            return None;
        }
        Some(field)
    }
}

fn state_of(word: &str) -> Option<RuleState> {
    Some(match word {
        "enforce" => RuleState::Enforce,
        "record" => RuleState::Record,
        "off" => RuleState::Off,
        _ => return None,
    })
}
