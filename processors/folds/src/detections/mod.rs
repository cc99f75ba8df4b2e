//! What every chain that evaluates rules shares: from rows for which a condition holds to alerts and attacks, their texts,
//! and what an oracle's verdict changes about them. It knows no kind of row.

pub mod arrivals;
pub mod attacks;
pub mod reputation;
pub mod telling;
