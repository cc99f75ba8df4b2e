//! The chains of a replay: the same folds as live, over recorded observations and packets, as recorded or under another configuration or
//! other rules.
//!
//! Memory depends on what is watched, not on how long the recording is. Nothing is stored and nothing is published.

use std::collections::{BTreeMap, BTreeSet};

use watchfold_folds::{PacketChain, PacketCounters, SiteChain};
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Body, Chain, Event, MessageId, Observation, SiteConfig, Stream, Time};

use crate::course::{Course, Judging, WarmUp};
use crate::input::{Sites, Step};
use crate::intake::Taken;
use crate::recording::{ActivationInForce, Beginning, BeginningState, Header, SiteSnapshot, StoredRecord};
use crate::site::{Site, number};
use crate::still_open::{StillOpen, still_open};
use crate::under::{Under, configuring};

/// The most sites of one replay; records of further ones are counted as quarantined.
const SITES_MAX: usize = 10_000;

/// Numbers by which a collector of packets may go on in their stream: what it says of itself stands in the other one, a record every
/// few seconds, and takes numbers too.
const PACKET_NUMBERS: u64 = 64;

/// What went in and came out. Nothing of the lead-in is counted but its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub records: u64,
    /// Results of single addresses within the records.
    pub results: u64,
    /// Packets within the records.
    pub packets: u64,
    pub events: u64,
    pub lead_in_records: u64,
    /// Events of the warm-up, which are not told.
    pub warm_up_events: u64,
    pub duplicates: u64,
    pub quarantined: u64,
    pub lost_records: u64,
    /// Recorded activations that another configuration, or other rules, replaced.
    pub ignored_activations: u64,
    /// Recorded findings that other rules do not make.
    pub left_out_findings: u64,
    /// Chains that began anew with a further input, because it does not go on where the one before ended.
    pub joints: u64,
}

impl Counters {
    /// What a record gave, unless it belongs to the warm-up.
    fn told(&mut self, events: Vec<Event>, is_warming_up: bool) -> Vec<Event> {
        if !is_warming_up {
            return events;
        }
        self.warm_up_events += events.len() as u64;
        Vec::new()
    }
}

/// What stands in no input and went into a chain all the same: ticks of capture files, and what other rules found.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub stream: Stream,
    pub sequence: u64,
    pub stored_at: Time,
    pub observation: Observation,
}

impl Made {
    /// What it is known by in a log: a finding by its event.
    pub fn message_id(&self) -> MessageId {
        self.observation.message_id()
    }
}

/// Folds the steps of an input, site by site.
pub struct Engine {
    under: Under,
    sites: BTreeMap<String, Site>,
    counters: Counters,
    in_force: Vec<ActivationInForce>,
    cuts: BTreeMap<Chain, Cuts>,
    /// Chains that stand in an input before the one that begins: whether it goes on from there its first step shows.
    joining: BTreeSet<(String, Chain)>,
    recorded_findings: BTreeSet<String>,
    /// Kept for those who ask for it.
    made: Option<Vec<Made>>,
}

/// Why it is not known what was before, for every site or for some.
#[derive(Default)]
struct Cuts {
    all: Option<String>,
    by_site: BTreeMap<String, String>,
}

impl Engine {
    pub fn new(under: Under) -> Engine {
        Engine {
            under,
            sites: BTreeMap::new(),
            counters: Counters::default(),
            in_force: Vec::new(),
            cuts: BTreeMap::new(),
            joining: BTreeSet::new(),
            recorded_findings: BTreeSet::new(),
            made: None,
        }
    }

    /// Takes from a recording's header what its snapshots may fail to say.
    pub fn with_header(mut self, header: &Header) -> Engine {
        self.in_force.clone_from(&header.activations);
        self
    }

    /// Under other rules: the ids of the findings that stand in the input, so that those which are made again take their places.
    pub fn with_recorded_findings(mut self, ids: BTreeSet<String>) -> Engine {
        self.recorded_findings = ids;
        self
    }

    /// Keeps what it makes itself, for [`Engine::take_made`].
    pub fn keeping_made(mut self) -> Engine {
        self.made = Some(Vec::new());
        self
    }

