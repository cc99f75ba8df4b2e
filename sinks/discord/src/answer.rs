//! What Discord's answers mean. Pure: a status, headers and a body go in, an [`Answer`] comes out.
//!
//! It makes no calls and decides no retries.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use watchfold_sink_kit::{Pause, Secret};

/// The wait after a 429 that names none, in milliseconds.
const RATE_LIMIT_DEFAULT_MS: u64 = 60_000;

/// Field errors of a refused message that are told; the first ones name the fault.
const FIELD_ERRORS_MAX: usize = 5;

/// The nesting of Discord's error object that is followed.
const ERROR_DEPTH_MAX: usize = 16;

/// What Discord's answer means.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Accepted {
        message: Option<String>,
        pause: Pause,
    },
    /// The message to edit does not exist.
    MessageGone,
    /// The webhook does not exist or does not let us in.
    WebhookGone {
        detail: String,
    },
    /// Discord will never take this body; `about_looks` when the fault is in the sender's name or a link.
    Invalid {
        detail: String,
        about_looks: bool,
    },
    Wait {
        after: Option<Duration>,
        pause: Pause,
        detail: String,
    },
}

/// What was read of an answer's body.
#[derive(Debug)]
pub enum BodyRead {
    Whole(Vec<u8>),
    /// It broke off.
    Cut,
}

pub fn interpret(
    status: StatusCode,
    headers: &HeaderMap,
    body: BodyRead,
    editing: bool,
    webhook: &Secret,
) -> Answer {
    let json: Option<Value> = match &body {
        BodyRead::Whole(bytes) => serde_json::from_slice(bytes).ok(),
        BodyRead::Cut => None,
    };
    let error = || describe(status, json.as_ref(), webhook);
    match status.as_u16() {
        200..=299 => accepted(status, headers, &body, json.as_ref()),
        429 => rate_limited(headers, json.as_ref()),
        404 if editing && code(json.as_ref()) != Some(CODE_UNKNOWN_WEBHOOK) => Answer::MessageGone,
        401 | 403 | 404 => Answer::WebhookGone { detail: error() },
        408 | 425 | 300..=399 | 500..=599 => Answer::Wait {
            after: retry_after(headers),
            pause: Pause::None,
            detail: error(),
        },
        _ => Answer::Invalid {
            about_looks: is_about_looks(json.as_ref()),
            detail: error(),
        },
    }
}

/// Discord's code for a webhook that does not exist.
const CODE_UNKNOWN_WEBHOOK: u64 = 10_015;

