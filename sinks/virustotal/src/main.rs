//! `watchfold-virustotal`: answers what the rules of every site ask, while the lease of its key is its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt;
use watchfold_config::{Config, ConfigError, Ignored, Naming, SecretRef, Sinks, load};
use watchfold_kit::SystemClock;
use watchfold_kit::reload::Followed;
use watchfold_kit::{Frame, ProcessArgs, Program, SitesArgs};
use watchfold_virustotal::{
    LookupContext, LookupStats, ORACLE, Publishers, VirusTotalConfig, VirusTotalSection,
};

/// Asks VirusTotal about addresses and names that rules want to know of. Needs a configuration with [sinks.virustotal].
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-virustotal", version, max_term_width = 100)]
struct VirusTotal {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    sites: SitesArgs,
}

type Section = Option<VirusTotalConfig>;

fn main() -> ExitCode {
    watchfold_kit::run::<VirusTotal>()
}

fn read(path: &Path) -> Result<Config<Section>, ConfigError> {
    load(
        path,
        Naming::Optional,
        |sinks: Sinks<Ignored, Ignored, VirusTotalSection<SecretRef>>, around, problems| {
            if sinks.virustotal.is_none() {
                problems.push("there is no [sinks.virustotal]: add it with the API key".to_owned());
            }
            sinks.virustotal?.resolve(around, problems)
        },
    )
}

impl VirusTotal {
    fn configuration(&self) -> anyhow::Result<Followed<Section>> {
        self.process.configuration("sinks.virustotal", read)
    }
}

impl Program for VirusTotal {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.configuration()?.current.warnings)
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let file = self.configuration()?;
        let sites = self.sites.or_named_by(&file.current);
        let config = frame.file_config(file, |config| config.sinks.clone());
        let progress = frame.stages.add("sink:virustotal");
        let stats = Arc::new(LookupStats::default());
        frame
            .figures
            .join("sink", &[("sink", ORACLE)], &stats, LookupStats::rows);
        let context = LookupContext {
            log: frame.log.clone(),
            leases: frame.leases.clone(),
            publishers: publishers(&frame),
            sites: sites.into_iter().collect(),
            clock: Arc::new(SystemClock::new()),
            state_path: frame.state().join("virustotal.state"),
            progress: progress.clone(),
            stats,
        };
        let cancel = frame.cancel();
        frame.supervise(progress, move || {
            watchfold_virustotal::run(context.clone(), config.clone(), cancel.clone())
        });
        Ok(())
    }
}

fn publishers(frame: &Arc<Frame>) -> Publishers {
    let frame = frame.clone();
    Arc::new(move |site| {
        let frame = frame.clone();
        async move { frame.verdict_publisher(&site, ORACLE).await }.boxed()
    })
}
