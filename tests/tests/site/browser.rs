//! The real page in a real Chromium, served by the real command: `browser/page.mjs` looks and clicks, and asks here
//! for changes of the world.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use watchfold_discord::testing::DiscordServer;
use watchfold_healthchecks::testing::HealthchecksServer;

use crate::inside::inside;
use crate::network;
use crate::record::Recorded;
use crate::watchfold::House;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sinks/dashboard/page");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/page.mjs");

#[test]
fn the_page_follows_live() {
    install_playwright();
    inside("browser::the_page_follows_live", browse);
}

/// What drives the browser is among the page's own packages. Inside the namespaces there is nothing to fetch it from.
fn install_playwright() {
    if Path::new(PAGE).join("node_modules/playwright-core").is_dir() {
        return;
    }
    let mut npm = std::process::Command::new("npm");
    let output = npm
        .args(["--prefix", PAGE, "ci", "--no-audit", "--no-fund"])
        .output();
    let output = output.expect("npm is needed to see the page in a browser: install npm");
    assert!(
        output.status.success(),
        "npm ci in {PAGE}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn browse() {
    network::build();
    let discord = DiscordServer::start().await.unwrap();
    let healthchecks = HealthchecksServer::start(100_000).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = crate::story::config(&discord, &healthchecks);
    let house = House::new(&directory.path().join("data"), &config);
    let mut running = Some(house.start().await);
    let link = std::fs::read_to_string(house.data.join("link")).unwrap();

    // Kept only where somebody wants to look at them.
    let pictures = std::env::var_os("WATCHFOLD_SHOTS").map(PathBuf::from);
    let pictures = pictures.unwrap_or_else(|| directory.path().join("pictures"));
    let mut browser = Command::new("node")
        .arg(SCRIPT)
        .arg(link.trim())
        .arg(&pictures)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is needed to see the page in a browser: install nodejs");
    let mut asks = BufReader::new(browser.stdout.take().unwrap()).lines();
    let mut answers = browser.stdin.take().unwrap();
    while let Some(line) = asks.next_line().await.unwrap() {
        println!("{line}");
        match line.strip_prefix("world ") {
            None => continue,
            Some("kill") => running.take().expect("it runs").kill().await,
            Some("start") => running = Some(house.start().await),
            Some("pcs up") => network::pcs("up"),
            Some("router down") => network::router("down"),
            Some("router up") => network::router("up"),
            Some(what) => {
                let (host, to) = what.split_once(' ').expect("a host and up or down");
                network::switch(host, to);
            }
        }
        answers.write_all(b"done\n").await.unwrap();
    }
    let status = browser.wait().await.unwrap();
    assert!(
        status.success(),
        "the browser saw something else, see above\n{}",
        house.said()
    );
    assert!(
        running.expect("it runs").stop().await.success(),
        "{}",
        house.said()
    );
    let recorded = Recorded::checked(&house.data);
    assert_eq!(recorded.kinds().get("incident_acknowledged"), Some(&1));
}
