//! Whole bodies, one per notice.

use serde_json::{Value, json};
use watchfold_discord::render::{Style, edited, message};
use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{CloseReason, Incident, IncidentClass, Notice, OccupancySnapshot, Session};
use watchfold_schemas::why::{CertificateProblem, ProbeReason, Why};

use crate::sample::{
    START, at, attack, attacked, closed, incident, opened, over, reminder, session, sessions, snapshot,
    started, updated,
};

pub const STYLE: Style<'_> = Style {
    site: "cafe-1",
    page_url: Some("https://watch.example/"),
    time_zone: "Europe/Berlin",
};

/// The embed of a new message, after checking what all new messages share.
pub fn embed(notice: &Notice, style: Style<'_>) -> Value {
    let body = serde_json::to_value(message(notice, style)).unwrap();
    assert_eq!(body["username"], json!(style.site));
    assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
    assert_eq!(body["embeds"].as_array().map(Vec::len), Some(1));
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(3), "{body}");
    body["embeds"][0].clone()
}

fn check(notice: &Notice, want: Value) {
    let got = embed(notice, STYLE);
    assert_eq!(got, want, "got {got:#}");
}

#[test]
fn an_outage() {
    check(
        &opened("a"),
        json!({
            "title": "Router is down",
            "url": "https://watch.example/#network",
            "color": 15158332,
            "fields": [
                { "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "Severity", "value": "High", "inline": true },
                { "name": "PCs in use", "value": "17", "inline": true },
                { "name": "Root cause of", "value": "Server, Internet being out of sight", "inline": false },
                { "name": "Detail", "value": "192.168.1.1\\: timed out", "inline": false },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn an_outage_says_why_a_probe_got_an_unexpected_answer() {
    let reason = |address: &str, why| ProbeReason {
        address: address.into(),
        signal: Signal::Https,
        why,
    };
    let moved = Why::HttpStatus {
        got: 301,
        want: 200,
        redirected_to: None,
    };
    let website = Incident {
        suppressed: Vec::new(),
        detail: Some("192.0.2.1 echo timed out".into()),
        reasons: vec![
            reason("one.example", moved),
            reason("two.example", Why::Certificate(CertificateProblem::Expired)),
        ],
        ..incident("a")
    };
    check(
        &Notice::IncidentOpened {
            incident: website,
            pcs_present: None,
        },
        json!({
            "title": "Router is down",
            "url": "https://watch.example/#network",
            "color": 15158332,
            "fields": [
                { "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "Severity", "value": "High", "inline": true },
                {
                    "name": "Detail",
                    "value": "one.example https\\: status 301 instead of 200, two.example https\\: the certificate has expired, \
                              192.0.2.1 echo timed out",
                    "inline": false
                },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn an_outage_that_was_learnt_late() {
    let late = Incident {
        late: true,
        unmeasured_ms: 125_000,
        suppressed: Vec::new(),
        detail: None,
        ..incident("a")
    };
    check(
        &Notice::IncidentOpened {
            incident: late,
            pcs_present: None,
        },
        json!({
            "title": "Router is down",
            "description": "This is told late: its measurements arrived after it had begun.",
            "url": "https://watch.example/#network",
            "color": 15158332,
            "fields": [
                { "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "Severity", "value": "High", "inline": true },
                { "name": "Not measured", "value": "2m 5s of it", "inline": false },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn an_acknowledged_outage() {
    check(
        &updated("a"),
        json!({
            "title": "Router is down",
            "url": "https://watch.example/#network",
            "color": 16776960,
            "fields": [
                { "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "Severity", "value": "High", "inline": true },
                { "name": "Acknowledged", "value": "by kim, 2026-11-20 14:10:09 CET", "inline": false },
                { "name": "Detail", "value": "192.168.1.1\\: timed out", "inline": false },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

/// What every message of the sample's attack ends with.
fn attack_fields() -> Vec<Value> {
    let field =
        |name: &str, value: &str, inline: bool| json!({ "name": name, "value": value, "inline": inline });
    vec![
        field("Detail", "203.0.113.9 tried 312 ports.", false),
        field(
            "From → to",
            "203.0.113.9\\:40000 → \\[2001\\:db8\\:\\:1\\]\\:22 (tcp)",
            false,
        ),
        field("Peak", "312, threshold 4 (else 15), within 10s", true),
        field("Alerts", "2", true),
        field("Last seen", "2026-11-20 14:05:29 CET", true),
        field("Victims", "192.168.1.1, 2001\\:db8\\:\\:1, 5 more", false),
        field(
            "Reputation",
            "High: 203.0.113.9, called malicious by 6, score -12",
            false,
        ),
        field("Rule", "port\\_scan v2 of default", true),
        field("Seen by", "capture-lan at eth0", true),
        field("Community ID", "1\\:LQU9qZlK+B5F3KDmev6m5PMibrg=", true),
    ]
}

#[test]
fn an_attack_while_it_lasts_and_once_it_is_over() {
    let open = attacked("a", attack());
    let mut fields = vec![
        json!({ "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true }),
        json!({ "name": "Severity", "value": "Critical", "inline": true }),
    ];
    fields.extend(attack_fields());
    check(
        &Notice::IncidentOpened {
            incident: open.clone(),
            pcs_present: None,
        },
        json!({
            "title": "Port scan: 203.0.113.9",
            "url": "https://watch.example/#alerts",
            "color": 15158332,
            "fields": fields,
            "footer": { "text": "cafe-1" },
        }),
    );
    let over = Incident {
        ended_at: Some(at(35)),
        duration_ms: Some(35_000),
        close_reason: Some(CloseReason::Ended),
        ..open.clone()
    };
    let mut fields = vec![
        json!({ "name": "Start", "value": "2026-11-20 14:05:09 CET", "inline": true }),
        json!({ "name": "End", "value": "2026-11-20 14:05:44 CET", "inline": true }),
        json!({ "name": "Duration", "value": "20s", "inline": true }),
    ];
    fields.extend(attack_fields());
    let closed = Notice::IncidentClosed {
        incident: over,
        pcs_present: None,
    };
    check(
        &closed,
        json!({
            "title": "Port scan: 203.0.113.9 is over",
            "url": "https://watch.example/#alerts",
            "color": 3066993,
            "fields": fields,
            "footer": { "text": "cafe-1" },
        }),
    );
    let first = serde_json::to_value(edited(&closed, STYLE)).unwrap();
    assert_eq!(first["embeds"][0]["title"], "Over: Port scan: 203.0.113.9");
    let reminder = Notice::IncidentReminder {
        incident: open,
        open_for_ms: 3_600_000,
    };
    assert_eq!(embed(&reminder, STYLE)["title"], "Port scan: 203.0.113.9 goes on");
}

#[test]
fn what_an_attacker_names_is_no_markup() {
    let name = "[x](https://evil.example)@everyone";
    let mut named = attack();
    named.subject = name.to_owned();
    named.message = format!("{name} was asked for");
    named.victims = vec![name.to_owned()];
    let text = embed(
        &Notice::IncidentOpened {
            incident: attacked("a", named),
            pcs_present: None,
        },
        STYLE,
    )
    .to_string();
    assert!(
        !text.contains("](https") && !text.contains(")@everyone"),
        "markup of foreign making: {text}"
    );
}

#[test]
fn a_reminder() {
    check(
        &reminder("a"),
        json!({
            "title": "Router is still down",
            "url": "https://watch.example/#network",
            "color": 16776960,
            "fields": [
                { "name": "Since", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "For", "value": "1h", "inline": true },
                { "name": "Severity", "value": "High", "inline": true },
                { "name": "Root cause of", "value": "Server, Internet being out of sight", "inline": false },
                { "name": "Detail", "value": "192.168.1.1\\: timed out", "inline": false },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn a_recovery() {
    check(
        &closed("a"),
        json!({
            "title": "Router is back",
            "url": "https://watch.example/#network",
            "color": 3066993,
            "fields": [
                { "name": "Start", "value": "2026-11-20 14:05:09 CET", "inline": true },
                { "name": "End", "value": "2026-11-20 16:20:09 CET", "inline": true },
                { "name": "Duration", "value": "2h 15m", "inline": true },
                { "name": "PCs in use", "value": "17", "inline": true },
                { "name": "Root cause of", "value": "Server, Internet being out of sight", "inline": false },
            ],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn the_first_message_once_it_is_over() {
    let body = serde_json::to_value(edited(&closed("a"), STYLE)).unwrap();
    assert_eq!(
        body,
        json!({
            "embeds": [{
                "title": "Over: Router was down",
                "url": "https://watch.example/#network",
                "color": 3066993,
                "fields": [
                    { "name": "Start", "value": "2026-11-20 14:05:09 CET", "inline": true },
                    { "name": "End", "value": "2026-11-20 16:20:09 CET", "inline": true },
                    { "name": "Duration", "value": "2h 15m", "inline": true },
                    { "name": "Root cause of", "value": "Server, Internet being out of sight", "inline": false },
                ],
                "footer": { "text": "cafe-1" },
            }],
            "allowed_mentions": { "parse": [] },
        })
    );
}

#[test]
fn sessions_that_began() {
    let list = sessions(vec![session("PC-7", None), session("PC_8", None)], 2);
    check(
        &Notice::SessionsStarted { sessions: list },
        json!({
            "title": "New activity: 2 PCs",
            "description": "• **PC-7** since 2026-11-20 14:05:09 CET\n• **PC\\_8** since 2026-11-20 14:05:09 CET",
            "url": "https://watch.example/#occupancy",
            "color": 5763719,
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn a_session_that_ended() {
    let ended = Session {
        unmeasured_ms: 60_000,
        ..session("PC-7", Some(8_100))
    };
    check(
        &Notice::SessionsEnded {
            sessions: sessions(vec![ended], 1),
        },
        json!({
            "title": "Session ended: 1 PC",
            "description": "• **PC-7** 2h 15m (of it 1m not measured), since 2026-11-20 14:05:09 CET, \
                            until 2026-11-20 16:20:09 CET",
            "url": "https://watch.example/#occupancy",
            "color": 15548997,
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn more_pcs_than_are_named_are_counted_with_a_link() {
    check(
        &started(6),
        json!({
            "title": "New activity: 6 PCs",
            "description": "6 between 2026-11-20 14:05:09 CET and 2026-11-20 14:05:39 CET: \
                            [the full list](https://watch.example/#occupancy)",
            "url": "https://watch.example/#occupancy",
            "color": 5763719,
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn a_snapshot() {
    check(
        &snapshot(),
        json!({
            "title": "Hourly snapshot",
            "description": "17/20 PCs in use (85 %)",
            "url": "https://watch.example/#occupancy",
            "color": 3066993,
            "fields": [{ "name": "At", "value": "2026-11-20 15:00:00 CET", "inline": true }],
            "footer": { "text": "cafe-1" },
        }),
    );
}

#[test]
fn a_held_count_is_called_so() {
    let snapshot = OccupancySnapshot {
        at: at(0),
        current: 1,
        total: 2,
        percent: 50,
        frozen: true,
    };
    let got = embed(&Notice::OccupancySnapshot { snapshot }, STYLE);
    assert_eq!(
        got["description"],
        "1/2 PCs in use (50 %)\nThe count is held: the network to the PCs is down."
    );
}

#[test]
fn without_a_page_there_are_no_links_and_an_unknown_zone_is_utc() {
    let style = Style {
        page_url: None,
        time_zone: "Nowhere",
        ..STYLE
    };
    let got = embed(&started(6), style);
    assert_eq!(got.get("url"), None);
    assert_eq!(
        got["description"],
        "6 between 2026-11-20 13:05:09 UTC and 2026-11-20 13:05:39 UTC"
    );
}

#[test]
fn every_class_of_incident_has_its_words() {
    let titles = |class: IncidentClass, subject: &str| -> [String; 4] {
        let incident = Incident {
            class,
            subject: subject.into(),
            ..over("a")
        };
        let notices = [
            Notice::IncidentOpened {
                incident: incident.clone(),
                pcs_present: None,
            },
            Notice::IncidentReminder {
                incident: incident.clone(),
                open_for_ms: 1,
            },
            Notice::IncidentClosed {
                incident,
                pcs_present: None,
            },
        ];
        let over = serde_json::to_value(edited(&notices[2], STYLE)).unwrap()["embeds"][0]["title"].clone();
        let title = |notice: &Notice| embed(notice, STYLE)["title"].as_str().unwrap().to_owned();
        [
            title(&notices[0]),
            title(&notices[1]),
            title(&notices[2]),
            over.as_str().unwrap().to_owned(),
        ]
    };
    assert_eq!(
        titles(IncidentClass::Flapping, "internet"),
        [
            "Internet keeps dropping out",
            "Internet still keeps dropping out",
            "Internet is steady again",
            "Over: Internet kept dropping out"
        ]
    );
    assert_eq!(
        titles(IncidentClass::CollectorSilent, "collector:ping"),
        [
            "Collector ping is silent",
            "Collector ping is still silent",
            "Collector ping is heard again",
            "Over: Collector ping was silent"
        ]
    );
    assert_eq!(
        titles(IncidentClass::MeasurementFault, "pc:10.0.0.7"),
        [
            "PC 10.0.0.7 cannot be measured",
            "PC 10.0.0.7 still cannot be measured",
            "PC 10.0.0.7 is measured again",
            "Over: PC 10.0.0.7 could not be measured"
        ]
    );
    assert_eq!(
        titles(IncidentClass::DeliveryFault, "sink:discord/alerts"),
        [
            "Destination discord/alerts takes no messages",
            "Destination discord/alerts still takes no messages",
            "Destination discord/alerts takes messages again",
            "Over: Destination discord/alerts took no messages"
        ]
    );
    assert_eq!(
        titles(IncidentClass::Parity, "chain:site"),
        [
            "Chain site disagrees with its replay",
            "Chain site still disagrees with its replay",
            "Chain site agrees with its replay again",
            "Over: Chain site disagreed with its replay"
        ]
    );
}

#[test]
fn a_subject_that_was_removed_is_not_called_back() {
    let incident = Incident {
        close_reason: Some(CloseReason::Removed),
        late: true,
        ..over("a")
    };
    let got = embed(
        &Notice::IncidentClosed {
            incident,
            pcs_present: None,
        },
        STYLE,
    );
    assert_eq!(got["title"], "Router is no longer watched");
    assert_eq!(
        got["description"],
        "This is told late: it was over before its measurements arrived, or soon after."
    );
    assert_eq!(
        START.as_seconds() % 60,
        9,
        "the samples begin where their texts say"
    );
}

#[test]
fn a_name_that_discord_refuses_is_left_to_the_webhook() {
    let style = Style {
        site: "Atmosphere",
        ..STYLE
    };
    let body = serde_json::to_value(message(&snapshot(), style)).unwrap();
    assert_eq!(body.get("username"), None);
    assert_eq!(body["embeds"][0]["footer"]["text"], "Atmosphere");
}

#[test]
fn whom_a_flood_is_on_stands_in_its_title() {
    let mut flood = attack();
    flood.rule.title = "SYN flood".to_owned();
    flood.subject = "192.0.2.7".to_owned();
    flood.destination.ip = Some("192.0.2.7".to_owned());
    let notice = Notice::IncidentOpened {
        incident: attacked("a", flood),
        pcs_present: None,
    };
    assert_eq!(embed(&notice, STYLE)["title"], "SYN flood on 192.0.2.7");
}
