//! The one hash behind every identity that is made of texts.

use sha2::{Digest, Sha256};

/// 128 bits of SHA-256 over length-prefixed parts, so that no two lists of parts read alike.
pub fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
