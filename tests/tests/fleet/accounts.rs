//! Who may do what at a hub: the users of accounts.conf, through the transport and as clients that know nothing of it.
//! A site publishes as itself, and can neither pass for another nor read; what it is refused is told, and not lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use watchfold_connect::{ConnectArgs, Opened, Patience};
use watchfold_folds::SiteChain;
use watchfold_kit::{Publisher, SpoolOptions};
use watchfold_log::{Append, LogError, MessageLog, Start};
use watchfold_runner::{Folded, fold_all};
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::{Body, MessageId, Observation, Origin, Stream, Time, encode_observation, subjects};

use crate::server_files::{SECRETS, all, record};
use crate::shipped::{Shipped, api, folder, until};

const HUB: Option<(&str, &str)> = Some(("hub", "hub-s3cret"));

/// One server with the accounts of the hub: what single-2.9.conf says, and they.
async fn server(place: &Path) -> Shipped {
    std::fs::copy(folder().join("accounts.conf"), place.join("accounts.conf")).unwrap();
    let single = std::fs::read_to_string(folder().join("single-2.9.conf")).unwrap();
    let file = place.join("single.conf");
    std::fs::write(&file, format!("{single}\ninclude \"accounts.conf\"\n")).unwrap();
    let server = Shipped::start(place, "server", &file, &SECRETS).await;
    drop(server.log(HUB).await);
    server
}

/// The log as a process of that site opens it, by its command line.
async fn opened(place: &Path, server: &Shipped, user: &str, inbox_prefix: Option<&str>) -> Opened {
    let password = place.join(format!("{user}.password"));
    std::fs::write(&password, format!("{user}-s3cret\n")).unwrap();
    let args = ConnectArgs {
        log: Some(server.url()),
        nats_user: Some(user.to_owned()),
        nats_password_file: Some(password),
        nats_inbox_prefix: inbox_prefix.map(str::to_owned),
        ..ConnectArgs::default()
    };
    watchfold_connect::open(&args, Patience::Forever).await.unwrap()
}

