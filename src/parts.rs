//! The parts of the all-in-one. A part is added by one line here.

mod activation;
mod packets;
pub mod rules;

use watchfold_capture::Capture;
use watchfold_clock::Clock;
use watchfold_dashboard::Page;
use watchfold_discord::Discord;
use watchfold_healthchecks::Healthchecks;
use watchfold_kit::{Parts, parts};
use watchfold_ping::Ping;
use watchfold_processors::{PacketChainPart, SiteChainPart};
use watchfold_virustotal::VirusTotal;

use self::activation::Activation;
pub use self::packets::kept_packets;

pub fn all() -> Parts {
    parts![
        Activation::default(),
        SiteChainPart::default(),
        PacketChainPart::default(),
        Page::default(),
        Clock::beside_the_log(),
        Ping::default(),
        Capture::default(),
        Discord::default(),
        VirusTotal::default(),
        Healthchecks::default(),
    ]
}

#[cfg(test)]
mod tests {
    use watchfold_folds::{PacketChain, StateMachine};
    use watchfold_kit::metrics::declaration_of;
    use watchfold_runner::RunnerStats;
    use watchfold_sink_kit::SinkStats;
    use watchfold_virustotal::LookupStats;

    #[test]
    fn every_row_that_a_part_shows_is_a_declared_metric() {
        let runner = RunnerStats::default().rows();
        let sources = [
            ("chain", runner.clone()),
            ("packet_chain", runner),
            ("packets", PacketChain::new("cafe-1").counts()),
            ("sink", SinkStats::default().rows()),
            ("sink", LookupStats::default().rows()),
        ];
        for (family, rows) in sources {
            assert!(!rows.is_empty(), "{family}");
            for (row, _) in rows {
                assert!(declaration_of(family, row).is_some(), "{family} {row}");
            }
        }
    }
}
