//! `watchfold log`: looks into the log of a data directory, whether a process owns it or not, or into a broker's.

mod remote;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use watchfold_connect::ConnectArgs;
use watchfold_log::{Record, Report, Start, StreamFiles, stat, verify};
use watchfold_schemas::{Stream, decode_event, decode_observation};

use crate::cli::{CatArgs, CatFormat, DataArgs, Format, LogCommand};
use crate::paths::Data;
use watchfold_kit::{console, errln, outln};

/// Records held at once while printing.
const RECORDS_AT_ONCE: usize = 256;

pub fn run(command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Stat(args) => match args.connect.is_elsewhere() {
            true => remote::stat(&args),
            false => report(&directory(&args.log.data, &args.connect)?, args.log.format, false),
        },
        LogCommand::Verify(args) => {
            let directory = directory(&args.data, &ConnectArgs::default())?;
            report(&directory, args.format, true)
        }
        LogCommand::Cat(args) => match args.connect.is_elsewhere() {
            true => remote::cat(&args),
            false => cat(&args),
        },
    }
}

fn directory(data: &DataArgs, connect: &ConnectArgs) -> anyhow::Result<PathBuf> {
    let named = connect.log.as_deref().and_then(|url| url.strip_prefix("file:"));
    let directory = match named {
        Some(path) => PathBuf::from(path.strip_prefix("//").unwrap_or(path)),
        None => Data::locate(data.data.as_deref())?.log(),
    };
    if !directory.is_dir() {
        bail!(
            "there is no log in {}: say where the data is with --data DIR",
            directory.display()
        );
    }
    Ok(directory)
}

fn report(directory: &Path, format: Format, whole: bool) -> anyhow::Result<ExitCode> {
    let report = if whole {
        verify(directory)?
    } else {
        stat(directory)?
    };
    console::while_read(print_report(&report, format))?;
    Ok(if report.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn print_report(report: &Report, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => outln!("{}", serde_json::to_string_pretty(&report)?)?,
        Format::Human => {
            outln!(
                "{:<8} {:>12} {:>12} {:>12} {:>12} {:>9}  last stored",
                "stream",
                "records",
                "first",
                "last",
                "bytes",
                "damaged"
            )?;
            for stream in &report.streams {
                let last = stream
                    .last_stored_at
                    .map_or_else(|| "never".to_owned(), |at| at.to_string());
                outln!(
                    "{:<8} {:>12} {:>12} {:>12} {:>12} {:>9}  {last}",
                    stream.stream,
                    stream.records,
                    stream.first_sequence,
                    stream.last_sequence,
                    stream.bytes,
                    stream.damaged
                )?;
                if stream.torn_tail_bytes > 0 {
                    outln!(
                        "         {} bytes at the end are no whole record: torn by a crash, or being written",
                        stream.torn_tail_bytes
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn cat(args: &CatArgs) -> anyhow::Result<ExitCode> {
    let directory = directory(&args.data, &args.connect)?;
    let stream = stream(&args.stream)?;
    let Some(mut files) = StreamFiles::open_filtered(&directory, stream, &args.filter)? else {
        bail!("{} holds nothing of {stream} yet", directory.display());
    };
    files.seek(&Start::Sequence(args.from))?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut out = BufWriter::new(console::output());
    while left > 0 {
        let batch = files.next(RECORDS_AT_ONCE.min(usize::try_from(left).unwrap_or(RECORDS_AT_ONCE)))?;
        if let Some(lost) = batch.lost {
            errln!("records {} to {} are gone or damaged", lost.from, lost.to);
        }
        if batch.records.is_empty() && batch.lost.is_none() {
            break;
        }
        for record in &batch.records {
            print(&mut out, stream, record, args.format)?;
            left -= 1;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn stream(name: &str) -> anyhow::Result<Stream> {
    Stream::from_name(name).with_context(|| {
        let known: Vec<&str> = Stream::ALL.iter().map(|stream| stream.name()).collect();
        format!("no stream {name:?}: there are {}", known.join(", "))
    })
}

fn print(out: &mut impl Write, stream: Stream, record: &Record, format: CatFormat) -> std::io::Result<()> {
    let content = content(stream, record);
    match format {
        CatFormat::Jsonl => {
            let line = json!({
                "sequence": record.sequence,
                "stored_at": record.stored_at,
                "id": record.id,
                "subject": record.subject,
                "content": content,
            });
            writeln!(out, "{line}")
        }
        CatFormat::Human => {
            let body = content.get("body").unwrap_or(&content);
            writeln!(
                out,
                "{:>8}  {}  {}  {body}",
                record.sequence, record.stored_at, record.subject
            )
        }
    }
}

/// The message as JSON, or what is wrong with it and its bytes.
fn content(stream: Stream, record: &Record) -> Value {
    let decoded = match stream {
        Stream::Observations | Stream::Packets => {
            decode_observation(&record.payload).map(serde_json::to_value)
        }
        Stream::Events => decode_event(&record.payload).map(serde_json::to_value),
        Stream::Commands | Stream::Snapshots => return json!({ "bytes": record.payload.len() }),
    };
    match decoded {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(error) => {
            let hex: String = record.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "error": error.to_string(), "bytes": hex })
        }
    }
}
