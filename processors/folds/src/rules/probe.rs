//! Rows as rules see them: probes.

use core::net::IpAddr;

use watchfold_schemas::alert::{Endpoint, PacketRanges};
use watchfold_schemas::fields::{Field, Source};
use watchfold_schemas::observation::{Outcome, PingRowRef};

use crate::detections::attacks::Victim;
use crate::detections::telling::RowFacts;
use crate::engine::cell::{Cell, Row};
use crate::engine::segment::Segment;

/// A kind of row that rules of this chain look at.
pub trait JudgedRow: RowFacts + Sized {
    /// Rules of this source look at it.
    const SOURCE: Source;

    /// What an attack by such rows is on.
    fn victim(&self) -> Option<Victim<'_>>;
}

/// One row of a ping round.
pub struct Probe<'a>(pub &'a PingRowRef<'a>);

impl Row for Probe<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        match field {
            Field::PingTarget => Some(Cell::text(self.0.subject)),
            Field::PingAddress => Some(Cell::text(self.0.address)),
            Field::PingSignal => Some(Cell::text(self.0.signal.name())),
            Field::PingOutcome => Some(Cell::text(outcome_name(self.0.outcome))),
            Field::PingRtt => self.0.rtt_us.map(|rtt| Cell::Number(i64::from(rtt))),
            _ => None,
        }
    }
}

impl RowFacts for Probe<'_> {
    fn transport(&self) -> String {
        String::new()
    }

    fn community_id(&self) -> Option<String> {
        None
    }

    fn packets(&self) -> PacketRanges {
        PacketRanges::default()
    }

    fn source(&self) -> Endpoint {
        Endpoint::default()
    }

    /// Of a target that is probed by name only its facts tell it.
    fn destination(&self) -> Endpoint {
        Endpoint {
            ip: self.address().map(|address| address.to_string()),
            ..Endpoint::default()
        }
    }
}

impl JudgedRow for Probe<'_> {
    const SOURCE: Source = Source::Ping;

    fn victim(&self) -> Option<Victim<'_>> {
        let address = self.address();
        Some(address.map_or(Victim::Text(self.0.address), |address| {
            Victim::Address(address, Segment::NONE)
        }))
    }
}

impl Probe<'_> {
    fn address(&self) -> Option<IpAddr> {
        self.0.address.parse().ok()
    }
}

/// As rules spell it.
const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::TimedOut => "timed_out",
        Outcome::Unreachable => "unreachable",
        Outcome::Refused => "refused",
        Outcome::Unexpected => "unexpected",
        Outcome::Fault => "fault",
    }
}
