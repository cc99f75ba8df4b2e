//! Observations: rounds of pings in columns and in rows.

use super::*;

fn row(at: i64, subject: &str) -> PingRow {
    PingRow {
        subject: subject.into(),
        address: "192.0.2.1".into(),
        signal: Signal::Echo,
        at: Time(at),
        outcome: Outcome::Ok,
        rtt_us: Some(0),
        mac: None,
        detail: None,
        why: None,
        resolved: None,
    }
}

#[test]
fn rows_survive_columns_in_time_order() {
    let mut late = row(3_000_000, "server");
    late.mac = Some("02:00:00:00:00:01".into());
    late.outcome = Outcome::TimedOut;
    late.rtt_us = None;
    late.why = Some(Why::DnsCode(3));
    late.resolved = Some("192.0.2.9".into());
    let early = row(1_000_000, "router");
    let round = PingRound::from_rows(9, 1, vec![late.clone(), early.clone()]);
    assert_eq!(round.rows().unwrap(), [early.as_row(), late.as_row()]);
}

#[test]
fn columns_that_disagree_are_an_error() {
    let good = PingRound::from_rows(1, 1, vec![row(0, "router")]);
    let broken: [fn(&mut PingRound); 6] = [
        |round| round.at_us.clear(),
        |round| round.outcomes[0] = 99,
        |round| round.signals[0] = 99,
        |round| round.macs.push((1, String::new())),
        |round| round.whys.push((1, Why::NotDns)),
        |round| round.resolved.push((1, String::new())),
    ];
    for damage in broken {
        let mut round = good.clone();
        damage(&mut round);
        assert!(round.rows().is_err(), "{round:?}");
    }
}
