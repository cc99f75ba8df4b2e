//! What replays are given from outside: capture files, read and decoded on a thread of their own, and rules as they are written in
//! files. It judges nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::Context;
use watchfold_capture::FileSummary;
use watchfold_capture::file::is_capture;
use watchfold_capture::observe::{FileObservations, FileOptions, Torn};
use watchfold_config::{CaptureConfig, Found, HEAD_PORTS, RulesConfig};
use watchfold_replay::{
    CaptureSummary, Captured, CapturedBatches, GivenRules, Opens, Outside, OutsideError, Under,
};
use watchfold_rules::{PackName, RuleSource, load, rule_set};
use watchfold_schemas::rules::RuleSet;

use crate::config;

/// Batches decoded ahead of the folds: some MB.
const BATCHES_AHEAD: usize = 32;

/// How capture files and rules are opened here.
pub fn outside() -> Outside {
    Outside::new(Arc::new(Files {
        head_ports: HEAD_PORTS.to_vec(),
    }))
}

/// The same, with capture files read as these captures would read packets; none of them says nothing.
pub fn outside_like(captures: &[CaptureConfig]) -> Outside {
    if captures.is_empty() {
        return outside();
    }
    let mut head_ports: Vec<u16> = captures
        .iter()
        .flat_map(|capture| capture.head_ports.iter().copied())
        .collect();
    head_ports.sort_unstable();
    head_ports.dedup();
    Outside::new(Arc::new(Files { head_ports }))
}

/// What a replay folds by: what its options name, or else what was recorded. A capture file recorded nothing, so the default pack judges it.
pub fn under(config: Option<&Path>, rules: Option<&str>, is_capture: bool) -> anyhow::Result<Under> {
    let loaded = config.map(config::load).transpose()?;
    let of_config = loaded
        .as_ref()
        .filter(|loaded| loaded.rules != RulesConfig::default());
    let surroundings = of_config.map(|loaded| loaded.rules.surroundings(&Found::default()));
    let set = match (rules, of_config, config) {
        (Some(rules), _, _) => Some(rule_source(rules)?),
        (None, Some(loaded), Some(path)) => {
            let directory = path.parent().unwrap_or(Path::new("."));
            Some(rule_set(&loaded.rules, directory)?)
        }
        (None, _, _) if is_capture => Some(rule_source(PackName::Default.name())?),
        (None, _, _) => None,
    };
    Ok(Under {
        config: loaded.map(|loaded| Box::new(loaded.site)),
        rules: set.map(|set| Box::new(GivenRules { set, surroundings })),
    })
}

fn rule_source(text: &str) -> anyhow::Result<RuleSet> {
    let Ok(source) = text.parse::<RuleSource>();
    load(&source).with_context(|| format!("--rules {text}"))
}

struct Files {
    /// Packets from or to these keep the first bytes of their payload, which rules may look at.
    head_ports: Vec<u16>,
}

impl Opens for Files {
    fn is_capture(&self, path: &Path) -> bool {
        is_capture(path)
    }

    fn captures(&self, paths: &[PathBuf], site: &str) -> Result<CapturedBatches, OutsideError> {
        let options = FileOptions {
            site: site.to_owned(),
            head_ports: self.head_ports.clone(),
            ..FileOptions::default()
        };
        // Opened here, so that a wrong name is told at once.
        let mut observations = FileObservations::open(paths, options)?;
        let (sender, receiver) = sync_channel::<Result<Captured, OutsideError>>(BATCHES_AHEAD);
        let decode = move || {
            for observation in &mut observations {
                let batch = observation.map(|observation| Captured::Batch(Box::new(observation)));
                // Nobody reads on.
                if sender.send(batch.map_err(OutsideError::from)).is_err() {
                    return;
                }
            }
            for file in observations.summaries() {
                drop(sender.send(Ok(Captured::Read(summary(file)))));
            }
            let torn = observations.torn().iter().map(sentence).collect::<Vec<_>>();
            if !torn.is_empty() {
                drop(sender.send(Err(torn.join("; ").into())));
            }
        };
        std::thread::Builder::new()
            .name("decode".to_owned())
            .spawn(decode)?;
        Ok(Box::new(receiver.into_iter()))
    }

    fn rules(&self, source: &str) -> Result<RuleSet, OutsideError> {
        let Ok(source) = source.parse::<RuleSource>();
        Ok(load(&source)?)
    }
}

fn summary(file: &FileSummary) -> CaptureSummary {
    CaptureSummary {
        path: file.path.clone(),
        packets: file.packets,
        undecoded: file.unread.undecoded_by_reason().collect(),
        skipped: file.unread.skipped_by_reason().collect(),
    }
}

fn sentence(torn: &Torn) -> String {
    let Torn {
        path,
        packets,
        reason,
    } = torn;
    format!("{} is torn after {packets} packets: {reason}", path.display())
}
