//! A rolling upgrade: the processes of version n+1 start while those of n still fold the same site. Each incident is
//! told once, whoever comes first.

use watchfold_folds::{LoadError, SiteChain, StateEntries, StateMachine};
use watchfold_schemas::event::{Incident, Notice};
use watchfold_schemas::{Event, EventBody, Observation};

use watchfold_jetstream::testing::NatsServer;

use crate::faults::incidents;
use crate::site::{Plan, SITE, Site};

/// What the newer version says that the older one does not.
const NEWER_WORDS: &str = "as the newer version says";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_that_overlap_tell_each_incident_once() {
    let broker = NatsServer::start().await.unwrap();
    let mut site = Site::start(&Plan::new(broker.options())).await;
    let (older, newer) = (site.running().child_token(), site.running().child_token());
    site.chain("older", Box::new(SiteChain::new(SITE)), older.clone())
        .await;
    site.tell().await;
    site.one_outage().await;
    site.told("Internet is back", 1).await;

    // The newer one starts in the middle of an incident, with a state of its own to derive.
    site.loses_the_internet().await;
    site.told("Internet is down", 2).await;
    site.chain("newer", Box::new(Newer(SiteChain::new(SITE))), newer)
        .await;
    site.finds_the_internet().await;
    site.told("Internet is back", 2).await;
    site.one_outage().await;
    site.told("Internet is back", 3).await;

    // The older one goes in the middle of an incident.
    site.loses_the_internet().await;
    site.told("Internet is down", 4).await;
    older.cancel();
    site.finds_the_internet().await;
    site.told("Internet is back", 4).await;
    site.one_outage().await;
    site.told("Internet is back", 5).await;

    let recorded = site.drain().await;
    incidents(&recorded, 5);
    let in_newer_words = recorded
        .events
        .iter()
        .filter(|event| says_it_newly(event))
        .count();
    assert!(in_newer_words >= 2, "the newer version was not there");
    let figures = site.end(&recorded).await;
    println!("two versions: {figures}");
}

/// The site chain, one version later: what it emits about incidents reads otherwise under the same ids.
struct Newer(SiteChain);

impl StateMachine for Newer {
    fn versions(&self) -> Vec<(String, u32)> {
        let versions = self.0.versions().into_iter();
        versions.map(|(fold, version)| (fold, version + 1)).collect()
    }

    fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        let mut events = self.0.apply(sequence, observation);
        for event in &mut events {
            if let Some(incident) = incident_of(&mut event.body) {
                incident.detail = Some(NEWER_WORDS.to_owned());
            }
        }
        events
    }

    fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event> {
        self.0.apply_lost(from, to)
    }

    fn drain_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.0.drain_dirty()
    }

    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.entries()
    }

    /// Takes over what the version before stored, and its own.
    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        let known = self.0.versions();
        let as_known: Vec<(String, u32)> = versions
            .iter()
            .map(|(fold, version)| {
                let newest = known.iter().find(|(name, _)| name == fold);
                (
                    fold.clone(),
                    newest.map_or(*version, |(_, newest)| *version.min(newest)),
                )
            })
            .collect();
        self.0.load(&as_known, entries)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

fn incident_of(body: &mut EventBody) -> Option<&mut Incident> {
    match body {
        EventBody::IncidentOpened(incident) | EventBody::IncidentClosed(incident) => Some(incident),
        EventBody::NotificationRequested(request) => match &mut request.notice {
            Notice::IncidentOpened { incident, .. } | Notice::IncidentClosed { incident, .. } => {
                Some(incident)
            }
            _ => None,
        },
        _ => None,
    }
}

fn says_it_newly(event: &Event) -> bool {
    let mut body = event.body.clone();
    incident_of(&mut body).is_some_and(|incident| incident.detail.as_deref() == Some(NEWER_WORDS))
}
