//! The digest of events: what two derivations must agree on, byte for byte. The only place that defines it.
//!
//! SHA-256 over [`Event::content`] of each event in its order, each preceded by its length (8 bytes, little endian). The
//! content holds site, chain, time, key and body, and none of what depends on where and how often records were carried:
//! no ids, causes, collectors, incarnations, sequences or `stored_at`. Digest events are passed over, so that a digest
//! is the same whether or not others were published within its span.
//!
//! It can be stored half-way and taken up again, which a hasher of a library does not offer; the compression function is
//! the library's.

use serde::{Deserialize, Serialize};
use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

use crate::codec::{CodecError, encode};
use crate::event::{Event, EventBody};

impl Event {
    /// The bytes that a digest covers: what happened, without ids, causes, collectors, incarnations or sequences.
    pub fn content(&self) -> Result<Vec<u8>, CodecError> {
        encode(&(&self.site, self.chain, self.at, &self.key, &self.body))
    }
}

/// What SHA-256 takes at once, in bytes.
const BLOCK_BYTES: usize = 64;

/// The digest of the events so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDigest {
    state: [u32; 8],
    /// What was taken and does not fill a block yet.
    #[serde(with = "serde_bytes")]
    rest: Vec<u8>,
    bytes: u64,
    events: u64,
}

impl Default for EventDigest {
    fn default() -> EventDigest {
        EventDigest {
            // The first 32 bits of the fractional parts of the square roots of the first eight primes (FIPS 180-4).
            state: [
                0x6a09_e667,
                0xbb67_ae85,
                0x3c6e_f372,
                0xa54f_f53a,
                0x510e_527f,
                0x9b05_688c,
                0x1f83_d9ab,
                0x5be0_cd19,
            ],
            rest: Vec::new(),
            bytes: 0,
            events: 0,
        }
    }
}

impl EventDigest {
    /// Whether a digest covers events of this kind.
    pub const fn covers(body: &EventBody) -> bool {
        !matches!(body, EventBody::Digest(_))
    }

    pub fn add(&mut self, event: &Event) -> Result<(), CodecError> {
        if !EventDigest::covers(&event.body) {
            return Ok(());
        }
        let content = event.content()?;
        self.update(&(content.len() as u64).to_le_bytes());
        self.update(&content);
        self.events += 1;
        Ok(())
    }

    /// How many events it covers.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The digest as 64 hexadecimal digits; more events may follow.
    pub fn hex(&self) -> String {
        let mut whole = self.clone();
        let bits = self.bytes.wrapping_mul(8);
        let used = (self.rest.len() + 1 + 8) % BLOCK_BYTES;
        let mut padding = vec![0; 1 + (BLOCK_BYTES - used) % BLOCK_BYTES];
        padding[0] = 0x80;
        whole.update(&padding);
        whole.update(&bits.to_be_bytes());
        whole.state.iter().map(|word| format!("{word:08x}")).collect()
    }

    fn update(&mut self, data: &[u8]) {
        self.bytes = self.bytes.wrapping_add(data.len() as u64);
        self.rest.extend_from_slice(data);
        let whole = self.rest.len() - self.rest.len() % BLOCK_BYTES;
        for block in self.rest[..whole].chunks_exact(BLOCK_BYTES) {
            compress256(
                &mut self.state,
                std::slice::from_ref(GenericArray::from_slice(block)),
            );
        }
        self.rest.drain(..whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn library(data: &[u8]) -> String {
        Sha256::digest(data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn it_is_sha_256_however_the_bytes_are_split_and_stored() {
        let data: Vec<u8> = (0..300u32).map(|i| (i * 7) as u8).collect();
        for length in 0..data.len() {
            for split in [0, length / 3, length / 2, length] {
                let mut digest = EventDigest::default();
                digest.update(&data[..split]);
                let stored = rmp_serde::to_vec_named(&digest).unwrap();
                let mut digest: EventDigest = rmp_serde::from_slice(&stored).unwrap();
                digest.update(&data[split..length]);
                assert_eq!(
                    digest.hex(),
                    library(&data[..length]),
                    "{length} split at {split}"
                );
            }
        }
    }
}
