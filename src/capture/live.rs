//! `watchfold capture interfaces` and `watchfold capture live`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use watchfold_capture::{CaptureConfig, CaptureError, Interface, check, config, interfaces as list, look};

use super::protocol_name;
use crate::cli::{CaptureInterfacesArgs, CaptureLiveArgs, Format};
use watchfold_kit::console::OutputError;
use watchfold_kit::{errln, outln};

pub fn interfaces(args: &CaptureInterfacesArgs) -> anyhow::Result<ExitCode> {
    let mut not_allowed = None;
    for interface in list()? {
        let trouble = check(&CaptureConfig::of(&interface.name)).err();
        match args.format {
            Format::Json => outln!("{}", line(&interface, trouble.map(|error| error.to_string())))?,
            Format::Human => {
                show(&interface, trouble.as_ref())?;
                if let Some(error @ CaptureError::NotAllowed { .. }) = trouble {
                    not_allowed = Some(error);
                }
            }
        }
    }
    // Once, because it is the same for all of them.
    if let Some(error) = not_allowed {
        errln!("watchfold: {error}");
    }
    Ok(ExitCode::SUCCESS)
}

fn line(interface: &Interface, trouble: Option<String>) -> serde_json::Value {
    json!({
        "name": interface.name,
        "description": interface.description,
        "addresses": interface.addresses,
        "is_up": interface.is_up,
        "is_loopback": interface.is_loopback,
        "trouble": trouble,
    })
}

fn show(interface: &Interface, trouble: Option<&CaptureError>) -> Result<(), OutputError> {
    let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
    let state = if interface.is_up { "up" } else { "down" };
    let about = interface.description.as_deref().unwrap_or_default();
    let trouble = match trouble {
        None => String::new(),
        Some(CaptureError::NotAllowed { .. }) => "not allowed".to_owned(),
        Some(CaptureError::Open { reason, .. }) => format!("no packets: {reason}"),
        Some(error) => error.to_string(),
    };
    let rest = [addresses.join(", "), about.to_owned(), trouble];
    let rest: Vec<String> = rest.into_iter().filter(|part| !part.is_empty()).collect();
    outln!("{:<18} {state:<5} {}", interface.name, rest.join("; "))
}

pub fn live(args: &CaptureLiveArgs) -> anyhow::Result<ExitCode> {
    let capture = CaptureConfig {
        filter: args.filter.clone(),
        snap_length: args.snap_length,
        promiscuous: !args.not_promiscuous,
        ..CaptureConfig::of(&args.interface)
    };
    config::check_filter(&capture)?;
    let stopped = Arc::new(AtomicBool::new(false));
    stop_on_signal(stopped.clone())?;
    let seconds_max = args.seconds.map(i64::from);
    let mut protocols: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut received = 0;
    let visit = |packet: &watchfold_capture::parse::Packet<'_>| {
        *protocols.entry(protocol_name(packet.protocol)).or_default() += 1;
    };
    let counts = look(&capture, args.write.as_deref(), visit, |passed, counts| {
        errln!(
            "{} packets/s, {} so far; {} dropped by the kernel, {} by the interface",
            counts.received - received,
            counts.received,
            counts.dropped_by_kernel,
            counts.dropped_by_interface
        );
        received = counts.received;
        let is_over = seconds_max.is_some_and(|seconds| passed.as_millis() >= seconds * 1_000);
        !is_over && !stopped.load(Ordering::Relaxed)
    })?;
    let rows: Vec<String> = protocols
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    outln!(
        "{} packets: {}; {} without a row; {} dropped by the kernel",
        counts.received,
        rows.join(", "),
        counts.undecoded,
        counts.dropped_by_kernel
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What was written until then is kept.
fn stop_on_signal(stopped: Arc<AtomicBool>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    stopped.store(true, Ordering::Relaxed);
                }
            });
        })?;
    Ok(())
}
