//! What the parts of a process count, for its metrics. Label values come from code and from the configuration.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{ProgressSnapshot, Publisher};

use crate::metrics::Page;

/// Names and values of one source.
pub type Rows = Vec<(&'static str, u64)>;

type Labels = Vec<(&'static str, String)>;

/// Everything that the parts of a process count; a source leaves when its owner is gone.
#[derive(Clone, Default)]
pub struct Figures(Arc<Mutex<Vec<Source>>>);

struct Source {
    family: &'static str,
    labels: Labels,
    /// `None` once the owner is gone.
    rows: Box<dyn Fn() -> Option<Rows> + Send + Sync>,
}

impl Figures {
    /// Shows the rows of `owner` as `watchfold_<family>_<row>`, and counters with `_total` behind that, for as long as it lives. Each is
    /// declared in `metrics/table.rs`.
    pub fn join<T: Send + Sync + 'static>(
        &self,
        family: &'static str,
        labels: &[(&'static str, &str)],
        owner: &Arc<T>,
        rows: fn(&T) -> Rows,
    ) {
        let owner: Weak<T> = Arc::downgrade(owner);
        let source = Source {
            family,
            labels: labels
                .iter()
                .map(|(name, text)| (*name, (*text).to_owned()))
                .collect(),
            rows: Box::new(move || owner.upgrade().map(|owner| rows(&owner))),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// The whole page.
    pub fn render(&self, software: &str, log_answers: bool, stages: &[ProgressSnapshot]) -> String {
        let mut page = Page::default();
        page.sample("watchfold_build_info", &[("software", software)], 1_u64);
        page.sample("watchfold_log_answers", &[], log_answers);
        for stage in stages {
            let labels = [("stage", stage.name.as_str())];
            page.sample("watchfold_stage_ok", &labels, stage.detail.is_none());
            page.sample("watchfold_stage_position", &labels, stage.position);
            let lag = stage.head.saturating_sub(stage.position);
            page.sample("watchfold_stage_lag_records", &labels, lag);
            if let Some(age) = stage.advanced_age {
                page.sample("watchfold_stage_age_seconds", &labels, age.as_secs_f64());
            }
        }
        self.add_to(&mut page);
        page.text()
    }

    /// Adds what the parts count, without what is known of the process.
    pub fn add_to(&self, page: &mut Page) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| match (source.rows)() {
            Some(rows) => {
                let labels: Vec<(&str, &str)> = source
                    .labels
                    .iter()
                    .map(|(name, text)| (*name, text.as_str()))
                    .collect();
                for (row, value) in rows {
                    page.row(source.family, row, &labels, value);
                }
                true
            }
            None => false,
        });
    }
}

/// What a publisher did, for the family `publisher` with the labels `site` and `collector`.
pub fn publisher_rows(publisher: &Publisher) -> Rows {
    let stats = publisher.stats();
    vec![
        ("published", stats.published),
        ("queued", stats.queued),
        ("spooled", stats.spooled),
        ("spooled_bytes", stats.spooled_bytes),
        ("forwarded", stats.forwarded),
        ("spool_lost", stats.spool_lost),
        ("dropped", stats.dropped),
        ("retries", stats.retries),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_by_name_and_leave_with_their_owner() {
        let figures = Figures::default();
        let (one, two) = (Arc::new(3_u64), Arc::new(4_u64));
        figures.join("chain", &[("site", "a")], &one, |value| vec![("records", *value)]);
        figures.join("chain", &[("site", "b\"")], &two, |value| {
            vec![("records", *value)]
        });
        let stage = ProgressSnapshot {
            name: "chain:site/a".to_owned(),
            position: 5,
            head: 7,
            advanced_age: None,
            detail: Some("why".to_owned()),
            failing_age: None,
            note: None,
            configured: true,
        };
        let text = figures.render("watchfold 1", true, &[stage]);
        assert!(
            text.contains(
                "# HELP watchfold_chain_records_total Site chain: observations folded.\n\
                 # TYPE watchfold_chain_records_total counter\n\
                 watchfold_chain_records_total{site=\"a\"} 3\n\
                 watchfold_chain_records_total{site=\"b\\\"\"} 4\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("watchfold_stage_lag_records{stage=\"chain:site/a\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("watchfold_log_answers 1\n") && !text.contains("age_seconds"),
            "{text}"
        );
        drop(one);
        assert!(!figures.render("watchfold 1", true, &[]).contains("site=\"a\""));
    }
}
