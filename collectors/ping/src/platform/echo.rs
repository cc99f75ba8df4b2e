//! Echo over one socket for each family: unprivileged datagram sockets where allowed, else raw ones.
//!
//! The round trip ends when the kernel received the answer (`SO_TIMESTAMPNS`), not when this process came to read it: a round sends
//! hundreds of requests before it reads the first answer, and the place in that queue is not the network's.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::EchoAnswer;
use super::icmp::{self, Family, Heard};

/// The largest answer read: our request, or an error that quotes it.
const ANSWER_BYTES_MAX: usize = 2_048;

/// Answers that wait in the kernel: a round of 4,096 PCs at 1 KiB each. The kernel allows what `net.core.rmem_max` says.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Answers read before other tasks have a turn.
const ANSWERS_AT_ONCE: usize = 64;

/// Requests that wait for an answer, by whom they were sent to and their sequence number.
type Waiting = Mutex<HashMap<(IpAddr, u16), oneshot::Sender<Arrived>>>;

/// An answer and when it came.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    heard: Heard,
    /// By the kernel, where it stamps what it receives.
    received: Option<SystemTime>,
    read: Instant,
}

/// An echo socket of one family, with the task that reads it.
pub(super) struct Channel {
    socket: Arc<UdpSocket>,
    family: Family,
    identifier: u16,
    waiting: Arc<Waiting>,
    _reading: AbortOnDropHandle<()>,
}

impl Channel {
    /// Opens a socket. Must run inside the runtime.
    pub(super) fn open(family: Family) -> io::Result<Channel> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, is_raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(error) => match Socket::new(domain, Type::RAW, Some(protocol)) {
                Ok(socket) => (socket, true),
                Err(_) => return Err(error),
            },
        };
        socket.set_nonblocking(true)?;
        // Without either it still works: fewer answers fit, or they are stamped when they are read.
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
            tracing::debug!(%error, "the echo socket keeps its receive buffer");
        }
        if let Err(error) = setsockopt(&socket, sockopt::ReceiveTimestampns, &true) {
            tracing::debug!(%error, "the kernel does not stamp echo answers");
        }
        let identifier = match is_raw {
            true => std::process::id() as u16,
            // The kernel puts the socket's port into requests, and passes only answers to it on.
            false => 0,
        };
        // To the runtime every datagram socket is the same.
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let waiting = Arc::<Waiting>::default();
        let reader = Reader {
            socket: socket.clone(),
            waiting: waiting.clone(),
            family,
            identifier: is_raw.then_some(identifier),
        };
        Ok(Channel {
            socket,
            family,
            identifier,
            waiting,
            _reading: AbortOnDropHandle::new(tokio::spawn(reader.run())),
        })
    }

    /// Sends one request and waits for its answer, at most for `timeout`.
    pub(super) async fn ask(
        &self,
        to: SocketAddr,
        sequence: u16,
        payload: &[u8],
        timeout: Duration,
    ) -> EchoAnswer {
        let request = icmp::request(self.family, self.identifier, sequence, payload);
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter {
            waiting: &self.waiting,
            key: (to.ip(), sequence),
        };
        lock(&self.waiting).insert(waiter.key, sender);
        let sent = self.send(&request, to);
        let exchange = async {
            let sent = sent.await?;
            // The sender lives in the table as long as the waiter does.
            let arrived = answer.await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((sent, arrived))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok((sent, arrived))) => match arrived.heard {
                Heard::Reply => EchoAnswer::Reply {
                    round_trip: round_trip(sent, arrived),
                },
                Heard::TimeExceeded => EchoAnswer::Unreachable("time exceeded on the way"),
                Heard::Unreachable => EchoAnswer::Unreachable("the network says unreachable"),
            },
            Ok(Err(error)) => EchoAnswer::Failed(error),
            Err(_) => EchoAnswer::Silence,
        }
    }

    /// Sends, and says when: the moment before the system call, because the answer may be there before it returns.
    async fn send(&self, request: &[u8], to: SocketAddr) -> io::Result<Sent> {
        loop {
            let sent = Sent::now();
            match self.socket.try_send_to(request, to) {
                Ok(_) => return Ok(sent),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// When a request was sent, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Sent {
    wall: SystemTime,
    steady: Instant,
}

impl Sent {
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel stamps answers by this clock; only the difference is kept"
    )]
    fn now() -> Sent {
        Sent {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// From sending to the kernel's receipt. Where the wall clock was set in between, or the kernel does not stamp, the answer counts as
/// received when it was read, which is never too early.
fn round_trip(sent: Sent, arrived: Arrived) -> Duration {
    let until_read = arrived.read.saturating_duration_since(sent.steady);
    let until_received = arrived.received.and_then(|at| at.duration_since(sent.wall).ok());
    until_received
        .filter(|span| *span <= until_read)
        .unwrap_or(until_read)
}

/// Takes its request out of the table, however the waiting ends.
struct Waiter<'w> {
    waiting: &'w Waiting,
    key: (IpAddr, u16),
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.key);
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<(IpAddr, u16), oneshot::Sender<Arrived>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Reader {
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    family: Family,
    /// Of our requests, where the socket hears those of others too.
    identifier: Option<u16>,
}

impl Reader {
    async fn run(self) {
        loop {
            if self.socket.readable().await.is_err() {
                // The runtime is about to end.
                return;
            }
            for _ in 0..ANSWERS_AT_ONCE {
                match self.socket.try_io(Interest::READABLE, || self.read()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // An error that the kernel reports of an earlier request; that one times out.
                    Err(error) => tracing::debug!(%error, "an echo socket reports an error"),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn read(&self) -> io::Result<()> {
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control[..]),
            MsgFlags::empty(),
        )?;
        let read = Instant::now();
        let received = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(at) => Some(SystemTime::UNIX_EPOCH + Duration::from(at)),
            _ => None,
        });
        let length = message.bytes;
        let from = message.address.as_ref().and_then(address_of);
        let is_with_header = self.family == Family::V4 && self.identifier.is_some();
        let answer = icmp::answer(self.family, is_with_header, self.identifier, &bytes[..length]);
        let Some((heard, sequence, to)) = answer else {
            return Ok(());
        };
        // An error comes from a router and quotes whom the request was for.
        let Some(asked) = to.or(from) else {
            return Ok(());
        };
        if let Some(waiter) = lock(&self.waiting).remove(&(asked, sequence)) {
            // It may have stopped waiting just now.
            let _ = waiter.send(Arrived {
                heard,
                received,
                read,
            });
        }
        Ok(())
    }
}

fn address_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_ends_at_the_kernels_receipt_unless_a_clock_was_set() {
        let sent = Sent::now();
        let ms = Duration::from_millis;
        let check = |received: Option<SystemTime>, want| {
            let arrived = Arrived {
                heard: Heard::Reply,
                received,
                read: sent.steady + ms(50),
            };
            assert_eq!(round_trip(sent, arrived), want, "{received:?}");
        };
        check(Some(sent.wall + ms(3)), ms(3));
        check(None, ms(50));
        check(Some(sent.wall + ms(60)), ms(50));
        check(Some(sent.wall - ms(1)), ms(50));
    }
}
