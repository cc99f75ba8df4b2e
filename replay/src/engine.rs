//! The chains of a replay: the same folds as live, over recorded observations, as recorded or under another configuration.
//!
//! Memory depends on what is watched, not on how long the recording is. Nothing is stored and nothing is published.

use std::collections::{BTreeMap, BTreeSet};

use watchfold_folds::SiteChain;
use watchfold_schemas::observation::Activation;
use watchfold_schemas::snapshot::{FoldVersion, StateEntry};
use watchfold_schemas::{Body, Event, Observation, Origin, SiteConfig, Span, Stream, Time};

use crate::input::{Sites, Step};
use crate::intake::{Intake, Taken};
use crate::recording::{ActivationInForce, Beginning, BeginningState, Header, SiteSnapshot};

/// What follows from a state that is not known whole is told apart for this long: longer than any default of a
/// configuration makes a state last unconfirmed.
pub const WARM_UP: Span = Span::from_seconds(60 * 60);

/// The most sites of one replay; records of further ones are counted as quarantined.
const SITES_MAX: usize = 10_000;

/// Records between two times that a chain is told that nothing of it will be stored. It notes by name what changed, and
/// the names of all that ever was would add up.
const SETTLE_EVERY_RECORDS: u64 = 16_384;

/// The rules that a replay folds by.
#[derive(Clone, Debug, PartialEq)]
pub enum Under {
    /// The configurations that were in force.
    Recorded,
    /// This one from the start of the span on; recorded ones within the span are ignored.
    Given(Box<SiteConfig>),
}

/// What went in and came out. Nothing of the lead-in is counted but its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub records: u64,
    /// Results of single addresses within the records.
    pub results: u64,
    pub events: u64,
    pub lead_in_records: u64,
    /// Events of the warm-up, which are not told.
    pub warm_up_events: u64,
    pub duplicates: u64,
    pub quarantined: u64,
    pub lost_records: u64,
    /// Recorded activations that another configuration replaced.
    pub ignored_activations: u64,
    /// Sites that began anew with a further input, because it does not go on where the one before ended.
    pub joints: u64,
}

/// A site whose state at the beginning could not be known whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    pub site: String,
    pub reason: String,
    /// In the time of what was observed.
    pub until: Option<Time>,
}

/// Folds the steps of an input, site by site.
pub struct Engine {
    under: Under,
    sites: BTreeMap<String, Site>,
    counters: Counters,
    in_force: Vec<ActivationInForce>,
    cuts: Cuts,
    /// Sites that stand in an input before the one that begins: whether it goes on from there its first step shows.
    joining: BTreeSet<String>,
}

/// Why it is not known what was before, for every site or for some.
#[derive(Default)]
struct Cuts {
    all: Option<String>,
    by_site: BTreeMap<String, String>,
}

struct Site {
    chain: SiteChain,
    intake: Intake,
    /// The last record dealt with.
    sequence: u64,
    began: BeginningState,
    /// The last activation that was folded.
    activation: Option<Activation>,
    /// Whether the given configuration is in force.
    is_reconfigured: bool,
    warm_up: Option<WarmUp>,
    unsettled_records: u64,
}

impl Engine {
    pub fn new(under: Under) -> Engine {
        Engine {
            under,
            sites: BTreeMap::new(),
            counters: Counters::default(),
            in_force: Vec::new(),
            cuts: Cuts::default(),
            joining: BTreeSet::new(),
        }
    }

