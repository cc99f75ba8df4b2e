//! One message about many incidents of one kind: how many, and the first of them. Pure.

use watchfold_schemas::event::{Incident, IncidentClass, Notice};

use crate::render::{Draft, GREEN, Message, RED, Style, about, tab, words};
use crate::text::{clock, escaped};

/// Incidents named in one message; more are counted.
const NAMED_MAX: usize = 10;

/// The message for notices about incidents, oldest first.
pub fn message(notices: &[Notice], style: Style<'_>) -> Message {
    let told: Vec<Line<'_>> = notices.iter().filter_map(Line::of).collect();
    let over = told.iter().filter(|line| line.is_over).count();
    let open = told.len() - over;
    let color = if open > 0 { RED } else { GREEN };
    let Some(first) = told.first() else {
        return Draft::new("Nothing more".to_owned(), GREEN).into_message(style);
    };
    let title = format!("{} more: {}", told.len(), kind(first.incident));
    let mut draft = Draft::new(title, color);
    draft.link(style, tab(first.incident));
    let mut lines: Vec<String> = told
        .iter()
        .take(NAMED_MAX)
        .map(|line| line.in_words(style))
        .collect();
    let unnamed = told.len() - lines.len();
    if unnamed > 0 {
        lines.push(format!("and {unnamed} more"));
    }
    draft.description = lines.join("\n");
    draft.inline("Open", open.to_string());
    draft.inline("Over", over.to_string());
    draft.into_message(style)
}

struct Line<'a> {
    incident: &'a Incident,
    words: &'static str,
    is_over: bool,
}

impl Line<'_> {
    fn of(notice: &Notice) -> Option<Line<'_>> {
        let (incident, is_over) = match notice {
            Notice::IncidentOpened { incident, .. }
            | Notice::IncidentUpdated { incident }
            | Notice::IncidentReminder { incident, .. } => (incident, false),
            Notice::IncidentClosed { incident, .. } => (incident, true),
            Notice::SessionsStarted { .. }
            | Notice::SessionsEnded { .. }
            | Notice::OccupancySnapshot { .. } => return None,
        };
        let of_class = words(incident.class);
        let words = match notice {
            Notice::IncidentClosed { .. } => of_class.closed,
            Notice::IncidentReminder { .. } => of_class.still,
            _ => of_class.opened,
        };
        Some(Line {
            incident,
            words,
            is_over,
        })
    }

    fn in_words(&self, style: Style<'_>) -> String {
        let (about, since) = (
            about(self.incident),
            clock(self.incident.started_at, style.time_zone),
        );
        let said = format!("{about} {}", self.words);
        format!("• {}, since {since}", said.trim_end())
    }
}

/// What the incidents of a digest have in common.
fn kind(incident: &Incident) -> String {
    let rule = |title: &str, category: &str| {
        let title = title.trim();
        escaped(if title.is_empty() { category } else { title })
    };
    match (incident.class, &incident.attack, &incident.flood) {
        (IncidentClass::Attack, Some(attack), _) => rule(&attack.rule.title, &attack.category),
        (IncidentClass::Attack, None, Some(flood)) => rule(&flood.title, &flood.category),
        (IncidentClass::Attack, None, None) => "Attacks".to_owned(),
        (IncidentClass::Outage, ..) => "Outages".to_owned(),
        (IncidentClass::Flapping, ..) => "Short dropouts".to_owned(),
        (IncidentClass::CollectorSilent, ..) => "Silent collectors".to_owned(),
        (IncidentClass::MeasurementFault, ..) => "Measurement faults".to_owned(),
        (IncidentClass::Parity, ..) => "Differences from the replay".to_owned(),
        (IncidentClass::DeliveryFault, ..) => "Destinations that take no messages".to_owned(),
    }
}
