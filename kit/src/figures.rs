//! What a process counts, as Prometheus' text. Label values come from code and from the configuration.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::ProgressSnapshot;

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
    /// Shows the rows of `owner` as `watchfold_<family>_<row>` for as long as it lives.
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
        let software = vec![("software", software.to_owned())];
        page.add("watchfold_build_info".to_owned(), software, 1.0);
        page.add(
            "watchfold_log_answers".to_owned(),
            Vec::new(),
            f64::from(u8::from(log_answers)),
        );
        for stage in stages {
            let labels = || vec![("stage", stage.name.clone())];
            let mut figure =
                |name: &str, value: f64| page.add(format!("watchfold_stage_{name}"), labels(), value);
            figure("ok", f64::from(u8::from(stage.detail.is_none())));
            figure("position", stage.position as f64);
            figure("lag_records", stage.head.saturating_sub(stage.position) as f64);
            if let Some(age) = stage.advanced_age {
                figure("age_seconds", age.as_secs_f64());
            }
        }
        self.add_sources(&mut page);
        page.text()
    }

    /// What the parts count, without what is known of the process.
    pub fn render_sources(&self) -> String {
        let mut page = Page::default();
        self.add_sources(&mut page);
        page.text()
    }

    fn add_sources(&self, page: &mut Page) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| match (source.rows)() {
            Some(rows) => {
                for (row, value) in rows {
                    let name = format!("watchfold_{}_{row}", source.family);
                    page.add(name, source.labels.clone(), value as f64);
                }
                true
            }
            None => false,
        });
    }
}

/// Samples by name, so that those of one name stand together.
#[derive(Default)]
struct Page(BTreeMap<String, Vec<(Labels, f64)>>);

impl Page {
    fn add(&mut self, name: String, labels: Labels, value: f64) {
        self.0.entry(name).or_default().push((labels, value));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, samples) in &self.0 {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# TYPE {name} untyped");
            for (labels, value) in samples {
                let pairs: Vec<String> = labels
                    .iter()
                    .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
                    .collect();
                let labels = match pairs.is_empty() {
                    true => String::new(),
                    false => format!("{{{}}}", pairs.join(",")),
                };
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
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
                "# TYPE watchfold_chain_records untyped\n\
                 watchfold_chain_records{site=\"a\"} 3\nwatchfold_chain_records{site=\"b\\\"\"} 4\n"
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
