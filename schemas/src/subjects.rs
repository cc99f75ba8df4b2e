//! The only place that spells subjects and stream names.

use std::fmt;

use crate::hash::short_hash;

/// The longest token of a subject, in bytes; with it no subject reaches the 255 bytes that servers advise.
pub const TOKEN_BYTES_MAX: usize = 48;

/// A stream of the log. The embedded log keeps one directory for each, JetStream one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Packet batches and what the packet chain must see in the same order.
    Packets,
    /// Every other observation.
    Observations,
    /// What chains derived. Output only.
    Events,
    /// Orders to collectors.
    Commands,
    /// Snapshots of chains.
    Snapshots,
}

impl Stream {
    pub const ALL: [Stream; 5] = [
        Stream::Packets,
        Stream::Observations,
        Stream::Events,
        Stream::Commands,
        Stream::Snapshots,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Stream::Packets => "WF_PKT",
            Stream::Observations => "WF_OBS",
            Stream::Events => "WF_EVT",
            Stream::Commands => "WF_CMD",
            Stream::Snapshots => "WF_SNAP",
        }
    }

    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::ALL
            .into_iter()
            .find(|stream| stream.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An ordered set of folds over one stream of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    Site,
    Packets,
}

impl Chain {
    pub const fn token(self) -> &'static str {
        match self {
            Chain::Site => "site",
            Chain::Packets => "packets",
        }
    }
}

/// Whether `text` may stand as one token of a subject: 1 to [`TOKEN_BYTES_MAX`] of `a-z A-Z 0-9 _ -`.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TOKEN_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Any text as a token: foreign bytes become `_`, and text that had to change gets a hash so that it stays distinct.
pub fn tokenize(text: &str) -> String {
    if is_token(text) {
        return text.to_owned();
    }
    let kept: String = text
        .bytes()
        .take(TOKEN_BYTES_MAX - 9)
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                byte as char
            } else {
                '_'
            }
        })
        .collect();
    format!("{kept}_{}", &short_hash(&[text])[..8])
}

/// `wf.obs.<site>.<kind>.<collector>`
pub fn observation(site: &str, kind: &str, collector: &str) -> String {
    format!("wf.obs.{site}.{kind}.{collector}")
}

/// The subject of an observation in the stream that it belongs to.
pub fn of_observation(stream: Stream, site: &str, kind: &str, collector: &str) -> String {
    format!("wf.{}.{site}.{kind}.{collector}", family(stream))
}

/// The kind in the subject of an observation, in either stream.
pub fn kind_of_observation(subject: &str) -> Option<&str> {
    let rest = subject
        .strip_prefix("wf.obs.")
        .or_else(|| subject.strip_prefix("wf.pkt."))?;
    rest.split('.').nth(1)
}

/// `wf.evt.<site>.<chain>.<kind>.<key>`; the key is made a token.
pub fn event(site: &str, chain: Chain, kind: &str, key: &str) -> String {
    format!("wf.evt.{site}.{}.{kind}.{}", chain.token(), tokenize(key))
}

/// The filter for the configurations of one site: `wf.obs.<site>.activation.*`.
pub fn activations(site: &str) -> String {
    observation(site, "activation", "*")
}

/// The filter for the configurations of every site. A site is known by having one.
pub fn activations_of_all() -> String {
    activations("*")
}

/// The filter for what one collector of a site observed, whatever kind: `wf.obs.<site>.*.<collector>`.
pub fn collector_filter(site: &str, collector: &str) -> String {
    observation(site, "*", collector)
}

/// The filter for one kind of event of one site, whatever chain and key: `wf.evt.<site>.*.<kind>.*`.
pub fn events_of_kind(site: &str, kind: &str) -> String {
    format!("wf.evt.{site}.*.{kind}.*")
}

/// `wf.snap.<site>.<chain>`
pub fn snapshot(site: &str, chain: Chain) -> String {
    format!("wf.snap.{site}.{}", chain.token())
}

/// The filter for the events of one chain: `wf.evt.<site>.<chain>.>`.
pub fn chain_events_filter(site: &str, chain: Chain) -> String {
    format!("wf.evt.{site}.{}.>", chain.token())
}

/// The filter for everything of one site in a stream: `wf.obs.<site>.>`.
pub fn site_filter(stream: Stream, site: &str) -> String {
    format!("wf.{}.{site}.>", family(stream))
}

/// The filter for everything that belongs into a stream: `wf.obs.>`. No other subject does.
pub fn stream_filter(stream: Stream) -> String {
    format!("wf.{}.>", family(stream))
}

const fn family(stream: Stream) -> &'static str {
    match stream {
        Stream::Packets => "pkt",
        Stream::Observations => "obs",
        Stream::Events => "evt",
        Stream::Commands => "cmd",
        Stream::Snapshots => "snap",
    }
}

/// The stream that a subject belongs to.
pub fn stream_of(subject: &str) -> Option<Stream> {
    let family_of = subject.strip_prefix("wf.")?.split('.').next()?;
    Stream::ALL
        .into_iter()
        .find(|stream| family(*stream) == family_of)
}

/// The site that a subject names, if it is one of ours.
pub fn site_of(subject: &str) -> Option<&str> {
    let mut tokens = subject.split('.');
    (tokens.next() == Some("wf"))
        .then(|| tokens.nth(1))
        .flatten()
        .filter(|site| is_token(site))
}

/// Whether `subject` matches a NATS filter: `*` is one token, a last `>` is one or more.
pub fn matches(filter: &str, subject: &str) -> bool {
    let mut wanted = filter.split('.');
    let mut given = subject.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(want), Some(got)) if want == got => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_nats_does() {
        for (filter, subject, want) in [
            ("wf.obs.cafe.>", "wf.obs.cafe.tick.clock", true),
            ("wf.obs.cafe.>", "wf.obs.cafe", false),
            ("wf.obs.*.tick.*", "wf.obs.cafe.tick.clock", true),
            ("wf.obs.*.tick.*", "wf.obs.cafe.tick", false),
            ("wf.obs.cafe", "wf.obs.cafe.tick", false),
            (">", "wf", true),
        ] {
            assert_eq!(matches(filter, subject), want, "{filter} {subject}");
        }
    }

    #[test]
    fn subjects_name_their_site() {
        assert_eq!(site_of(&observation("cafe-1", "tick", "clock")), Some("cafe-1"));
        assert_eq!(
            site_of(&event("cafe-1", Chain::Site, "incident_opened", "router")),
            Some("cafe-1")
        );
        for foreign in ["", "wf", "wf.obs", "wf.obs.", "other.obs.cafe-1.tick"] {
            assert_eq!(site_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_stream_takes_its_own_subjects_alone() {
        let subjects = [
            (Stream::Observations, observation("cafe-1", "tick", "clock")),
            (
                Stream::Events,
                event("cafe-1", Chain::Site, "incident_opened", "router"),
            ),
            (Stream::Snapshots, snapshot("cafe-1", Chain::Site)),
        ];
        for stream in Stream::ALL {
            for (of, subject) in &subjects {
                assert_eq!(
                    matches(&stream_filter(stream), subject),
                    stream == *of,
                    "{stream} {subject}"
                );
                assert_eq!(stream_of(subject), Some(*of), "{subject}");
            }
        }
    }

    #[test]
    fn tokens_stay_distinct() {
        assert_eq!(tokenize("router"), "router");
        assert_ne!(tokenize("pc:10.0.0.1"), tokenize("pc:10.0.0_1"));
        assert!(is_token(&tokenize(&"ü".repeat(300))));
        assert!(!is_token("a.b") && !is_token(""));
    }
}
