//! `watchfold explain`: why an incident, a session, an attack or an event came about. The page asks the same over the log that this process
//! writes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfold_capture::file::is_capture;
use watchfold_dashboard::{Explain, ExplainFailure, ExplainKind, ExplainRequest};
use watchfold_replay::explain::{Explanation, explain as derive, explain_unless};
use watchfold_replay::{ReplayError, Selection, Under};
use watchfold_schemas::Span;

use crate::cli::{ExplainArgs, Format};
use crate::outside::{outside, under};
use crate::paths::Data;

/// How far before its beginning the log is read for something: `stored_at` is a little later than what was observed, unless a clock was
/// set in between.
const LOOK_BACK: Span = Span::from_seconds(60);

/// The same for what a rule found: it counts packets of a window, and no pack has one as long as this.
const LOOK_BACK_OF_RULES: Span = Span::from_seconds(600);

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
        without_packets: false,
        outside: outside(),
    };
    let under = match is_capture(&input) {
        true => under(None, Some(&args.rules), true)?,
        false => Under::recorded(),
    };
    let explained = derive(&input, &selection, &under, &args.id)?;
    let text = match args.format {
        Format::Human => explained.to_string(),
        Format::Json => serde_json::to_string_pretty(&explained)? + "\n",
    };
    watchfold_kit::console::write(text)?;
    Ok(ExitCode::SUCCESS)
}

/// For the page: explains from the log in `data`, on a thread of its own, until it is done or nobody waits any more.
pub fn explainer(data: &Data, site: &str) -> Explain {
    let (directory, site) = (data.path().to_owned(), site.to_owned());
    Arc::new(move |request, turn| {
        let (directory, site) = (directory.clone(), site.clone());
        Box::pin(async move {
            let stop = CancellationToken::new();
            let _stopping = stop.clone().drop_guard();
            let deriving = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                derive_near(&directory, &site, &request, &|| stop.is_cancelled())
            });
            let explained = deriving
                .await
                .map_err(|error| ExplainFailure::Unreadable(error.to_string()))?
                .map_err(failure)?;
            serde_json::to_value(explained).map_err(|error| ExplainFailure::Unreadable(error.to_string()))
        })
    })
}

/// Reads from shortly before it began, and only where that gives nothing the whole log.
fn derive_near(
    directory: &Path,
    site: &str,
    request: &ExplainRequest,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Explanation, ReplayError> {
    let look_back = match request.kind {
        ExplainKind::Incident | ExplainKind::Session => LOOK_BACK,
        ExplainKind::Alert | ExplainKind::Attack => LOOK_BACK_OF_RULES,
    };
    let mut selection = Selection {
        site: Some(site.to_owned()),
        from: Some(request.started_at - look_back),
        ..Selection::default()
    };
    let under = Under::recorded();
    match explain_unless(directory, &selection, &under, &request.id, is_cancelled) {
        Err(ReplayError::NotDerived { .. } | ReplayError::EmptySpan { .. }) => {
            selection.from = None;
            explain_unless(directory, &selection, &under, &request.id, is_cancelled)
        }
        explained => explained,
    }
}

fn failure(error: ReplayError) -> ExplainFailure {
    match error {
        ReplayError::NotDerived { .. } => ExplainFailure::NotDerived(
            "the log no longer gives this: the records that caused it are older than what is kept, or this version judges them otherwise"
                .to_owned(),
        ),
        error => ExplainFailure::Unreadable(error.to_string()),
    }
}
