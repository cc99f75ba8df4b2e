//! What a collector cannot measure, and destinations that take nothing from a sink. Neither turns a target red; lasting,
//! it is an incident of the collector or of the destination.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::Span;
use watchfold_schemas::observation::Fault;

use super::{LivenessState, Timer};
use crate::clocks::COLLECTORS_MAX;
use crate::fold::{Ctx, Fact, Moment};
use crate::timers::TimerClock;

/// The most subjects of one collector whose faults are kept apart; more are counted under the last one's name.
const FAULTY_SUBJECTS_MAX: usize = 4_096;

/// The most subjects that an incident names.
const NAMED_MAX: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectorFaults {
    /// By subject; the collector itself is the empty subject.
    reasons: BTreeMap<String, String>,
    since: Moment,
    confirmed: bool,
}

impl CollectorFaults {
    fn describe(&self) -> String {
        let mut reasons: Vec<&String> = self.reasons.values().collect();
        reasons.sort();
        reasons.dedup();
        let why = reasons
            .iter()
            .take(3)
            .map(|reason| reason.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        let subjects: Vec<&str> = self
            .reasons
            .keys()
            .filter(|name| !name.is_empty())
            .take(NAMED_MAX)
            .map(String::as_str)
            .collect();
        match (subjects.is_empty(), self.reasons.len() > NAMED_MAX) {
            (true, _) => why,
            (false, true) => format!("{} and others: {why}", subjects.join(", ")),
            (false, false) => format!("{}: {why}", subjects.join(", ")),
        }
    }
}

impl LivenessState {
    /// Notes that `subject` cannot be measured, or can again.
    pub(super) fn note_fault(
        &mut self,
        subject: &str,
        active: bool,
        reason: Option<&str>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(collector) = ctx.collector else { return };
        // Each destination is an incident of its own: the others can still notify about it.
        let (collector, subject) = match Fault::is_of_destination(subject) {
            true => (subject, ""),
            false => (collector, subject),
        };
        let known = self
            .faults
            .get(collector)
            .is_some_and(|faults| faults.reasons.contains_key(subject));
        if active == known {
            return;
        }
        if active && self.faults.get(collector).is_none() && self.faults.len() >= COLLECTORS_MAX {
            return;
        }
        let moment = ctx.moment;
        let faults = self.faults.entry_or_default(collector);
        if active {
            if faults.reasons.len() >= FAULTY_SUBJECTS_MAX {
                return;
            }
            if faults.reasons.is_empty() {
                faults.since = moment;
                let limit = Span::from_millis(ctx.config.network.fault_incident_ms as i64);
                let clock = if ctx.clocks.measures(collector) {
                    TimerClock::Collector(collector.to_owned())
                } else {
                    TimerClock::Site
                };
                ctx.set_timer(Timer::FaultDue, collector, clock, moment.steady + limit);
            }
            let faults = self.faults.entry_or_default(collector);
            faults.reasons.insert(
                subject.to_owned(),
                reason.unwrap_or("could not be measured").to_owned(),
            );
            return;
        }
        faults.reasons.remove(subject);
        if faults.reasons.is_empty() {
            self.end_faults(collector, ctx);
        }
    }

    /// Faults of what is no longer watched are over.
    pub(super) fn forget_faults_of_removed(&mut self, ctx: &mut Ctx<'_>) {
        for collector in self.faults.keys() {
            let is_removed = |subject: &String| !subject.is_empty() && !self.targets.contains_key(subject);
            let removed = self
                .faults
                .get(&collector)
                .is_some_and(|faults| faults.reasons.keys().any(is_removed));
            if !removed {
                continue;
            }
            let targets = &self.targets;
            let Some(faults) = self.faults.get_mut(&collector) else {
                continue;
            };
            faults
                .reasons
                .retain(|subject, _| subject.is_empty() || targets.contains_key(subject));
            if faults.reasons.is_empty() {
                self.end_faults(&collector, ctx);
            }
        }
    }

    pub(super) fn end_faults(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        ctx.cancel_timer(Timer::FaultDue, collector);
        if self
            .faults
            .remove(collector)
            .is_some_and(|faults| faults.confirmed)
        {
            ctx.facts.push(Fact::FaultEnded {
                collector: collector.to_owned(),
            });
        }
    }

