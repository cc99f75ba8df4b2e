//! Floods of incidents: few messages, each within the limits, and outages first.

use std::time::Duration;

use serde_json::json;
use watchfold_discord::digest;
use watchfold_schemas::event::{Flood, FloodOf, Incident, IncidentClass, Notice};
use watchfold_schemas::observation::DeliveryOutcome;

use crate::delivery::{World, until};
use crate::messages::{STYLE, embed};
use crate::sample::{attack, attacked, closed, incident, opened};

#[test]
fn a_flood_of_attacks_names_its_kind_its_number_and_the_first_subjects() {
    let flood = |of| {
        Box::new(Flood {
            category: "port_scan".into(),
            title: "Port *scan*".into(),
            of,
            subjects: vec!["203.0.113.9".into(), "203.0.113.10".into()],
            subjects_total: 214,
            attacks_total: 231,
        })
    };
    let shown = |of| {
        let flood = flood(of);
        let incident = Incident {
            class: IncidentClass::Attack,
            subject: "attack:port_scan".into(),
            detail: Some(flood.in_words()),
            flood: Some(flood),
            suppressed: Vec::new(),
            ..incident("a")
        };
        let pcs_present = None;
        embed(
            &Notice::IncidentOpened {
                incident,
                pcs_present,
            },
            STYLE,
        )
    };
    let sources = shown(FloodOf::Sources);
    assert_eq!(sources["title"], "Port \\*scan\\* from 214 sources");
    assert_eq!(
        sources["fields"][2]["value"],
        "231 attacks from 214 sources\\: 203.0.113.9, 203.0.113.10 and 212 more"
    );
    assert_eq!(shown(FloodOf::Targets)["title"], "Port \\*scan\\* on 214 targets");
    assert_eq!(shown(FloodOf::Subjects)["title"], "Port \\*scan\\*: 214 subjects");
}

#[test]
fn a_digest_counts_incidents_of_one_kind_and_names_the_first() {
    let scan = |id: &str, source: &str| {
        let mut attack = attack();
        attack.subject = source.into();
        attacked(id, attack)
    };
    let pcs_present = None;
    let mut notices: Vec<Notice> = (0..37)
        .map(|number| Notice::IncidentOpened {
            incident: scan(&format!("{number}"), &format!("10.0.0.{number}")),
            pcs_present,
        })
        .collect();
    notices.push(Notice::IncidentClosed {
        incident: scan("over", "10.0.1.1"),
        pcs_present,
    });
    let got = serde_json::to_value(digest::message(&notices, STYLE)).unwrap();
    let embed = &got["embeds"][0];
    assert_eq!(embed["title"], "38 more: Port scan");
    let lines: Vec<&str> = embed["description"].as_str().unwrap().lines().collect();
    assert_eq!((lines.len(), lines[10]), (11, "and 28 more"));
    assert_eq!(lines[0], "• Port scan: 10.0.0.0, since 2026-11-20 14:05:09 CET");
    assert_eq!(embed["fields"][0]["value"], "37");
    assert_eq!(embed["fields"][1]["value"], "1");
    assert_eq!(
        (&got["username"], &embed["url"]),
        (&json!("cafe-1"), &json!("https://watch.example/#alerts"))
    );
    let outages = [opened("a"), closed("b")];
    let got = serde_json::to_value(digest::message(&outages, STYLE)).unwrap();
    assert_eq!(got["embeds"][0]["title"], "2 more: Outages");
    let lines = got["embeds"][0]["description"].as_str().unwrap();
    assert_eq!(
        lines,
        "• Router is down, since 2026-11-20 14:05:09 CET\n• Router is back, since 2026-11-20 14:05:09 CET"
    );
}

#[tokio::test]
async fn an_outage_overtakes_a_flood_at_a_slow_webhook_and_the_flood_is_few_messages() {
    const FLOOD: usize = 400;
    let mut world = World::new().await;
    world.server.answer_after(Duration::from_millis(100));
    for number in 0..FLOOD {
        let mut scan = attack();
        scan.subject = format!("10.66.{}.{}", number / 250, number % 250);
        let incident = attacked(&format!("scan-{number}"), scan);
        world
            .ask(Notice::IncidentOpened {
                incident,
                pcs_present: None,
            })
            .await;
    }
    let running = world.start().await;
    until("a message shows", || !world.titles().is_empty()).await;
    let before = world.titles().len();
    world.ask(opened("srv")).await;
    world.settled().await;
    running.stop().await;
    let titles = world.titles();
    let place = titles.iter().position(|title| title == "Router is down").unwrap();
    assert!(place <= before + 2, "{titles:?}");
    assert_eq!(titles.len(), 11, "{titles:?}");
    assert_eq!(titles.last().unwrap(), &format!("{} more: Port scan", FLOOD - 9));
    let outcomes = world.outcomes();
    assert_eq!(outcomes.len(), FLOOD + 1);
    let merged = outcomes
        .iter()
        .filter(|outcome| **outcome == DeliveryOutcome::Merged);
    assert_eq!(merged.count(), FLOOD - 10);
}
