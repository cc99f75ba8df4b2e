//! Traffic that does not exist, the same in every run: connections, datagrams, names, echoes and some scans between an
//! office and the world, as a capture file of whole packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// When the traffic begins: 2026-01-05 08:00 UTC.
const START_S: u64 = 1_767_600_000;

/// Packets a second, on the packets' own clock.
const RATE: u64 = 100_000;

/// Hosts of the office, and servers elsewhere.
const INSIDE: u64 = 250;
const OUTSIDE: u64 = 5_000;

/// Connections that are open at a time.
const FLOWS: usize = 1_024;

/// Of a full segment.
pub const PAYLOAD_BYTES_MAX: usize = 1_448;

const BUFFER_BYTES: usize = 1024 * 1024;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// A connection from inside to outside.
#[derive(Clone, Copy)]
struct Flow {
    inside: u32,
    outside: u32,
    is_v6: bool,
    inside_port: u16,
    outside_port: u16,
    /// Packets of it so far, and in all.
    step: u32,
    steps: u32,
}

/// Writes a capture file of so many packets and tells its size in bytes.
pub fn write(path: &Path, packets: u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(path)?);
    // Nanoseconds, version 2.4, no zone, 256 KiB of each packet, Ethernet.
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut traffic = Traffic::new(PAYLOAD_BYTES_MAX);
    let mut bytes = 24;
    for number in 0..packets {
        let frame = traffic.next();
        let at_ns = number * (1_000_000_000 / RATE);
        let length = frame.len() as u32;
        let seconds = (START_S + at_ns / 1_000_000_000) as u32;
        for word in [seconds, (at_ns % 1_000_000_000) as u32, length, length] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(frame)?;
        bytes += 16 + u64::from(length);
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Or its writing would go on beneath what is measured.
    file.sync_all()?;
    Ok(bytes)
}

/// Packets of an office, one after the other.
pub struct Traffic {
    dice: Dice,
    /// Longer payloads of connections and calls are cut to this.
    payload_bytes_max: usize,
    flows: Vec<Flow>,
    /// Where the scanner is: it tries ports of one host after the other.
    scanned: u64,
    frame: Vec<u8>,
}

/// One packet's ends, its protocol and what it carries.
struct Parts<'a> {
    source: u32,
    destination: u32,
    is_v6: bool,
    protocol: u8,
    header: &'a [u8],
    payload: &'a [u8],
}

impl Traffic {
    pub fn new(payload_bytes_max: usize) -> Traffic {
        let mut out = Traffic {
            dice: Dice(1),
            payload_bytes_max,
            flows: Vec::new(),
            scanned: 0,
            frame: Vec::with_capacity(1_600),
        };
        for _ in 0..FLOWS {
            let flow = out.flow();
            out.flows.push(flow);
        }
        out
    }

    /// Makes the next packet and shows it.
    pub fn next(&mut self) -> &[u8] {
        match self.dice.below(1_000) {
            0..=799 => self.stream(),
            800..=879 => self.datagram(),
            880..=929 => self.name(),
            930..=959 => self.echo(),
            960..=964 => self.arp(),
            _ => self.scan(),
        }
        &self.frame
    }

    fn flow(&mut self) -> Flow {
        let ports = [443, 443, 443, 80, 22, 993, 5_228];
        Flow {
            inside: 0x0a00_0100 + self.dice.below(INSIDE) as u32,
            outside: 0x2d00_0000 + (self.dice.below(OUTSIDE) * 4_099) as u32,
            is_v6: self.dice.below(10) == 0,
            inside_port: 32_768 + self.dice.below(28_000) as u16,
            outside_port: ports[self.dice.below(ports.len() as u64) as usize],
            step: 0,
            steps: 8 + self.dice.below(120) as u32,
        }
    }

    /// The next packet of some connection: opening, data from outside, acknowledgements from inside, the end.
    fn stream(&mut self) {
        let number = self.dice.below(FLOWS as u64) as usize;
        let flow = self.flows[number];
        let is_data = flow.step % 3 != 2;
        let (is_outbound, flags, length) = match flow.step {
            0 => (true, SYN, 0),
            1 => (false, SYN | ACK, 0),
            2 => (true, ACK, 0),
            3 => (true, PSH | ACK, 300),
            step if step + 2 == flow.steps => (true, FIN | ACK, 0),
            step if step + 1 >= flow.steps => (false, FIN | ACK, 0),
            _ if is_data => (
                false,
                ACK,
                [PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, 400, 90][self.dice.below(4) as usize],
            ),
            _ => (true, ACK, 0),
        };
        self.tcp(&flow, is_outbound, flags, length);
        self.flows[number].step += 1;
        if flow.step + 1 >= flow.steps {
            self.flows[number] = self.flow();
        }
    }

    fn tcp(&mut self, flow: &Flow, is_outbound: bool, flags: u8, length: usize) {
        let (ports, ends) = if is_outbound {
            ((flow.inside_port, flow.outside_port), (flow.inside, flow.outside))
        } else {
            ((flow.outside_port, flow.inside_port), (flow.outside, flow.inside))
        };
        let mut header = [0; 20];
        header[..2].copy_from_slice(&ports.0.to_be_bytes());
        header[2..4].copy_from_slice(&ports.1.to_be_bytes());
        header[12] = 5 << 4;
        header[13] = flags;
        self.build(Parts {
            source: ends.0,
            destination: ends.1,
            is_v6: flow.is_v6,
            protocol: 6,
            header: &header,
            payload: &[0xaa; PAYLOAD_BYTES_MAX][..length.min(self.payload_bytes_max)],
        });
    }

