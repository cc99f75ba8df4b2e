//! The broker's streams: made where they are missing, compared where they are there. What an operator chose stays;
//! what would make us lose or mix up messages is an error.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use watchfold_log::{LogError, StreamInfo};
use watchfold_schemas::subjects::{matches, stream_filter};
use watchfold_schemas::{Stream, Time};

use crate::StreamLimits;
use crate::failure::Failure;
use crate::link::{ApiError, Link, is_missing_stream};

/// How long the broker knows message ids: what brokers do by default, and what it costs in its memory is some 100 bytes
/// for each message of that time. A publisher that was cut off for longer may append a message twice; readers of
/// events and chains tell that by id and by number.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// A stream in which nothing was ever stored may be one that another client is making at this moment. nats-server 2.9.10
/// ends with a nil pointer when it is asked for a message of such a stream, so it is given this long.
const SETTLE: Duration = Duration::from_millis(200);

/// Replicas of what is made on a cluster, unless told otherwise: one server may go without a loss.
const CLUSTER_REPLICAS: usize = 3;

/// What the broker says of a stream.
pub(crate) async fn info(link: &Link, client: &Client, stream: Stream) -> Result<Info, Failure> {
    let what = format!("STREAM.INFO.{}", stream.name());
    match link.api::<Info>(client, &what, &()).await? {
        Ok(info) => Ok(info),
        Err(error) if is_missing_stream(&error) => Err(Failure::NobodyThere),
        Err(error) => Err(Failure::Final(
            link.refused(&format!("tell of {}", stream.name()), &error),
        )),
    }
}

/// Makes the stream, or sees that the one that is there will do; gives what it is like.
pub(crate) async fn ensure(link: &Link, client: &Client, stream: Stream) -> Result<Info, Failure> {
    link.check_version(client)?;
    let wanted = wanted(link, client, stream);
    let found = match info(link, client, stream).await {
        Err(Failure::NobodyThere) if link.options.read_only => return Err(Failure::NotMade),
        Err(Failure::NobodyThere) => create(link, client, &wanted).await?,
        Ok(found) => {
            if found.state.last_sequence == 0 {
                tokio::time::sleep(SETTLE).await;
            }
            found
        }
        Err(error) => return Err(error),
    };
    check(link.place(), &found.config, &wanted).map_err(Failure::Final)?;
    for difference in differences(&found.config, &wanted) {
        tracing::warn!(
            stream = stream.name(),
            place = link.place(),
            key = difference.key,
            found = difference.found,
            wanted = difference.wanted,
            remedy = format!("nats stream edit {} {}", stream.name(), difference.option),
            "a stream has other limits than this version would give it; they stay"
        );
    }
    Ok(found)
}

async fn create(link: &Link, client: &Client, wanted: &Config) -> Result<Info, Failure> {
    match make(link, client, wanted).await? {
        Ok(info) => {
            tracing::info!(
                stream = wanted.name,
                place = link.place(),
                replicas = info.config.num_replicas,
                "made a stream"
            );
            Ok(info)
        }
        // Somebody else made it a moment ago, in another way.
        Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
            Err(Failure::Again(error.to_string()))
        }
        Err(error) if error.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
            Err(Failure::Final(LogError::Mismatch {
                place: format!("{} on {}", wanted.name, link.place()),
                key: "subjects",
                found: "that another stream takes".to_owned(),
                wanted: wanted.subjects.join(", "),
                remedy: "find that stream with `nats stream ls --subject` and give it other subjects"
                    .to_owned(),
            }))
        }
        Err(error) => Err(Failure::Final(
            link.refused(&format!("make {}", wanted.name), &error),
        )),
    }
}

/// Makes a stream as `config` says, with one replica where nobody asked for more and the server stands alone: one with a
/// JetStream domain of its own calls itself a cluster too.
pub(crate) async fn make(
    link: &Link,
    client: &Client,
    config: &Config,
) -> Result<Result<Info, ApiError>, Failure> {
    let what = format!("STREAM.CREATE.{}", config.name);
    let made = link.api::<Info>(client, &what, config).await?;
    match made {
        Err(error) if error.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
            if link.options.replicas.is_none() && config.num_replicas > 1 {
                let single = Config {
                    num_replicas: 1,
                    ..config.clone()
                };
                return link.api::<Info>(client, &what, &single).await;
            }
            Err(Failure::Final(LogError::Refused {
                place: link.place().to_owned(),
                action: format!("make {} with {} replicas", config.name, config.num_replicas),
                reason: error.to_string(),
                remedy: "ask for one replica, or run the server in a cluster".to_owned(),
            }))
        }
        other => Ok(other),
    }
}

