//! Runs a part while there is a configuration for it, and again when one comes later.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::Progress;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often a part without a configuration says that it has nothing to do.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// Whether a part without a configuration has nothing to do and is well, or waits for what it cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    Idle,
    Waiting,
}

/// Runs `part` while there is a configuration, until cancelled.
pub async fn while_configured<C, F, R, E>(
    config: watch::Receiver<Option<Arc<C>>>,
    without: Without,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    part: F,
) -> Result<(), E>
where
    C: Send + Sync + 'static,
    F: Fn(watch::Receiver<Arc<C>>, CancellationToken) -> R,
    R: Future<Output = Result<(), E>>,
{
    let nothing = || std::future::ready(());
    while_configured_else(config, without, progress, cancel, part, nothing).await
}

/// [`while_configured`], with something to do each time that there is no configuration (any more).
pub async fn while_configured_else<C, F, R, E, G, Q>(
    mut config: watch::Receiver<Option<Arc<C>>>,
    without: Without,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    part: F,
    gone: G,
) -> Result<(), E>
where
    C: Send + Sync + 'static,
    F: Fn(watch::Receiver<Arc<C>>, CancellationToken) -> R,
    R: Future<Output = Result<(), E>>,
    G: Fn() -> Q,
    Q: Future<Output = ()>,
{
    let mut is_idle = false;
    loop {
        let current = config.borrow_and_update().clone();
        let was_idle = std::mem::replace(&mut is_idle, current.is_none());
        if is_idle && !was_idle {
            gone().await;
        }
        let Some(first) = current else {
            if without == Without::Idle {
                progress.idle();
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                // Nobody reloads any more, because everything is about to stop.
                changed = config.changed() => if changed.is_err() { cancel.cancelled().await },
                () = tokio::time::sleep(IDLE_EVERY) => {}
            }
            continue;
        };
        progress.resume();
        let (sender, receiver) = watch::channel(first);
        let stop = cancel.child_token();
        let running = part(receiver, stop.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => return ended,
                changed = config.changed() => {
                    if changed.is_err() {
                        return running.await;
                    }
                    let next = config.borrow_and_update().clone();
                    match next {
                        Some(next) => drop(sender.send_replace(next)),
                        None => {
                            stop.cancel();
                            running.await?;
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// Runs `part` on what `map` makes of a configuration, and of every later one.
pub async fn mapped<A, B, R: Future>(
    mut input: watch::Receiver<Option<Arc<A>>>,
    map: impl Fn(&A) -> B,
    part: impl FnOnce(watch::Receiver<Option<Arc<B>>>) -> R,
) -> R::Output {
    let now = |input: &mut watch::Receiver<Option<Arc<A>>>| {
        let config = input.borrow_and_update().clone();
        config.as_deref().map(|config| Arc::new(map(config)))
    };
    let (sender, receiver) = watch::channel(now(&mut input));
    let running = part(receiver);
    tokio::pin!(running);
    loop {
        tokio::select! {
            output = &mut running => return output,
            changed = input.changed() => match changed {
                Ok(()) => drop(sender.send_replace(now(&mut input))),
                Err(_) => return running.await,
            },
        }
    }
}
