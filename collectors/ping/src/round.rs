//! One round of probes: everything due together, its record, and the record of its retries.
//!
//! It keeps no state between rounds but who was present; what an absence means is not its business.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use watchfold_kit::{InFlight, KitError, Moment, Publisher, Stamp};
use watchfold_schemas::Body;
use watchfold_schemas::config::Signal;
use watchfold_schemas::observation::{Outcome, PING_ROWS_MAX, PingRound, PingRow};

use crate::config::{Group, GroupKind};
use crate::fault::FaultBoard;
use crate::parse::{self, Freshness, Measured};
use crate::platform::{self, Neighbour, NeighbourState, Subnet};
use crate::probe::{Prober, Sent};

/// After neighbours were asked, how long until their answers are read: an ARP or ND answer of a machine that is
/// awake takes milliseconds, over a sleepy wireless link some hundred.
const NEIGHBOUR_WAIT: Duration = Duration::from_millis(300);

/// What a sweep leaves of its interval beside its timeout and the look at the neighbours.
const SWEEP_SLACK: Duration = Duration::from_millis(200);

/// A sweep is sent over this part of its interval at least, and one half at most, whatever the timeout.
const SWEEP_PART_MIN: u32 = 8;

/// Rows in a record where some are of names: a name, the address behind it and a reason take up to 600 bytes.
const NAMED_ROWS_MAX: usize = 1_024;

/// What the rounds of one group share.
pub(crate) struct Rounds {
    pub publisher: Arc<Publisher>,
    pub prober: Arc<Prober>,
    pub faults: Arc<FaultBoard>,
    pub group: Group,
    pub retry_delay: Duration,
    /// Rounds whose scheduled record is not out yet; retries may take longer and stand in nobody's way.
    unpublished: AtomicUsize,
    /// Indices of the PCs that were there in the last round.
    present: Mutex<HashSet<usize>>,
}

/// A row before it has its time.
struct Row {
    /// Of the probe in the group.
    index: usize,
    signal: Signal,
    moment: Moment,
    to: Option<SocketAddr>,
    measured: Measured,
    mac: Option<String>,
}

