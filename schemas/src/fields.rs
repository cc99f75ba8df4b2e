//! The fields that rules may name, in one table: for those who check rules, for those who compile them, and for the field
//! reference in `docs/fields.md`, which is generated from it.

use serde::{Deserialize, Serialize};

use crate::subjects::Chain;

/// What a rule looks at: the `category` of its `logsource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// One row for each packet.
    Packet,
    /// One row for each step of an attempt to open a TCP connection: tried, what came of it, used, ended.
    Connection,
    /// One row for each ARP message and each neighbour advertisement, with what was known before.
    Neighbour,
    /// One row for each probe of an address.
    Ping,
}

impl Source {
    pub const ALL: [Source; 4] = [
        Source::Packet,
        Source::Connection,
        Source::Neighbour,
        Source::Ping,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Source::Packet => "packet",
            Source::Connection => "connection",
            Source::Neighbour => "neighbour",
            Source::Ping => "ping",
        }
    }

    pub fn from_name(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == name)
    }

    /// The chain that sees such rows.
    pub const fn chain(self) -> Chain {
        match self {
            Source::Packet | Source::Connection | Source::Neighbour => Chain::Packets,
            Source::Ping => Chain::Site,
        }
    }
}

/// What values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    /// A hardware address, lower case with colons.
    Mac,
    /// A whole number, in the unit that the field's name or description says.
    Number,
    Truth,
    Text,
    /// One of these.
    Word(&'static [&'static str]),
}

macro_rules! fields {
    ($($variant:ident, $name:literal, [$($source:ident),+], $kind:expr, $like:literal, $what:literal;)+) => {
        /// A field of a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $($variant),+ }

        impl Field {
            pub const ALL: &'static [Field] = &[$(Field::$variant),+];

            /// Its name in rules.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),+ }
            }

            /// The rows that may have it.
            pub const fn sources(self) -> &'static [Source] {
                match self { $(Field::$variant => &[$(Source::$source),+]),+ }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Field::$variant => $kind),+ }
            }

            /// The names of the same thing in Zeek, ECS or Sigma, for people who look for them.
            pub const fn like(self) -> &'static str {
                match self { $(Field::$variant => $like),+ }
            }

            pub const fn what(self) -> &'static str {
                match self { $(Field::$variant => $what),+ }
            }
        }
    };
}

const TRANSPORTS: Kind = Kind::Word(&["tcp", "udp", "icmp", "icmpv6", "arp", "other"]);
const OUTCOMES: Kind = Kind::Word(&["tried", "opened", "refused", "unanswered", "used", "ended"]);
const CHANGES: Kind = Kind::Word(&["new", "same", "changed", "flip_flop"]);
const NEIGHBOUR_MESSAGES: Kind = Kind::Word(&["request", "reply", "gratuitous", "advertisement"]);
const PING_OUTCOMES: Kind = Kind::Word(&["ok", "timed_out", "unreachable", "refused", "unexpected", "fault"]);
const SIGNALS: Kind = Kind::Word(&["echo", "neighbour", "dns", "tcp", "https"]);

