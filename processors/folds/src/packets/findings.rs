//! What the packet chain tells the site chain: which of its events become findings.

use watchfold_schemas::alert::{AttackStage, FINDINGS_COLLECTOR, Finding};
use watchfold_schemas::event::{Event, EventBody};
use watchfold_schemas::observation::{Body, OBSERVATION_VERSION, Observation};
use watchfold_schemas::origin::Origin;
use watchfold_schemas::rules::RuleState;

/// Bits of a finding's number that tell the events of one record apart: a record of 4,096 packets makes far fewer.
const INDEX_BITS: u32 = 20;

/// Returns the observation that the site chain gets for an event of the packet chain: for an attack that began, grew or
/// ended by a rule that is enforced, and for nothing else.
///
/// `began_ms` is when the packet chain's state began. Numbers grow within it, so a finding that is published again is
/// recognised.
pub fn finding_of(event: &Event, began_ms: u64) -> Option<Observation> {
    let (stage, attack) = match &event.body {
        EventBody::AttackBegan(attack) => (AttackStage::Began, attack),
        EventBody::AttackGrew(attack) => (AttackStage::Grew, attack),
        EventBody::AttackEnded(attack) => (AttackStage::Ended, attack),
        _ => return None,
    };
    if attack.state != RuleState::Enforce {
        return None;
    }
    let finding = Finding {
        event: event.id.clone(),
        place: event.place,
        stage,
        attack: attack.as_ref().clone(),
    };
    Some(Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: event.site.clone(),
            collector: FINDINGS_COLLECTOR.to_owned(),
            incarnation: began_ms,
            number: event.place.input << INDEX_BITS | u64::from(event.place.index),
        },
        observed_at: event.at,
        through: event.at,
        body: Body::Finding(Box::new(finding)),
    })
}
