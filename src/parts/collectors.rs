//! The collectors.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use watchfold_healthchecks::Role;
use watchfold_kit::Publisher;
use watchfold_kit::supervise::supervise;
use watchfold_schemas::SiteConfig;

use super::house::{Group, House};

/// The distance of ticks where the log is in this process.
const TICK_EVERY: Duration = Duration::from_secs(1);

pub fn run_clock(house: &House, publisher: &Arc<Publisher>, group: &Group) {
    let progress = house.stages.add("collector:clock", Some(Role::Collector));
    let (clock, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || watchfold_clock::run_shown(clock.clone(), TICK_EVERY, shown.clone(), cancel.clone());
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

pub fn run_ping(
    house: &House,
    publisher: &Arc<Publisher>,
    config: watch::Receiver<Arc<SiteConfig>>,
    group: &Group,
) {
    let progress = house.stages.add("collector:ping", Some(Role::Collector));
    let (ping, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || watchfold_ping::run(ping.clone(), config.clone(), shown.clone(), cancel.clone());
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}
