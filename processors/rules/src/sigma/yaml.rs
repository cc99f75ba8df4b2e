//! YAML whose size is known before anything is built of it. What the values mean is for others.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};
use yaml_serde::Value;

/// The most keys and values of one document, those that aliases repeat included.
const NODES_MAX: usize = 20_000;

/// How deep values may nest; what is accepted needs five.
const DEPTH_MAX: usize = 24;

/// How many brackets are open at once, at most; a bound on what any parser of the text can nest.
pub fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The value, once it is known to be small: aliases are counted as what they stand for before anything is built of them.
pub fn parsed(text: &str) -> Result<Value, yaml_serde::Error> {
    let left = Cell::new(NODES_MAX);
    let counted = Counted {
        left: &left,
        depth: 0,
    };
    counted.deserialize(yaml_serde::Deserializer::from_str(text))?;
    yaml_serde::from_str(text)
}

/// Words in the parser's messages, what is wrong, and what to write instead.
const MISTAKES: [(&str, &str, &str); 16] = [
    (
        "more than one document",
        "a second rule begins within this one",
        "put `---` on a line of its own between them",
    ),
    (
        "unexpected end of stream",
        "a quote that opens here is not closed: unexpected end of the text",
        "close it",
    ),
    (
        "block mapping",
        "this line is not a key of the block around it",
        "indent the keys of a block alike, and write each as `key: value`",
    ),
    (
        "mapping values are not allowed",
        "a second colon in one value",
        "put the value into quotes, or the key on a line of its own",
    ),
    (
        "expected ',' or",
        "a bracket that is not closed, or a comma that is missing",
        "separate values with commas, and close the bracket",
    ),
    (
        "flow sequence",
        "a bracket that is not closed, or a comma that is missing",
        "separate values with commas, and close the bracket",
    ),
    (
        "flow mapping",
        "a brace that is not closed, or a comma that is missing",
        "write `{key: value, key: value}`",
    ),
    (
        "block sequence",
        "this line is not an entry of the list around it",
        "begin each entry with `- `, all indented alike",
    ),
    (
        "block sequence entries are not allowed",
        "a list where a value must be",
        "put each entry on a line of its own below the key",
    ),
    (
        "unknown anchor",
        "a value that begins with `*` refers to an anchor that is not there",
        "put it into quotes: '*text'",
    ),
    (
        "alias",
        "a value that begins with `*` or `&` is an alias or an anchor, and this is none",
        "put it into quotes: '*text'",
    ),
    (
        "cannot start any token",
        "a value begins with a character that has a meaning of its own in YAML",
        "put it into quotes",
    ),
    (
        "could not find expected ':'",
        "a key without its colon",
        "write `key: value`, and put a text of several lines below `key: |`",
    ),
    (
        "escape",
        "a text in double quotes has a backslash that means nothing",
        "put the text into single quotes, where a backslash is one",
    ),
    ("control characters", "a control character", "take it out"),
    (
        "tag",
        "a value has a tag (`!...`)",
        "put it into quotes, or take the tag out",
    ),
];

/// What is wrong with a text that the parser refuses, and what to write instead: its own words reach nobody.
pub fn in_our_words(message: &str) -> (String, Option<String>) {
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some((_, own)) = message.split_once(OURS) {
        return (format!("this is not YAML that a rule may be: {own}"), None);
    }
    if let Some((_, key)) = message.split_once("duplicate entry with key ") {
        let key = key.trim_matches('"');
        let instead = "put both values into one list, or the second into a selection of its own".to_owned();
        return (
            format!("a duplicate: the key `{key}` stands twice in one block"),
            Some(instead),
        );
    }
    let known = MISTAKES.iter().find(|(words, ..)| message.contains(words));
    match known {
        Some((_, reason, instead)) => ((*reason).to_owned(), Some((*instead).to_owned())),
        None => (
            "this is not YAML that a rule may be".to_owned(),
            Some("write `key: value` on each line, indent with spaces, and put texts with special characters into quotes".to_owned()),
        ),
    }
}

/// What stands before messages of ours among those of the parser, behind the path of the value.
const OURS: &str = "watchfold: ";

/// Counts what would be built, and refuses too much of it, too deep, and tagged values.
#[derive(Clone, Copy)]
struct Counted<'c> {
    left: &'c Cell<usize>,
    depth: usize,
}

impl Counted<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("{OURS}it nests deeper than {DEPTH_MAX}")));
        }
        Ok(Counted {
            depth: self.depth + 1,
            ..self
        })
    }

    fn one<E: serde::de::Error>(self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format!("{OURS}it has more than {NODES_MAX} values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.one()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map.next_key_seed(inner)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(format!(
            "{OURS}a value has a tag (`!…`); take it out"
        )))
    }
}
