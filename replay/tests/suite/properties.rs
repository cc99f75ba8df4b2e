//! Any story, cut anywhere: the same digest.

use proptest::prelude::*;
use watchfold_replay::digest::Digests;
use watchfold_replay::{Under, record};
use watchfold_schemas::Event;

use crate::world::{World, everything, record_as, replay, span};

const SITE: &str = "target router\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 3\nset min_session 20\n\
    set flapping_window 120\nset batch_window 10\nset remind_every 60\nrun 0..300\n";

fn story() -> impl Strategy<Value = String> {
    let subject = prop::sample::select(vec!["router", "internet", "8.8.8.8", "PC-1", "PC-*", "*"]);
    let downs = prop::collection::vec((subject, 0u32..300, 1u32..120), 0..6);
    let steps = prop::collection::vec((0u32..300, -1_000i32..1_000), 0..2);
    let absent = prop::collection::vec((0u32..280, 1u32..60), 0..2);
    (downs, steps, absent).prop_map(|(downs, steps, absent)| {
        let mut text = SITE.to_owned();
        for (subject, from, length) in downs {
            text += &format!("down {subject} {from}.3..{}.3\n", from + length);
        }
        for (at, by) in steps {
            text += &format!("step {at}.5 {by}\n");
        }
        for (from, length) in absent {
            text += &format!("absent {from}.7..{}.7\n", from + length);
        }
        text
    })
}

fn digest<'e>(events: impl IntoIterator<Item = &'e Event>) -> Vec<(String, String, u64)> {
    let mut digests = Digests::default();
    events.into_iter().for_each(|event| digests.add(event).unwrap());
    digests.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replays_agree_and_pieces_are_the_whole(text in story(), cut in 1.0f64..299.0) {
        let world = World::new(&text);
        let live = digest(&world.events);
        let whole = replay(world.data(), everything(), Under::Recorded);
        prop_assert_eq!(&whole.digests, &live);
        prop_assert_eq!(&replay(world.data(), everything(), Under::Recorded).digests, &live);
        // A wall clock that was set back leaves `stored_at` standing still, so a cut may leave one side empty.
        let halves = [span(None, Some(cut)), span(Some(cut), None)];
        let mut pieces = Vec::new();
        for (name, half) in ["first.wfrec", "second.wfrec"].into_iter().zip(halves) {
            let options = watchfold_replay::RecordOptions {
                selection: half,
                out: world.file(name),
                software: "0.1.0".to_owned(),
            };
            if record(world.data(), &options).is_ok() {
                let piece = replay(&world.file(name), everything(), Under::Recorded);
                prop_assert_eq!(&piece.recorded, &piece.events);
                pieces.extend(piece.events);
            }
        }
        prop_assert_eq!(digest(&pieces), live.clone());
        record_as(world.data(), &world.file("whole.wfrec"), everything());
        prop_assert_eq!(replay(&world.file("whole.wfrec"), everything(), Under::Recorded).digests, live);
    }
}
