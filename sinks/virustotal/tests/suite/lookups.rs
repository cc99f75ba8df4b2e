//! Calls and verdicts while everything is well: what is asked, in which order, how often, and what survives.

use std::sync::Arc;

use serde_json::json;
use watchfold_log::MessageLog;
use watchfold_schemas::alert::SubjectKind;
use watchfold_sink_kit::Secret;
use watchfold_virustotal::LookupCount;
use watchfold_virustotal::deliver::lease_name;
use watchfold_virustotal::testing::{KNOWN_KEY, PER_DAY};

use crate::world::{SITE, SharedLeases, World, until};

#[tokio::test]
async fn a_question_becomes_a_call_and_the_answer_an_observation() {
    let mut world = World::new().await;
    world.server.know("ip_addresses/185.220.101.1", 14, 2, -33);
    let running = world.start();
    world.ask("185.220.101.1").await;
    world
        .ask_at(SITE, SubjectKind::Name, "tunnel.example.org", 800)
        .await;
    world.answers(2).await;
    let mut verdicts: Vec<_> = world
        .verdicts()
        .into_iter()
        .map(|(site, verdict)| json!([site, serde_json::to_value(verdict).unwrap()]))
        .collect();
    verdicts.sort_by_key(|verdict| verdict[1]["subject"].to_string());
    let want = [
        json!(["cafe-1", {
            "at": "2026-01-01T12:00:00Z",
            "oracle": "virustotal",
            "kind": "address",
            "subject": "185.220.101.1",
            "known": true,
            "malicious": 14,
            "suspicious": 2,
            "harmless": 60,
            "undetected": 30,
            "score": -33,
            "country": "NL",
            "owner": "Example Networks",
            "categories": [],
            "expires_at": "2026-01-01T18:00:00Z",
        }]),
        json!(["cafe-1", {
            "at": "2026-01-01T12:00:00Z",
            "oracle": "virustotal",
            "kind": "name",
            "subject": "tunnel.example.org",
            "known": false,
            "malicious": 0,
            "suspicious": 0,
            "harmless": 0,
            "undetected": 0,
            "score": 0,
            "country": null,
            "owner": null,
            "categories": [],
            "expires_at": "2026-01-02T12:00:00Z",
        }]),
    ];
    assert_eq!(verdicts, want);
    let mut paths = world.server.paths();
    paths.sort();
    assert_eq!(
        paths,
        ["domains/tunnel.example.org", "ip_addresses/185.220.101.1"]
    );
    running.stop().await;
}

#[tokio::test]
async fn an_address_is_asked_about_once_until_its_verdict_is_old() {
    let mut world = World::new().await;
    world.server.know("ip_addresses/8.8.8.8", 0, 0, 500);
    world.server.know("ip_addresses/185.220.101.1", 3, 0, 0);
    let running = world.start();
    for _ in 0..1_000 {
        world.ask("8.8.8.8").await;
    }
    running.counts(LookupCount::Asked, 1_000).await;
    world.answers(1).await;
    world.ask("185.220.101.1").await;
    world.answers(2).await;
    running.counts(LookupCount::Verdicts, 2).await;
    assert_eq!(world.server.calls().len(), 2);
    // Six hours: what three engines call malicious is old just after, the clean one is not.
    world.clock.pass(6 * 3_600);
    world.ask("8.8.8.8").await;
    world.ask("185.220.101.1").await;
    running.counts(LookupCount::Asked, 1_003).await;
    // Who asks again so late has lost what it was told.
    running.counts(LookupCount::Verdicts, 4).await;
    world.no_further_call().await;
    world.clock.pass(1);
    world.ask("185.220.101.1").await;
    world.answers(5).await;
    world.clock.pass(18 * 3_600);
    world.ask("8.8.8.8").await;
    world.answers(6).await;
    world.calls(4).await;
    running.stop().await;
}

