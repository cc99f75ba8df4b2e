//! What an answer, an error or an entry of the neighbour table comes to. Pure; it sends and reads nothing.

use std::io::{self, ErrorKind};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, Query, ResponseCode};
use rustls::CertificateError;
use watchfold_schemas::observation::Outcome;
use watchfold_schemas::why::{CertificateProblem, Why};

use crate::body::{self, Body};
use crate::platform::{EchoAnswer, Neighbour, NeighbourState};

/// The longest reason in a row, in characters; with it the largest round stays below the limit of a record.
const DETAIL_CHARS_MAX: usize = 80;

/// While the system alone decides when to validate (see the README), an entry may be this old and still count:
/// the longest time that Linux keeps an entry reachable (RFC 4861 section 6.3.2: 1.5 × 30 s), then its wait before
/// the first probe (5 s), three probes 1 s apart (sections 7.3.3 and 10), and two rounds of slack.
const SYSTEM_PACED_AGE_MAX: Duration = Duration::from_secs(45 + 5 + 3 + 4);

/// Where entries can be validated at will, they count for two intervals, and no less than this: a reply may take
/// as long as three probes 1 s apart (RFC 4861 section 10).
const PROVOKED_AGE_MIN: Duration = Duration::from_secs(4);

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
    pub detail: Option<String>,
    pub why: Option<Why>,
}

impl Measured {
    pub(crate) fn ok(round_trip: Duration) -> Measured {
        // Rounded up: 0 would read as a measurement that failed.
        let rtt_us = u32::try_from(round_trip.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX);
        Measured {
            outcome: Outcome::Ok,
            rtt_us: Some(rtt_us),
            detail: None,
            why: None,
        }
    }

    pub(crate) fn timed_out() -> Measured {
        Measured {
            outcome: Outcome::TimedOut,
            rtt_us: None,
            detail: None,
            why: None,
        }
    }

    pub(crate) fn with(outcome: Outcome, detail: impl Into<String>) -> Measured {
        Measured {
            outcome,
            rtt_us: None,
            detail: Some(short(&detail.into())),
            why: None,
        }
    }

    /// An answer that is not the expected one.
    pub(crate) fn unexpected(why: Why) -> Measured {
        Measured {
            outcome: Outcome::Unexpected,
            rtt_us: None,
            detail: None,
            why: Some(why),
        }
    }

    /// A failure that says something about the other end, so worth asking again.
    pub(crate) fn failed(&self) -> bool {
        !matches!(self.outcome, Outcome::Ok | Outcome::Fault)
    }
}

/// Foreign text as it may stand in a row.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

/// An error of the socket. What says something about the far end is a result; what says that this machine could
/// not send is a fault.
pub(crate) fn from_error(error: &io::Error) -> Measured {
    let outcome = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            Outcome::Refused
        }
        ErrorKind::HostUnreachable => Outcome::Unreachable,
        ErrorKind::TimedOut => Outcome::TimedOut,
        // No route, interface down, no permission, no buffers, no descriptors: all ours.
        _ => Outcome::Fault,
    };
    Measured::with(outcome, plain(error))
}

/// The error after it is known that this machine has a route: "network unreachable" came from a router then.
pub(crate) fn from_remote_error(error: &io::Error) -> Measured {
    match error.kind() {
        ErrorKind::NetworkUnreachable => Measured::with(Outcome::Unreachable, plain(error)),
        _ => from_error(error),
    }
}

/// "Network is unreachable" rather than "Network is unreachable (os error 101)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

pub(crate) fn from_echo(answer: EchoAnswer) -> Measured {
    match answer {
        EchoAnswer::Reply { round_trip } => Measured::ok(round_trip),
        EchoAnswer::Silence => Measured::timed_out(),
        EchoAnswer::Unreachable(how) => Measured::with(Outcome::Unreachable, how),
        EchoAnswer::Failed(error) => from_error(&error),
        EchoAnswer::Denied => Measured::with(Outcome::Fault, "echo is not allowed on this machine"),
    }
}

