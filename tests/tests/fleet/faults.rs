//! One server, killed: for a while, again and again, and for longer than a spool lasts. What was measured meanwhile is
//! not lost, is told once, and what is lost is a gap and no outage.

use std::time::Duration;

use tokio::time::sleep;
use watchfold_jetstream::testing::NatsServer;
use watchfold_schemas::Body;
use watchfold_schemas::event::{Incident, IncidentClass};

use crate::record::Recorded;
use crate::site::{Plan, Site, until};

/// How long the broker is away, longer than a collector may be silent; `WATCHFOLD_BROKER_AWAY_S` asks for longer.
const AWAY_S: u64 = 20;

/// How often the broker is killed; `WATCHFOLD_BROKER_KILLS` asks for more.
const KILLS: u64 = 5;

/// Lives and absences of a broker that is killed again and again: from in the middle of connecting to settled.
const LIVES_MS: [u64; 5] = [700, 1_900, 250, 3_100, 1_200];
const ABSENCES_MS: [u64; 3] = [0, 400, 1_500];

/// A spool that lasts for less than the absence.
const SMALL_SPOOL_BYTES: u64 = 256 << 10;

/// Several times as many as a spool of this size holds, and how many of them memory holds easily.
const OVERFLOW_RECORDS: u64 = 16_000;
const FLUSH_RECORDS: u64 = 2_000;

/// The number in the environment, or the default.
pub fn asked(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// Outages begin before, end in, lie in, and end after the absence: the same incidents as if it had not been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_delays_and_changes_nothing() {
    let mut broker = NatsServer::start().await.unwrap();
    let away = Duration::from_secs(asked("WATCHFOLD_BROKER_AWAY_S", AWAY_S));
    let mut site = Site::start_whole(&Plan::new(broker.options())).await;
    site.one_outage().await;
    site.told("Internet is back", 1).await;

    site.loses_the_internet().await;
    site.told("Internet is down", 2).await;
    broker.kill();
    let returns = tokio::time::Instant::now() + away;
    site.finds_the_internet().await;
    site.one_outage().await;
    site.loses_the_internet().await;
    tokio::time::sleep_until(returns).await;
    broker.restart().await.unwrap();
    site.finds_the_internet().await;
    site.told("Internet is back", 4).await;

    let recorded = site.settle().await;
    incidents(&recorded, 4);
    let figures = site.end(&recorded).await;
    assert!(figures.delayed > 0, "{figures}");
    assert_eq!(figures.in_gaps, 0, "{figures}");
    println!("broker away for {} s: {figures}", away.as_secs());
}

/// `make soak` asks for fifty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_again_and_again_loses_nothing() {
    let mut broker = NatsServer::start().await.unwrap();
    let mut site = Site::start_whole(&Plan::new(broker.options())).await;
    let kills = asked("WATCHFOLD_BROKER_KILLS", KILLS);
    let killing = async {
        let lives = LIVES_MS.iter().cycle().zip(ABSENCES_MS.iter().cycle());
        for (life, absence) in lives.take(usize::try_from(kills).unwrap()) {
            sleep(Duration::from_millis(*life)).await;
            broker.kill();
            sleep(Duration::from_millis(*absence)).await;
            broker.restart().await.unwrap();
        }
    };
    let mut outages = 0;
    let ongoing = async {
        loop {
            site.one_outage().await;
            outages += 1;
        }
    };
    tokio::select! {
        () = killing => {}
        () = ongoing => unreachable!("it goes on for ever"),
    }
    // Whatever was under way is brought to its end.
    site.one_outage().await;

    let recorded = site.settle().await;
    let opened = recorded.opened(IncidentClass::Outage).len();
    assert!(
        (outages + 1..=outages + 2).contains(&opened),
        "{opened} incidents of {outages} outages and what was under way"
    );
    incidents(&recorded, opened);
    let figures = site.end(&recorded).await;
    println!("broker killed {kills} times: {figures}");
}

/// What overflows is a gap: nothing begins because of it, nothing ends, and an incident goes on over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_overflows_is_a_gap_and_no_outage() {
    let mut broker = NatsServer::start().await.unwrap();
    let mut plan = Plan::new(broker.options());
    plan.spool_bytes = SMALL_SPOOL_BYTES;
    plan.loads = 1;
    let mut site = Site::start_whole(&plan).await;
    site.internet.down().await;
    site.told("Internet is down", 1).await;

    broker.kill();
    // What the collector holds in memory to send next is not lost with the spool; so it is not to be the outage.
    fill(&site).await;
    // The router goes and comes back in what is lost: nobody will ever know, and nobody may guess.
    site.router.down().await;
    site.rounds(10).await;
    site.router.up().await;
    site.rounds(5).await;
    overflow(&site).await;
    broker.restart().await.unwrap();
    until("the gap is in the log", async || {
        (site.ping.stats().spooled == 0).then_some(())
    })
    .await;
    assert_eq!(
        site.discord.titles(),
        ["Internet is down"],
        "told while nothing was known"
    );
    site.finds_the_internet().await;
    site.told("Internet is back", 1).await;

    let recorded = site.settle().await;
    assert!(recorded.gaps_of("ping") > 0, "nothing overflowed");
    let opened = recorded.opened(IncidentClass::Outage);
    assert!(
        opened.iter().all(|incident| incident.subject == "internet"),
        "{opened:#?}"
    );
    incidents(&recorded, 1);
    let figures = site.end(&recorded).await;
    assert!(figures.in_gaps > 0, "{figures}");
    println!("a spool of {SMALL_SPOOL_BYTES} bytes: {figures}");
}

/// Writes through the collector of pings several times what its spool holds.
async fn overflow(site: &Site) {
    for _ in 0..OVERFLOW_RECORDS / FLUSH_RECORDS {
        fill(site).await;
    }
}

/// Writes through the collector of pings, and waits until it has them in its spool.
async fn fill(site: &Site) {
    for _ in 0..FLUSH_RECORDS {
        site.ping.submit(Body::Quiet).unwrap();
    }
    site.ping.flush().await;
}

/// So many outages were opened and closed, one after the other, and nothing else was said to be wrong.
pub fn incidents(recorded: &Recorded, count: usize) {
    let (opened, closed) = (
        recorded.opened(IncidentClass::Outage),
        recorded.closed(IncidentClass::Outage),
    );
    let ids = |incidents: &[&Incident]| -> Vec<String> {
        incidents.iter().map(|incident| incident.id.clone()).collect()
    };
    assert_eq!(opened.len(), count, "{opened:#?}");
    assert_eq!(ids(&opened), ids(&closed));
    for class in [
        IncidentClass::CollectorSilent,
        IncidentClass::MeasurementFault,
        IncidentClass::Flapping,
    ] {
        let others = recorded.opened(class);
        assert!(others.is_empty(), "{others:#?}");
    }
}
