//! Several addresses of one name, asked as clients do ("happy eyeballs", RFC 8305): the first answer that is as expected counts. It touches
//! no network; how an address is asked is a function.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use watchfold_schemas::observation::Outcome;

/// How long an address is ahead of the next one (RFC 8305 section 5), unless the timeout leaves less for each.
const HEAD_START: Duration = Duration::from_millis(250);

/// Asks the first address, and each further one when the one before has failed or has had its head start. Returns the first expected
/// answer; without one the failure that says most of the target, all within `timeout`. `addresses` is not empty.
pub(super) async fn first_answer<T, A: Future<Output = T>>(
    addresses: &[SocketAddr],
    timeout: Duration,
    ask: impl Fn(SocketAddr, Duration) -> A,
    outcome_of: impl Fn(&T) -> Outcome,
) -> Option<T> {
    let began = Instant::now();
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let head_start = HEAD_START.min(timeout / shares);
    let mut waiting = addresses.iter();
    let mut asked = FuturesUnordered::new();
    let mut failed: Option<T> = None;
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        asked.extend(next.map(|to| ask(*to, timeout.saturating_sub(began.elapsed()))));
        if asked.is_empty() {
            return failed;
        }
        let answered = if is_last || waiting.len() == 0 {
            asked.next().await
        } else {
            let rest = Box::pin(sleep(head_start));
            match select(asked.next(), rest).await {
                Either::Left((answered, _)) => answered,
                Either::Right(_) => None,
            }
        };
        match answered {
            Some(answer) if outcome_of(&answer) == Outcome::Ok => return Some(answer),
            Some(failure) => {
                let says_more = |other: &T| tells(outcome_of(&failure)) > tells(outcome_of(other));
                if failed.as_ref().is_none_or(says_more) {
                    failed = Some(failure);
                }
            }
            None => {}
        }
    }
}

/// How much a failure says of the target: an answer more than none, and none more than a probe that could not be made.
fn tells(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Fault => 0,
        Outcome::TimedOut => 1,
        Outcome::Unreachable | Outcome::Refused => 2,
        Outcome::Ok | Outcome::Unexpected => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_000);

    /// Each address with when it answers (`None`: never) and what; gives which one counts, with what, and when which were asked.
    async fn check(addresses: &[(Option<u64>, Outcome)], want: (usize, Outcome), asked_at_ms: &[u64]) {
        let named: Vec<SocketAddr> = (0..addresses.len())
            .map(|index| SocketAddr::from(([192, 0, 2, index as u8], 0)))
            .collect();
        let began = Instant::now();
        let asked = RefCell::new(Vec::new());
        let ask = |to: SocketAddr, timeout: Duration| {
            asked.borrow_mut().push(began.elapsed().as_millis() as u64);
            let index = named.iter().position(|other| *other == to).unwrap();
            let (after, outcome) = addresses[index];
            async move {
                let after = after.map_or(Duration::MAX, Duration::from_millis);
                sleep(after.min(timeout)).await;
                let outcome = if after < timeout {
                    outcome
                } else {
                    Outcome::TimedOut
                };
                (to, outcome)
            }
        };
        let got = first_answer(&named, TIMEOUT, ask, |(_, outcome)| *outcome).await;
        assert_eq!(got, Some((named[want.0], want.1)), "{addresses:?}");
        assert_eq!(*asked.borrow(), asked_at_ms, "{addresses:?}");
        assert!(began.elapsed() <= TIMEOUT + Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_expected_answer_counts_and_else_the_failure_that_says_most() {
        use Outcome::{Fault, Ok, Refused, TimedOut, Unexpected};
        let dead = (None, TimedOut);
        check(&[(Some(10), Ok)], (0, Ok), &[0]).await;
        check(&[(Some(10), Ok), (Some(1), Ok)], (0, Ok), &[0]).await;
        check(&[dead, (Some(10), Ok)], (1, Ok), &[0, 250]).await;
        check(&[(Some(5), Refused), (Some(10), Ok)], (1, Ok), &[0, 5]).await;
        check(&[(Some(0), Fault), (Some(10), Ok)], (1, Ok), &[0, 0]).await;
        // One that is slow is not given up when the next is asked.
        check(&[(Some(400), Ok), dead], (0, Ok), &[0, 250]).await;
        check(&[dead, dead], (0, TimedOut), &[0, 250]).await;
        check(&[(Some(0), Fault), dead], (1, TimedOut), &[0, 0]).await;
        check(&[dead, (Some(1), Unexpected)], (1, Unexpected), &[0, 250]).await;
        check(
            &[(Some(1), Unexpected), (Some(1), Refused)],
            (0, Unexpected),
            &[0, 1],
        )
        .await;
        check(&[dead, dead, dead, (Some(10), Ok)], (3, Ok), &[0, 250, 500, 750]).await;
    }
}
