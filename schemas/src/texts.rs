//! A column of short texts in one piece of memory. Stored as a list of strings, and knows nothing of what they say.

use std::fmt;
use std::ops::Index;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Texts in order. A round has two for each address, so one allocation for each of them would cost more than folding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    text: String,
    /// Where each ends, in bytes of `text`.
    ends: Vec<usize>,
}

impl Texts {
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| &self[index])
    }
}

impl Index<usize> for Texts {
    type Output = str;

    /// Panics where a slice would: an index that is not below [`Texts::len`].
    fn index(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Texts {
        let mut out = Texts::default();
        texts.into_iter().for_each(|text| out.push(text.as_ref()));
        out
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        deserializer.deserialize_seq(ListOfTexts)
    }
}

struct ListOfTexts;

impl<'de> Visitor<'de> for ListOfTexts {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::default();
        while list.next_element_seed(Next(&mut texts))?.is_some() {}
        Ok(texts)
    }
}

/// Appends the next text of a list where the others are.
struct Next<'a>(&'a mut Texts);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Next<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_stored_as_a_list_of_strings() {
        for list in [vec![], vec!["router"], vec!["", "ä", "", "pc:1"]] {
            let texts: Texts = list.iter().collect();
            let bytes = rmp_serde::to_vec_named(&texts).unwrap();
            assert_eq!(bytes, rmp_serde::to_vec_named(&list).unwrap());
            assert_eq!(rmp_serde::from_slice::<Texts>(&bytes).unwrap(), texts);
            assert_eq!(texts.iter().collect::<Vec<_>>(), list);
        }
    }

    #[test]
    fn what_is_no_list_of_strings_is_an_error() {
        for bytes in [
            &b"\x91\x01"[..],
            b"\xa1a",
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff",
            b"\x91\xa1\xff",
        ] {
            assert!(rmp_serde::from_slice::<Texts>(bytes).is_err(), "{bytes:?}");
        }
    }
}
