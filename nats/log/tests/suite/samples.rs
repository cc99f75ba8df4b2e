//! The frozen sample: a directory that the first version wrote, which every later version must read as it stands.
//! Written anew only for a new format, beside the old one: `WATCHFOLD_WRITE_SAMPLE=dir`.

use std::path::Path;

use watchfold_log::{Append, StreamFiles, StreamOptions, contract, verify};
use watchfold_schemas::{Stream, Time};

use crate::{GIB, OBS, open_store};

/// What `samples/v1` holds.
fn sample_messages() -> Vec<Append> {
    let with = |subject: &str, number, payload: Vec<u8>| contract::message(OBS, subject, number, payload);
    vec![
        with("wf.obs.cafe-1.tick.clock", 1, Vec::new()),
        with("wf.obs.cafe-1.ping_round.ping", 2, (0..=255).collect()),
        with("wf.obs.cafe-1.tick.clock", 3, b"third".to_vec()),
    ]
}

#[test]
fn the_first_format_is_read_for_ever() {
    if let Some(dir) = std::env::var_os("WATCHFOLD_WRITE_SAMPLE") {
        write_sample(Path::new(&dir));
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/v1");
    let mut files = StreamFiles::open(&sample, Stream::Observations).unwrap().unwrap();
    let records = files.next(10).unwrap().records;
    assert_eq!(records.len(), 3);
    for (index, (record, message)) in records.iter().zip(sample_messages()).enumerate() {
        assert_eq!(record.sequence, index as u64 + 1);
        assert_eq!(record.stored_at, Time::from_seconds(1_767_225_600 + index as i64));
        let told = (&record.id, &record.subject, &record.payload);
        assert_eq!(told, (&message.id, &message.subject, &message.payload));
    }
    let report = verify(&sample).unwrap();
    assert!(report.is_whole() && report.streams[0].torn_tail_bytes == 0);
    assert_eq!(report.streams[0].log_id, "07070707070707070707070707070707");
}

fn write_sample(dir: &Path) {
    let mut store = open_store(dir, StreamOptions::new(GIB, None));
    for (index, message) in sample_messages().into_iter().enumerate() {
        store
            .append(&[message], Time::from_seconds(1_767_225_600 + index as i64))
            .unwrap();
        store.sync().unwrap();
    }
    store.close().unwrap();
}
