//! The figures of one measurement, for people and for machines. Every name and every line says its unit.

use serde_json::{Map, Value, json};

use super::machine;
use crate::cli::Format;
use watchfold_kit::console::{self, OutputError};
use watchfold_kit::outln;

/// Figures in the order in which they were taken.
pub struct Report {
    bench: &'static str,
    figures: Vec<Figure>,
}

struct Figure {
    /// Ends with the unit, unless it is a ratio.
    name: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    pub fn new(bench: &'static str) -> Report {
        Report {
            bench,
            figures: Vec::new(),
        }
    }

    pub fn add(&mut self, name: &'static str, value: f64, unit: &'static str, what: impl Into<String>) {
        self.figures.push(Figure {
            name,
            what: what.into(),
            value,
            unit,
        });
    }

    /// A ratio of two figures; left out where there is nothing to divide by.
    pub fn ratio(&mut self, name: &'static str, over: f64, under: f64, what: impl Into<String>) {
        if under > 0.0 {
            self.add(name, over / under, "×", what);
        }
    }

    pub fn print(&self, format: Format) -> Result<(), OutputError> {
        match format {
            Format::Json => outln!("{}", self.json()),
            Format::Human => console::write(self.text()),
        }
    }

    fn json(&self) -> Value {
        let mut out = Map::new();
        out.insert("bench".to_owned(), json!(self.bench));
        out.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        out.insert("cores".to_owned(), json!(machine::cores()));
        for figure in &self.figures {
            // Four digits after the point say more than any of these measurements can.
            let rounded = (figure.value * 1e4).round() / 1e4;
            out.insert(figure.name.to_owned(), json!(rounded));
        }
        Value::Object(out)
    }

    fn text(&self) -> String {
        let (version, cores) = (env!("CARGO_PKG_VERSION"), machine::cores());
        let mut out = format!("watchfold {version}, bench {}, {cores} cores\n", self.bench);
        let width = self
            .figures
            .iter()
            .map(|figure| figure.what.chars().count())
            .max()
            .unwrap_or_default();
        for Figure {
            what, value, unit, ..
        } in &self.figures
        {
            out.push_str(&format!("{what:width$}  {:>14} {unit}\n", readable(*value)));
        }
        out
    }
}

/// Whole numbers in groups of three digits, small ones with what is behind the point.
pub fn readable(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (value, want) in [
            (0.0, "0"),
            (0.41, "0.410"),
            (99.5, "99.500"),
            (123.4, "123"),
            (1_234_567.8, "1,234,568"),
            (-1_000.0, "-1,000"),
        ] {
            assert_eq!(readable(value), want);
        }
    }

    #[test]
    fn machines_get_names_and_people_get_units() {
        let mut report = Report::new("some");
        report.add("rate_per_s", 2_000.0, "a second", "how fast");
        report.ratio("vs_peer", 1.0, 4.0, "beside its peer");
        report.ratio("vs_nobody", 1.0, 0.0, "beside nobody");
        let json = report.json();
        assert_eq!(
            (&json["rate_per_s"], &json["vs_peer"]),
            (&json!(2_000.0), &json!(0.25))
        );
        assert_eq!(
            (&json["bench"], &json["vs_nobody"]),
            (&json!("some"), &Value::Null)
        );
        assert!(
            report
                .text()
                .contains("how fast                  2,000 a second\n"),
            "{}",
            report.text()
        );
    }
}
