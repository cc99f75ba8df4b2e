//! Whatever a notice holds, the message is one that Discord takes.

use proptest::prelude::*;
use watchfold_discord::digest;
use watchfold_discord::render::{Style, edited, message};
use watchfold_discord::testing::first_fault;
use watchfold_schemas::Time;
use watchfold_schemas::alert::Attack;
use watchfold_schemas::event::{Incident, Notice, Session, SessionList};

use crate::sample::{attack, over, session};

/// Texts of every length, with what is markup, what is long in one count and short in another, and what is nothing.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a".to_owned()),
        Just("*_`|\\".to_owned()),
        Just("🦞".to_owned()),
        Just("@everyone ".to_owned()),
        Just("\u{202e}\u{200b}\n\t ".to_owned()),
        Just("](https://evil.example)".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    let length = prop_oneof![Just(0..3_usize), Just(3..40), Just(200..300), Just(1_000..2_000)];
    length.prop_flat_map(move |length| {
        prop::collection::vec(piece.clone(), length).prop_map(|parts| parts.concat())
    })
}

fn attacked() -> impl Strategy<Value = Attack> {
    let names = prop::collection::vec(text(), 0..30);
    (text(), text(), names, any::<(u64, u64, u16)>()).prop_map(
        |(subject, message, victims, (count, window_ms, port))| {
            let mut attack = attack();
            attack.rule.title = message.clone();
            attack.rule.set = subject.clone();
            attack.source.ip = Some(subject.clone());
            attack.destination.port = Some(port);
            attack.transport = message.clone();
            attack.community_id = Some(message.clone());
            attack.seen_by.interface = message.clone();
            attack.victims = victims;
            (attack.victims_total, attack.peak.observed) = (count, count);
            attack.peak.window_ms = window_ms;
            attack.subject = subject;
            attack.message = message;
            attack
        },
    )
}

fn incident() -> impl Strategy<Value = Incident> {
    let names = prop::collection::vec(text(), 0..30);
    (
        text(),
        text(),
        text(),
        names,
        any::<i64>(),
        any::<u64>(),
        any::<bool>(),
        prop::option::of(attacked()),
    )
        .prop_map(
            |(subject, detail, by, suppressed, started_at, duration_ms, late, attack)| Incident {
                attack: attack.map(Box::new),
                subject,
                detail: Some(detail),
                acknowledged_by: Some(by),
                acknowledged_at: Some(Time(started_at)),
                suppressed,
                started_at: Time(started_at),
                duration_ms: Some(duration_ms),
                unmeasured_ms: duration_ms,
                late,
                ..over("a")
            },
        )
}

fn sessions() -> impl Strategy<Value = SessionList> {
    (prop::collection::vec(text(), 0..80), any::<u32>()).prop_map(|(names, total)| SessionList {
        named: names
            .iter()
            .map(|name| session(name, Some(60)))
            .collect::<Vec<Session>>(),
        total,
        from: Time::EPOCH,
        to: Time::EPOCH,
    })
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (incident(), any::<Option<u32>>()).prop_map(|(incident, pcs_present)| Notice::IncidentOpened {
            incident,
            pcs_present
        }),
        incident().prop_map(|incident| Notice::IncidentUpdated { incident }),
        (incident(), any::<u64>()).prop_map(|(incident, open_for_ms)| Notice::IncidentReminder {
            incident,
            open_for_ms
        }),
        (incident(), any::<Option<u32>>()).prop_map(|(incident, pcs_present)| Notice::IncidentClosed {
            incident,
            pcs_present
        }),
        sessions().prop_map(|sessions| Notice::SessionsStarted { sessions }),
        sessions().prop_map(|sessions| Notice::SessionsEnded { sessions }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_notice_is_within_all_limits_and_mentions_nobody(notice in notice(), site in text(), zone in text()) {
        let style = Style { site: &site, page_url: Some("https://watch.example"), time_zone: &zone };
        let many = vec![notice.clone(); 11];
        for message in [message(&notice, style), edited(&notice, style), digest::message(&many, style)] {
            let body = serde_json::to_value(message).unwrap();
            prop_assert_eq!(first_fault(&body), None);
            prop_assert_eq!(&body["allowed_mentions"]["parse"], &serde_json::json!([]));
            // A footer shows its text as it is; everywhere else Discord would read markup.
            let mut embed = body["embeds"][0].clone();
            embed["footer"] = serde_json::Value::Null;
            let text = embed.to_string();
            prop_assert!(!text.contains("](https://evil"), "foreign text became a link: {}", text);
        }
    }
}

#[test]
fn a_site_name_of_invisible_characters_is_no_sender_name() {
    let notice = Notice::SessionsStarted {
        sessions: SessionList {
            named: Vec::new(),
            total: 0,
            from: Time::EPOCH,
            to: Time::EPOCH,
        },
    };
    let style = Style {
        site: "\u{202e}\u{200b}",
        page_url: None,
        time_zone: "UTC",
    };
    assert_eq!(message(&notice, style).username, None);
}

#[test]
fn the_server_of_the_tests_enforces_the_limits() {
    let field = |name: usize, value: usize| serde_json::json!({ "name": "n".repeat(name), "value": "v".repeat(value) });
    let embed = |embed: serde_json::Value| serde_json::json!({ "embeds": [embed] });
    for (body, want) in [
        (serde_json::json!({ "content": "c".repeat(2_000) }), None),
        (
            serde_json::json!({ "content": "c".repeat(2_001) }),
            Some("content"),
        ),
        (serde_json::json!({}), Some("content")),
        (embed(serde_json::json!({ "title": "t".repeat(256) })), None),
        (
            embed(serde_json::json!({ "title": "t".repeat(257) })),
            Some("embeds.0.title"),
        ),
        (
            embed(serde_json::json!({ "description": "d".repeat(4_097) })),
            Some("embeds.0.description"),
        ),
        (
            embed(serde_json::json!({ "footer": { "text": "f".repeat(2_049) } })),
            Some("embeds.0.footer.text"),
        ),
        (
            embed(serde_json::json!({ "author": { "name": "a".repeat(257) } })),
            Some("embeds.0.author.name"),
        ),
        (
            embed(serde_json::json!({ "fields": vec![field(1, 1); 25] })),
            None,
        ),
        (
            embed(serde_json::json!({ "fields": vec![field(1, 1); 26] })),
            Some("embeds.0.fields"),
        ),
        (
            embed(serde_json::json!({ "fields": [field(257, 1)] })),
            Some("embeds.0.fields.0.name"),
        ),
        (
            embed(serde_json::json!({ "fields": [field(1, 1_025)] })),
            Some("embeds.0.fields.0.value"),
        ),
        (
            embed(serde_json::json!({ "fields": [field(1, 0)] })),
            Some("embeds.0.fields.0.value"),
        ),
        (
            embed(serde_json::json!({ "fields": vec![field(200, 1_000); 5] })),
            None,
        ),
        (
            embed(serde_json::json!({ "title": "t", "fields": vec![field(200, 1_000); 5] })),
            Some("embeds"),
        ),
        (
            embed(serde_json::json!({ "title": "t", "url": "evil" })),
            Some("embeds.0.url"),
        ),
        (
            serde_json::json!({ "embeds": vec![serde_json::json!({ "title": "t" }); 11] }),
            Some("embeds"),
        ),
        (
            serde_json::json!({ "username": "My discord", "content": "c" }),
            Some("username"),
        ),
    ] {
        assert_eq!(
            first_fault(&body).map(|(path, _)| path).as_deref(),
            want,
            "{body}"
        );
    }
}
