//! Joins what was told with what was measured into the shapes that viewers get.

use std::collections::BTreeSet;

use watchfold_schemas::config::{self, PcHost};
use watchfold_schemas::event::{Session, SubjectState};
use watchfold_schemas::observation::PC_SUBJECT_PREFIX;
use watchfold_schemas::{Span, Time};

use super::Projection;
use super::dirty::Dirty;
use super::heatmap::heatmap;
use super::shapes::{
    AddressStatus, Change, Folded, Heatmap, Incident, Maintenance, Occupancy, OccupancyCount, Pc, Sample,
    Target,
};
use super::told::{IncidentEntry, MAINTENANCE_PREFIX, Subject};
use super::uptime::{UPTIME_DAY, UPTIME_MONTH, uptime};

/// Closed incidents in a whole state; the list has the rest. The page knows this number and the next from its generated `api.ts`.
pub const STATE_INCIDENTS_CLOSED: usize = 100;
/// Ended sessions in a whole state.
pub const STATE_SESSIONS_ENDED: usize = 200;
/// Samples in a whole state, of all targets together, the newest; about 90 bytes of JSON each.
const STATE_SAMPLES_MAX: usize = 6_000;
/// Maintenance windows shown; of more, the ones that begin first.
pub const MAINTENANCE_SHOWN_MAX: usize = 200;
/// An address is shown until it was not probed for this many of its target's intervals, and at least a minute.
const ADDRESS_SHOWN_INTERVALS: i64 = 10;

impl Projection {
    /// Everything that the folded streams say.
    pub fn folded(&self) -> Folded {
        Folded {
            time_zone: self.time_zone().to_owned(),
            now: self.now(),
            targets: self.targets().collect(),
            incidents: self.state_incidents(),
            occupancy: self.occupancy(),
            sessions: self.state_sessions(),
            maintenance: self.maintenance(),
            heatmap: self.heatmap(),
            samples: self.state_samples(),
            alerts: self.state_alerts(),
            attacks: self.state_attacks(),
            alert_totals: self.alert_totals(),
            rules: self.rules_in_force(),
        }
    }

