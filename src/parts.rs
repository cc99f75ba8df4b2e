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
