//! What can be read, paged and filtered, and what bad input is answered with.

use serde_json::{Value, json};
use watchfold_schemas::{Stream, subjects};

use super::harness::{Ground, Served, at, incident, session};
use watchfold_schemas::{Chain, EventBody, origin::MessageId};

#[tokio::test]
async fn the_state_joins_both_streams() {
    let served = Served::furnished().await;
    let (status, state) = served.get("/api/v1/state").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&state["site"], &state["time_zone"], &state["read_only"]),
        (&json!("cafe"), &json!("Europe/Berlin"), &json!(false))
    );
    assert_eq!(state["targets"][0]["state"], "up");
    assert_eq!(state["targets"][0]["rtt_us"], 1_500);
    assert_eq!(state["targets"][0]["incident"], "router-open");
    assert_eq!(state["targets"][1]["depends_on"], json!(["router"]));
    assert_eq!(state["incidents"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&state["occupancy"]["current"], &state["occupancy"]["percent"]),
        (&json!(1), &json!(50))
    );
    assert_eq!(state["heatmap"]["cells"].as_array().unwrap().len(), 7);
    assert_eq!(state["samples"][0]["target"], "router");
    served.stop().await;
}

#[tokio::test]
async fn health_and_metrics_tell_of_stages_and_streams() {
    let served = Served::furnished().await;
    let (_, health) = served.get("/api/v1/health").await;
    assert_eq!(
        (&health["ok"], &health["stages"][0]["name"]),
        (&json!(true), &json!("dashboard"))
    );
    assert_eq!(health["stages"][0]["lag"], 0);
    assert_eq!(health["streams"][1]["last_sequence"], 5);
    served.progress.fail("the disk is full".into());
    let (_, health) = served.get("/api/v1/health").await;
    assert_eq!(
        (&health["ok"], &health["stages"][0]["detail"]),
        (&json!(false), &json!("the disk is full"))
    );
    served.progress.ok();
    for (line, want) in [
        ("probe_success{target=\"router\"}", 1.0),
        ("probe_duration_seconds{target=\"router\"}", 0.0015),
        (
            "probe_icmp_duration_seconds{target=\"router\",phase=\"rtt\"}",
            0.0015,
        ),
        ("watchfold_incidents_open{class=\"outage\"}", 1.0),
        ("watchfold_incidents_open{class=\"flapping\"}", 0.0),
        ("watchfold_pcs_present", 1.0),
        ("watchfold_pcs", 2.0),
        ("watchfold_stage_lag_records{stage=\"dashboard\"}", 0.0),
        ("watchfold_log_last_sequence{stream=\"WF_EVT\"}", 5.0),
        ("watchfold_build_info{software=\"watchfold test\"}", 1.0),
        (
            "watchfold_http_requests_total{route=\"/api/v1/health\",status=\"200\"}",
            2.0,
        ),
    ] {
        assert_eq!(served.metric(line).await, Some(want), "{line}");
    }
    served.stop().await;
}

#[tokio::test]
async fn lists_page_to_their_end_and_filter() {
    let ground = Ground::new();
    ground.furnish().await;
    for n in 0..25 {
        let closed = incident(&format!("more-{n}"), 100 + n / 3, Some(200 + n));
        ground.emit(300 + n, "k", EventBody::IncidentClosed(closed)).await;
        let ended = session(&format!("more-{n}"), "192.0.2.101", 100 + n / 3, Some(200 + n));
        ground.emit(300 + n, "k", EventBody::SessionEnded(ended)).await;
    }
    let served = Served::start(ground, true).await;
    let walk = async |path: &str| -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = served.get(&format!("{path}{after}")).await;
            assert_eq!(status, 200, "{path}{after}: {page}");
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return all,
            }
        }
    };
    let ids = |items: &[Value]| -> Vec<String> { items.iter().map(|item| item["id"].to_string()).collect() };
    let one = walk("/api/v1/incidents?limit=1000").await;
    assert_eq!(one.len(), 27);
    assert_eq!(ids(&walk("/api/v1/incidents?limit=4").await), ids(&one));
    assert_eq!(walk("/api/v1/incidents?state=open&limit=1").await.len(), 1);
    assert_eq!(
        walk("/api/v1/incidents?state=closed&subject=router&limit=7")
            .await
            .len(),
        26
    );
    assert!(walk("/api/v1/incidents?subject=none&limit=7").await.is_empty());
    let sessions = walk("/api/v1/sessions?limit=1000").await;
    assert_eq!(sessions.len(), 27);
    assert_eq!(ids(&walk("/api/v1/sessions?limit=4").await), ids(&sessions));
    assert_eq!(walk("/api/v1/sessions?limit=4&pc=192.0.2.102").await.len(), 1);
    let (from, to) = (at(9), at(100));
    assert_eq!(
        walk(&format!("/api/v1/sessions?limit=4&from={from}&to={to}"))
            .await
            .len(),
        1
    );
    assert_eq!(walk("/api/v1/targets?limit=1").await.len(), 2);
    let events = walk("/api/v1/events?limit=7").await;
    assert_eq!(events.len(), 55);
    assert!(
        events
            .windows(2)
            .all(|pair| pair[0]["sequence"].as_u64() < pair[1]["sequence"].as_u64())
    );
    assert_eq!(events[0]["event"]["body"]["subject_changed"]["to"], "up");
    let opened = walk("/api/v1/events?limit=7&kind=incident_opened").await;
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["kind"], "incident_opened");
    let points = walk(&format!(
        "/api/v1/targets/router/history?limit=1&from={}&to={}",
        at(0),
        at(60)
    ))
    .await;
    assert_eq!((points.len(), &points[0]["p50_us"]), (1, &json!(1_500)));
    served.stop().await;
}

