//! What Suricata and Zeek write, read and joined with alerts of ours; and bytes that neither wrote.

use proptest::prelude::*;
use watchfold_replay::ReplayError;
use watchfold_replay::peers::{Alerts, Heard, JoinedBy, LINE_BYTES_MAX, Peer, hear, is_of_peer};
use watchfold_schemas::alert::{Alert, Attack, Endpoint, Measured, RuleRef};
use watchfold_schemas::event::{Causes, EVENT_VERSION, Place, Severity};
use watchfold_schemas::origin::{Cause, EventId};
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Event, EventBody, Span, Time};

/// Of 10.0.0.1 port 10 and 10.0.0.2 port 11569 over TCP, without a seed, as the specification has it.
const FLOW: &str = "1:SXBGMX1lBOwhhoDrZynfROxnhnM=";

/// 2026-01-05T08:00:00Z.
const BEGIN: i64 = 1_767_600_000;

const EVE: &str = r#"{"timestamp":"2026-01-05T08:00:05.250000+0000","flow_id":1,"event_type":"alert","src_ip":"10.0.0.2","src_port":11569,"dest_ip":"10.0.0.1","dest_port":10,"proto":"TCP","community_id":"1:SXBGMX1lBOwhhoDrZynfROxnhnM=","alert":{"signature_id":1,"signature":"ET SCAN something","severity":2}}
{"timestamp":"2026-01-05T10:00:05.250000+0200","event_type":"alert","src_ip":"10.0.0.2","src_port":11569,"dest_ip":"10.0.0.1","dest_port":10,"proto":"TCP","alert":{"signature":"without its id"}}
{"timestamp":"2026-01-05T08:00:06.000000+0000","event_type":"flow","src_ip":"10.0.0.2"}
{"event_type":"alert","alert":{"signature":"without a time"}}
"#;

const ZEEK_JSON: &str = r#"{"ts":1767600005.25,"uid":"C1","id.orig_h":"10.0.0.2","id.orig_p":11569,"id.resp_h":"10.0.0.1","id.resp_p":10,"proto":"tcp","note":"Scan::Port_Scan","msg":"m","src":"10.0.0.2","dst":"10.0.0.1"}
{"ts":"2026-01-05T08:00:05.25Z","note":"SSH::Password_Guessing","src":"10.0.0.7"}
{"ts":1767600005.25,"uid":"C2","proto":"tcp"}
"#;

const ZEEK_TABS: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tnotice\n\
    #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tnote\tmsg\tsrc\tdst\n\
    #types\ttime\tstring\taddr\tport\taddr\tport\tenum\tenum\tstring\taddr\taddr\n\
    1767600005.250000\tC1\t10.0.0.2\t11569\t10.0.0.1\t10\ttcp\tScan::Port_Scan\tm\t10.0.0.2\t10.0.0.1\n\
    1767600005.250000\t-\t-\t-\t-\t-\t-\tSSH::Password_Guessing\tm\t10.0.0.7\t-\n\
    short\tline\n#close\t2026-01-05-08-00-06\n";

fn heard(text: impl AsRef<[u8]>) -> Result<Heard, ReplayError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("said");
    std::fs::write(&path, text).unwrap();
    hear(&path)
}

/// (time in milliseconds, peer, name, flow, source)
type Want<'a> = (i64, Peer, &'a str, Option<&'a str>, &'a str);

