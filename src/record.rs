//! `watchfold record`: a piece of the log as one portable file.

use std::process::ExitCode;

use watchfold_replay::recording::BeginningState;
use watchfold_replay::{RecordOptions, Selection};

use crate::cli::RecordArgs;
use crate::paths::Data;

/// The recording was made, and something is wrong with what it was made from.
const TROUBLE: u8 = 2;

pub fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let data = Data::locate(args.data.data.as_deref())?;
    let selection = Selection {
        site: args.span.site.clone(),
        from: args.span.from,
        to: args.span.to,
        with_events: true,
    };
    let options = RecordOptions {
        selection,
        out: args.out.clone(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let recorded = watchfold_replay::record(data.path(), &options)?;
    println!(
        "{}: {} observations and {} events of {}, {} bytes",
        args.out.display(),
        recorded.records,
        recorded.events,
        recorded.header.sites.join(", "),
        recorded.bytes
    );
    for beginning in &recorded.header.beginnings {
        let site = &beginning.site;
        match beginning.state {
            BeginningState::Empty | BeginningState::Snapshot => {}
            BeginningState::LeadIn { from_sequence } => println!(
                "{site}: what was so before is folded from record {from_sequence} on; the log keeps nothing earlier"
            ),
            BeginningState::Cut => {
                println!("{site}: the log keeps nothing earlier, so its first hour will count as warm-up");
            }
        }
    }
    println!("hash {}", recorded.hash);
    for problem in &recorded.problems {
        eprintln!("watchfold: {problem}");
    }
    Ok(if recorded.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TROUBLE)
    })
}
