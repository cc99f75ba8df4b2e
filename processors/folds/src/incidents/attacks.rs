//! Attacks as incidents: what the packet chain found and told in a finding, and what rules on this chain's own rows found.
//!
//! The rule decided already. Here an attack gets what every incident has: reminders, somebody who acknowledges it, an
//! end with its duration. Its times are those of whoever saw it.

use watchfold_schemas::alert::{Attack, AttackStage};
use watchfold_schemas::event::{Causes, CloseReason, EventBody, Incident, IncidentClass};
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Span, Time};

use super::{IncidentsState, OpenIncident, Timer, fresh, open_key, set_if};
use crate::fold::{Ctx, Moment};

/// The most attacks that are open as incidents at a time; what people are told of in one storm has to end somewhere.
/// Further ones stay alerts and attacks in the log, and are counted.
pub const OPEN_ATTACKS_MAX: usize = 1_024;

/// An attack that is open and of which nothing was told for so long on the site's clock is over, and word of its end was
/// lost: those who see attacks tell one that goes on every hour. What is told later opens an incident of its own.
pub const UNHEARD_AFTER_MS: u64 = 24 * 3_600_000;

impl IncidentsState {
    /// Takes word of an attack. What is told twice changes nothing the second time.
    pub(super) fn attack(&mut self, stage: AttackStage, attack: &Attack, causes: Causes, ctx: &mut Ctx<'_>) {
        if attack.state != RuleState::Enforce {
            return;
        }
        let key = open_key(IncidentClass::Attack, &attack.id);
        let is_open = self.open.get(&key).is_some();
        match (stage, self.joined_flood(attack)) {
            (AttackStage::Began, Some(_)) => return,
            (AttackStage::Grew, Some(flood)) => return self.flood_grew(&flood, attack, ctx),
            (AttackStage::Ended, Some(flood)) => return self.flood_left(&flood, attack, ctx),
            (_, None) => {}
        }
        match stage {
            AttackStage::Began | AttackStage::Grew if is_open => self.attack_grew(&key, attack, ctx),
            AttackStage::Began | AttackStage::Grew if self.joins_flood(attack, &causes, ctx) => {}
            AttackStage::Began => self.attack_opened(&key, attack, attack.began_at, causes, ctx),
            AttackStage::Grew => self.attack_opened(&key, attack, attack.last_at, causes, ctx),
            AttackStage::Ended if is_open => self.attack_ended(&key, attack, ctx),
            AttackStage::Ended => {}
        }
    }

    /// A collector that is not expected back says no more that an attack is over.
    pub(super) fn attacks_forgotten(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let seen_by_it = |open: &OpenIncident| {
            let attack = open.incident.attack.as_ref();
            attack.is_some_and(|attack| attack.seen_by.collector == collector)
        };
        let open = self.open.iter().filter(|(_, open)| seen_by_it(open));
        let keys: Vec<String> = open.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.end(&key, CloseReason::Removed, ctx.moment, Span::ZERO, ctx);
        }
        self.floods_forgotten(collector, ctx);
    }

    /// Nothing was told of an attack, or of any attack of a flood, for [`UNHEARD_AFTER_MS`].
    pub(super) fn unheard(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        match self.is_flood(key) {
            true => self.flood_ended(key, CloseReason::Removed, ctx.moment, ctx),
            false => self.end(key, CloseReason::Removed, ctx.moment, Span::ZERO, ctx),
        }
    }

    /// `told_at` tells incidents of one attack apart: word of its beginning was lost, or nobody told of it for a day.
    fn attack_opened(
        &mut self,
        key: &str,
        attack: &Attack,
        told_at: Time,
        causes: Causes,
        ctx: &mut Ctx<'_>,
    ) {
        let open = self
            .open
            .iter()
            .filter(|(_, open)| open.incident.class == IncidentClass::Attack);
        if open.count() >= OPEN_ATTACKS_MAX {
            self.attacks_refused += 1;
            return;
        }
        let class = IncidentClass::Attack;
        let since = Moment {
            at: attack.began_at,
            steady: ctx.moment.steady,
        };
        // Two collectors may see one attack, and each tells its own end: the attack tells them apart.
        let id = Incident::derive_id(&ctx.config.site, class, &attack.id, told_at);
        let subject = format!("{}:{}:{}", class.name(), attack.category, attack.subject);
        let incident = Incident {
            severity: attack.severity,
            detail: Some(attack.message.clone()),
            attack: Some(Box::new(attack.clone())),
            ..fresh(class, id, &subject, since, ctx)
        };
        self.note_alone(attack);
        self.begin(key, incident, since, causes, ctx);
        set_if(ctx, Timer::Unheard, key, UNHEARD_AFTER_MS);
    }

    fn attack_grew(&mut self, key: &str, attack: &Attack, ctx: &mut Ctx<'_>) {
        set_if(ctx, Timer::Unheard, key, UNHEARD_AFTER_MS);
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        let rises = attack.severity > open.incident.severity;
        open.incident.severity = open.incident.severity.max(attack.severity);
        open.incident.detail = Some(attack.message.clone());
        open.incident.attack = Some(Box::new(attack.clone()));
        if !rises {
            return;
        }
        let incident = open.incident.clone();
        let mut causes = open.causes.clone();
        if let Some(message) = ctx.message() {
            causes.push(message);
        }
        ctx.emit_with(
            &incident.id.clone(),
            ctx.moment.at,
            causes,
            EventBody::IncidentEscalated(incident),
        );
    }

    fn attack_ended(&mut self, key: &str, attack: &Attack, ctx: &mut Ctx<'_>) {
        if let Some(open) = self.open.get_mut(key) {
            open.incident.severity = open.incident.severity.max(attack.severity);
            open.incident.detail = Some(attack.message.clone());
            open.incident.attack = Some(Box::new(attack.clone()));
        }
        let until = Moment {
            at: attack.ended_at.unwrap_or(ctx.moment.at),
            steady: ctx.moment.steady,
        };
        self.end(key, CloseReason::Ended, until, Span::ZERO, ctx);
    }
}
