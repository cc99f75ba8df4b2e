//! A café's days as its collectors would have recorded them: observations in the order of the log, for ever.
//!
//! Pure and without a clock: what comes follows from the first moment, the seed and the outline. It holds the
//! records of a few seconds at a time, however many days it runs.

use std::collections::VecDeque;

use watchfold_schemas::config::Signal;
use watchfold_schemas::observation::{
    Activation, OBSERVATION_VERSION, Outcome, PC_SUBJECT_PREFIX, PingRound, PingRow, Tick,
};
use watchfold_schemas::{Body, Observation, Origin, SiteConfig, Span, Time};

use super::cafe::{ECHOLESS, PROBES, RETRY_DELAY, ROUND_S, SITE, TIMEOUT, WIRELESS_FROM, address_of, config};
use super::plan::{Outline, PCS, Plan};
use super::random::Random;

/// A collector that has nothing to say says so this often.
const QUIET_EVERY: Span = Span::from_millis(1_000);
/// Where in a second ticks and rounds fall. The clock starts first, as in `watchfold up`.
const TICK_AT: Span = Span::from_millis(5);
const ROUND_AT: Span = Span::from_millis(40);
/// A sweep of PCs is spread over this; who is silent is then looked for among the neighbours for a while.
const SWEEP: Span = Span::from_millis(500);
const NEIGHBOUR_WAIT: Span = Span::from_millis(300);

/// One in this many echoes of a target or PC that answers is lost.
const TARGET_LOSS: u64 = 2_500;
const PC_LOSS: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    Config,
    Clock,
    Ping,
}

impl Collector {
    const fn name(self) -> &'static str {
        match self {
            Collector::Config => "config",
            Collector::Clock => "clock",
            Collector::Ping => "ping",
        }
    }
}

/// Where a collector's numbers stand.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    incarnation: u64,
    last: u64,
}

/// A record that a collector has begun and not yet sent.
struct Coming {
    collector: Collector,
    begun: Time,
    at: Time,
    body: Body,
}

/// Days one after another.
pub struct Days {
    outline: Outline,
    seed: u64,
    config: SiteConfig,
    plan: Plan,
    /// The first moment of the day.
    start: Time,
    second: i64,
    random: Random,
    numbers: [Numbers; 3],
    round: u64,
    coming: Vec<Coming>,
    ready: VecDeque<Observation>,
    /// Who answered in the last round.
    seen: [bool; PCS],
    /// Whose echo was lost in the last round: never twice in a row.
    lost: [bool; PROBES.len()],
    last_ping: Time,
}

impl Days {
    pub fn new(start: Time, seed: u64, outline: Outline) -> Days {
        let born = Numbers {
            incarnation: incarnation_at(start),
            last: 0,
        };
        Days {
            outline,
            seed,
            config: config(),
            plan: Plan::new(&outline, seed),
            start,
            second: 0,
            random: Random::new(seed, "measurements"),
            numbers: [born; 3],
            round: 0,
            coming: Vec::new(),
            ready: VecDeque::new(),
            seen: [false; PCS],
            lost: [false; PROBES.len()],
            last_ping: start,
        }
    }

    /// Whether the café is closed where the generator stands.
    pub fn is_night(&self) -> bool {
        self.plan.is_night(self.second)
    }

    /// Goes on by one round.
    fn step(&mut self) {
        if self.second >= self.plan.length_s {
            self.start = self.start + Span::from_seconds(self.plan.length_s);
            self.second = 0;
            self.seed = self.seed.wrapping_add(1);
            self.plan = Plan::new(&self.outline, self.seed);
            self.random = Random::new(self.seed, "measurements");
        }
        let at = self.at(self.second);
        if self.second == 0 {
            self.activate(at);
        }
        for second in 0..ROUND_S {
            self.tick(at + Span::from_seconds(second) + TICK_AT);
        }
        let silence = self.plan.silence;
        if self.second == silence.from_s {
            // The process is gone, with all that it had not sent.
            self.coming.retain(|coming| coming.collector != Collector::Ping);
        }
        if self.second == silence.until_s {
            self.restart_ping(at);
        }
        if !silence.contains(self.second) {
            self.round += 1;
            self.targets(at + ROUND_AT);
            self.pcs(at + ROUND_AT);
        }
        self.second += ROUND_S;
        self.release(self.at(self.second), silence.contains(self.second - ROUND_S));
    }

