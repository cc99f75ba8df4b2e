//! What a message must look like before any transport takes it. Does not look inside payloads.

use watchfold_schemas::subjects::is_token;

use crate::{Append, LogError};

/// Bytes of one payload: brokers take 1 MiB with headers by default, and the headers need less than 1 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024 - 1024;

/// Bytes of one subject; what brokers advise, and what one byte of the stored format can count.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Bytes of one message id; what one byte of the stored format can count.
pub const MESSAGE_ID_BYTES_MAX: usize = 255;

/// Refuses what no transport could carry: an empty or long id, a subject that is not made of tokens, a long payload.
pub fn check_message(message: &Append) -> Result<(), LogError> {
    check_message_after(message, "")
}

/// The same, knowing that `checked` is a good subject or empty: who appends much at once repeats its subjects.
pub(crate) fn check_message_after(message: &Append, checked: &str) -> Result<(), LogError> {
    let id_bytes = message.id.0.len();
    let is_known = !checked.is_empty() && message.subject == checked;
    let subject_fits =
        is_known || message.subject.len() <= SUBJECT_BYTES_MAX && message.subject.split('.').all(is_token);
    if !(1..=MESSAGE_ID_BYTES_MAX).contains(&id_bytes) || !subject_fits {
        let subject = message.subject.chars().take(SUBJECT_BYTES_MAX).collect();
        return Err(LogError::InvalidMessage {
            bytes: id_bytes,
            subject,
        });
    }
    if message.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(LogError::TooLarge {
            bytes: message.payload.len(),
            limit: PAYLOAD_BYTES_MAX,
        });
    }
    Ok(())
}
