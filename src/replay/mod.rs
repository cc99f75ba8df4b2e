//! `watchfold replay`: logs and recordings through today's folds once more. Tells standard output, or the page of a machine's owner, and
//! nobody else.

mod line;
mod pace;
mod page;
mod peers;
mod source;

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use watchfold_replay::diff::{Diff, diff};
use watchfold_replay::{RecordedEvents, WarmUp};
use watchfold_schemas::{Chain, Event, EventBody};

use crate::cli::{ReplayArgs, ReplayFormat};
use crate::config::ConfigError;
use crate::exit;
use line::Line;
use pace::Pace;
use source::{Against, Side, Source};
use watchfold_kit::{console, errln};

/// As `diff` ends: the two sides differ.
const DIFFERENT: u8 = 1;
/// As `diff` ends: the input is damaged or cannot be used, so nothing is known, or not all.
const TROUBLE: u8 = 2;

pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    if let Some(missing) = Against::missing(args) {
        errln!(
            "watchfold: --against {missing}: there is no such file; name a configuration, another detector's file, a directory or file \
             of rules, `default` or `classic`"
        );
        return Ok(ExitCode::from(TROUBLE));
    }
    let ended = if let Against::Peer(path) = Against::of(args) {
        peers::compare(args, &path)
    } else if args.diff {
        compare(args)
    } else if args.dashboard {
        page::show(args)
    } else {
        tell(args)
    };
    match ended {
        Err(error) if console::output_error(&error).is_some() => Err(error),
        // A wrong configuration is told by its own status, but for a comparison, where 1 says that the sides differ.
        Err(error) if args.diff || !error.is::<ConfigError>() => {
            errln!("watchfold: {}", exit::sentence(&error));
            // A comparison has three statuses, and no other.
            Ok(match args.diff {
                true => ExitCode::from(TROUBLE),
                false => exit::of_input(&error, TROUBLE),
            })
        }
        ended => ended,
    }
}

/// Derives the events and prints them.
fn tell(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let mut source = Source::open(args, args.span.from, false)?;
    let mut side = source.side(args.config.as_deref(), args.rules.as_deref())?;
    let printed = Printed::of(args, source.is_of_captures());
    let mut out = BufWriter::new(console::output());
    let mut pace = Pace::new(args.speed);
    while let Some(step) = source.next(&side)? {
        while let Some(wait) = pace.wait(&step) {
            out.flush()?;
            source.show_progress_when_due(&side);
            std::thread::sleep(wait);
        }
        for event in side.engine.take(&step) {
            side.note(&event)?;
            printed.print(&mut out, &event)?;
        }
    }
    for event in side.engine.finish() {
        side.note(&event)?;
        printed.print(&mut out, &event)?;
    }
    for open in side
        .engine
        .still_open()
        .into_iter()
        .filter(|_| printed.has_attacks())
    {
        match args.format {
            ReplayFormat::Jsonl => writeln!(out, "{}", json!({ "still_open": open }))?,
            ReplayFormat::Text => writeln!(out, "{}", Line::of_open(&open))?,
        }
    }
    out.flush()?;
    source.summarize(&side);
    side.tell_digests("digest");
    Ok(source.exit(ExitCode::SUCCESS, TROUBLE))
}

/// Which events are printed, and how.
struct Printed<'a> {
    format: ReplayFormat,
    /// What a site makes of a capture file repeats what was found in it, and is left out of what a person reads.
    is_capture: bool,
    /// Only these kinds, where some are named.
    kinds: &'a [String],
}

impl<'a> Printed<'a> {
    fn of(args: &'a ReplayArgs, is_capture: bool) -> Printed<'a> {
        Printed {
            format: args.format,
            is_capture,
            kinds: &args.kinds,
        }
    }

    /// A digest sums up an hour of a log for those who check it; among what was found in a capture it is noise.
    fn is_wanted(&self, event: &Event) -> bool {
        let kind = event.body.kind();
        match self.kinds {
            [] => !(self.is_capture && matches!(event.body, EventBody::Digest(_))),
            kinds => kinds.iter().any(|wanted| wanted == kind),
        }
    }

    /// Whether attacks that have not ended are wanted, which are no events.
    fn has_attacks(&self) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.starts_with("attack_"))
    }

    fn print(&self, out: &mut impl Write, event: &Event) -> anyhow::Result<()> {
        if !self.is_wanted(event) {
            return Ok(());
        }
        match (self.format, Line::of(event)) {
            (ReplayFormat::Jsonl, _) => writeln!(out, "{}", serde_json::to_string(event)?)?,
            (ReplayFormat::Text, Some(line)) => writeln!(out, "{line}")?,
            (ReplayFormat::Text, None) if self.is_capture && self.kinds.is_empty() => {}
            (ReplayFormat::Text, None) => {
                let body = serde_json::to_value(&event.body)?;
                // The body's only key is its kind.
                let body = body
                    .as_object()
                    .and_then(|body| body.values().next())
                    .unwrap_or(&body);
                writeln!(
                    out,
                    "{}  {}  {}  {}  {body}",
                    event.at,
                    event.site,
                    event.body.kind(),
                    event.key
                )?;
            }
        }
        Ok(())
    }
}

