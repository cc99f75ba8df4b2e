//! The sentence of an alert: its rule's message with the row's fields in it.

use watchfold_schemas::Span;
use watchfold_schemas::fields::{Field, Source};

use super::cell::Row;

/// What stands for a field that the row lacks.
const MISSING: &str = "?";

/// A message taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Words(String),
    Field(Field),
    Observed,
    Threshold,
    Window,
}

impl Message {
    /// Compiles `{source.ip} tried {observed} ports`, or says what is wrong with it.
    pub fn compile(text: &str, source: Source) -> Result<Message, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((words, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err("its message opens a brace and does not close it".to_owned());
            };
            if !words.is_empty() {
                pieces.push(Piece::Words(words.to_owned()));
            }
            pieces.push(match name {
                "observed" => Piece::Observed,
                "threshold" => Piece::Threshold,
                "window" => Piece::Window,
                name => match Field::from_name(name) {
                    Some(field) if field.is_of(source) => Piece::Field(field),
                    Some(_) => {
                        return Err(format!(
                            "its message names {name}, which a {} has not",
                            source.name()
                        ));
                    }
                    None => return Err(format!("its message names {name:?}, which is no field")),
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Words(rest.to_owned()));
        }
        Ok(Message { pieces })
    }

    /// The fields that stand in it.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(*field),
            _ => None,
        })
    }

    pub fn write<R: Row + ?Sized>(&self, row: &R, observed: u64, threshold: u64, window: Span) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Words(words) => out.push_str(words),
                Piece::Observed => out.push_str(&observed.to_string()),
                Piece::Threshold => out.push_str(&threshold.to_string()),
                Piece::Window => out.push_str(&readable(window)),
                Piece::Field(field) => match row.cell(*field) {
                    Some(cell) => out.push_str(&cell.readable()),
                    None => out.push_str(MISSING),
                },
            }
        }
        out
    }
}

/// `10 s`, `5 min`, `1500 ms`.
fn readable(span: Span) -> String {
    match span.as_millis() {
        millis if millis > 60_000 && millis % 60_000 == 0 => format!("{} min", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{} s", millis / 1_000),
        millis => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cell::Cell;

    struct Scan;

    impl Row for Scan {
        fn cell(&self, field: Field) -> Option<Cell<'_>> {
            (field == Field::SourceIp).then(|| Cell::Address([192, 0, 2, 1].into()))
        }
    }

    #[test]
    fn fields_stand_in_the_sentence() {
        let text = "{source.ip} tried {observed} of {threshold} ports of {destination.ip} in {window}.";
        let message = Message::compile(text, Source::Packet).unwrap();
        assert_eq!(
            message.write(&Scan, 15, 12, Span::from_seconds(10)),
            "192.0.2.1 tried 15 of 12 ports of ? in 10 s."
        );
        for (millis, want) in [(300_000, "5 min"), (60_000, "60 s"), (1_500, "1500 ms")] {
            assert_eq!(readable(Span::from_millis(millis)), want);
        }
        for (text, want) in [
            ("{source.ip", "does not close"),
            ("{nonsense}", "is no field"),
            ("{ping.target}", "a packet has not"),
        ] {
            let error = Message::compile(text, Source::Packet).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
