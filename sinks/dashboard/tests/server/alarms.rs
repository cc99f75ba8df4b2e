//! Alerts and attacks over HTTP and in the live stream: lists, filters, exports, packets, figures, and after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use watchfold_dashboard::{ExplainKind, ExplainRequest};
use watchfold_kit::{Clock, SystemClock};
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::event::Severity;
use watchfold_schemas::origin::MessageId;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Span, Stream, subjects};

use super::harness::{Ground, SITE, Served, at};
use super::invented::alert;

const ID: &str = "0000000000000000000000000000a1e7";

/// Besides the port scan: one that only records, a name asked for, and one over IPv6.
async fn several() -> Served {
    let ground = Ground::new();
    ground.furnish().await;
    ground.furnish_alarms().await;
    let mut recorded = alert("10.0.0.7");
    recorded.state = RuleState::Record;
    recorded.severity = Severity::Critical;
    ground.raise("bb", 40, recorded).await;
    let mut tunnel = alert("10.0.0.8");
    (tunnel.category, tunnel.rule.name) = ("dns_tunnel".into(), "dns_tunnel".into());
    (tunnel.severity, tunnel.attack) = (Severity::Medium, "tunnel-1".into());
    tunnel.message = "long names below EXAMPLE.org".into();
    ground.raise("cc", 50, tunnel).await;
    ground.raise("dd", 60, alert("2001:db8::1")).await;
    Served::start(ground, true).await
}

fn ids(page: &Value) -> Vec<String> {
    let items = page.as_array().or(page["items"].as_array()).unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().trim_start_matches('0').to_owned())
        .collect()
}

#[tokio::test]
async fn an_attack_that_fires_often_is_one_detection() {
    let ground = Ground::new();
    ground.furnish().await;
    ground.furnish_alarms().await;
    let of = |attack: &str, severity| {
        let mut alert = alert("10.0.0.8");
        (alert.attack, alert.severity) = (attack.into(), severity);
        alert
    };
    for n in 0..40 {
        let id = format!("b{n:02}");
        ground.raise(&id, 100 + n, of("brute", Severity::Medium)).await;
    }
    ground.raise("c0", 90, of("scan", Severity::High)).await;
    ground.raise("c1", 110, of("scan", Severity::Low)).await;
    let served = Served::start(ground, true).await;
    let asked = async |query: &str| {
        let (_, page) = served.get(&format!("/api/v1/detections?{query}")).await;
        let items = page["items"].as_array().unwrap();
        let told = items.iter().map(|one| {
            (
                one["detection"].as_str().unwrap().to_owned(),
                one["alerts"].as_u64().unwrap(),
                one["severity"].as_str().unwrap().to_owned(),
            )
        });
        (told.collect::<Vec<_>>(), page["next"].as_str().map(str::to_owned))
    };
    let brute = ("brute".to_owned(), 40, "medium".to_owned());
    let scan = ("scan".to_owned(), 2, "high".to_owned());
    let (all, _) = asked("").await;
    assert_eq!(all[..2], [brute.clone(), scan.clone()]);
    assert_eq!(
        asked("severity=medium&attack=scan").await.0,
        [("scan".to_owned(), 1, "high".to_owned())]
    );
    let (first, next) = asked("limit=1").await;
    assert_eq!(first, [brute]);
    let (second, _) = asked(&format!("limit=1&after={}", next.unwrap())).await;
    assert_eq!(second, [scan], "the attack of the first page does not come again");
}

