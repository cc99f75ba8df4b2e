//! Metrics in Prometheus' text format: what each is called, counts and means is declared once, in [`table`].

mod table;

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType};

/// The content type of [`Page::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the values of a metric do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only rise, until the process starts again.
    Counter,
    Gauge,
}

/// The declaration of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// A counter's ends in `_total`, that of a quantity in its unit.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Empty for numbers of things.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
}

/// Every metric, by name.
pub fn declared() -> &'static [Metric] {
    &table::METRICS
}

/// The declaration for one row of a family: the counter or gauge `watchfold_<family>_<row>`.
pub fn declaration_of(family: &str, row: &str) -> Option<&'static Metric> {
    let gauge = format!("watchfold_{family}_{row}");
    find(&gauge).or_else(|| find(&format!("{gauge}_total")))
}

fn find(name: &str) -> Option<&'static Metric> {
    let at = table::METRICS
        .binary_search_by(|metric| metric.name.cmp(name))
        .ok()?;
    table::METRICS.get(at)
}

/// A number that a metric shows.
pub trait Value {
    fn number(self) -> f64;
}

macro_rules! values {
    ($($kind:ty),*) => {
        $(impl Value for $kind {
            fn number(self) -> f64 {
                self as f64
            }
        })*
    };
}

values!(f64, i64, u8, u32, u64, usize);

impl Value for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

/// The samples of one scrape.
#[derive(Default)]
pub struct Page(BTreeMap<&'static str, (&'static Metric, Vec<Sample>)>);

impl Page {
    /// Adds a sample of a declared metric. One that is not declared is left out; tests fail on it.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Value) {
        self.add(find(name), name, labels, value.number());
    }

    /// Adds a sample of `watchfold_<family>_<row>`; see [`declaration_of`].
    pub fn row(&mut self, family: &str, row: &str, labels: &[(&str, &str)], value: u64) {
        self.add(declaration_of(family, row), row, labels, value.number());
    }

    fn add(&mut self, metric: Option<&'static Metric>, name: &str, labels: &[(&str, &str)], value: f64) {
        let Some(metric) = metric else {
            debug_assert!(false, "{name} is not declared in kit/src/metrics/table.rs");
            tracing::debug!(name, "left out a metric that is not declared");
            return;
        };
        debug_assert!(
            labels.iter().all(|(label, _)| metric.labels.contains(label)),
            "{name}: {labels:?}"
        );
        let mut sample = Sample::default();
        sample.set_label(labels.iter().map(|(label, text)| pair(label, text)).collect());
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        let (_, samples) = self.0.entry(metric.name).or_insert((metric, Vec::new()));
        samples.push(sample);
    }

    /// The samples by name, each metric with its help and type.
    pub fn text(self) -> String {
        let family = |(metric, samples): (&Metric, Vec<Sample>)| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
            });
            family.set_metric(samples);
            family
        };
        let families: Vec<MetricFamily> = self.0.into_values().map(family).collect();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "failed to write the metrics");
                String::new()
            })
    }
}

fn pair(label: &str, text: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(text.to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn declarations_are_in_order_and_names_say_kind_and_unit() {
        assert!(declared().is_sorted_by_key(|metric| metric.name));
        for metric in declared() {
            let name = metric.name;
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(name.ends_with(metric.unit), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn promtool_accepts_every_metric() {
        let mut page = Page::default();
        for metric in declared() {
            let labels: Vec<(&str, &str)> = metric
                .labels
                .iter()
                .map(|label| (*label, "a \"b\" \\ c\nd"))
                .collect();
            page.sample(metric.name, &labels, 0.5);
        }
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool runs; the package prometheus has it, and .ci/setup test installs it");
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(page.text().as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success() && said.is_empty(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }

    #[test]
    fn the_table_of_metrics_is_in_the_documentation() {
        let rows: Vec<String> = declared()
            .iter()
            .map(|metric| {
                let kind = match metric.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                };
                let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
                let (name, unit, help) = (metric.name, metric.unit, metric.help);
                format!("| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "))
            })
            .collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (head, told): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| !line.starts_with("| `"));
        if std::env::var_os("WATCHFOLD_BLESS").is_some() {
            std::fs::write(path, format!("{}\n{}\n", head.join("\n"), rows.join("\n"))).unwrap();
            return;
        }
        assert_eq!(
            told, rows,
            "write it anew: WATCHFOLD_BLESS=1 cargo test -p watchfold-kit metrics"
        );
    }
}
