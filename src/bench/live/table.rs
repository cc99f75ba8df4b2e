//! What was measured, as a table for people and as JSON for machines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::receivers::Counted;
use super::sender::Sent;
use crate::bench::machine;
use crate::bench::report::readable;
use crate::cli::{Format, SendRate};
use watchfold_kit::console::{self, OutputError};
use watchfold_kit::outln;

/// Who received, by the names in the table; the first is the peer that others are held against.
pub const LIBPCAP: &str = "libpcap";
pub const TCPDUMP: &str = "tcpdump -w";
pub const WHOLE: &str = "watchfold";

/// One receiver at one rate.
pub struct Run {
    pub rate: SendRate,
    pub receiver: &'static str,
    pub sent: Sent,
    pub counted: Counted,
    /// Seconds of processor time, by thread.
    pub threads_s: BTreeMap<String, f64>,
}

/// What a buffer held while nobody read.
pub struct Held {
    pub buffer_mib: u32,
    pub packets: u64,
}

pub struct Table {
    pub seconds: u64,
    pub buffer_mib: u32,
    pub runs: Vec<Run>,
    pub held: Vec<Held>,
}

impl Run {
    fn cpu_s(&self) -> f64 {
        self.threads_s.values().sum()
    }

    /// Of one core, while packets were sent.
    fn share(&self, cpu_s: f64) -> f64 {
        cpu_s / self.sent.took_s
    }

    fn cpu_ns_per_packet(&self) -> f64 {
        self.cpu_s() * 1e9 / self.counted.received.max(1) as f64
    }

    fn received_share(&self) -> f64 {
        self.counted.received as f64 / self.sent.packets.max(1) as f64
    }
}

impl Table {
    pub fn print(&self, format: Format) -> Result<(), OutputError> {
        match format {
            Format::Json => outln!("{}", self.json()),
            Format::Human => console::write(self.text()),
        }
    }

