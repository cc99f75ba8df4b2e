//! What operators and machines do to a running process: a second one beside it, a lost state, a full disk, a
//! configuration with a mistake.

use std::path::Path;

use serde_json::{Value, json};
use watchfold_discord::testing::DiscordServer;

use crate::inside::{inside, sh};
use crate::network::PCS;
use crate::outage::{Service, config, items, state};
use crate::record::Recorded;
use crate::watchfold::{House, until};

#[test]
fn a_second_one_is_refused_and_harms_nothing() {
    inside("failures::a_second_one_is_refused_and_harms_nothing", second);
}

async fn second() {
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), &config(&discord.url("all")));
    let mut service = Service::open().await;
    let mut running = house.start().await;
    let refused = house.run(&["up", "--listen", "127.0.0.1:8738"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(
        said.contains("another running process") && said.contains("--data"),
        "{said}"
    );
    assert!(running.runs());
    service.one_outage(&house).await;
    // The log can be read beside the process that owns it.
    let cat = house
        .run(&[
            "log",
            "cat",
            "--format",
            "jsonl",
            "--filter",
            "wf.evt.*.*.incident_opened.>",
        ])
        .await;
    let lines = String::from_utf8(cat.stdout).unwrap();
    let event: Value = serde_json::from_str(lines.trim()).expect("one line, one event");
    assert_eq!(
        event["content"]["body"]["incident_opened"]["subject"], "service",
        "{event:#}"
    );
    assert!(running.stop().await.success(), "{}", house.said());
    Recorded::checked(&house.data);
}

#[test]
fn a_lost_or_broken_state_comes_back_from_the_log() {
    inside(
        "failures::a_lost_or_broken_state_comes_back_from_the_log",
        lost_state,
    );
}

type Damage = fn(&Path);

async fn lost_state() {
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), &config(&discord.url("all")));
    let mut service = Service::open().await;
    let state = house.data.join("state");
    let damages: [(&str, Damage); 3] = [
        ("untouched", |_| {}),
        ("deleted", |state| std::fs::remove_dir_all(state).unwrap()),
        ("garbage", |state| {
            sh(&format!(
                "find {} -type f -exec dd if=/dev/urandom of={{}} bs=4096 count=16 status=none \\;",
                state.display()
            ));
        }),
    ];
    let mut first_arrivals = None;
    for (outages, (what, damage)) in damages.into_iter().enumerate() {
        println!("the state is {what}");
        if outages > 0 {
            damage(&state);
        }
        let running = house.start().await;
        until("all PCs are announced", &house, async || {
            // In one batch or, on a loaded machine, in several.
            let announced: u32 = discord
                .titles()
                .iter()
                .filter_map(|title| {
                    let count = title.strip_prefix("New activity: ")?.split(' ').next()?;
                    count.parse::<u32>().ok()
                })
                .sum();
            (announced >= PCS).then_some(())
        })
        .await;
        service.one_outage(&house).await;
        until("the end is told", &house, async || {
            (told(&discord, "Service is back") == outages + 1).then_some(())
        })
        .await;
        assert!(running.stop().await.success(), "{}", house.said());
        let recorded = Recorded::checked(&house.data);
        assert_eq!(recorded.outages().0.len(), outages + 1);
        let arrivals = discord
            .titles()
            .iter()
            .filter(|title| title.starts_with("New activity"))
            .count();
        let told_first = *first_arrivals.get_or_insert(arrivals);
        assert_eq!(arrivals, told_first, "{what}: {:?}", discord.titles());
    }
    assert!(house.said().contains("set the state aside"), "{}", house.said());
}

/// How often a message with this title was sent.
fn told(discord: &DiscordServer, title: &str) -> usize {
    let calls = discord.calls();
    let sent = calls.iter().filter(|call| call.method == "POST");
    sent.filter(|call| call.body["embeds"][0]["title"] == title)
        .count()
}

#[test]
fn a_full_disk_is_survived_and_said() {
    inside("failures::a_full_disk_is_survived_and_said", full_disk);
}

