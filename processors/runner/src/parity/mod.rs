//! The background check that an hour of a chain, folded again from its snapshot, gives the events that were recorded.
//!
//! It reads and folds, at a low rate and on a thread of its own; it stores nothing, publishes nothing and judges nothing:
//! what it finds goes to its caller, as the observation that it is.

mod check;
mod compare;
mod hours;

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

/// The first check waits until the start with its own load is over.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// As often as there is a new hour to check.
const EVERY: Duration = Duration::from_secs(3_600);

/// Records folded in a second: an hour of a small site takes seconds, and a hundredth of a core meanwhile.
const RECORDS_PER_SECOND: u32 = 2_000;

/// Records of one check, those before the hour included; at the rate above it takes a quarter of an hour.
const RECORDS_MAX: u64 = 1_800_000;

/// Recorded events of one hour, in bytes: they stand in memory while it is compared.
const EVENTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Checks of one process at once: it may serve hundreds of sites, and each check keeps a thread and an hour's events.
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
    pub events_bytes_max: usize,
    /// The version that folds here; hours that another one derived are not compared.
    pub software: String,
    /// Who checks now. Clones share it, so that the sites of one process take turns.
    pub turns: Arc<Semaphore>,
}

impl ParityOptions {
    /// These, with the checks of this site at a time of their own within each round.
    pub fn apart(&self, site: &str) -> ParityOptions {
        let offset_ms = (self.every.as_millis() * u128::from(crc32c::crc32c(site.as_bytes()))) >> 32;
        ParityOptions {
            first_after: self.first_after + Duration::from_millis(offset_ms as u64),
            ..self.clone()
        }
    }
}

impl Default for ParityOptions {
    fn default() -> ParityOptions {
        ParityOptions {
            first_after: FIRST_AFTER,
            every: EVERY,
            records_per_second: RECORDS_PER_SECOND,
            records_max: RECORDS_MAX,
            events_bytes_max: EVENTS_BYTES_MAX,
            software: watchfold_folds::SOFTWARE.clone(),
            turns: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
        }
    }
}

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Hour(Parity),
    /// There is no hour to check yet, and why.
    Nothing(&'static str),
}

/// Checks the hours of one chain.
#[derive(Clone)]
pub struct ParityCheck {
    pub log: Arc<dyn MessageLog>,
    pub site: String,
    pub chain: Chain,
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
        progress.note("no hour was checked yet".to_owned());
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
                    if let Checked::Hour(parity) = checked {
                        self.warn(&parity);
                        tell(parity);
                    }
                }
                Err(error) => {
                    tracing::warn!(site = self.site, %error, "an hour could not be checked");
                    progress.note(format!("an hour could not be checked: {error}"));
                }
            }
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
                chain = self.chain.token(),
                hour = %parity.hour,
                input = difference.input,
                index = difference.index,
                message = difference.message,
                recorded = difference.recorded,
                derived = difference.derived,
                "an hour that was folded again gave other events"
            );
        }
    }
}

fn describe(checked: &Checked) -> String {
    match checked {
        Checked::Nothing(reason) => format!("no hour was checked yet: {reason}"),
        Checked::Hour(parity) => {
            let hour = parity.hour;
            match &parity.verdict {
                ParityVerdict::Agreed => {
                    format!(
                        "the hour of {hour} agrees with its recording, {} events",
                        parity.events
                    )
                }
                ParityVerdict::Differed(difference) => format!(
                    "the hour of {hour} differs from its recording, first at record {}",
                    difference.input
                ),
                ParityVerdict::NotCompared { reason } => {
                    format!("the hour of {hour} was not compared: {reason}")
                }
            }
        }
    }
}