#[tokio::test]
async fn alerts_are_filtered_and_paged() {
    let served = several().await;
    for (query, want) in [
        ("", "dd cc bb a1e7"),
        ("severity=high", "dd bb a1e7"),
        ("severity=critical", "bb"),
        ("category=dns_tunnel", "cc"),
        ("rule=port_scan", "dd bb a1e7"),
        ("rule=5f0c7d1e-0000-4000-8000-000000000001", "dd cc bb a1e7"),
        ("source=10.0.0.0/8", "cc bb"),
        ("source=10.0.0.7", "bb"),
        ("source=2001:db8::/32", "dd"),
        ("destination=192.0.2.0/24", "dd cc bb a1e7"),
        ("destination=192.0.3.0/24", ""),
        ("state=record", "bb"),
        ("state=enforce&severity=high", "dd a1e7"),
        ("text=example.ORG", "cc"),
        ("text=onerror", "dd cc bb a1e7"),
        ("text=203.0.113", "dd bb a1e7"),
        ("attack=tunnel-1", "cc"),
        ("from=2026-08-03T00:00:40Z&to=2026-08-03T00:01:00Z", "cc bb"),
    ] {
        let (status, page) = served.get(&format!("/api/v1/alerts?{query}")).await;
        assert_eq!((status, ids(&page).join(" ")), (200, want.to_owned()), "{query}");
        let (status, all) = served.get(&format!("/api/v1/alerts.json?{query}")).await;
        let mut reversed = ids(&all);
        reversed.reverse();
        assert_eq!((status, reversed.join(" ")), (200, want.to_owned()), "{query}");
    }
    let (mut walked, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = served
            .get(&format!("/api/v1/alerts?limit=1&severity=high{after}"))
            .await;
        walked.extend(ids(&page));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(walked, ["dd", "bb", "a1e7"]);
    for (query, named) in [
        ("severity=awful", "severity"),
        ("state=off-and-on", "state"),
        ("source=router", "source"),
        ("source=10.0.0.0/33", "source"),
        ("destination=::/129", "destination"),
        ("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("nonsense=1", "nonsense"),
    ] {
        let (status, answer) = served.get(&format!("/api/v1/alerts?{query}")).await;
        assert_eq!(status, 400, "{query}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    let text = format!("/api/v1/alerts?text={}", "x".repeat(201));
    assert_eq!(served.get(&text).await.0, 400);
    served.stop().await;
}

#[tokio::test]
async fn one_alert_and_one_attack_lead_to_the_incident() {
    let served = Served::alarmed().await;
    let (status, one) = served.get(&format!("/api/v1/alerts/{ID}")).await;
    assert_eq!((status, &one["incident"]), (200, &json!("scan-incident")));
    assert_eq!(one["facts"][0][1], "<img src=x onerror=alert(1)>");
    let (status, attack) = served.get("/api/v1/attacks/scan-open").await;
    assert_eq!((status, &attack["incident"]), (200, &json!("scan-incident")));
    for (query, want) in [
        ("", vec!["scan-open", "scan-ended"]),
        ("state=open", vec!["scan-open"]),
        ("state=ended", vec!["scan-ended"]),
        ("category=port_scan&limit=1", vec!["scan-open"]),
        ("category=other", vec![]),
    ] {
        let (_, page) = served.get(&format!("/api/v1/attacks?{query}")).await;
        assert_eq!(ids(&page), want, "{query}");
    }
    for path in ["/api/v1/alerts/none", "/api/v1/attacks/none"] {
        assert_eq!(served.get(path).await.0, 404, "{path}");
    }
    assert_eq!(served.get("/api/v1/attacks?state=ajar").await.0, 400);
    served.stop().await;
}

#[tokio::test]
async fn exports_are_files_for_other_tools() {
    let served = several().await;
    let export = async |name: &str| {
        let response = served
            .request(
                "get",
                &format!("/api/v1/alerts.{name}?severity=high&state=enforce"),
                None,
            )
            .await;
        assert_eq!(response.status(), 200, "{name}");
        let disposition = response.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            disposition.starts_with("attachment; filename=\"alerts."),
            "{disposition}"
        );
        response.text().await.unwrap()
    };
    let table = export("csv").await;
    let lines: Vec<&str> = table.trim_end().split("\r\n").collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("Time,Severity,Category,Rule,Source,"));
    assert!(lines[1].contains(",203.0.113.9,40111,192.0.2.10,22,tcp,\"'=203.0.113.9 tried 15 ports\","));
    let parsed = |text: &str| -> Vec<Value> {
        let lines = text.lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let objects = parsed(&export("jsonl").await);
    let array: Vec<Value> = serde_json::from_str(&export("json").await).unwrap();
    assert_eq!(objects, array);
    let eve = parsed(&export("eve").await);
    assert_eq!(eve.len(), 2);
    assert_eq!(
        (
            &eve[0]["event_type"],
            &eve[0]["src_ip"],
            &eve[0]["alert"]["signature"]
        ),
        (&json!("alert"), &json!("203.0.113.9"), &json!("Port scan"))
    );
    assert_eq!(eve[0]["timestamp"], "2026-08-03T00:00:30.000000+0000");
    served.stop().await;
}

#[tokio::test]
async fn packets_come_from_who_keeps_them_or_it_is_said_why_not() {
    let ground = Ground::new();
    ground.furnish().await;
    for (id, collector) in [
        ("e1", "capture-lan"),
        ("e2", "capture-old"),
        ("e3", "capture-broken"),
        ("e4", "x"),
    ] {
        let mut alert = alert("203.0.113.9");
        alert.seen_by.collector = collector.into();
        ground.raise(id, 30, alert).await;
    }
    let mut of_probes = alert("203.0.113.9");
    of_probes.seen_by.packets = Default::default();
    ground.raise("e5", 30, of_probes).await;
    let served = Served::start(ground, true).await;
    let path = |id: &str| format!("/api/v1/alerts/{id:0>32}/packets.pcapng");
    let file = served.request("get", &path("e1"), None).await;
    assert_eq!(file.status(), 200);
    assert_eq!(file.headers()["content-type"], "application/x-pcapng");
    // The window before, and some seconds around.
    assert_eq!(file.text().await.unwrap(), format!("{} {}", at(15), at(35)));
    for (id, status, code) in [
        ("e2", 410, "packets_gone"),
        ("e3", 503, "packets_unreadable"),
        ("e4", 404, "packets_not_kept"),
        ("e5", 404, "packets_not_kept"),
        ("e6", 404, "not_found"),
    ] {
        let (got, answer) = served.get(&path(id)).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{id}");
    }
    assert_eq!(served.get("/api/v1/state").await.1["packets"], true);
    let ground = served.stop().await;
    *ground.packets.lock().unwrap() = None;
    let served = Served::start(ground, true).await;
    let (status, answer) = served.get(&path("e1")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("packets_not_kept"))
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("[[capture]]")
    );
    assert_eq!(served.get("/api/v1/state").await.1["packets"], false);
    served.stop().await;
}

#[tokio::test]
async fn alerts_and_attacks_are_explained_from_their_windows_beginning_on() {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::<ExplainRequest>::new()));
    let seen = std::sync::Arc::clone(&asked);
    let ground = Ground::new();
    ground.furnish().await;
    ground.furnish_alarms().await;
    let log = ground.log.clone();
    let explain: watchfold_dashboard::Explain = std::sync::Arc::new(move |request, _| {
        seen.lock().unwrap().push(request);
        Box::pin(async { Ok(super::harness::explanation()) })
    });
    let served = Served::begin(ground, log, true, Some(explain)).await;
    served
        .until("readyz answers", async || {
            served.open_get("/readyz").await.0 == 200
        })
        .await;
    assert_eq!(served.get(&format!("/api/v1/alerts/{ID}/explain")).await.0, 200);
    assert_eq!(served.get("/api/v1/attacks/scan-open/explain").await.0, 200);
    assert_eq!(served.get("/api/v1/attacks/none/explain").await.0, 404);
    let request = |kind, id: &str, second| ExplainRequest {
        kind,
        chain: Chain::Packets,
        id: id.into(),
        started_at: at(second),
    };
    assert_eq!(
        *asked.lock().unwrap(),
        [
            request(ExplainKind::Alert, ID, 20),
            request(ExplainKind::Attack, "scan-open", 15)
        ]
    );
    served.stop().await;
}

