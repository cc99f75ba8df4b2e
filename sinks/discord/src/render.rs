//! From a notice to the body of a Discord message. Pure: no clock, no network, no configuration beyond [`Style`].
//!
//! Whatever the notice holds, the message is within all of Discord's limits, holds no markup of foreign making, and
//! mentions nobody.

use serde::Serialize;
use watchfold_schemas::event::{
    CloseReason, Incident, IncidentClass, Notice, OccupancySnapshot, Session, SessionList, Severity,
};
use watchfold_schemas::observation::DESTINATION_PREFIX;

use crate::attack;
use crate::text::{clock, duration, escaped, fit, is_sender_name, plain, units};

/// Limits of one embed, in characters, inclusive; see Discord's message reference, "Embed Limits".
pub const TITLE_MAX: usize = 256;
pub const DESCRIPTION_MAX: usize = 4_096;
pub const FIELDS_MAX: usize = 25;
pub const FIELD_NAME_MAX: usize = 256;
pub const FIELD_VALUE_MAX: usize = 1_024;
pub const FOOTER_MAX: usize = 2_048;
/// Of all embeds of a message together.
pub const TOTAL_MAX: usize = 6_000;

/// Names of suppressed subjects in one message; more are counted.
const SUPPRESSED_NAMED_MAX: usize = 20;

/// Sessions in one message; the request names fewer, this bounds what a foreign producer could send.
const SESSIONS_NAMED_MAX: usize = 50;

pub(crate) const RED: u32 = 15_158_332;
pub(crate) const GREEN: u32 = 3_066_993;
const AMBER: u32 = 16_776_960;
const STARTED_GREEN: u32 = 5_763_719;
const ENDED_RED: u32 = 15_548_997;

/// What the configuration adds to a notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style<'a> {
    /// The sender's name and the footer.
    pub site: &'a str,
    pub page_url: Option<&'a str>,
    /// IANA name of the zone to show times in.
    pub time_zone: &'a str,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Only for a new message; a name that Discord would refuse is left out, so that the webhook's own shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub embeds: Vec<Embed>,
    pub allowed_mentions: AllowedMentions,
}

