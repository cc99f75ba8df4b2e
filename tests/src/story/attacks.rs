//! Findings as the packet chain tells them: one when an attack begins, one when its severity rises, one when it ends.

use watchfold_schemas::alert::{
    Attack, AttackStage, Endpoint, Finding, Measured, PacketRanges, RuleRef, SeenBy,
};
use watchfold_schemas::event::{Place, Severity};
use watchfold_schemas::origin::EventId;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Body, Time};

use super::parse::{Story, StoryAttack};

/// Who captured it.
const COLLECTOR: &str = "capture-lan";

/// When something is told of an attack, in seconds, and what.
pub fn stages(attack: &StoryAttack) -> Vec<(f64, AttackStage)> {
    let (from, to) = attack.span;
    let grown = attack.grows.map(|at| (at, AttackStage::Grew));
    [
        Some((from, AttackStage::Began)),
        grown,
        Some((to, AttackStage::Ended)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The id of an attack that began then.
pub fn attack_id(site: &str, told: &StoryAttack, began_at: Time) -> String {
    Attack::derive_id(site, COLLECTOR, &told.category, &told.subject, began_at)
}

/// What is told of it at `at`; `input` is the record that it came from.
pub fn finding(
    story: &Story,
    told: &StoryAttack,
    stage: AttackStage,
    input: u64,
    (began_at, at): (Time, Time),
) -> Body {
    let site = &story.config.site;
    let critical = told.grows.is_some() && stage != AttackStage::Began;
    let endpoint = |ip: &str| Endpoint {
        ip: Some(ip.to_owned()),
        ..Endpoint::default()
    };
    let attack = Attack {
        id: attack_id(site, told, began_at),
        rule: RuleRef {
            id: told.category.clone(),
            name: told.category.clone(),
            title: told.category.replace('_', " "),
            version: 1,
            set: "story".to_owned(),
        },
        category: told.category.clone(),
        severity: if critical {
            Severity::Critical
        } else {
            Severity::High
        },
        state: RuleState::Enforce,
        subject: told.subject.clone(),
        source: endpoint(&told.subject),
        destination: endpoint("192.168.1.2"),
        transport: "tcp".to_owned(),
        community_id: None,
        began_at,
        last_at: at,
        ended_at: (stage == AttackStage::Ended).then_some(at),
        peak: Measured {
            observed: 15,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        },
        peak_at: began_at,
        alerts: 1,
        matches: 15,
        victims: vec!["192.168.1.2".to_owned()],
        victims_total: 1,
        reputation: None,
        seen_by: SeenBy {
            collector: COLLECTOR.to_owned(),
            incarnation: 1,
            interface: "lan0".to_owned(),
            vlans: Vec::new(),
            packets: PacketRanges {
                ranges: vec![(1, 15)],
                total: 15,
            },
        },
        message: format!("{} tried 15 ports of 192.168.1.2", told.subject),
    };
    Body::Finding(Box::new(Finding {
        event: EventId(format!("{input:032x}")),
        place: Place { input, index: 0 },
        stage,
        attack,
    }))
}
