//! What may stand behind a field's name: modifiers that are supported, those that Sigma has beside them, and unknown words.

use rsigma_parser::Modifier;

use super::values::Wrong;
use crate::suggest::nearest;

/// The modifiers that are supported. `expand` is, for the lists that ship.
pub const MODIFIERS: [&str; 12] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "cidr",
    "gt",
    "gte",
    "lt",
    "lte",
    "neq",
    "exists",
    "expand",
];

/// The modifiers of one key.
#[derive(Debug, Default)]
pub struct Modifiers {
    /// Those that are supported, and in place of a mistyped one the one that was probably meant.
    pub read: Vec<Modifier>,
    pub wrong: Vec<Wrong>,
    pub values: Values,
}

/// What can be said of the values behind such modifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    #[default]
    Known,
    /// A modifier was probably mistyped: only what is wrong with a value by itself is sure.
    Guessed,
    /// They mean something that is not supported.
    Unknown,
}

/// The name and the modifiers of a key of a selection.
pub fn split(key: &str) -> (&str, Modifiers) {
    let mut words = key.split('|');
    let name = words.next().unwrap_or_default();
    (name, Modifiers::of(words))
}

impl Modifiers {
    pub fn of<'w>(words: impl Iterator<Item = &'w str>) -> Modifiers {
        let mut out = Modifiers::default();
        words.for_each(|word| out.add(word));
        out
    }

    fn add(&mut self, word: &str) {
        let modifier = word.parse::<Modifier>();
        if let (true, Ok(modifier)) = (MODIFIERS.contains(&word), modifier) {
            self.read.push(modifier);
            return;
        }
        let (reason, instead) = match modifier {
            Ok(modifier) => {
                let (why, instead, keeps_values) = unsupported(modifier);
                if !keeps_values {
                    self.values = Values::Unknown;
                }
                (
                    format!("the modifier `{word}` of Sigma is not supported: {why}"),
                    instead.to_owned(),
                )
            }
            Err(()) => (format!("there is no modifier `{word}`"), self.unknown(word)),
        };
        self.wrong.push(Wrong {
            value: None,
            reason,
            instead: Some(instead),
        });
    }

    /// What to write instead of a word that no modifier is.
    fn unknown(&mut self, word: &str) -> String {
        let lower = word.to_ascii_lowercase();
        match nearest(&lower, MODIFIERS.into_iter()) {
            Some(near) if lower != "not" => {
                self.read.extend(near.parse::<Modifier>());
                if self.values == Values::Known {
                    self.values = Values::Guessed;
                }
                format!("did you mean `{near}`?")
            }
            _ => {
                self.values = Values::Unknown;
                match lower.as_str() {
                    "not" => {
                        "put it into a selection of its own, and `not` before it in the condition".to_owned()
                    }
                    "eq" | "equals" => "take it out: a value without a modifier is compared whole".to_owned(),
                    _ => format!("there are {}", MODIFIERS.join(", ")),
                }
            }
        }
    }
}

/// Why a modifier of Sigma is not supported, what to write instead, and whether the values mean the same without it.
fn unsupported(modifier: Modifier) -> (&'static str, &'static str, bool) {
    match modifier {
        Modifier::Re | Modifier::IgnoreCase | Modifier::Multiline | Modifier::DotAll => (
            "regular expressions have no bound on what a row may cost",
            "use contains, startswith, endswith, or `*` and `?` in the value",
            false,
        ),
        Modifier::Cased => (
            "texts are compared without regard to case",
            "take `cased` out",
            true,
        ),
        Modifier::FieldRef => ("fields are not compared with each other", "give the value", false),
        Modifier::Base64 | Modifier::Base64Offset | Modifier::Wide | Modifier::Utf16 | Modifier::Utf16be => (
            "values are not encoded before they are compared",
            "write the text as the row has it, with contains, startswith or endswith",
            false,
        ),
        Modifier::WindAsh => (
            "no row has a command line whose dashes could vary",
            "take `windash` out, or list each spelling as a value",
            true,
        ),
        Modifier::Minute
        | Modifier::Hour
        | Modifier::Day
        | Modifier::Week
        | Modifier::Month
        | Modifier::Year => (
            "rows have no field for a part of their time",
            "take the field out: a rule looks at rows of any time",
            false,
        ),
        _ => ("it has no meaning for a row here", "take it out", false),
    }
}
