//! Whether a destination takes what is sent to it. Pure: times are arguments.

use watchfold_schemas::Time;

/// A destination that fails without refusing (no connection, no answer, errors, rate limits) and takes nothing for this
/// long is faulty. Hiccups of services are shorter.
pub const TAKES_NOTHING_MS_MAX: i64 = 120_000;

/// What is known of one destination since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach(State);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was sent yet.
    #[default]
    Unknown,
    Takes,
    /// Its address changed, and nothing was sent since.
    Renewed,
    Fails(Failing),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failing {
    /// The first failure since it last took something.
    since: Time,
    failure: Failure,
    detail: String,
}

/// How a destination fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be used until the configuration changes: an unknown address, no permission.
    Unusable,
    /// It refused what was sent for good.
    Refused,
    /// It may take the same later.
    Unavailable,
}

impl Reach {
    pub fn took(&mut self) {
        self.0 = State::Takes;
    }

    /// The configuration has another address for it.
    pub fn renew(&mut self) {
        self.0 = State::Renewed;
    }

    /// `now` counts as the start unless it failed before.
    pub fn failed(&mut self, now: Time, failure: Failure, detail: String) {
        let since = match &self.0 {
            State::Fails(failing) => failing.since,
            State::Unknown | State::Takes | State::Renewed => now,
        };
        self.0 = State::Fails(Failing {
            since,
            failure,
            detail,
        });
    }

    pub fn is_unknown(&self) -> bool {
        self.0 == State::Unknown
    }

    /// Why an earlier fault is over, if it is.
    pub fn over(&self) -> Option<&'static str> {
        match &self.0 {
            State::Takes => Some("it takes messages again"),
            State::Renewed => Some("its address changed"),
            State::Unknown | State::Fails(_) => None,
        }
    }

    /// Since when and why it is faulty, if it is. A refusal counts at once, anything else once it lasts.
    pub fn fault(&self, now: Time) -> Option<(Time, String)> {
        let State::Fails(failing) = &self.0 else {
            return None;
        };
        let lasts = now.since(failing.since).as_millis() >= TAKES_NOTHING_MS_MAX;
        let consequence = match failing.failure {
            Failure::Unusable => "nothing more is sent there until the configuration changes",
            Failure::Refused => "it has taken nothing since",
            Failure::Unavailable if lasts => "it has taken nothing for more than 2 min",
            Failure::Unavailable => return None,
        };
        Some((failing.since, format!("{}; {consequence}", failing.detail)))
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::Span;

    use super::*;

    const START: Time = Time::from_seconds(1_000_000);

    fn after_ms(ms: i64) -> Time {
        START + Span::from_millis(ms)
    }

    #[test]
    fn a_refusal_is_a_fault_at_once_and_other_failures_once_they_last() {
        for (failure, at_once) in [
            (Failure::Unusable, true),
            (Failure::Refused, true),
            (Failure::Unavailable, false),
        ] {
            let mut reach = Reach::default();
            reach.failed(START, failure, "why".to_owned());
            assert_eq!(reach.fault(START).is_some(), at_once, "{failure:?}");
            // A later failure does not move the start.
            reach.failed(after_ms(TAKES_NOTHING_MS_MAX - 1), failure, "why".to_owned());
            assert_eq!(
                reach.fault(after_ms(TAKES_NOTHING_MS_MAX - 1)).is_some(),
                at_once,
                "{failure:?}"
            );
            let (since, reason) = reach.fault(after_ms(TAKES_NOTHING_MS_MAX)).unwrap();
            assert_eq!(since, START, "{failure:?}");
            assert!(reason.starts_with("why; "), "{reason}");
        }
    }

    #[test]
    fn a_fault_is_over_when_something_is_taken_or_the_address_changes() {
        let mut reach = Reach::default();
        assert_eq!((reach.over(), reach.fault(START)), (None, None));
        reach.failed(START, Failure::Refused, "400".to_owned());
        assert_eq!(reach.over(), None);
        reach.took();
        assert!(reach.over().is_some() && reach.fault(START).is_none());
        reach.failed(after_ms(7), Failure::Refused, "400".to_owned());
        assert_eq!(reach.fault(after_ms(8)).unwrap().0, after_ms(7));
        reach.renew();
        assert!(reach.over().is_some() && reach.fault(after_ms(9)).is_none());
    }
}
