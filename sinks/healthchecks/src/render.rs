//! The text of a ping: short, for the person who looks at the check's page. Pure.

use std::time::Duration;

use crate::judge::{Stage, Verdict};
use crate::schedule::Kind;

/// The longest text, in bytes, whatever the server allows: the hosted service keeps 100 kB.
pub const BODY_BYTES_MAX: usize = 100_000;

/// What is assumed until the server tells, in bytes: the default of a server of one's own.
pub const BODY_BYTES_DEFAULT: usize = 10_000;

/// The text for a ping, before it is cut.
pub fn body(kind: Kind, site: &str, stages: &[Stage], verdict: &Verdict, running_for: Duration) -> String {
    let headline = match (kind, verdict) {
        (Kind::Start, _) => "started".to_owned(),
        (Kind::Log, _) => "stopped by its operator".to_owned(),
        (Kind::Success | Kind::Fail, Verdict::Advancing) => "every stage advances".to_owned(),
        (Kind::Success | Kind::Fail, Verdict::Starting) => "starting".to_owned(),
        (Kind::Success | Kind::Fail, Verdict::Blind) => "no stage reports its progress".to_owned(),
        (Kind::Success | Kind::Fail, Verdict::Stalled(stalled)) => {
            let stages: Vec<&Stage> = stalled.iter().filter_map(|index| stages.get(*index)).collect();
            let named = |fails: bool, what: &str| {
                let names: Vec<String> = stages
                    .iter()
                    .filter(|stage| stage.fails() == fails)
                    .map(|stage| label(stage))
                    .collect();
                (!names.is_empty()).then(|| format!("{} {what}", names.join(", ")))
            };
            let parts = [named(false, "not advancing"), named(true, "failing")];
            parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
    };
    let mut text = format!("Watchfold at {site}: {headline}\n");
    for stage in stages {
        text.push_str(&line(stage, running_for));
        text.push('\n');
    }
    text
}

/// `text` cut to `limit` bytes at a character's boundary.
pub fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit.min(BODY_BYTES_MAX))]
}

fn line(stage: &Stage, running_for: Duration) -> String {
    let progress = &stage.progress;
    let still = stage.still_for(running_for).as_secs();
    let since = match progress.advanced_age {
        Some(_) => format!("advanced {still} s ago"),
        None => format!("not begun for {still} s"),
    };
    let limit = stage.limit.as_secs();
    let mut text = format!(
        "{}: at {} of {}, {since} (limit {limit} s)",
        label(stage),
        progress.position,
        progress.head
    );
    if let Some(detail) = &progress.detail {
        text.push_str("; ");
        text.push_str(detail);
    }
    text
}

fn label(stage: &Stage) -> String {
    format!("{} {}", stage.role.name(), stage.progress.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Role;
    use watchfold_kit::ProgressSnapshot;

    fn stages() -> Vec<Stage> {
        let stage = |role, name: &str, age: Option<u64>, detail: Option<&str>| {
            let progress = ProgressSnapshot {
                name: name.into(),
                position: 40,
                head: 52,
                advanced_age: age.map(Duration::from_secs),
                detail: detail.map(str::to_owned),
                failing_age: None,
                note: None,
                configured: true,
            };
            Stage::new(role, progress)
        };
        vec![
            stage(Role::Collector, "ping", Some(1), None),
            stage(Role::Processor, "site", Some(75), Some("the disk is full")),
            stage(Role::Sink, "discord", None, None),
        ]
    }

    #[test]
    fn a_failure_says_which_stage_and_why() {
        let got = body(
            Kind::Fail,
            "cafe-1",
            &stages(),
            &Verdict::Stalled(vec![1]),
            Duration::from_secs(90),
        );
        assert_eq!(
            got,
            "Watchfold at cafe-1: processor site not advancing\n\
             collector ping: at 40 of 52, advanced 1 s ago (limit 30 s)\n\
             processor site: at 40 of 52, advanced 75 s ago (limit 60 s); the disk is full\n\
             sink discord: at 40 of 52, not begun for 90 s (limit 300 s)\n"
        );
    }

    #[test]
    fn a_sink_that_fails_is_told_apart_from_one_that_stands_still() {
        let mut stages = stages();
        let failing = &mut stages[2].progress;
        failing.advanced_age = Some(Duration::from_secs(1));
        failing.failing_age = Some(Duration::from_secs(200));
        failing.detail = Some("alerts: 404".to_owned());
        let verdict = Verdict::Stalled(vec![1, 2]);
        let got = body(Kind::Fail, "cafe-1", &stages, &verdict, Duration::from_secs(300));
        let headline = "Watchfold at cafe-1: processor site not advancing; sink discord failing\n";
        assert!(got.starts_with(headline), "{got}");
        assert!(got.ends_with("; alerts: 404\n"), "{got}");
    }

    #[test]
    fn headlines() {
        for (kind, verdict, want) in [
            (Kind::Start, Verdict::Blind, "Watchfold at cafe-1: started\n"),
            (
                Kind::Log,
                Verdict::Advancing,
                "Watchfold at cafe-1: stopped by its operator\n",
            ),
            (
                Kind::Success,
                Verdict::Advancing,
                "Watchfold at cafe-1: every stage advances\n",
            ),
            (
                Kind::Fail,
                Verdict::Blind,
                "Watchfold at cafe-1: no stage reports its progress\n",
            ),
        ] {
            assert_eq!(body(kind, "cafe-1", &[], &verdict, Duration::ZERO), want);
        }
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        for (text, limit, want) in [
            ("äöü", 6, "äöü"),
            ("äöü", 5, "äö"),
            ("äöü", 0, ""),
            ("abc", 9, "abc"),
        ] {
            assert_eq!(cut(text, limit), want);
        }
        assert_eq!(cut(&"x".repeat(200_000), usize::MAX).len(), BODY_BYTES_MAX);
    }
}
