//! Captures on the interfaces that the latest configuration names, each by itself.
//!
//! One that fails is started again; the others go on.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_config::{COLLECTOR_PREFIX, CaptureConfig};
use watchfold_kit::stages::Stage;
use watchfold_kit::{KitError, Progress, Publisher};
use watchfold_schemas::{Body, Stream};

use crate::error::CaptureError;
use crate::probe;
use crate::tap::{self, OpenWire};

/// How long one that failed is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// How long the word that a capture is over may take into the log before others are looked after.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// What one interface's capture needs of its process.
#[derive(Clone)]
pub struct Given {
    /// Of the collector that [`CaptureConfig::collector`] names, for both streams
    /// ([`watchfold_kit::PublisherOptions::packets`]).
    pub publisher: Arc<Publisher>,
    pub stage: Arc<Stage>,
    /// Why the name is another process's, while it is: nothing is captured meanwhile, because nobody would hear it.
    pub taken: watch::Receiver<Option<String>>,
}

/// How often it is shown that the configuration is followed, far more often than a part that stands still is called stuck.
const SHOW_EVERY: Duration = Duration::from_secs(10);

/// Captures until cancelled. `open` is asked once for each collector; each keeps packets in a directory of its name under
/// `rings`. `progress` shows that the configuration is followed; each collector has one of its own.
pub async fn run_several<O, F>(
    configs: watch::Receiver<Arc<Vec<CaptureConfig>>>,
    open: O,
    rings: PathBuf,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), CaptureError>
where
    O: Fn(CaptureConfig) -> F,
    F: Future<Output = Result<Given, KitError>>,
{
    let capturing = Capturing {
        wires: tap::live(),
        rings,
        pause: PAUSE,
    };
    run_on(capturing, configs, open, progress, cancel).await
}

/// What all captures have in common.
#[derive(Clone)]
struct Capturing {
    wires: OpenWire,
    rings: PathBuf,
    /// How long one that failed is left alone.
    pause: Duration,
}

async fn run_on<O, F>(
    capturing: Capturing,
    mut configs: watch::Receiver<Arc<Vec<CaptureConfig>>>,
    open: O,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), CaptureError>
where
    O: Fn(CaptureConfig) -> F,
    F: Future<Output = Result<Given, KitError>>,
{
    // Also when this ends in an error, nothing is left behind.
    let stopping = cancel.child_token();
    let _stop_on_return = stopping.clone().drop_guard();
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    loop {
        let wanted = configs.borrow_and_update().clone();
        let gone = running.extract_if(.., |_, one| !wanted.contains(&one.config));
        for (collector, one) in gone.collect::<Vec<_>>() {
            // What stops and begins again must have stopped before: both publish under one name.
            one.end().await;
            let is_over = wanted.iter().all(|config| config.collector() != collector);
            if let (true, Some(parts)) = (is_over, given.get(&collector))
                && let Err(error) = farewell(&parts.publisher).await
            {
                tracing::error!(collector, %error, "what was open of a capture that is over stays open");
            }
        }
        for config in wanted.iter() {
            let collector = config.collector();
            if running.contains_key(&collector) {
                continue;
            }
            let parts = match given.get(&collector) {
                Some(parts) => parts.clone(),
                None => open(config.clone()).await?,
            };
            given.insert(collector.clone(), parts.clone());
            let stop = stopping.child_token();
            let task = tokio::spawn(one(capturing.clone(), parts, config.clone(), stop.clone()));
            let config = config.clone();
            running.insert(collector, Running { config, stop, task });
        }
        progress.advance(0, 0);
        for (collector, parts) in &given {
            if !running.contains_key(collector) {
                parts.stage.progress().advance(0, 0);
                parts.stage.progress().ok();
            }
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(SHOW_EVERY) => {}
            // Nobody reloads any more, because everything is about to stop.
            changed = configs.changed() => if changed.is_err() { cancel.cancelled().await; break },
        }
    }
    for one in running.into_values() {
        one.end().await;
    }
    Ok(())
}

/// One that captures.
struct Running {
    config: CaptureConfig,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(interface = self.config.interface, %error, "a capture ended in a panic");
        }
    }
}

