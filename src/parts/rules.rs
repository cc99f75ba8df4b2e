//! The rules of the site: what the configuration says of them, and what rules may know of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use watchfold_config::Found;
use watchfold_kit::rules::SiteRules;
use watchfold_ping::{default_gateway, local_subnets};
use watchfold_rules::RulesError;

use crate::config::Config;

/// The rules of a configuration. Sets that are no packs are looked for beside its file.
pub fn site_rules(config: &Config) -> Result<SiteRules, RulesError> {
    let directory = config.path.parent().unwrap_or(Path::new("."));
    let lookups = config
        .virustotal
        .as_ref()
        .is_some_and(|virustotal| virustotal.key.is_some());
    let found = Found {
        own_ports: vec![config.listen.port()],
        own_addresses: own_addresses(config.listen.ip()),
        gateways: default_gateway()
            .map(|gateway| gateway.address)
            .into_iter()
            .collect(),
        lookups,
    };
    Ok(SiteRules {
        site: config.site.site.clone(),
        set: watchfold_rules::rule_set(&config.rules, directory)?,
        surroundings: config.rules.surroundings(&found),
        captures: !config.captures.is_empty(),
    })
}

/// Where the page can be reached that listens on `listen`.
fn own_addresses(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut addresses = loopback.to_vec();
    match local_subnets() {
        Ok(subnets) => addresses.extend(subnets.into_iter().map(|subnet| subnet.address)),
        Err(error) => {
            tracing::warn!(%error, "this machine's addresses are not known: rules may take calls to the page for attacks");
        }
    }
    addresses
}
