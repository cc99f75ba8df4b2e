//! Generated days of one site, as its collectors would have recorded them: 23 addresses probed together each 2 s and
//! a tick each second, with people who come and go and outages of every kind.
//!
//! Pure: the same for the same length. It holds one round at a time.

use std::collections::VecDeque;

use watchfold_schemas::config::{OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, Target};
use watchfold_schemas::observation::{
    Activation, OBSERVATION_VERSION, Outcome, PC_SUBJECT_PREFIX, PingRound, Tick,
};
use watchfold_schemas::{Body, Observation, Origin, SiteConfig, Span, Texts, Time};

use crate::demo::plan::{Outline, PCS, Plan};
use crate::demo::random::Random;

pub const SITE: &str = "bench";

/// The first moment: 2026-01-01.
pub const START: Time = Time::from_seconds(1_767_225_600);

pub const DAY_S: i64 = 24 * 3_600;

/// The distance of rounds.
const ROUND_S: i64 = 2;

/// Where in its two seconds a round begins, over how long it is spread, and how long the last answer may take.
const ROUND_AT: Span = Span::from_millis(40);
const SWEEP_US: u32 = 500_000;
const TIMEOUT: Span = Span::from_millis(1_000);

/// One in this many echoes of something that answers is lost.
const LOSS: u64 = 3_000;

const INCARNATION: u64 = 1;

const TARGETS: [(&str, &str); 3] = [
    ("router", "192.168.10.1"),
    ("server", "192.168.10.5"),
    ("internet", "8.8.8.8"),
];

/// The results of one round.
pub const ADDRESSES: usize = TARGETS.len() + PCS;

/// Days one after another, without an end.
pub struct Month {
    plan: Plan,
    random: Random,
    /// Seconds since [`START`].
    second: i64,
    round: u64,
    clock_number: u64,
    subjects: Texts,
    addresses: Texts,
    ready: VecDeque<Observation>,
}

impl Month {
    pub fn new() -> Month {
        let pcs = || (0..PCS).map(address_of);
        let targets = TARGETS.iter();
        let mut month = Month {
            plan: plan_of(0),
            random: Random::new(0, "bench"),
            second: 0,
            round: 0,
            clock_number: 0,
            subjects: targets
                .clone()
                .map(|(name, _)| (*name).to_owned())
                .chain(pcs().map(|address| format!("{PC_SUBJECT_PREFIX}{address}")))
                .collect(),
            addresses: targets
                .map(|(_, address)| (*address).to_owned())
                .chain(pcs())
                .collect(),
            ready: VecDeque::new(),
        };
        month.activate();
        month
    }

    /// Goes on by one round.
    fn step(&mut self) {
        let of_day = self.second % DAY_S;
        if of_day == 0 {
            self.plan = plan_of(self.second / DAY_S);
        }
        let base = START + Span::from_seconds(self.second);
        self.tick(base);
        self.tick(base + Span::from_seconds(1));
        if !self.plan.silence.contains(of_day) {
            self.probe(base + ROUND_AT, of_day);
        }
        self.second += ROUND_S;
    }

    fn activate(&mut self) {
        let config = config();
        let activation = Activation {
            at: START,
            hash: config.hash(),
            config,
            software: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let body = Body::Activation(Box::new(activation));
        self.push("config", 1, START, body);
    }

    fn tick(&mut self, now: Time) {
        self.clock_number += 1;
        let tick = Tick {
            now,
            interval_ms: 1_000,
        };
        self.push("clock", self.clock_number, now, Body::Tick(tick));
    }

    fn probe(&mut self, base: Time, second: i64) {
        let mut round = PingRound {
            round: self.round,
            attempt: 1,
            base,
            subjects: self.subjects.clone(),
            addresses: self.addresses.clone(),
            ..PingRound::default()
        };
        for row in 0..ADDRESSES {
            let answers = self.answers(row, second) && !self.random.once_in(LOSS);
            let rtt_us = self.rtt_us(row);
            let outcome = if answers { Outcome::Ok } else { Outcome::TimedOut };
            round.signals.push(Signal::Echo.code());
            round.outcomes.push(outcome.code());
            round.at_us.push(SWEEP_US / ADDRESSES as u32 * row as u32);
            round.rtt_us_plus_1.push(if answers { rtt_us + 1 } else { 0 });
        }
        self.round += 1;
        let known = base + Span::from_millis(i64::from(SWEEP_US) / 1_000) + TIMEOUT;
        self.push("ping", self.round, known, Body::PingRound(round));
    }

    fn answers(&self, row: usize, second: i64) -> bool {
        let plan = &self.plan;
        !plan.router.contains(second)
            && match row {
                0 => true,
                1 => !plan.drops.iter().any(|drop| drop.contains(second)),
                2 => !plan.isp.contains(second) && !plan.hiccup.contains(second),
                row => plan.present(row - TARGETS.len(), second),
            }
    }

    fn rtt_us(&mut self, row: usize) -> u32 {
        let (base, most) = match row {
            0 => (340, 900),
            1 => (260, 500),
            2 => (9_200, 4_000),
            _ => (190, 600),
        };
        base + self.random.skewed(most) as u32
    }

    fn push(&mut self, collector: &str, number: u64, at: Time, body: Body) {
        self.ready.push_back(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: SITE.to_owned(),
                collector: collector.to_owned(),
                incarnation: INCARNATION,
                number,
            },
            observed_at: at,
            through: at,
            body,
        });
    }
}

impl Iterator for Month {
    type Item = Observation;

    /// Never `None`: after a day comes the next.
    fn next(&mut self) -> Option<Observation> {
        while self.ready.is_empty() {
            self.step();
        }
        self.ready.pop_front()
    }
}

fn plan_of(day: i64) -> Plan {
    Plan::new(&Outline::DAY, day.unsigned_abs())
}

fn config() -> SiteConfig {
    let target = |(index, (name, address)): (usize, &(&str, &str))| Target {
        name: (*name).to_owned(),
        probes: vec![ProbeSpec {
            address: (*address).to_owned(),
            signals: vec![SignalSpec::Echo],
        }],
        quorum: 1,
        interval_ms: ROUND_S as u64 * 1_000,
        timeout_ms: TIMEOUT.as_millis() as u64,
        depends_on: (index > 0).then(|| TARGETS[0].0.to_owned()).into_iter().collect(),
    };
    let host = |pc: usize| PcHost {
        address: address_of(pc),
        mac: None,
        name: format!("PC-{:02}", pc + 1),
    };
    let mut config = SiteConfig {
        site: SITE.to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        ..SiteConfig::default()
    };
    config.network.targets = TARGETS.iter().enumerate().map(target).collect();
    config.occupancy = OccupancyConfig {
        hosts: (0..PCS).map(host).collect(),
        interval_ms: ROUND_S as u64 * 1_000,
        timeout_ms: TIMEOUT.as_millis() as u64,
        depends_on: vec![TARGETS[0].0.to_owned()],
        ..OccupancyConfig::default()
    };
    config
}

fn address_of(pc: usize) -> String {
    format!("192.168.10.{}", 101 + pc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_every_address_and_columns_that_agree() {
        let rounds = Month::new()
            .take(100_000)
            .filter_map(|observation| match observation.body {
                Body::PingRound(round) => Some(round),
                _ => None,
            });
        let mut count = 0;
        for round in rounds {
            assert_eq!(round.rows().unwrap().len(), ADDRESSES);
            count += 1;
        }
        assert!(count > 30_000, "{count}");
    }
}