/// A success counts as soon as its status is read: with `wait=true` Discord sends it after the message was saved, so
/// an answer that breaks off then costs the message's id, and a repetition would show it twice.
fn accepted(status: StatusCode, headers: &HeaderMap, body: &BodyRead, json: Option<&Value>) -> Answer {
    let message = json
        .and_then(|json| json.get("id"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    let foreign = matches!(body, BodyRead::Whole(bytes) if !bytes.is_empty()) && message.is_none();
    if foreign {
        let detail = format!(
            "{} with a body that is not a Discord message; something else answers",
            status.as_u16()
        );
        return Answer::Wait {
            after: None,
            pause: Pause::None,
            detail,
        };
    }
    Answer::Accepted {
        message: message.filter(|id| is_snowflake(id)),
        pause: spent(headers),
    }
}

/// The wait that keeps the next call from being refused: the bucket is empty until it resets.
fn spent(headers: &HeaderMap) -> Pause {
    match (
        number(headers, "x-ratelimit-remaining"),
        number(headers, "x-ratelimit-reset-after"),
    ) {
        (Some(remaining), Some(reset_after)) if remaining < 1.0 => {
            seconds(reset_after).map_or(Pause::None, Pause::Lane)
        }
        _ => Pause::None,
    }
}

fn rate_limited(headers: &HeaderMap, json: Option<&Value>) -> Answer {
    let in_body = json
        .and_then(|json| json.get("retry_after"))
        .and_then(Value::as_f64)
        .and_then(seconds);
    let asked = in_body
        .max(retry_after(headers))
        .max(number(headers, "x-ratelimit-reset-after").and_then(seconds));
    let wait = asked.unwrap_or(Duration::from_millis(RATE_LIMIT_DEFAULT_MS));
    let global = json
        .and_then(|json| json.get("global"))
        .and_then(Value::as_bool)
        .unwrap_or(false)
        || headers.contains_key("x-ratelimit-global")
        || scope(headers) == Some("global");
    let pause = if global {
        Pause::All(wait)
    } else {
        Pause::Lane(wait)
    };
    let scope = scope(headers).unwrap_or(if global { "global" } else { "user" });
    Answer::Wait {
        after: Some(wait),
        pause,
        detail: format!("429: rate limited ({scope}) for {} ms", wait.as_millis()),
    }
}

/// Whether Discord counts this answer towards its ban rule. A shared limit is not the caller's fault and does not.
pub fn counts_as_invalid(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        401 | 403 | 404 => true,
        429 => scope(headers) != Some("shared"),
        _ => false,
    }
}

fn scope(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-ratelimit-scope")?.to_str().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "retry-after").and_then(seconds)
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

fn code(json: Option<&Value>) -> Option<u64> {
    json?.get("code")?.as_u64()
}

fn is_snowflake(id: &str) -> bool {
    !id.is_empty() && id.len() <= 20 && id.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_about_looks(json: Option<&Value>) -> bool {
    let Some(errors) = json.and_then(|json| json.get("errors")) else {
        return false;
    };
    let mut found = Vec::new();
    field_errors(errors, String::new(), 0, &mut found);
    let about = |path: &str| path == "username" || path.ends_with(".url");
    !found.is_empty() && found.iter().all(|(path, _)| about(path))
}

/// `400: Invalid Form Body (50035): embeds.0.title: Must be 256 or fewer in length.`
fn describe(status: StatusCode, json: Option<&Value>, webhook: &Secret) -> String {
    let mut text = status.as_u16().to_string();
    if let Some(message) = json.and_then(|json| json.get("message")).and_then(Value::as_str) {
        text.push_str(&format!(": {message}"));
    }
    if let Some(code) = code(json) {
        text.push_str(&format!(" ({code})"));
    }
    if let Some(errors) = json.and_then(|json| json.get("errors")) {
        let mut found = Vec::new();
        field_errors(errors, String::new(), 0, &mut found);
        for (path, message) in found.iter().take(FIELD_ERRORS_MAX) {
            text.push_str(&format!(": {path}: {message}"));
        }
    }
    scrub(&text, webhook)
}

/// Collects the `_errors` of Discord's nested error object with their paths.
fn field_errors(errors: &Value, path: String, depth: usize, found: &mut Vec<(String, String)>) {
    let Some(fields) = errors.as_object().filter(|_| depth < ERROR_DEPTH_MAX) else {
        return;
    };
    for (name, inner) in fields {
        if name != "_errors" {
            let separator = if path.is_empty() { "" } else { "." };
            field_errors(inner, format!("{path}{separator}{name}"), depth + 1, found);
            continue;
        }
        for error in inner.as_array().into_iter().flatten() {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("refused");
            found.push((path.clone(), message.to_owned()));
        }
    }
}

/// Foreign text without the webhook's address or token, should the far side repeat them.
fn scrub(text: &str, webhook: &Secret) -> String {
    let address = webhook.expose();
    let token = address
        .split(['?', '#'])
        .next()
        .unwrap_or(address)
        .trim_end_matches('/')
        .rsplit('/')
        .next();
    let text = text.replace(address, "(webhook)");
    match token {
        Some(token) if token.len() >= 4 => text.replace(token, "(token)"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    const WEBHOOK: &str = "https://discord.example/api/webhooks/1/s3cret-t0ken";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn check(status: u16, head: &[(&'static str, &'static str)], body: &str, editing: bool, want: Answer) {
        let status = StatusCode::from_u16(status).unwrap();
        let read = BodyRead::Whole(body.as_bytes().to_vec());
        let got = interpret(status, &headers(head), read, editing, &Secret::new(WEBHOOK));
        assert_eq!(got, want, "{status} {body}");
    }

    fn wait(after_ms: Option<u64>, pause: Pause, detail: &str) -> Answer {
        Answer::Wait {
            after: after_ms.map(Duration::from_millis),
            pause,
            detail: detail.to_owned(),
        }
    }

    fn lane(ms: u64) -> Pause {
        Pause::Lane(Duration::from_millis(ms))
    }

    #[test]
    fn successes() {
        let accepted = |message: Option<&str>, pause| Answer::Accepted {
            message: message.map(str::to_owned),
            pause,
        };
        check(
            200,
            &[],
            r#"{"id":"42"}"#,
            false,
            accepted(Some("42"), Pause::None),
        );
        check(204, &[], "", false, accepted(None, Pause::None));
        check(
            200,
            &[],
            r#"{"id":"../evil"}"#,
            false,
            accepted(None, Pause::None),
        );
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "1.5")];
        check(
            200,
            &spent,
            r#"{"id":"42"}"#,
            false,
            accepted(Some("42"), lane(1_500)),
        );
        let left = [("x-ratelimit-remaining", "1"), ("x-ratelimit-reset-after", "1.5")];
        check(
            200,
            &left,
            r#"{"id":"42"}"#,
            false,
            accepted(Some("42"), Pause::None),
        );
        let foreign = "200 with a body that is not a Discord message; something else answers";
        check(
            200,
            &[],
            "<html>log in</html>",
            false,
            wait(None, Pause::None, foreign),
        );
    }

    #[test]
    fn rate_limits_take_the_longest_wait_that_anything_names() {
        let told = |ms: u64, scope: &str| format!("429: rate limited ({scope}) for {ms} ms");
        let body = r#"{"message":"You are being rate limited.","retry_after":2.25,"global":false}"#;
        let user = [("retry-after", "1"), ("x-ratelimit-scope", "user")];
        check(
            429,
            &user,
            body,
            false,
            wait(Some(2_250), lane(2_250), &told(2_250, "user")),
        );
        let longer = [("retry-after", "3"), ("x-ratelimit-scope", "shared")];
        check(
            429,
            &longer,
            body,
            false,
            wait(Some(3_000), lane(3_000), &told(3_000, "shared")),
        );
        let all = Pause::All(Duration::from_secs(4));
        check(
            429,
            &[("retry-after", "4"), ("x-ratelimit-global", "true")],
            "",
            false,
            wait(Some(4_000), all, &told(4_000, "global")),
        );
        let all = Pause::All(Duration::from_secs(1));
        check(
            429,
            &[],
            r#"{"retry_after":1,"global":true}"#,
            false,
            wait(Some(1_000), all, &told(1_000, "global")),
        );
        check(
            429,
            &[],
            "",
            false,
            wait(Some(60_000), lane(60_000), &told(60_000, "user")),
        );
        for nonsense in ["-1", "NaN", "inf", "soon"] {
            check(
                429,
                &[("retry-after", nonsense)],
                "",
                false,
                wait(Some(60_000), lane(60_000), &told(60_000, "user")),
            );
        }
    }

    #[test]
    fn refusals() {
        let gone = |detail: &str| Answer::WebhookGone {
            detail: detail.to_owned(),
        };
        let unknown = r#"{"message":"Unknown Webhook","code":10015}"#;
        check(404, &[], unknown, false, gone("404: Unknown Webhook (10015)"));
        check(404, &[], unknown, true, gone("404: Unknown Webhook (10015)"));
        check(
            404,
            &[],
            r#"{"message":"Unknown Message","code":10008}"#,
            true,
            Answer::MessageGone,
        );
        check(404, &[], "", false, gone("404"));
        check(
            401,
            &[],
            r#"{"message":"401: Unauthorized","code":0}"#,
            false,
            gone("401: 401: Unauthorized (0)"),
        );
        check(403, &[], "", true, gone("403"));
        for status in [302, 408, 425, 500, 503] {
            check(
                status,
                &[("retry-after", "2")],
                "",
                false,
                wait(Some(2_000), Pause::None, &status.to_string()),
            );
        }
    }

    #[test]
    fn a_refused_body_names_its_fields_and_looks_are_told_from_content() {
        let body = |field: &str| {
            let errors = format!(r#"{{"{field}":{{"_errors":[{{"code":"X","message":"No."}}]}}}}"#);
            format!(
                r#"{{"message":"Invalid Form Body","code":50035,"errors":{{"embeds":{{"0":{errors}}}}}}}"#
            )
        };
        let invalid = |path: &str, about_looks| {
            let detail = format!("400: Invalid Form Body (50035): embeds.0.{path}: No.");
            Answer::Invalid { detail, about_looks }
        };
        check(400, &[], &body("title"), false, invalid("title", false));
        check(400, &[], &body("url"), false, invalid("url", true));
        check(
            413,
            &[],
            "",
            false,
            Answer::Invalid {
                detail: "413".into(),
                about_looks: false,
            },
        );
    }

    #[test]
    fn what_the_far_side_repeats_of_the_address_is_not_told() {
        let body = format!(r#"{{"message":"no {WEBHOOK} and no s3cret-t0ken"}}"#);
        check(
            404,
            &[],
            &body,
            false,
            Answer::WebhookGone {
                detail: "404: no (webhook) and no (token)".into(),
            },
        );
    }

    #[test]
    fn calls_that_discord_counts_against_us_are_told() {
        for (status, scope, want) in [
            (401, "", true),
            (403, "", true),
            (404, "", true),
            (429, "user", true),
            (429, "global", true),
            (429, "shared", false),
            (400, "", false),
            (500, "", false),
        ] {
            let headers = headers(&[("x-ratelimit-scope", scope)]);
            assert_eq!(
                counts_as_invalid(StatusCode::from_u16(status).unwrap(), &headers),
                want,
                "{status} {scope}"
            );
        }
    }
}