    fn udp(&mut self, ends: (u32, u32), ports: (u16, u16), payload: &[u8]) {
        let mut header = [0; 8];
        header[..2].copy_from_slice(&ports.0.to_be_bytes());
        header[2..4].copy_from_slice(&ports.1.to_be_bytes());
        header[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        self.build(Parts {
            source: ends.0,
            destination: ends.1,
            is_v6: false,
            protocol: 17,
            header: &header,
            payload,
        });
    }

    /// A call or a game: datagrams both ways between a few pairs.
    fn datagram(&mut self) {
        let pair = self.dice.below(40) as u32;
        let (inside, outside) = (0x0a00_0100 + pair, 0x2e00_0000 + pair);
        let (ends, ports) = if self.dice.below(2) == 0 {
            ((inside, outside), (50_000 + pair as u16, 3_478))
        } else {
            ((outside, inside), (3_478, 50_000 + pair as u16))
        };
        let length = 100 + self.dice.below(1_100) as usize;
        self.udp(ends, ports, &[0x55; 1_200][..length.min(self.payload_bytes_max)]);
    }

    /// A question to the resolver, or its answer.
    fn name(&mut self) {
        let host = 0x0a00_0100 + self.dice.below(INSIDE) as u32;
        let is_answer = self.dice.below(2) == 0;
        let label = format!("host-{}", self.dice.below(3_000));
        let zone = ["example", "cdn-example", "mail-example"][self.dice.below(3) as usize];
        let mut message = vec![
            0,
            7,
            if is_answer { 0x81 } else { 1 },
            0x80,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        for part in [label.as_str(), zone, "org"] {
            message.push(part.len() as u8);
            message.extend(part.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        let (resolver, port) = (0x0a00_0001, 40_000 + self.dice.below(20_000) as u16);
        if is_answer {
            self.udp((resolver, host), (53, port), &message);
        } else {
            self.udp((host, resolver), (port, 53), &message);
        }
    }

    fn echo(&mut self) {
        let host = 0x0a00_0100 + self.dice.below(INSIDE) as u32;
        let is_answer = self.dice.below(2) == 0;
        let header = [if is_answer { 0 } else { 8 }, 0, 0, 0, 0, 1, 0, 1];
        let ends = if is_answer {
            (0x0808_0808, host)
        } else {
            (host, 0x0808_0808)
        };
        self.build(Parts {
            source: ends.0,
            destination: ends.1,
            is_v6: false,
            protocol: 1,
            header: &header,
            payload: &[0; 56],
        });
    }

    fn arp(&mut self) {
        let host = (0x0a00_0100 + self.dice.below(INSIDE) as u32).to_be_bytes();
        let mac = [2, 0, host[0], host[1], host[2], host[3]];
        self.frame.clear();
        self.frame.extend([0xff; 6]);
        self.frame.extend(mac);
        self.frame
            .extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + self.dice.below(2) as u8]);
        self.frame.extend(mac);
        self.frame.extend(host);
        self.frame.extend([0; 6]);
        self.frame.extend([10, 0, 0, 1]);
        self.frame.resize(60, 0);
    }

    /// One of a few scanners tries a port, or is refused.
    fn scan(&mut self) {
        let attempt = self.scanned / 2;
        let flow = Flow {
            inside: 0x0a00_0100 + (attempt / 1_000 % INSIDE) as u32,
            outside: 0x5b00_0000 + (attempt % 4) as u32,
            is_v6: false,
            inside_port: (attempt % 1_000) as u16 + 1,
            outside_port: 50_000 + (attempt % 997) as u16,
            step: 0,
            steps: 0,
        };
        let is_refusal = self.scanned % 2 == 1;
        self.scanned += 1;
        self.tcp(&flow, is_refusal, if is_refusal { RST | ACK } else { SYN }, 0);
    }

    fn build(&mut self, parts: Parts<'_>) {
        let inner = parts.header.len() + parts.payload.len();
        let frame = &mut self.frame;
        frame.clear();
        frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        if parts.is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((inner as u16).to_be_bytes());
            frame.extend([parts.protocol, 64]);
            for address in [parts.source, parts.destination] {
                frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
                frame.extend(address.to_be_bytes());
            }
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + inner as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, parts.protocol, 0, 0]);
            frame.extend(parts.source.to_be_bytes());
            frame.extend(parts.destination.to_be_bytes());
        }
        frame.extend_from_slice(parts.header);
        frame.extend_from_slice(parts.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_capture::file::{CaptureFile, End};
    use watchfold_capture::parse::decode;

    #[test]
    fn every_packet_can_be_decoded_and_every_run_makes_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        let bytes = write(&one, 20_000).unwrap();
        write(&other, 20_000).unwrap();
        let written = std::fs::read(&one).unwrap();
        assert_eq!(written.len() as u64, bytes);
        assert!(written == std::fs::read(&other).unwrap());
        let mut protocols = std::collections::BTreeMap::new();
        let mut file = CaptureFile::open(&one).unwrap();
        let end = file.for_each(|frame| {
            let packet = decode(frame.link, frame.bytes, frame.wire_length).unwrap();
            assert_eq!(packet.marks & watchfold_schemas::packets::marks::MALFORMED, 0);
            *protocols.entry(packet.protocol).or_insert(0) += 1;
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!((end.unwrap(), file.packets()), (End::Whole, 20_000));
        assert_eq!(protocols.keys().copied().collect::<Vec<_>>(), [1, 6, 17, 255]);
    }
}
