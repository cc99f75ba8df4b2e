//! The peer of the page: writes as many bytes to as many sockets, one after the other, and knows nothing of logs and states.

use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::{Run, Watching, machine, mark_of, paced};
use crate::cli::BenchPageArgs;

/// Bytes of a request's head are read in pieces of this size.
const READ_BYTES: usize = 1_024;

/// Writes `bytes` for each event to each viewer.
pub async fn written(args: &BenchPageArgs, bytes: usize) -> anyhow::Result<Run> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("failed to listen on loopback")?;
    let address = listener.local_addr()?.to_string();
    let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let accepted = Arc::clone(&sockets);
    let accepting = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            if socket.set_nodelay(true).is_ok() && greet(&mut socket).await.is_ok() {
                accepted.lock().await.push(socket);
            }
        }
    });
    let mut watching = Watching::begin(&address, args, "none").await?;
    let processor = machine::processor_time();
    let mut ticks = paced(args);
    for number in 0..args.events() {
        ticks.tick().await;
        let mut line = mark_of(number).into_bytes();
        line.resize(bytes.max(line.len()), b'.');
        let mut sockets = sockets.lock().await;
        // The silent ones came last, and nothing is written to them: a bare loop would wait for them.
        for socket in sockets.iter_mut().take(usize::try_from(args.viewers)?) {
            // A viewer that left is counted by what it missed.
            let _ = socket.write_all(&line).await;
        }
    }
    let seen = watching.end().await?;
    accepting.abort();
    let took = machine::processor_time().zip(processor);
    Ok(Run {
        processor: took.map(|(after, before)| after.saturating_sub(before)),
        seen,
    })
}

/// Answers a request, which is at least one read long, with one byte.
async fn greet(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut head = [0; READ_BYTES];
    let _ = socket.read(&mut head).await?;
    socket.write_all(b".").await
}
