//! Real packets between real network stacks: a bridge, hosts behind it, and this collector, in namespaces of their
//! own.
//!
//! Each test runs itself again under `unshare`, so nothing outside is touched and nothing is left behind. Without
//! root it becomes root of a user namespace.

#![expect(clippy::print_stdout, reason = "the harness shows it when a test fails")]

#[path = "namespaces/measured.rs"]
mod measured;

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Progress, Publisher};
use watchfold_log::memory::MemoryLog;
use watchfold_log::{LogReader, MessageLog, Start};
use watchfold_ping::{EchoAccess, NeighbourAccess, check_permissions, default_gateway, local_subnets};
use watchfold_schemas::config::{
    NetworkConfig, OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, Target,
};
use watchfold_schemas::observation::{Fault, Outcome, PingRow, PingRowRef};
use watchfold_schemas::{Body, SiteConfig, Stream, decode_observation};

/// How long any condition may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells a test that it runs inside.
const INSIDE: &str = "WATCHFOLD_TEST_NAMESPACE";

/// Tells a test which part of it runs without privileges, and by which file it talks to the other part.
const PART: &str = "WATCHFOLD_TEST_PART";

/// Runs `inside` in fresh network and mount namespaces, in a process of its own.
fn in_namespace(test: &str, inside: fn()) {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        return inside();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount"])
        .args((!root).then_some("--map-root-user"));
    run_test(command.arg("--"), test);
}

/// Runs this test of this binary again, behind `command`.
fn run_test(command: &mut Command, test: &str) {
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let output = command
        .env(INSIDE, test)
        .output()
        .expect("unshare and setpriv come with util-linux");
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{test} inside:\n{}",
        String::from_utf8_lossy(&text)
    );
    // A test that was renamed would pass without having run.
    assert!(
        String::from_utf8_lossy(&text).contains("1 passed"),
        "{test} did not run inside"
    );
}

fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A bridge with us at .254; its carrier does not depend on the hosts.
fn network() {
    sh("mount -t tmpfs tmpfs /run && mkdir -p /run/netns");
    sh("ip link set lo up");
    sh("ip link add br0 type bridge && ip link add anchor type veth peer name anchor-end");
    sh("ip link set anchor-end up && ip link set anchor master br0 up");
    sh("ip link set br0 up && ip addr add 10.77.0.254/24 dev br0 && ip addr add fd77::fe/64 dev br0 nodad");
}

/// A host behind the bridge at 10.77.0.`n` and fd77::`n`, with the hardware address 02:00:00:00:00:`n`.
fn host(n: u8) {
    sh(&format!(
        "ip netns add h{n}
         ip link add v{n} type veth peer name eth0 netns h{n}
         ip link set v{n} master br0 up
         ip -n h{n} link set eth0 address 02:00:00:00:00:{n} up
         ip -n h{n} addr add 10.77.0.{n}/24 dev eth0
         ip -n h{n} addr add fd77::{n}/64 dev eth0 nodad"
    ));
}

fn drop_echo(n: u8) {
    sh(&format!(
        "ip netns exec h{n} sysctl -qw net.ipv4.icmp_echo_ignore_all=1"
    ));
}

fn target(name: &str, address: &str, signal: SignalSpec) -> Target {
    Target {
        name: name.into(),
        probes: vec![ProbeSpec {
            address: address.into(),
            signals: vec![signal],
        }],
        quorum: 1,
        interval_ms: 500,
        timeout_ms: 250,
        depends_on: Vec::new(),
    }
}

fn site(targets: Vec<Target>, pcs: &[&str]) -> SiteConfig {
    let host = |address: &&str| PcHost {
        address: (*address).into(),
        mac: None,
        name: String::new(),
    };
    let network = NetworkConfig {
        targets,
        retry_delay_ms: 100,
        ..NetworkConfig::default()
    };
    let occupancy = OccupancyConfig {
        hosts: pcs.iter().map(host).collect(),
        interval_ms: 1_000,
        timeout_ms: 250,
        ..OccupancyConfig::default()
    };
    SiteConfig {
        site: "cafe".into(),
        network,
        occupancy,
        ..SiteConfig::default()
    }
}

/// A running collector and everything it says.
struct Collector {
    reader: Box<dyn LogReader>,
    config: watch::Sender<Arc<SiteConfig>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), watchfold_ping::PingError>>,
    seen: Vec<Body>,
    _dir: tempfile::TempDir,
}

