//! The file as it is written: every table, every key, nothing else.

use std::net::SocketAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::duration::Millis;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct File<S> {
    pub site: Option<String>,
    pub time_zone: Option<String>,
    #[serde(default)]
    pub network: Network,
    pub occupancy: Option<Occupancy>,
    #[serde(default)]
    pub dashboard: Dashboard,
    #[serde(default)]
    pub capture: Vec<super::capture::Section>,
    #[serde(default)]
    pub rules: super::rules::Section,
    #[serde(default)]
    pub sinks: S,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    pub interval: Option<Millis>,
    pub timeout: Option<Millis>,
    pub retry_delay: Option<Millis>,
    pub min_incident: Option<Millis>,
    pub remind_every: Option<Millis>,
    pub escalate_after: Option<Millis>,
    pub silence: Option<Millis>,
    pub fault_incident: Option<Millis>,
    pub flapping: Flapping,
    pub targets: Vec<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flapping {
    pub count: Option<u32>,
    pub window: Option<Millis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    #[serde(deserialize_with = "readable")]
    pub name: String,
    pub address: OneOrMany,
    #[serde(default)]
    pub depends_on: Vec<String>,
    pub interval: Option<Millis>,
    pub timeout: Option<Millis>,
    pub quorum: Option<u32>,
    /// How each address is asked; `["echo"]` when not given.
    pub signals: Option<Vec<Signal>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "an address is \"192.168.1.1\" or a list of them")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub fn into_list(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a signal is \"echo\", { dns = \"name\" }, { tcp = port } or { https = \"url\", status = 200, contains = \"text\" }"
)]
pub enum Signal {
    Word(String),
    Dns(DnsSignal),
    Tcp(TcpSignal),
    Https(HttpsSignal),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSignal {
    pub dns: String,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpSignal {
    pub tcp: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsSignal {
    pub https: String,
    pub status: Option<u16>,
    pub contains: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Occupancy {
    pub interval: Option<Millis>,
    pub timeout: Option<Millis>,
    pub min_session: Option<Millis>,
    pub batch_window: Option<Millis>,
    pub named_max: Option<u32>,
    /// A snapshot each hour on the clock hour.
    pub snapshot: Option<bool>,
    pub depends_on: Option<Vec<String>>,
    pub ranges: Vec<Range>,
    pub hosts: Vec<Host>,
}

/// PCs by address: counted from a first one, or all of a CIDR block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub from: Option<String>,
    pub count: Option<u32>,
    pub cidr: Option<String>,
    /// `{n}` counts from 1 through all ranges with this pattern; `PC-{n}` when not given.
    #[serde(default, deserialize_with = "readable_if_any")]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    #[serde(deserialize_with = "readable")]
    pub name: String,
    pub address: String,
    pub mac: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dashboard {
    pub listen: Option<SocketAddr>,
    /// Where those who read messages can reach the page; messages link to it.
    pub public_url: Option<String>,
    /// Further host names of the page.
    pub hosts: Vec<String>,
    /// Proxies that say by `X-Forwarded-Proto` whether a browser came by https.
    pub proxies: Vec<String>,
}

/// The sections of all sinks: a program names the types of those it runs, and passes over the rest.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(
        deserialize = "Discord: Deserialize<'de>, Healthchecks: Deserialize<'de>, VirusTotal: Deserialize<'de>"
    )
)]
pub struct Sinks<Discord = Ignored, Healthchecks = Ignored, VirusTotal = Ignored> {
    #[serde(default = "none")]
    pub discord: Option<Discord>,
    #[serde(default = "none")]
    pub healthchecks: Option<Healthchecks>,
    #[serde(default = "none")]
    pub virustotal: Option<VirusTotal>,
}

/// A section that another program reads.
pub type Ignored = serde::de::IgnoredAny;

impl<D, H, V> Default for Sinks<D, H, V> {
    fn default() -> Sinks<D, H, V> {
        Sinks {
            discord: None,
            healthchecks: None,
            virustotal: None,
        }
    }
}

fn none<S>() -> Option<S> {
    None
}

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 100;

/// A name that looks on a page, in a message and in a terminal like what it is: one line, without invisible characters and without marks
/// that change the direction of what follows.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if let Some(odd) = name.chars().find(|char| !is_readable(*char)) {
        let point = u32::from(odd);
        return Err(D::Error::custom(format!(
            "`name` holds U+{point:04X}, a control or invisible character: write the name without it"
        )));
    }
    match name.chars().count() {
        count if count > NAME_CHARS_MAX => Err(D::Error::custom(format!(
            "`name` has {count} characters: use at most {NAME_CHARS_MAX}"
        ))),
        _ => Ok(name),
    }
}

fn readable_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    readable(deserializer).map(Some)
}

/// Control characters (newline and NUL among them), separators of lines, directional marks (Unicode, UAX 9) and characters without width.
/// The joiners U+200C and U+200D belong to the writing of some languages.
fn is_readable(char: char) -> bool {
    let is_odd = char.is_control()
        || matches!(
            char,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        );
    !is_odd
}
