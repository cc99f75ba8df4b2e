//! A consumer of a reader's own, and the pulls that it answers. It acknowledges nothing and keeps nothing worth keeping;
//! what it delivers is for the reader to judge.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy};
use async_nats::{Client, Subscriber};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use watchfold_schemas::{Stream, Time};

use crate::failure::Failure;
use crate::log::Shared;

/// Messages asked for in one pull: enough that a round trip of some 10 ms costs little.
const PULL_MESSAGES: usize = 2048;
/// Bytes asked for in one pull, so that a reader that is slow holds no more than this.
const PULL_BYTES: usize = 4 * 1024 * 1024;
/// How long a pull waits at the server. Each end is also when an idle reader looks how far the stream has gone.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that a waiting pull is still there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the server keeps a consumer that nobody pulls from.
const CONSUMER_IDLE_MAX: Duration = Duration::from_secs(60);

/// A consumer that delivers from one sequence on.
pub(crate) struct Feed {
    /// The subject to pull from.
    pull: String,
    inbox: String,
    pub(crate) messages: Subscriber,
    /// The consumer's count of what arrived.
    pub(crate) delivered: u64,
    pub(crate) pulling: bool,
    /// What the pull has yet to deliver.
    pub(crate) asked: usize,
    /// The last word from it; whoever reads may come and go in between.
    pub(crate) heard: Instant,
}

/// The answer to `CONSUMER.CREATE`, as far as it matters.
#[derive(Deserialize)]
struct Made {
    name: String,
    delivered: MadeAt,
}

#[derive(Deserialize)]
struct MadeAt {
    stream_seq: u64,
}

impl Feed {
    /// A consumer of what matches `filter` (all, where that is empty) from the sequence `next` on.
    pub(crate) async fn make(
        shared: &Shared,
        client: &Client,
        stream: Stream,
        filter: &str,
        next: u64,
    ) -> Result<Feed, Failure> {
        let inbox = client.new_inbox();
        let messages = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| Failure::Again(error.to_string()))?;
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
            filter_subject: filter.to_owned(),
            ..ephemeral()
        };
        let made = make(shared, client, stream, &config).await?;
        let what = format!("CONSUMER.MSG.NEXT.{}.{}", stream.name(), made.name);
        Ok(Feed {
            pull: shared.link.api_subject(&what),
            inbox,
            messages,
            delivered: 0,
            pulling: false,
            asked: 0,
            heard: Instant::now(),
        })
    }

    /// Asks for the next messages. `message_bytes_max` is what one may have at the most.
    pub(crate) async fn pull(&mut self, client: &Client, message_bytes_max: usize) {
        let request = json!({
            "batch": PULL_MESSAGES,
            "max_bytes": PULL_BYTES.max(2 * message_bytes_max),
            "expires": PULL_EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        let sent = client
            .publish_with_reply(self.pull.clone(), self.inbox.clone(), request.to_string().into())
            .await;
        // An unsent pull shows as silence, upon which the consumer is made anew.
        (self.pulling, self.asked, self.heard) = (true, PULL_MESSAGES, Instant::now());
        if let Err(error) = sent {
            tracing::debug!(%error, "failed to send a pull");
        }
    }
}

/// A consumer that lives in memory, beside the stream's leader, for one reader.
fn ephemeral() -> Config {
    Config {
        ack_policy: AckPolicy::None,
        max_deliver: -1,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: CONSUMER_IDLE_MAX,
        ..Config::default()
    }
}

async fn make(shared: &Shared, client: &Client, stream: Stream, config: &Config) -> Result<Made, Failure> {
    let what = format!("CONSUMER.CREATE.{}", stream.name());
    let body = json!({ "stream_name": stream.name(), "config": config });
    match shared.link.api::<Made>(client, &what, &body).await? {
        Ok(made) => Ok(made),
        Err(error) if crate::link::is_missing_stream(&error) => {
            shared.forget(stream);
            Err(Failure::NobodyThere)
        }
        Err(error) => Err(Failure::Final(
            shared.link.refused(&format!("read {}", stream.name()), &error),
        )),
    }
}

/// The first sequence stored at or after `time`, or the one after the last: where the broker would begin to deliver.
pub(crate) async fn first_at(
    shared: &Shared,
    client: &Client,
    stream: Stream,
    time: Time,
) -> Result<u64, Failure> {
    let start_time = async_nats::datetime::from_nanos(i128::from(time.0))
        .map_err(|error| Failure::Again(error.to_string()))?;
    let config = Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ..ephemeral()
    };
    let made = make(shared, client, stream, &config).await?;
    let what = format!("CONSUMER.DELETE.{}.{}", stream.name(), made.name);
    // One that stays is forgotten by the server in a while.
    let _ = shared.link.api::<serde_json::Value>(client, &what, &()).await;
    Ok(made.delivered.stream_seq + 1)
}