impl Rounds {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        prober: Arc<Prober>,
        faults: Arc<FaultBoard>,
        group: Group,
        retry_delay: Duration,
    ) -> Rounds {
        let unpublished = AtomicUsize::new(0);
        Rounds {
            publisher,
            prober,
            faults,
            group,
            retry_delay,
            unpublished,
            present: Mutex::default(),
        }
    }

    pub(crate) fn unpublished(&self) -> usize {
        self.unpublished.load(Ordering::Relaxed)
    }

    pub(crate) async fn run(&self, round: u64) -> Result<(), KitError> {
        let unpublished = Unpublished::new(&self.unpublished);
        match self.group.kind {
            GroupKind::Targets => self.targets(round, unpublished).await,
            GroupKind::Pcs => self.pcs(round, unpublished).await,
        }
    }

    /// All at once; each that fails is asked again on its own.
    async fn targets(&self, round: u64, unpublished: Unpublished<'_>) -> Result<(), KitError> {
        let mut begun = Some((self.publisher.start(), unpublished));
        let begun_again: Mutex<Option<InFlight>> = Mutex::new(None);
        let mut first = FuturesUnordered::new();
        for index in 0..self.group.probes.len() {
            first.push(self.probe(index, Duration::ZERO));
        }
        let mut second = FuturesUnordered::new();
        let (mut rows, mut rows_again) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                Some(row) = first.next(), if !first.is_empty() => {
                    if row.measured.failed() {
                        second.push(self.probe_again(row.index, &begun_again));
                    }
                    rows.push(row);
                    if let Some((begun, _unpublished)) = begun.take_if(|_| first.is_empty()) {
                        self.look_around(&mut rows).await;
                        self.tell_target_faults(&rows)?;
                        self.publish(begun, round, 1, std::mem::take(&mut rows))?;
                    }
                }
                Some(row) = second.next(), if !second.is_empty() => rows_again.push(row),
                else => break,
            }
        }
        let begun_again = begun_again.lock().unwrap_or_else(PoisonError::into_inner).take();
        match begun_again {
            Some(begun) => {
                self.look_around(&mut rows_again).await;
                self.publish(begun, round, 2, rows_again)
            }
            None => Ok(()),
        }
    }

    /// Paced, then looked up in the neighbour table. Who left since the last round is asked again; who has been away
    /// is not, so that an empty room costs one packet per PC and round.
    async fn pcs(&self, round: u64, unpublished: Unpublished<'_>) -> Result<(), KitError> {
        let begun = self.publisher.start();
        let rows = self.sweep((0..self.group.probes.len()).collect()).await;
        self.tell_pc_faults(&rows)?;
        let left = self.who_left(&rows);
        self.publish(begun, round, 1, rows)?;
        drop(unpublished);
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.retry_delay).await;
        let begun = self.publisher.start();
        let rows = self.sweep(left).await;
        self.who_left(&rows);
        self.publish(begun, round, 2, rows)
    }

    async fn probe(&self, index: usize, delay: Duration) -> Row {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let probe = &self.group.probes[index];
        let Sent { moment, to, measured } = self.prober.probe(probe).await;
        Row {
            index,
            signal: probe.signal.signal(),
            moment,
            to,
            measured,
            mac: None,
        }
    }

    async fn probe_again(&self, index: usize, begun: &Mutex<Option<InFlight>>) -> Row {
        tokio::time::sleep(self.retry_delay).await;
        begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| self.publisher.start());
        self.probe(index, Duration::ZERO).await
    }

    /// Asks these PCs, spread over part of the interval, and adds a neighbour row for each that did not answer echo.
    async fn sweep(&self, indices: Vec<usize>) -> Vec<Row> {
        let pace = sweep_pace(self.group.interval, self.timeout())
            / u32::try_from(indices.len().max(1)).unwrap_or(u32::MAX);
        let mut probes = FuturesUnordered::new();
        for (place, index) in indices.into_iter().enumerate() {
            probes.push(self.probe(
                index,
                pace.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX)),
            ));
        }
        let mut rows = Vec::new();
        while let Some(row) = probes.next().await {
            if let (Outcome::Fault, Some(to)) = (row.measured.outcome, row.to)
                && let Err(error) = self.prober.provoke(to)
            {
                tracing::debug!(%to, %error, "a neighbour cannot be provoked");
            }
            rows.push(row);
        }
        drop(probes);
        let table = self.validated_table(&rows).await;
        let age_max = self.prober.freshness().age_max(self.group.interval);
        let silent = |row: &&Row| row.measured.outcome != Outcome::Ok && table.on_link(row.to);
        let neighbour = |row: &Row| {
            let entry = table.entry(row.to);
            let measured = parse::from_neighbour(entry, age_max);
            let mac = entry
                .filter(|_| measured.outcome == Outcome::Ok)
                .and_then(|entry| entry.mac.clone());
            Row {
                signal: Signal::Neighbour,
                measured,
                mac,
                ..*row
            }
        };
        let neighbours: Vec<Row> = rows.iter().filter(silent).map(neighbour).collect();
        rows.extend(neighbours);
        let carriers_lost = carriers_lost(&rows).await;
        annotate(&mut rows, &table, &carriers_lost);
        rows
    }

    /// The neighbour table, after those who are silent had a chance to prove that they are there.
    async fn validated_table(&self, rows: &[Row]) -> Table {
        let table = Table::read().await;
        let silent = rows
            .iter()
            .filter(|row| row.measured.outcome != Outcome::Ok && table.on_link(row.to));
        let mut unasked = Vec::new();
        let mut provoked = false;
        for row in silent {
            provoked |= row.measured.outcome == Outcome::Fault;
            let entry = table.entry(row.to);
            unasked.extend(
                entry
                    .filter(|entry| parse::wants_validation(entry, self.group.interval))
                    .cloned(),
            );
        }
        if !unasked.is_empty() && self.prober.freshness() == Freshness::Provoked {
            let asked = tokio::task::spawn_blocking(move || {
                platform::revalidate(&unasked.iter().collect::<Vec<_>>())
            });
            match asked.await {
                Ok(Ok(())) => provoked = true,
                Ok(Err(_)) | Err(_) => self.prober.leave_pace_to_system(),
            }
        }
        if !provoked {
            return table;
        }
        tokio::time::sleep(NEIGHBOUR_WAIT).await;
        Table::read().await
    }

    /// Adds to targets what the machine itself knows: hardware addresses, and whether its own uplink is gone.
    async fn look_around(&self, rows: &mut [Row]) {
        let carriers_lost = carriers_lost(rows).await;
        annotate(rows, &Table::read().await, &carriers_lost);
    }

    fn publish(&self, begun: InFlight, round: u64, attempt: u8, mut rows: Vec<Row>) -> Result<(), KitError> {
        rows.sort_by_key(|row| row.index);
        let build = |stamp: &Stamp, rows: Vec<Row>| {
            let rows = rows.into_iter().map(|row| self.finished(stamp, row)).collect();
            Body::PingRound(PingRound::from_rows(round, attempt, rows))
        };
        let has_names = rows.iter().any(|row| self.is_name(row));
        let rows_max = if has_names { NAMED_ROWS_MAX } else { PING_ROWS_MAX };
        // All but the last record are sent while the round still counts as under way.
        while rows.len() > rows_max {
            let rest = rows.split_off(rows_max);
            let part = std::mem::replace(&mut rows, rest);
            self.publisher.submit_with(|stamp| build(stamp, part))?;
        }
        begun.submit(|stamp| build(stamp, rows))
    }

    fn finished(&self, stamp: &Stamp, row: Row) -> PingRow {
        let probe = &self.group.probes[row.index];
        let is_name = self.is_name(&row);
        PingRow {
            subject: probe.subject.clone(),
            address: probe.address.clone(),
            signal: row.signal,
            at: stamp.time_of(row.moment),
            outcome: row.measured.outcome,
            rtt_us: row.measured.rtt_us,
            mac: row.mac,
            detail: row.measured.detail,
            why: row.measured.why,
            resolved: row.to.map(|to| to.ip().to_string()).filter(|_| is_name),
        }
    }

    fn is_name(&self, row: &Row) -> bool {
        self.group.probes[row.index].address.parse::<IpAddr>().is_err()
    }

    /// A target is in fault while none of its probes could be made.
    fn tell_target_faults(&self, rows: &[Row]) -> Result<(), KitError> {
        let mut reasons: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for row in rows {
            let subject = self.group.probes[row.index].subject.as_str();
            let reason = fault_reason(row);
            let known = reasons.entry(subject).or_insert_with(|| reason.clone());
            if reason.is_none() {
                *known = None;
            }
        }
        reasons
            .into_iter()
            .try_for_each(|(subject, reason)| self.faults.set(subject, "probe", reason))
    }

    /// PCs in fault are told as one: a fault of a whole sweep is the machine's own.
    fn tell_pc_faults(&self, rows: &[Row]) -> Result<(), KitError> {
        let asked: HashSet<usize> = rows.iter().map(|row| row.index).collect();
        let measured: HashSet<usize> = rows
            .iter()
            .filter(|row| row.measured.outcome != Outcome::Fault)
            .map(|row| row.index)
            .collect();
        let reason = rows
            .iter()
            .find(|row| !measured.contains(&row.index))
            .and_then(fault_reason)
            .map(|reason| {
                format!(
                    "{} of {} PCs cannot be probed: {reason}",
                    asked.len() - measured.len(),
                    asked.len()
                )
            });
        self.faults.set("", "pcs", reason)
    }

    /// Updates who is present and gives those who were and are not.
    fn who_left(&self, rows: &[Row]) -> Vec<usize> {
        let seen: HashSet<usize> = rows
            .iter()
            .filter(|row| row.measured.outcome == Outcome::Ok)
            .map(|row| row.index)
            .collect();
        let failed: HashSet<usize> = rows
            .iter()
            .filter(|row| row.measured.failed())
            .map(|row| row.index)
            .collect();
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left: Vec<usize> = failed
            .difference(&seen)
            .copied()
            .filter(|index| present.remove(index))
            .collect();
        present.extend(seen);
        left.sort_unstable();
        left
    }

    fn timeout(&self) -> Duration {
        self.group
            .probes
            .iter()
            .map(|probe| probe.timeout)
            .max()
            .unwrap_or_default()
    }
}