#[tokio::test]
async fn the_csv_opens_in_a_spreadsheet_and_runs_nothing() {
    let served = Served::furnished().await;
    let response = served.request("get", "/api/v1/incidents.csv", None).await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/csv")
    );
    let want = format!(
        "Start Time,End Time,Duration,Cause,Notes,Id\r\n{},{},0:00:08,router outage,\"'=1+1\",router-closed\r\n\
         {},,,router outage,\"'=1+1\",router-open\r\n",
        at(1),
        at(9),
        at(5)
    );
    assert_eq!(response.text().await.unwrap(), want);
    served.stop().await;
}

#[tokio::test]
async fn bad_input_is_answered_with_its_name() {
    let served = Served::furnished().await;
    for (method, path, status, named) in [
        ("get", "/api/v1/incidents?limit=0", 400, "limit"),
        ("get", "/api/v1/incidents?limit=1001", 400, "limit"),
        ("get", "/api/v1/incidents?limit=-1", 400, "limit"),
        ("get", "/api/v1/incidents?limit=1&limit=2", 400, "limit"),
        ("get", "/api/v1/incidents?state=ajar", 400, "state"),
        ("get", "/api/v1/incidents?after=garbage", 400, "after"),
        ("get", "/api/v1/incidents?nonsense=1", 400, "nonsense"),
        ("get", "/api/v1/state?x=1", 400, "x"),
        ("get", "/api/v1/sessions?from=yesterday", 400, "from"),
        (
            "get",
            "/api/v1/sessions?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z",
            400,
            "from",
        ),
        ("get", "/api/v1/events?after=x", 400, "after"),
        ("get", "/api/v1/events?kind=nothing", 400, "kind"),
        ("get", "/api/v1/events?kind=%3E", 400, "kind"),
        (
            "get",
            "/api/v1/targets/router/history?resolution=second",
            400,
            "resolution",
        ),
        ("get", "/api/v1/targets/router/history?limit=2881", 400, "limit"),
        (
            "get",
            "/api/v1/targets/router/history?to=9999-01-01T00:00:00Z",
            400,
            "to",
        ),
        ("get", "/api/v1/targets/nobody/history", 404, "nobody"),
        ("get", "/api/v1/stream?after=1", 400, "after"),
        ("get", "/api/v1/stream", 400, "header"),
        ("get", "/api/v1/nothing", 404, "nothing"),
        ("get", "/api/v2/state", 404, "openapi"),
        ("post", "/api/v1/state", 405, "method"),
        ("delete", "/api/v1/incidents", 405, "method"),
        ("post", "/", 405, "method"),
    ] {
        let (got, body) = answer(&served, method, path).await;
        assert_eq!(got, status, "{method} {path}: {body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{method} {path}: {message}");
        assert!(body["error"]["code"].is_string());
    }
    served.stop().await;
}

async fn answer(served: &Served, method: &str, path: &str) -> (u16, Value) {
    let response = served.request(method, path, None).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn records_that_cannot_be_read_are_counted_and_passed_over() {
    let ground = Ground::new();
    let subject = subjects::event("cafe", Chain::Site, "incident_opened", "k");
    ground
        .append(
            Stream::Events,
            subject,
            MessageId("garbage".into()),
            b"\xc1garbage".to_vec(),
        )
        .await;
    ground.furnish().await;
    let served = Served::start(ground, true).await;
    assert_eq!(
        served.get("/api/v1/state").await.1["incidents"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        served.get("/api/v1/events?kind=incident_opened").await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        served.metric("watchfold_projection_undecodable_total").await,
        Some(1.0)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_from_the_snapshot_and_another_log_sets_it_aside() {
    let served = Served::furnished().await;
    let before = served.get("/api/v1/state").await.1;
    let ground = served.stop().await;
    let path = ground.folder.path().join("dashboard.snapshot");
    assert!(path.exists());
    // What the snapshot holds is not read again: gone from the log, it is still shown.
    ground.log.truncate_front(Stream::Events, 3);
    let served = Served::start(ground, true).await;
    assert_eq!(
        served.get("/api/v1/state").await.1["incidents"],
        before["incidents"]
    );
    let ground = served.stop().await;
    // The log loses its tail: what was folded from it must go.
    ground.log.truncate_tail(Stream::Events, 1);
    let served = Served::start(ground, true).await;
    let state = served.get("/api/v1/state").await.1;
    assert_eq!(
        state["sessions"].as_array().unwrap().len(),
        1,
        "{}",
        state["sessions"]
    );
    assert!(path.with_extension("snapshot.aside").exists());
    let ground = served.stop().await;
    std::fs::write(&path, b"garbage").unwrap();
    let served = Served::start(ground, true).await;
    assert_eq!(served.get("/api/v1/state").await.0, 200);
    served.stop().await;
}
