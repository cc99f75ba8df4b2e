//! A site of a replay: its two chains, and what the one finds for the other.

use std::collections::BTreeSet;

use watchfold_folds::{PacketChain, SiteChain, StateMachine};
use watchfold_schemas::observation::Activation;
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Body, Chain, Event, Observation, SiteConfig, Stream, Time};

use crate::course::{Course, WarmUp};
use crate::engine::{Counters, Made, configuration};
use crate::findings::Findings;
use crate::recording::{BeginningState, SiteSnapshot, StoredRecord};
use crate::ticks::Ticks;
use crate::under::{Under, configuring};

pub(crate) struct Site {
    pub(crate) observations: Option<Course<SiteChain>>,
    pub(crate) packets: Option<Course<PacketChain>>,
    pub(crate) findings: Findings,
    /// The last activation that was folded.
    pub(crate) activation: Option<Activation>,
    /// The last rules of the site chain that were folded; the packet chain tells its own.
    rules: Option<RulesActivation>,
    /// Of a site that exists in capture files alone.
    ticks: Ticks,
}

/// A sequence of its stream, and when it was stored.
pub(crate) type Place = (u64, Time);

impl Site {
    pub(crate) fn new(name: &str) -> Site {
        Site {
            observations: None,
            packets: None,
            findings: Findings::default(),
            activation: None,
            rules: None,
            ticks: Ticks::new(name),
        }
    }

    pub(crate) fn warm_ups(&self) -> impl Iterator<Item = WarmUp> {
        let of_packets = self.packets.as_ref().and_then(|course| course.warm_up.clone());
        let of_site = self.observations.as_ref();
        let of_site = of_site.and_then(|course| course.warm_up.clone());
        of_site.into_iter().chain(of_packets)
    }

    pub(crate) fn config(&self) -> Option<&SiteConfig> {
        self.observations.as_ref().map(|course| course.chain.config())
    }

    pub(crate) fn now(&self) -> Option<Time> {
        let ticked = self.observations.as_ref().and_then(|course| course.chain.now());
        ticked.max(self.packets.as_ref().and_then(|course| course.chain.now()))
    }

    /// The rules that are known to be in force.
    pub(crate) fn rules(&self, chain: Chain) -> Option<&RulesActivation> {
        match chain {
            Chain::Site => self.rules.as_ref(),
            Chain::Packets => self.packets.as_ref()?.chain.rules(),
        }
    }

    pub(crate) fn began(&self) -> Option<BeginningState> {
        let of_site = self.observations.as_ref().map(|course| course.began);
        of_site.or_else(|| self.packets.as_ref().map(|course| course.began))
    }

    pub(crate) fn snapshots(&self, name: &str) -> Vec<SiteSnapshot> {
        let of_site = self.observations.as_ref().map(|course| course.snapshot(name));
        let of_packets = self.packets.as_ref().map(|course| course.snapshot(name));
        of_site.into_iter().chain(of_packets).collect()
    }

    pub(crate) fn lose(&mut self, stream: Stream, (from, to): (u64, u64)) -> Vec<Event> {
        match stream {
            Stream::Packets => self
                .packets
                .as_mut()
                .map(|course| course.chain.apply_lost(from, to)),
            Stream::Observations => self
                .observations
                .as_mut()
                .map(|course| course.chain.apply_lost(from, to)),
            Stream::Events | Stream::Commands | Stream::Snapshots => None,
        }
        .unwrap_or_default()
    }

    /// After a snapshot of the site chain: the configuration in force, which the snapshot may fail to bring.
    pub(crate) fn take_over(&mut self, name: &str, sequence: u64, in_force: Option<&Activation>) {
        let Some(course) = &mut self.observations else {
            return;
        };
        if let (Some(_), Some(activation)) = (&course.warm_up, in_force) {
            let mut observation = configuring(name, &activation.config, activation.at);
            observation.body = Body::Activation(Box::new(activation.clone()));
            drop(course.chain.apply(sequence, &observation));
        }
        let of_state = || {
            let config = course.chain.config().clone();
            Some(Activation {
                at: course.chain.now()?,
                hash: config.hash(),
                config,
                software: String::new(),
            })
        };
        self.activation = in_force.cloned().or_else(of_state);
    }