fn check(text: &str, want: &[Want<'_>], others: u64, unreadable: u64) {
    let heard = heard(text).unwrap();
    let said: Vec<_> = heard
        .said
        .iter()
        .map(|said| {
            let source = said.source.map(|source| source.to_string()).unwrap_or_default();
            let ms = said.at.since(Time::from_seconds(BEGIN)).as_millis();
            (
                ms,
                said.peer,
                said.name.clone(),
                said.community_id.clone(),
                source,
            )
        })
        .collect();
    let want: Vec<_> = want
        .iter()
        .map(|(ms, peer, name, flow, source)| {
            (
                *ms,
                *peer,
                (*name).to_owned(),
                flow.map(str::to_owned),
                (*source).to_owned(),
            )
        })
        .collect();
    assert_eq!(said, want);
    assert_eq!((heard.others, heard.unreadable), (others, unreadable));
}

#[test]
fn each_form_is_read_and_flows_are_computed_where_they_are_not_named() {
    let suricata = Peer::Suricata;
    check(
        EVE,
        &[
            (5_250, suricata, "ET SCAN something", Some(FLOW), "10.0.0.2"),
            (5_250, suricata, "without its id", Some(FLOW), "10.0.0.2"),
        ],
        1,
        1,
    );
    let notices = [
        (5_250, Peer::Zeek, "Scan::Port_Scan", Some(FLOW), "10.0.0.2"),
        (5_250, Peer::Zeek, "SSH::Password_Guessing", None, "10.0.0.7"),
    ];
    check(ZEEK_JSON, &notices, 1, 0);
    check(ZEEK_TABS, &notices, 8, 1);
}

#[test]
fn what_is_no_line_of_theirs_is_counted() {
    check("{\n\u{7}\nnot\ta\tline\n{}\n[]\n", &[], 1, 4);
    let long = format!("{{\"a\":\"{}\"}}\n{EVE}", "x".repeat(LINE_BYTES_MAX + 5));
    let heard = heard(long).unwrap();
    assert_eq!((heard.said.len(), heard.unreadable), (2, 2));
    let name = "n\\n".repeat(1_000);
    let notice = format!("{{\"ts\":1.5,\"note\":\"{name}\"}}");
    let heard = super::peers::heard(notice).unwrap();
    assert!(heard.said[0].name.chars().count() <= 200 && !heard.said[0].name.contains('\n'));
}

#[test]
fn a_byte_order_mark_is_no_part_of_their_first_line_and_utf16_is_named() {
    let is_theirs = |bytes: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("said");
        std::fs::write(&path, bytes).unwrap();
        is_of_peer(&path)
    };
    for text in [EVE, ZEEK_JSON, ZEEK_TABS] {
        let plain = heard(text).unwrap();
        let marked = heard(format!("\u{feff}{text}")).unwrap();
        assert_eq!(format!("{marked:?}"), format!("{plain:?}"));
        assert!(is_theirs(format!("\u{feff}{text}").as_bytes()), "{text}");
    }
    for unit in [u16::to_le_bytes, u16::to_be_bytes] {
        let bytes: Vec<u8> = format!("\u{feff}{EVE}").encode_utf16().flat_map(unit).collect();
        assert!(is_theirs(&bytes));
        let error = heard(&bytes).unwrap_err().to_string();
        assert!(error.contains("UTF-16; save the file as UTF-8"), "{error}");
    }
}

#[test]
fn their_files_are_told_from_configurations() {
    let directory = tempfile::tempdir().unwrap();
    for (text, want) in [
        (EVE, true),
        (ZEEK_TABS, true),
        ("site = \"cafe-1\"\n", false),
        ("# a comment\n", false),
        ("", false),
    ] {
        let path = directory.path().join("file");
        std::fs::write(&path, text).unwrap();
        assert_eq!(is_of_peer(&path), want, "{text}");
    }
}

fn event(at_ms: i64, body: EventBody) -> Event {
    let cause = Cause::Packet {
        collector: "capture-file".to_owned(),
        incarnation: 1,
        packet: 7,
    };
    Event {
        v: EVENT_VERSION,
        id: EventId(format!("event-{at_ms}")),
        site: "capture".to_owned(),
        chain: Chain::Packets,
        at: Time::from_seconds(BEGIN) + Span::from_millis(at_ms),
        key: String::new(),
        cause,
        n: 0,
        place: Place::default(),
        causes: Causes::default(),
        body,
    }
}

fn alert(at_ms: i64, flow: Option<&str>, source: &str, destination: Option<&str>) -> Event {
    let end = |ip: Option<&str>| Endpoint {
        ip: ip.map(str::to_owned),
        ..Endpoint::default()
    };
    let alert = Alert {
        rule: RuleRef {
            name: "port_scan".to_owned(),
            ..RuleRef::default()
        },
        category: "port_scan".to_owned(),
        severity: Severity::High,
        state: RuleState::Enforce,
        attack: format!("attack-{at_ms}"),
        subject: source.to_owned(),
        source: end(Some(source)),
        destination: end(destination),
        transport: "tcp".to_owned(),
        community_id: flow.map(str::to_owned),
        measured: Measured {
            window_ms: 10_000,
            ..Measured::default()
        },
        reputation: None,
        seen_by: Default::default(),
        message: String::new(),
        facts: Vec::new(),
    };
    event(at_ms, EventBody::AlertRaised(Box::new(alert)))
}

fn joined(events: &[Event], text: &str, window_s: i64) -> watchfold_replay::peers::Joined {
    let mut alerts = Alerts::default();
    events.iter().try_for_each(|event| alerts.add(event)).unwrap();
    alerts.join(heard(text).unwrap(), Span::from_seconds(window_s))
}