#[tokio::test]
async fn the_threat_is_normal_only_while_packets_are_captured() {
    let seconds = Arc::new(AtomicI64::new(0));
    let clock = seconds.clone();
    // A page whose newest record is old is not ready, so the log's clock starts now.
    let began = SystemClock::new().wall();
    let ground = Ground::on(MemoryLog::with_clock(Arc::new(move || {
        began + Span::from_seconds(clock.load(Ordering::Relaxed))
    })));
    ground.furnish().await;
    let packets = async |kind: &str, number: u64| {
        let subject = subjects::of_observation(Stream::Packets, SITE, kind, "capture-lan");
        let id = MessageId(format!("{SITE}/capture-lan/1/{number}"));
        ground.append(Stream::Packets, subject, id, Vec::new()).await
    };
    packets("fault", 1).await;
    let served = Served::start(ground.clone(), true).await;
    let threat = async |served: &Served| {
        let totals = &served.get("/api/v1/state").await.1["alert_totals"];
        (totals["threat"].clone(), totals["packets_at"].clone())
    };
    assert_eq!(
        threat(&served).await,
        (json!("not_monitored"), Value::Null),
        "a capture that may not capture says so beside the packets"
    );
    packets("batch", 2).await;
    served
        .until("packets are captured", async || {
            threat(&served).await.0 == "normal"
        })
        .await;
    // The log goes on without packets.
    seconds.store(90, Ordering::Relaxed);
    ground.round(90, Some(1_500)).await;
    served
        .until("nothing is captured any more", async || {
            threat(&served).await == (json!("not_monitored"), json!(began))
        })
        .await;
    served.stop().await;
}