/// Derives both sides in one pass and prints what they differ in.
fn compare(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let against = Against::of(args);
    let is_named = args.config.is_some() || args.rules.is_some();
    let with_recorded = !is_named && matches!(against, Against::Nothing);
    let mut source = Source::open(args, args.span.from, with_recorded)?;
    if with_recorded && source.is_of_captures() {
        bail!("nothing was derived of a capture file before: say what to compare with --rules and --against");
    }
    let (config, rules) = (args.config.as_deref(), args.rules.as_deref());
    let mut after = source.side(config, rules)?;
    // What is not named for the first side is as for the second.
    let mut before = match &against {
        Against::Nothing | Against::Peer(_) => source.side(None, None)?,
        Against::Config(path) => source.side(Some(path), rules)?,
        Against::Rules(set) => source.side(config, Some(set))?,
    };
    fold_both(&mut source, &mut before, &mut after, with_recorded)?;
    // What was told while the state was not known whole is not comparable.
    let warm_up = after.engine.warm_ups();
    let of_sites = warm_up.iter().filter(|one| one.chain == Chain::Site);
    let reasons: Vec<&str> = of_sites.map(|one| one.reason.as_str()).collect();
    if with_recorded && !reasons.is_empty() {
        bail!(
            "the state before the first record is not known ({}): take a recording with a snapshot, or a later --from",
            reasons.join("; ")
        );
    }
    let still_open = settle(&mut before, &mut after, with_recorded);
    let found = diff(&before.outcomes, &after.outcomes);
    let digests = (before.digests.finish(), after.digests.finish());
    // Under another configuration events differ by their nature; recorded ones should not.
    let is_same = found.is_same() && (!with_recorded || digests.0 == digests.1);
    print_diff(&found, is_same, still_open, args.format, with_recorded)?;
    source.summarize(&after);
    tell_left_out(&before, &after);
    before.tell_digests(if with_recorded {
        "digest recorded"
    } else {
        "digest before"
    });
    after.tell_digests(if with_recorded {
        "digest derived "
    } else {
        "digest after "
    });
    Ok(source.exit(
        if is_same {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DIFFERENT)
        },
        TROUBLE,
    ))
}

fn fold_both(
    source: &mut Source,
    before: &mut Side,
    after: &mut Side,
    with_recorded: bool,
) -> anyhow::Result<()> {
    let mut recorded = RecordedEvents::default();
    while let Some(step) = source.next(after)? {
        let mut was = if with_recorded {
            recorded.take(&step).into_iter().collect()
        } else {
            before.engine.take(&step)
        };
        let mut is = after.engine.take(&step);
        was.retain(|event| is_comparable(event, before, after));
        is.retain(|event| is_comparable(event, before, after));
        was.iter().try_for_each(|event| before.add(event))?;
        is.iter().try_for_each(|event| after.add(event))?;
    }
    let last = before.engine.finish();
    last.iter().try_for_each(|event| before.add(event))?;
    let last = after.engine.finish();
    last.iter().try_for_each(|event| after.add(event))?;
    Ok(())
}

/// Packets are kept for hours and observations for weeks, so the beginning of most logs is without its packets: what was found in them is
/// compared from when it is known whole.
fn is_comparable(event: &Event, before: &Side, after: &Side) -> bool {
    if event.chain == Chain::Site {
        return true;
    }
    let is_known = |warm_up: &WarmUp| {
        warm_up.chain != event.chain
            || warm_up.site != event.site
            || warm_up.until.is_some_and(|until| event.at >= until)
    };
    let engines = [&before.engine, &after.engine];
    engines
        .iter()
        .all(|engine| engine.warm_ups().iter().all(is_known))
}

/// A configuration written for one experiment easily lacks what was watched, and then everything differs.
fn tell_left_out(before: &Side, after: &Side) {
    for (site, was) in before.engine.configs() {
        let Some(is) = after.engine.config(site) else {
            continue;
        };
        let targets = was.network.targets.iter().map(|target| &target.name);
        let gone: Vec<&str> = targets
            .filter(|name| is.network.targets.iter().all(|target| target.name != **name))
            .map(String::as_str)
            .collect();
        let pcs = was.occupancy.hosts.iter();
        let pcs = pcs
            .filter(|pc| is.occupancy.hosts.iter().all(|other| other.key() != pc.key()))
            .count();
        if !gone.is_empty() || pcs > 0 {
            errln!(
                "{site}: the configuration is without {} targets ({}) and {pcs} PCs that were watched before: what they were doing counts as over",
                gone.len(),
                gone.join(", ")
            );
        }
    }
}

/// Attacks that had not ended are compared as they stood at the end. Of what was recorded no more is known than its events said.
fn settle(before: &mut Side, after: &mut Side, with_recorded: bool) -> serde_json::Value {
    let open = after.engine.still_open();
    if with_recorded {
        return json!({ "after": open });
    }
    let was_open = before.engine.still_open();
    before.outcomes.add_still_open(&was_open);
    after.outcomes.add_still_open(&open);
    json!({ "before": was_open, "after": open })
}

fn print_diff(
    found: &Diff,
    is_same: bool,
    still_open: serde_json::Value,
    format: ReplayFormat,
    with_recorded: bool,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(console::output());
    match format {
        ReplayFormat::Jsonl => {
            let mut value = serde_json::to_value(found)?;
            value["is_same"] = json!(is_same);
            value["still_open"] = still_open;
            writeln!(out, "{value}")?;
        }
        ReplayFormat::Text => {
            writeln!(out, "{found}")?;
            if with_recorded && found.is_same() && !is_same {
                writeln!(
                    out,
                    "but other events differ: compare `watchfold log cat` with `watchfold replay --format jsonl`"
                )?;
            }
        }
    }
    Ok(out.flush()?)
}
