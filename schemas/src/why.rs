//! Why a probe failed, as data: what its outcome alone does not say. Sinks, page and command show it in words by `Display`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Signal;

/// The reason of an unexpected answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// HTTP answered with another status than the configured one.
    HttpStatus {
        got: u16,
        want: u16,
        /// The host that the answer redirects to, without path or query.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        redirected_to: Option<String>,
    },
    /// The expected text is not in the page.
    TextMissing {
        /// How much of the page was searched, decoded, in bytes.
        searched_bytes: u32,
        /// The page is longer than what is read of it.
        is_cut: bool,
    },
    /// The body is not what its `Content-Encoding` says, or that encoding is not known.
    UndecodableBody {
        encoding: String,
    },
    Certificate(CertificateProblem),
    /// A DNS response code (RFC 1035 section 4.1.1, RFC 6895) other than "no error".
    DnsCode(u16),
    /// A DNS answer without a record.
    DnsEmpty,
    /// The answer is not a DNS message.
    NotDns,
    /// TLS or HTTP itself went wrong.
    Protocol {
        /// What the protocol's implementation says.
        problem: String,
    },
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CertificateProblem {
    Expired,
    NotYetValid,
    /// It is for other names than the one in the URL.
    WrongName,
    /// No authority that this machine trusts has issued it.
    UnknownIssuer,
    Revoked,
    Invalid,
}

/// Why one probe of a target failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ProbeReason {
    /// As configured.
    pub address: String,
    pub signal: Signal,
    pub why: Why,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::HttpStatus {
                got,
                want,
                redirected_to,
            } => {
                write!(f, "status {got}")?;
                if let Some(host) = redirected_to {
                    write!(f, " to {host}")?;
                }
                write!(f, " instead of {want}")
            }
            Why::TextMissing { is_cut: false, .. } => f.write_str("the expected text is missing"),
            Why::TextMissing {
                searched_bytes,
                is_cut: true,
            } => write!(
                f,
                "the expected text is missing in the first {} KiB",
                searched_bytes / 1_024
            ),
            Why::UndecodableBody { encoding } => write!(f, "the body cannot be decoded as {encoding}"),
            Why::Certificate(problem) => f.write_str(match problem {
                CertificateProblem::Expired => "the certificate has expired",
                CertificateProblem::NotYetValid => "the certificate is not valid yet",
                CertificateProblem::WrongName => "the certificate is for another name",
                CertificateProblem::UnknownIssuer => "the certificate is from an unknown issuer",
                CertificateProblem::Revoked => "the certificate is revoked",
                CertificateProblem::Invalid => "the certificate is invalid",
            }),
            Why::DnsCode(1) => f.write_str("the server does not understand the query (FORMERR)"),
            Why::DnsCode(2) => f.write_str("the server cannot answer (SERVFAIL)"),
            Why::DnsCode(3) => f.write_str("the name does not exist (NXDOMAIN)"),
            Why::DnsCode(4) => f.write_str("the server does not support the query (NOTIMP)"),
            Why::DnsCode(5) => f.write_str("the server refuses the query (REFUSED)"),
            Why::DnsCode(code) => write!(f, "DNS response code {code}"),
            Why::DnsEmpty => f.write_str("the answer holds no record"),
            Why::NotDns => f.write_str("the answer is not a DNS message"),
            Why::Protocol { problem } => f.write_str(problem),
        }
    }
}

impl fmt::Display for ProbeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.address, self.signal.name(), self.why)
    }
}

/// What was seen and why, as one line for a person; `None` where neither is known.
pub fn in_words(detail: Option<&str>, reasons: &[ProbeReason]) -> Option<String> {
    let reasons = reasons.iter().map(ToString::to_string);
    let parts: Vec<String> = reasons.chain(detail.map(str::to_owned)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_as_a_sentence() {
        let status = |redirected_to: Option<&str>| Why::HttpStatus {
            got: 301,
            want: 200,
            redirected_to: redirected_to.map(str::to_owned),
        };
        let missing = |is_cut| Why::TextMissing {
            searched_bytes: 65_536,
            is_cut,
        };
        for (why, words) in [
            (status(None), "status 301 instead of 200"),
            (
                status(Some("login.example")),
                "status 301 to login.example instead of 200",
            ),
            (missing(false), "the expected text is missing"),
            (missing(true), "the expected text is missing in the first 64 KiB"),
            (
                Why::Certificate(CertificateProblem::Expired),
                "the certificate has expired",
            ),
            (Why::DnsCode(3), "the name does not exist (NXDOMAIN)"),
        ] {
            assert_eq!(why.to_string(), words);
        }
        let reason = ProbeReason {
            address: "www.example".into(),
            signal: Signal::Https,
            why: status(None),
        };
        assert_eq!(
            in_words(Some("192.0.2.1 echo timed out"), &[reason]).unwrap(),
            "www.example https: status 301 instead of 200, 192.0.2.1 echo timed out"
        );
        assert_eq!(in_words(None, &[]), None);
    }
}
