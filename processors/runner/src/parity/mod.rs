//! The background check that a stretch of a chain, folded again from its snapshot, gives the events that were recorded: an
//! hour of the site chain, what follows a snapshot of the packet chain.
//!
//! It reads and folds, at a low rate and on a thread of its own; it stores nothing, publishes nothing and judges nothing:
//! what it finds goes to its caller, as the observation that it is.

mod check;
mod compare;
mod hours;
mod snapshots;
mod stretch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use watchfold_folds::StateMachine;
use watchfold_kit::Progress;
use watchfold_log::MessageLog;
use watchfold_schemas::Chain;
use watchfold_schemas::observation::{Parity, ParityVerdict};

use crate::error::RunnerError;
use crate::stats::StatsHandle;

/// The first check waits until the start with its own load is over.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// As often as there is a new hour to check.
const EVERY: Duration = Duration::from_secs(3_600);

/// Records folded in a second: an hour of a small site takes seconds, and a hundredth of a core meanwhile.
const RECORDS_PER_SECOND: u32 = 2_000;

/// The same of packets: a span takes seconds to fold, but packets are kept for minutes only where a link is busy. As far
/// apart as two snapshots at least are.
const PACKETS_EVERY: Duration = Duration::from_secs(600);

/// Records of one check, those before the hour included; at the rate above it takes a quarter of an hour.
const RECORDS_MAX: u64 = 1_800_000;

/// Records of one check of packets: those of ten hours of eight captures on a quiet network.
const PACKET_RECORDS_MAX: u64 = 300_000;

/// Bytes of packets in one check: the eighth of the stream after which the next snapshot comes, and half as much again.
const PACKET_BYTES_MAX: u64 = 384 * 1024 * 1024;

/// One part of so many of a core is worked, the others rested: a flood takes five times as long to fold as other packets,
/// and slow machines are to notice a check as little as fast ones.
const PACKET_WORK_PARTS: u32 = 20;

/// Recorded events of one stretch, in bytes: they stand in memory while it is compared.
const EVENTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Checks of one process at once: it may serve hundreds of sites, and each check keeps a thread, a state and a stretch's events.
const CHECKS_AT_ONCE: usize = 1;

/// How often a check that waits or works says that it does.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Makes the chain of a site, as new.
pub type NewChain = fn(site: &str) -> Box<dyn StateMachine>;

/// The rhythm and the limits of the check. Production uses the defaults.
#[derive(Clone, Debug)]
pub struct ParityOptions {
    pub first_after: Duration,
    pub every: Duration,
    pub records_per_second: u32,
    pub records_max: u64,
    pub bytes_max: u64,
    /// One part of so many of a core is worked, the others rested.
    pub work_parts: u32,
    pub events_bytes_max: usize,
    /// The version that folds here; what another one derived is not compared. Of packets the runner says it.
    pub software: String,
    /// Who checks now. Clones share it, so that the sites of one process take turns.
    pub turns: Arc<Semaphore>,
}

impl ParityOptions {
    pub fn for_chain(chain: Chain) -> ParityOptions {
        let site = ParityOptions {
            first_after: FIRST_AFTER,
            every: EVERY,
            records_per_second: RECORDS_PER_SECOND,
            records_max: RECORDS_MAX,
            // Its records are small: their number and their rate bound the rest.
            bytes_max: u64::MAX,
            work_parts: 1,
            events_bytes_max: EVENTS_BYTES_MAX,
            software: watchfold_folds::SiteChain::software(),
            turns: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
        };
        match chain {
            Chain::Site => site,
            Chain::Packets => ParityOptions {
                every: PACKETS_EVERY,
                records_max: PACKET_RECORDS_MAX,
                bytes_max: PACKET_BYTES_MAX,
                work_parts: PACKET_WORK_PARTS,
                ..site
            },
        }
    }

    /// These, with the checks of this site at a time of their own within each round.
    pub fn apart(&self, site: &str) -> ParityOptions {
        let offset_ms = (self.every.as_millis() * u128::from(crc32c::crc32c(site.as_bytes()))) >> 32;
        ParityOptions {
            first_after: self.first_after + Duration::from_millis(offset_ms as u64),
            ..self.clone()
        }
    }
}

/// Which of a chain's records are folded again.
#[derive(Clone, Debug)]
pub enum Spans {
    /// The site chain's hours, each between two digests.
    Hours,
    /// What follows a snapshot of the packet chain. Its runner knows how far the log has its events, and since when this
    /// software made them.
    Snapshots(StatsHandle),
}

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Found(Parity),
    /// There is nothing to check yet, and why.
    Nothing(&'static str),
}

