//! Which ping is due, given what was judged and what became of the last. Pure: time goes in as the span since the
//! process started.

use std::time::Duration;

/// The kinds of ping. Exit statuses are not used: `/fail` says the same with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Start,
    Success,
    Fail,
    /// A note that changes no state.
    Log,
}

/// The figures of the schedule; tests use shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The least distance of pings that may have arrived: of more than five a minute some are dropped unrecorded.
    pub spacing: Duration,
    /// One attempt, as the service advises.
    pub attempt_timeout: Duration,
    /// Repetitions of a ping that was not answered, as the service advises.
    pub retries_max: u32,
    /// The first wait before a repetition when nothing can have arrived; it doubles.
    pub retry_first: Duration,
    /// How long to be quiet after the server said that the address is wrong; somebody may make the check meanwhile.
    pub refused_wait: Duration,
    /// How often stages are looked at.
    pub look_every: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            spacing: Duration::from_secs(12),
            attempt_timeout: Duration::from_secs(10),
            retries_max: 5,
            retry_first: Duration::from_secs(1),
            refused_wait: Duration::from_secs(3_600),
            look_every: Duration::from_secs(1),
        }
    }
}

/// A ping to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    pub kind: Kind,
    /// Which run it belongs to: the first success closes the run that `/start` opened, every other ping is its own.
    pub run: u64,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Recorded,
    /// Nothing arrived: there was no connection.
    Unreached,
    /// It may have arrived: no answer in time, a broken answer, or an error of the server.
    Unclear,
    /// The server asks for silence.
    Wait(Option<Duration>),
    /// The server says that the address or the ping is wrong.
    Refused,
}

/// What was sent and what is to be sent.
#[derive(Debug)]
pub struct Schedule {
    timing: Timing,
    period: Duration,
    started: bool,
    /// The run that `/start` opened and no success has closed.
    open_run: Option<u64>,
    last_run: u64,
    current: Option<Current>,
    /// The last ping that was settled, and when.
    settled: Option<(Kind, Duration)>,
    /// No attempt before this.
    quiet_until: Duration,
}

#[derive(Debug)]
struct Current {
    ping: Ping,
    attempts: u32,
}

impl Schedule {
    pub fn new(period: Duration, timing: Timing) -> Schedule {
        Schedule {
            timing,
            period,
            started: false,
            open_run: None,
            last_run: 0,
            current: None,
            settled: None,
            quiet_until: Duration::ZERO,
        }
    }

    /// The configuration changed: what was refused is tried again, and the new check learns of the start.
    pub fn reconfigure(&mut self, period: Duration) {
        *self = Schedule {
            last_run: self.last_run,
            ..Schedule::new(period, self.timing)
        };
    }