/// The refusal holds each of `words`, and no secret.
fn check(error: &LogError, words: &[&str]) {
    assert!(matches!(error, LogError::Refused { .. }), "{error:?}");
    let line = error.to_string();
    assert!(!line.contains("s3cret") && !line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_publishes_as_itself_and_as_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    let site = opened(place.path(), &server, "cafe-1", Some("_INBOX_cafe-1")).await;
    let log = site.log.as_ref();
    assert_eq!(
        log.append(vec![record("cafe-1", 1)]).await.unwrap()[0].sequence,
        1
    );
    let error = log.append(vec![record("cafe-2", 1)]).await.unwrap_err();
    check(&error, &["wf.obs.cafe-2.quiet.ping", "permissions of this user"]);
    // It goes on after that.
    assert_eq!(
        log.append(vec![record("cafe-1", 2)]).await.unwrap()[0].sequence,
        2
    );
    // It sees that the log answers, and not what is in it.
    for _ in 0..2 {
        assert_eq!(log.end(Stream::Observations).await.unwrap(), None);
    }
    let info = log.info(Stream::Observations).await.unwrap_err();
    check(&info, &["$JS.API.STREAM.INFO.WF_OBS", "permissions"]);

    let read = log.get(Stream::Observations, 1).await.unwrap_err();
    check(&read, &["$JS.API.STREAM.MSG.GET.WF_OBS", "permissions"]);
    let read = log
        .last(Stream::Observations, "wf.obs.cafe-1.>")
        .await
        .unwrap_err();
    check(&read, &["$JS.API.STREAM.MSG.GET.WF_OBS", "permissions"]);
    let Err(read) = log.reader(Stream::Observations, ">", Start::First).await else {
        let mut reader = log.reader(Stream::Observations, ">", Start::First).await.unwrap();
        let read = reader.try_next(1).await.map(|batch| batch.records.len());
        return assert!(matches!(read, Err(LogError::Refused { .. })), "{read:?}");
    };
    check(&read, &["permissions"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_its_inbox_is_told_of_it() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    let site = opened(place.path(), &server, "cafe-1", None).await;
    let error = site.log.append(vec![record("cafe-1", 1)]).await.unwrap_err();
    check(&error, &["_INBOX.>", "--nats-inbox-prefix"]);
    let wrong = opened(place.path(), &server, "cafe-1", Some("_INBOX_cafe-2")).await;
    let error = wrong.log.append(vec![record("cafe-1", 1)]).await.unwrap_err();
    check(&error, &["_INBOX_cafe-2.>", "--nats-inbox-prefix"]);
}

/// A client of that site, and what the server refuses it.
async fn raw(server: &Shipped, user: &str) -> (async_nats::Client, mpsc::UnboundedReceiver<String>) {
    let (sender, refusals) = mpsc::unbounded_channel();
    let client = async_nats::ConnectOptions::new()
        .user_and_password(user.to_owned(), format!("{user}-s3cret"))
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .event_callback(move |event| {
            let sender = sender.clone();
            async move { drop(sender.send(event.to_string())) }
        })
        .connect(server.url())
        .await
        .unwrap();
    (client, refusals)
}

/// Waits for the server's no to this subject.
async fn refused(refusals: &mut mpsc::UnboundedReceiver<String>, subject: &str) {
    let wanted = format!("\"{subject}\"").to_lowercase();
    until(subject, async || {
        let told = tokio::time::timeout(Duration::from_millis(50), refusals.recv()).await;
        let told = told.ok().flatten()?.to_lowercase();
        (told.contains("permissions violation") && told.contains(&wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_itself_refuses_a_site_everything_else() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    let (client, mut refusals) = raw(&server, "cafe-1").await;
    let ack = api(&client, "wf.obs.cafe-1.quiet.ping", &Value::Null).await;
    assert_eq!(
        (&ack["stream"], &ack["seq"]),
        (&"WF_OBS".into(), &1.into()),
        "{ack}"
    );
    for subject in [
        "wf.obs.cafe-2.quiet.ping",
        "wf.pkt.cafe-2.batch.capture",
        "wf.obs.cafe-1.activation.config",
        "wf.obs.cafe-1.operator.dashboard",
        "wf.obs.cafe-1.tick.clock",
        "wf.obs.cafe-1.quiet.clock",
        "wf.obs.cafe-1.finding.packets",
        "wf.obs.cafe-1.receipt.discord",
        "wf.pkt.cafe-1.rules.config",
        "wf.pkt.cafe-1.verdict.virustotal",
        "$JS.API.STREAM.INFO.WF_OBS",
        "$JS.API.STREAM.INFO.WF_PKT",
        "$JS.API.STREAM.NAMES",
        "wf.evt.cafe-1.site.incident.x",
        "wf.snap.cafe-1.site",
        "wf.cmd.cafe-1.ping",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.WF_OBS",
        "$JS.API.STREAM.PURGE.WF_OBS",
        "$JS.API.STREAM.DELETE.WF_OBS",
        "$JS.API.STREAM.MSG.GET.WF_OBS",
        "$JS.API.DIRECT.GET.WF_OBS",
        "$JS.API.CONSUMER.CREATE.WF_OBS",
        "$JS.API.CONSUMER.DURABLE.CREATE.WF_OBS.mine",
        "$KV.WF_LEASE.chain",
        "_INBOX_cafe-2.x",
    ] {
        client.publish(subject, "{}".into()).await.unwrap();
        refused(&mut refusals, subject).await;
    }
    for subject in [
        "wf.>",
        "wf.obs.cafe-1.>",
        "wf.cmd.cafe-2.>",
        "_INBOX_cafe-2.>",
        ">",
    ] {
        let _subscribed = client.subscribe(subject).await.unwrap();
        refused(&mut refusals, subject).await;
    }
    let hub = server.raw(HUB).await;
    let info = api(&hub, "$JS.API.STREAM.INFO.WF_OBS", &Value::Null).await;
    assert_eq!(info["state"]["messages"], 1, "{info}");
    let names = api(&hub, "$JS.API.STREAM.NAMES", &Value::Null).await;
    assert!(!names["streams"].to_string().contains("MINE"), "{names}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_is_refused_waits_and_is_told() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    // The collector of a site that nobody has allowed to publish yet.
    let site = opened(place.path(), &server, "cafe-1", Some("_INBOX_cafe-1")).await;
    let spool = SpoolOptions {
        directory: place.path().join("spool"),
        bytes_max: 1 << 20,
    };
    let publisher = Publisher::open_with_spool(site.log.clone(), "cafe-3", "ping", place.path(), spool)
        .await
        .unwrap();
    for _ in 0..5 {
        publisher.submit(Body::Quiet).unwrap();
    }
    let trouble = until("the refusal", async || publisher.trouble()).await;
    assert!(trouble.contains("wf.obs.cafe-3.quiet.ping"), "{trouble}");
    until("five in the spool", async || {
        (publisher.stats().spooled == 5).then_some(())
    })
    .await;
    assert_eq!(publisher.stats().dropped, 0);
    // Somebody allows it.
    let accounts = std::fs::read_to_string(place.path().join("accounts.conf")).unwrap();
    let more = accounts.replacen(
        "\"wf.obs.cafe-1.quiet.ping\"",
        "\"wf.obs.cafe-1.quiet.ping\"\n\"wf.obs.cafe-3.>\"",
        1,
    );
    std::fs::write(place.path().join("accounts.conf"), more).unwrap();
    server.reload();
    until("all at the log", async || {
        (publisher.stats().forwarded == 5).then_some(())
    })
    .await;
    let hub: Arc<dyn MessageLog> = server.log(HUB).await;
    let records = all(hub.as_ref(), Stream::Observations, 5).await;
    assert_eq!(records.len(), 5);
    until("no trouble", async || publisher.trouble().is_none().then_some(())).await;
}

/// A quiet record of this site's collector `ping`.
fn quiet(site: &str, number: u64) -> Append {
    let observation = Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: site.to_owned(),
            collector: "ping".to_owned(),
            incarnation: 1,
            number,
        },
        observed_at: Time::from_seconds(number as i64),
        through: Time::from_seconds(number as i64),
        body: Body::Quiet,
    };
    Append {
        payload: encode_observation(&observation).unwrap().into(),
        id: observation.message_id(),
        ..record(site, number)
    }
}

/// What a chain of that site makes of the log.
async fn folded(hub: &dyn MessageLog, site: &str) -> Folded {
    let filter = subjects::site_filter(Stream::Observations, site);
    let mut reader = hub
        .reader(Stream::Observations, &filter, Start::First)
        .await
        .unwrap();
    let mut fold = SiteChain::new(site);
    fold_all(reader.as_mut(), site, &mut fold).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_uses_up_ids_of_another_suppresses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    let records: Vec<Append> = (1..=5).map(|number| quiet("cafe-1", number)).collect();
    let (hostile, _refusals) = raw(&server, "cafe-2").await;
    for record in &records {
        // The bare id, the id with a mark of the attacker's own, and somebody's record in its body.
        for id in [record.id.0.clone(), format!("{};{:032x}", record.id.0, 7)] {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", id);
            let subject = "wf.obs.cafe-2.quiet.ping";
            let request = async_nats::Request::new()
                .headers(headers)
                .payload(record.payload.clone());
            let answer = hostile.send_request(subject, request).await.unwrap();
            let ack: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert!(ack["error"].is_null() && ack["duplicate"].is_null(), "{ack}");
        }
    }
    let site = opened(place.path(), &server, "cafe-1", Some("_INBOX_cafe-1")).await;
    let duplicates = async |log: &dyn MessageLog| {
        let acks = log.append(records.clone()).await.unwrap();
        acks.iter().filter(|ack| ack.duplicate).count()
    };
    assert_eq!(duplicates(site.log.as_ref()).await, 0, "taken for sent already");
    drop(site);
    // Another process of the same user sends them again.
    let site = opened(place.path(), &server, "cafe-1", Some("_INBOX_cafe-1")).await;
    assert_eq!(duplicates(site.log.as_ref()).await, 5);
    let hub = server.log(HUB).await;
    let stored = |folded: &Folded| folded.records + folded.duplicates + folded.quarantined;
    let own = folded(hub.as_ref(), "cafe-1").await;
    assert_eq!((own.records, stored(&own)), (5, 5), "{own:?}");
    let foreign = folded(hub.as_ref(), "cafe-2").await;
    assert_eq!((foreign.records, foreign.quarantined), (0, 10), "{foreign:?}");
    // As after a change of the password: the broker does not know the ids again, the chain knows the numbers.
    assert_eq!(duplicates(hub.as_ref()).await, 0);
    let own = folded(hub.as_ref(), "cafe-1").await;
    assert_eq!((own.records, own.duplicates), (5, 5), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_under_the_subject_of_another_collector_or_kind_is_quarantined() {
    let place = tempfile::tempdir().unwrap();
    let server = server(place.path()).await;
    let hub = server.log(HUB).await;
    let under = |subject: &str, number| Append {
        subject: subject.to_owned(),
        ..quiet("cafe-1", number)
    };
    let other_id = Append {
        id: MessageId("cafe-1/ping/1/9".to_owned()),
        ..quiet("cafe-1", 3)
    };
    let records = vec![
        under("wf.obs.cafe-1.quiet.capture", 1),
        under("wf.obs.cafe-1.tick.ping", 2),
        other_id,
        quiet("cafe-1", 4),
    ];
    hub.append(records).await.unwrap();
    let folded = folded(hub.as_ref(), "cafe-1").await;
    assert_eq!((folded.records, folded.quarantined), (1, 3), "{folded:?}");
}