#[test]
fn one_flow_at_one_time_is_seen_by_both() {
    // A flow of both; another flow between the same two; somebody else.
    let ours = [
        alert(6_000, Some(FLOW), "10.0.0.2", Some("10.0.0.1")),
        alert(8_000, Some("1:other"), "10.0.0.7", Some("10.0.0.8")),
        alert(9_000, Some("1:nobody's"), "10.0.0.50", Some("10.0.0.51")),
    ];
    let found = joined(&ours, ZEEK_JSON, 60);
    let pairs: Vec<_> = found
        .both
        .iter()
        .map(|pair| (pair.theirs.name.as_str(), pair.ours.event.0.as_str(), pair.by))
        .collect();
    assert_eq!(
        pairs,
        [
            ("Scan::Port_Scan", "event-6000", JoinedBy::CommunityId),
            ("SSH::Password_Guessing", "event-8000", JoinedBy::Addresses),
        ]
    );
    assert_eq!(found.only_ours.len(), 1);
    assert_eq!(found.only_ours[0].event.0, "event-9000");
    assert!(found.only_theirs.is_empty() && !found.is_same());
    let text = found.to_string();
    assert!(
        text.ends_with("2 seen by both, 1 by Watchfold alone, 0 by the other alone"),
        "{text}"
    );
}

#[test]
fn what_is_further_apart_is_not_the_same() {
    // Ten seconds of window before the alert belong to it; 5.25 s is 84.75 s before 100 s less these.
    for (at_ms, window_s, both) in [
        (15_250, 0, true),
        (15_251, 0, false),
        (75_250, 60, true),
        (75_251, 60, false),
        (-54_750, 60, true),
        (-54_751, 60, false),
    ] {
        let ours = [alert(at_ms, Some(FLOW), "10.0.0.2", Some("10.0.0.1"))];
        let said = EVE.lines().next().unwrap();
        let found = joined(&ours, said, window_s);
        assert_eq!(found.both.len() == 1, both, "{at_ms} {window_s}");
        assert_eq!(found.is_same(), both);
    }
    // An attack reaches to when its condition last held.
    let ours = alert(1_000, Some(FLOW), "10.0.0.2", Some("10.0.0.1"));
    let EventBody::AlertRaised(body) = &ours.body else {
        unreachable!()
    };
    let at = |ms| Time::from_seconds(BEGIN) + Span::from_millis(ms);
    let attack = Attack {
        id: body.attack.clone(),
        rule: body.rule.clone(),
        category: body.category.clone(),
        severity: body.severity,
        state: body.state,
        subject: body.subject.clone(),
        source: body.source.clone(),
        destination: body.destination.clone(),
        transport: body.transport.clone(),
        community_id: body.community_id.clone(),
        began_at: at(1_000),
        last_at: at(5_250),
        ended_at: Some(at(5_250)),
        peak: body.measured,
        peak_at: at(1_000),
        alerts: 1,
        matches: 9,
        victims: Vec::new(),
        victims_total: 0,
        reputation: None,
        seen_by: body.seen_by.clone(),
        message: String::new(),
    };
    let said = EVE.lines().next().unwrap();
    assert!(!joined(std::slice::from_ref(&ours), said, 0).is_same());
    let ended = event(65_250, EventBody::AttackEnded(Box::new(attack)));
    assert!(joined(&[ours, ended], said, 0).is_same());
}

#[test]
fn another_destination_is_another_thing() {
    let ours = [alert(6_000, Some("1:other"), "10.0.0.2", Some("10.0.0.99"))];
    let found = joined(&ours, EVE.lines().next().unwrap(), 60);
    assert_eq!(
        (found.both.len(), found.only_ours.len(), found.only_theirs.len()),
        (0, 1, 1)
    );
    // The same two the other way round.
    let ours = [alert(6_000, Some("1:other"), "10.0.0.1", Some("10.0.0.2"))];
    let found = joined(&ours, EVE.lines().next().unwrap(), 60);
    assert_eq!(found.both[0].by, JoinedBy::Addresses);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        // What is surely no text is refused by its name.
        if let Err(error) = heard(&bytes) {
            let error = error.to_string();
            prop_assert!(error.contains("save the file as UTF-8") || error.contains("unpack it"), "{}", error);
        }
    }

    #[test]
    fn lines_that_were_changed_never_panic(at in 0..2_000_usize, byte in any::<u8>(), which in 0..3_usize) {
        let mut text = [EVE, ZEEK_JSON, ZEEK_TABS][which].as_bytes().to_vec();
        let length = text.len();
        text[at % length] = byte;
        let heard = heard(&text).unwrap();
        prop_assert!(heard.said.len() <= 3);
        let alerts = Alerts::default();
        let joined = alerts.join(heard, Span::from_seconds(60));
        prop_assert!(!joined.to_string().is_empty());
    }
}