    /// The ping to attempt now, given what the stages ask for. Whatever changed since a failed attempt goes into its
    /// repetition: pings are never queued.
    pub fn due(&mut self, now: Duration, wanted: Option<Kind>) -> Option<Ping> {
        let kind = if self.started { wanted? } else { Kind::Start };
        if now < self.quiet_until {
            return None;
        }
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.ping.kind != kind)
        {
            let fresh = self
                .settled
                .is_none_or(|(settled, at)| settled != kind || now >= at + self.period);
            if !fresh {
                self.current = None;
                return None;
            }
            self.current = Some(Current {
                ping: self.begin(kind),
                attempts: 0,
            });
        }
        self.current.as_ref().map(|current| current.ping.clone())
    }

    /// Notes what became of the attempt of the current ping that was begun at `began` and is over `now`. Returns
    /// whether a limit was reached: the ping is given up after its repetitions.
    pub fn answered(&mut self, began: Duration, now: Duration, answer: &Answer) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        current.attempts += 1;
        let exhausted = current.attempts > self.timing.retries_max;
        let doublings = (current.attempts - 1).min(10);
        let after_contact = began + self.timing.spacing;
        match answer {
            Answer::Recorded => {
                self.quiet_until = after_contact;
                self.settle(began);
            }
            Answer::Unreached => self.quiet_until = now + self.timing.retry_first * 2_u32.pow(doublings),
            Answer::Unclear => self.quiet_until = after_contact.max(now),
            Answer::Wait(asked) => {
                let asked = asked.unwrap_or(self.period).min(self.timing.refused_wait);
                self.quiet_until = after_contact.max(now + asked);
            }
            Answer::Refused => {
                self.quiet_until = now + self.timing.refused_wait;
                self.settle(began);
            }
        }
        let given_up = exhausted && matches!(answer, Answer::Unreached | Answer::Unclear | Answer::Wait(_));
        if given_up {
            self.quiet_until = self.quiet_until.max(after_contact);
            self.settle(began);
        }
        given_up
    }

    /// When something may be due again.
    pub fn next_look(&self, now: Duration) -> Duration {
        let look = now + self.timing.look_every;
        if self.quiet_until > now {
            look.min(self.quiet_until)
        } else {
            look
        }
    }

    fn begin(&mut self, kind: Kind) -> Ping {
        let run = match (kind, self.open_run) {
            (Kind::Success, Some(run)) => run,
            _ => {
                self.last_run += 1;
                self.last_run
            }
        };
        Ping { kind, run }
    }

    fn settle(&mut self, at: Duration) {
        let Some(current) = self.current.take() else {
            return;
        };
        match current.ping.kind {
            Kind::Start => {
                self.started = true;
                self.open_run = Some(current.ping.run);
            }
            Kind::Success | Kind::Fail => self.open_run = None,
            Kind::Log => {}
        }
        self.settled = Some((current.ping.kind, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs a story of (second, wanted, answer) and compares the attempts made: (second, kind, run).
    fn check(
        period_s: u64,
        story: impl Fn(u64) -> (Option<Kind>, Answer),
        until_s: u64,
        want: &[(u64, Kind, u64)],
    ) {
        let mut schedule = Schedule::new(SECOND * period_s as u32, Timing::default());
        let mut got = Vec::new();
        for second in 0..until_s {
            let now = SECOND * second as u32;
            let (wanted, answer) = story(second);
            if let Some(ping) = schedule.due(now, wanted) {
                got.push((second, ping.kind, ping.run));
                schedule.answered(now, now, &answer);
            }
        }
        assert_eq!(got, want);
    }

    #[test]
    fn start_then_success_of_the_same_run_then_one_a_period() {
        check(
            60,
            |second| {
                (
                    if second < 3 { None } else { Some(Kind::Success) },
                    Answer::Recorded,
                )
            },
            200,
            &[
                (0, Kind::Start, 1),
                (12, Kind::Success, 1),
                (72, Kind::Success, 2),
                (132, Kind::Success, 3),
                (192, Kind::Success, 4),
            ],
        );
    }

    #[test]
    fn a_stall_is_told_at_once_and_its_end_too_but_never_closer_than_the_spacing() {
        check(
            60,
            |second| {
                (
                    Some(if (30..35).contains(&second) {
                        Kind::Fail
                    } else {
                        Kind::Success
                    }),
                    Answer::Recorded,
                )
            },
            110,
            &[
                (0, Kind::Start, 1),
                (12, Kind::Success, 1),
                (30, Kind::Fail, 2),
                (42, Kind::Success, 3),
                (102, Kind::Success, 4),
            ],
        );
    }

    #[test]
    fn what_nobody_got_is_repeated_with_growing_waits_and_then_given_up() {
        let attempts = [0, 1, 3, 7, 15, 31].map(|second| (second, Kind::Start, 1));
        check(60, |_| (None, Answer::Unreached), 80, &attempts);
    }

    #[test]
    fn what_may_have_arrived_is_repeated_no_closer_than_the_spacing_under_the_same_run() {
        let attempts = [0, 12, 24, 36, 48, 60].map(|second| (second, Kind::Start, 1));
        check(600, |_| (None, Answer::Unclear), 100, &attempts);
    }

    #[test]
    fn a_repetition_carries_what_holds_now() {
        check(
            60,
            |second| match second {
                0 => (None, Answer::Recorded),
                1..=20 => (Some(Kind::Success), Answer::Unclear),
                _ => (Some(Kind::Fail), Answer::Recorded),
            },
            40,
            &[(0, Kind::Start, 1), (12, Kind::Success, 1), (24, Kind::Fail, 2)],
        );
    }

    #[test]
    fn a_refused_address_is_left_alone_for_an_hour() {
        check(
            60,
            |_| (Some(Kind::Success), Answer::Refused),
            3_700,
            &[(0, Kind::Start, 1), (3_600, Kind::Success, 1)],
        );
    }

    #[test]
    fn the_server_can_ask_for_silence() {
        let story = |second| {
            let answer = if second == 0 {
                Answer::Wait(Some(SECOND * 100))
            } else {
                Answer::Recorded
            };
            (None, answer)
        };
        check(60, story, 200, &[(0, Kind::Start, 1), (100, Kind::Start, 1)]);
    }
}
