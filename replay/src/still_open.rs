//! Attacks that had not ended when the input did: what no event says of them, since none of them ended.
//!
//! It is read from the folds' state, so the events and their digests are the same with it and without.

use serde::Serialize;
use watchfold_schemas::alert::Attack;
use watchfold_schemas::{Chain, Time};

use crate::site::Site;

/// An attack without an end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StillOpen {
    pub site: String,
    pub chain: Chain,
    /// How far what was measured at its capture point, or by its collector, goes.
    pub through: Time,
    /// As it stands: [`Attack::matches`], [`Attack::peak`] and [`Attack::last_at`] are those of the last moment, which no event told.
    pub attack: Attack,
}

/// Those of one site, in the order in which they began.
pub(crate) fn still_open(name: &str, site: &Site) -> Vec<StillOpen> {
    let one = |chain: Chain| {
        move |(attack, through): (&Attack, Time)| StillOpen {
            site: name.to_owned(),
            chain,
            through,
            attack: attack.clone(),
        }
    };
    let of_packets = site.packets.iter().flat_map(|course| course.chain.open_attacks());
    let of_probes = site
        .observations
        .iter()
        .flat_map(|course| course.chain.open_attacks());
    let of_packets = of_packets.map(one(Chain::Packets));
    let mut open: Vec<StillOpen> = of_packets.chain(of_probes.map(one(Chain::Site))).collect();
    open.sort_by(|a, b| (a.attack.began_at, &a.attack.id).cmp(&(b.attack.began_at, &b.attack.id)));
    open
}