/// Counts a round until its scheduled record is out, however it ends.
struct Unpublished<'a>(&'a AtomicUsize);

impl Unpublished<'_> {
    fn new(count: &AtomicUsize) -> Unpublished<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Unpublished(count)
    }
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Over how long a sweep is sent, so that it is over before the next one is due.
fn sweep_pace(interval: Duration, timeout: Duration) -> Duration {
    let room = interval.saturating_sub(timeout + NEIGHBOUR_WAIT + SWEEP_SLACK);
    room.clamp(interval / SWEEP_PART_MIN, interval / 2)
}

fn fault_reason(row: &Row) -> Option<String> {
    let reason = || row.measured.detail.clone().unwrap_or_default();
    (row.measured.outcome == Outcome::Fault).then(reason)
}

/// What the machine knows of its own links, at one instant.
#[derive(Default)]
struct Table {
    entries: HashMap<IpAddr, Neighbour>,
    subnets: Vec<Subnet>,
}

impl Table {
    async fn read() -> Table {
        let read = || -> std::io::Result<Table> {
            let mut entries: HashMap<IpAddr, Neighbour> = HashMap::new();
            for entry in platform::neighbours()? {
                // One address on two interfaces: whoever was heard last.
                let age = |entry: &Neighbour| entry.confirmed_age.unwrap_or(Duration::MAX);
                match entries.get(&entry.address) {
                    Some(other) if age(other) <= age(&entry) => {}
                    _ => {
                        entries.insert(entry.address, entry);
                    }
                }
            }
            Ok(Table {
                entries,
                subnets: platform::local_subnets()?,
            })
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(table)) => table,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the neighbour table cannot be read");
                Table::default()
            }
            // The runtime is shutting down.
            Err(_) => Table::default(),
        }
    }

    fn on_link(&self, to: Option<SocketAddr>) -> bool {
        to.is_some_and(|to| self.subnets.iter().any(|subnet| subnet.contains(to.ip())))
    }

    fn entry(&self, to: Option<SocketAddr>) -> Option<&Neighbour> {
        self.entries.get(&to?.ip())
    }
}