    /// Takes from a recording's header what its snapshots may fail to say.
    pub fn with_header(mut self, header: &Header) -> Engine {
        self.in_force.clone_from(&header.activations);
        self
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn warm_ups(&self) -> Vec<WarmUp> {
        self.sites
            .values()
            .filter_map(|site| site.warm_up.clone())
            .collect()
    }

    /// The configuration in force at a site.
    pub fn config(&self, site: &str) -> Option<&SiteConfig> {
        self.sites.get(site).map(|site| site.chain.config())
    }

    /// The configurations in force, by site.
    pub fn configs(&self) -> impl Iterator<Item = (&str, &SiteConfig)> {
        self.sites
            .iter()
            .map(|(name, site)| (name.as_str(), site.chain.config()))
    }

    /// The greatest tick of any site, for a progress line.
    pub fn now(&self) -> Option<Time> {
        self.sites.values().filter_map(|site| site.chain.now()).max()
    }

    /// What follows from one step, of the span alone: what the lead-in and the warm-up gave is not told.
    pub fn take(&mut self, step: &Step) -> Vec<Event> {
        match step {
            Step::Snapshot(snapshot) => {
                self.begin_with(snapshot);
                Vec::new()
            }
            Step::Begins { sites, activations } => {
                self.begin_input(sites, activations);
                Vec::new()
            }
            Step::Cut { reason, sites } => {
                self.cuts.note(reason, sites);
                Vec::new()
            }
            Step::Lost {
                from,
                to,
                lead_in,
                sites,
            } => {
                if !lead_in {
                    self.counters.lost_records += to - from + 1;
                }
                let concerned = self.sites.iter_mut().filter(|(name, _)| is_among(name, sites));
                let lost = concerned.flat_map(|(_, site)| site.chain.apply_lost(*from, *to));
                lost.filter(|_| !lead_in).collect()
            }
            Step::Record {
                stream: Stream::Observations,
                record,
                site,
                lead_in,
            } => {
                let events = self.record(site, record.sequence, &record.payload, *lead_in);
                self.counters.events += events.len() as u64;
                events
            }
            Step::Record { .. } => Vec::new(),
        }
    }

    /// The state of every chain as it is now.
    pub fn snapshots(&self) -> Vec<SiteSnapshot> {
        let snapshot = |(name, site): (&String, &Site)| SiteSnapshot {
            site: name.clone(),
            sequence: site.sequence,
            versions: site
                .chain
                .versions()
                .into_iter()
                .map(|(fold, version)| FoldVersion { fold, version })
                .collect(),
            entries: site
                .chain
                .entries()
                .into_iter()
                .map(|(key, value)| StateEntry { key, value })
                .collect(),
            collectors: site.intake.positions(),
        };
        self.sites.iter().map(snapshot).collect()
    }

    /// How a recording of these sites that begins here begins, and the configurations in force.
    pub fn beginnings(&self, sites: &[String]) -> (Vec<Beginning>, Vec<ActivationInForce>) {
        let beginning = |name: &String| {
            let state = match self.sites.get(name) {
                Some(site) => site.began,
                None if self.cuts.of(name).is_some() => BeginningState::Cut,
                None => BeginningState::Empty,
            };
            Beginning {
                site: name.clone(),
                state,
            }
        };
        let in_force = |name: &String| {
            Some(ActivationInForce {
                site: name.clone(),
                activation: self.sites.get(name)?.activation.clone()?,
            })
        };
        (
            sites.iter().map(beginning).collect(),
            sites.iter().filter_map(in_force).collect(),
        )
    }

    fn begin_input(&mut self, sites: &Sites, activations: &[ActivationInForce]) {
        self.cuts.forget(sites);
        self.in_force
            .retain(|known| activations.iter().all(|one| one.site != known.site));
        self.in_force.extend_from_slice(activations);
        let known = self.sites.keys().filter(|name| is_among(name, sites));
        self.joining.extend(known.cloned());
    }

    /// A snapshot counts where a site begins; later ones stand there for those who seek. Where a further input begins with one that is not
    /// what was reached, something lies between them, and the site begins anew.
    fn begin_with(&mut self, snapshot: &SiteSnapshot) {
        if self.joining.remove(&snapshot.site)
            && let Some(site) = self.sites.get(&snapshot.site)
            && !site.intake.stands_at(&snapshot.collectors)
        {
            self.sites.remove(&snapshot.site);
            self.counters.joints += 1;
        }
        if self.sites.contains_key(&snapshot.site) || self.sites.len() >= SITES_MAX {
            return;
        }
        let mut site = Site::new(&snapshot.site, BeginningState::Snapshot, None);
        let versions: Vec<_> = snapshot
            .versions
            .iter()
            .map(|entry| (entry.fold.clone(), entry.version))
            .collect();
        let entries = snapshot
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect();
        site.intake = Intake::new(&snapshot.site, snapshot.collectors.clone());
        site.sequence = snapshot.sequence;
        let in_force = self
            .in_force
            .iter()
            .find(|one| one.site == snapshot.site)
            .map(|one| one.activation.clone());
        if let Err(error) = site.chain.load(&versions, entries) {
            site.warm_up = Some(WarmUp::new(
                &snapshot.site,
                format!("its snapshot cannot be taken over: {error}"),
            ));
            if let Some(activation) = &in_force {
                let observation = synthetic(&snapshot.site, activation.at, activation.clone());
                drop(site.chain.apply(snapshot.sequence, &observation));
            }
        }
        site.activation = in_force.or_else(|| site.activation_of_state());
        self.sites.insert(snapshot.site.clone(), site);
    }

    fn record(&mut self, name: &str, sequence: u64, payload: &[u8], lead_in: bool) -> Vec<Event> {
        let Engine {
            under,
            sites,
            counters,
            cuts,
            joining,
            ..
        } = self;
        // A further input without a snapshot: a log from its first record on, or what was kept of one.
        if joining.remove(name) {
            let goes_on = cuts.of(name).is_some()
                && sites
                    .get(name)
                    .is_some_and(|site| site.intake.goes_on_with(payload));
            if !goes_on {
                sites.remove(name);
                counters.joints += 1;
            }
        }
        if !sites.contains_key(name) {
            if sites.len() >= SITES_MAX {
                tracing::warn!(limit = SITES_MAX, site = name, "more sites than are replayed");
                counters.quarantined += 1;
                return Vec::new();
            }
            let cut = cuts.of(name).cloned();
            let began = match cut {
                Some(_) => BeginningState::LeadIn {
                    from_sequence: sequence,
                },
                // What was folded from its first record on is a snapshot to those who come later.
                None => BeginningState::Snapshot,
            };
            sites.insert(name.to_owned(), Site::new(name, began, cut));
        }
        let Some(site) = sites.get_mut(name) else {
            return Vec::new();
        };
        if sequence <= site.sequence {
            // It is in the snapshot.
            return Vec::new();
        }
        site.sequence = sequence;
        site.settle_now_and_then();
        let observation = match site.intake.take(sequence, payload) {
            Taken::Observation(observation) => observation,
            Taken::Duplicate => {
                counters.duplicates += u64::from(!lead_in);
                return Vec::new();
            }
            Taken::Quarantined => {
                counters.quarantined += u64::from(!lead_in);
                return Vec::new();
            }
        };
        if lead_in {
            counters.lead_in_records += 1;
            drop(site.fold(sequence, &observation));
            return Vec::new();
        }
        counters.records += 1;
        if let Body::PingRound(round) = &observation.body {
            counters.results += round.len() as u64;
        }
        let is_warming_up = site.is_warming_up(observation.observed_at);
        let events = match under {
            Under::Recorded => site.fold(sequence, &observation),
            Under::Given(config) => site.fold_under(config, sequence, *observation, counters),
        };
        if is_warming_up {
            counters.warm_up_events += events.len() as u64;
            return Vec::new();
        }
        events
    }
}

impl Cuts {
    fn note(&mut self, reason: &str, sites: &Sites) {
        match sites {
            None => self.all = Some(reason.to_owned()),
            Some(sites) => self
                .by_site
                .extend(sites.iter().map(|site| (site.clone(), reason.to_owned()))),
        }
    }

