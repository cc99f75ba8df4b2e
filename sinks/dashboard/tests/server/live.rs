//! The live stream: snapshot, deltas, resume, the slow and the many.

use futures::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use watchfold_schemas::EventBody;
use watchfold_schemas::event::SubjectState;

use super::harness::{LIMIT, Served, incident, position};

fn incident_of(change: &Value) -> Option<&str> {
    change["incident"]["id"].as_str()
}

#[tokio::test]
async fn a_viewer_gets_the_state_then_deltas_and_goes_on_after_a_drop() {
    let served = Served::furnished().await;
    let mut viewer = served.watch(None).await;
    let snapshot = viewer.expect("snapshot").await;
    assert_eq!(
        (&snapshot["state"]["targets"][0]["state"], position(&snapshot)),
        (&"up".into(), "5,3".into())
    );
    served.ground.state(30, "router", SubjectState::Down).await;
    let (delta, change) = viewer.until(|change| change["target"]["name"] == "router").await;
    assert_eq!(
        (&delta["type"], &change["target"]["state"]),
        (&"delta".into(), &"down".into())
    );
    drop(viewer);
    served
        .ground
        .emit(31, "i", EventBody::IncidentOpened(incident("second", 30, None)))
        .await;
    served.ground.round(32, None).await;
    served
        .until("both are folded", async || {
            let state = served.get("/api/v1/state").await.1;
            state["incidents"].as_array().unwrap().len() == 3
                && state["samples"].as_array().unwrap().len() == 2
        })
        .await;
    let mut viewer = served.watch(Some(&position(&delta))).await;
    let resumed = viewer.expect("resumed").await;
    assert_eq!(position(&resumed), position(&delta));
    let (_, change) = viewer.until(|change| incident_of(change).is_some()).await;
    assert_eq!(incident_of(&change), Some("second"));
    // From a place that never was, or is too long ago, only the whole state helps.
    for after in ["999,999", "0,0", "1,999"] {
        served.watch(Some(after)).await.expect("snapshot").await;
    }
    assert_eq!(served.metric("watchfold_viewer_resumes_total").await, Some(1.0));
    served.stop().await;
}