    pub(crate) fn fold(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        match &observation.body {
            Body::Activation(activation) => self.activation = Some((**activation).clone()),
            Body::Rules(activation) => self.rules = Some((**activation).clone()),
            _ => {}
        }
        match &mut self.observations {
            Some(course) => course.chain.apply(sequence, observation),
            None => Vec::new(),
        }
    }

    pub(crate) fn fold_packets(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        match &mut self.packets {
            Some(course) => course.chain.apply(sequence, observation),
            None => Vec::new(),
        }
    }

    /// The first record of the span brings what is given: in place of what was recorded, or before it. Under other rules a recorded finding
    /// is what they find.
    pub(crate) fn fold_under(
        &mut self,
        under: &Under,
        record: &StoredRecord,
        mut observation: Observation,
        counters: &mut Counters,
        made: &mut Option<Vec<Made>>,
    ) -> Vec<Event> {
        let place = (record.sequence, record.stored_at);
        let mut events = Vec::new();
        let is_first = self
            .observations
            .as_mut()
            .is_some_and(|course| !std::mem::replace(&mut course.is_given, true));
        if is_first {
            events = self.activate(under, &mut observation, place, made);
        } else if matches!(observation.body, Body::Activation(_)) && under.config.is_some()
            || matches!(observation.body, Body::Rules(_)) && under.rules.is_some()
        {
            counters.ignored_activations += 1;
            return events;
        }
        if let Body::Finding(finding) = &observation.body
            && under.rules.is_some()
        {
            let Some(twin) = self.findings.take_twin(finding) else {
                counters.left_out_findings += 1;
                return events;
            };
            note(made, Stream::Observations, place, &twin);
            observation = twin;
        }
        events.extend(self.fold(place.0, &observation));
        events
    }

    /// Brings what is given into force with a record of the site chain's, which it may be itself.
    fn activate(
        &mut self,
        under: &Under,
        observation: &mut Observation,
        place: Place,
        made: &mut Option<Vec<Made>>,
    ) -> Vec<Event> {
        let (name, at) = (observation.origin.site.clone(), observation.observed_at);
        let mut events = Vec::new();
        match (&mut observation.body, &under.config) {
            (Body::Activation(activation), Some(config)) => {
                activation.config = (**config).clone();
                activation.hash = config.hash();
            }
            (_, Some(config)) => events.extend(self.fold(place.0, &configuring(&name, config, at))),
            (_, None) => {}
        }
        if let Some(rules) = &under.rules {
            let in_force = self.rules(Chain::Site).or_else(|| self.rules(Chain::Packets));
            let activation = rules.activation(&name, Chain::Site, at, in_force);
            match &mut observation.body {
                Body::Rules(recorded) => {
                    if let Body::Rules(given) = activation.body {
                        *recorded = given;
                    }
                }
                _ => {
                    note(made, Stream::Observations, place, &activation);
                    events.extend(self.fold(place.0, &activation));
                }
            }
        }
        events
    }

    /// The same for packets, of which only rules are given.
    pub(crate) fn fold_packets_under(
        &mut self,
        under: &Under,
        place: Place,
        observation: &Observation,
        counters: &mut Counters,
        made: &mut Option<Vec<Made>>,
    ) -> Vec<Event> {
        let (Some(rules), Some(course)) = (&under.rules, &mut self.packets) else {
            return self.fold_packets(place.0, observation);
        };
        let is_recorded_activation = matches!(observation.body, Body::Rules(_));
        let mut events = Vec::new();
        if !std::mem::replace(&mut course.is_given, true) {
            let at = observation.observed_at;
            let name = &observation.origin.site;
            let recorded = match &observation.body {
                Body::Rules(recorded) => Some(&**recorded),
                _ => None,
            };
            let in_force = recorded.or_else(|| course.chain.rules());
            let activation = rules.activation(name, Chain::Packets, at, in_force);
            note(made, Stream::Packets, place, &activation);
            events = course.chain.apply(place.0, &activation);
        } else if is_recorded_activation {
            counters.ignored_activations += 1;
        }
        if !is_recorded_activation {
            events.extend(course.chain.apply(place.0, observation));
        }
        number(&mut events);
        events
    }