/// Addresses that failed because our own interface towards them has no carrier.
async fn carriers_lost(rows: &[Row]) -> HashMap<IpAddr, String> {
    let failed = rows.iter().filter(|row| row.measured.failed());
    let failed: Vec<IpAddr> = failed.filter_map(|row| Some(row.to?.ip())).collect();
    if failed.is_empty() {
        return HashMap::new();
    }
    match tokio::task::spawn_blocking(move || platform::interfaces_without_carrier(&failed)).await {
        Ok(Ok(lost)) => lost,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the carriers cannot be read");
            HashMap::new()
        }
        Err(_) => HashMap::new(),
    }
}

fn annotate(rows: &mut [Row], table: &Table, carriers_lost: &HashMap<IpAddr, String>) {
    for row in rows {
        let lost = row.to.and_then(|to| carriers_lost.get(&to.ip()));
        if let Some(interface) = lost.filter(|_| row.measured.failed()) {
            row.measured = Measured::with(Outcome::Fault, format!("no carrier on {interface}"));
            continue;
        }
        let Some(entry) = table.entry(row.to) else {
            continue;
        };
        let answered = !matches!(entry.state, NeighbourState::Failed | NeighbourState::Incomplete);
        if row.mac.is_none() && answered && row.signal != Signal::Neighbour {
            row.mac.clone_from(&entry.mac);
        }
        let echo_lost = row.signal == Signal::Echo && row.measured.outcome == Outcome::TimedOut;
        if echo_lost && entry.state == NeighbourState::Failed {
            row.measured = Measured::with(Outcome::Unreachable, "no neighbour answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_spread_and_over_in_time() {
        for (interval_ms, timeout_ms, want_ms) in [
            (2_000, 1_000, 500),
            (10_000, 1_000, 5_000),
            (2_000, 5_000, 250),
            (2_000, 600, 900),
        ] {
            let got = sweep_pace(
                Duration::from_millis(interval_ms),
                Duration::from_millis(timeout_ms),
            );
            assert_eq!(got.as_millis(), want_ms, "{interval_ms} {timeout_ms}");
        }
    }
}
