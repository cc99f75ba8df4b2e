//! The chains of the site, and the check of their hours.

use std::sync::Arc;

use watchfold_healthchecks::Role;
use watchfold_kit::Publisher;
use watchfold_process::share::led;
use watchfold_process::supervise::supervise;
use watchfold_runner::{ChainRunner, ParityCheck, ParityOptions, RunnerOptions, SiteFold};
use watchfold_schemas::{Body, Chain};

use super::house::{Group, House};

pub fn run_chain(house: &House, group: &Group) {
    let progress = house.stages.add("chain:site", Some(Role::Processor));
    let (log, site) = (house.log.clone(), house.site.clone());
    let store = house.data.store(&site);
    let led_by = house.led("chain:site", &progress, group);
    let shown = progress.clone();
    let part = move || {
        let (log, site, store) = (log.clone(), site.clone(), store.clone());
        let progress = shown.clone();
        led(led_by.clone(), move |cancel| {
            let (log, site, store) = (log.clone(), site.clone(), store.clone());
            let progress = progress.clone();
            async move {
                let fold = Box::new(SiteFold::new(&site));
                let options = RunnerOptions::for_chain(Chain::Site);
                let runner =
                    ChainRunner::open(log, &store, &site, Chain::Site, fold, progress, options).await?;
                runner.run(cancel).await
            }
        })
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

/// Now and then folds an hour again; what it finds goes into the log, and the chain judges it like anything else.
pub fn run_parity(house: &House, publisher: &Arc<Publisher>, group: &Group) {
    let progress = house.stages.add("parity", None);
    let site = house.site.clone();
    let check = ParityCheck {
        log: house.log.clone(),
        site: site.clone(),
        chain: Chain::Site,
        fold: Arc::new(move || Box::new(SiteFold::new(&site))),
        options: ParityOptions::default(),
    };
    let (told, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || {
        let told = told.clone();
        let tell = move |parity| {
            if let Err(error) = told.submit(Body::Parity(parity)) {
                tracing::warn!(%error, "what a check of an hour found is not recorded");
            }
        };
        check.clone().run(shown.clone(), cancel.clone(), tell)
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}
