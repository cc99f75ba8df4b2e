//! `watchfold replay --diff --against eve.json|notice.log`: what Watchfold and another detector say of the same packets.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use watchfold_replay::peers::{Alerts, hear};

use super::source::Source;
use super::{DIFFERENT, TROUBLE};
use crate::cli::{ReplayArgs, ReplayFormat};
use watchfold_kit::{console, errln};

/// Derives ours, reads theirs, joins them and prints what only one of us has.
pub fn compare(args: &ReplayArgs, path: &Path) -> anyhow::Result<ExitCode> {
    let heard = hear(path)?;
    let mut source = Source::open(args, args.span.from, false)?;
    let mut side = source.side(args.config.as_deref(), args.rules.as_deref())?;
    let mut alerts = Alerts::default();
    while let Some(step) = source.next(&side)? {
        for event in side.engine.take(&step) {
            alerts.add(&event)?;
            side.note(&event)?;
        }
    }
    for event in side.engine.finish() {
        alerts.add(&event)?;
        side.note(&event)?;
    }
    let joined = alerts.join(heard, args.window);
    let mut out = BufWriter::new(console::output());
    match args.format {
        ReplayFormat::Jsonl => {
            let mut value = serde_json::to_value(&joined)?;
            value["is_same"] = json!(joined.is_same());
            writeln!(out, "{value}")?;
        }
        ReplayFormat::Text => writeln!(out, "{joined}")?,
    }
    out.flush()?;
    if joined.other_lines > 0 {
        errln!("{} lines of {} are no alerts", joined.other_lines, path.display());
    }
    if joined.unreadable_lines > 0 {
        errln!(
            "watchfold: {} lines of {} cannot be read",
            joined.unreadable_lines,
            path.display()
        );
    }
    source.summarize(&side);
    side.tell_digests("digest");
    Ok(source.exit(
        match joined.is_same() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(DIFFERENT),
        },
        TROUBLE,
    ))
}