    fn at(&self, second: i64) -> Time {
        self.start + Span::from_seconds(second)
    }

    fn second_of(&self, at: Time) -> i64 {
        at.since(self.start).0 / Span::from_seconds(1).0
    }

    fn activate(&mut self, at: Time) {
        let activation = Activation {
            at,
            hash: self.config.hash(),
            config: self.config.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.come(Collector::Config, at, at, Body::Activation(Box::new(activation)));
    }

    fn tick(&mut self, now: Time) {
        let tick = Tick {
            now,
            interval_ms: 1_000,
        };
        self.come(Collector::Clock, now, now, Body::Tick(tick));
    }

    fn restart_ping(&mut self, at: Time) {
        self.numbers[Collector::Ping as usize] = Numbers {
            incarnation: incarnation_at(at),
            last: 0,
        };
        self.round = 0;
        self.seen = [false; PCS];
        self.last_ping = at;
    }

    /// All targets at once; who fails is asked again.
    fn targets(&mut self, begun: Time) {
        let load = self.load();
        let (mut rows, mut again) = (Vec::new(), Vec::new());
        let mut sent = begun;
        for probe in 0..PROBES.len() {
            let lost = self.loses(probe);
            // One packet after another, those of one target as good as together.
            let at = begun + Span::from_millis(probe.min(2) as i64);
            let row = self.target_row(probe, at, lost, load);
            sent = sent.max(row.at + answered_after(&row));
            if row.outcome != Outcome::Ok {
                again.push((probe, row.at + TIMEOUT + RETRY_DELAY));
            }
            rows.push(row);
        }
        let body = Body::PingRound(PingRound::from_rows(self.round, 1, rows));
        self.come(Collector::Ping, begun, sent, body);
        if let Some((_, begun)) = again.first().copied() {
            let rows: Vec<PingRow> = again
                .into_iter()
                .map(|(probe, at)| self.target_row(probe, at, false, load))
                .collect();
            let sent = rows.iter().map(|row| row.at + answered_after(row)).max();
            let body = Body::PingRound(PingRound::from_rows(self.round, 2, rows));
            self.come(Collector::Ping, begun, sent.unwrap_or(begun), body);
        }
    }

    fn target_row(&mut self, probe: usize, at: Time, lost: bool, load: u64) -> PingRow {
        let (subject, address) = PROBES[probe];
        let answers = !lost && self.target_answers(probe, self.second_of(at));
        let rtt_us = self.target_rtt_us(probe, load);
        PingRow {
            subject: subject.to_owned(),
            address: address.to_owned(),
            signal: Signal::Echo,
            at,
            outcome: if answers { Outcome::Ok } else { Outcome::TimedOut },
            rtt_us: answers.then_some(rtt_us),
            mac: None,
            detail: None,
            why: None,
            resolved: None,
        }
    }

    fn target_answers(&self, probe: usize, second: i64) -> bool {
        let plan = &self.plan;
        let beyond = |second| !plan.isp.contains(second) && !plan.hiccup.contains(second);
        !plan.router.contains(second)
            && match probe {
                0 => true,
                1 => !plan.drops.iter().any(|drop| drop.contains(second)),
                2 => beyond(second) && !plan.dns.contains(second),
                _ => beyond(second),
            }
    }

    /// Whether this echo is lost by bad luck, which troubles nobody: the one before and the one after are not.
    fn loses(&mut self, probe: usize) -> bool {
        let unlucky = self.random.once_in(TARGET_LOSS);
        let calm = [-ROUND_S, 0, ROUND_S]
            .into_iter()
            .all(|by| (0..PROBES.len()).all(|probe| self.target_answers(probe, self.second + by)));
        let lost = unlucky && calm && !self.lost[probe];
        self.lost[probe] = lost;
        lost
    }

    /// Busy hours make the way out slow and uneven, and the local network a little.
    fn target_rtt_us(&mut self, probe: usize, load: u64) -> u32 {
        let random = &mut self.random;
        let rtt_us = match probe {
            0 => 340 + load / 3 + random.skewed(900),
            1 => 260 + load / 8 + random.skewed(500),
            _ => {
                let spike = if random.once_in(400) {
                    20_000 + random.below(50_000)
                } else {
                    0
                };
                let base = if probe == 2 { 9_200 } else { 7_900 };
                base + load * load / 90 + random.below(700) + random.skewed(2_000 + 8 * load) + spike
            }
        };
        u32::try_from(rtt_us).unwrap_or(u32::MAX)
    }

    /// How many of 1,000 PCs are in use.
    fn load(&self) -> u64 {
        let present = (0..PCS).filter(|pc| self.plan.present(*pc, self.second));
        present.count() as u64 * 1_000 / PCS as u64
    }

    /// One after another; who was there and does not answer is asked again.
    fn pcs(&mut self, begun: Time) {
        let (rows, sent) = self.sweep(&(0..PCS).collect::<Vec<_>>(), begun);
        let left: Vec<usize> = self.note_seen(&rows);
        let body = Body::PingRound(PingRound::from_rows(self.round, 1, into_rows(rows)));
        self.come(Collector::Ping, begun, sent, body);
        if left.is_empty() {
            return;
        }
        let begun = sent + RETRY_DELAY;
        let (rows, sent) = self.sweep(&left, begun);
        self.note_seen(&rows);
        let body = Body::PingRound(PingRound::from_rows(self.round, 2, into_rows(rows)));
        self.come(Collector::Ping, begun, sent, body);
    }

    /// Echoes, a look at the neighbours for each that stays silent, and when all of it is known.
    fn sweep(&mut self, pcs: &[usize], begun: Time) -> (Vec<(usize, PingRow)>, Time) {
        let pace = Span(SWEEP.0 / pcs.len().max(1) as i64);
        let mut rows = Vec::new();
        let mut silent = false;
        for (place, pc) in pcs.iter().copied().enumerate() {
            let at = begun + Span(pace.0 * place as i64);
            let second = self.second_of(at);
            let present = self.plan.present(pc, second) && !self.plan.router.contains(second);
            let answers = present && !ECHOLESS.contains(&pc) && !self.random.once_in(PC_LOSS);
            let rtt_us = self.pc_rtt_us(pc);
            rows.push((pc, pc_row(pc, Signal::Echo, at, answers, present, Some(rtt_us))));
            if !answers {
                silent = true;
                rows.push((pc, pc_row(pc, Signal::Neighbour, at, present, present, None)));
            }
        }
        let last = begun + Span(pace.0 * pcs.len().saturating_sub(1) as i64);
        let sent = if silent {
            last + TIMEOUT + NEIGHBOUR_WAIT
        } else {
            last + Span::from_millis(8)
        };
        (rows, sent)
    }

    fn pc_rtt_us(&mut self, pc: usize) -> u32 {
        let rtt_us = if pc < WIRELESS_FROM {
            190 + self.random.skewed(600)
        } else {
            1_700 + self.random.skewed(7_000)
        };
        u32::try_from(rtt_us).unwrap_or(u32::MAX)
    }

    /// Notes who answered, and gives those who did before and do not now.
    fn note_seen(&mut self, rows: &[(usize, PingRow)]) -> Vec<usize> {
        let mut asked: Vec<usize> = rows.iter().map(|(pc, _)| *pc).collect();
        asked.dedup();
        let answers = |pc: usize| {
            rows.iter()
                .any(|(of, row)| *of == pc && row.outcome == Outcome::Ok)
        };
        asked.retain(|pc| {
            let was = std::mem::replace(&mut self.seen[*pc], answers(*pc));
            was && !self.seen[*pc]
        });
        asked
    }

    fn come(&mut self, collector: Collector, begun: Time, at: Time, body: Body) {
        self.coming.push(Coming {
            collector,
            begun,
            at,
            body,
        });
    }

    /// Sends everything that is due before `until`; nothing that comes later can be before it.
    fn release(&mut self, until: Time, silent: bool) {
        if !silent {
            self.fill_with_quiet(until);
        }
        self.coming
            .sort_by_key(|coming| (coming.at, coming.collector as usize, coming.begun));
        let due = self.coming.partition_point(|coming| coming.at < until);
        let in_flight: Vec<(Time, Time)> = self
            .coming
            .iter()
            .filter(|coming| coming.collector == Collector::Ping)
            .map(|coming| (coming.begun, coming.at))
            .collect();
        let due: Vec<Coming> = self.coming.drain(..due).collect();
        for coming in due {
            let at = coming.at;
            let through = match coming.collector {
                Collector::Ping => in_flight
                    .iter()
                    .filter(|(begun, sent)| *begun <= at && at < *sent)
                    .map(|(begun, _)| *begun)
                    .fold(at, Time::min),
                Collector::Clock | Collector::Config => at,
            };
            let numbers = &mut self.numbers[coming.collector as usize];
            numbers.last += 1;
            self.ready.push_back(Observation {
                v: OBSERVATION_VERSION,
                origin: Origin {
                    site: SITE.to_owned(),
                    collector: coming.collector.name().to_owned(),
                    incarnation: numbers.incarnation,
                    number: numbers.last,
                },
                observed_at: at,
                through,
                body: coming.body,
            });
        }
    }

    /// Between records further apart than [`QUIET_EVERY`], empty ones.
    fn fill_with_quiet(&mut self, until: Time) {
        let mut sent: Vec<Time> = self
            .coming
            .iter()
            .filter(|coming| coming.collector == Collector::Ping && coming.at < until)
            .map(|coming| coming.at)
            .collect();
        sent.sort();
        let mut quiet = Vec::new();
        let mut last = self.last_ping;
        for at in sent.into_iter().chain([until]) {
            while at.since(last) > QUIET_EVERY {
                last = last + QUIET_EVERY;
                quiet.push(last);
            }
            last = if at < until { at } else { last };
        }
        self.last_ping = last;
        for at in quiet {
            self.come(Collector::Ping, at, at, Body::Quiet);
        }
    }
}

impl Iterator for Days {
    type Item = Observation;

