//! `watchfold scenario`: test directories of what happened, made and run. Tells standard output, and nobody else.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use watchfold_capture::file::is_capture;
use watchfold_replay::Under;
use watchfold_replay::scenario::{self, Compared, CutOptions, Difference};
use watchfold_schemas::Span;

use crate::cli::{CutArgs, ScenarioCommand, TestArgs};
use crate::exit;
use crate::outside::{outside, under};
use watchfold_kit::{console, errln};

/// Something else follows than is expected.
const DIFFERENT: u8 = 1;
/// The input is damaged or cannot be used, so nothing is known, or not all.
const TROUBLE: u8 = 2;

pub fn run(command: &ScenarioCommand) -> anyhow::Result<ExitCode> {
    let ended = match command {
        ScenarioCommand::Cut(args) => cut(args),
        ScenarioCommand::Test(args) => test(args),
    };
    ended.or_else(|error| {
        if console::output_error(&error).is_some() {
            return Err(error);
        }
        errln!("watchfold: {}", exit::sentence(&error));
        Ok(ExitCode::from(TROUBLE))
    })
}

fn cut(args: &CutArgs) -> anyhow::Result<ExitCode> {
    let options = CutOptions {
        around: args.around.clone(),
        under: match is_capture(&args.input) {
            true => under(None, Some(&args.rules), true)?,
            false => Under::recorded(),
        },
        before: args.before,
        after: args.after,
        out: args.out.clone(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        command: command_line(args),
    };
    let cut = scenario::cut(&args.input, &outside(), &options)?;
    for sentence in &cut.recorded.unread {
        errln!("{sentence}");
    }
    for problem in &cut.recorded.problems {
        errln!("watchfold: {problem}");
    }
    tell(&format!(
        "{}: {} observations, {} events expected\n",
        args.out.display(),
        cut.recorded.records,
        cut.events
    ))?;
    Ok(if cut.recorded.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TROUBLE)
    })
}

/// What a shell takes to make the same directory.
fn command_line(args: &CutArgs) -> String {
    let length = |span: Span| quoted(&format!("{:#}", jiff::SignedDuration::from_nanos(span.0)));
    let rules = match is_capture(&args.input) {
        true => format!(" --rules {}", quoted(&args.rules)),
        false => String::new(),
    };
    format!(
        "watchfold scenario cut {} --around {}{rules} --before {} --after {} --out {}",
        quoted(&args.input.to_string_lossy()),
        quoted(&args.around),
        length(args.before),
        length(args.after),
        quoted(&args.out.to_string_lossy())
    )
}

fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    if word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What became of the scenarios of a run.
#[derive(Default)]
struct Tally {
    same: usize,
    different: usize,
    blessed: usize,
    trouble: usize,
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    let mut text = String::new();
    for directory in &args.directories {
        match scenario::find(directory) {
            Ok(found) => found
                .iter()
                .try_for_each(|path| test_one(path, args.bless, &mut tally, &mut text))?,
            Err(error) => {
                tally.trouble += 1;
                errln!("watchfold: {error}");
            }
        }
    }
    let Tally {
        same,
        different,
        blessed,
        trouble,
    } = tally;
    let of_blessed = if args.bless {
        format!(", {blessed} blessed")
    } else {
        String::new()
    };
    writeln!(
        text,
        "{same} ok, {different} different{of_blessed}, {trouble} in trouble"
    )?;
    tell(&text)?;
    Ok(match (trouble, different) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(DIFFERENT),
        _ => ExitCode::from(TROUBLE),
    })
}

fn test_one(path: &Path, bless: bool, tally: &mut Tally, text: &mut String) -> std::fmt::Result {
    let name = path.display();
    let found = scenario::compare(path, &outside()).map(|found| {
        for sentence in &found.unread {
            errln!("{name}: {sentence}");
        }
        found.compared
    });
    let trouble = match found {
        Ok(Compared::Same(events)) => {
            tally.same += 1;
            return writeln!(text, "{name}: ok, {events} events");
        }
        Ok(Compared::Different(difference)) if !bless => {
            tally.different += 1;
            let Difference { line, wanted, got } = &difference;
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing more".to_owned());
            return writeln!(
                text,
                "{name}: differs at line {line} of {}\n  wanted {}\n  got    {}",
                scenario::EXPECTED,
                side(wanted),
                side(got)
            );
        }
        Err(error) if !bless => error,
        // What blessing replaces need neither be there nor be readable.
        _ => match scenario::bless(path, &outside()) {
            Ok(events) => {
                tally.blessed += 1;
                return writeln!(text, "{name}: blessed, {events} events");
            }
            Err(error) => error,
        },
    };
    tally.trouble += 1;
    errln!("watchfold: {name}: {trouble}");
    writeln!(text, "{name}: in trouble")
}

fn tell(text: &str) -> anyhow::Result<()> {
    console::while_read(console::write(text).map_err(Into::into)).map(drop)
}
