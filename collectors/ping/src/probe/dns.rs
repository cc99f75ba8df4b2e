//! A DNS query (RFC 1035) sent to the probed address itself. The system's resolver has no part in it.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use watchfold_schemas::observation::Outcome;

use crate::parse::{self, Measured};

/// The largest answer read; without EDNS a server sends at most 512 (RFC 1035 section 4.2.1).
const ANSWER_BYTES_MAX: usize = 4_096;

pub(super) async fn ask(server: SocketAddr, name: &str, timeout: Duration) -> Measured {
    let query = match Name::from_utf8(name) {
        Ok(mut name) => {
            name.set_fqdn(true);
            Query::query(name, RecordType::A)
        }
        Err(_) => return Measured::with(Outcome::Fault, format!("{name:?} is not a DNS name")),
    };
    tokio::time::timeout(timeout, exchange(server, query))
        .await
        .unwrap_or_else(|_| Measured::timed_out())
}

async fn exchange(server: SocketAddr, query: Query) -> Measured {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let bytes = match message.to_vec() {
        Ok(bytes) => bytes,
        Err(error) => return Measured::with(Outcome::Fault, error.to_string()),
    };
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Connecting sends nothing, but lets only this server's answers and errors in.
    let socket = match UdpSocket::bind(any).await {
        Ok(socket) => socket,
        Err(error) => return parse::from_error(&error),
    };
    if let Err(error) = socket.connect(server).await {
        return parse::from_error(&error);
    }
    let began = Instant::now();
    if let Err(error) = socket.send(&bytes).await {
        return parse::from_error(&error);
    }
    let mut answer = [0; ANSWER_BYTES_MAX];
    loop {
        match socket.recv(&mut answer).await {
            Ok(length) => {
                let got = parse::from_dns(message.metadata.id, &query, &answer[..length], began.elapsed());
                if let Some(measured) = got {
                    return measured;
                }
            }
            Err(error) => return parse::from_remote_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{MessageType, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record, rdata::A};

    use super::*;

    /// A server that answers one query after sending what an off-path attacker could.
    async fn server(change: fn(&mut Message)) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut answer = Message::from_vec(&buffer[..length]).unwrap();
            answer.metadata.message_type = MessageType::Response;
            let mut forged = answer.clone();
            forged.metadata.id = answer.metadata.id.wrapping_add(1);
            forged.metadata.response_code = ResponseCode::ServFail;
            socket.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            let name = answer.queries[0].name().clone();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
            change(&mut answer);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn any_record_will_do_and_nothing_else() {
        let wait = Duration::from_secs(10);
        let good = server(|_| {}).await;
        let measured = ask(good, "example.com", wait).await;
        assert_eq!(measured.outcome, Outcome::Ok, "{measured:?}");
        assert!(measured.rtt_us.is_some());
        let empty = server(|answer| answer.answers.clear()).await;
        assert_eq!(ask(empty, "example.com", wait).await.outcome, Outcome::Unexpected);
        let broken = server(|answer| answer.metadata.response_code = ResponseCode::ServFail).await;
        assert_eq!(
            ask(broken, "example.com", wait).await.outcome,
            Outcome::Unexpected
        );
    }

    #[tokio::test]
    async fn silence_times_out_and_a_closed_port_refuses() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = silent.local_addr().unwrap();
        assert_eq!(
            ask(to, "example.com", Duration::from_millis(50)).await.outcome,
            Outcome::TimedOut
        );
        drop(silent);
        assert_eq!(
            ask(to, "example.com", Duration::from_secs(10)).await.outcome,
            Outcome::Refused
        );
        assert_eq!(
            ask(to, "a..b", Duration::from_secs(10)).await.outcome,
            Outcome::Fault
        );
    }
}
