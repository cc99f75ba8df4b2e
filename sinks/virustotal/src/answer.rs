//! What VirusTotal's answers mean. Pure: a status, a header and a body go in, an [`Answer`] comes out.
//!
//! It makes no calls and decides no retries. Of a foreign error it tells the code and never the message, which could
//! repeat what was sent.

use serde_json::Value;
use watchfold_schemas::Span;
use watchfold_schemas::alert::SubjectKind;

use crate::render::{Report, report};

/// The longest wait that is taken from `Retry-After`: a day, after which the daily quota is another.
const RETRY_AFTER_MAX: Span = Span::from_seconds(86_400);

/// The codes of the API's page on errors; others are not told.
const CODES: [&str; 16] = [
    "AlreadyExistsError",
    "AuthenticationRequiredError",
    "BadRequestError",
    "DeadlineExceededError",
    "FailedDependencyError",
    "ForbiddenError",
    "InvalidArgumentError",
    "NotAvailableYet",
    "NotFoundError",
    "QuotaExceededError",
    "TooManyRequestsError",
    "TransientError",
    "UnselectiveContentQueryError",
    "UnsupportedContentQueryError",
    "UserNotActiveError",
    "WrongCredentialsError",
];

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What is known of the subject; `None` is that nothing is.
    Said(Option<Box<Report>>),
    /// The key is not good, whatever is asked.
    KeyRefused { detail: String },
    /// This subject is not answered, and asking again changes nothing.
    Refused { detail: String },
    /// Too much was asked. Without a wait: `quota` is one of the minute, the day or the month; which, is not said.
    TooMuch {
        quota: bool,
        wait: Option<Span>,
        detail: String,
    },
    /// The service is away, or something else answers in its place.
    Away { wait: Option<Span>, detail: String },
}

/// `retry_after` is the header as it came; `body` is `None` where it broke off or was too long.
pub fn interpret(kind: SubjectKind, status: u16, retry_after: Option<&str>, body: Option<&[u8]>) -> Answer {
    let wait = retry_after.and_then(seconds);
    let error = body
        .and_then(|body| serde_json::from_slice::<Value>(body).ok())
        .and_then(|body| body.get("error").filter(|error| error.is_object()).cloned());
    let code = error
        .as_ref()
        .and_then(|error| error.get("code"))
        .and_then(Value::as_str)
        .and_then(|code| CODES.into_iter().find(|known| *known == code));
    let detail = match code {
        Some(code) => format!("{status} {code}"),
        None => status.to_string(),
    };
    match status {
        200 => match body.and_then(|body| report(kind, body)) {
            Some(report) => Answer::Said(Some(Box::new(report))),
            None => Answer::Away {
                wait,
                detail: format!("{detail} with a body that is no object of VirusTotal"),
            },
        },
        // Also a portal or a proxy answers so; VirusTotal says it in its own words.
        404 if error.is_some() => Answer::Said(None),
        401 => Answer::KeyRefused { detail },
        429 => Answer::TooMuch {
            quota: code == Some("QuotaExceededError"),
            wait,
            detail,
        },
        403 | 400 | 405..=407 | 409..=424 | 426..=428 | 430..=499 => Answer::Refused { detail },
        _ => Answer::Away { wait, detail },
    }
}

/// Whole seconds; a date, which HTTP also allows here, counts as not given.
fn seconds(text: &str) -> Option<Span> {
    let seconds: u32 = text.trim().parse().ok()?;
    Some(Span::from_seconds(i64::from(seconds)).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, retry_after: Option<&str>, body: &str, want: Answer) {
        let got = interpret(SubjectKind::Address, status, retry_after, Some(body.as_bytes()));
        assert_eq!(got, want, "{status} {body}");
    }

    fn error(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"s3cret"}}}}"#)
    }

    fn away(detail: &str, wait: Option<i64>) -> Answer {
        Answer::Away {
            wait: wait.map(Span::from_seconds),
            detail: detail.to_owned(),
        }
    }

    fn too_much(quota: bool, wait: Option<i64>, detail: &str) -> Answer {
        Answer::TooMuch {
            quota,
            wait: wait.map(Span::from_seconds),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn every_answer_has_one_meaning() {
        let said = |report| Answer::Said(report);
        check(
            200,
            None,
            r#"{"data":{"attributes":{}}}"#,
            said(Some(Box::default())),
        );
        check(404, None, &error("NotFoundError"), said(None));
        check(404, None, &error("SomethingNew"), said(None));
        for (status, code) in [(401, "WrongCredentialsError"), (401, "UserNotActiveError")] {
            let detail = format!("{status} {code}");
            check(status, None, &error(code), Answer::KeyRefused { detail });
        }
        for (status, code) in [
            (403, "ForbiddenError"),
            (400, "InvalidArgumentError"),
            (424, "FailedDependencyError"),
        ] {
            let detail = format!("{status} {code}");
            check(status, None, &error(code), Answer::Refused { detail });
        }
        check(
            429,
            None,
            &error("QuotaExceededError"),
            too_much(true, None, "429 QuotaExceededError"),
        );
        check(
            429,
            Some("17"),
            &error("TooManyRequestsError"),
            too_much(false, Some(17), "429 TooManyRequestsError"),
        );
        check(429, Some("999999"), "", too_much(false, Some(86_400), "429"));
        check(
            429,
            Some("Fri, 20 Nov 2026 10:00:00 GMT"),
            "",
            too_much(false, None, "429"),
        );
        check(
            503,
            Some("30"),
            &error("TransientError"),
            away("503 TransientError", Some(30)),
        );
        check(
            504,
            None,
            &error("DeadlineExceededError"),
            away("504 DeadlineExceededError", None),
        );
    }

    #[test]
    fn what_answers_in_virustotals_place_is_no_answer() {
        let portal = "<html>please sign in</html>";
        check(
            200,
            None,
            portal,
            away("200 with a body that is no object of VirusTotal", None),
        );
        for status in [302, 404, 408, 500, 502, 204, 99] {
            check(status, None, portal, away(&status.to_string(), None));
        }
        let cut = interpret(SubjectKind::Name, 200, None, None);
        assert_eq!(cut, away("200 with a body that is no object of VirusTotal", None));
    }

    #[test]
    fn of_a_foreign_error_only_a_known_code_is_told() {
        let got = interpret(SubjectKind::Name, 401, None, Some(error("s3cret-k3y").as_bytes()));
        assert_eq!(
            got,
            Answer::KeyRefused {
                detail: "401".to_owned()
            }
        );
    }
}
