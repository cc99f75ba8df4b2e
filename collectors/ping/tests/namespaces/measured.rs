//! What is measured of targets that answer: how long it takes, and by which of several addresses.

use std::collections::BTreeMap;
use std::process::Command;

use watchfold_schemas::Body;
use watchfold_schemas::config::{Signal, SignalSpec, Target};
use watchfold_schemas::observation::Outcome;

use super::{Collector, block_on, host, in_namespace, network, rows, sh, site, target};

/// `rounds` round-trip times of each target, by its name.
async fn round_trips(collector: &mut Collector, rounds: usize) -> BTreeMap<String, Vec<u32>> {
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut records = 0;
    collector
        .until("enough rounds", |body| {
            for row in rows(body) {
                seen.entry(row.subject).or_default().extend(row.rtt_us);
            }
            records += usize::from(matches!(body, Body::PingRound(round) if round.attempt == 1));
            records >= rounds
        })
        .await;
    seen
}

fn median(mut values: Vec<u32>) -> f64 {
    values.sort_unstable();
    f64::from(values[values.len() / 2])
}

/// The median of what `ping` measures, in microseconds.
fn median_of_ping(address: &str) -> f64 {
    let output = Command::new("ping")
        .args(["-c", "41", "-i", "0.05", address])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = text
        .lines()
        .filter_map(|line| line.split("time=").nth(1)?.split(' ').next());
    let micros: Vec<u32> = times
        .map(|ms| (ms.parse::<f64>().unwrap() * 1e3).ceil() as u32)
        .collect();
    assert!(micros.len() > 20, "{text}");
    median(micros)
}

#[test]
fn the_round_trip_time_of_equal_targets_does_not_depend_on_their_order() {
    const TARGETS: usize = 240;
    const QUARTER: usize = TARGETS / 4;
    in_namespace(
        "measured::the_round_trip_time_of_equal_targets_does_not_depend_on_their_order",
        || {
            network();
            host(11);
            let address = |index: usize| format!("10.78.0.{}", index + 1);
            sh("ip addr add 10.78.0.254/24 dev br0");
            for index in 0..TARGETS {
                sh(&format!("ip -n h11 addr add {}/24 dev eth0", address(index)));
            }
            let name = |index: usize| format!("t{index:03}");
            block_on(async {
                let targets = (0..TARGETS).map(|index| Target {
                    timeout_ms: 400,
                    ..target(&name(index), &address(index), SignalSpec::Echo)
                });
                let mut collector = Collector::start(site(targets.collect(), &[])).await;
                // Neighbours are looked up in the first rounds.
                round_trips(&mut collector, 3).await;
                let seen = round_trips(&mut collector, 12).await;
                collector.stop().await;
                let of = |range: std::ops::Range<usize>| {
                    let values = range.flat_map(|index| seen.get(&name(index)).cloned().unwrap_or_default());
                    let values: Vec<u32> = values.collect();
                    assert!(values.iter().all(|rtt_us| *rtt_us > 0), "nothing takes no time");
                    median(values)
                };
                let (first, last) = (of(0..QUARTER), of(TARGETS - QUARTER..TARGETS));
                let ping = median_of_ping(&address(0));
                println!("first quarter {first} us, last quarter {last} us, ping {ping} us");
                // In whole microseconds, of which there are a few.
                let ratio = first.max(last) / first.min(last);
                assert!(
                    ratio < 2.5,
                    "the first quarter takes {first} us and the last {last} us"
                );
                // `ping` sends one at a time, on caches that have grown cold; a round is faster, like `ping -f`, and never slower.
                assert!(first < 2.0 * ping, "{first} us here and {ping} us by ping");
            });
        },
    );
}

#[test]
fn a_name_is_up_while_any_of_its_addresses_answers() {
    in_namespace(
        "measured::a_name_is_up_while_any_of_its_addresses_answers",
        || {
            network();
            host(11);
            // Nobody is at the first address; files are asked before any resolver.
            sh(
                "printf 'fd77::99 dual.test\\n10.77.0.11 dual.test\\n' > /run/hosts
            printf 'hosts: files\\n' > /run/nsswitch.conf
            mount --bind /run/hosts /etc/hosts
            touch /etc/nsswitch.conf
            mount --bind /run/nsswitch.conf /etc/nsswitch.conf",
            );
            block_on(async {
                let spec = |name: &str, signal| Target {
                    timeout_ms: 400,
                    ..target(name, "dual.test", signal)
                };
                let targets = vec![
                    spec("echo", SignalSpec::Echo),
                    // Nobody listens: refused is an answer of the living address, and says more than the silence of the other.
                    spec("tcp", SignalSpec::Tcp { port: 9 }),
                ];
                let mut collector = Collector::start(site(targets, &[])).await;
                let row = collector.until_row("echo", Signal::Echo, Outcome::Ok).await;
                assert_eq!(
                    (&*row.address, row.resolved.as_deref()),
                    ("dual.test", Some("10.77.0.11"))
                );
                let row = collector.until_row("tcp", Signal::Tcp, Outcome::Refused).await;
                assert_eq!(row.resolved.as_deref(), Some("10.77.0.11"));
                collector.stop().await;
            });
        },
    );
}
