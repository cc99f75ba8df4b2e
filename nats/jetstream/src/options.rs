//! Where the broker is, who we are there, and what its streams keep. Reads no file and no environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use watchfold_log::default_stream_options;
use watchfold_schemas::{Span, Stream};

/// How long one call keeps trying before it says that the broker does not answer. Long enough for a cluster to elect
/// another leader (some seconds), short enough that a health page tells of an outage while it is news.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// A broker, and how to work with it.
#[derive(Clone, Debug)]
pub struct JetStreamOptions {
    /// `nats://host:4222` or `tls://host:4222`, without user and password.
    pub servers: Vec<String>,
    pub auth: Auth,
    pub tls: Tls,
    /// How the broker's operator sees this connection.
    pub name: String,
    /// The JetStream domain, where streams are not in the domain of the server that is connected to.
    pub domain: Option<String>,
    /// The first tokens of reply subjects, where permissions demand others than `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// Limits of streams that are to be made and differ from the plane's defaults.
    pub limits: BTreeMap<Stream, StreamLimits>,
    /// Copies of each stream that is to be made: without a number 3 on a cluster, else 1.
    pub replicas: Option<usize>,
    /// Makes no stream and appends nothing: a stream that is missing is an empty one.
    pub read_only: bool,
    /// See [`DEADLINE`].
    pub deadline: Duration,
}

impl JetStreamOptions {
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> JetStreamOptions {
        JetStreamOptions {
            servers: servers.into_iter().map(Into::into).collect(),
            auth: Auth::None,
            tls: Tls::default(),
            name: "watchfold".to_owned(),
            domain: None,
            inbox_prefix: None,
            limits: BTreeMap::new(),
            replicas: None,
            read_only: false,
            deadline: DEADLINE,
        }
    }

    /// What `stream` keeps when it is made.
    pub fn limits(&self, stream: Stream) -> StreamLimits {
        self.limits.get(&stream).copied().unwrap_or_else(|| {
            let options = default_stream_options(stream);
            StreamLimits {
                bytes_max: options.bytes_max,
                age_max: options.age_max,
            }
        })
    }

    /// For people: the servers, which hold no secret.
    pub fn place(&self) -> String {
        self.servers.join(",")
    }
}

/// What a stream of the broker keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    pub bytes_max: u64,
    pub age_max: Option<Span>,
}

/// Who we are for the broker.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    #[default]
    None,
    Token(Secret),
    UserPassword {
        user: String,
        password: Secret,
    },
    /// The content of a `.creds` file.
    Credentials(Secret),
    /// The seed of an nkey.
    Nkey(Secret),
}

/// Text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Files for TLS, in PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Connect with TLS whatever the server says it needs.
    pub required: bool,
    /// Begin with TLS instead of the server's greeting; the server must be set so too.
    pub first: bool,
    /// Whom to trust; without one, whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let options = JetStreamOptions {
            auth: Auth::UserPassword {
                user: "site".into(),
                password: Secret::new("hunter2"),
            },
            ..JetStreamOptions::new(["nats://localhost:4222"])
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("site") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn streams_keep_what_the_plane_says_unless_told_otherwise() {
        let less = StreamLimits {
            bytes_max: 1,
            age_max: None,
        };
        let mut options = JetStreamOptions::new(["nats://localhost:4222"]);
        options.limits.insert(Stream::Events, less);
        assert_eq!(options.limits(Stream::Events), less);
        assert_eq!(options.limits(Stream::Observations).bytes_max, 8 << 30);
    }
}
