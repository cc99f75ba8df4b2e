//! Message ids as the broker is given them.
//!
//! A broker recognises a message that is sent twice by `Nats-Msg-Id`, in a table for the whole stream: it does not look at the subject. A
//! user who may publish under one subject could therefore use up ids that another user is about to send, and the broker would
//! acknowledge the other's messages as duplicates and drop them. In streams that several users write to, the header has a mark behind
//! the id, which nobody can compute without the credentials of the user who sends it. Readers cut the mark off.

use std::num::NonZeroU32;

use ring::pbkdf2;
use watchfold_log::Append;
use watchfold_schemas::Stream;
use watchfold_schemas::hash::short_hash;

use crate::{Auth, JetStreamOptions};

/// Between id and mark.
const SEPARATOR: char = ';';
/// Hexadecimal digits of a mark: 128 bits.
const MARK_DIGITS: usize = 32;
/// Rounds from a credential to its key, as OWASP advises for passwords: who reads the log sees marks, and must not find a weak
/// password by trying.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("is not zero");
/// So that a key serves this purpose alone.
const PURPOSE: &[u8] = b"watchfold message ids 1";

/// Makes the marks of one user. The same user has the same key in each process and after each restart.
pub(crate) struct IdKey(Option<String>);

impl IdKey {
    /// Takes a moment of processor time, and reads the key of a client certificate. Without credentials there is no key: who connects to
    /// such a server may publish everything.
    pub(crate) fn derive(options: &JetStreamOptions) -> IdKey {
        let Some((user, secret)) = credential(options) else {
            return IdKey(None);
        };
        let salt = [PURPOSE, user.as_bytes()].concat();
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, &secret, &mut key);
        IdKey(Some(key.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// What the broker is given for the id of `message`.
    pub(crate) fn header_of(&self, message: &Append) -> String {
        let id = message.id.0.as_str();
        match &self.0 {
            Some(key) => {
                let mark = short_hash(&[key, &message.subject, id]);
                format!("{id}{SEPARATOR}{mark}")
            }
            None => id.to_owned(),
        }
    }
}

/// Whether several users write to this stream. Chains alone write the others, and two processes that fold the same input send the same
/// ids there.
pub(crate) const fn is_marked(stream: Stream) -> bool {
    match stream {
        Stream::Packets | Stream::Observations => true,
        Stream::Events | Stream::Snapshots | Stream::Commands => false,
    }
}

/// The id in a header, without its mark.
pub(crate) fn id_in(header: &str) -> &str {
    match header.rsplit_once(SEPARATOR) {
        Some((id, mark))
            if mark.len() == MARK_DIGITS && mark.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            id
        }
        _ => header,
    }
}

fn credential(options: &JetStreamOptions) -> Option<(&str, Vec<u8>)> {
    match &options.auth {
        Auth::Token(secret) | Auth::Credentials(secret) | Auth::Nkey(secret) => {
            Some(("", secret.reveal().as_bytes().to_vec()))
        }
        Auth::UserPassword { user, password } => Some((user, password.reveal().as_bytes().to_vec())),
        // A file that cannot be read is an error when the connection is made.
        Auth::None => {
            let (_, key) = options.tls.identity.as_ref()?;
            Some(("", std::fs::read(key).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::MessageId;

    use super::*;
    use crate::Secret;

    fn message(subject: &str) -> Append {
        Append {
            stream: Stream::Observations,
            subject: subject.to_owned(),
            id: MessageId("cafe-1/ping/3/9".to_owned()),
            payload: Vec::new().into(),
        }
    }

    fn key(user: &str, password: &str) -> IdKey {
        let auth = Auth::UserPassword {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        IdKey::derive(&JetStreamOptions {
            auth,
            ..JetStreamOptions::new(["nats://localhost:4222"])
        })
    }

    #[test]
    fn a_mark_depends_on_user_password_and_subject_and_on_nothing_else() {
        let (own, foreign) = (
            message("wf.obs.cafe-1.quiet.ping"),
            message("wf.obs.cafe-2.quiet.ping"),
        );
        let header = key("cafe-1", "s3cret").header_of(&own);
        assert_eq!(header, key("cafe-1", "s3cret").header_of(&own), "after a restart");
        for other in [
            key("cafe-1", "other").header_of(&own),
            key("cafe-2", "s3cret").header_of(&own),
            key("cafe-1", "s3cret").header_of(&foreign),
        ] {
            assert_ne!(header, other);
            assert_eq!(id_in(&other), "cafe-1/ping/3/9");
        }
        assert!(!header.contains("s3cret"));
    }

    #[test]
    fn an_id_without_a_mark_stays_as_it_is() {
        let anyone = IdKey::derive(&JetStreamOptions::new(["nats://localhost:4222"]));
        assert_eq!(anyone.header_of(&message("wf.obs.a.b.c")), "cafe-1/ping/3/9");
        for id in ["cafe-1/ping/3/9", "", "a;b", "a;00112233445566778899aabbccddeefg"] {
            assert_eq!(id_in(id), id);
        }
    }
}
