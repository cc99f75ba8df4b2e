//! Messages on their way to a stream's writer: checked, hashed and laid out as frames by whoever appends, on that thread,
//! so that the one writer only numbers, checks for duplicates, seals and writes. Knows no file.

use crate::duplicates::IdHasher;
use crate::frame::{frame_bytes_of, lay_out_frame};
use crate::message::check_message_after;
use crate::{Ack, Append, LogError};

/// What one appender brings at once.
#[derive(Default)]
pub(crate) struct Prepared {
    /// The frames one after another; what only the writer knows is missing from each.
    pub(crate) frames: Vec<u8>,
    /// In the same order.
    pub(crate) messages: Vec<PreparedMessage>,
}

#[derive(Clone, Copy)]
pub(crate) struct PreparedMessage {
    pub(crate) id_hash: u128,
    /// Of its frame.
    pub(crate) bytes: u32,
}

impl Prepared {
    /// Refuses all when one of them is no message.
    pub(crate) fn new(hasher: &IdHasher, messages: &[Append]) -> Result<Prepared, LogError> {
        let mut prepared = Prepared {
            frames: Vec::with_capacity(messages.iter().map(frame_bytes_of).sum()),
            messages: Vec::with_capacity(messages.len()),
        };
        let mut checked = "";
        for message in messages {
            check_message_after(message, checked)?;
            checked = &message.subject;
            lay_out_frame(&mut prepared.frames, message);
            prepared.messages.push(PreparedMessage {
                id_hash: hasher.hash(&message.id.0),
                bytes: frame_bytes_of(message) as u32,
            });
        }
        Ok(prepared)
    }

    /// What it holds of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.len() + self.messages.len() * size_of::<PreparedMessage>()
    }
}

/// Where the messages of one appender stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Of the first that is no duplicate; the others follow without holes.
    pub(crate) first_sequence: u64,
    pub(crate) count: usize,
    /// Which of them are duplicates, in order, and where their first ones stand.
    pub(crate) duplicates: Vec<(usize, u64)>,
}

impl Placed {
    /// One for each message, in their order.
    pub(crate) fn acks(&self) -> Vec<Ack> {
        let mut duplicates = self.duplicates.iter().peekable();
        let mut next_sequence = self.first_sequence;
        let ack = |position| {
            if let Some((_, sequence)) = duplicates.next_if(|(duplicate, _)| *duplicate == position) {
                return Ack {
                    sequence: *sequence,
                    duplicate: true,
                };
            }
            next_sequence += 1;
            Ack {
                sequence: next_sequence - 1,
                duplicate: false,
            }
        };
        (0..self.count).map(ack).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use watchfold_schemas::{MessageId, Stream};

    use super::*;

    fn is_taken(subjects: &[&str]) -> bool {
        let message = |subject: &&str| Append {
            stream: Stream::Observations,
            subject: (*subject).to_owned(),
            id: MessageId("id".to_owned()),
            payload: Bytes::new(),
        };
        let messages: Vec<Append> = subjects.iter().map(message).collect();
        Prepared::new(&IdHasher::default(), &messages).is_ok()
    }

    #[test]
    fn every_subject_is_checked() {
        assert!(is_taken(&["a.b", "a.b", "c", "a.b"]));
        for bad in [
            &["a..b"][..],
            &["a", "a", "a."],
            &[""],
            &["a", ""],
            &["", ""],
            &["a", "a b", "a"],
        ] {
            assert!(!is_taken(bad), "{bad:?}");
        }
    }

    #[test]
    fn acks_stand_in_the_order_of_the_messages() {
        let placed = Placed {
            first_sequence: 9,
            count: 5,
            duplicates: vec![(0, 3), (3, 10)],
        };
        let acks: Vec<(u64, bool)> = placed
            .acks()
            .iter()
            .map(|ack| (ack.sequence, ack.duplicate))
            .collect();
        assert_eq!(
            acks,
            [(3, true), (9, false), (10, false), (10, true), (11, false)]
        );
        assert_eq!(Placed::default().acks(), []);
    }
}