    /// What went into the chains with the last steps beside what these hold. Of capture files it is everything, the packets included.
    pub fn take_made(&mut self) -> Vec<Made> {
        self.made.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn warm_ups(&self) -> Vec<WarmUp> {
        self.sites.values().flat_map(Site::warm_ups).collect()
    }

    /// The configuration in force at a site.
    pub fn config(&self, site: &str) -> Option<&SiteConfig> {
        Some(self.sites.get(site)?.observations.as_ref()?.chain.config())
    }

    /// The configurations in force, by site.
    pub fn configs(&self) -> impl Iterator<Item = (&str, &SiteConfig)> {
        let config = |(name, site)| Some((String::as_str(name), Site::config(site)?));
        self.sites.iter().filter_map(config)
    }

    /// The packet chain of a site, for its counters.
    pub fn packet_chain(&self, site: &str) -> Option<&PacketChain> {
        Some(&self.sites.get(site)?.packets.as_ref()?.chain)
    }

    /// What a counter of all packet chains says.
    pub fn packet_count(&self, count: fn(PacketCounters) -> u64) -> u64 {
        let chains = self.sites.values().filter_map(|site| site.packets.as_ref());
        chains.map(|packets| count(packets.chain.counters())).sum()
    }

    /// The rules of a chain, as far as they are known.
    pub fn rules(&self, site: &str, chain: Chain) -> Option<&RulesActivation> {
        self.sites.get(site)?.rules(chain)
    }

    /// The greatest tick or packet of any site, for a progress line.
    pub fn now(&self) -> Option<Time> {
        self.sites.values().filter_map(Site::now).max()
    }

    /// What follows from one step, of the span alone: what the lead-in and the warm-up gave is not told.
    pub fn take(&mut self, step: &Step) -> Vec<Event> {
        let events = match step {
            Step::Snapshot(snapshot) => {
                match snapshot.chain {
                    Chain::Site => self.begin_with::<SiteChain>(snapshot),
                    Chain::Packets => self.begin_with::<PacketChain>(snapshot),
                }
                Vec::new()
            }
            Step::Begins { sites, activations } => {
                self.begin_input(sites, activations);
                Vec::new()
            }
            Step::Cut {
                stream,
                reason,
                sites,
            } => {
                if let Some(chain) = reader_of(*stream) {
                    self.cuts.entry(chain).or_default().note(reason, sites);
                }
                Vec::new()
            }
            Step::Lost {
                stream,
                from,
                to,
                lead_in,
                sites,
            } => {
                if !lead_in {
                    self.counters.lost_records += to - from + 1;
                }
                let concerned = self.sites.iter_mut().filter(|(name, _)| is_among(name, sites));
                let lost = concerned.flat_map(|(_, site)| site.lose(*stream, (*from, *to)));
                return lost.filter(|_| !lead_in).collect();
            }
            Step::Record {
                stream: Stream::Observations,
                record,
                site,
                lead_in,
            } => self.observed(site, record, *lead_in),
            Step::Record {
                stream: Stream::Packets,
                record,
                site,
                lead_in,
            } => self.packets(site, record, *lead_in),
            Step::Record { .. } => Vec::new(),
            Step::Captured {
                observation,
                sequence,
                site,
                lead_in,
            } => self.captured(site, *sequence, observation, *lead_in),
        };
        self.counters.events += events.len() as u64;
        events
    }

    /// What is left when the input is over: findings after which nothing was observed.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, site) in &mut self.sites {
            events.extend(site.hand_on(name, None, &self.under, &mut self.made));
        }
        self.counters.events += events.len() as u64;
        events
    }

    /// Attacks that have not ended, by site.
    pub fn still_open(&self) -> Vec<StillOpen> {
        let open = |(name, site): (&String, &Site)| still_open(name, site);
        self.sites.iter().flat_map(open).collect()
    }

    /// The state of every chain as it is now.
    pub fn snapshots(&self) -> Vec<SiteSnapshot> {
        let snapshots = |(name, site): (&String, &Site)| site.snapshots(name);
        self.sites.iter().flat_map(snapshots).collect()
    }

    /// How a recording of these sites that begins here begins, and the configurations in force.
    pub fn beginnings(&self, sites: &[String]) -> (Vec<Beginning>, Vec<ActivationInForce>) {
        let is_cut = |name: &String| self.cuts.values().any(|cuts| cuts.of(name).is_some());
        let beginning = |name: &String| {
            let state = match self.sites.get(name).and_then(Site::began) {
                Some(began) => began,
                None if is_cut(name) => BeginningState::Cut,
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
        self.cuts.values_mut().for_each(|cuts| cuts.forget(sites));
        self.in_force
            .retain(|known| activations.iter().all(|one| one.site != known.site));
        self.in_force.extend_from_slice(activations);
        for (name, site) in self.sites.iter().filter(|(name, _)| is_among(name, sites)) {
            let chains = [
                (Chain::Site, site.observations.is_some()),
                (Chain::Packets, site.packets.is_some()),
            ];
            let known = chains.into_iter().filter(|(_, is_known)| *is_known);
            self.joining.extend(known.map(|(chain, _)| (name.clone(), chain)));
        }
    }

    /// A snapshot counts where a chain begins; later ones stand there for those who seek. Where a further input begins with one that is not
    /// what was reached, something lies between them, and the chain begins anew.
    fn begin_with<C: Judging>(&mut self, snapshot: &SiteSnapshot)
    where
        Site: Holds<C>,
    {
        let name = &snapshot.site;
        if self.joining.remove(&(name.clone(), C::CHAIN))
            && let Some(site) = self.sites.get_mut(name)
            && !site
                .course()
                .as_ref()
                .is_some_and(|course: &Course<C>| course.stands_at(&snapshot.collectors))
        {
            *site.course() = None;
            self.counters.joints += 1;
        }
        if !self.sites.contains_key(name) && self.sites.len() >= SITES_MAX {
            return;
        }
        let site = self.sites.entry(name.clone()).or_insert_with(|| Site::new(name));
        if site.course().is_some() {
            return;
        }
        *site.course() = Some(Course::of_snapshot(snapshot));
        if C::CHAIN == Chain::Site {
            let in_force = self.in_force.iter().find(|one| one.site == *name);
            site.take_over(name, snapshot.sequence, in_force.map(|one| &one.activation));
        }
    }

    /// The chain that a record is for, begun where it is the first of its site or does not go on where the input before it ended.
    fn chain_for<C: Judging>(&mut self, name: &str, sequence: u64, payload: &[u8]) -> Option<&mut Site>
    where
        Site: Holds<C>,
    {
        let cut = self.cuts.get(&C::CHAIN).and_then(|cuts| cuts.of(name)).cloned();
        let is_joining = !self.joining.is_empty() && self.joining.remove(&(name.to_owned(), C::CHAIN));
        if is_joining && let Some(site) = self.sites.get_mut(name) {
            // A further input without a snapshot: a log from its first record on, or what was kept of one.
            let numbers = match C::CHAIN {
                Chain::Site => 1,
                Chain::Packets => PACKET_NUMBERS,
            };
            let course: &mut Option<Course<C>> = site.course();
            let goes_on = cut.is_some()
                && course
                    .as_ref()
                    .is_some_and(|course| course.intake.goes_on_with(payload, numbers));
            if !goes_on {
                *course = None;
                self.counters.joints += 1;
            }
        }
        if !self.sites.contains_key(name) {
            if self.sites.len() >= SITES_MAX {
                tracing::warn!(limit = SITES_MAX, site = name, "more sites than are replayed");
                self.counters.quarantined += 1;
                return None;
            }
            self.sites.insert(name.to_owned(), Site::new(name));
        }
        let site = self.sites.get_mut(name)?;
        let course: &mut Option<Course<C>> = site.course();
        if course.is_none() {
            let began = match cut {
                Some(_) => BeginningState::LeadIn {
                    from_sequence: sequence,
                },
                // What was folded from its first record on is a snapshot to those who come later.
                None => BeginningState::Snapshot,
            };
            // Rules that are given begin with nothing, as they do with a capture file.
            let needs_warm_up = C::CHAIN == Chain::Site || self.under.rules.is_none();
            *course = Some(Course::new(name, began, cut.filter(|_| needs_warm_up)));
        }
        Some(site)
    }

    /// The observation that a record brings its chain, if there is one that was not dealt with before.
    fn admitted<C: Judging>(
        &mut self,
        name: &str,
        record: &StoredRecord,
        lead_in: bool,
    ) -> Option<Observation>
    where
        Site: Holds<C>,
    {
        let site = self.chain_for::<C>(name, record.sequence, &record.payload)?;
        let taken = site.course().as_mut()?.admit(record)?;
        counted(taken, lead_in, &mut self.counters)
    }

    fn observed(&mut self, name: &str, record: &StoredRecord, lead_in: bool) -> Vec<Event> {
        let observation = self.admitted::<SiteChain>(name, record, lead_in);
        let Engine {
            under,
            sites,
            counters,
            made,
            ..
        } = self;
        let (Some(observation), Some(site)) = (observation, sites.get_mut(name)) else {
            return Vec::new();
        };
        if lead_in {
            drop(site.fold(record.sequence, &observation));
            return Vec::new();
        }
        if let Body::PingRound(round) = &observation.body {
            counters.results += round.len() as u64;
        }
        let is_warming_up = is_warming_up(&mut site.observations, &observation);
        let stored = Some((record.sequence, record.stored_at));
        let mut events = site.hand_on(name, stored, under, made);
        events.extend(site.fold_under(under, record, observation, counters, made));
        number(&mut events);
        counters.told(events, is_warming_up)
    }

    fn packets(&mut self, name: &str, record: &StoredRecord, lead_in: bool) -> Vec<Event> {
        let observation = self.admitted::<PacketChain>(name, record, lead_in);
        let Engine {
            under,
            sites,
            counters,
            made,
            recorded_findings,
            ..
        } = self;
        let (Some(observation), Some(site)) = (observation, sites.get_mut(name)) else {
            return Vec::new();
        };
        let is_warming_up = !lead_in && is_warming_up(&mut site.packets, &observation);
        let mut events = match lead_in {
            true => site.fold_packets(record.sequence, &observation),
            false => {
                count_packets(counters, &observation);
                let at = (record.sequence, record.stored_at);
                site.fold_packets_under(under, at, &observation, counters, made)
            }
        };
        if under.rules.is_some() {
            site.note_findings(&events, recorded_findings, lead_in);
            if site.findings.is_full() {
                let handed_on = site.hand_on(name, None, under, made);
                events.extend(handed_on);
            }
        }
        if lead_in {
            return Vec::new();
        }
        counters.told(events, is_warming_up)
    }

    /// Packets without a log around them: their findings and the ticks of their time are made here.
    fn captured(
        &mut self,
        name: &str,
        sequence: u64,
        observation: &Observation,
        lead_in: bool,
    ) -> Vec<Event> {
        let Engine {
            under,
            sites,
            counters,
            made,
            ..
        } = self;
        if !sites.contains_key(name) && sites.len() >= SITES_MAX {
            counters.quarantined += 1;
            return Vec::new();
        }
        let site = sites.entry(name.to_owned()).or_insert_with(|| Site::new(name));
        if lead_in {
            counters.lead_in_records += 1;
        } else {
            counters.records += 1;
            count_packets(counters, observation);
        }
        let events = site.captured(name, under, sequence, observation, made);
        if lead_in { Vec::new() } else { events }
    }
}

/// The course of one of a site's chains.
pub(crate) trait Holds<C> {
    fn course(&mut self) -> &mut Option<Course<C>>;
}

impl Holds<SiteChain> for Site {
    fn course(&mut self) -> &mut Option<Course<SiteChain>> {
        &mut self.observations
    }
}

impl Holds<PacketChain> for Site {
    fn course(&mut self) -> &mut Option<Course<PacketChain>> {
        &mut self.packets
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

const fn reader_of(stream: Stream) -> Option<Chain> {
    match stream {
        Stream::Observations => Some(Chain::Site),
        Stream::Packets => Some(Chain::Packets),
        Stream::Events | Stream::Commands | Stream::Snapshots => None,
    }
}

/// The observation of a record that is to be folded; others are counted.
fn counted(taken: Taken, lead_in: bool, counters: &mut Counters) -> Option<Observation> {
    let in_span = u64::from(!lead_in);
    match taken {
        Taken::Observation(observation) => {
            counters.records += in_span;
            counters.lead_in_records += u64::from(lead_in);
            return Some(*observation);
        }
        Taken::Duplicate => counters.duplicates += in_span,
        Taken::Quarantined => counters.quarantined += in_span,
    }
    None
}

fn count_packets(counters: &mut Counters, observation: &Observation) {
    if let Body::Batch(batch) = &observation.body {
        counters.packets += batch.len() as u64;
    }
}

fn is_warming_up<C: Judging>(course: &mut Option<Course<C>>, observation: &Observation) -> bool {
    course
        .as_mut()
        .is_some_and(|course| course.is_warming_up(observation.observed_at))
}

/// What brings a given configuration into force, with the record that it comes before.
pub(crate) fn configuration(under: &Under, name: &str, at: Time) -> Option<Observation> {
    under.config.as_ref().map(|config| configuring(name, config, at))
}