/// A DNS answer to `asked`. Any record counts; an answer cut short by its size had records.
pub(crate) fn from_dns(asked: u16, query: &Query, bytes: &[u8], round_trip: Duration) -> Option<Measured> {
    let Ok(answer) = Message::from_vec(bytes) else {
        return Some(Measured::unexpected(Why::NotDns));
    };
    let ours = answer.metadata.id == asked && answer.metadata.message_type == MessageType::Response;
    if !ours
        || answer
            .queries
            .first()
            .is_some_and(|asked| asked.name() != query.name())
    {
        // An answer to something else: late, or forged. Ours may still come.
        return None;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() || answer.metadata.truncation => {
            Some(Measured::ok(round_trip))
        }
        ResponseCode::NoError => Some(Measured::unexpected(Why::DnsEmpty)),
        code => Some(Measured::unexpected(Why::DnsCode(code.into()))),
    }
}

/// An HTTP answer. A captive portal redirects or serves a page of its own, so both are unexpected.
pub(crate) fn from_http(
    want: (u16, Option<&str>),
    got: (u16, Body),
    redirected_to: Option<&str>,
    round_trip: Duration,
) -> Measured {
    let (want_status, want_text) = want;
    let (status, body) = got;
    if status != want_status {
        return Measured::unexpected(Why::HttpStatus {
            got: status,
            want: want_status,
            redirected_to: redirected_to.map(short),
        });
    }
    let Some(text) = want_text else {
        return Measured::ok(round_trip);
    };
    let page = body::page(body);
    if page.contains(text) {
        return Measured::ok(round_trip);
    }
    let searched_bytes = page.searched_bytes();
    Measured::unexpected(match page.broken {
        Some(encoding) => Why::UndecodableBody {
            encoding: short(&encoding),
        },
        None => Why::TextMissing {
            searched_bytes,
            is_cut: page.is_cut,
        },
    })
}

/// What rustls says of a certificate; `None` for what it took from elsewhere and only has words for.
pub(crate) fn from_certificate(error: &CertificateError) -> Option<CertificateProblem> {
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::WrongName
        }
        CertificateError::UnknownIssuer => CertificateProblem::UnknownIssuer,
        CertificateError::Revoked => CertificateProblem::Revoked,
        CertificateError::Other(_) => return None,
        _ => CertificateProblem::Invalid,
    })
}

/// How fresh the neighbour table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Entries are validated when we say so.
    Provoked,
    /// Entries are validated when the system does.
    SystemPaced,
}

impl Freshness {
    /// The oldest confirmation that still counts.
    pub(crate) fn age_max(self, interval: Duration) -> Duration {
        match self {
            Freshness::Provoked => PROVOKED_AGE_MIN.max(interval.saturating_mul(2)),
            Freshness::SystemPaced => SYSTEM_PACED_AGE_MAX.max(interval.saturating_mul(2)),
        }
    }
}

/// Whether an address that did not answer echo is there all the same.
pub(crate) fn from_neighbour(entry: Option<&Neighbour>, age_max: Duration) -> Measured {
    let absent = |why: &str| Measured::with(Outcome::TimedOut, why);
    let Some(entry) = entry else {
        return absent("no neighbour entry");
    };
    match (entry.state, entry.confirmed_age) {
        (NeighbourState::Incomplete | NeighbourState::Failed, _) => absent("no neighbour answer"),
        (NeighbourState::Fixed, _) => absent("a fixed neighbour entry"),
        (NeighbourState::Reachable | NeighbourState::Unconfirmed, Some(age)) if age <= age_max => Measured {
            outcome: Outcome::Ok,
            rtt_us: None,
            detail: None,
            why: None,
        },
        (NeighbourState::Reachable | NeighbourState::Unconfirmed, _) => absent("an old neighbour entry"),
    }
}

