//! Bytes as an answer of VirusTotal, with any status and any `Retry-After`: understood or not, what is kept of it is bounded. The first
//! two bytes choose what was asked and the status, the first line is the header, the rest the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfold_schemas::alert::SubjectKind;
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::{Body, Observation, Origin, Span, Time, encode_observation};
use watchfold_virustotal::answer::{Answer, interpret};
use watchfold_virustotal::render::{Lifetimes, verdict};
use watchfold_virustotal::subject::Subject;

/// The longest wait that is believed.
const WAIT_MAX: Span = Span::from_seconds(86_400);

/// An answer takes no more than this of the log, whatever it says.
const VERDICT_BYTES_MAX: usize = 4 * 1024;

const LIFETIMES: Lifetimes = Lifetimes {
    clean: Span::from_seconds(86_400),
    malicious: Span::from_seconds(21_600),
};

fuzz_target!(|bytes: &[u8]| {
    let [kind, status, rest @ ..] = bytes else { return };
    let is_name = kind % 2 == 1;
    let kind = if is_name {
        SubjectKind::Name
    } else {
        SubjectKind::Address
    };
    // Most often the one status whose body is read.
    let status = if *status < 128 {
        200
    } else {
        300 + u16::from(status - 128) * 2
    };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let retry_after = std::str::from_utf8(&rest[..end]).ok();
    let body = rest.get(end + 1..);
    let (wait, detail) = match interpret(kind, status, retry_after, body) {
        Answer::Said(report) => {
            let text = if is_name { "example.org" } else { "8.8.8.8" };
            let text = text.to_owned();
            let verdict = verdict(
                &Subject { kind, text },
                report.map(|report| *report),
                Time::EPOCH,
                LIFETIMES,
            );
            return store(verdict);
        }
        Answer::KeyRefused { detail } | Answer::Refused { detail } => (None, detail),
        Answer::TooMuch { wait, detail, .. } | Answer::Away { wait, detail } => (wait, detail),
    };
    assert!(wait.is_none_or(|wait| wait <= WAIT_MAX && wait >= Span::ZERO));
    assert!(
        detail.len() < 200 && !detail.contains(char::is_control),
        "{detail:?}"
    );
});

fn store(verdict: watchfold_schemas::alert::Verdict) {
    let observation = Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: "fuzzed".to_owned(),
            collector: "virustotal".to_owned(),
            incarnation: 1,
            number: 1,
        },
        observed_at: Time::EPOCH,
        through: Time::EPOCH,
        body: Body::Verdict(Box::new(verdict)),
    };
    let bytes = encode_observation(&observation).expect("a verdict fits into a message");
    assert!(bytes.len() < VERDICT_BYTES_MAX, "{} bytes", bytes.len());
}
