//! `watchfold explain`: why an incident, a session or an event came about.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use watchfold_replay::Selection;
use watchfold_replay::explain::explain as derive;

use crate::cli::{ExplainArgs, Format};
use crate::paths::Data;

pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let input = match &args.input {
        Some(input) => input.clone(),
        None => Data::locate(args.data.data.as_deref())?.path().to_owned(),
    };
    let selection = Selection {
        site: args.span.site.clone(),
        from: args.span.from,
        to: args.span.to,
        with_events: false,
    };
    let explained = derive(&input, &selection, &args.id)?;
    let text = match args.format {
        Format::Human => explained.to_string(),
        Format::Json => serde_json::to_string_pretty(&explained)? + "\n",
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // `| head` closes the pipe when it has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