    fn forget(&mut self, sites: &Sites) {
        match sites {
            None => *self = Cuts::default(),
            Some(sites) => self.by_site.retain(|site, _| !sites.contains(site)),
        }
    }

    fn of(&self, site: &str) -> Option<&String> {
        self.by_site.get(site).or(self.all.as_ref())
    }
}

fn is_among(site: &String, sites: &Sites) -> bool {
    sites.as_ref().is_none_or(|sites| sites.contains(site))
}

impl WarmUp {
    fn new(site: &str, reason: String) -> WarmUp {
        WarmUp {
            site: site.to_owned(),
            reason,
            until: None,
        }
    }
}

impl Site {
    fn new(name: &str, began: BeginningState, cut: Option<String>) -> Site {
        Site {
            chain: SiteChain::new(name),
            intake: Intake::new(name, Vec::new()),
            sequence: 0,
            began,
            activation: None,
            is_reconfigured: false,
            warm_up: cut.map(|reason| WarmUp::new(name, reason)),
            unsettled_records: 0,
        }
    }

    fn is_warming_up(&mut self, observed_at: Time) -> bool {
        let Some(warm_up) = &mut self.warm_up else {
            return false;
        };
        observed_at < *warm_up.until.get_or_insert(observed_at + WARM_UP)
    }

    fn settle_now_and_then(&mut self) {
        self.unsettled_records += 1;
        if self.unsettled_records >= SETTLE_EVERY_RECORDS {
            self.unsettled_records = 0;
            drop(self.chain.drain_dirty());
        }
    }

    /// The configuration that a loaded state holds, as an activation.
    fn activation_of_state(&self) -> Option<Activation> {
        let config = self.chain.config().clone();
        let at = self.chain.now()?;
        Some(Activation {
            at,
            hash: config.hash(),
            config,
            software: String::new(),
        })
    }

    fn fold(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        if let Body::Activation(activation) = &observation.body {
            self.activation = Some((**activation).clone());
        }
        self.chain.apply(sequence, observation)
    }

    /// The first record of the span brings the given configuration: in place of a recorded one, or before it.
    fn fold_under(
        &mut self,
        config: &SiteConfig,
        sequence: u64,
        mut observation: Observation,
        counters: &mut Counters,
    ) -> Vec<Event> {
        let is_first = !std::mem::replace(&mut self.is_reconfigured, true);
        match &mut observation.body {
            Body::Activation(activation) if is_first => {
                activation.config = config.clone();
                activation.hash = config.hash();
                self.fold(sequence, &observation)
            }
            Body::Activation(_) => {
                counters.ignored_activations += 1;
                Vec::new()
            }
            _ if is_first => {
                let at = observation.observed_at;
                let activation = Activation {
                    at,
                    hash: config.hash(),
                    config: config.clone(),
                    software: String::new(),
                };
                let site = observation.origin.site.clone();
                let mut events = self.fold(sequence, &synthetic(&site, at, activation));
                events.extend(self.fold(sequence, &observation));
                for (index, event) in (0_u32..).zip(&mut events) {
                    event.place.index = index;
                }
                events
            }
            _ => self.fold(sequence, &observation),
        }
    }
}

/// An activation that nobody recorded. No collector is called `replay`, so its identity is nobody else's.
fn synthetic(site: &str, at: Time, activation: Activation) -> Observation {
    Observation {
        v: watchfold_schemas::observation::OBSERVATION_VERSION,
        origin: Origin {
            site: site.to_owned(),
            collector: "replay".to_owned(),
            incarnation: 0,
            number: 1,
        },
        observed_at: at,
        through: at,
        body: Body::Activation(Box::new(activation)),
    }
}
