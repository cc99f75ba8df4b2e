//! Asks one address by one signal and says what came of it. Touches the network; what an answer means is `parse.rs`.

mod dns;
mod https;
mod race;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use watchfold_kit::{Moment, Publisher};
use watchfold_schemas::config::SignalSpec;
use watchfold_schemas::observation::Outcome;

use self::https::HttpsClients;
use crate::config::Probe;
use crate::parse::{self, Freshness, Measured};
use crate::platform::{self, Echo};
use crate::resolve::Names;

/// The most probes under way at once, each with at most one socket of its own besides the shared echo sockets.
/// Beyond it a probe waits, and its time is the moment when it is really sent.
const PROBES_IN_FLIGHT_MAX: usize = 8_192;

/// The discard service (RFC 863): nobody needs to listen, the way there makes the system look for the neighbour.
const DISCARD_PORT: u16 = 9;

/// A probe that was sent, or could not be.
#[derive(Debug)]
pub(crate) struct Sent {
    pub moment: Moment,
    /// The address that was asked, where there is one.
    pub to: Option<SocketAddr>,
    pub measured: Measured,
}

/// Everything that probes share.
pub(crate) struct Prober {
    publisher: Arc<Publisher>,
    pub echo: Echo,
    names: Arc<Names>,
    https: HttpsClients,
    permits: Semaphore,
    system_paced: AtomicBool,
}

impl Prober {
    pub(crate) fn new(publisher: Arc<Publisher>) -> Prober {
        Prober {
            publisher,
            echo: Echo::default(),
            names: Arc::default(),
            https: HttpsClients::default(),
            permits: Semaphore::new(PROBES_IN_FLIGHT_MAX),
            system_paced: AtomicBool::new(false),
        }
    }

    /// Sends one probe and waits for what comes of it, at most for its timeout.
    pub(crate) async fn probe(&self, probe: &Probe) -> Sent {
        let _permit = self.permit().await;
        let addresses = match self.names.addresses(&probe.address).await {
            Ok(addresses) => addresses,
            Err(reason) => {
                let measured = Measured::with(Outcome::Fault, reason);
                return Sent {
                    moment: self.publisher.moment(),
                    to: None,
                    measured,
                };
            }
        };
        let ask = |to, timeout| self.ask(probe, to, timeout);
        let outcome_of = |sent: &Sent| sent.measured.outcome;
        let sent = race::first_answer(&addresses, probe.timeout, ask, outcome_of).await;
        let sent = sent.unwrap_or_else(|| Sent {
            moment: self.publisher.moment(),
            to: None,
            measured: Measured::with(Outcome::Fault, "the name has no address"),
        });
        if let (true, Outcome::Ok, Some(to)) = (addresses.len() > 1, sent.measured.outcome, sent.to) {
            self.names.prefer(&probe.address, to);
        }
        sent
    }

    /// Asks one address of the probe's name.
    async fn ask(&self, probe: &Probe, to: SocketAddr, timeout: Duration) -> Sent {
        let moment = self.publisher.moment();
        let measured = match &probe.signal {
            SignalSpec::Echo => parse::from_echo(self.echo.ask(to, timeout).await),
            SignalSpec::Dns { query, port } => dns::ask(with_port(to, *port), query, timeout).await,
            SignalSpec::Tcp { port } => tcp::connect(with_port(to, *port), timeout).await,
            SignalSpec::Https {
                url,
                status,
                contains,
            } => {
                self.https
                    .get(to, url, (*status, contains.as_deref()), timeout)
                    .await
            }
        };
        Sent {
            moment,
            to: Some(to),
            measured,
        }
    }

    /// Makes the system look for a neighbour that cannot be asked by echo.
    pub(crate) fn provoke(&self, to: SocketAddr) -> io::Result<()> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.send_to(&[], with_port(to, DISCARD_PORT)).map(drop)
    }

    /// How fresh the neighbour table can be kept, as far as known by now.
    pub(crate) fn freshness(&self) -> Freshness {
        if self.system_paced.load(Ordering::Relaxed) {
            Freshness::SystemPaced
        } else {
            Freshness::Provoked
        }
    }

    /// The system does not let us validate its entries.
    pub(crate) fn leave_pace_to_system(&self) {
        if !self.system_paced.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "neighbours are validated when the system does; {}",
                platform::NEIGHBOUR_ADVICE
            );
        }
    }

    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Some(permit);
        }
        tracing::warn!(limit = PROBES_IN_FLIGHT_MAX, "too many probes at once; one waits");
        // The semaphore is never closed.
        self.permits.acquire().await.ok()
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
