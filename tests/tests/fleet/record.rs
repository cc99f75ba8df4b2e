//! What a broker holds, and whether it hangs together: the checks hold after any run, whatever was done to it.

use std::collections::{BTreeMap, BTreeSet};

use watchfold_discord::testing::DiscordServer;
use watchfold_folds::SiteChain;
use watchfold_log::{MessageLog, Record, Start};
use watchfold_runner::fold_all;
use watchfold_schemas::event::{Incident, IncidentClass};
use watchfold_schemas::observation::{DeliveryOutcome, Receipt};
use watchfold_schemas::{
    Body, Event, EventBody, EventId, Observation, Stream, decode_event, decode_observation, subjects,
};

use crate::figures::{DELAYED, Figures};

/// Records read at a time.
const BATCH: usize = 256;

/// Everything that a site has in a log.
pub struct Recorded {
    /// As they stand there, those that stand twice included.
    pub observations: Vec<(Record, Observation)>,
    /// Each once, by place.
    pub events: Vec<Event>,
    figures: Figures,
    /// What folding the observations again gives.
    folded: Vec<Event>,
}

impl Recorded {
    pub async fn read(log: &dyn MessageLog, site: &str) -> Recorded {
        let mut figures = Figures::default();
        let observations: Vec<(Record, Observation)> = records(log, Stream::Observations, site)
            .await
            .into_iter()
            .map(|record| {
                let observation = decode_observation(&record.payload).unwrap();
                (record, observation)
            })
            .collect();
        count_observations(&observations, &mut figures);
        let written = records(log, Stream::Events, site).await;
        let written: Vec<Event> = written
            .iter()
            .map(|record| decode_event(&record.payload).unwrap())
            .collect();
        let filter = subjects::site_filter(Stream::Observations, site);
        let mut reader = log
            .reader(Stream::Observations, &filter, Start::First)
            .await
            .unwrap();
        let folded = fold_all(reader.as_mut(), site, &mut SiteChain::new(site))
            .await
            .unwrap();
        Recorded {
            events: once_by_place(written, &mut figures),
            observations,
            figures,
            folded: folded.events,
        }
    }

    /// Holds it against what must always be true.
    pub fn checked(self) -> Recorded {
        assert_eq!(self.figures.lost, 0, "numbers are missing: {}", self.figures);
        assert_eq!(self.figures.disordered, 0, "the order is lost: {}", self.figures);
        for (folded, recorded) in self.folded.iter().zip(&self.events) {
            assert_eq!(
                folded, recorded,
                "folding the observations again gives another event"
            );
        }
        let missing: Vec<&Event> = self.folded.iter().skip(self.events.len()).collect();
        assert!(missing.is_empty(), "not published: {missing:#?}");
        assert_eq!(self.folded.len(), self.events.len(), "events of nothing");
        self
    }

    /// Whether every request for a message was settled, and every event published.
    pub fn settled(&self) -> bool {
        let receipts: BTreeSet<&EventId> = self.receipts().flat_map(|receipt| &receipt.requests).collect();
        let mut requests = self
            .folded
            .iter()
            .filter(|event| matches!(event.body, EventBody::NotificationRequested(_)));
        self.folded.len() == self.events.len() && requests.all(|event| receipts.contains(&event.id))
    }

    pub fn figures(&self, discord: &DiscordServer) -> Figures {
        let messages = discord.messages();
        let mut posts: BTreeMap<String, u64> = BTreeMap::new();
        for call in discord.calls().iter().filter(|call| call.method == "POST") {
            *posts.entry(call.body.to_string()).or_default() += 1;
        }
        Figures {
            messages: messages.len() as u64,
            told_again: posts.values().map(|count| count - 1).sum(),
            ..self.figures.clone()
        }
    }