/// Copies of what is made, as asked for, else as the server's kind suggests.
pub(crate) fn replicas(link: &Link, client: &Client) -> usize {
    let in_cluster = client
        .server_info()
        .cluster
        .is_some_and(|cluster| !cluster.is_empty());
    link.options
        .replicas
        .unwrap_or(if in_cluster { CLUSTER_REPLICAS } else { 1 })
}

fn wanted(link: &Link, client: &Client, stream: Stream) -> Config {
    let StreamLimits { bytes_max, age_max } = link.options.limits(stream);
    let max_age = age_max.map_or(Duration::ZERO, |age| Duration::from_nanos(age.0.unsigned_abs()));
    Config {
        name: stream.name().to_owned(),
        description: Some("Watchfold".to_owned()),
        subjects: vec![stream_filter(stream)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: replicas(link, client),
        max_bytes: i64::try_from(bytes_max).unwrap_or(i64::MAX),
        max_age,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: if max_age.is_zero() {
            DUPLICATE_WINDOW
        } else {
            DUPLICATE_WINDOW.min(max_age)
        },
        ..Config::default()
    }
}

/// What no stream of ours may be like.
fn check(place: &str, found: &Config, wanted: &Config) -> Result<(), LogError> {
    let wrong =
        |key: &'static str, found_value: String, wanted_value: &str, remedy: &str| LogError::Mismatch {
            place: format!("{} on {place}", found.name),
            key,
            found: found_value,
            wanted: wanted_value.to_owned(),
            remedy: remedy.to_owned(),
        };
    let fed_by_others =
        found.mirror.is_some() || found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let takes = |subject: &String| found.subjects.iter().any(|filter| covers(filter, subject));
    if !fed_by_others && !wanted.subjects.iter().all(takes) {
        return Err(wrong(
            "subjects",
            found.subjects.join(", "),
            &wanted.subjects.join(", "),
            "give it these subjects (`nats stream edit --subjects`), or use an account of its own",
        ));
    }
    let remake = "streams cannot be changed in this: back it up, remove it, and let it be made anew";
    if found.storage != StorageType::File {
        return Err(wrong("storage", format!("{:?}", found.storage), "File", remake));
    }
    if found.retention != RetentionPolicy::Limits {
        return Err(wrong(
            "retention",
            format!("{:?}", found.retention),
            "Limits",
            remake,
        ));
    }
    if found.no_ack {
        return Err(wrong(
            "no_ack",
            "true".to_owned(),
            "false",
            "nats stream edit --ack",
        ));
    }
    if found.max_messages_per_subject > 0 {
        return Err(wrong(
            "max_msgs_per_subject",
            found.max_messages_per_subject.to_string(),
            "no limit",
            "nats stream edit --max-msgs-per-subject=-1",
        ));
    }
    Ok(())
}

/// Whether everything that `inner` matches is matched by `outer`.
fn covers(outer: &str, inner: &str) -> bool {
    outer == inner || outer == ">" || (matches(outer, inner) && !inner.contains('*'))
}

struct Difference {
    key: &'static str,
    found: String,
    wanted: String,
    /// Of `nats stream edit`.
    option: String,
}

