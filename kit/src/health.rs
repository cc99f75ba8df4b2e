//! Whether a process is ready, and whether it is stuck. Pure: what is known of its parts goes in, a verdict comes out.

use std::time::Duration;

use crate::ProgressSnapshot;

/// A part that has something to do, does not say what keeps it, and has not moved for this long is stuck: a fault of
/// ours that a restart may cure. A rebuild moves every second, and a far side that does not answer is said.
pub const STUCK_AFTER: Duration = Duration::from_secs(180);

/// How the names of chains begin.
const CHAINS: &str = "chain:";

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Since when the log has answered without a break; `None` while it does not.
    pub log_answers_for: Option<Duration>,
    /// Everything that was to be started is started.
    pub started: bool,
    pub stages: Vec<ProgressSnapshot>,
}

impl Health {
    /// Ready: the log answers, every part has begun, and every chain evaluates what it reads. Why not, otherwise.
    pub fn readiness(&self) -> Result<(), String> {
        let Some(why) = self.unready_in_public() else {
            return Ok(());
        };
        let detailed = self
            .unready_stage()
            .and_then(|stage| Some(format!("{}: {}", stage.name, stage.detail.as_ref()?)));
        Err(detailed.unwrap_or(why))
    }

    /// Why it is not ready, without places, paths and what far sides say: for those who show no token.
    pub fn unready_in_public(&self) -> Option<String> {
        if !self.started {
            return Some("starting".to_owned());
        }
        if self.log_answers_for.is_none() {
            return Some("the log does not answer".to_owned());
        }
        let stage = self.unready_stage()?;
        Some(match stage.advanced_age {
            None => format!("{} has not begun", stage.name),
            Some(_) => format!("{} has a fault, see its health", stage.name),
        })
    }

    /// A far side that is away keeps a sink from its work, and nobody from the page; a chain has no far side.
    fn unready_stage(&self) -> Option<&ProgressSnapshot> {
        let is_idle = |stage: &&ProgressSnapshot| {
            stage.advanced_age.is_none() || (stage.detail.is_some() && stage.name.starts_with(CHAINS))
        };
        let is_asked = self.started && self.log_answers_for.is_some();
        self.stages.iter().find(is_idle).filter(|_| is_asked)
    }

    /// The part that a restart may free. While the log does not answer no part is called stuck: all wait for it.
    pub fn stuck(&self) -> Option<&str> {
        if self.log_answers_for? < STUCK_AFTER {
            return None;
        }
        let still = |stage: &&ProgressSnapshot| {
            stage.detail.is_none() && stage.advanced_age.is_some_and(|age| age > STUCK_AFTER)
        };
        self.stages.iter().find(still).map(|stage| stage.name.as_str())
    }

    /// One line for whoever looks at the service.
    pub fn line(&self) -> String {
        if let Err(why) = self.readiness() {
            return format!("not ready: {why}");
        }
        let failing = self
            .stages
            .iter()
            .find_map(|stage| Some(format!("{}: {}", stage.name, stage.detail.as_ref()?)));
        failing.unwrap_or_else(|| match self.stages.len() {
            1 => format!("{} gets on", self.stages[0].name),
            parts => format!("{parts} parts get on"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(age_s: Option<u64>, detail: Option<&str>) -> ProgressSnapshot {
        ProgressSnapshot {
            name: "collector:ping".to_owned(),
            position: 1,
            head: 2,
            advanced_age: age_s.map(Duration::from_secs),
            detail: detail.map(str::to_owned),
            failing_age: None,
            note: None,
            configured: true,
        }
    }

    fn check(log_s: Option<u64>, stage: ProgressSnapshot, ready: Result<(), &str>, stuck: bool) {
        let health = Health {
            log_answers_for: log_s.map(Duration::from_secs),
            started: true,
            stages: vec![stage.clone()],
        };
        assert_eq!(health.readiness(), ready.map_err(str::to_owned), "{stage:?}");
        assert_eq!(health.stuck().is_some(), stuck, "{log_s:?} {stage:?}");
    }

    #[test]
    fn ready_is_an_answering_log_and_parts_that_began() {
        let silent = Err("the log does not answer");
        check(None, stage(Some(1), None), silent, false);
        check(Some(0), stage(Some(1), None), Ok(()), false);
        check(
            Some(0),
            stage(None, None),
            Err("collector:ping has not begun"),
            false,
        );
        check(
            Some(0),
            stage(None, Some("no site")),
            Err("collector:ping: no site"),
            false,
        );
        // A far side that is away is no reason to send nobody here.
        check(Some(0), stage(Some(900), Some("refused")), Ok(()), false);
        assert_eq!(Health::default().readiness(), Err("starting".to_owned()));
    }

    #[test]
    fn a_chain_that_evaluates_nothing_is_not_ready_and_a_sink_without_its_far_side_is() {
        for (name, want) in [
            (
                "chain:site/cafe-1",
                Err("chain:site/cafe-1: no configuration".to_owned()),
            ),
            ("sink:discord", Ok(())),
        ] {
            let stage = ProgressSnapshot {
                name: name.to_owned(),
                ..stage(Some(1), Some("no configuration"))
            };
            let health = Health {
                log_answers_for: Some(Duration::ZERO),
                started: true,
                stages: vec![stage],
            };
            assert_eq!(health.readiness(), want);
        }
    }

    #[test]
    fn stuck_is_who_stands_still_and_does_not_say_why() {
        check(Some(1_000), stage(Some(181), None), Ok(()), true);
        check(Some(1_000), stage(Some(180), None), Ok(()), false);
        check(Some(1_000), stage(Some(900), Some("429")), Ok(()), false);
        // It waited for the log, which has only just come back.
        check(Some(10), stage(Some(900), None), Ok(()), false);
        check(
            None,
            stage(Some(900), None),
            Err("the log does not answer"),
            false,
        );
    }

    #[test]
    fn one_line_says_how_it_goes() {
        let mut health = Health {
            log_answers_for: Some(Duration::ZERO),
            started: true,
            stages: vec![stage(Some(1), None)],
        };
        assert_eq!(health.line(), "collector:ping gets on");
        health.stages.push(stage(Some(1), Some("no route")));
        assert_eq!(health.line(), "collector:ping: no route");
        health.log_answers_for = None;
        assert_eq!(health.line(), "not ready: the log does not answer");
    }
}
