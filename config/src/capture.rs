//! The `[[capture]]` tables: which interfaces packets are taken from, and how.
//!
//! Checked as far as the file alone allows: whether an interface exists, and whether a filter is one, is known to the
//! collector.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Problems;
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token, tokenize};

/// The most interfaces of one site; each has a thread and a buffer of its own.
pub const CAPTURES_MAX: usize = 8;

/// What a collector's name begins with; the rest is the table's `name`.
pub const COLLECTOR_PREFIX: &str = "capture-";

/// Ports whose payloads' first bytes may be kept.
pub const HEAD_PORTS_MAX: usize = 64;

/// Those of which they are kept unless the table says otherwise: where mining pools listen, whose protocol the default pack looks for.
pub const HEAD_PORTS: [u16; 11] = [
    3_333, 3_334, 3_357, 4_444, 5_555, 7_777, 9_999, 14_433, 14_444, 45_560, 45_700,
];

/// Headers, and names at the beginning of a payload, need some of a packet.
const SNAP_LENGTH_MIN: u32 = 96;
/// The largest packet that libpcap knows.
const SNAP_LENGTH_MAX: u32 = 262_144;
const SNAP_LENGTH: u32 = 65_535;

/// It bridges 1.9 s of 200,000 small packets each, and 5.1 s on a quiet network (docs/benchmarks.md).
const BUFFER_MIB: u32 = 64;
/// The kernel's memory, which is nobody else's then.
const BUFFER_MIB_MAX: u32 = 1_024;

/// A ring of less holds no packets worth asking for.
const RING_MIB_MIN: u64 = 8;
const RING_MIB_MAX: u64 = 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// How packets of one interface are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// As the system calls it; `any` is all of them where the system has that.
    pub interface: String,
    /// The collector is `capture-` and this.
    pub name: String,
    /// Only packets that it lets through, in the language of libpcap.
    pub filter: Option<String>,
    /// Bytes kept of each packet.
    pub snap_length: u32,
    /// Packets for others are seen too.
    pub promiscuous: bool,
    /// The kernel's buffer, for bursts.
    pub buffer_bytes: u64,
    /// Packets from or to these ports keep the first bytes of their payload in the log.
    pub head_ports: Vec<u16>,
    /// Whole packets are kept on disk up to this many bytes; the oldest go.
    pub ring_bytes_max: Option<u64>,
}

impl CaptureConfig {
    /// One interface with nothing said about it.
    pub fn of(interface: &str) -> CaptureConfig {
        let mut name = tokenize(interface);
        if name.len() > NAME_BYTES_MAX {
            // Long enough to be told from others by its end, which is a hash.
            name = name.split_off(name.len() - NAME_BYTES_MAX);
        }
        CaptureConfig {
            interface: interface.to_owned(),
            name,
            filter: None,
            snap_length: SNAP_LENGTH,
            promiscuous: true,
            buffer_bytes: u64::from(BUFFER_MIB) * MIB,
            head_ports: HEAD_PORTS.to_vec(),
            ring_bytes_max: None,
        }
    }

    /// The name under which it publishes.
    pub fn collector(&self) -> String {
        format!("{COLLECTOR_PREFIX}{}", self.name)
    }
}

/// With the prefix it is a collector's name, which is a token.
const NAME_BYTES_MAX: usize = TOKEN_BYTES_MAX - COLLECTOR_PREFIX.len();

/// A table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    interface: String,
    name: Option<String>,
    filter: Option<String>,
    snap_length: Option<u32>,
    promiscuous: Option<bool>,
    buffer_mib: Option<u32>,
    head_ports: Option<Vec<u16>>,
    ring_mib: Option<u64>,
}

/// Checks the tables; problems name the interface and the key.
pub fn check(sections: Vec<Section>, problems: &mut Problems) -> Vec<CaptureConfig> {
    if sections.len() > CAPTURES_MAX {
        problems.push(
            "capture",
            format!(
                "capture: {} interfaces, and the limit is {CAPTURES_MAX}; \"any\" is all of them in one",
                sections.len()
            ),
        );
    }
    let mut captures = Vec::new();
    let mut names = BTreeSet::new();
    for (index, section) in sections.into_iter().enumerate() {
        let path = format!("capture[{index}]");
        let capture = one(section, &path, problems);
        if !names.insert(capture.name.clone()) {
            problems.push(format!("{path}.name"), format!(
                "capture {:?}: another one has the name {:?} too; give it a name of its own with name = \"…\"",
                capture.interface, capture.name
            ));
        }
        captures.push(capture);
    }
    captures
}

