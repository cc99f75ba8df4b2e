//! Commands that only read make nothing: no stream, bucket or consumer on a broker, and no file or directory on disk.

use std::path::Path;

use serde_json::Value;
use watchfold_jetstream::testing::NatsServer;

use crate::process::Place;

/// Everything in a directory and below it.
fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

/// Streams and consumers that the server keeps; a bucket is a stream.
async fn kept(client: &async_nats::Client) -> (Value, Value) {
    let answer = client.request("$JS.API.INFO", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    (info["streams"].clone(), info["consumers"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_read_make_nothing_on_an_empty_broker() {
    let (place, server) = (Place::new(), NatsServer::start().await.unwrap());
    let client = async_nats::connect(server.url()).await.unwrap();
    let url = server.url();
    let of_all = |command: &[&'static str]| -> Vec<Vec<String>> {
        let args = command.iter().map(|word| (*word).to_owned());
        vec![args.chain(["--log".to_owned(), url.clone()]).collect()]
    };
    let mut commands = of_all(&["log", "stat"]);
    commands.extend(of_all(&["log", "stat", "--format", "json"]));
    for stream in ["WF_OBS", "WF_PKT", "WF_EVT", "WF_SNAP", "WF_CMD"] {
        commands.extend(of_all(&["log", "cat", "--stream", stream]));
    }
    for command in commands {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = place.run("watchfold", &args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        assert_eq!(kept(&client).await, (0.into(), 0.into()), "{args:?}");
    }
    assert_eq!(tree(&place.path(".")), Vec::<String>::new());
}

#[tokio::test]
async fn commands_that_read_make_nothing_in_an_empty_directory() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    let before = tree(&place.path("."));
    for command in [
        &["log", "stat", "--data", "DIR"][..],
        &["log", "cat", "--data", "DIR"],
        &["log", "verify", "--data", "DIR"],
        &["log", "stat", "--log", "file:DIR"],
        &["doctor", "--data", "DIR"],
        &["config", "check", "--data", "DIR"],
        &["record", "DIR", "--out", "made.wfrec"],
        &["replay", "DIR"],
        &["explain", "some-incident", "DIR"],
        &["rules", "list", "--data", "DIR"],
        &["rules", "check", "DIR"],
        &["capture", "show", "DIR"],
        &["scenario", "test", "DIR"],
        &["completions", "bash"],
    ] {
        for directory in ["empty", "missing", "missing/below"] {
            let args: Vec<String> = command
                .iter()
                .map(|word| word.replace("DIR", directory))
                .collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = place.run("watchfold", &args).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("panicked"), "{args:?}: {said}");
            assert_eq!(tree(&place.path(".")), before, "{args:?}: {said}");
        }
    }
}