    /// Each message has one receipt, each request one, and nobody was told anything twice.
    pub fn told_once(&self, discord: &DiscordServer) {
        let mut settled: BTreeMap<&EventId, u32> = BTreeMap::new();
        for id in self.receipts().flat_map(|receipt| &receipt.requests) {
            *settled.entry(id).or_default() += 1;
        }
        let again: Vec<_> = settled.iter().filter(|(_, count)| **count > 1).collect();
        assert!(again.is_empty(), "settled twice: {again:?}");
        let delivered = self
            .receipts()
            .filter(|receipt| receipt.outcome == DeliveryOutcome::Delivered);
        let messages = discord.messages();
        assert_eq!(delivered.count(), messages.len(), "{:#?}", discord.titles());
        assert_eq!(self.figures(discord).told_again, 0, "{:#?}", discord.titles());
    }

    /// The receipts, each once.
    fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        let mut seen = BTreeSet::new();
        self.observations.iter().filter_map(move |(_, observation)| {
            let first = seen.insert(&observation.origin);
            match &observation.body {
                Body::Receipt(receipt) if first => Some(receipt),
                _ => None,
            }
        })
    }

    /// How many numbers of a collector the log holds, over all its incarnations.
    pub fn numbers_of(&self, collector: &str) -> u64 {
        let numbers: BTreeSet<(u64, u64)> = self
            .observations
            .iter()
            .map(|(_, observation)| &observation.origin)
            .filter(|origin| origin.collector == collector)
            .map(|origin| (origin.incarnation, origin.number))
            .collect();
        numbers.len() as u64
    }

    pub fn gaps_of(&self, collector: &str) -> u64 {
        let of = self
            .observations
            .iter()
            .filter(|(_, observation)| observation.origin.collector == collector);
        of.filter(|(_, observation)| matches!(observation.body, Body::Gap(_)))
            .count() as u64
    }

    /// Incidents of a class as they were opened.
    pub fn opened(&self, class: IncidentClass) -> Vec<&Incident> {
        let opened = self.events.iter().filter_map(|event| match &event.body {
            EventBody::IncidentOpened(incident) => Some(incident),
            _ => None,
        });
        opened.filter(|incident| incident.class == class).collect()
    }

    pub fn closed(&self, class: IncidentClass) -> Vec<&Incident> {
        let closed = self.events.iter().filter_map(|event| match &event.body {
            EventBody::IncidentClosed(incident) => Some(incident),
            _ => None,
        });
        closed.filter(|incident| incident.class == class).collect()
    }
}

fn count_observations(observations: &[(Record, Observation)], figures: &mut Figures) {
    let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (record, observation) in observations {
        figures.observations += 1;
        let origin = &observation.origin;
        if !seen.insert(origin) {
            figures.repeated += 1;
            continue;
        }
        let late = record.stored_at.since(observation.observed_at);
        figures.delay_max = figures.delay_max.max(late);
        figures.delayed += u64::from(late > DELAYED);
        let (incarnation, number) = last.get(origin.collector.as_str()).copied().unwrap_or_default();
        if (origin.incarnation, origin.number) < (incarnation, number) {
            figures.disordered += 1;
            continue;
        }
        let next = if origin.incarnation == incarnation {
            number + 1
        } else {
            1
        };
        let missing = origin.number.saturating_sub(next);
        match &observation.body {
            Body::Gap(_) => figures.in_gaps += missing + 1,
            _ => figures.lost += missing,
        }
        last.insert(&origin.collector, (origin.incarnation, origin.number));
    }
}

fn once_by_place(written: Vec<Event>, figures: &mut Figures) -> Vec<Event> {
    figures.events = written.len() as u64;
    let mut last = None;
    let mut once = BTreeMap::new();
    for event in written {
        figures.events_disordered += u64::from(Some(event.place) < last);
        last = last.max(Some(event.place));
        figures.events_repeated += u64::from(once.insert(event.place, event).is_some());
    }
    once.into_values().collect()
}

async fn records(log: &dyn MessageLog, stream: Stream, site: &str) -> Vec<Record> {
    let filter = subjects::site_filter(stream, site);
    let mut reader = log.reader(stream, &filter, Start::First).await.unwrap();
    let mut all = Vec::new();
    loop {
        let batch = reader.try_next(BATCH).await.unwrap();
        assert_eq!(batch.lost, None, "records of {stream} are gone");
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.records);
    }
}