/// Whether asking the neighbour now would tell more: it was there, and has not proved it for an interval.
pub(crate) fn wants_validation(entry: &Neighbour, interval: Duration) -> bool {
    let known = matches!(
        entry.state,
        NeighbourState::Reachable | NeighbourState::Unconfirmed
    );
    known && entry.mac.is_some() && entry.confirmed_age.is_none_or(|age| age > interval)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::OpCode;
    use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, rdata::A};

    use super::*;

    #[test]
    fn errors_of_ours_are_faults_and_theirs_are_results() {
        for (kind, want) in [
            (ErrorKind::NetworkUnreachable, Outcome::Fault),
            (ErrorKind::NetworkDown, Outcome::Fault),
            (ErrorKind::PermissionDenied, Outcome::Fault),
            (ErrorKind::AddrNotAvailable, Outcome::Fault),
            (ErrorKind::OutOfMemory, Outcome::Fault),
            (ErrorKind::HostUnreachable, Outcome::Unreachable),
            (ErrorKind::ConnectionRefused, Outcome::Refused),
            (ErrorKind::ConnectionReset, Outcome::Refused),
            (ErrorKind::TimedOut, Outcome::TimedOut),
        ] {
            assert_eq!(from_error(&kind.into()).outcome, want, "{kind:?}");
        }
        let unreachable = io::Error::from(ErrorKind::NetworkUnreachable);
        assert_eq!(from_remote_error(&unreachable).outcome, Outcome::Unreachable);
        assert_eq!(
            from_remote_error(&ErrorKind::NetworkDown.into()).outcome,
            Outcome::Fault
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn error_numbers_of_linux_come_to_the_right_outcomes() {
        // ENETUNREACH, ENETDOWN, EPERM, ENOBUFS, EHOSTUNREACH, ECONNREFUSED
        for (number, want) in [
            (101, Outcome::Fault),
            (100, Outcome::Fault),
            (1, Outcome::Fault),
            (105, Outcome::Fault),
            (113, Outcome::Unreachable),
            (111, Outcome::Refused),
        ] {
            let got = from_error(&io::Error::from_raw_os_error(number));
            assert_eq!(got.outcome, want, "{number}");
            assert!(!got.detail.unwrap().contains("os error"));
        }
    }

    fn dns(change: impl FnOnce(&mut Message)) -> Option<Outcome> {
        let query = Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A);
        let mut answer = Message::new(7, MessageType::Response, OpCode::Query);
        answer.add_query(query.clone());
        let record = Record::from_rdata(query.name().clone(), 60, RData::A(A::new(192, 0, 2, 1)));
        answer.add_answer(record);
        change(&mut answer);
        from_dns(7, &query, &answer.to_vec().unwrap(), Duration::ZERO).map(|measured| measured.outcome)
    }

    #[test]
    fn dns_answers() {
        assert_eq!(dns(|_| {}), Some(Outcome::Ok));
        assert_eq!(dns(|m| m.answers.clear()), Some(Outcome::Unexpected));
        assert_eq!(
            dns(|m| {
                m.answers.clear();
                m.metadata.truncation = true;
            }),
            Some(Outcome::Ok)
        );
        assert_eq!(
            dns(|m| m.metadata.response_code = ResponseCode::ServFail),
            Some(Outcome::Unexpected)
        );
        assert_eq!(
            dns(|m| m.metadata.response_code = ResponseCode::NXDomain),
            Some(Outcome::Unexpected)
        );
        assert_eq!(dns(|m| m.metadata.id = 8), None);
        assert_eq!(dns(|m| m.metadata.message_type = MessageType::Query), None);
        let query = Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A);
        for garbage in [&b""[..], b"\x00", &[0xff; 600]] {
            let got = from_dns(7, &query, garbage, Duration::ZERO).map(|measured| measured.outcome);
            assert!(matches!(got, Some(Outcome::Unexpected) | None), "{garbage:?}");
        }
    }

    #[test]
    fn http_answers() {
        let body = |bytes: &[u8]| Body {
            bytes: bytes.to_vec(),
            ..Body::default()
        };
        let check = |want: (u16, Option<&str>), got: (u16, &[u8]), outcome| {
            assert_eq!(
                from_http(want, (got.0, body(got.1)), None, Duration::ZERO).outcome,
                outcome,
                "{want:?} {got:?}"
            );
        };
        check((200, None), (200, b""), Outcome::Ok);
        check((204, None), (200, b"<html>log in"), Outcome::Unexpected);
        check((200, Some("hello")), (200, b"say hello!"), Outcome::Ok);
        check((200, Some("hello")), (200, b"say hell"), Outcome::Unexpected);
        check((200, Some("")), (200, b""), Outcome::Ok);
        let portal = from_http(
            (200, None),
            (302, body(b"")),
            Some("login.hotel.example"),
            Duration::ZERO,
        );
        assert_eq!(
            portal.why.unwrap().to_string(),
            "status 302 to login.hotel.example instead of 200"
        );
        let why = |body: Body| from_http((200, Some("x")), (200, body), None, Duration::ZERO).why;
        let missing = |is_cut| Why::TextMissing {
            searched_bytes: 1,
            is_cut,
        };
        assert_eq!(why(body(b"y")), Some(missing(false)));
        let cut = Body {
            is_cut: true,
            ..body(b"y")
        };
        assert_eq!(why(cut), Some(missing(true)));
        let broken = Body {
            encodings: "gzip".into(),
            ..body(b"y")
        };
        let encoding = "gzip".to_owned();
        assert_eq!(why(broken), Some(Why::UndecodableBody { encoding }));
    }

    #[test]
    fn a_neighbour_counts_while_its_confirmation_is_fresh() {
        use NeighbourState::{Failed, Fixed, Incomplete, Reachable, Unconfirmed};
        let entry = |state, age_ms: u64| Neighbour {
            address: "10.0.0.1".parse().unwrap(),
            interface: 1,
            mac: Some("02:00:00:00:00:01".into()),
            state,
            confirmed_age: Some(Duration::from_millis(age_ms)),
        };
        let provoked = Freshness::Provoked.age_max(Duration::from_secs(2));
        let paced = Freshness::SystemPaced.age_max(Duration::from_secs(2));
        for (state, age_ms, age_max, want) in [
            (Reachable, 10, provoked, Outcome::Ok),
            (Reachable, 4_000, provoked, Outcome::Ok),
            (Reachable, 4_001, provoked, Outcome::TimedOut),
            (Unconfirmed, 3_000, provoked, Outcome::Ok),
            (Unconfirmed, 5_000, provoked, Outcome::TimedOut),
            (Unconfirmed, 57_000, paced, Outcome::Ok),
            (Unconfirmed, 57_010, paced, Outcome::TimedOut),
            (Failed, 10, provoked, Outcome::TimedOut),
            (Incomplete, 10, paced, Outcome::TimedOut),
            (Fixed, 10, paced, Outcome::TimedOut),
        ] {
            let got = from_neighbour(Some(&entry(state, age_ms)), age_max).outcome;
            assert_eq!(got, want, "{state:?} {age_ms}");
        }
        assert_eq!(from_neighbour(None, paced).outcome, Outcome::TimedOut);
        let interval = Duration::from_secs(2);
        assert!(wants_validation(&entry(Reachable, 2_010), interval));
        assert!(wants_validation(&entry(Unconfirmed, 9_000), interval));
        assert!(!wants_validation(&entry(Reachable, 2_000), interval));
        assert!(!wants_validation(&entry(Failed, 9_000), interval));
    }

    #[test]
    fn reasons_are_short() {
        let long = Measured::with(Outcome::Unexpected, "ü".repeat(500));
        assert_eq!(long.detail.unwrap().chars().count(), DETAIL_CHARS_MAX);
    }
}
