//! The text of a story.

use watchfold_schemas::SiteConfig;
use watchfold_schemas::config::{PcHost, ProbeSpec, SignalSpec, Target};
use watchfold_schemas::rules::RuleSet;

/// A story, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub config: SiteConfig,
    /// Seconds from the beginning.
    pub run: (f64, f64),
    /// What does not answer, and when: a target, one of its addresses, or `pc:<key>`.
    pub down: Vec<(String, f64, f64)>,
    /// What cannot be measured, and when.
    pub faults: Vec<(String, f64, f64)>,
    pub wrong: Vec<(String, f64, f64)>,
    /// We were not running: neither the collector nor the clock.
    pub absent: Vec<(f64, f64)>,
    /// The collector was cut off; what it saw arrives at the end of the span.
    pub spooled: Vec<(f64, f64)>,
    /// The collector was cut off, and what it saw is lost.
    pub lost: Vec<(f64, f64)>,
    /// The wall clock was set: when, and by how many seconds.
    pub steps: Vec<(f64, f64)>,
    /// What the packet chain found.
    pub attacks: Vec<StoryAttack>,
    pub acts: Vec<(f64, Act)>,
    /// Another value of a setting, from then on.
    pub settings: Vec<(f64, String, String)>,
    /// A file beside the story with rules for the site's own rows.
    pub rules_file: Option<String>,
    /// What it says, in force from the beginning; whoever reads files puts it here.
    pub rules: Option<RuleSet>,
    pub expect: Vec<Expectation>,
}

/// An attack, told when it begins, grows and ends.
#[derive(Clone, Debug)]
pub struct StoryAttack {
    pub category: String,
    pub subject: String,
    pub span: (f64, f64),
    /// When its severity rises from high to critical.
    pub grows: Option<f64>,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// Acknowledges whatever is open on this subject.
    Acknowledge(String),
    Mute(String, f64),
    /// A planned window over this subject.
    Maintenance(String, (f64, f64)),
}

/// A line of `expect`: its words, in the form of [`super::happened`].
pub type Expectation = String;

/// Reads a story, or says which line is wrong.
pub fn parse(text: &str) -> Result<Story, String> {
    let mut story = Story::default();
    story.config.site = "cafe-1".to_owned();
    story.config.time_zone = "UTC".to_owned();
    story.config.network.escalate_after_ms = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        story
            .line(&words)
            .map_err(|why| format!("line {}: {why}: {line}", number + 1))?;
    }
    if story.config.occupancy.depends_on.is_empty()
        && story
            .config
            .network
            .targets
            .iter()
            .any(|target| target.name == "router")
    {
        story.config.occupancy.depends_on = vec!["router".to_owned()];
    }
    Ok(story)
}