#[tokio::test]
async fn viewers_and_figures_follow_and_a_restart_forgets_nothing() {
    let served = Served::furnished().await;
    let mut viewer = served.watch(None).await;
    let snapshot = viewer.expect("snapshot").await;
    assert_eq!(
        snapshot["state"]["alert_totals"]["threat"], "not_monitored",
        "nothing is captured, so that nothing was found says nothing"
    );
    served.ground.furnish_alarms().await;
    let (_, news) = viewer.until(|change| change["alerts"].is_object()).await;
    assert_eq!(news["alerts"]["items"][0]["id"], ID);
    assert_eq!(news["alerts"]["cut"], false);
    served
        .until("the incident is folded", async || {
            served.get("/api/v1/attacks/scan-open").await.1["incident"] == "scan-incident"
        })
        .await;
    let line = "watchfold_alerts_total{rule=\"port_scan\",severity=\"high\",state=\"enforce\"}";
    let open = "watchfold_attacks_open{severity=\"high\"}";
    assert_eq!(served.metric(line).await, Some(1.0));
    assert_eq!(served.metric(open).await, Some(1.0));
    let ground = served.stop().await;
    for kept in ["from the snapshot", "from the log"] {
        let served = Served::start(ground.clone(), true).await;
        let state = served.get("/api/v1/state").await.1;
        assert_eq!(ids(&state["alerts"]), ["a1e7"], "{kept}");
        assert_eq!(ids(&state["attacks"]), ["scan-open", "scan-ended"], "{kept}");
        assert_eq!(state["alert_totals"]["threat"], "elevated", "{kept}");
        assert_eq!(
            state["alert_totals"]["severities"],
            json!([0, 0, 0, 1, 0]),
            "{kept}"
        );
        assert_eq!(served.metric(line).await, Some(1.0), "{kept}");
        served.stop().await;
        std::fs::remove_file(ground.folder.path().join("dashboard.snapshot")).unwrap();
    }
}
