//! Text as another detector's alerts: every line is counted once, and what is read is joined with alerts of ours once.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use watchfold_fuzz::chain::pack;
use watchfold_fuzz::{scratch, story};
use watchfold_replay::peers::{Alerts, hear, is_of_peer};
use watchfold_rules::PackName;
use watchfold_schemas::{Event, Span};

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::file("eve.json", bytes);
    let _either = is_of_peer(path);
    let heard = hear(path).expect("lines that cannot be read are counted");
    assert_eq!(
        heard.lines,
        heard.said.len() as u64 + heard.others + heard.unreadable
    );
    for said in &heard.said {
        assert!(!said.name.contains(char::is_control), "{:?}", said.name);
    }
    let lines = heard.said.len();
    let mut alerts = Alerts::default();
    for event in ours() {
        alerts.add(event).expect("these are few");
    }
    let window = Span::from_seconds(bytes.first().copied().map_or(1, i64::from));
    let joined = alerts.join(heard, window);
    assert_eq!(joined.both.len() + joined.only_theirs.len(), lines);
    let told = joined.to_string();
    let rows = joined.both.len() + joined.only_theirs.len() + joined.only_ours.len();
    assert_eq!(told.lines().count(), rows + 1, "each is one line: {told:?}");
});

fn ours() -> &'static [Event] {
    static OURS: OnceLock<Vec<Event>> = OnceLock::new();
    OURS.get_or_init(|| story::mixed_events(pack(PackName::Classic)))
}
