//! What is wrong with a file's syntax, where, and what was probably meant.
//!
//! The file may hold secrets, so none of its values is repeated: only lines, columns and keys.

/// The longest quoted text of a message that is shown; keys and units are short, and secrets are not.
const QUOTED_SHOWN_MAX: usize = 24;

/// What a TOML error says to a person.
pub struct Explained {
    pub message: String,
    pub help: Option<String>,
    /// The key that was probably meant.
    pub meant: Option<String>,
}

/// The message of a TOML error, and the nearest known key where one was mistyped.
pub fn explain(error: &toml::de::Error) -> Explained {
    let message = without_values(error.message()).replacen("unknown field", "unknown key", 1);
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let meant = match quoted.next() {
        Some(unknown) if error.message().starts_with("unknown") => nearest(unknown, quoted),
        _ => None,
    };
    match &meant {
        Some(known) => Explained {
            // The list of all keys says less than the one that is meant.
            message: message.split(", expected").next().unwrap_or_default().to_owned(),
            help: Some(format!("did you mean `{known}`?")),
            meant,
        },
        None => Explained {
            message,
            help: None,
            meant,
        },
    }
}

/// The column of a byte of the text in characters, from 1.
pub fn column_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1
}

/// The line of a byte of the text, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// The message with long or address-like quoted values left out.
pub fn without_values(message: &str) -> String {
    let mut parts = message.split('"');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        let quoted = index % 2 == 0;
        let hide = quoted && (part.chars().count() > QUOTED_SHOWN_MAX || part.contains("://"));
        out.push('"');
        out.push_str(if hide { "…" } else { part });
    }
    out.replace('\n', " ").trim_end().to_owned()
}

/// The nearest of `known`, if one is near enough to be meant.
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known.to_owned())
}
