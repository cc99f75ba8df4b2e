//! What every small program promises of itself: arguments, the status port, the service manager, signals, statuses.

use crate::process::{Manager, Place, free_port};

/// Runs a program to its end, and holds its exit status and words.
async fn check(place: &Place, program: &str, arguments: &[&str], status: i32, words: &[&str]) {
    let output = place.run(program, arguments).await;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        output.status.code(),
        Some(status),
        "{program} {arguments:?}: {said}"
    );
    for word in words {
        assert!(
            said.contains(word),
            "{program} {arguments:?} does not say {word:?}: {said}"
        );
    }
    assert!(
        !said.contains("t0ken") && !said.contains("5f2c0ffee"),
        "a webhook is a secret, and a key: {said}"
    );
}

const GOOD: &str = r#"
site = "cafe-1"
[[network.targets]]
name = "router"
address = "127.0.0.1"
[sinks.discord]
alerts = "https://discord.invalid/api/webhooks/1/t0ken"
[sinks.healthchecks]
url = "https://hc.invalid/5a8c1e1e-7f4e-4f0c-9d2e-0c5a1f1b2c3d"
[sinks.virustotal]
key = "5f2c0ffee5f2c0ffee"
[[capture]]
interface = "lo"
filter = "tcp port 22"
"#;

#[tokio::test]
async fn a_configuration_is_checked_by_every_program() {
    let place = Place::new();
    place.write("good.toml", GOOD);
    place.write("bad.toml", &GOOD.replace("address", "adress"));
    place.write("site.toml", "site = \"cafe-1\"\n");
    for program in [
        "watchfold-capture",
        "watchfold-ping",
        "watchfold-clock",
        "watchfold-processors",
        "watchfold-discord",
        "watchfold-healthchecks",
        "watchfold-dashboard",
        "watchfold-virustotal",
    ] {
        let check_file = async |file, status, words: &[&str]| {
            check(
                &place,
                program,
                &["--config", file, "--check-config"],
                status,
                words,
            )
            .await;
        };
        check_file("good.toml", 0, &["good.toml is good"]).await;
        check_file("bad.toml", 78, &["bad.toml:5:", "did you mean `address`?"]).await;
        check_file("none.toml", 78, &["failed to read none.toml", "--config"]).await;
    }
    place.write("filter.toml", &GOOD.replace("tcp port", "tcp prot"));
    let wrong = ["--config", "filter.toml", "--check-config"];
    check(
        &place,
        "watchfold-capture",
        &wrong,
        78,
        &["tcp prot 22", "man pcap-filter"],
    )
    .await;
    let without = ["--config", "site.toml", "--check-config"];
    check(&place, "watchfold-capture", &without, 64, &["no [[capture]]"]).await;
    check(&place, "watchfold-discord", &without, 78, &["no [sinks.discord]"]).await;
    check(
        &place,
        "watchfold-healthchecks",
        &without,
        78,
        &["no [sinks.healthchecks]"],
    )
    .await;
    check(
        &place,
        "watchfold-virustotal",
        &without,
        78,
        &["no [sinks.virustotal]"],
    )
    .await;
    check(
        &place,
        "watchfold-ping",
        &without,
        0,
        &["nothing is watched", "is good"],
    )
    .await;
}

#[tokio::test]
async fn a_command_line_without_sense_ends_with_usage() {
    let place = Place::new();
    place.write("good.toml", GOOD);
    let log = place.file_log();
    check(
        &place,
        "watchfold-ping",
        &["--log", &log],
        64,
        &["--config FILE", "--site NAME"],
    )
    .await;
    check(
        &place,
        "watchfold-clock",
        &["--log", &log, "--site", "a b"],
        64,
        &["a site is"],
    )
    .await;
    check(
        &place,
        "watchfold-clock",
        &["--log", &log, "--interval-ms", "1"],
        64,
        &["100..=60000"],
    )
    .await;
    check(&place, "watchfold-clock", &[], 64, &["--log"]).await;
    check(
        &place,
        "watchfold-discord",
        &["--log", &log],
        64,
        &["[sinks.discord]"],
    )
    .await;
    check(
        &place,
        "watchfold-ping",
        &["--config", "good.toml", "--site", "cafe-2", "--log", &log],
        64,
        &["cafe-1", "cafe-2"],
    )
    .await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(
        &place,
        "watchfold-clock",
        &["--log", &log, "--status", &address],
        69,
        &["in use by another program", "--status"],
    )
    .await;
}

#[tokio::test]
async fn a_process_answers_tells_its_manager_and_stops_when_asked() {
    let place = Place::new();
    let manager = Manager::new(&place);
    let log = place.file_log();
    let arguments = ["--site", "cafe-1", "--interval-ms", "100"];
    let clock = place.start_under("clock", "watchfold-clock", &log, &arguments, Some(&manager));
    clock.ready().await;
    assert_eq!(clock.ask("/livez").await, Some((200, "ok".to_owned())));
    assert_eq!(clock.ask("/none").await.map(|(status, _)| status), Some(404));
    clock
        .until("ticks are counted", async || {
            let (_, text) = clock.ask("/metrics").await?;
            let name = "watchfold_publisher_published_total{site=\"cafe-1\",collector=\"clock\"} ";
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            (value.parse::<f64>().ok()? > 3.0).then_some(())
        })
        .await;
    let (_, metrics) = clock.ask("/metrics").await.unwrap();
    watchfold_tests::promtool::check(&metrics);
    let mut heard = Vec::new();
    clock
        .until("the watchdog is fed twice", async || {
            heard.extend(manager.heard());
            (heard.iter().filter(|word| *word == "WATCHDOG=1").count() >= 2).then_some(())
        })
        .await;
    assert_eq!(
        heard.iter().filter(|word| *word == "READY=1").count(),
        1,
        "{heard:?}"
    );
    assert!(
        heard.iter().any(|word| word == "STATUS=2 parts get on"),
        "{heard:?}"
    );
    assert!(!heard.iter().any(|word| word == "STOPPING=1"), "{heard:?}");
    // One process owns an embedded log; a second is told so.
    let other = free_port().to_string();
    let second = ["--log", &log, "--state", "second", "--status", &other];
    check(
        &place,
        "watchfold-clock",
        &second,
        69,
        &["another running process"],
    )
    .await;
    assert!(clock.stop().await.success());
    assert!(manager.heard().iter().any(|word| word == "STOPPING=1"));
}

#[tokio::test]
async fn figures_away_from_loopback_take_the_token() {
    let place = Place::new();
    let port = free_port().port();
    let status = format!("0.0.0.0:{port}");
    let log = place.file_log();
    let mut command = tokio::process::Command::new(crate::process::built("watchfold-clock"));
    command.args(["--log", &log, "--status", &status, "--site", "cafe-1", "--state"]);
    command.arg(place.path("clock")).env_clear().kill_on_drop(true);
    command.stderr(std::process::Stdio::null());
    let _running = command.spawn().unwrap();
    let client = reqwest::Client::new();
    let ask = async |token: Option<String>| {
        let mut request = client.get(format!("http://127.0.0.1:{port}/metrics"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Some(request.send().await.ok()?.status().as_u16())
    };
    crate::process::until("it answers", async || ask(None).await, String::new).await;
    assert_eq!(ask(None).await, Some(401));
    assert_eq!(ask(Some("wrong".to_owned())).await, Some(401));
    let token = std::fs::read_to_string(place.path("clock").join("token")).unwrap();
    assert_eq!(ask(Some(token.trim().to_owned())).await, Some(200));
}
