//! Sends generated packets at a stated rate, and tells how many went out. It does not look whether they arrive.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bench::packets::traffic::Traffic;
use crate::cli::SendRate;

/// Different packets, which are sent again and again.
const FRAMES: usize = 131_072;

/// How long the sender rests once it has sent what is due.
const REST: Duration = Duration::from_micros(200);

/// At most so many before the time is looked at.
const AT_ONCE: u64 = 64;

/// What went out.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
    /// Refused by the kernel.
    pub failed: u64,
    pub took_s: f64,
}

pub fn send(interface: &str, rate: SendRate, seconds: u64, payload: usize) -> anyhow::Result<Sent> {
    let mut traffic = Traffic::new(payload);
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|_| traffic.next().to_vec()).collect();
    // Only sends: nothing is let through to it.
    let mut out = pcap::Capture::from_device(interface)
        .and_then(|inactive| inactive.buffer_size(1 << 20).open())
        .with_context(|| format!("failed to open {interface} for sending"))?;
    out.filter("less 1", true)?;
    let (began, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut sent = Sent {
        packets: 0,
        bytes: 0,
        failed: 0,
        took_s: 0.0,
    };
    let mut frames = frames.iter().cycle();
    loop {
        let elapsed = began.elapsed();
        sent.took_s = elapsed.as_secs_f64();
        if elapsed >= time {
            return Ok(sent);
        }
        let tried = sent.packets + sent.failed;
        let due = match rate.0 {
            Some(rate) => (elapsed.as_secs_f64() * rate as f64) as u64 - tried,
            None => AT_ONCE,
        };
        if due == 0 {
            std::thread::sleep(REST);
        }
        for frame in frames.by_ref().take(due.min(AT_ONCE) as usize) {
            match out.sendpacket(frame.as_slice()) {
                Ok(()) => {
                    sent.packets += 1;
                    sent.bytes += frame.len() as u64;
                }
                Err(_) => sent.failed += 1,
            }
        }
    }
}
