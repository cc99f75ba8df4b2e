//! What a person meant by a key that does not exist.

/// A TOML error with its line, and the nearest known key where one was mistyped.
pub fn explain(error: &toml::de::Error) -> String {
    let message = error.to_string();
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let suggestion = match quoted.next() {
        Some(unknown) if error.message().starts_with("unknown") => nearest(unknown, quoted),
        _ => None,
    };
    match suggestion {
        Some(known) => format!("{}\n  did you mean `{known}`?", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}

fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known.to_owned())
}
