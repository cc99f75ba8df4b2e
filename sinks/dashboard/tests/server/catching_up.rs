//! Until all that the log held at the start is read, nothing old is told as if it were now.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{
    Ack, Append, Batch, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo,
};
use watchfold_schemas::event::SubjectState;
use watchfold_schemas::{EventBody, Stream};

use super::harness::{Ground, Served, incident, position};

/// A log whose readers wait until they are let go on.
struct Held {
    log: Arc<MemoryLog>,
    open: watch::Receiver<bool>,
}

struct HeldReader {
    reader: Box<dyn LogReader>,
    open: watch::Receiver<bool>,
}

impl MessageLog for Held {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.log.append(messages)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter.to_owned();
        Box::pin(async move {
            let reader = self.log.reader(stream, &filter, start).await?;
            let open = self.open.clone();
            Ok(Box::new(HeldReader { reader, open }) as Box<dyn LogReader>)
        })
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        self.log.info(stream)
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.log.get(stream, sequence)
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let filter = filter.to_owned();
        Box::pin(async move { self.log.last(stream, &filter).await })
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        let name = name.to_owned();
        Box::pin(async move { self.log.load_position(&name).await })
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let name = name.to_owned();
        Box::pin(async move { self.log.save_position(&name, position).await })
    }
}

impl LogReader for HeldReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        Box::pin(async move {
            drop(self.open.wait_for(|open| *open).await);
            self.reader.next(max).await
        })
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        Box::pin(async move {
            drop(self.open.wait_for(|open| *open).await);
            self.reader.try_next(max).await
        })
    }
}

#[tokio::test]
async fn after_a_restart_nothing_old_is_told_until_the_log_is_read() {
    let ground = Served::furnished().await.stop().await;
    // Meanwhile the router goes down, and the incident that the snapshot holds as open is over.
    ground.state(30, "router", SubjectState::Down).await;
    let closed = incident("router-open", 5, Some(29));
    ground.emit(31, "router", EventBody::IncidentClosed(closed)).await;
    let (gate, open) = watch::channel(false);
    let log = Arc::new(Held {
        log: ground.log.clone(),
        open,
    });
    let served = Served::begin(ground, log, true, None).await;
    let mut viewer = served.watch(Some("5,3")).await;
    loop {
        let message = viewer.expect("catching_up").await;
        if message["head"] == json!({ "events": 7, "observations": 3 }) {
            assert_eq!(position(&message), "5,3", "what the snapshot holds");
            break;
        }
    }
    for (method, path) in [
        ("get", "/api/v1/state"),
        ("get", "/api/v1/targets"),
        ("get", "/api/v1/targets/router/history"),
        ("get", "/api/v1/incidents"),
        ("get", "/api/v1/incidents.csv"),
        ("get", "/api/v1/incidents/router-open/explain"),
        ("get", "/api/v1/occupancy"),
        ("get", "/api/v1/sessions"),
        ("get", "/api/v1/maintenance"),
        ("post", "/api/v1/incidents/router-open/ack"),
    ] {
        let response = served.request(method, path, None).await;
        assert_eq!(response.status(), 503, "{path}");
        assert_eq!(response.headers()["retry-after"], "1");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "catching_up", "{path}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("80 %"), "8 of 10 records: {message}");
    }
    assert_eq!(served.open_get("/readyz").await.0, 503);
    assert_eq!(served.open_get("/livez").await.0, 200);
    assert_eq!(served.get("/api/v1/health").await.0, 200);
    assert_eq!(
        served.metric("watchfold_incidents_open{class=\"outage\"}").await,
        None
    );

    gate.send_replace(true);
    let snapshot = loop {
        let message = viewer.next().await.unwrap();
        if message["type"] != "catching_up" {
            break message;
        }
    };
    assert_eq!(
        (&snapshot["type"], position(&snapshot)),
        (&json!("snapshot"), "7,3".into())
    );
    assert_eq!(snapshot["state"]["targets"][0]["state"], "down");
    let open = snapshot["state"]["incidents"].as_array().unwrap().iter();
    assert_eq!(open.filter(|incident| incident["ended_at"].is_null()).count(), 0);
    assert_eq!(served.get("/api/v1/state").await.0, 200);
    assert_eq!(
        served.metric("watchfold_incidents_open{class=\"outage\"}").await,
        Some(0.0)
    );
    served.stop().await;
}

#[tokio::test]
async fn an_empty_log_is_caught_up_with_at_once() {
    let served = Served::start(Ground::new(), true).await;
    let mut viewer = served.watch(None).await;
    viewer.expect("snapshot").await;
    served.stop().await;
}
