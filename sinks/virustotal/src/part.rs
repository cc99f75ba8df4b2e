//! The oracle as a part of a process.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use watchfold_config::{ConfigError, Ignored, Naming, SecretRef, Sinks, load};
use watchfold_kit::{Context, Kind, Loaded, Part, SystemClock};

use crate::config::{VirusTotalConfig, VirusTotalSection};
use crate::{LookupContext, LookupStats, ORACLE, Publishers};

/// Asks VirusTotal about addresses and names that the rules of sites ask about, while the lease of its key is its own.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(
    about = "Asks VirusTotal about addresses and names that rules ask about. Needs a configuration with [sinks.virustotal]"
)]
pub struct VirusTotal {}

impl Part for VirusTotal {
    const NAME: &'static str = ORACLE;
    const KIND: Kind = Kind::Oracle;
    const NEEDS: Option<&'static str> = Some("sinks.virustotal");

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load(
            path,
            Naming::Optional,
            |sinks: Sinks<Ignored, Ignored, VirusTotalSection<SecretRef>>, around, problems| {
                if sinks.virustotal.is_none() {
                    problems.push(
                        "sinks.virustotal",
                        "there is no [sinks.virustotal]: add it with the API key",
                    );
                }
                sinks.virustotal?.resolve(around, problems)
            },
        )?;
        let section = config.sinks.clone();
        Ok(Loaded::of(config)?.with(section))
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let config = context.section::<VirusTotalConfig>();
        let progress = context.stage();
        let stats = Arc::new(LookupStats::default());
        context
            .figures()
            .join("sink", &[("sink", ORACLE)], &stats, LookupStats::rows);
        let lookups = LookupContext {
            log: context.log(),
            leases: context.leases(),
            publishers: publishers(&context),
            sites: context.frame().scope.named().iter().cloned().collect(),
            clock: Arc::new(SystemClock::new()),
            state_path: context.frame().state().join("virustotal.state"),
            progress: progress.clone(),
            stats,
        };
        let cancel = context.cancel();
        context.supervise(progress, move || {
            crate::run(lookups.clone(), config.clone(), cancel.clone())
        });
        Ok(())
    }
}

fn publishers(context: &Context) -> Publishers {
    let frame = context.frame().clone();
    Arc::new(move |site| {
        let frame = frame.clone();
        async move { frame.verdict_publisher(&site, ORACLE).await }.boxed()
    })
}
