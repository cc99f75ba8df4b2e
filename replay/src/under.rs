//! By what a replay judges: what was recorded, or a configuration and rules in place of that. The records that bring it into force.

use watchfold_schemas::observation::{Activation, OBSERVATION_VERSION};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, Observation, Origin, SiteConfig, Time};

/// What a replay folds by. What is given is in force from the start of the span on; recorded ones within the span are ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Under {
    /// In place of the recorded configurations.
    pub config: Option<Box<SiteConfig>>,
    /// In place of the recorded rules of both chains.
    pub rules: Option<Box<GivenRules>>,
}

/// Rules, and what they may know of the site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenRules {
    pub set: RuleSet,
    /// Those that were in force, where none are given.
    pub surroundings: Option<Surroundings>,
}

impl Under {
    /// What was in force when it happened.
    pub fn recorded() -> Under {
        Under::default()
    }

    pub fn config(config: SiteConfig) -> Under {
        Under {
            config: Some(Box::new(config)),
            rules: None,
        }
    }

    pub fn rules(set: RuleSet) -> Under {
        Under {
            config: None,
            rules: Some(Box::new(GivenRules {
                set,
                surroundings: None,
            })),
        }
    }
}

impl GivenRules {
    /// The record that activates them for a chain.
    pub(crate) fn activation(
        &self,
        site: &str,
        chain: Chain,
        at: Time,
        in_force: Option<&RulesActivation>,
    ) -> Observation {
        let known = || in_force.map(|activation| activation.surroundings.clone());
        let surroundings = self.surroundings.clone().or_else(known).unwrap_or_default();
        let set = self.set.of_chain(chain);
        let activation = RulesActivation {
            at,
            chain,
            hash: RulesActivation::hash_of(chain, &set, &surroundings),
            set,
            surroundings,
            software: String::new(),
        };
        synthetic(site, at, Body::Rules(Box::new(activation)))
    }
}

/// The record that activates a configuration.
pub(crate) fn configuring(site: &str, config: &SiteConfig, at: Time) -> Observation {
    let activation = Activation {
        at,
        hash: config.hash(),
        config: config.clone(),
        software: String::new(),
    };
    synthetic(site, at, Body::Activation(Box::new(activation)))
}

/// A record that nobody made. No collector is called `replay`, so its identity is nobody else's.
fn synthetic(site: &str, at: Time, body: Body) -> Observation {
    // A configuration and rules may come into force with one record, and must not be taken for each other.
    let number = match &body {
        Body::Rules(_) => 2,
        _ => 1,
    };
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: site.to_owned(),
            collector: "replay".to_owned(),
            incarnation: 0,
            number,
        },
        observed_at: at,
        through: at,
        body,
    }
}