impl Story {
    /// The name of a PC by its key.
    pub fn pc_name(&self, key: &str) -> String {
        let host = self.config.occupancy.hosts.iter().find(|host| host.key() == key);
        host.map_or_else(|| key.to_owned(), |host| host.name.clone())
    }

    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["target", name, rest @ ..] => self.target(name, rest),
            ["pcs", count] => self.pcs(count.parse().map_err(|_| "not a count")?),
            ["set", key, value] => set(&mut self.config, key, value)?,
            ["run", span] => self.run = read_span(span)?,
            ["down", subject, spans @ ..] => {
                let subject = self.subject(subject);
                for span in spans {
                    let (from, to) = read_span(span)?;
                    self.down.push((subject.clone(), from, to));
                }
            }
            ["wrong", subject, span] => {
                let (from, to) = read_span(span)?;
                self.wrong.push((self.subject(subject), from, to));
            }
            ["fault", subject, span] => {
                let (from, to) = read_span(span)?;
                self.faults.push((self.subject(subject), from, to));
            }
            ["attack", category, subject, span, rest @ ..] => {
                let grows = match rest {
                    [] => None,
                    ["critical", at] => Some(number(at)?),
                    _ => return Err("an attack grows to `critical` at a second, or not".to_owned()),
                };
                self.attacks.push(StoryAttack {
                    category: (*category).to_owned(),
                    subject: (*subject).to_owned(),
                    span: read_span(span)?,
                    grows,
                });
            }
            // Made-up sources, a tenth of a second apart.
            ["attacks", category, count, span] => {
                let (count, (from, to)) = (count.parse().map_err(|_| "not a count")?, read_span(span)?);
                self.attacks.extend((0..count).map(|n: u32| StoryAttack {
                    category: (*category).to_owned(),
                    subject: format!("10.66.{}.{}", n / 250, n % 250 + 1),
                    span: (from + f64::from(n) / 10.0, to + f64::from(n) / 10.0),
                    grows: None,
                }));
            }
            ["rules", file] => self.rules_file = Some((*file).to_owned()),
            ["absent", span] => self.absent.push(read_span(span)?),
            ["spooled", span] => self.spooled.push(read_span(span)?),
            ["lost", span] => self.lost.push(read_span(span)?),
            ["step", at, by] => self.steps.push((number(at)?, number(by)?)),
            ["at", at, "ack", subject] => self
                .acts
                .push((number(at)?, Act::Acknowledge((*subject).to_owned()))),
            ["at", at, "mute", subject, until] => {
                self.acts
                    .push((number(at)?, Act::Mute((*subject).to_owned(), number(until)?)));
            }
            ["at", at, "maintenance", subject, span] => {
                self.acts.push((
                    number(at)?,
                    Act::Maintenance((*subject).to_owned(), read_span(span)?),
                ));
            }
            ["at", at, "set", key, value] => {
                self.settings
                    .push((number(at)?, (*key).to_owned(), (*value).to_owned()));
            }
            ["expect", rest @ ..] => self.expect.push(rest.join(" ")),
            _ => return Err("not a line of a story".to_owned()),
        }
        Ok(())
    }

    fn target(&mut self, name: &str, rest: &[&str]) {
        let split = rest
            .iter()
            .position(|word| *word == "after")
            .unwrap_or(rest.len());
        let addresses = if split == 0 {
            vec![format!("{name}.test")]
        } else {
            owned(&rest[..split])
        };
        self.config.network.targets.push(Target {
            name: name.to_owned(),
            probes: addresses
                .into_iter()
                .map(|address| ProbeSpec {
                    address,
                    signals: vec![SignalSpec::Echo],
                })
                .collect(),
            quorum: 1,
            interval_ms: 2_000,
            timeout_ms: 1_000,
            depends_on: owned(rest.get(split + 1..).unwrap_or_default()),
        });
    }

    fn pcs(&mut self, count: u32) {
        self.config.occupancy.hosts = (0..count)
            .map(|index| PcHost {
                address: format!("192.168.1.{}", 110 + index),
                mac: None,
                name: format!("PC-{}", index + 1),
            })
            .collect();
    }

    /// `PC-3` is written as people say it and meant by its key; `PC-*` is all of them.
    fn subject(&self, text: &str) -> String {
        match self.config.occupancy.hosts.iter().find(|host| host.name == text) {
            Some(host) => format!("pc:{}", host.key()),
            None => text.to_owned(),
        }
    }
}

/// Changes one setting; durations are in seconds.
pub fn set(config: &mut SiteConfig, key: &str, value: &str) -> Result<(), String> {
    if key == "time_zone" {
        config.time_zone = value.to_owned();
        return Ok(());
    }
    let seconds = number(value)?;
    let millis = (seconds * 1e3).round() as u64;
    match key {
        "interval" => {
            config
                .network
                .targets
                .iter_mut()
                .for_each(|target| target.interval_ms = millis);
            config.occupancy.interval_ms = millis;
        }
        "timeout" => {
            config
                .network
                .targets
                .iter_mut()
                .for_each(|target| target.timeout_ms = millis);
            config.occupancy.timeout_ms = millis;
        }
        "retry_delay" => config.network.retry_delay_ms = millis,
        "min_incident" => config.network.min_incident_ms = millis,
        "remind_every" => config.network.remind_every_ms = millis,
        "escalate_after" => config.network.escalate_after_ms = millis,
        "flapping_count" => config.network.flapping_count = seconds as u32,
        "flapping_window" => config.network.flapping_window_ms = millis,
        "min_session" => config.occupancy.min_session_ms = millis,
        "batch_window" => config.occupancy.batch_window_ms = millis,
        "pcs" => config.occupancy.hosts.truncate(seconds as usize),
        "quorum" => config
            .network
            .targets
            .iter_mut()
            .for_each(|target| target.quorum = seconds as u32),
        _ => return Err(format!("no setting {key}")),
    }
    Ok(())
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| format!("{text} is not a number of seconds"))
}

fn read_span(text: &str) -> Result<(f64, f64), String> {
    let (from, to) = text
        .split_once("..")
        .ok_or_else(|| format!("{text} is not from..to"))?;
    Ok((number(from)?, number(to)?))
}