#[tokio::test]
async fn samples_come_once_however_the_viewer_joins() {
    let served = Served::furnished().await;
    for second in 100..130 {
        served.ground.round(second, Some(1_000)).await;
        let mut viewer = served.watch(None).await;
        let snapshot = viewer.expect("snapshot").await;
        let seen = snapshot["state"]["samples"].as_array().unwrap().len();
        served.ground.round(second + 1_000, Some(7)).await;
        let want = 1 + 2 * (second as usize - 99);
        let mut total = seen;
        while total < want {
            let message = viewer.next().await.unwrap();
            let samples = message["changes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|change| change["samples"].as_array());
            total += samples.map(Vec::len).sum::<usize>();
        }
        assert_eq!(total, want);
    }
    served.stop().await;
}

#[tokio::test]
async fn a_change_of_configuration_gives_everyone_a_whole_state() {
    let served = Served::furnished().await;
    let mut viewer = served.watch(None).await;
    viewer.expect("snapshot").await;
    let mut config = super::harness::config();
    config.network.targets.pop();
    config.time_zone = "America/New_York".into();
    let body = watchfold_schemas::observation::Activation {
        at: super::harness::at(60),
        hash: config.hash(),
        config,
        software: "test".into(),
    };
    served
        .ground
        .observe(60, "config", watchfold_schemas::Body::Activation(Box::new(body)))
        .await;
    let message = loop {
        let message = viewer.next().await.unwrap();
        if message["type"] == "snapshot" {
            break message;
        }
    };
    assert_eq!(message["state"]["time_zone"], "America/New_York");
    assert_eq!(message["state"]["targets"].as_array().unwrap().len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn beats_come_without_news() {
    let served = Served::furnished().await;
    let mut viewer = served.watch(None).await;
    viewer.expect("snapshot").await;
    loop {
        let message = viewer.next().await.unwrap();
        if message["type"] == "beat" {
            assert_eq!(position(&message), "5,3");
            assert!(message["data"]["age_ms"].is_u64() && message["data"]["stale"].is_null());
            break;
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_log_that_does_not_answer_makes_what_is_shown_stale_and_keeps_the_line() {
    let served = Served::furnished().await;
    let mut viewer = served.watch(None).await;
    viewer.expect("snapshot").await;
    served.ground.log.fail_info(true);
    served
        .until("it is not ready and says why", async || {
            served.open_get("/readyz").await == (503, "the log does not answer".to_owned())
        })
        .await;
    for (figure, value) in [("watchfold_log_answers", 0.0), ("watchfold_data_stale", 1.0)] {
        assert_eq!(served.metric(figure).await, Some(value), "{figure}");
    }
    // Who is there hears it, and who joins now hears it at once.
    let is_stale = |message: &Value, wanted: bool| {
        message["type"] == "beat" && message["data"]["stale"].is_string() == wanted
    };
    while !is_stale(&viewer.next().await.unwrap(), true) {}
    let mut late = served.watch(None).await;
    late.expect("snapshot").await;
    let first = late.next().await.unwrap();
    assert!(is_stale(&first, true), "{first}");
    served.ground.log.fail_info(false);
    while !is_stale(&viewer.next().await.unwrap(), false) {}
    assert_eq!(served.open_get("/readyz").await.0, 200);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_viewers_see_each_event_once() {
    const VIEWERS: usize = 200;
    const EVENTS: usize = 50;
    let served = Served::furnished().await;
    let mut viewers = join_all((0..VIEWERS).map(|_| served.watch(None))).await;
    for viewer in &mut viewers {
        viewer.expect("snapshot").await;
    }
    assert_eq!(served.metric("watchfold_viewers").await, Some(VIEWERS as f64));
    let seen = tokio::spawn(join_all(viewers.into_iter().map(async |mut viewer| {
        let mut seen = Vec::new();
        while seen.len() < EVENTS {
            let message = viewer.next().await.expect("the stream ended");
            assert_ne!(message["type"], "snapshot", "nobody fell behind");
            let changes = message["changes"].as_array().into_iter().flatten();
            seen.extend(changes.filter_map(incident_of).map(str::to_owned));
        }
        seen
    })));
    for n in 0..EVENTS {
        let opened = incident(&format!("flood-{n:03}"), 1_000 + n as i64, None);
        served
            .ground
            .emit(1_000 + n as i64, "i", EventBody::IncidentOpened(opened))
            .await;
    }
    let want: Vec<String> = (0..EVENTS).map(|n| format!("flood-{n:03}")).collect();
    for seen in seen.await.unwrap() {
        assert_eq!(seen, want);
    }
    served
        .until("all have left", async || {
            served.metric("watchfold_viewers").await == Some(0.0)
        })
        .await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_viewer_gets_a_whole_state_again_and_slows_nobody() {
    let served = Served::furnished().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut slow = socket.connect(served.addr).await.unwrap();
    let upgrade = format!(
        "GET /api/v1/stream HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        served.addr, served.token
    );
    slow.write_all(upgrade.as_bytes()).await.unwrap();
    served
        .until("it is a viewer", async || {
            served.metric("watchfold_viewers").await == Some(1.0)
        })
        .await;
    let mut quick = served.watch(None).await;
    quick.expect("snapshot").await;
    // Far more than the buffers of a connection and the queue hold; one delta each, since the quick one has to see it.
    for n in 0..420_i64 {
        let mut big = incident("big", 1_000, None);
        big.reminders = n as u32;
        big.detail = Some("x".repeat(60_000));
        served
            .ground
            .emit(1_000 + n, "big", EventBody::IncidentReminded(big))
            .await;
        quick.until(|change| change["incident"]["reminders"] == n).await;
    }
    assert_eq!(
        served.metric("watchfold_viewer_resyncs_total").await,
        Some(0.0),
        "it is still stuck in one message"
    );
    let (mut bytes, mut last) = (vec![0; 1 << 16], Vec::new());
    while !String::from_utf8_lossy(&last).contains("{\"type\":\"snapshot\"")
        || served.metric("watchfold_viewer_resyncs_total").await == Some(0.0)
    {
        let read = timeout(LIMIT, slow.read(&mut bytes))
            .await
            .expect("nothing more comes")
            .unwrap();
        assert!(read > 0, "the slow viewer was dropped");
        last.drain(..last.len().saturating_sub(64));
        last.extend_from_slice(&bytes[..read]);
    }
    served.stop().await;
}