/// Tells who folds packets that this collector captures no more: a new incarnation without packets, with which what was
/// open of it ends. Nothing else would come of it. Said once: what the log does not take now is said again at the next start.
pub async fn farewell(publisher: &Publisher) -> Result<Farewell, KitError> {
    publisher.renew();
    publisher.submit_in(Stream::Packets, Body::Quiet)?;
    let lost_before = publisher.stats().dropped;
    let flushed = tokio::time::timeout(FAREWELL_WAIT, publisher.flush()).await;
    if flushed.is_err() || publisher.stats().dropped > lost_before {
        tracing::warn!("the log does not take yet that a capture is over");
        return Ok(Farewell::Unheard);
    }
    publisher.retire()?;
    Ok(Farewell::Said)
}

/// Whether the word that a capture is over is in the log, or safe on its way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    Said,
    Unheard,
}

/// Says farewell for captures that published from this state directory and that the configuration names no more: they were
/// taken out of it while nothing ran. Captures of other machines have their state elsewhere. `open` gives a collector's
/// publisher.
pub async fn farewell_to_gone<O, F, E>(state: &Path, configs: &[CaptureConfig], open: O)
where
    O: Fn(String) -> F,
    F: Future<Output = Result<Arc<Publisher>, E>>,
    E: std::fmt::Display,
{
    let gone = match gone(state, configs) {
        Ok(gone) => gone,
        Err(error) => {
            tracing::error!(%error, "captures that are gone are not known, so what was open of them stays open");
            return;
        }
    };
    for collector in gone {
        let opened = open(collector.clone()).await.map_err(|error| error.to_string());
        let said = match opened {
            Ok(publisher) => farewell(&publisher).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match said {
            Ok(Farewell::Said) => tracing::info!(collector, "a capture that is configured no more is over"),
            // Captures do not wait for a log that takes nothing: the rest is said at the next start.
            Ok(Farewell::Unheard) => return,
            Err(error) => tracing::error!(
                collector,
                error,
                "what was open of a capture that is gone stays open"
            ),
        }
    }
}

/// Collectors of captures that published from this state directory, that have not said farewell and that the configuration
/// names no more.
pub fn gone(state: &Path, configs: &[CaptureConfig]) -> Result<Vec<String>, KitError> {
    let mut gone = watchfold_kit::published_from(state, COLLECTOR_PREFIX)?;
    gone.retain(|collector| configs.iter().all(|config| config.collector() != *collector));
    Ok(gone)
}

/// A capture that ends before it is stopped, in an error or in a panic, begins again; so does one whose name is its own
/// again.
async fn one(capturing: Capturing, given: Given, config: CaptureConfig, stop: CancellationToken) {
    let ring = capturing.rings.join(config.collector());
    let mut taken = given.taken.clone();
    while !stop.is_cancelled() {
        let publisher = given.publisher.clone();
        let progress = given.stage.progress().clone();
        let another = taken.borrow_and_update().clone();
        if let Some(why) = another {
            progress.fail(why);
            stop.run_until_cancelled(until(&mut taken, Option::is_none)).await;
            continue;
        }
        let (shown, ending) = (progress.clone(), stop.child_token());
        let captured = probe::run_on(
            capturing.wires.clone(),
            publisher,
            config.clone(),
            ring.clone(),
            progress,
            ending.clone(),
        );
        let mut running = tokio::spawn(captured);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = until(&mut taken, Option::is_some) => {
                ending.cancel();
                running.await
            }
        };
        let why = match ended {
            _ if stop.is_cancelled() => return,
            _ if ending.is_cancelled() => continue,
            Ok(Ok(())) => "it ended by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::error!(interface = config.interface, why, "the capture stopped");
        shown.fail(format!("stopped: {why}"));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(capturing.pause) => {}
        }
    }
}

