//! Frames, capture files and interfaces made by hand, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etherparse::PacketBuilder;
use watchfold_kit::{Clock, SystemClock};
use watchfold_schemas::Time;

use crate::error::CaptureError;
use crate::tap::{Drops, OpenWire, Raw, Wire};

/// How long anything may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A TCP segment from 10.0.0.1 to this port.
pub fn tcp_frame(port: u16) -> Vec<u8> {
    tcp_frame_of(port, b"SSH-2.0")
}

/// The same with this payload.
pub fn tcp_frame_of(port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
        .tcp(40_000, port, 1, 1);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A pcap file of Ethernet with nanoseconds.
pub fn pcap(packets: &[(Time, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_3C4D_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (at, packet) in packets {
        let length = packet.len() as u32;
        let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        for word in [seconds as u32, nanos as u32, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}

/// An interface that a test plays: what is put on it is captured, and it is dropped, lost or cursed on command.
#[derive(Clone, Default)]
pub struct Played(Arc<Mutex<Play>>);

#[derive(Default)]
pub struct Play {
    /// Frames that nobody read yet.
    pub waiting: VecDeque<Vec<u8>>,
    /// Since it was opened, as the kernel counts.
    pub drops: Drops,
    pub is_gone: bool,
    /// The next one who reads panics.
    pub is_cursed: bool,
    /// How often it was opened.
    pub opened: u32,
}

impl Played {
    pub fn play(&self) -> MutexGuard<'_, Play> {
        self.0.lock().unwrap()
    }

    pub fn put(&self, frame: &[u8], times: usize) {
        let frames = std::iter::repeat_n(frame.to_vec(), times);
        self.play().waiting.extend(frames);
    }

    pub(crate) fn opener(&self) -> OpenWire {
        let played = self.clone();
        Arc::new(move |config| {
            let mut play = played.play();
            if play.is_gone {
                return Err(CaptureError::UnknownInterface {
                    interface: config.interface.clone(),
                    known: vec!["lo".to_owned()],
                });
            }
            play.opened += 1;
            play.drops = Drops::default();
            Ok(Box::new(played.clone()))
        })
    }
}

impl Wire for Played {
    fn link_type(&self) -> i32 {
        1
    }

    fn read(&mut self, packets_max: usize, visit: &mut dyn FnMut(Raw<'_>)) -> Result<usize, CaptureError> {
        let frames: Vec<Vec<u8>> = {
            let mut play = self.play();
            if play.is_gone {
                return Err(CaptureError::Lost {
                    interface: "played".to_owned(),
                    reason: "The interface disappeared".to_owned(),
                });
            }
            if std::mem::take(&mut play.is_cursed) {
                // The lock would be poisoned otherwise.
                drop(play);
                panic!("the test wants it so");
            }
            let count = packets_max.min(play.waiting.len());
            play.waiting.drain(..count).collect()
        };
        let clock = SystemClock::new();
        for frame in &frames {
            visit(Raw {
                wall_ns: clock.wall().0,
                wire_length: frame.len() as u32,
                bytes: frame,
            });
        }
        Ok(frames.len())
    }

    fn drops(&mut self) -> Drops {
        self.play().drops
    }
}

/// Waits for a condition.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let came = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let came = tokio::time::timeout(LIMIT, came).await;
    assert!(came.is_ok(), "{what} did not come");
}