async fn full_disk() {
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    sh(&format!("mount -t tmpfs -o size=24m tmpfs {}", data.display()));
    let house = House::new(&data, &config(&discord.url("all")));
    let mut service = Service::open().await;
    let mut running = house.start().await;
    house
        .wait_for("everybody is here", "occupancy", |it| it["current"] == 20)
        .await;
    let ballast = data.join("ballast");
    fill(&ballast);
    let full = |health: &Value| {
        let stages = health["stages"].as_array().unwrap();
        let said = |stage: &Value| {
            stage["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("full"))
        };
        health["ok"] == false && stages.iter().any(said)
    };
    let health = house.wait_for("the full disk is said", "health", full).await;
    println!("{:#}", health["stages"]);
    // An outage of two seconds. It is not lost: it is kept in memory until there is room.
    service.down().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    service.up().await;
    assert!(running.runs(), "{}", house.said());
    assert_eq!(house.status("/livez").await, Some(200));
    std::fs::remove_file(&ballast).unwrap();
    house
        .wait_for("all is well again", "health", |health| health["ok"] == true)
        .await;
    house
        .wait_for(
            "the outage of then is known",
            "incidents?subject=service&state=closed",
            |page| items(page).len() == 1,
        )
        .await;
    service.one_outage(&house).await;
    // Killed on a full disk, it starts there, serves its page and says what is wrong; and goes on once there is space.
    fill(&ballast);
    house.wait_for("the full disk is said", "health", full).await;
    running.kill().await;
    let running = house.spawn();
    house
        .wait_for("the full disk is said after the restart", "health", full)
        .await;
    assert_eq!(house.status("/livez").await, Some(200));
    until("it is not ready", &house, async || {
        house.status("/readyz").await.filter(|status| *status == 503)
    })
    .await;
    std::fs::remove_file(&ballast).unwrap();
    house
        .wait_for("all is well again", "health", |health| health["ok"] == true)
        .await;
    house.ready().await;
    assert!(running.stop().await.success(), "{}", house.said());
    let recorded = Recorded::checked(&house.data);
    assert_eq!(recorded.outages().0.len(), 2);
    drop(house);
    sh(&format!("umount -l {}", data.display()));
}

/// Writes into `ballast` until the disk is full.
fn fill(ballast: &Path) {
    sh(&format!(
        "cat /dev/zero > {} 2>/dev/null || true",
        ballast.display()
    ));
}

#[test]
fn a_log_that_is_deleted_ends_the_process_and_the_next_one_begins_another() {
    inside(
        "failures::a_log_that_is_deleted_ends_the_process_and_the_next_one_begins_another",
        deleted_log,
    );
}

async fn deleted_log() {
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), &config(&discord.url("all")));
    let log = house.data.join("log");
    type Displace = fn(&Path);
    let displacements: [Displace; 2] = [
        |log| std::fs::remove_dir_all(log).unwrap(),
        |log| std::fs::rename(log, log.with_extension("away")).unwrap(),
    ];
    for displace in displacements {
        let running = house.start().await;
        displace(&log);
        let ended = running.ended().await;
        let said = house.said();
        assert_eq!(ended.code(), Some(74), "{said}");
        let place = format!("{}", log.display());
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.contains(&place) && last.contains("deleted, moved or replaced"),
            "{said}"
        );
    }
    let running = house.start().await;
    house
        .wait_for("a host is up", "targets", |targets| {
            state(targets, "host-2") == Some("up")
        })
        .await;
    assert!(running.stop().await.success(), "{}", house.said());
}

#[test]
fn a_mistake_in_the_configuration_changes_nothing() {
    inside(
        "failures::a_mistake_in_the_configuration_changes_nothing",
        mistake,
    );
}

async fn mistake() {
    let discord = DiscordServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let good = config(&discord.url("all"));
    let house = House::new(&directory.path().join("data"), &good);
    let path = house.data.join("watchfold.toml");
    let running = house.start().await;
    house
        .wait_for("a host is up", "targets", |targets| {
            state(targets, "host-2") == Some("up")
        })
        .await;
    std::fs::write(&path, good.replace("min_incident", "min_incidnt")).unwrap();
    let config = |health: &Value| {
        let stages = health["stages"].as_array().unwrap().iter();
        let mut stages = stages.filter(|stage| stage["name"] == "config");
        stages.next().cloned().unwrap_or_default()
    };
    let health = house
        .wait_for("the mistake is said", "health", |health| {
            config(health)["ok"] == false
        })
        .await;
    let detail = config(&health)["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("min_incidnt") && detail.contains("min_incident"),
        "{detail}"
    );
    assert!(!detail.contains("t0ken"), "a webhook is a secret: {detail}");
    let targets = house.get("targets").await;
    assert_eq!(
        (items(&targets).len(), state(&targets, "host-2")),
        (9, Some("up"))
    );
    let better = good.replace("name = \"host-2\"", "name = \"printer\"");
    std::fs::write(&path, better).unwrap();
    house
        .wait_for("the corrected one is taken over", "targets", |targets| {
            state(targets, "printer") == Some("up") && state(targets, "host-2").is_none()
        })
        .await;
    house
        .wait_for("all is well", "health", |health| {
            config(health)["ok"] == json!(true)
        })
        .await;
    assert!(running.stop().await.success(), "{}", house.said());
    Recorded::checked(&house.data);
}
