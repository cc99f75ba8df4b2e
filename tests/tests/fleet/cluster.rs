//! Three servers under load: the leader of a stream dies, comes back, the next one dies. What was acknowledged stays,
//! in order, and nobody hears of anything twice.

use async_nats::jetstream;
use watchfold_jetstream::testing::NatsCluster;
use watchfold_log::MessageLog;
use watchfold_schemas::Stream;

use crate::faults::{asked, incidents};
use crate::site::{Plan, Site, until};

/// How many leaders die; `WATCHFOLD_LEADER_KILLS` asks for more.
const KILLS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_die_one_after_the_other_lose_nothing() {
    let mut cluster = NatsCluster::start().await.unwrap();
    let mut site = Site::start_whole(&Plan::new(cluster.options())).await;
    site.one_outage().await;
    site.told("Internet is back", 1).await;

    let kills = asked("WATCHFOLD_LEADER_KILLS", KILLS);
    let mut died = Vec::new();
    for kill in 1..=kills {
        // By turns of what is measured and of what is told.
        let stream = if kill % 2 == 1 {
            Stream::Observations
        } else {
            Stream::Events
        };
        let leader = leader(&site, stream).await;
        site.internet.down().await;
        cluster.server(&leader).unwrap().kill();
        let told = 1 + usize::try_from(kill).unwrap();
        site.told("Internet is down", told).await;
        site.internet.up().await;
        site.told("Internet is back", told).await;
        cluster.server(&leader).unwrap().restart().await.unwrap();
        whole(&cluster, &site).await;
        died.push(leader);
    }

    let recorded = site.settle().await;
    incidents(&recorded, 1 + usize::try_from(kills).unwrap());
    let figures = site.end(&recorded).await;
    println!("leaders {died:?} killed: {figures}");
}

async fn leader(site: &Site, stream: Stream) -> String {
    until("the stream has a leader", async || {
        site.log.leader(stream).await.ok().flatten()
    })
    .await
}

/// Waits until every copy of every stream is as far as its leader: whoever kills two of three has to wait.
async fn whole(cluster: &NatsCluster, site: &Site) {
    let client = until("the cluster answers", async || {
        async_nats::connect(cluster.urls()).await.ok()
    })
    .await;
    let operator = jetstream::new(client);
    for stream in [Stream::Observations, Stream::Events] {
        until(&format!("{stream} is whole"), async || {
            let mut stream = operator.get_stream(stream.name()).await.ok()?;
            let cluster = stream.info().await.ok()?.cluster.clone()?;
            let current = cluster.replicas.iter().all(|peer| peer.current && !peer.offline);
            (cluster.leader.is_some() && current).then_some(())
        })
        .await;
        until(&format!("{stream} can be asked"), async || {
            site.log.info(stream).await.ok()
        })
        .await;
    }
}
