//! Who depends on whom, from the configuration.

use std::collections::BTreeMap;

use watchfold_schemas::SiteConfig;

/// The ancestors and descendants of every target, nearest first, each named once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    ancestors: BTreeMap<String, Vec<String>>,
    descendants: BTreeMap<String, Vec<String>>,
}

impl Graph {
    pub fn new(config: &SiteConfig) -> Graph {
        let mut graph = Graph::default();
        for target in &config.network.targets {
            let ancestors = closure(config, &target.depends_on);
            for ancestor in &ancestors {
                graph
                    .descendants
                    .entry(ancestor.clone())
                    .or_default()
                    .push(target.name.clone());
            }
            graph.ancestors.insert(target.name.clone(), ancestors);
        }
        graph
    }

    pub fn ancestors(&self, target: &str) -> &[String] {
        self.ancestors.get(target).map_or(&[], Vec::as_slice)
    }

    /// In the order of the configuration.
    pub fn descendants(&self, target: &str) -> &[String] {
        self.descendants.get(target).map_or(&[], Vec::as_slice)
    }
}

/// The given targets and everything that they depend on, breadth first. A cycle, which configuration checks refuse,
/// ends where it began.
pub fn closure(config: &SiteConfig, from: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut next: Vec<String> = from.to_vec();
    while !next.is_empty() {
        let mut further = Vec::new();
        for name in next {
            if found.contains(&name) {
                continue;
            }
            if let Some(target) = config.network.targets.iter().find(|target| target.name == name) {
                further.extend(target.depends_on.iter().cloned());
                found.push(name);
            }
        }
        next = further;
    }
    found
}
