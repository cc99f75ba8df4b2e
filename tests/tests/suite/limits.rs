//! A named limit that is reached shows: nothing is dropped without a word.

use watchfold_folds::{SiteChain, StateMachine};
use watchfold_schemas::event::EventBody;
use watchfold_schemas::observation::{Act, Body, OBSERVATION_VERSION, OperatorAct};
use watchfold_schemas::{Observation, Origin, Span};
use watchfold_tests::story::BEGIN;

/// As many mutes as `processors/folds/src/notify.rs` holds at a time.
const SILENCES_MAX: u64 = 256;

#[test]
fn one_mute_too_many_is_told_as_not_active() {
    let mut chain = SiteChain::new("cafe-1");
    for number in 1..=SILENCES_MAX + 1 {
        let act = Act::Mute {
            subject: format!("target-{number}"),
            until: BEGIN + Span::from_seconds(3_600),
        };
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: "cafe-1".into(),
                collector: "operator".into(),
                incarnation: 1,
                number,
            },
            observed_at: BEGIN,
            through: BEGIN,
            body: Body::Operator(OperatorAct {
                at: BEGIN,
                who: "ada".into(),
                act,
                note: None,
            }),
        };
        let events = chain.apply(number, &observation);
        let [event] = events.as_slice() else {
            panic!("{events:?}")
        };
        let EventBody::SilenceChanged(silence) = &event.body else {
            panic!("{event:?}")
        };
        assert_eq!(silence.active, number <= SILENCES_MAX, "mute {number}");
    }
}