    fn peer(&self, run: &Run) -> Option<&Run> {
        let is_peer = |other: &&Run| other.rate == run.rate && other.receiver == LIBPCAP;
        self.runs.iter().find(is_peer).filter(|_| run.receiver != LIBPCAP)
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let runs = self.runs.iter().map(|run| {
            let threads: BTreeMap<&str, f64> = run
                .threads_s
                .iter()
                .map(|(name, cpu_s)| (name.as_str(), rounded(run.share(*cpu_s))))
                .collect();
            let mut of = json!({
                "asked_per_s": run.rate.0,
                "receiver": run.receiver,
                "sent": run.sent.packets,
                "sent_per_s": rounded(run.sent.packets as f64 / run.sent.took_s),
                "sent_bytes": run.sent.bytes,
                "received": run.counted.received,
                "dropped_by_kernel": run.counted.dropped_by_kernel,
                "dropped_by_interface": run.counted.dropped_by_interface,
                "dropped_here": run.counted.dropped_here,
                "received_share": rounded(run.received_share()),
                "cpu_cores": rounded(run.share(run.cpu_s())),
                "cpu_ns_per_packet": rounded(run.cpu_ns_per_packet()),
                "cpu_cores_by_thread": threads,
                "behind_ms": run.counted.behind_ms,
            });
            if let Some(peer) = self.peer(run) {
                of["cpu_vs_libpcap"] = json!(rounded(run.cpu_ns_per_packet() / peer.cpu_ns_per_packet()));
                of["received_vs_libpcap"] = json!(rounded(run.received_share() / peer.received_share()));
            }
            of
        });
        json!({
            "bench": "live",
            "version": env!("CARGO_PKG_VERSION"),
            "cores": machine::cores(),
            "seconds": self.seconds,
            "buffer_mib": self.buffer_mib,
            "runs": runs.collect::<Vec<_>>(),
            "held": self.held.iter()
                .map(|held| json!({ "buffer_mib": held.buffer_mib, "packets": held.packets }))
                .collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut out = format!(
            "watchfold {}, bench live, {} cores, {} s each, a buffer of {} MiB\n",
            env!("CARGO_PKG_VERSION"),
            machine::cores(),
            self.seconds,
            self.buffer_mib
        );
        out += &format!(
            "{:>9}  {:10} {:>11} {:>11} {:>10} {:>8} {:>8} {:>8} {:>9} {:>8}\n",
            "packets/s",
            "receiver",
            "sent",
            "received",
            "by kernel",
            "before",
            "here",
            "cores",
            "ns each",
            "against"
        );
        for run in &self.runs {
            let against = self.peer(run).map_or_else(String::new, |peer| {
                format!("{:.2} ×", run.cpu_ns_per_packet() / peer.cpu_ns_per_packet())
            });
            let counted = &run.counted;
            out += &format!(
                "{:>9}  {:10} {:>11} {:>11} {:>10} {:>8} {:>8} {:>8.3} {:>9.0} {:>8}\n",
                run.rate
                    .0
                    .map_or_else(|| "max".to_owned(), |rate| readable(rate as f64)),
                run.receiver,
                readable(run.sent.packets as f64),
                readable(counted.received as f64),
                readable(counted.dropped_by_kernel as f64),
                readable(counted.dropped_by_interface as f64),
                readable(counted.dropped_here as f64),
                run.share(run.cpu_s()),
                run.cpu_ns_per_packet(),
                against,
            );
        }
        for run in self.runs.iter().filter(|run| run.receiver == WHOLE) {
            let threads: Vec<String> = run
                .threads_s
                .iter()
                .filter(|(_, cpu_s)| run.share(**cpu_s) >= 0.001)
                .map(|(name, cpu_s)| format!("{name} {:.3}", run.share(*cpu_s)))
                .collect();
            let behind = run.counted.behind_ms.unwrap_or_default();
            out += &format!(
                "cores of {WHOLE} at {}: {}; everything judged after {behind} ms\n",
                run.rate,
                threads.join(", ")
            );
        }
        for held in &self.held {
            let packets = readable(held.packets as f64);
            out += &format!(
                "a buffer of {} MiB holds {packets} packets that nobody reads\n",
                held.buffer_mib
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(receiver: &'static str, received: u64, cpu_s: f64) -> Run {
        Run {
            rate: SendRate(Some(1_000)),
            receiver,
            sent: Sent {
                packets: 2_000,
                bytes: 150_000,
                failed: 0,
                took_s: 2.0,
            },
            counted: Counted {
                received,
                dropped_by_kernel: 2_000 - received,
                ..Counted::default()
            },
            threads_s: [("capture".to_owned(), cpu_s)].into(),
        }
    }

    #[test]
    fn each_is_held_against_libpcap_at_its_rate() {
        let table = Table {
            seconds: 2,
            buffer_mib: 64,
            runs: vec![run(LIBPCAP, 2_000, 0.5), run(WHOLE, 1_000, 1.0)],
            held: Vec::new(),
        };
        let json = table.json();
        let (peer, whole) = (&json["runs"][0], &json["runs"][1]);
        assert_eq!(peer["cpu_vs_libpcap"], Value::Null);
        assert_eq!(
            (&peer["cpu_cores"], &whole["cpu_cores"]),
            (&json!(0.25), &json!(0.5))
        );
        assert_eq!(
            whole["cpu_vs_libpcap"], 4.0,
            "twice the time for half of the packets"
        );
        assert_eq!(
            (&whole["received_vs_libpcap"], &whole["dropped_by_kernel"]),
            (&json!(0.5), &json!(1_000))
        );
        assert!(table.text().contains("4.00 ×"), "{}", table.text());
    }

    #[test]
    fn rates_are_numbers_or_as_many_as_can_be() {
        let rate = |text: &str| text.parse::<SendRate>();
        assert_eq!(rate("max"), Ok(SendRate(None)));
        assert_eq!(rate("200000"), Ok(SendRate(Some(200_000))));
        for wrong in ["", "0", "-1", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