/// Checks one chain of a site.
#[derive(Clone)]
pub struct ParityCheck {
    pub log: Arc<dyn MessageLog>,
    pub site: String,
    pub spans: Spans,
    pub fold: NewChain,
    pub options: ParityOptions,
}

impl ParityCheck {
    /// Checks now and then until cancelled. `tell` gets what each check found; a log that fails is tried at the next.
    pub async fn run(
        self,
        progress: Arc<Progress>,
        cancel: CancellationToken,
        tell: impl Fn(Parity) + Send,
    ) -> Result<(), RunnerError> {
        let mut due = Instant::now() + self.options.first_after;
        let mut number = 0;
        progress.note("nothing was checked yet".to_owned());
        loop {
            while Instant::now() < due {
                progress.advance(number, number);
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = sleep_until(due.min(Instant::now() + ALIVE_EVERY)) => {}
                }
            }
            let checking = self.check_in_turn(number);
            tokio::pin!(checking);
            let checked = loop {
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    checked = &mut checking => break checked,
                    () = sleep(ALIVE_EVERY) => progress.advance(number, number),
                }
            };
            number += 1;
            due = Instant::now() + self.options.every;
            match checked {
                Ok(checked) => {
                    progress.note(describe(&checked));
                    if let Checked::Found(parity) = checked {
                        self.warn(&parity);
                        tell(parity);
                    }
                }
                Err(error) => {
                    let chain = self.chain().token();
                    tracing::warn!(site = self.site, chain, %error, "the chain could not be checked");
                    progress.note(format!("the chain could not be checked: {error}"));
                }
            }
        }
    }

    pub(super) const fn chain(&self) -> Chain {
        match self.spans {
            Spans::Hours => Chain::Site,
            Spans::Snapshots(_) => Chain::Packets,
        }
    }

    async fn check_in_turn(&self, number: u64) -> Result<Checked, RunnerError> {
        // It is never closed; if it were, one more at once would do no harm.
        let turn = self.options.turns.clone().acquire_owned().await.ok();
        self.check_apart(number, turn)?.await
    }

    /// One check on a thread of its own, which ends when nobody waits for it any more; the turn ends with it.
    fn check_apart(
        &self,
        number: u64,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<impl Future<Output = Result<Checked, RunnerError>> + use<>, RunnerError> {
        let (mut done, outcome) = oneshot::channel();
        let check = self.clone();
        std::thread::Builder::new()
            .name("parity".to_owned())
            .spawn(move || {
                let _turn = turn;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let checked = match runtime {
                    Ok(runtime) => runtime.block_on(async {
                        tokio::select! {
                            checked = check.check(number) => Some(checked.map_err(RunnerError::from)),
                            () = done.closed() => None,
                        }
                    }),
                    Err(error) => Some(Err(RunnerError::Thread(error))),
                };
                if let Some(checked) = checked {
                    // Nobody is left to tell when the caller stopped meanwhile.
                    drop(done.send(checked));
                }
            })
            .map_err(RunnerError::Thread)?;
        Ok(async move { outcome.await.unwrap_or(Err(RunnerError::Panicked)) })
    }

    fn warn(&self, parity: &Parity) {
        if let ParityVerdict::Differed(difference) = &parity.verdict {
            tracing::error!(
                site = self.site,
                chain = self.chain().token(),
                at = %parity.hour,
                input = difference.input,
                index = difference.index,
                message = difference.message,
                recorded = difference.recorded,
                derived = difference.derived,
                "what was folded again gave other events"
            );
        }
    }
}

fn describe(checked: &Checked) -> String {
    let parity = match checked {
        Checked::Nothing(reason) => return format!("nothing was checked yet: {reason}"),
        Checked::Found(parity) => parity,
    };
    let Parity {
        chain,
        hour: at,
        from,
        to,
        events,
        ..
    } = parity;
    let what = match chain {
        Chain::Site => format!("the hour of {at}"),
        Chain::Packets => format!("what followed the snapshot of {at}, records {from} to {to},"),
    };
    match &parity.verdict {
        ParityVerdict::Agreed => format!("{what} agrees with its recording, {events} events"),
        ParityVerdict::Differed(difference) => {
            let input = difference.input;
            format!("{what} differs from its recording, first at record {input}")
        }
        ParityVerdict::NotCompared { reason } => format!("{what} was not compared: {reason}"),
    }
}
