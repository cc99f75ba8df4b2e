//! Tells what happens on the log of the process, so that whoever looks at the terminal sees it too. It judges nothing.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfold_log::{LogError, MessageLog, Start};
use watchfold_schemas::EventBody;
use watchfold_schemas::subjects::site_filter;
use watchfold_schemas::{Event, Stream};
use watchfold_sink_kit::EventReader;

/// Events read at once; what is told is rare.
const EVENTS_AT_ONCE: usize = 64;

pub async fn run(log: Arc<dyn MessageLog>, site: String, cancel: CancellationToken) -> Result<(), LogError> {
    let mut reader = EventReader::open(log, &site_filter(Stream::Events, &site), Start::New).await?;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = reader.next(EVENTS_AT_ONCE) => batch?,
        };
        for (_, event) in &batch.events {
            tell(event);
        }
    }
}

fn tell(event: &Event) {
    match &event.body {
        EventBody::IncidentOpened(incident) => tracing::warn!(
            subject = incident.subject,
            since = %incident.started_at,
            class = incident.class.name(),
            seen = incident.in_words(),
            attack = incident.attack.as_ref().map(|attack| attack.message.as_str()),
            "incident opened"
        ),
        EventBody::IncidentClosed(incident) => tracing::info!(
            subject = incident.subject,
            duration_s = incident.duration_ms.unwrap_or_default() / 1_000,
            class = incident.class.name(),
            "incident closed"
        ),
        EventBody::JitterRecorded(jitter) => {
            tracing::info!(
                subject = jitter.subject,
                duration_ms = jitter.duration_ms,
                "dropped out briefly"
            );
        }
        EventBody::SubjectDegraded(degraded) if !degraded.addresses_down.is_empty() => {
            let down = degraded.addresses_down.join(", ");
            tracing::warn!(
                subject = degraded.subject,
                down,
                "up, but some of its addresses do not answer"
            );
        }
        EventBody::SubjectDegraded(_)
        | EventBody::SubjectChanged(_)
        | EventBody::IncidentEscalated(_)
        | EventBody::IncidentReminded(_)
        | EventBody::IncidentAcknowledged(_)
        | EventBody::SessionStarted(_)
        | EventBody::SessionEnded(_)
        | EventBody::OccupancySnapshot(_)
        | EventBody::TargetRollup(_)
        | EventBody::NotificationRequested(_)
        | EventBody::SilenceChanged(_)
        | EventBody::Digest(_)
        | EventBody::AlertRaised(_)
        | EventBody::AttackBegan(_)
        | EventBody::AttackGrew(_)
        | EventBody::AttackEnded(_)
        | EventBody::LookupWanted(_) => {}
    }
}
