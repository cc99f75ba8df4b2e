//! A capture in trouble, on a network made for it: its process stands still while packets flood in, and its interface
//! goes away and comes back. What was lost is counted and told, and what was seen is judged.

use serde_json::Value;

use crate::inside::{inside, sh};
use crate::watchfold::{House, until};

/// The smallest buffer, so that a flood overflows it at once.
const CONFIG: &str = r#"
site = "cafe-1"
[[capture]]
interface = "lan0"
buffer_mib = 1
[rules]
alert_cooldown = "2s"
port_scan_window = "3s"
syn_flood_window = "3s"
"#;

/// The other end of the cable.
const FAR: &str = "10.78.0.2";

#[test]
fn drops_are_counted_and_told_and_an_interface_comes_back() {
    inside(
        "live::drops_are_counted_and_told_and_an_interface_comes_back",
        trouble,
    );
}

async fn trouble() {
    sh("ip netns add far && ip -n far link set lo up");
    plug();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), CONFIG);
    let running = house.start().await;
    opened(&house, 1).await;

    // Nobody reads what comes in: the kernel keeps what its buffer holds, which is enough to tell of the flood.
    running.signal("STOP");
    at_far("timeout 1 hping3 --flood -q -S -p 80 10.78.0.1 || true");
    running.signal("CONT");
    let note = |health: &Value| collector(health)["note"].as_str().map(str::to_owned);
    house
        .wait_for("drops are shown", "health", |health| {
            note(health).is_some_and(|note| note.contains("the kernel dropped"))
        })
        .await;
    assert!(
        house.said().contains("the kernel dropped packets"),
        "{}",
        house.said()
    );
    told(&house, "syn_flood").await;
    until("the figure of drops", &house, async || {
        house
            .figure("watchfold_packets_dropped_by_kernel_total")
            .await
            .filter(|dropped| *dropped > 0.0)
    })
    .await;

    // The interface is taken away, which is a fault of ours, and given back, which is its end.
    sh("ip link delete lan0");
    let why = |health: &Value| collector(health)["detail"].as_str().map(str::to_owned);
    house
        .wait_for("the interface is missed", "health", |health| {
            why(health).is_some_and(|why| why.contains("there is no interface \"lan0\""))
        })
        .await;
    plug();
    opened(&house, 2).await;
    house
        .wait_for("nothing is missed", "health", |health| {
            collector(health)["ok"] == true
        })
        .await;
    at_far("nmap -sS -n -Pn -p1-60 10.78.0.1 >/dev/null");
    told(&house, "port_scan").await;
    assert!(running.stop().await.success(), "{}", house.said());

    let packets = records(&house, "WF_PKT").await;
    let (mut dropped, mut gap_at, mut last_batch_at) = (0, None, None);
    for (place, body) in packets.iter().enumerate() {
        if let Some(counts) = body.pointer("/batch/counts") {
            dropped = counts["dropped_by_kernel"].as_u64().unwrap();
            last_batch_at = Some(place);
        }
        gap_at = gap_at.or(body.get("gap").map(|_| place));
    }
    assert!(dropped > 0, "each batch says how many were dropped");
    assert!(
        gap_at.is_some() && gap_at < last_batch_at,
        "a gap among the packets"
    );
    let observations = records(&house, "WF_OBS").await;
    let faults: Vec<bool> = observations
        .iter()
        .filter_map(|body| body["fault"]["active"].as_bool())
        .collect();
    assert!(faults.contains(&true), "{faults:?}");
    assert_eq!(faults.last(), Some(&false), "{faults:?}");
}

#[test]
fn the_measurement_counts_what_it_sends() {
    inside("live::the_measurement_counts_what_it_sends", measured);
}

/// How fast is not asked here: a packet each millisecond arrives on the slowest machine.
async fn measured() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), CONFIG);
    let words = [
        "bench",
        "live",
        "--rate",
        "1000",
        "--seconds",
        "1",
        "--format",
        "json",
    ];
    let output = house.run_plain(&words).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap();
    let receivers: Vec<&str> = runs.iter().filter_map(|run| run["receiver"].as_str()).collect();
    assert_eq!(receivers, ["libpcap", "tcpdump -w", "watchfold"]);
    for run in runs.iter().filter(|run| run["receiver"] != "tcpdump -w") {
        assert!(run["sent"].as_u64() > Some(0), "{run:#}");
        assert_eq!(run["received"], run["sent"], "{run:#}");
    }
}

/// A cable between here and the far end.
fn plug() {
    sh(&format!(
        "ip link add lan0 type veth peer name lan0 netns far
         ip addr add 10.78.0.1/24 dev lan0
         ip link set lan0 up
         ip -n far addr add {FAR}/24 dev lan0
         ip -n far link set lan0 up"
    ));
}

fn at_far(line: &str) {
    sh(&format!("ip netns exec far sh -c '{line}'"));
}

/// Waits until the interface was opened for this many times.
async fn opened(house: &House, times: usize) {
    until("packets are captured", house, async || {
        (house.said().matches("capturing").count() >= times).then_some(())
    })
    .await;
}

fn collector(health: &Value) -> &Value {
    let stages = health["stages"].as_array();
    let mut stages = stages.into_iter().flatten();
    stages
        .find(|stage| stage["name"] == "collector:capture-lan0")
        .unwrap_or(&Value::Null)
}

/// Waits for an attack by the far end.
async fn told(house: &House, category: &str) {
    let is_it = |attack: &Value| attack["category"] == category && attack.to_string().contains(FAR);
    house
        .wait_for(category, "attacks?limit=500", |attacks| {
            attacks["items"].as_array().into_iter().flatten().any(is_it)
        })
        .await;
}

/// What the capture's records of one stream say.
async fn records(house: &House, stream: &str) -> Vec<Value> {
    let words = ["log", "cat", "--format", "jsonl", "--stream", stream];
    let output = house.run(&words).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|record| record["content"].clone())
        .filter(|content| content["origin"]["collector"] == "capture-lan0")
        .map(|content| content["body"].clone())
        .collect()
}