fn differences(found: &Config, wanted: &Config) -> Vec<Difference> {
    let limit = |limit: i64| {
        if limit <= 0 {
            "no limit".to_owned()
        } else {
            limit.to_string()
        }
    };
    let mut out = Vec::new();
    let mut compare = |key, found: String, wanted: String, option: String| {
        if found != wanted {
            out.push(Difference {
                key,
                found,
                wanted,
                option,
            });
        }
    };
    compare(
        "max_bytes",
        limit(found.max_bytes),
        limit(wanted.max_bytes),
        format!("--max-bytes={}", wanted.max_bytes),
    );
    compare(
        "max_age",
        seconds(found.max_age),
        seconds(wanted.max_age),
        format!("--max-age={}s", wanted.max_age.as_secs()),
    );
    compare(
        "max_msgs",
        limit(found.max_messages),
        limit(wanted.max_messages),
        "--max-msgs=-1".to_owned(),
    );
    compare(
        "discard",
        format!("{:?}", found.discard),
        format!("{:?}", wanted.discard),
        "--discard=old".to_owned(),
    );
    if found.duplicate_window < wanted.duplicate_window {
        compare(
            "duplicate_window",
            seconds(found.duplicate_window),
            seconds(wanted.duplicate_window),
            format!("--dupe-window={}s", wanted.duplicate_window.as_secs()),
        );
    }
    out
}

fn seconds(duration: Duration) -> String {
    if duration.is_zero() {
        "no limit".to_owned()
    } else {
        format!("{} s", duration.as_secs())
    }
}

/// The identity of a stream: its name and when it was made, which a broker keeps through restarts, edits and elections.
pub(crate) fn log_id(info: &Info) -> String {
    format!("{}-{:x}", info.config.name, info.created.unix_timestamp_nanos())
}

/// What a stream that is missing is like.
pub(crate) fn absent(stream: Stream) -> StreamInfo {
    StreamInfo {
        log_id: format!("{}-absent", stream.name()),
        first_sequence: 1,
        last_sequence: 0,
        last_stored_at: None,
        bytes: 0,
        segments: 0,
        damaged: 0,
    }
}

pub(crate) fn glance(info: &Info) -> StreamInfo {
    let state = &info.state;
    let empty = state.messages == 0;
    StreamInfo {
        log_id: log_id(info),
        first_sequence: if empty {
            state.last_sequence + 1
        } else {
            state.first_sequence
        },
        last_sequence: state.last_sequence,
        last_stored_at: (!empty).then(|| time(state.last_timestamp.unix_timestamp_nanos())),
        bytes: state.bytes,
        segments: 1,
        damaged: 0,
    }
}

/// Nanoseconds that are in the range of our time; a broker's clock beyond the year 2262 is at its end.
pub(crate) fn time(nanos: i128) -> Time {
    Time(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Config {
        Config {
            name: "WF_OBS".into(),
            subjects: vec![stream_filter(Stream::Observations)],
            storage: StorageType::File,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(3600),
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        }
    }

    #[test]
    fn what_would_lose_messages_is_refused_with_its_key() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 7] = [
            ("", |_| {}),
            ("", |config| config.subjects = vec!["wf.>".into()]),
            ("subjects", |config| {
                config.subjects = vec!["wf.obs.cafe-1.>".into()]
            }),
            ("storage", |config| config.storage = StorageType::Memory),
            ("retention", |config| {
                config.retention = RetentionPolicy::WorkQueue
            }),
            ("no_ack", |config| config.no_ack = true),
            ("max_msgs_per_subject", |config| {
                config.max_messages_per_subject = 1
            }),
        ];
        for (want, change) in changes {
            let mut found = ours();
            change(&mut found);
            let key = match check("nats://x", &found, &ours()) {
                Ok(()) => "",
                Err(LogError::Mismatch { key, .. }) => key,
                Err(other) => panic!("{other}"),
            };
            assert_eq!(key, want);
        }
    }

    #[test]
    fn other_limits_are_told_with_the_way_to_change_them() {
        let found = Config {
            max_age: Duration::from_secs(60),
            max_messages: 5,
            duplicate_window: Duration::from_secs(30),
            ..ours()
        };
        let told: Vec<_> = differences(&found, &ours())
            .into_iter()
            .map(|difference| {
                (
                    difference.key,
                    difference.found,
                    difference.wanted,
                    difference.option,
                )
            })
            .collect();
        let text = |key, found: &str, wanted: &str, option: &str| {
            (key, found.to_owned(), wanted.to_owned(), option.to_owned())
        };
        assert_eq!(
            told,
            [
                text("max_age", "60 s", "3600 s", "--max-age=3600s"),
                text("max_msgs", "5", "no limit", "--max-msgs=-1"),
                text("duplicate_window", "30 s", "120 s", "--dupe-window=120s"),
            ]
        );
        assert!(differences(&ours(), &ours()).is_empty());
    }
}
