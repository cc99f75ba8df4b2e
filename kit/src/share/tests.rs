//! Two processes, their sites, and what becomes of a site when its process fails or loses its lease.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Leases, LogError, MessageLog};

use super::*;
use crate::frame::{Scope, Setup};
use crate::sections::Sections;

/// Leases among the frames of one test.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<BTreeMap<String, Held>>>);

/// How a lease is called lost, and how its holder gives it up.
type Held = (CancellationToken, CancellationToken);

impl Table {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if it had run out.
    fn take_away(&self, name: &str) {
        let (lost, _) = self.held().remove(name).expect("it is held");
        lost.cancel();
    }
}

impl Leases for Table {
    fn acquire(&self, name: &str) -> BoxFuture<'_, Result<Option<Lease>, LogError>> {
        let name = name.to_owned();
        async move {
            let mut held = self.held();
            if held
                .get(&name)
                .is_some_and(|(_, released)| !released.is_cancelled())
            {
                return Ok(None);
            }
            let (lost, released) = (CancellationToken::new(), CancellationToken::new());
            held.insert(name.clone(), (lost.clone(), released.clone()));
            Ok(Some(Lease::new(&name, lost, released)))
        }
        .boxed()
    }
}

/// Who serves which site now.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>);

impl Board {
    fn change(&self, site: &str, change: impl FnOnce(&mut Vec<&'static str>)) {
        change(self.0.lock().unwrap().entry(site.to_owned()).or_default());
    }

    fn of(&self, process: &str) -> Vec<String> {
        let board = self.0.lock().unwrap();
        let served = board.iter().filter(|(_, by)| by.contains(&process));
        served.map(|(site, _)| site.clone()).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Board) -> bool) {
        for _ in 0..10_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: {:?}", self.0.lock().unwrap());
    }
}

/// A process that serves by standing on the board; of the site `bad` it fails at once.
fn process(
    name: &'static str,
    log: &Arc<MemoryLog>,
    leases: &Table,
    board: &Board,
    sites: &[&str],
    sites_max: usize,
) -> Arc<Frame> {
    let log: Arc<dyn MessageLog> = log.clone();
    let sites: Vec<String> = sites.iter().map(|site| (*site).to_owned()).collect();
    let setup = Setup {
        name: name.to_owned(),
        software: name.to_owned(),
        scope: Scope::Named(sites.clone()),
        state: "none".into(),
        is_whole: false,
        is_elsewhere: true,
        sections: Sections::default(),
    };
    let frame = Frame::on(setup, log, Arc::new(leases.clone()), "memory");
    let shared = Share {
        part: "chain:site".to_owned(),
        vouched: None,
        sites_max,
        sites: frame.sites(&sites),
    };
    let progress = frame.stages.add("chains");
    let board = board.clone();
    let part = move |site: Site| {
        let board = board.clone();
        async move {
            if site.name == "bad" && name == "one" {
                return Err("a fault of ours");
            }
            board.change(&site.name, |by| by.push(name));
            site.progress.advance(1, 1);
            site.cancel.cancelled().await;
            board.change(&site.name, |by| by.retain(|other| *other != name));
            Ok(())
        }
    };
    frame.spawn(share(
        frame.clone(),
        frame.group(Kind::Page),
        shared,
        progress,
        part,
    ));
    frame
}

#[tokio::test(start_paused = true)]
async fn sites_are_shared_up_to_the_limit_and_move_when_a_process_ends() {
    let (log, leases, board) = (MemoryLog::new(), Table::default(), Board::default());
    let sites = ["a", "b", "c"];
    let one = process("one", &log, &leases, &board, &sites, 2);
    let two = process("two", &log, &leases, &board, &sites, 3);
    let all = |board: &Board| board.of("one").len() + board.of("two").len() == 3;
    board.until("all are served", all).await;
    assert!(board.of("one").len() <= 2, "{:?}", board.of("one"));
    for site in sites {
        board.change(site, |by| assert_eq!(by.len(), 1, "{site}"));
    }
    one.drain().await;
    board
        .until("the other has them all", |board| board.of("two").len() == 3)
        .await;
    assert_eq!(two.stages.snapshots().len(), 4, "the share and three sites");
    // Their progress stands beside the log for whoever vouches for them.
    tokio::time::sleep(PROGRESS_EVERY * 3).await;
    let told = log.load_position("progress.chain.site.a").await.unwrap().unwrap();
    assert_eq!(told.sequence, 1);
    two.drain().await;
    assert!(board.of("two").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_part_and_a_failing_part_leaves_its_site_to_others() {
    let (log, leases, board) = (MemoryLog::new(), Table::default(), Board::default());
    let one = process("one", &log, &leases, &board, &["a", "bad"], 9);
    board
        .until("one serves a", |board| board.of("one") == ["a"])
        .await;
    let shown = one.stages.snapshots();
    assert_eq!(shown[0].name, "chains");
    let two = process("two", &log, &leases, &board, &["bad"], 9);
    board
        .until("the other serves what fails here", |board| {
            board.of("two") == ["bad"]
        })
        .await;
    leases.take_away("chain.site.a");
    board.until("it ends", |board| board.of("one").is_empty()).await;
    board
        .until("and is taken again", |board| board.of("one") == ["a"])
        .await;
    one.drain().await;
    two.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_thing_that_one_does_at_a_time_waits_for_its_lease() {
    let (leases, board) = (Table::default(), Board::default());
    let cancel = CancellationToken::new();
    let start = |name: &'static str| {
        let led_by = Led {
            leases: Arc::new(leases.clone()),
            name: "sink.discord.a".to_owned(),
            progress: Progress::new(name),
            cancel: cancel.clone(),
        };
        let board = board.clone();
        tokio::spawn(led(led_by, move |cancel| {
            let board = board.clone();
            async move {
                board.change("a", |by| by.push(name));
                cancel.cancelled().await;
                board.change("a", |by| by.retain(|other| *other != name));
                Ok::<(), Infallible>(())
            }
        }))
    };
    let one = start("one");
    board.until("one leads", |board| board.of("one") == ["a"]).await;
    let two = start("two");
    tokio::time::sleep(LOOK_EVERY * 5).await;
    assert!(board.of("two").is_empty());
    one.abort();
    board
        .until("the other leads", |board| board.of("two") == ["a"])
        .await;
    cancel.cancel();
    two.await.unwrap().unwrap();
}