impl Collector {
    async fn start(config: SiteConfig) -> Collector {
        let log = MemoryLog::new();
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::open(log.clone(), "cafe", "ping", dir.path())
            .await
            .unwrap();
        let reader = log
            .reader(Stream::Observations, "wf.obs.cafe.>", Start::First)
            .await
            .unwrap();
        let (config, receiver) = watch::channel(Arc::new(config));
        let (progress, cancel) = (Progress::new("ping"), CancellationToken::new());
        let running = watchfold_ping::run(publisher, receiver, Arc::clone(&progress), cancel.clone());
        let running = tokio::spawn(running);
        Collector {
            reader,
            config,
            progress,
            cancel,
            running,
            seen: Vec::new(),
            _dir: dir,
        }
    }

    /// Waits until a new record satisfies the condition.
    async fn until(&mut self, what: &str, mut condition: impl FnMut(&Body) -> bool) {
        let began = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(began.elapsed());
            let Ok(batch) = tokio::time::timeout(left, self.reader.next(100)).await else {
                panic!(
                    "{what} did not happen; the last records: {:#?}",
                    self.seen.iter().rev().take(6).collect::<Vec<_>>()
                );
            };
            let mut met = false;
            for record in batch.unwrap().records {
                let observation = decode_observation(&record.payload).unwrap();
                met |= condition(&observation.body);
                self.seen.push(observation.body);
            }
            if met {
                return println!("{what}: after {:?}", began.elapsed());
            }
        }
    }

    async fn until_row(&mut self, subject: &str, signal: Signal, outcome: Outcome) -> PingRow {
        let mut found = None;
        let what = format!("{subject} {signal:?} {outcome:?}");
        self.until(&what, |body| {
            found = rows(body)
                .into_iter()
                .find(|row| row.subject == subject && row.signal == signal && row.outcome == outcome)
                .or(found.take());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until the last word on a subject is this.
    async fn until_fault(&mut self, subject: &str, active: bool) -> Fault {
        let of_subject = |body: &Body| match body {
            Body::Fault(fault) if fault.subject == subject => Some(fault.clone()),
            _ => None,
        };
        let mut last = self.seen.iter().rev().find_map(of_subject);
        if last.as_ref().is_none_or(|fault| fault.active != active) {
            self.until(&format!("fault of {subject:?} {active}"), |body| {
                last = of_subject(body).or(last.take());
                last.as_ref().is_some_and(|fault| fault.active == active)
            })
            .await;
        }
        last.unwrap()
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn rows(body: &Body) -> Vec<PingRow> {
    match body {
        Body::PingRound(round) => round
            .rows()
            .unwrap()
            .into_iter()
            .map(PingRowRef::to_row)
            .collect(),
        _ => Vec::new(),
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

#[test]
fn presence_by_echo_and_by_neighbour() {
    in_namespace("presence_by_echo_and_by_neighbour", || {
        network();
        [11, 12].into_iter().for_each(host);
        drop_echo(12);
        block_on(async {
            let targets = vec![
                target("v4", "10.77.0.11", SignalSpec::Echo),
                target("v6", "fd77::11", SignalSpec::Echo),
                target("nobody", "10.77.0.99", SignalSpec::Echo),
            ];
            let config = site(targets, &["10.77.0.11", "10.77.0.12", "10.77.0.13"]);
            let mut collector = Collector::start(config.clone()).await;

            let row = collector.until_row("v4", Signal::Echo, Outcome::Ok).await;
            assert!(row.rtt_us.is_some() && row.detail.is_none(), "{row:?}");
            assert_eq!(row.mac.as_deref(), Some("02:00:00:00:00:11"));
            collector.until_row("v6", Signal::Echo, Outcome::Ok).await;
            collector
                .until("a retry of nobody", |body| {
                    let Body::PingRound(round) = body else {
                        return false;
                    };
                    round.attempt == 2 && rows(body).iter().all(|row| row.subject == "nobody")
                })
                .await;
            // Nobody answers ARP for three seconds, then the neighbour counts as failed.
            collector
                .until_row("nobody", Signal::Echo, Outcome::Unreachable)
                .await;

            let row = collector
                .until_row("pc:10.77.0.11", Signal::Echo, Outcome::Ok)
                .await;
            assert_eq!(row.mac.as_deref(), Some("02:00:00:00:00:11"));
            let row = collector
                .until_row("pc:10.77.0.12", Signal::Neighbour, Outcome::Ok)
                .await;
            assert_eq!(row.mac.as_deref(), Some("02:00:00:00:00:12"));
            collector
                .until_row("pc:10.77.0.13", Signal::Neighbour, Outcome::TimedOut)
                .await;

            // It stays present beyond the age at which its first confirmation stops counting.
            let mut outcomes = Vec::new();
            collector
                .until("seven rounds of a PC that drops echo", |body| {
                    let of_pc =
                        |row: &PingRow| row.subject == "pc:10.77.0.12" && row.signal == Signal::Neighbour;
                    outcomes.extend(rows(body).iter().filter(|row| of_pc(row)).map(|row| row.outcome));
                    outcomes.len() >= 7
                })
                .await;
            assert!(
                outcomes.iter().all(|outcome| *outcome == Outcome::Ok),
                "{outcomes:?}"
            );

            // Switched off: its entry was confirmed a moment ago, and it goes absent all the same.
            sh("ip -n h12 link set eth0 down");
            let row = collector
                .until_row("pc:10.77.0.12", Signal::Neighbour, Outcome::TimedOut)
                .await;
            assert_eq!(row.mac, None);
            sh("ip -n h12 link set eth0 up");
            collector
                .until_row("pc:10.77.0.12", Signal::Neighbour, Outcome::Ok)
                .await;

            // Another configuration takes over without a restart.
            let mut next = config;
            next.network.targets = vec![target("other", "10.77.0.12", SignalSpec::Tcp { port: 80 })];
            collector.config.send(Arc::new(next)).unwrap();
            collector.until_row("other", Signal::Tcp, Outcome::Refused).await;
            assert!(collector.progress.snapshot().position > 0);
            assert_eq!(rounds_out_of_order(&collector.seen), Vec::<String>::new());
            collector.stop().await;
        });
    });
}

/// Rounds whose rows are not in time order or whose retry has no first attempt.
fn rounds_out_of_order(seen: &[Body]) -> Vec<String> {
    let mut first = std::collections::HashSet::new();
    let mut wrong = Vec::new();
    for body in seen {
        let Body::PingRound(round) = body else { continue };
        let in_order = round.at_us.is_sorted() && !round.is_empty();
        let known = if round.attempt == 1 {
            first.insert(round.round)
        } else {
            first.contains(&round.round)
        };
        if !in_order || !known {
            wrong.push(format!("{round:?}"));
        }
    }
    wrong
}

#[test]
fn our_own_uplink_is_never_their_outage() {
    in_namespace("our_own_uplink_is_never_their_outage", || {
        network();
        host(11);
        sh("ip route add default via 10.77.0.11");
        let gateway = default_gateway().unwrap();
        assert_eq!(
            (gateway.address.to_string().as_str(), gateway.interface.as_str()),
            ("10.77.0.11", "br0")
        );
        assert_eq!(gateway.subnet.unwrap().prefix_length, 24);
        let subnets: Vec<_> = local_subnets()
            .unwrap()
            .iter()
            .map(|subnet| subnet.address.to_string())
            .collect();
        assert_eq!(subnets, ["10.77.0.254", "fd77::fe"]);
        block_on(async {
            let targets = vec![
                target("router", "10.77.0.11", SignalSpec::Echo),
                target("far", "192.0.2.1", SignalSpec::Tcp { port: 80 }),
                target("named", "nobody\0", SignalSpec::Echo),
            ];
            let mut collector = Collector::start(site(targets, &["10.77.0.11"])).await;
            let fault = collector.until_fault("named", true).await;
            assert!(fault.reason.contains("cannot be resolved"), "{fault:?}");
            collector.until_row("named", Signal::Echo, Outcome::Fault).await;
            collector.until_row("router", Signal::Echo, Outcome::Ok).await;

            // The cable is pulled at our end: the interface stays up without carrier.
            sh("ip link set v11 nomaster && ip link set anchor down");
            let row = collector.until_row("router", Signal::Echo, Outcome::Fault).await;
            assert_eq!(row.detail.as_deref(), Some("no carrier on br0"));
            collector.until_fault("router", true).await;
            let row = collector
                .until_row("pc:10.77.0.11", Signal::Neighbour, Outcome::Fault)
                .await;
            assert_eq!(row.detail.as_deref(), Some("no carrier on br0"));
            sh("ip link set v11 master br0 && ip link set anchor up");
            collector.until_fault("router", false).await;
            collector.until_row("router", Signal::Echo, Outcome::Ok).await;

            // No route at all.
            sh("ip route del default");
            let row = collector.until_row("far", Signal::Tcp, Outcome::Fault).await;
            assert_eq!(row.detail.as_deref(), Some("network is unreachable"));
            sh("ip addr del 10.77.0.254/24 dev br0");
            collector.until_row("router", Signal::Echo, Outcome::Fault).await;
            collector.stop().await;
        });
    });
}

#[test]
fn permissions_decide_how_and_never_whether() {
    const TEST: &str = "permissions_decide_how_and_never_whether";
    in_namespace(TEST, || {
        let part = std::env::var(PART).unwrap_or_default();
        match part.split_once(' ') {
            Some(("datagram", _)) => return datagram_sockets(),
            Some(("denied", marker)) => return denied_and_then_allowed(marker),
            _ => {}
        }
        assert_eq!(check_permissions().echo_v4, EchoAccess::Raw);
        assert_eq!(check_permissions().neighbours, NeighbourAccess::Provoked);
        network();
        [11, 12].into_iter().for_each(host);
        drop_echo(12);
        let unprivileged = |part: &str| {
            let mut command = Command::new("setpriv");
            run_test(
                command
                    .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
                    .env(PART, part),
                TEST,
            );
        };
        // A new namespace lets no group ask (its range is "1 0").
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("denied");
        std::thread::scope(|scope| {
            let allow = scope.spawn(|| {
                let began = Instant::now();
                while !marker.exists() && began.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(20));
                }
                sh("sysctl -qw net.ipv4.ping_group_range='0 0'");
            });
            unprivileged(&format!("denied {}", marker.display()));
            allow.join().unwrap();
        });
        unprivileged("datagram -");
    });
}

fn datagram_sockets() {
    let report = check_permissions();
    assert_eq!(
        (&report.echo_v4, &report.echo_v6),
        (&EchoAccess::Datagram, &EchoAccess::Datagram)
    );
    assert_eq!(report.neighbours, NeighbourAccess::SystemPaced);
    assert!(
        report.advice.iter().any(|line| line.contains("cap_net_admin")),
        "{report:?}"
    );
    block_on(async {
        let targets = vec![target("v6", "fd77::11", SignalSpec::Echo)];
        let mut collector = Collector::start(site(targets, &["10.77.0.11", "10.77.0.12"])).await;
        collector.until_row("v6", Signal::Echo, Outcome::Ok).await;
        collector
            .until_row("pc:10.77.0.11", Signal::Echo, Outcome::Ok)
            .await;
        collector
            .until_row("pc:10.77.0.12", Signal::Neighbour, Outcome::Ok)
            .await;
        collector.stop().await;
    });
}

fn denied_and_then_allowed(marker: &str) {
    let report = check_permissions();
    assert_eq!(
        (&report.echo_v4, report.echo_works()),
        (&EchoAccess::Denied, false)
    );
    assert!(
        report
            .advice
            .iter()
            .any(|line| line.contains("net.ipv4.ping_group_range")),
        "{report:?}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    block_on(async {
        let targets = vec![
            target("tcp", "127.0.0.1", SignalSpec::Tcp { port }),
            target("echo", "10.77.0.11", SignalSpec::Echo),
        ];
        let mut collector = Collector::start(site(targets, &["10.77.0.11", "10.77.0.99"])).await;
        let fault = collector.until_fault("", true).await;
        assert!(
            fault
                .reason
                .contains("sudo sysctl -w net.ipv4.ping_group_range=\"0 2147483647\""),
            "{fault:?}"
        );
        collector.until_row("echo", Signal::Echo, Outcome::Fault).await;
        // What needs no echo goes on.
        collector.until_row("tcp", Signal::Tcp, Outcome::Ok).await;
        collector
            .until_row("pc:10.77.0.11", Signal::Neighbour, Outcome::Ok)
            .await;
        collector
            .until_row("pc:10.77.0.99", Signal::Neighbour, Outcome::TimedOut)
            .await;
        std::fs::write(marker, "").unwrap();
        collector.until_fault("", false).await;
        collector.until_row("echo", Signal::Echo, Outcome::Ok).await;
        collector.stop().await;
    });
}

#[test]
fn loopback_answers_in_both_families() {
    in_namespace("loopback_answers_in_both_families", || {
        sh("ip link set lo up");
        block_on(async {
            let targets = vec![
                target("v4", "127.0.0.1", SignalSpec::Echo),
                target("v6", "::1", SignalSpec::Echo),
                target("closed", "::1", SignalSpec::Tcp { port: 9 }),
            ];
            let mut collector = Collector::start(site(targets, &[])).await;
            collector.until_row("v4", Signal::Echo, Outcome::Ok).await;
            collector.until_row("v6", Signal::Echo, Outcome::Ok).await;
            collector.until_row("closed", Signal::Tcp, Outcome::Refused).await;
            collector.stop().await;
        });
    });
}
