//! A packet chain that is looked at while it folds: its events can be stored and are each other's only ones, and its state is the same
//! after it was stored and loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use watchfold_folds::{PacketChain, STATE_KEY_BYTES_MAX, StateMachine};
use watchfold_rules::{PackName, RuleSource, load};
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::subjects::is_token;
use watchfold_schemas::{Body, Chain, Event, EventId, Observation, Origin, Time, decode_event, encode_event};

pub const SITE: &str = "fuzzed";

/// What a chain that saw some thousand packets may take in a store; its tables are bounded, and far larger.
const STATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Restarts of a story: each compiles the rules anew, which takes longer than folding a batch.
const RESTARTS_MAX: u32 = 6;

/// An event by what identifies it and by what it says.
pub type Told = (EventId, Vec<u8>);

pub struct Folded {
    pub chain: PacketChain,
    pub told: Vec<Told>,
    pub events: Vec<Event>,
    ids: BTreeSet<EventId>,
    sequence: u64,
    activations: u64,
    restarts: u32,
    /// Every collector so far had a name that a subject can hold.
    named_well: bool,
}

/// The activation of a pack that ships.
pub fn pack(name: PackName) -> &'static RulesActivation {
    static CLASSIC: OnceLock<RulesActivation> = OnceLock::new();
    static DEFAULT: OnceLock<RulesActivation> = OnceLock::new();
    let activation = match name {
        PackName::Classic => &CLASSIC,
        PackName::Default => &DEFAULT,
    };
    activation.get_or_init(|| activation_of(&load(&RuleSource::Pack(name)).expect("what ships loads")))
}

/// These rules, as a chain is told of them.
pub fn activation_of(set: &RuleSet) -> RulesActivation {
    let set = set.of_chain(Chain::Packets);
    let surroundings = Surroundings {
        gateways: vec!["10.0.0.1".to_owned()],
        lookups: true,
        ..Surroundings::default()
    };
    RulesActivation {
        at: Time::EPOCH,
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
        set,
        surroundings,
        software: "fuzzed".to_owned(),
    }
}

impl Folded {
    /// A new chain under these rules.
    pub fn under(rules: &RulesActivation) -> Folded {
        let mut folded = Folded {
            chain: PacketChain::new(SITE),
            told: Vec::new(),
            events: Vec::new(),
            ids: BTreeSet::new(),
            sequence: 0,
            activations: 0,
            restarts: 0,
            named_well: true,
        };
        folded.follow(rules, Time::EPOCH);
        folded
    }

    /// Other rules from here on.
    pub fn follow(&mut self, rules: &RulesActivation, at: Time) {
        let activation = RulesActivation { at, ..rules.clone() };
        // Events name the activation that caused them, and must not depend on how many records came before.
        self.activations += 1;
        let number = self.activations;
        self.record("config", 1, number, at, Body::Rules(Box::new(activation)));
    }

    pub fn give(&mut self, collector: &str, incarnation: u64, through: Time, body: Body) {
        self.record(collector, incarnation, self.sequence + 1, through, body);
    }

    fn record(&mut self, collector: &str, incarnation: u64, number: u64, through: Time, body: Body) {
        let origin = Origin {
            site: SITE.to_owned(),
            collector: collector.to_owned(),
            incarnation,
            number,
        };
        self.fold(&Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: through,
            through,
            body,
        });
    }

    pub fn fold(&mut self, observation: &Observation) {
        self.sequence += 1;
        self.named_well &= is_token(&observation.origin.collector);
        for event in self.chain.apply(self.sequence, observation) {
            check(&event);
            assert!(self.ids.insert(event.id.clone()), "an id came twice: {event:?}");
            let content = event.content().expect("an event fits into a message");
            self.told.push((event.id.clone(), content));
            self.events.push(event);
        }
    }

    /// Records of the stream are gone.
    pub fn lose(&mut self) {
        self.sequence += 5;
        let _nothing_ends = self.chain.apply_lost(self.sequence - 4, self.sequence);
    }

    /// Stores the state and goes on with a chain that loaded it; after several times it just goes on.
    pub fn restart(&mut self) {
        if self.restarts == RESTARTS_MAX {
            return;
        }
        self.restarts += 1;
        let stored: BTreeMap<_, _> = self.chain.entries().into_iter().collect();
        let long = stored.keys().find(|key| key.len() > STATE_KEY_BYTES_MAX);
        assert!(
            long.is_none() || !self.named_well,
            "too long for a store: {long:?}"
        );
        let bytes: usize = stored.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes < STATE_BYTES_MAX, "{bytes} bytes of state");
        let mut again = PacketChain::new(SITE);
        let entries = stored.clone().into_iter().collect();
        let loaded = again.load(&self.chain.versions(), entries);
        loaded.expect("what was stored loads");
        let restored: BTreeMap<_, _> = again.entries().into_iter().collect();
        assert!(restored == stored, "what was loaded is stored as it was");
        self.chain = again;
    }
}

fn check(event: &Event) {
    let bytes = encode_event(event).expect("an event fits into a message");
    let decoded = decode_event(&bytes).expect("an event that was stored is read");
    assert_eq!(&decoded, event);
}
