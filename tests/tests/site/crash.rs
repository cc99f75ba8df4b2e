//! kill -9 of the whole process at random moments under load, again and again, on one data directory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use watchfold_discord::testing::DiscordServer;
use watchfold_schemas::Body;

use crate::inside::inside;
use crate::outage::{Service, config, items};
use crate::record::Recorded;
use crate::watchfold::House;

/// How often it is killed; `WATCHFOLD_KILLS` asks for more.
const KILLS: u32 = 15;

/// The longest life, in milliseconds. Most begin a second after a start and end in the middle of something.
const LIFE_MS_MAX: u64 = 2_500;

#[test]
fn killed_at_random_moments() {
    inside("crash::killed_at_random_moments", kill_again_and_again);
}

async fn kill_again_and_again() {
    let kills = std::env::var("WATCHFOLD_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: u32 = kills.unwrap_or(KILLS);
    let mut dice = Dice::new();
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), &config(&discord.url("all")));

    let over = Arc::new(AtomicBool::new(false));
    let outages = tokio::spawn(outages(house.clone(), over.clone()));
    let acts = tokio::spawn(acts(house.clone(), over.clone()));
    for _ in 0..kills {
        let running = house.spawn();
        tokio::time::sleep(Duration::from_millis(dice.below(LIFE_MS_MAX))).await;
        running.kill().await;
    }
    over.store(true, Ordering::SeqCst);
    let running = house.start().await;
    let (outages, acts) = (outages.await.unwrap(), acts.await.unwrap());
    let told = "events?kind=notification_requested&limit=1000";
    let requested = items(&house.get(told).await).len();
    house
        .wait_for("everything is told", "health", |health| {
            let stages = health["stages"].as_array().unwrap();
            stages
                .iter()
                .any(|stage| stage["name"] == "sink:discord" && stage["lag"] == 0)
        })
        .await;
    assert!(running.stop().await.success(), "{}", house.said());

    let recorded = Recorded::checked(&house.data);
    let lost: Vec<&String> = acts.iter().filter(|id| !recorded.ids.contains(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    let (opened, closed) = recorded.outages();
    assert_eq!(opened.len(), outages, "an incident for each outage: {opened:#?}");
    assert_eq!(
        opened.iter().map(|incident| &incident.id).collect::<Vec<_>>(),
        closed.iter().map(|incident| &incident.id).collect::<Vec<_>>()
    );
    let kinds = recorded.kinds();
    assert_eq!(
        (kinds.get("session_started"), kinds.get("session_ended")),
        (Some(&20), None),
        "{kinds:?}"
    );
    let repeated = repeated(&discord, &recorded);
    println!(
        "{kills} kills, {} observations, {} events, {outages} outages, {} acknowledged acts, {requested} requests, \
         {} messages, {repeated} of them told twice",
        recorded.observations.len(),
        recorded.events.len(),
        acts.len(),
        discord.messages().len(),
    );
}

/// Takes the service away and brings it back, each time until the incident is told, until it is over. How often.
async fn outages(house: House, over: Arc<AtomicBool>) -> usize {
    let mut service = Service::open().await;
    let mut done = 0;
    while !over.load(Ordering::SeqCst) || done == 0 {
        service.one_outage(&house).await;
        done += 1;
    }
    done
}

/// An operator who mutes and unmutes without rest; the message ids of what was acknowledged to them.
async fn acts(house: House, over: Arc<AtomicBool>) -> Vec<String> {
    let acknowledged = Mutex::new(Vec::new());
    while !over.load(Ordering::SeqCst) {
        let answer = house
            .try_post("targets/host-9/mute", &json!({ "for_ms": 600_000 }))
            .await;
        match answer.and_then(|answer| answer["observation"].as_str().map(str::to_owned)) {
            Some(id) => acknowledged.lock().unwrap().push(id),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    acknowledged.into_inner().unwrap()
}

/// How many messages people saw twice. Only a message whose receipt is not in the log may have been told again.
fn repeated(discord: &DiscordServer, recorded: &Recorded) -> usize {
    let mut posts: BTreeMap<String, usize> = BTreeMap::new();
    for call in discord.calls().iter().filter(|call| call.method == "POST") {
        *posts.entry(call.body.to_string()).or_default() += 1;
    }
    let repeated: usize = posts.values().map(|count| count - 1).sum();
    let receipts = recorded.observations.iter().filter_map(|(_, it)| match &it.body {
        Body::Receipt(receipt) => receipt.message.clone(),
        _ => None,
    });
    let receipts: std::collections::BTreeSet<String> = receipts.collect();
    let messages = discord.messages();
    let without = messages
        .iter()
        .filter(|message| !receipts.contains(&message.id))
        .count();
    assert!(
        repeated <= without,
        "{repeated} messages were told twice, and only {without} have no receipt: {posts:#?}"
    );
    repeated
}

/// Random numbers from a seed that is printed, and given back by `WATCHFOLD_KILL_SEED`.
struct Dice(u64);

impl Dice {
    #[expect(
        clippy::disallowed_methods,
        reason = "a seed for a random test, printed so that it can be given back"
    )]
    fn new() -> Dice {
        let given = std::env::var("WATCHFOLD_KILL_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.unwrap().as_nanos() as u64
        });
        println!("WATCHFOLD_KILL_SEED={seed}");
        Dice(seed | 1)
    }

    /// xorshift64; Marsaglia, "Xorshift RNGs", 2003.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