    pub(super) fn fault_due(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let Some(faults) = self.faults.get_mut(collector) else {
            return;
        };
        faults.confirmed = true;
        let (since, detail) = (faults.since, faults.describe());
        ctx.facts.push(Fact::FaultConfirmed {
            collector: collector.to_owned(),
            since,
            detail,
        });
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::event::{EventBody, Incident, IncidentClass};
    use watchfold_schemas::observation::{Fault, Observation, Tick};
    use watchfold_schemas::{Body, Origin, Time};

    use crate::{SiteChain, StateMachine};

    /// Folds a tick each second, and (second, whether active) faults of a sink; tells incidents.
    fn check(faults: &[(i64, bool)], until_s: i64, want: &[&str]) {
        let faults: Vec<(i64, &str, bool)> = faults.iter().map(|(at, active)| (*at, "", *active)).collect();
        let got = incidents(&faults, until_s);
        let got: Vec<String> = got
            .iter()
            .map(|(second, kind, _)| format!("{second} {kind}"))
            .collect();
        assert_eq!(got, want, "{faults:?}");
    }

    /// Folds a tick each second, and (second, subject, whether active) faults of a sink; returns second, kind and incident
    /// of each event about one.
    fn incidents(faults: &[(i64, &str, bool)], until_s: i64) -> Vec<(i64, &'static str, Incident)> {
        let mut chain = SiteChain::new("cafe-1");
        let mut records = Vec::new();
        for second in 0..=until_s {
            let at = Time::from_seconds(1_000_000 + second);
            let tick = Tick {
                now: at,
                interval_ms: 1_000,
            };
            records.push((second, at, "clock", Body::Tick(tick)));
            for (_, subject, active) in faults.iter().filter(|(of, ..)| *of == second) {
                let fault = Fault {
                    subject: (*subject).to_owned(),
                    at,
                    reason: "the key is refused".to_owned(),
                    active: *active,
                };
                records.push((second, at, "virustotal", Body::Fault(fault)));
            }
        }
        let mut got = Vec::new();
        for (sequence, (second, at, collector, body)) in (1..).zip(records) {
            let observation = Observation {
                v: 1,
                origin: Origin {
                    site: "cafe-1".to_owned(),
                    collector: collector.to_owned(),
                    incarnation: 1,
                    number: sequence,
                },
                observed_at: at,
                through: at,
                body,
            };
            for event in chain.apply(sequence, &observation) {
                if let EventBody::IncidentOpened(incident) | EventBody::IncidentClosed(incident) = &event.body
                {
                    got.push((second, event.body.kind(), incident.clone()));
                }
            }
        }
        got
    }

    #[test]
    fn a_fault_of_a_sink_is_an_incident_once_it_lasts_and_its_silence_is_none() {
        check(&[(10, true)], 69, &[]);
        let told = ["70 incident_opened", "700 incident_closed"];
        check(&[(10, true), (700, false)], 1_500, &told);
        check(&[(10, true), (40, false)], 600, &[]);
    }

    #[test]
    fn each_destination_that_takes_nothing_is_an_incident_of_its_own() {
        let (alerts, occupancy) = ("sink:discord/alerts", "sink:discord/occupancy");
        let faults = [
            (10, alerts, true),
            (20, occupancy, true),
            (300, alerts, false),
            // A fault of the sink itself is another matter.
            (400, "", true),
            (500, occupancy, false),
        ];
        let got = incidents(&faults, 520);
        let told: Vec<(i64, &str, &str)> = got
            .iter()
            .map(|(second, kind, incident)| (*second, *kind, incident.subject.as_str()))
            .collect();
        let want = [
            (70, "incident_opened", alerts),
            (80, "incident_opened", occupancy),
            (300, "incident_closed", alerts),
            (460, "incident_opened", "collector:virustotal"),
            (500, "incident_closed", occupancy),
        ];
        assert_eq!(told, want);
        let (_, _, first) = &got[0];
        assert_eq!(first.class, IncidentClass::DeliveryFault);
        assert_eq!(first.detail.as_deref(), Some("the key is refused"));
        assert_eq!(first.started_at, Time::from_seconds(1_000_010));
    }
}
