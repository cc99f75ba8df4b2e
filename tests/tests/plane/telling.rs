//! Discord as one of the parts that run inside a test, told of one site's alerts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_discord::DiscordConfig;
use watchfold_discord::testing::DiscordServer;
use watchfold_kit::{Progress, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::event::NoticeClass;
use watchfold_sink_kit::{Secret, SinkContext, SinkStats};

/// Tells `discord` until cancelled. What it remembers is kept in `place`.
pub fn telling(
    site: &str,
    log: Arc<dyn MessageLog>,
    publisher: Arc<Publisher>,
    place: &Path,
    discord: &DiscordServer,
    cancel: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let webhooks = BTreeMap::from([(NoticeClass::Alerts, Secret::new(discord.url("alerts")))]);
    let config = DiscordConfig::new(webhooks, site.to_owned(), None).unwrap();
    let context = SinkContext {
        site: site.to_owned(),
        sink: "discord".to_owned(),
        log,
        publisher,
        state_path: place.join("discord.state"),
        progress: Progress::new("sink:discord"),
        stats: Arc::new(SinkStats::default()),
    };
    async move {
        let (_held, config) = watch::channel(Arc::new(config));
        watchfold_discord::run(context, config, cancel).await.unwrap();
    }
}