/// Nobody is mentioned, whatever the text says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AllowedMentions {
    pub parse: [(); 0],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Embed {
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Embeds with one address show once, so each message has a single embed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub color: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer: Option<Footer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Field {
    pub name: String,
    pub value: String,
    pub inline: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footer {
    pub text: String,
}

/// The message for a notice.
pub fn message(notice: &Notice, style: Style<'_>) -> Message {
    let draft = match notice {
        Notice::IncidentOpened {
            incident,
            pcs_present,
        } => opened(incident, *pcs_present, style),
        Notice::IncidentUpdated { incident } => updated(incident, style),
        Notice::IncidentReminder {
            incident,
            open_for_ms,
        } => reminder(incident, *open_for_ms, style),
        Notice::IncidentClosed {
            incident,
            pcs_present,
        } => closed(incident, *pcs_present, style),
        Notice::SessionsStarted { sessions } => sessions_started(sessions, style),
        Notice::SessionsEnded { sessions } => sessions_ended(sessions, style),
        Notice::OccupancySnapshot { snapshot } => occupancy(snapshot, style),
    };
    draft.into_message(style)
}

/// What the first message of an incident becomes: open with news, or over. Carries no sender, which cannot be edited.
pub fn edited(notice: &Notice, style: Style<'_>) -> Message {
    match notice {
        Notice::IncidentClosed { incident, .. } => Message {
            username: None,
            embeds: vec![over(incident, style).finish(style)],
            allowed_mentions: AllowedMentions::default(),
        },
        other => Message {
            username: None,
            ..message(other, style)
        },
    }
}

fn opened(incident: &Incident, pcs_present: Option<u32>, style: Style<'_>) -> Draft {
    let mut draft = Draft::new(
        format!("{} {}", about(incident), words(incident.class).opened),
        RED,
    );
    draft.link(style, tab(incident));
    draft.late(
        incident,
        "This is told late: its measurements arrived after it had begun.",
    );
    draft.inline("Since", clock(incident.started_at, style.time_zone));
    draft.inline("Severity", severity(incident.severity).to_owned());
    draft.pcs(pcs_present);
    draft.background(incident, style);
    draft
}

fn updated(incident: &Incident, style: Style<'_>) -> Draft {
    let mut draft = Draft::new(
        format!("{} {}", about(incident), words(incident.class).opened),
        AMBER,
    );
    draft.link(style, tab(incident));
    draft.inline("Since", clock(incident.started_at, style.time_zone));
    draft.inline("Severity", severity(incident.severity).to_owned());
    draft.acknowledged(incident, style);
    draft.background(incident, style);
    draft
}

fn reminder(incident: &Incident, open_for_ms: u64, style: Style<'_>) -> Draft {
    let mut draft = Draft::new(
        format!("{} {}", about(incident), words(incident.class).still),
        AMBER,
    );
    draft.link(style, tab(incident));
    draft.inline("Since", clock(incident.started_at, style.time_zone));
    draft.inline("For", duration(open_for_ms));
    draft.inline("Severity", severity(incident.severity).to_owned());
    draft.acknowledged(incident, style);
    draft.background(incident, style);
    draft
}

fn closed(incident: &Incident, pcs_present: Option<u32>, style: Style<'_>) -> Draft {
    let ending = match incident.close_reason {
        Some(CloseReason::Removed) => "is no longer watched",
        Some(CloseReason::Recovered | CloseReason::Ended) | None => words(incident.class).closed,
    };
    let mut draft = Draft::new(format!("{} {ending}", about(incident)), GREEN);
    draft.link(style, tab(incident));
    draft.late(
        incident,
        "This is told late: it was over before its measurements arrived, or soon after.",
    );
    draft.span(incident, style);
    draft.pcs(pcs_present);
    draft.acknowledged(incident, style);
    draft.background(incident, style);
    draft
}

fn over(incident: &Incident, style: Style<'_>) -> Draft {
    let mut draft = Draft::new(
        format!("Over: {} {}", about(incident), words(incident.class).was),
        GREEN,
    );
    draft.link(style, tab(incident));
    draft.span(incident, style);
    draft.acknowledged(incident, style);
    draft.background(incident, style);
    draft
}

fn sessions_started(list: &SessionList, style: Style<'_>) -> Draft {
    let line = |session: &Session| {
        format!(
            "• **{}** since {}",
            escaped(&session.name),
            clock(session.started_at, style.time_zone)
        )
    };
    sessions("New activity", STARTED_GREEN, list, line, style)
}

fn sessions_ended(list: &SessionList, style: Style<'_>) -> Draft {
    let line = |session: &Session| {
        let mut text = format!("• **{}**", escaped(&session.name));
        if let Some(milliseconds) = session.duration_ms {
            text.push_str(&format!(" {}", duration(milliseconds)));
        }
        if session.unmeasured_ms > 0 {
            text.push_str(&format!(
                " (of it {} not measured)",
                duration(session.unmeasured_ms)
            ));
        }
        text.push_str(&format!(", since {}", clock(session.started_at, style.time_zone)));
        if let Some(ended_at) = session.ended_at {
            text.push_str(&format!(", until {}", clock(ended_at, style.time_zone)));
        }
        text
    };
    sessions("Session ended", ENDED_RED, list, line, style)
}

fn sessions(
    title: &str,
    color: u32,
    list: &SessionList,
    line: impl Fn(&Session) -> String,
    style: Style<'_>,
) -> Draft {
    let counted = match list.total {
        1 => "1 PC".to_owned(),
        total => format!("{total} PCs"),
    };
    let mut draft = Draft::new(format!("{title}: {counted}"), color);
    draft.link(style, "occupancy");
    let mut lines: Vec<String> = list.named.iter().take(SESSIONS_NAMED_MAX).map(line).collect();
    let unnamed = (list.total as usize).saturating_sub(lines.len());
    if unnamed > 0 {
        let (from, to) = (clock(list.from, style.time_zone), clock(list.to, style.time_zone));
        let more = if lines.is_empty() { "" } else { " more" };
        lines.push(match style.page_url {
            Some(url) => format!(
                "{unnamed}{more} between {from} and {to}: [the full list]({}#occupancy)",
                url.trim_end_matches('#')
            ),
            None => format!("{unnamed}{more} between {from} and {to}"),
        });
    }
    draft.description = lines.join("\n");
    draft
}

fn occupancy(snapshot: &OccupancySnapshot, style: Style<'_>) -> Draft {
    let mut draft = Draft::new("Hourly snapshot".to_owned(), GREEN);
    draft.link(style, "occupancy");
    draft.description = format!(
        "{}/{} PCs in use ({} %)",
        snapshot.current, snapshot.total, snapshot.percent
    );
    if snapshot.frozen {
        draft
            .description
            .push_str("\nThe count is held: the network to the PCs is down.");
    }
    draft.inline("At", clock(snapshot.at, style.time_zone));
    draft
}

/// The part of the page that shows it.
pub(crate) fn tab(incident: &Incident) -> &'static str {
    match incident.class {
        IncidentClass::Attack => "alerts",
        _ => "network",
    }
}

/// What an incident is about: its subject, or the attack or flood by its rule's title.
pub(crate) fn about(incident: &Incident) -> String {
    match (&incident.attack, &incident.flood) {
        (Some(attack), _) => attack::title(attack),
        (None, Some(flood)) => attack::flood_title(flood),
        (None, None) => subject(&incident.subject),
    }
}

/// How an incident of a class reads after what it is about.
pub(crate) struct Words {
    pub(crate) opened: &'static str,
    pub(crate) still: &'static str,
    pub(crate) closed: &'static str,
    was: &'static str,
}

pub(crate) fn words(class: IncidentClass) -> Words {
    match class {
        IncidentClass::Outage => Words {
            opened: "is down",
            still: "is still down",
            closed: "is back",
            was: "was down",
        },
        IncidentClass::Flapping => Words {
            opened: "keeps dropping out",
            still: "still keeps dropping out",
            closed: "is steady again",
            was: "kept dropping out",
        },
        IncidentClass::CollectorSilent => Words {
            opened: "is silent",
            still: "is still silent",
            closed: "is heard again",
            was: "was silent",
        },
        IncidentClass::MeasurementFault => Words {
            opened: "cannot be measured",
            still: "still cannot be measured",
            closed: "is measured again",
            was: "could not be measured",
        },
        IncidentClass::Parity => Words {
            opened: "disagrees with its replay",
            still: "still disagrees with its replay",
            closed: "agrees with its replay again",
            was: "disagreed with its replay",
        },
        IncidentClass::DeliveryFault => Words {
            opened: "takes no messages",
            still: "still takes no messages",
            closed: "takes messages again",
            was: "took no messages",
        },
        IncidentClass::Attack => Words {
            opened: "",
            still: "goes on",
            closed: "is over",
            was: "",
        },
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Info",
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    }
}

/// `router` is "Router", `pc:10.0.0.7` is "PC 10.0.0.7", `collector:ping` is "Collector ping", `chain:site` is
/// "Chain site", `attack:port_scan:10.0.0.9` is "Attack port_scan 10.0.0.9".
fn subject(subject: &str) -> String {
    if let Some(key) = subject.strip_prefix("pc:") {
        return format!("PC {}", escaped(key));
    }
    if let Some(name) = subject.strip_prefix("chain:") {
        return format!("Chain {}", escaped(name));
    }
    if let Some(name) = subject.strip_prefix("collector:") {
        return format!("Collector {}", escaped(name));
    }
    if let Some(name) = subject.strip_prefix(DESTINATION_PREFIX) {
        return format!("Destination {}", escaped(name));
    }
    if let Some(name) = subject.strip_prefix("attack:") {
        return format!("Attack {}", escaped(&name.replacen(':', " ", 1)));
    }
    let mut letters = subject.chars();
    let first: String = letters
        .next()
        .map(|letter| letter.to_uppercase().collect())
        .unwrap_or_default();
    escaped(&format!("{first}{}", letters.as_str()))
}

/// An embed before it is cut to the limits.
pub(crate) struct Draft {
    title: String,
    pub(crate) description: String,
    url: Option<String>,
    color: u32,
    fields: Vec<Field>,
}

impl Draft {
    pub(crate) fn new(title: String, color: u32) -> Draft {
        Draft {
            title,
            description: String::new(),
            url: None,
            color,
            fields: Vec::new(),
        }
    }

    pub(crate) fn link(&mut self, style: Style<'_>, tab: &str) {
        self.url = style
            .page_url
            .map(|url| format!("{}#{tab}", url.trim_end_matches('#')));
    }

    pub(crate) fn inline(&mut self, name: &str, value: String) {
        self.fields.push(Field {
            name: name.to_owned(),
            value,
            inline: true,
        });
    }

    fn block(&mut self, name: &str, value: String) {
        self.fields.push(Field {
            name: name.to_owned(),
            value,
            inline: false,
        });
    }

    fn late(&mut self, incident: &Incident, sentence: &str) {
        if incident.late {
            self.description = sentence.to_owned();
        }
    }

    fn pcs(&mut self, present: Option<u32>) {
        if let Some(present) = present {
            self.inline("PCs in use", present.to_string());
        }
    }

    fn span(&mut self, incident: &Incident, style: Style<'_>) {
        self.inline("Start", clock(incident.started_at, style.time_zone));
        if let Some(ended_at) = incident.ended_at {
            self.inline("End", clock(ended_at, style.time_zone));
        }
        // An attack lasted until it was last seen; its end is when it had been absent for long enough.
        let seen = incident.attack.as_ref().map(|attack| {
            let lasted = attack.last_at.since(attack.began_at).as_millis();
            lasted.max(0).unsigned_abs()
        });
        if let Some(milliseconds) = incident.duration_ms {
            self.inline("Duration", duration(seen.unwrap_or(milliseconds)));
        }
    }

    fn acknowledged(&mut self, incident: &Incident, style: Style<'_>) {
        let Some(by) = &incident.acknowledged_by else {
            return;
        };
        let when = incident
            .acknowledged_at
            .map(|at| format!(", {}", clock(at, style.time_zone)));
        self.block(
            "Acknowledged",
            format!("by {}{}", escaped(by), when.unwrap_or_default()),
        );
    }

    /// What nobody measured, what cannot be seen because of it, what the probes said, and what a rule saw.
    fn background(&mut self, incident: &Incident, style: Style<'_>) {
        if incident.unmeasured_ms > 0 {
            self.block(
                "Not measured",
                format!("{} of it", duration(incident.unmeasured_ms)),
            );
        }
        if !incident.suppressed.is_empty() {
            let mut names: Vec<String> = incident
                .suppressed
                .iter()
                .take(SUPPRESSED_NAMED_MAX)
                .map(|name| subject(name))
                .collect();
            let unnamed = incident.suppressed.len() - names.len();
            if unnamed > 0 {
                names.push(format!("{unnamed} more"));
            }
            self.block(
                "Root cause of",
                format!("{} being out of sight", names.join(", ")),
            );
        }
        if let Some(seen) = incident.in_words() {
            self.block("Detail", escaped(&seen));
        }
        for fact in incident
            .attack
            .iter()
            .flat_map(|attack| attack::facts(attack, style.time_zone))
        {
            self.fields.push(Field {
                name: fact.name.to_owned(),
                value: fact.value,
                inline: fact.inline,
            });
        }
    }

    pub(crate) fn into_message(self, style: Style<'_>) -> Message {
        let username = Some(plain(style.site)).filter(|name| is_sender_name(name));
        Message {
            username,
            embeds: vec![self.finish(style)],
            allowed_mentions: AllowedMentions::default(),
        }
    }

    /// The embed within all limits. When the whole is too long the last fields give way, then the footer: title and
    /// description fit together.
    fn finish(self, style: Style<'_>) -> Embed {
        let mut embed = Embed {
            title: fit(&self.title, TITLE_MAX),
            description: (!self.description.trim().is_empty())
                .then(|| fit(&self.description, DESCRIPTION_MAX)),
            url: self.url,
            color: self.color,
            fields: self.fields.into_iter().take(FIELDS_MAX).map(fit_field).collect(),
            footer: Some(Footer {
                text: fit(&plain(style.site), FOOTER_MAX),
            }),
        };
        while total(&embed) > TOTAL_MAX && embed.fields.pop().is_some() {}
        if total(&embed) > TOTAL_MAX {
            embed.footer = None;
        }
        embed
    }
}

fn fit_field(field: Field) -> Field {
    Field {
        name: fit(&field.name, FIELD_NAME_MAX),
        value: fit(&field.value, FIELD_VALUE_MAX),
        inline: field.inline,
    }
}

/// What counts against [`TOTAL_MAX`].
fn total(embed: &Embed) -> usize {
    let fields: usize = embed
        .fields
        .iter()
        .map(|field| units(&field.name) + units(&field.value))
        .sum();
    let description = embed.description.as_deref().map_or(0, units);
    let footer = embed.footer.as_ref().map_or(0, |footer| units(&footer.text));
    units(&embed.title) + description + footer + fields
}