#[tokio::test]
async fn sites_share_calls_and_each_is_told_once() {
    let mut world = World::new().await;
    let running = world.start();
    for site in ["cafe-1", "cafe-2", "cafe-1"] {
        world.ask_at(site, SubjectKind::Address, "8.8.8.8", 500).await;
    }
    world.answers(2).await;
    world.clock.pass(10);
    for site in ["cafe-1", "cafe-3", "cafe-2"] {
        world.ask_at(site, SubjectKind::Address, "8.8.8.8", 500).await;
    }
    world.answers(3).await;
    running.counts(LookupCount::Asked, 6).await;
    world.no_further_call().await;
    let once = ["cafe-1", "cafe-2", "cafe-3"].map(|site| (site.to_owned(), 1));
    assert_eq!(world.told("8.8.8.8"), once.into());
    // The late site got the verdict as it was given, not a new one.
    let verdicts = world.verdicts();
    assert!(
        verdicts.iter().all(|(_, verdict)| *verdict == verdicts[0].1),
        "{verdicts:?}"
    );
    assert_eq!(world.server.calls().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_site_that_has_lost_a_verdict_is_told_again_without_a_call() {
    let mut world = World::new().await;
    let mut running = world.start();
    world.ask("8.8.8.8").await;
    running.counts(LookupCount::Verdicts, 1).await;
    // As after an eviction; then with a restart between the telling and the question.
    for told in 2..=3 {
        world.clock.pass(31);
        for _ in 0..3 {
            world.ask("8.8.8.8").await;
        }
        world.answers(told).await;
        running.stop().await;
        running = world.start();
        world.ask("8.8.8.8").await;
        running.counts(LookupCount::FromCache, 1).await;
        world.no_further_call().await;
    }
    assert_eq!(world.told("8.8.8.8"), [(SITE.to_owned(), 3)].into());
    world.calls(1).await;
    running.stop().await;
}

#[tokio::test]
async fn the_nearest_to_a_threshold_goes_first_within_four_a_minute() {
    let mut world = World::new().await;
    let asked = [
        ("8.0.0.1", 500),
        ("8.0.0.2", 900),
        ("8.0.0.3", 500),
        ("8.0.0.4", 1_400),
        ("8.0.0.5", 750),
        ("8.0.0.6", 750),
    ];
    for (address, nearness) in asked {
        world.ask_at(SITE, SubjectKind::Address, address, nearness).await;
    }
    let running = world.start();
    world.calls(4).await;
    let paths = |numbers: &[u8]| -> Vec<String> {
        let path = |number| format!("ip_addresses/8.0.0.{number}");
        numbers.iter().map(path).collect()
    };
    assert_eq!(world.server.paths(), paths(&[4, 2, 5, 6]));
    world.no_further_call().await;
    // A late one that is nearer overtakes those that wait.
    world.ask_at(SITE, SubjectKind::Address, "8.0.0.7", 600).await;
    running.counts(LookupCount::Asked, 7).await;
    world.clock.pass(61);
    world.calls(7).await;
    assert_eq!(world.server.paths()[4..], paths(&[7, 1, 3]));
    assert!(world.server.calls().iter().all(|call| call.status == 404));
    running.stop().await;
}

#[tokio::test]
async fn what_is_private_never_reaches_the_server() {
    let mut world = World::new().await;
    world.configure(|config| {
        config.own.networks = vec!["93.184.216.0/24".parse().unwrap()];
        config.own.names = vec!["example.net".to_owned()];
    });
    let running = world.start();
    let addresses = [
        "192.168.1.10",
        "10.0.0.1",
        "127.0.0.1",
        "169.254.7.7",
        "224.0.0.251",
        "198.51.100.1",
        "fe80::1",
        "fd00::1",
        "93.184.216.34",
        "not an address",
    ];
    for address in addresses {
        world.ask(address).await;
    }
    let names = [
        "router",
        "printer.local",
        "1.1.168.192.in-addr.arpa",
        "nas.lan",
        "dc.corp",
        "till.example.net",
        "x/../../users",
    ];
    for name in names {
        world.ask_at(SITE, SubjectKind::Name, name, 900).await;
    }
    running
        .counts(LookupCount::Private, (addresses.len() + names.len()) as u64)
        .await;
    world.no_further_call().await;
    assert!(world.server.calls().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn what_becomes_ones_own_while_it_waits_is_not_asked_about() {
    let mut world = World::new().await;
    for number in 1..=5 {
        world.ask(&format!("93.184.216.{number}")).await;
    }
    let running = world.start();
    world.calls(4).await;
    world.configure(|config| config.own.networks = vec!["93.184.216.0/24".parse().unwrap()]);
    world.clock.pass(61);
    running.counts(LookupCount::Private, 1).await;
    world.no_further_call().await;
    running.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_verdicts_questions_and_counts() {
    let mut world = World::new().await;
    for number in 1..=6 {
        world.ask(&format!("8.0.0.{number}")).await;
    }
    let running = world.start();
    world.answers(4).await;
    running.stop().await;
    let running = world.start();
    world.ask("8.0.0.1").await;
    world.ask_at("cafe-2", SubjectKind::Address, "8.0.0.1", 500).await;
    world.answers(5).await;
    // Of another process's minute nothing is known but its last call.
    world.no_further_call().await;
    world.clock.pass(61);
    world.answers(7).await;
    world.calls(6).await;
    running.stop().await;
}

#[tokio::test]
async fn a_kill_gives_no_call_back() {
    let mut world = World::new().await;
    let budget = |world: &World| {
        let (log, name) = (world.log.clone(), lease_name(&Secret::new(KNOWN_KEY)));
        async move { log.load_position(&name).await.unwrap().unwrap() }
    };
    world.configure(|config| config.limits.per_day = 3);
    for number in 1..=4 {
        world.ask(&format!("8.0.0.{number}")).await;
    }
    for calls in 1..=3 {
        let running = world.start();
        until("a call", || {
            !world.server.calls().is_empty() && world.server.calls().len() >= calls
        })
        .await;
        running.kill().await;
        // Neither the file of this machine nor its verdicts are needed for the counts.
        std::fs::remove_file(world.state_path()).unwrap_or_default();
        let made = world.server.calls().len() as u64;
        assert!(budget(&world).await.sequence >= made, "{made}");
        world.clock.pass(62);
    }
    let running = world.start();
    running.counts(LookupCount::Asked, 4).await;
    world.no_further_call().await;
    assert_eq!(budget(&world).await.sequence, 3);
    assert_eq!(world.server.calls().len(), 3);
    assert!(!budget(&world).await.id.contains(KNOWN_KEY));
    running.stop().await;
}

#[tokio::test]
async fn two_machines_with_one_key_take_turns_under_one_budget() {
    let mut world = World::new().await;
    world.configure(|config| config.limits.per_day = 3);
    let leases = Arc::new(SharedLeases::default());
    let first = world.start_on(leases.clone(), world.state_path());
    world.ask("8.0.0.1").await;
    world.answers(1).await;
    let second = world.start_on(leases, world.state_path().with_extension("second"));
    world.ask("8.0.0.2").await;
    world.answers(2).await;
    world.no_further_call().await;
    assert_eq!(
        (first.count(LookupCount::Calls), second.count(LookupCount::Calls)),
        (2, 0)
    );
    first.kill().await;
    world.clock.pass(62);
    for number in 3..=9 {
        world.ask(&format!("8.0.0.{number}")).await;
    }
    // It has no verdicts, but it knows that one call is left.
    second.counts(LookupCount::Calls, 1).await;
    world.calls(3).await;
    world.no_further_call().await;
    second.stop().await;
}

#[tokio::test]
async fn a_day_has_as_many_calls_as_the_key_and_no_refusal() {
    let mut world = World::new().await;
    world.configure(|config| config.limits.per_minute = 4);
    let running = world.start();
    // Twelve hours of four a minute would be 2,880.
    let mut asked = 0;
    while world.server.calls().len() < PER_DAY {
        for _ in 0..4 {
            asked += 1;
            world.ask(&format!("8.{}.{}.1", asked / 256, asked % 256)).await;
        }
        let calls = world.server.calls().len() + 4;
        world.calls(calls).await;
        running.counts(LookupCount::Answered, calls as u64).await;
        world.clock.pass(62);
    }
    world.ask("9.9.9.9").await;
    running.counts(LookupCount::Asked, asked + 1).await;
    world.no_further_call().await;
    assert!(
        running
            .progress
            .snapshot()
            .note
            .unwrap()
            .contains("500 calls today")
    );
    assert_eq!(running.count(LookupCount::TooMuch), 0);
    running.stop().await;
}