    pub(crate) fn note_findings(&mut self, events: &[Event], recorded: &BTreeSet<String>, lead_in: bool) {
        let began_ms = self.packets.as_ref().map_or(0, |course| course.chain.began_ms());
        self.findings.note(events, began_ms, recorded, lead_in);
    }

    /// Gives the findings that wait to the site chain, before the observation at `place`, or after everything.
    pub(crate) fn hand_on(
        &mut self,
        name: &str,
        place: Option<Place>,
        under: &Under,
        made: &mut Option<Vec<Made>>,
    ) -> Vec<Event> {
        let waiting = self.findings.take_waiting();
        let mut events = Vec::new();
        for finding in waiting {
            let course = self
                .observations
                .get_or_insert_with(|| Course::new(name, BeginningState::Snapshot, None));
            let is_first = !std::mem::replace(&mut course.is_given, true);
            let place = place.unwrap_or((course.sequence + 1, finding.observed_at));
            if is_first {
                // They come before the first record of the span, and are judged by what is given all the same.
                let mut first = finding.clone();
                events.extend(self.activate(under, &mut first, place, made));
            }
            note(made, Stream::Observations, place, &finding);
            events.extend(self.fold(place.0, &finding));
        }
        number(&mut events);
        events
    }

    /// Of a site chain that reads no log.
    fn next_sequence(&mut self, name: &str) -> u64 {
        let course = self
            .observations
            .get_or_insert_with(|| Course::new(name, BeginningState::Snapshot, None));
        course.sequence += 1;
        course.sequence
    }

    /// A batch of a capture file: its rules before the first one, then its packets, then what is found in them and the ticks of
    /// their time, by time.
    pub(crate) fn captured(
        &mut self,
        name: &str,
        under: &Under,
        sequence: u64,
        observation: &Observation,
        made: &mut Option<Vec<Made>>,
    ) -> Vec<Event> {
        let through = observation.through;
        let first = first_packet(observation).unwrap_or(through);
        if self.packets.is_none() {
            self.begin_captured(name, under, first, made);
        }
        if let Some(course) = &mut self.packets {
            course.sequence = sequence;
            course.settle_now_and_then();
        }
        note(made, Stream::Packets, (sequence, through), observation);
        let mut events = self.fold_packets(sequence, observation);
        self.note_findings(&events, &BTreeSet::new(), false);
        let mut following: Vec<Observation> = self.findings.take_waiting().into();
        following.extend(self.ticks.until(first, through));
        following.sort_by_key(|one| one.observed_at);
        for observation in following {
            let place = (self.next_sequence(name), through);
            note(made, Stream::Observations, place, &observation);
            events.extend(self.fold(place.0, &observation));
        }
        events
    }

    fn begin_captured(&mut self, name: &str, under: &Under, first: Time, made: &mut Option<Vec<Made>>) {
        let mut packets: Course<PacketChain> = Course::new(name, BeginningState::Snapshot, None);
        if let Some(rules) = &under.rules {
            let activation = rules.activation(name, Chain::Packets, first, None);
            note(made, Stream::Packets, (1, first), &activation);
            drop(packets.chain.apply(1, &activation));
        }
        self.packets = Some(packets);
        if let Some(configuring) = configuration(under, name, first) {
            let place = (self.next_sequence(name), first);
            note(made, Stream::Observations, place, &configuring);
            drop(self.fold(place.0, &configuring));
        }
    }
}

/// What several records made is told as made by the one that stands in the log.
pub(crate) fn number(events: &mut [Event]) {
    for (index, event) in (0_u32..).zip(events) {
        event.place.index = index;
    }
}

fn note(
    made: &mut Option<Vec<Made>>,
    stream: Stream,
    (sequence, stored_at): Place,
    observation: &Observation,
) {
    if let Some(made) = made {
        made.push(Made {
            stream,
            sequence,
            stored_at,
            observation: observation.clone(),
        });
    }
}

/// When the first packet of a batch was captured.
fn first_packet(observation: &Observation) -> Option<Time> {
    let Body::Batch(batch) = &observation.body else {
        return None;
    };
    let view = batch.view().ok()?;
    (!view.is_empty()).then(|| view.at(0))
}
