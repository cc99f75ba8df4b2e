//! Signals: SIGTERM and Ctrl-C stop the process, SIGHUP asks for a look at the configuration at once.

use tokio_util::sync::CancellationToken;

/// Cancels `stop` when the process is asked to end.
pub fn listen_for_signals(stop: CancellationToken) -> std::io::Result<()> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}

/// SIGHUP: a file is to be read again, changed or not; a secret's file may be new.
pub struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    pub fn listen() -> Hangup {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        if let Err(error) = &signal {
            tracing::warn!(%error, "SIGHUP is not listened to");
        }
        Hangup { signal: signal.ok() }
    }

    #[cfg(not(unix))]
    pub fn listen() -> Hangup {
        Hangup {}
    }

    pub async fn rung(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
