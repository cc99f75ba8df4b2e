//! Text for Discord: foreign words made harmless, lengths counted and cut as Discord counts, times and durations for
//! people.
//!
//! Discord counts code points (its staff say so); other parts of it were seen to count UTF-16 units. Counting UTF-16
//! units here keeps within either, because no text has more code points than units.

use watchfold_schemas::Time;

const ELLIPSIS: char = '…';

/// What stands where a required text would be empty; Discord refuses empty names and values.
const NOTHING: &str = "—";

/// How many characters `text` counts for.
pub fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// `text` trimmed and, where it is longer than `limit`, cut at a character's boundary with an ellipsis. An escape is
/// not cut in two. Never empty.
pub fn fit(text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.is_empty() {
        return NOTHING.to_owned();
    }
    if units(text) <= limit {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = ELLIPSIS.len_utf16();
    for letter in text.chars() {
        used += letter.len_utf16();
        if used > limit {
            break;
        }
        kept.push(letter);
    }
    let slashes = kept.chars().rev().take_while(|letter| *letter == '\\').count();
    if slashes % 2 == 1 {
        kept.pop();
    }
    let mut kept = kept.trim_end().to_owned();
    kept.push(ELLIPSIS);
    kept
}

/// Foreign text with everything that Discord would read as markup escaped, on one line, without what turns the
/// direction of writing or cannot be seen.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in plain(text).chars() {
        if matches!(
            letter,
            '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '[' | ']' | '(' | ')' | '#' | '@' | ':'
        ) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Foreign text for places without markup: on one line, without what cannot be seen.
pub fn plain(text: &str) -> String {
    let visible = |letter: &char| !is_invisible(*letter);
    text.chars()
        .filter(visible)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// Zero-width characters and those that change the direction of writing: with them one name can look like another.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Whether Discord takes this as a webhook's sender name: it refuses names that hold its own and a few more.
pub fn is_sender_name(name: &str) -> bool {
    const LENGTH_MAX: usize = 80;
    let lower = name.to_lowercase();
    let refused = ["discord", "clyde", "everyone", "here", "```"];
    !name.trim().is_empty() && units(name) <= LENGTH_MAX && !refused.iter().any(|word| lower.contains(word))
}

/// Date, time and zone: `2026-11-20 14:05:09 CET`. An unknown zone shows UTC.
pub fn clock(at: Time, time_zone: &str) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_nanosecond(i128::from(at.0)) else {
        return at.to_string();
    };
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    timestamp
        .to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}

/// The two largest units: `2h 15m`, `3m 20s`, `45s`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let pair = |large: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{small_unit}"),
    };
    match seconds {
        0 => "less than 1s".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(minutes, 'm', seconds % 60, 's'),
        3_600..86_400 => pair(hours, 'h', minutes, 'm'),
        _ => pair(days, 'd', hours, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        for (milliseconds, want) in [
            (0, "less than 1s"),
            (999, "less than 1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (200_000, "3m 20s"),
            (8_100_000, "2h 15m"),
            (86_400_000, "1d"),
            (97_200_000, "1d 3h"),
        ] {
            assert_eq!(duration(milliseconds), want);
        }
    }

    #[test]
    fn times_carry_date_and_zone() {
        let at = Time::from_seconds(1_793_000_000);
        for (zone, want) in [
            ("Europe/Berlin", "2026-10-26 08:33:20 CET"),
            ("America/New_York", "2026-10-26 03:33:20 EDT"),
            ("Nowhere/Atlantis", "2026-10-26 07:33:20 UTC"),
        ] {
            assert_eq!(clock(at, zone), want);
        }
    }

    #[test]
    fn cutting_counts_as_the_stricter_of_both_and_keeps_characters_and_escapes_whole() {
        for (text, limit, want) in [
            ("router", 6, "router"),
            ("routers", 6, "route…"),
            ("🦞🦞🦞", 6, "🦞🦞🦞"),
            ("🦞🦞🦞🦞", 6, "🦞🦞…"),
            ("ab\\_cd", 4, "ab…"),
            ("a\\\\bcd", 4, "a\\\\…"),
            ("   ", 4, "—"),
            ("ab  cdef", 5, "ab…"),
        ] {
            let got = fit(text, limit);
            assert_eq!(got, want);
            assert!(units(&got) <= limit);
        }
    }

    #[test]
    fn foreign_text_cannot_mark_up_mention_or_hide() {
        for (text, want) in [
            ("PC-7", "PC-7"),
            ("**x** @everyone", "\\*\\*x\\*\\* \\@everyone"),
            ("[a](https://b)", "\\[a\\]\\(https\\://b\\)"),
            ("<@1> `c`\n# d", "\\<\\@1\\> \\`c\\` \\# d"),
            ("a\u{202e}b\u{200b}c", "abc"),
        ] {
            assert_eq!(escaped(text), want);
        }
    }

    #[test]
    fn names_that_discord_refuses_are_known() {
        for (name, want) in [
            ("cafe-1", true),
            ("My Discord Café", false),
            ("CLYDE", false),
            ("Atmosphere", false),
            ("", false),
            (&"x".repeat(81), false),
        ] {
            assert_eq!(is_sender_name(name), want, "{name}");
        }
    }
}