/// Who would tell is gone when everything is about to stop.
async fn until(taken: &mut watch::Receiver<Option<String>>, is_so: fn(&Option<String>) -> bool) {
    if taken.wait_for(is_so).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{Played, tcp_frame};
    use watchfold_kit::PublisherOptions;
    use watchfold_kit::stages::Stages;
    use watchfold_log::memory::MemoryLog;
    use watchfold_schemas::{Observation, decode_observation};

    fn capture(name: &str) -> CaptureConfig {
        CaptureConfig {
            name: name.to_owned(),
            ..CaptureConfig::of("none-such")
        }
    }

    /// Of this collector, in the stream of packets.
    fn records(log: &MemoryLog, config: &CaptureConfig) -> Vec<Observation> {
        log.records(Stream::Packets)
            .iter()
            .map(|record| decode_observation(&record.payload).unwrap())
            .filter(|observation| observation.origin.collector == config.collector())
            .collect()
    }

    async fn soon(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..3_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not come");
    }

    #[tokio::test]
    async fn one_that_was_taken_out_while_nothing_ran_is_over_at_the_next_start_once() {
        let log = MemoryLog::new();
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let publisher = async |state: &Path, collector: String| {
            let options = PublisherOptions::packets(None);
            Publisher::open_with(log.clone(), "cafe-1", &collector, state, options).await
        };
        let (lan, wan, far) = (capture("lan"), capture("wan"), capture("far"));
        let mut before = 0;
        for (state, config) in [(&here, &lan), (&here, &wan), (&elsewhere, &far)] {
            let running = publisher(state.path(), config.collector()).await.unwrap();
            running.publish(Body::Quiet).await.unwrap();
            before = running.stats().incarnation;
        }
        let of_ping = publisher(here.path(), "ping".to_owned()).await.unwrap();
        of_ping.publish(Body::Quiet).await.unwrap();
        let start = async |configs: &[CaptureConfig]| {
            let open = |collector| publisher(here.path(), collector);
            farewell_to_gone(here.path(), configs, open).await;
        };
        for _ in 0..2 {
            start(std::slice::from_ref(&wan)).await;
            let said = records(&log, &lan);
            assert_eq!(said.len(), 1, "once");
            assert_eq!(said[0].body, Body::Quiet);
            assert!(said[0].origin.incarnation > before);
        }
        assert!(records(&log, &wan).is_empty() && records(&log, &far).is_empty());
        assert_eq!(log.records(Stream::Packets).len(), 1, "nobody else says anything");
        // It captures again, is taken out again, and is over again.
        let again = publisher(here.path(), lan.collector()).await.unwrap();
        again.publish(Body::Quiet).await.unwrap();
        start(&[]).await;
        let incarnations = |config: &CaptureConfig| -> Vec<u64> {
            let of = records(&log, config).into_iter();
            of.map(|record| record.origin.incarnation).collect()
        };
        let said = incarnations(&lan);
        assert!(said.len() == 2 && said.is_sorted(), "{said:?}");
        assert_eq!(incarnations(&wan).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_log_does_not_take_is_said_again_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        let lan = capture("lan");
        let log = MemoryLog::new();
        let open = async |collector: String| {
            let options = PublisherOptions::packets(None);
            Publisher::open_with(log.clone(), "cafe-1", &collector, state.path(), options).await
        };
        drop(open(lan.collector()).await.unwrap());
        log.fail_appends(true);
        farewell_to_gone(state.path(), &[], open).await;
        assert_eq!(gone(state.path(), &[]).unwrap(), [lan.collector()]);
        log.fail_appends(false);
        farewell_to_gone(state.path(), &[], open).await;
        assert_eq!(gone(state.path(), &[]).unwrap(), [""; 0]);
        assert!(!records(&log, &lan).is_empty());
    }

    #[tokio::test]
    async fn one_that_is_taken_out_says_so_among_the_packets_and_the_other_goes_on() {
        let log = MemoryLog::new();
        let directory = tempfile::tempdir().unwrap();
        let (lan, wan) = (capture("lan"), capture("wan"));
        let (sender, configs) = watch::channel(Arc::new(vec![lan.clone(), wan.clone()]));
        let cancel = CancellationToken::new();
        let (opened, state) = (log.clone(), directory.path().to_owned());
        let (name_of, names) = watch::channel(None);
        let open = move |config: CaptureConfig| {
            let (log, state, names) = (opened.clone(), state.clone(), names.clone());
            async move {
                let options = PublisherOptions::packets(None);
                let name = config.collector();
                let publisher = Publisher::open_with(log, "cafe-1", &name, &state, options);
                Ok(Given {
                    publisher: publisher.await?,
                    stage: Arc::new(Stages::default().join("capture", None)),
                    taken: names.clone(),
                })
            }
        };
        let rings = directory.path().join("ring");
        let progress = Progress::new("captures");
        let running = run_several(configs, open, rings, progress.clone(), cancel.clone());
        let running = tokio::spawn(running);
        let told = |config: &CaptureConfig| {
            let collector = config.collector();
            let of = |record: &watchfold_log::Record| {
                decode_observation(&record.payload).unwrap().origin.collector == collector
            };
            log.records(Stream::Observations).iter().filter(|r| of(r)).count()
        };
        // Each tells that it starts, and that there is no such interface.
        soon("a fault of each", || told(&lan) >= 2 && told(&wan) >= 2).await;
        assert!(progress.snapshot().advanced_age.is_some(), "it has begun");
        assert!(records(&log, &lan).is_empty());
        sender.send_replace(Arc::new(vec![wan.clone()]));
        soon("the farewell", || !records(&log, &lan).is_empty()).await;
        let farewell = records(&log, &lan);
        assert_eq!(farewell.len(), 1);
        assert_eq!(farewell[0].body, Body::Quiet);
        let incarnations = |config: &CaptureConfig| {
            let all = log.records(Stream::Observations).into_iter();
            all.map(|record| decode_observation(&record.payload).unwrap().origin)
                .filter(|origin| origin.collector == config.collector())
                .map(|origin| origin.incarnation)
                .max()
        };
        assert!(Some(farewell[0].origin.incarnation) > incarnations(&lan));
        let over = [lan.collector()];
        soon("nothing is left to say", || {
            gone(directory.path(), std::slice::from_ref(&wan))
                .unwrap()
                .is_empty()
        })
        .await;
        assert!(records(&log, &wan).is_empty(), "that one goes on");
        // The same again under its old name.
        let before = incarnations(&lan);
        sender.send_replace(Arc::new(vec![lan.clone(), wan.clone()]));
        soon("a new start", || incarnations(&lan) > before).await;

        // Another process has the names for a while: a fault is told at each start, and at no other time.
        name_of.send_replace(Some("another has it".to_owned()));
        let is_still = || (told(&lan), told(&wan));
        let mut before = is_still();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if before == is_still() {
                break;
            }
            before = is_still();
        }
        name_of.send_replace(None);
        soon("both again", || told(&lan) > before.0 && told(&wan) > before.1).await;
        cancel.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(records(&log, &lan).len(), 1, "a stop is no farewell");
        assert_eq!(
            gone(directory.path(), &[wan]).unwrap(),
            over,
            "it captures here again"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_panics_says_so_and_is_started_again() {
        let log = MemoryLog::new();
        let directory = tempfile::tempdir().unwrap();
        let lan = capture("lan");
        let (_sender, configs) = watch::channel(Arc::new(vec![lan.clone()]));
        let (_name_of, taken) = watch::channel(None);
        let (cancel, played) = (CancellationToken::new(), Played::default());
        let stage = Arc::new(Stages::default().join("capture", None));
        let progress = stage.progress().clone();
        let capturing = Capturing {
            wires: played.opener(),
            rings: directory.path().join("ring"),
            pause: Duration::from_millis(1),
        };
        let (opened, state, shown) = (log.clone(), directory.path().to_owned(), stage.clone());
        let open = move |config: CaptureConfig| {
            let (log, state, stage, taken) = (opened.clone(), state.clone(), shown.clone(), taken.clone());
            async move {
                let options = PublisherOptions::packets(None);
                let name = config.collector();
                Ok(Given {
                    publisher: Publisher::open_with(log, "cafe-1", &name, &state, options).await?,
                    stage,
                    taken,
                })
            }
        };
        let following = Progress::new("captures");
        let running = tokio::spawn(run_on(capturing, configs, open, following, cancel.clone()));
        let packets = || {
            let batches = records(&log, &lan).into_iter().map(|record| match record.body {
                Body::Batch(batch) => batch.len(),
                _ => 0,
            });
            batches.sum::<usize>()
        };
        played.put(&tcp_frame(22), 3);
        soon("the first packets", || packets() == 3).await;
        played.play().is_cursed = true;
        soon("a new start", || played.play().opened == 2).await;
        played.put(&tcp_frame(22), 2);
        soon("packets after it", || packets() == 5).await;
        let faults: Vec<(bool, String)> = log
            .records(Stream::Observations)
            .iter()
            .filter_map(|record| match decode_observation(&record.payload).unwrap().body {
                Body::Fault(fault) => Some((fault.active, fault.reason)),
                _ => None,
            })
            .collect();
        let starts = || (false, "the collector starts".to_owned());
        let panicked = CaptureError::Panicked {
            interface: lan.interface.clone(),
        };
        assert_eq!(faults, [starts(), (true, panicked.to_string()), starts()]);
        let incarnations: BTreeSet<u64> = records(&log, &lan)
            .iter()
            .map(|record| record.origin.incarnation)
            .collect();
        assert_eq!(incarnations.len(), 2, "packets are numbered anew");
        soon("nothing is shown to be wrong", || {
            progress.snapshot().detail.is_none()
        })
        .await;
        cancel.cancel();
        running.await.unwrap().unwrap();
    }
}
