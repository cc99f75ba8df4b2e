//! `watchfold log` on a broker: the same answers through the message plane. What only files can tell is not here.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value};
use watchfold_connect::ConnectArgs;
use watchfold_log::{MessageLog, Start};
use watchfold_schemas::Stream;

use super::{RECORDS_AT_ONCE, print, stream};
use crate::cli::{CatArgs, Format, StatArgs};
use watchfold_kit::{console, errln, outln};

/// How long the broker may take to be reached.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn stat(args: &StatArgs) -> anyhow::Result<ExitCode> {
    asked(&args.connect, async |log| {
        let mut streams = Vec::new();
        for stream in Stream::ALL {
            streams.push((stream, log.info(stream).await?));
        }
        match args.log.format {
            Format::Json => {
                let rows: Result<Map<String, Value>, serde_json::Error> = streams
                    .iter()
                    .map(|(stream, info)| Ok((stream.name().to_owned(), serde_json::to_value(info)?)))
                    .collect();
                outln!("{}", serde_json::to_string_pretty(&rows?)?)?;
            }
            Format::Human => {
                outln!(
                    "{:<8} {:>12} {:>12} {:>12} {:>12}  last stored",
                    "stream",
                    "records",
                    "first",
                    "last",
                    "bytes"
                )?;
                for (stream, info) in streams {
                    let records = (info.last_sequence + 1).saturating_sub(info.first_sequence);
                    let last = info
                        .last_stored_at
                        .map_or_else(|| "never".to_owned(), |at| at.to_string());
                    outln!(
                        "{:<8} {records:>12} {:>12} {:>12} {:>12}  {last}",
                        stream.name(),
                        info.first_sequence,
                        info.last_sequence,
                        info.bytes
                    )?;
                }
            }
        }
        Ok(())
    })
}

pub fn cat(args: &CatArgs) -> anyhow::Result<ExitCode> {
    let stream = stream(&args.stream)?;
    asked(&args.connect, async |log| {
        let mut reader = log
            .reader(stream, &args.filter, Start::Sequence(args.from))
            .await?;
        let mut left = args.limit.unwrap_or(u64::MAX);
        let mut out = BufWriter::new(console::output());
        while left > 0 {
            let most = RECORDS_AT_ONCE.min(usize::try_from(left).unwrap_or(RECORDS_AT_ONCE));
            let batch = reader.try_next(most).await?;
            if let Some(lost) = batch.lost {
                errln!("records {} to {} are gone", lost.from, lost.to);
            }
            if batch.records.is_empty() && batch.lost.is_none() {
                break;
            }
            for record in &batch.records {
                print(&mut out, stream, record, args.format)?;
                left -= 1;
            }
        }
        Ok(out.flush()?)
    })
}

fn asked(
    connect: &ConnectArgs,
    ask: impl AsyncFnOnce(Arc<dyn MessageLog>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    watchfold_kit::tracing_setup::choose_tls();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let opened = watchfold_connect::open_to_read(connect, PATIENCE).await?;
        ask(opened.log.clone()).await
    })?;
    Ok(ExitCode::SUCCESS)
}
