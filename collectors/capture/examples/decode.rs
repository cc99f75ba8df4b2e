//! Reads capture files and says what was in them: packets, rows, and why the others gave none.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::file::CaptureFile;
use watchfold_capture::parse::decode;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource};

fn main() {
    for path in std::env::args().skip(1) {
        println!("{path}: {}", summary(Path::new(&path)));
    }
}

fn summary(path: &Path) -> String {
    let mut file = match CaptureFile::open(path) {
        Ok(file) => file,
        Err(error) => return error.to_string(),
    };
    let mut builder = BatchBuilder::new(CaptureSource::default(), Vec::new());
    let (mut number, mut rows, mut batches) = (0_u64, 0, 0);
    let mut why: BTreeMap<String, u64> = BTreeMap::new();
    let end = file.for_each(|frame| {
        number += 1;
        match decode(frame.link, frame.bytes, frame.wire_length) {
            Ok(packet) => {
                if builder.push(number, frame.at, frame.wire_length, packet.clone()) == Pushed::Full {
                    rows += builder.take(CaptureCounts::default()).len();
                    batches += 1;
                    builder.push(number, frame.at, frame.wire_length, packet);
                }
            }
            Err(undecoded) => *why.entry(undecoded.to_string()).or_default() += 1,
        }
        ControlFlow::Continue(())
    });
    rows += builder.take(CaptureCounts::default()).len();
    batches += 1;
    format!(
        "{number} packets, {rows} rows in {batches} batches, {} skipped, {why:?}, {end:?}",
        file.skipped()
    )
}
