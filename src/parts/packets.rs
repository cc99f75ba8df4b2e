//! The packets of an alert, out of the rings that captures of this machine keep.

use std::path::PathBuf;
use std::sync::Arc;

use watchfold_capture::CaptureError;
use watchfold_capture::ring::{Kept, Wanted, extract};
use watchfold_dashboard::{Packets, PacketsFailure};
use watchfold_schemas::subjects::is_token;

/// Cuts packets out of what the collector of the alert keeps below `rings`.
pub fn kept_packets(rings: PathBuf) -> Packets {
    Arc::new(move |request| {
        let rings = rings.clone();
        Box::pin(async move {
            let collector = request.seen_by.collector;
            let ring = rings.join(&collector);
            // Whatever an event says, no path leads out of the rings.
            if !is_token(&collector) || !ring.is_dir() {
                return Err(PacketsFailure::NotKept(format!(
                    "{collector} keeps no packets: set ring_mib in its [[capture]] table"
                )));
            }
            let wanted = Wanted {
                incarnation: request.seen_by.incarnation,
                ranges: request.seen_by.packets.ranges,
                from: request.from,
                until: request.until,
                bytes_max: request.bytes_max,
            };
            let cutting = tokio::task::spawn_blocking(move || extract(&Kept::Ring(ring), &wanted));
            let cut = cutting
                .await
                .map_err(|error| PacketsFailure::Unreadable(error.to_string()))?;
            cut.map_err(|error| match error {
                CaptureError::NotKept { .. } => PacketsFailure::NotKept(error.to_string()),
                CaptureError::Gone => PacketsFailure::Gone(error.to_string()),
                other => PacketsFailure::Unreadable(other.to_string()),
            })
        })
    })
}
