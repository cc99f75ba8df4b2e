//! What is wrong with a broker or with how it is asked, each in a line that names the remedy.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, StorageType};
use watchfold_jetstream::testing::{NatsServer, Setup};
use watchfold_jetstream::{Auth, JetStream, JetStreamOptions, Secret, Tls};
use watchfold_log::contract::message;
use watchfold_log::{LogError, MessageLog};
use watchfold_schemas::Stream;

use crate::{WAIT_MAX, operator, server, server_with};

/// The line that somebody sees who opens it.
async fn line(options: JetStreamOptions) -> String {
    let log = JetStream::start(options);
    log.ready(Duration::from_secs(3)).await.unwrap_err().to_string()
}

fn check(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

fn login(user: &str, password: &str) -> Auth {
    Auth::UserPassword {
        user: user.to_owned(),
        password: Secret::new(password),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there() {
    let mut server = server().await;
    server.kill();
    check(
        &line(server.options()).await,
        &[
            &server.url(),
            "does not answer",
            "check that nats-server runs there",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials() {
    let server = server_with("authorization { user: site, password: right }").await;
    let with = |auth| JetStreamOptions {
        auth,
        ..server.options()
    };
    let told = line(with(login("site", "wr0ng"))).await;
    check(&told, &["refused to let us in", "check user and password"]);
    assert!(!told.contains("wr0ng"));
    check(&line(with(Auth::None)).await, &["refused to let us in"]);
    check(
        &line(with(Auth::Credentials(Secret::new("no credentials")))).await,
        &["the credentials file holds no user and seed"],
    );
    JetStream::start(with(login("site", "right")))
        .ready(WAIT_MAX)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_jetstream_on_the_server_or_for_the_account() {
    let setup = Setup {
        jetstream: false,
        ..Setup::default()
    };
    let plain = NatsServer::start_with(&setup).await.unwrap();
    check(
        &line(plain.options()).await,
        &["JetStream is not enabled", "jetstream {"],
    );
    let accounts = "accounts { A { jetstream: enabled, users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }";
    let server = server_with(accounts).await;
    let options = JetStreamOptions {
        auth: login("b", "b"),
        ..server.options()
    };
    check(&line(options).await, &["JetStream", "account"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_publish_under_one_site_alone() {
    let users = "authorization { users: [
        {user: all, password: all},
        {user: a, password: a, permissions: { publish: [\"wf.obs.a.>\"], subscribe: [\"_INBOX.>\"] }}
    ] }";
    let server = server_with(users).await;
    let with = |auth| JetStreamOptions {
        auth,
        ..server.options()
    };
    JetStream::start(with(login("all", "all")))
        .ready(WAIT_MAX)
        .await
        .unwrap();
    let site = JetStream::start(with(login("a", "a")));
    let tick = |site: &str| message(Stream::Observations, &format!("wf.obs.{site}.tick.clock"), 1, "x");
    assert_eq!(site.append(vec![tick("a")]).await.unwrap()[0].sequence, 1);
    let error = site.append(vec![tick("b")]).await.unwrap_err();
    assert!(matches!(error, LogError::Refused { .. }), "{error}");
    check(
        &error.to_string(),
        &[
            "wf.obs.b.tick.clock",
            "Permissions Violation",
            "permissions of this user",
        ],
    );
    assert_eq!(
        site.append(vec![tick("a")]).await.unwrap()[0].sequence,
        1,
        "and is not cut off for it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_exists_in_another_way() {
    let server = server().await;
    let operator = operator(&server).await;
    let plain = |name: &str, subjects: &str| Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        ..Config::default()
    };
    let in_memory = Config {
        storage: StorageType::Memory,
        ..plain("WF_OBS", "wf.obs.>")
    };
    for (config, words) in [
        (
            in_memory,
            ["WF_OBS on", "storage Memory where File is needed", "made anew"],
        ),
        (
            plain("WF_OBS", "wf.obs.a.>"),
            [
                "WF_OBS on",
                "subjects wf.obs.a.> where wf.obs.> is needed",
                "--subjects",
            ],
        ),
        (
            plain("OTHER", "wf.obs.>"),
            ["WF_OBS on", "another stream", "nats stream ls"],
        ),
    ] {
        let name = config.name.clone();
        operator.create_stream(config).await.unwrap();
        check(&line(server.options()).await, &words);
        operator.delete_stream(name).await.unwrap();
    }
    let limited = Config {
        max_messages: 5,
        ..plain("WF_OBS", "wf.obs.>")
    };
    operator.create_stream(limited).await.unwrap();
    JetStream::start(server.options()).ready(WAIT_MAX).await.unwrap();
    let kept = operator
        .get_stream("WF_OBS")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    assert_eq!(kept.max_messages, 5, "what an operator chose stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_a_limit_of_the_server() {
    let server = server_with("max_payload: 8192").await;
    let log = crate::log(server.options()).await;
    let large = message(Stream::Observations, "wf.obs.site.x.y", 1, vec![0; 8190]);
    let error = log.append(vec![large]).await.unwrap_err();
    assert!(matches!(error, LogError::TooLarge { limit: 8192, .. }), "{error}");
    let longest = log.payload_bytes_max();
    assert!((4096..8192).contains(&longest), "{longest}");
    let fits = message(Stream::Observations, "wf.obs.site.x.y", 2, vec![0; longest]);
    log.append(vec![fits]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_larger_than_the_servers_store() {
    let setup = Setup {
        jetstream: false,
        config: "jetstream { max_file_store: 1MB, max_memory_store: 1MB }".to_owned(),
    };
    let server = NatsServer::start_with(&setup).await.unwrap();
    check(&line(server.options()).await, &["refused", "max_file_store"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_its_own_authority() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        cert.display(),
        key.display()
    );
    let server = server_with(&tls).await;
    let options = JetStreamOptions {
        tls: Tls {
            required: true,
            ca: Some(cert),
            ..Tls::default()
        },
        ..server.options()
    };
    JetStream::start(options).ready(WAIT_MAX).await.unwrap();
    check(
        &line(server.options()).await,
        &["refused to let us in", "certificate"],
    );
}
