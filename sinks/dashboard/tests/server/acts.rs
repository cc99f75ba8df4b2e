//! What operators do reaches the log as observations, and nothing else does.

use serde_json::json;
use watchfold_schemas::event::Silence;
use watchfold_schemas::observation::{Act, OperatorAct};
use watchfold_schemas::{Body, EventBody, Stream, decode_observation};

use super::harness::{Ground, Served, at};

/// The acts in the log, oldest first.
fn acts(ground: &Ground) -> Vec<OperatorAct> {
    let records = ground.log.records(Stream::Observations);
    let bodies = records
        .iter()
        .map(|record| decode_observation(&record.payload).unwrap());
    bodies
        .filter_map(|observation| match observation.body {
            Body::Operator(act) => {
                assert_eq!(observation.origin.collector, "operator");
                Some(act)
            }
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn acts_are_published_with_their_note_and_who() {
    let served = Served::furnished().await;
    let (status, answer) = served
        .post("/api/v1/incidents/router-open/ack", r#"{"note":"on it"}"#)
        .await;
    assert_eq!(status, 202, "{answer}");
    assert!(
        answer["observation"]
            .as_str()
            .unwrap()
            .starts_with("cafe/operator/"),
        "{answer}"
    );
    assert_eq!(
        served
            .request("post", "/api/v1/incidents/router-open/ack", None)
            .await
            .status()
            .as_u16(),
        202
    );
    assert_eq!(
        served
            .post("/api/v1/targets/router/mute", r#"{"for_ms":60000}"#)
            .await
            .0,
        202
    );
    assert_eq!(
        served
            .request("delete", "/api/v1/targets/router/mute", None)
            .await
            .status()
            .as_u16(),
        202
    );
    let window = r#"{"subjects":["router"],"from":"2099-01-01T00:00:00Z","until":"2099-01-01T02:00:00Z","note":"new switch"}"#;
    let (status, planned) = served.post("/api/v1/maintenance", window).await;
    assert_eq!(status, 202, "{planned}");
    let id = planned["id"].as_str().unwrap().to_owned();
    let cancel = format!("/api/v1/maintenance/{id}");
    assert_eq!(
        served.request("delete", &cancel, None).await.status().as_u16(),
        404,
        "no fold confirmed it yet"
    );
    let silence = Silence {
        id: format!("maintenance:{id}"),
        subjects: vec!["router".into()],
        from: at(0),
        until: at(99),
        who: "owner".into(),
        active: true,
    };
    served
        .ground
        .emit(50, "m", EventBody::SilenceChanged(silence))
        .await;
    served
        .until("the window is known", async || {
            served.request("delete", &cancel, None).await.status().as_u16() == 202
        })
        .await;
    let acts = acts(&served.ground);
    assert!(acts.iter().all(|act| act.who == "owner"));
    assert_eq!(acts[0].note.as_deref(), Some("on it"));
    assert_eq!(
        acts[0].act,
        Act::Acknowledge {
            incident: "router-open".into()
        }
    );
    assert!(
        matches!(&acts[2].act, Act::Mute { subject, until } if subject == "router" && until.since(acts[2].at).as_millis() == 60_000)
    );
    assert_eq!(
        acts[3].act,
        Act::Unmute {
            subject: "router".into()
        }
    );
    assert!(matches!(&acts[4].act, Act::Maintenance { subjects, .. } if subjects == &["router"]));
    assert_eq!(acts[5].act, Act::CancelMaintenance { id });
    served.stop().await;
}

#[tokio::test]
async fn acts_that_cannot_be_are_refused_and_leave_nothing() {
    let served = Served::furnished().await;
    let long_note = format!("{{\"note\":\"{}\"}}", "x".repeat(1_001));
    let huge = format!("{{\"note\":\"{}\"}}", "x".repeat(100_000));
    for (path, body, status, named) in [
        ("/api/v1/incidents/none/ack", "{}", 404, "incident"),
        ("/api/v1/incidents/router-closed/ack", "{}", 409, "over"),
        ("/api/v1/incidents/router-open/ack", "not json", 400, "body"),
        ("/api/v1/incidents/router-open/ack", r#"{"nte":"x"}"#, 400, "nte"),
        ("/api/v1/incidents/router-open/ack", &*long_note, 400, "note"),
        ("/api/v1/incidents/router-open/ack", &*huge, 413, "length"),
        ("/api/v1/targets/none/mute", r#"{"for_ms":1000}"#, 404, "none"),
        ("/api/v1/targets/router/mute", "{}", 400, "for_ms"),
        ("/api/v1/targets/router/mute", r#"{"for_ms":0}"#, 400, "for_ms"),
        (
            "/api/v1/targets/router/mute",
            r#"{"for_ms":18446744073709551615}"#,
            400,
            "for_ms",
        ),
        (
            "/api/v1/maintenance",
            r#"{"subjects":["none"],"from":"2099-01-01T00:00:00Z","until":"2099-01-01T02:00:00Z"}"#,
            404,
            "none",
        ),
        (
            "/api/v1/maintenance",
            r#"{"subjects":[],"from":"2099-01-01T02:00:00Z","until":"2099-01-01T00:00:00Z"}"#,
            400,
            "until",
        ),
        (
            "/api/v1/maintenance",
            r#"{"subjects":[],"from":"2001-01-01T00:00:00Z","until":"2001-01-01T02:00:00Z"}"#,
            400,
            "until",
        ),
        (
            "/api/v1/maintenance",
            r#"{"subjects":[],"from":"now","until":"2099-01-01T02:00:00Z"}"#,
            400,
            "now",
        ),
    ] {
        let (got, answer) = served.post(path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(named),
            "{path}: {answer}"
        );
    }
    assert!(acts(&served.ground).is_empty());
    served.stop().await;
}

#[tokio::test]
async fn a_recording_can_be_looked_at_only() {
    let ground = Ground::new();
    ground.furnish().await;
    let served = Served::start(ground, false).await;
    assert_eq!(served.get("/api/v1/state").await.1["read_only"], true);
    for path in [
        "/api/v1/incidents/router-open/ack",
        "/api/v1/targets/router/mute",
        "/api/v1/maintenance",
    ] {
        let (status, answer) = served.post(path, "{}").await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("read_only")),
            "{path}"
        );
    }
    served.stop().await;
}