    /// Never `None`: after a day comes the next.
    fn next(&mut self) -> Option<Observation> {
        while self.ready.is_empty() {
            self.step();
        }
        self.ready.pop_front()
    }
}

fn pc_row(pc: usize, signal: Signal, at: Time, answers: bool, present: bool, rtt_us: Option<u32>) -> PingRow {
    let address = address_of(pc);
    PingRow {
        subject: format!("{PC_SUBJECT_PREFIX}{address}"),
        address,
        signal,
        at,
        outcome: if answers { Outcome::Ok } else { Outcome::TimedOut },
        rtt_us: rtt_us.filter(|_| answers),
        mac: present.then(|| format!("02:00:5e:10:00:{:02x}", pc + 1)),
        detail: None,
        why: None,
        resolved: None,
    }
}

fn into_rows(rows: Vec<(usize, PingRow)>) -> Vec<PingRow> {
    rows.into_iter().map(|(_, row)| row).collect()
}

/// How long after a probe its result is known.
fn answered_after(row: &PingRow) -> Span {
    row.rtt_us
        .map_or(TIMEOUT, |rtt_us| Span::from_nanos(i64::from(rtt_us) * 1_000))
}

/// As the collectors choose it: the milliseconds of the wall clock at their start.
pub fn incarnation_at(at: Time) -> u64 {
    at.as_millis().max(1).unsigned_abs()
}