fields! {
    SourceIp, "source.ip", [Packet, Connection, Neighbour], Kind::Address, "id.orig_h, src_ip", "Who sent it; of an ARP message the sender's address.";
    DestinationIp, "destination.ip", [Packet, Connection, Neighbour], Kind::Address, "id.resp_h, dst_ip", "Whom it was sent to; of an ARP message the target's address.";
    SourcePort, "source.port", [Packet, Connection], Kind::Number, "id.orig_p, src_port", "TCP and UDP alone.";
    DestinationPort, "destination.port", [Packet, Connection], Kind::Number, "id.resp_p, dst_port", "TCP and UDP alone.";
    SourcePrivate, "source.private", [Packet, Connection], Kind::Truth, "", "The source's address is private, link-local or loopback (RFC 1918, RFC 3927, RFC 4193, RFC 4291).";
    DestinationPrivate, "destination.private", [Packet, Connection], Kind::Truth, "", "The same of the destination.";
    SourceExternal, "source.external", [Packet, Connection], Kind::Truth, "", "The source is a global unicast address outside the site's own networks.";
    DestinationExternal, "destination.external", [Packet, Connection], Kind::Truth, "", "The same of the destination.";
    ExternalIp, "external.ip", [Packet, Connection], Kind::Address, "", "The destination where the source is private, else the source.";
    OwnService, "own.service", [Packet, Connection], Kind::Truth, "", "One end is a port on which Watchfold itself listens.";
    Transport, "network.transport", [Packet, Connection], TRANSPORTS, "proto", "";
    Bytes, "network.bytes", [Packet], Kind::Number, "orig_ip_bytes", "Length of the whole packet on the wire, in bytes; 65535 stands for that or more.";
    Vlan, "network.vlan.id", [Packet], Kind::Number, "vlan", "The outermost one.";
    InnerVlan, "network.vlan.inner.id", [Packet], Kind::Number, "inner_vlan, network.inner.vlan.id", "The VLAN within the outermost one, of a packet with two tags.";
    TcpFlags, "tcp.flags", [Packet], Kind::Number, "", "As in the header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.";
    TcpSyn, "tcp.syn", [Packet], Kind::Truth, "", "";
    TcpAck, "tcp.ack", [Packet], Kind::Truth, "", "";
    TcpFin, "tcp.fin", [Packet], Kind::Truth, "", "";
    TcpRst, "tcp.rst", [Packet], Kind::Truth, "", "";
    IcmpType, "icmp.type", [Packet], Kind::Number, "icmp_type", "Of ICMP and ICMPv6.";
    IcmpCode, "icmp.code", [Packet], Kind::Number, "icmp_code", "Of ICMP and ICMPv6.";
    LaterFragment, "packet.later_fragment", [Packet], Kind::Truth, "", "A fragment other than the first; it has no ports.";
    Truncated, "packet.truncated", [Packet], Kind::Truth, "", "Less was captured than was on the wire.";
    Malformed, "packet.malformed", [Packet], Kind::Truth, "", "Its headers end early or contradict each other.";
    Tunnelled, "packet.tunnelled", [Packet], Kind::Truth, "", "It was found inside a tunnel.";
    HasPayload, "packet.has_payload", [Packet], Kind::Truth, "", "";
    Duplicate, "packet.duplicate", [Packet], Kind::Truth, "", "A copy of a packet that was seen at most 5 ms before, as a mirror port or a bridge delivers it: equal from the IP header on, without hop limit, traffic class and checksum. At most one copy for each way that it came (link header, VLANs, hop limit) is one; further equal packets are packets of their own. A rule that does not name this field passes over copies, unless it has `watchfold.duplicates: count`.";
    DnsName, "dns.question.name", [Packet], Kind::Text, "query, QueryName", "The first question of a DNS message, in lower case, without the final dot.";
    DnsLength, "dns.question.length", [Packet], Kind::Number, "", "Characters of the name.";
    DnsZone, "dns.question.zone", [Packet], Kind::Text, "dns.question.registered_domain", "The last two labels of the name; the last three below a two-letter zone whose second label has at most three letters.";
    DnsSubdomainEntropy, "dns.question.entropy_centibits", [Packet], Kind::Number, "", "Shannon entropy of the characters before the zone, in hundredths of a bit for each character.";
    DnsSubdomainLength, "dns.question.subdomain_length", [Packet], Kind::Number, "dns.question.subdomain", "Characters before the zone.";
    DnsLabelLength, "dns.question.label_length_max", [Packet], Kind::Number, "", "Characters of the longest label.";
    DnsType, "dns.question.type", [Packet], Kind::Number, "qtype", "As numbered by IANA: A 1, NS 2, CNAME 5, NULL 10, PTR 12, MX 15, TXT 16, AAAA 28.";
    DnsIsResponse, "dns.response", [Packet], Kind::Truth, "QR", "";
    DnsResponseCode, "dns.response_code", [Packet], Kind::Number, "rcode", "0 no error, 3 no such name.";
    DnsAnswers, "dns.answers_count", [Packet], Kind::Number, "", "";
    ArpReplyChanged, "arp.reply_changed", [Packet], Kind::Truth, "", "An ARP reply gives an address another hardware address than the reply before. The first is believed; 10,000 addresses are kept.";
    TlsServerName, "tls.client.server_name", [Packet], Kind::Text, "server_name, sni", "Of a TLS client hello.";
    HttpHost, "http.host", [Packet], Kind::Text, "host, cs-host", "Of an HTTP request.";
    PayloadText, "payload.text", [Packet], Kind::Text, "", "The first 64 bytes of the payload, of packets from or to `head_ports` of the capture (where mining pools listen, unless it says otherwise); others lack it. Bytes that are not ASCII read as `?`.";
    ConnectionOutcome, "connection.outcome", [Connection], OUTCOMES, "conn_state", "`tried`: the SYN itself. `opened`: answered by SYN and ACK. `refused`: by RST. `unanswered`: by neither within 3 s, or by ICMP alone. `used`: an opened connection carried its first data, or the server closed it in order. `ended`: an opened connection got FIN or RST.";
    ConnectionDuration, "connection.duration_ms", [Connection], Kind::Number, "duration", "From SYN to the outcome.";
    NeighbourMac, "neighbour.mac", [Neighbour], Kind::Mac, "", "The hardware address that it announces for `source.ip`.";
    NeighbourPreviousMac, "neighbour.previous_mac", [Neighbour], Kind::Mac, "", "What was known before, where that was another one.";
    NeighbourChange, "neighbour.change", [Neighbour], CHANGES, "", "`flip_flop`: changed back to one seen within the last 10 minutes.";
    NeighbourMessage, "neighbour.message", [Neighbour], NEIGHBOUR_MESSAGES, "", "";
    NeighbourExplained, "neighbour.explained", [Neighbour], Kind::Truth, "", "DHCP gave this address to this hardware address, or the one before released it.";
    NeighbourGateway, "neighbour.gateway", [Neighbour], Kind::Truth, "", "The address is a configured gateway, or has announced itself as a router.";
    PingTarget, "ping.target", [Ping], Kind::Text, "", "The target's name, or `pc:` and the PC's key.";
    PingAddress, "ping.address", [Ping], Kind::Text, "", "The address probed, as text.";
    PingSignal, "ping.signal", [Ping], SIGNALS, "", "";
    PingOutcome, "ping.outcome", [Ping], PING_OUTCOMES, "", "";
    PingRtt, "ping.rtt_us", [Ping], Kind::Number, "", "Round-trip time in microseconds, of what was answered.";
}

impl Field {
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.iter().copied().find(|field| field.name() == name)
    }

    pub fn is_of(self, source: Source) -> bool {
        self.sources().contains(&source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_once() {
        for field in Field::ALL {
            assert_eq!(Field::from_name(field.name()), Some(*field), "{}", field.name());
        }
        assert_eq!(Field::from_name("src_ip"), None);
        assert_eq!(Source::from_name("connection"), Some(Source::Connection));
    }
}