    /// In the order of the configuration.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.measured
            .target_configs()
            .iter()
            .map(|target| self.target(target))
    }

    pub fn occupancy(&self) -> Occupancy {
        let hosts = self.measured.pc_configs();
        let held = self.occupancy_held();
        Occupancy {
            count: self.occupancy_count(),
            pcs: hosts.iter().map(|host| self.pc(host, held.is_some())).collect(),
        }
    }

    /// The windows that run or are to come, by when they begin.
    pub fn maintenance(&self) -> Vec<Maintenance> {
        let now = self.now();
        let windows = self.told.silences.values().map(|silenced| &silenced.silence);
        let mut windows: Vec<Maintenance> = windows
            .filter(|silence| silence.active && now < silence.until)
            .filter_map(|silence| {
                let id = silence.id.strip_prefix(MAINTENANCE_PREFIX)?;
                Some(Maintenance {
                    id: id.to_owned(),
                    subjects: silence.subjects.clone(),
                    from: silence.from,
                    until: silence.until,
                    who: silence.who.clone(),
                    note: self.measured.maintenance_note(id).map(str::to_owned),
                })
            })
            .collect();
        windows.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        windows.truncate(MAINTENANCE_SHOWN_MAX);
        windows
    }

    pub(super) fn changes_of(&self, dirty: Dirty) -> Vec<Change> {
        let mut changes = Vec::new();
        self.alarm_changes(&dirty, &mut changes);
        changes.extend(dirty.targets_removed.into_iter().map(Change::TargetRemoved));
        for target in self.measured.target_configs() {
            if dirty.all_targets || dirty.targets.contains(&target.name) {
                changes.push(Change::Target(self.target(target)));
            }
        }
        let delivered = self.told.requests.iter();
        let delivered = delivered.filter(|(_, (_, request))| dirty.deliveries.contains(request));
        let incidents: BTreeSet<&String> = dirty
            .incidents
            .iter()
            .chain(delivered.map(|(incident, _)| incident))
            .collect();
        let incidents = incidents.into_iter().filter_map(|id| self.told.incidents.get(id));
        changes.extend(incidents.map(|entry| Change::Incident(self.incident_shown(entry))));
        changes.extend(dirty.pcs_removed.into_iter().map(Change::PcRemoved));
        if dirty.all_pcs || !dirty.pcs.is_empty() {
            let held = self.occupancy_held().is_some();
            for host in self.measured.pc_configs() {
                if dirty.all_pcs || dirty.pcs.contains(host.key()) {
                    changes.push(Change::Pc(self.pc(host, held)));
                }
            }
        }
        if dirty.occupancy {
            changes.push(Change::Occupancy(self.occupancy_count()));
        }
        let sessions = dirty.sessions.iter().filter_map(|id| self.told.sessions.get(id));
        changes.extend(sessions.map(|session| Change::Session(session.clone())));
        if dirty.maintenance {
            changes.push(Change::Maintenance(self.maintenance()));
        }
        if dirty.heatmap {
            changes.push(Change::Heatmap(self.heatmap()));
        }
        if !dirty.samples.is_empty() {
            changes.push(Change::Samples(dirty.samples));
        }
        changes
    }

    fn time_zone(&self) -> &str {
        self.measured
            .config
            .as_ref()
            .map_or("UTC", |config| &config.time_zone)
    }

    /// What was told of a subject since it is configured.
    fn subject(&self, name: &str) -> Option<&Subject> {
        let subject = self.told.subjects.get(name)?;
        let configured_at = self.measured.configured_at.get(name).copied();
        (subject.since >= configured_at).then_some(subject)
    }

    fn target(&self, target: &config::Target) -> Target {
        let now = self.now();
        let subject = self.subject(&target.name);
        let seen = self.measured.targets.get(&target.name);
        let rollups = self.told.rollups.get(&target.name);
        let last_measured_at = seen.and_then(|seen| seen.last_measured_at);
        let hour = seen.map(|seen| seen.minutes.last_hour(now)).unwrap_or_default();
        let measured = seen.map(|seen| seen.measured.clone()).unwrap_or_default();
        let uptime = |length| uptime(rollups, subject, &measured, length, now);
        let (day, month) = (uptime(UPTIME_DAY), uptime(UPTIME_MONTH));
        let open = self
            .told
            .incidents
            .open()
            .filter(|entry| entry.incident.subject == target.name);
        Target {
            name: target.name.clone(),
            state: subject.map_or(SubjectState::Unknown, |subject| subject.state),
            since: subject.and_then(|subject| subject.since),
            root: subject.and_then(|subject| subject.root.clone()),
            depends_on: target.depends_on.clone(),
            quorum: target.quorum,
            addresses: self.addresses(target),
            addresses_down: subject
                .map(|subject| subject.addresses_down.clone())
                .unwrap_or_default(),
            rtt_us: seen.and_then(|seen| seen.rtt_us),
            loss_permille: seen.and_then(|seen| seen.loss_permille(now)),
            rtt_p50_us: hour.rtt.quantile_us(500),
            rtt_p95_us: hour.rtt.quantile_us(950),
            jitter_us: hour.jitter_us(),
            uptime_day_ppm: day.up_ppm,
            uptime_day_measured_ppm: day.measured_ppm,
            uptime_month_ppm: month.up_ppm,
            uptime_month_measured_ppm: month.measured_ppm,
            last_measured_at,
            muted_until: self.told.muted_until(&target.name, now),
            maintenance_until: self.told.maintenance_until(&target.name, now),
            incident: open
                .min_by_key(|entry| entry.incident.class)
                .map(|entry| entry.incident.id.clone()),
        }
    }

    fn addresses(&self, target: &config::Target) -> Vec<AddressStatus> {
        let Some(seen) = self.measured.targets.get(&target.name) else {
            return Vec::new();
        };
        let interval_ms = i64::try_from(target.interval_ms).unwrap_or(i64::MAX);
        let shown = Span::from_millis(interval_ms.saturating_mul(ADDRESS_SHOWN_INTERVALS).max(60_000));
        let latest = seen
            .addresses
            .values()
            .map(|address| address.at)
            .max()
            .unwrap_or_default();
        let statuses = seen
            .addresses
            .iter()
            .filter(|(_, status)| latest.since(status.at) <= shown);
        statuses
            .map(|((address, signal), status)| AddressStatus {
                address: address.clone(),
                signal: *signal,
                outcome: status.outcome,
                rtt_us: status.rtt_us,
                at: status.at,
                detail: status.detail.clone(),
            })
            .collect()
    }

    fn pc(&self, host: &PcHost, held: bool) -> Pc {
        let subject = self.subject(&format!("{PC_SUBJECT_PREFIX}{}", host.key()));
        let seen = self.measured.pcs.get(host.key());
        let last = self.told.sessions.last_of(host.key());
        Pc {
            key: host.key().to_owned(),
            name: host.name.clone(),
            address: host.address.clone(),
            mac: host
                .mac
                .clone()
                .or_else(|| seen.and_then(|seen| seen.mac.clone())),
            present: last.is_some_and(|last| last.ended_at.is_none()),
            frozen: held || subject.is_some_and(|subject| is_held(subject.state)),
            since: last.map(|last| last.ended_at.unwrap_or(last.started_at)),
            seen_by: seen
                .map(|seen| seen.seen_by.iter().copied().collect())
                .unwrap_or_default(),
            last_seen_at: seen.and_then(|seen| seen.last_seen_at),
            session: last.map(|last| last.id.clone()),
        }
    }

    fn occupancy_count(&self) -> OccupancyCount {
        let hosts = self.measured.pc_configs();
        let present = |host: &&PcHost| {
            self.told
                .sessions
                .last_of(host.key())
                .is_some_and(|last| last.ended_at.is_none())
        };
        let current = u32::try_from(hosts.iter().filter(present).count()).unwrap_or(u32::MAX);
        let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let root = self.occupancy_held();
        OccupancyCount {
            current,
            total,
            percent: (u64::from(current) * 100)
                .checked_div(u64::from(total))
                .unwrap_or(0) as u32,
            frozen: root.is_some(),
            root,
            measured: self.measured.are_pcs_measured(),
        }
    }

    /// The target whose failure holds occupancy at its last value.
    fn occupancy_held(&self) -> Option<String> {
        let parents = &self.measured.config.as_ref()?.occupancy.depends_on;
        parents.iter().find_map(|name| {
            let subject = self.subject(name)?;
            let held = subject.state == SubjectState::Down || is_held(subject.state);
            held.then(|| subject.root.clone().unwrap_or_else(|| name.clone()))
        })
    }

    fn heatmap(&self) -> Heatmap {
        let now = self.now();
        // Who is present now was present until the last measurement; nobody knows of the time since.
        let known_until = self.measured.pcs_measured_at().map_or(now, |at| at.min(now));
        let presence_ms = self.told.sessions.presence(now, known_until);
        heatmap(
            self.time_zone(),
            now,
            &presence_ms,
            &self.measured.pc_hours,
            self.measured.pc_configs().len(),
        )
    }

    pub(crate) fn incident_shown(&self, entry: &IncidentEntry) -> Incident {
        let id = &entry.incident.id;
        let mut incident = entry.incident.clone();
        // The page shows one line; the reasons go with it as data.
        incident.detail = incident.in_words();
        Incident {
            incident,
            event: entry.told_by.clone(),
            acknowledged_note: self.measured.acknowledgement_note(id).map(str::to_owned),
            notified_at: self.notified_at(id),
        }
    }

    /// When people were first told of an incident.
    fn notified_at(&self, incident: &str) -> Option<Time> {
        let (_, request) = self.told.requests.get(incident)?;
        self.measured.delivered_at(request)
    }

    fn state_incidents(&self) -> Vec<Incident> {
        let mut closed = 0;
        let incidents = self.told.incidents.newest(None).filter(|entry| {
            closed += usize::from(entry.incident.ended_at.is_some());
            entry.incident.ended_at.is_none() || closed <= STATE_INCIDENTS_CLOSED
        });
        incidents.map(|entry| self.incident_shown(entry)).collect()
    }

    fn state_sessions(&self) -> Vec<Session> {
        let mut ended = 0;
        let sessions = self.told.sessions.newest(None).filter(|session| {
            ended += usize::from(session.ended_at.is_some());
            session.ended_at.is_none() || ended <= STATE_SESSIONS_ENDED
        });
        sessions.cloned().collect()
    }

    fn state_samples(&self) -> Vec<Sample> {
        let each = STATE_SAMPLES_MAX / self.measured.targets.len().max(1);
        let mut samples = Vec::new();
        for target in self.measured.target_configs() {
            let Some(seen) = self.measured.targets.get(&target.name) else {
                continue;
            };
            let newest = seen.samples.iter().skip(seen.samples.len().saturating_sub(each));
            samples.extend(newest.map(|(at, outcome, rtt_us)| Sample {
                target: target.name.clone(),
                at: *at,
                outcome: *outcome,
                rtt_us: *rtt_us,
            }));
        }
        samples
    }
}

fn is_held(state: SubjectState) -> bool {
    matches!(state, SubjectState::Suppressed | SubjectState::Frozen)
}