fn one(section: Section, path: &str, problems: &mut Problems) -> CaptureConfig {
    let default = CaptureConfig::of(&section.interface);
    let key = format!("capture {:?}", section.interface);
    if section.interface.trim().is_empty() || section.interface.len() > 255 {
        problems.push(
            format!("{path}.interface"),
            format!("{key}: interface must name one; `watchfold capture interfaces` lists those that exist"),
        );
    }
    let name = section.name.unwrap_or(default.name);
    if !is_token(&name) || name.len() > NAME_BYTES_MAX {
        problems.push(format!("{path}.name"), format!(
            "{key}: name {name:?} must be 1 to {NAME_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"
        ));
    }
    let snap_length = section.snap_length.unwrap_or(default.snap_length);
    if !(SNAP_LENGTH_MIN..=SNAP_LENGTH_MAX).contains(&snap_length) {
        problems.push(
            format!("{path}.snap_length"),
            format!("{key}: snap_length must be from {SNAP_LENGTH_MIN} to {SNAP_LENGTH_MAX} bytes"),
        );
    }
    let buffer_mib = section.buffer_mib.unwrap_or(BUFFER_MIB);
    if !(1..=BUFFER_MIB_MAX).contains(&buffer_mib) {
        problems.push(
            format!("{path}.buffer_mib"),
            format!("{key}: buffer_mib must be from 1 to {BUFFER_MIB_MAX}"),
        );
    }
    let head_ports = section.head_ports.unwrap_or(default.head_ports);
    if head_ports.len() > HEAD_PORTS_MAX {
        problems.push(
            format!("{path}.head_ports"),
            format!(
                "{key}: {} head_ports, and the limit is {HEAD_PORTS_MAX}",
                head_ports.len()
            ),
        );
    }
    if section
        .ring_mib
        .is_some_and(|mib| !(RING_MIB_MIN..=RING_MIB_MAX).contains(&mib))
    {
        problems.push(format!("{path}.ring_mib"), format!(
            "{key}: ring_mib must be from {RING_MIB_MIN} to {RING_MIB_MAX}; leave it out to keep no packets"
        ));
    }
    CaptureConfig {
        interface: section.interface,
        name,
        filter: section.filter.filter(|filter| !filter.trim().is_empty()),
        snap_length,
        promiscuous: section.promiscuous.unwrap_or(default.promiscuous),
        buffer_bytes: u64::from(buffer_mib) * MIB,
        head_ports,
        ring_bytes_max: section.ring_mib.map(|mib| mib.saturating_mul(MIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<CaptureConfig>, String> {
        #[derive(Deserialize)]
        struct File {
            capture: Vec<Section>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut problems = Problems::default();
        let captures = check(file.capture, &mut problems);
        match problems.is_empty() {
            true => Ok(captures),
            false => Err(problems.messages().join("\n")),
        }
    }

    #[test]
    fn payloads_are_kept_of_the_ports_that_are_named() {
        for (written, expected) in [
            ("", &HEAD_PORTS[..]),
            ("head_ports = []", &[]),
            ("head_ports = [22]", &[22]),
        ] {
            let captures = parse(&format!("[[capture]]\ninterface = \"eth0\"\n{written}")).unwrap();
            assert_eq!(captures[0].head_ports, expected, "{written}");
        }
    }

    #[test]
    fn an_interface_alone_is_enough() {
        let captures =
            parse("[[capture]]\ninterface = \"eth0\"\n[[capture]]\ninterface = \"br-lan.7\"").unwrap();
        assert_eq!(captures[0], CaptureConfig::of("eth0"));
        assert_eq!(captures[0].collector(), "capture-eth0");
        assert!(is_token(&captures[1].collector()), "{captures:?}");
        assert!(is_token(&CaptureConfig::of(&"ü".repeat(120)).collector()));
    }

    #[test]
    fn mistakes_name_the_interface_and_the_key() {
        let check = |lines: &str, wanted: &str| {
            let text = format!("[[capture]]\ninterface = \"eth0\"\n{lines}");
            let problem = parse(&text).unwrap_err();
            assert!(problem.contains(wanted), "{lines}: {problem}");
        };
        check("snap_length = 10", "capture \"eth0\": snap_length");
        check("buffer_mib = 0", "buffer_mib");
        check("ring_mib = 1", "ring_mib");
        check("name = \"a.b\"", "name \"a.b\"");
        check("fliter = \"tcp\"", "fliter");
        check("[[capture]]\ninterface = \"eth0\"", "a name of its own");
        check(&"[[capture]]\ninterface = \"e\"\n".repeat(9), "the limit is 8");
    }
}
