//! What a stream must hold, by a plain model that shares no code with the log: an ordered list of what was shown or
//! acknowledged, and the checks that a recovered log has to pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use watchfold_log::{Ack, Append, Batch, Record};
use watchfold_schemas::{MessageId, Stream, Time};

pub const SUBJECT: &str = "wf.obs.site.kind.name";

/// One producer's messages, numbered from 1; everything about a message follows from its number and the seed.
pub fn message(seed: u64, number: u64) -> Append {
    let bytes = (seed
        .wrapping_mul(31)
        .wrapping_add(number.wrapping_mul(0x9e37_79b9))
        >> 3)
        % 300;
    let payload: Vec<u8> = (0..bytes)
        .map(|at| (number.wrapping_mul(7) + at * 13 + seed) as u8)
        .collect();
    Append {
        stream: Stream::Observations,
        subject: SUBJECT.to_owned(),
        id: MessageId(format!("site/sim/1/{number}")),
        payload: payload.into(),
    }
}

/// The largest frame of [`message`], by the stored format.
pub const FRAME_BYTES_MAX: u64 = 28 + 40 + 21 + 300;

pub fn number_of(record: &Record) -> u64 {
    record
        .id
        .0
        .rsplit('/')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a message id of the model")
}

pub struct Model {
    seed: u64,
    /// By sequence: what somebody was told is durable. Nothing may ever contradict it.
    durable: BTreeMap<u64, (u64, Time)>,
    tried: Vec<u64>,
    refused: BTreeSet<u64>,
    /// The last place given out in this life.
    placed: u64,
    /// Sequences below this were dropped by retention, as the log itself said.
    pub floor: u64,
    pub bytes_max: u64,
    pub segment_bytes: u64,
    pub batch_max: u64,
    pub window: u64,
    /// What positions may hold: the last one acknowledged, and every one tried since.
    positions: HashMap<String, Vec<Option<u64>>>,
}

impl Model {
    pub fn new(seed: u64, bytes_max: u64, segment_bytes: u64, batch_max: u64, window: u64) -> Model {
        let (durable, positions) = (BTreeMap::new(), HashMap::new());
        Model {
            seed,
            durable,
            placed: 0,
            tried: Vec::new(),
            refused: BTreeSet::new(),
            floor: 1,
            bytes_max,
            segment_bytes,
            batch_max,
            window,
            positions,
        }
    }

    pub fn last_durable(&self) -> u64 {
        self.durable.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    /// Whether a message was acknowledged or shown and is still kept: a restarted log tells duplicates of these.
    pub fn keeps(&self, number: u64) -> bool {
        self.durable
            .range(self.floor..)
            .any(|(_, (known, _))| *known == number)
    }

    /// A synced append told its places.
    pub fn acknowledge(&mut self, numbers: &[u64], acks: &[Ack], at: Time) {
        assert_eq!(numbers.len(), acks.len(), "one ack for each message");
        for (number, ack) in numbers.iter().zip(acks) {
            match self.durable.get(&ack.sequence) {
                Some((known, _)) => {
                    assert_eq!(
                        known, number,
                        "sequence {} acknowledged for two messages",
                        ack.sequence
                    );
                }
                None => {
                    self.durable.insert(ack.sequence, (*number, at));
                }
            }
        }
    }

    /// The producer hands these over now.
    pub fn try_append(&mut self, numbers: &[u64]) {
        self.refused.retain(|number| !numbers.contains(number));
        self.tried = numbers
            .iter()
            .copied()
            .filter(|number| !self.keeps(*number))
            .collect();
    }

    /// Whether the log refused them and goes on: then nothing of them may ever show.
    pub fn was_refused(&mut self, is_refused: bool) {
        let tried = std::mem::take(&mut self.tried);
        if is_refused {
            self.refused.extend(tried);
        }
    }

    /// The log gave out places, not synced yet.
    pub fn placed(&mut self, acks: &[Ack]) {
        for ack in acks.iter().filter(|ack| !ack.duplicate) {
            assert!(
                ack.sequence > self.last_durable().max(self.placed),
                "sequence {} went back",
                ack.sequence
            );
            self.placed = ack.sequence;
        }
    }

    /// A reader was given these, having read up to `next` before.
    pub fn show(&mut self, next: u64, batch: &Batch) {
        let mut next = next;
        if let Some(lost) = batch.lost {
            assert!(
                lost.from == next && lost.to >= lost.from,
                "{lost:?} told to a reader at {next}"
            );
            assert!(
                lost.to < self.floor,
                "{lost:?} is lost, though only what is below {} was dropped",
                self.floor
            );
            next = lost.to + 1;
        }
        for record in &batch.records {
            assert_eq!(record.sequence, next, "no holes without a loss told");
            self.show_record(record);
            next += 1;
        }
    }

    fn show_record(&mut self, record: &Record) {
        let number = number_of(record);
        let want = message(self.seed, number);
        assert_eq!(
            (&record.id, &record.subject),
            (&want.id, &want.subject),
            "a record that was never appended"
        );
        assert_eq!(record.payload, want.payload, "record {} changed", record.sequence);
        match self.durable.get(&record.sequence) {
            Some((known, _)) => assert_eq!(
                *known, number,
                "sequence {} holds another message",
                record.sequence
            ),
            None => {
                self.durable.insert(record.sequence, (number, record.stored_at));
            }
        }
    }

    /// The log was opened again and holds `records`, the first at `first_sequence`.
    pub fn recovered(
        &mut self,
        first_sequence: u64,
        next_sequence: u64,
        lost_below: u64,
        records: &[Record],
    ) {
        assert!(
            next_sequence > self.last_durable(),
            "sequences went back to {next_sequence}"
        );
        self.check_retention(first_sequence.max(lost_below));
        self.placed = 0;
        self.floor = self.floor.max(first_sequence).max(lost_below);
        let held: BTreeMap<u64, u64> = records
            .iter()
            .map(|record| (record.sequence, number_of(record)))
            .collect();
        assert_eq!(held.len(), records.len(), "a sequence twice");
        for (sequence, (number, _)) in self.durable.range(self.floor..) {
            assert_eq!(
                held.get(sequence),
                Some(number),
                "sequence {sequence} was acknowledged or shown, and is gone"
            );
        }
        let mut last = 0;
        for record in records {
            let number = number_of(record);
            assert!(
                number > last,
                "message {number} stands behind {last}: twice, or out of order"
            );
            last = number;
            assert!(
                !self.refused.contains(&number),
                "message {number} was refused, and is there"
            );
            self.show_record(record);
        }
    }

    /// What is gone must be what the limit asked for.
    fn check_retention(&self, floor: u64) {
        let mut newer_bytes = 0;
        for (sequence, (number, _)) in self.durable.iter().rev() {
            let frame = 28 + message(self.seed, *number).payload.len() as u64 + 21 + 20;
            newer_bytes += frame;
            let dropped = *sequence < floor && *sequence >= self.floor;
            let margin = 2 * newer_bytes + 2 * self.segment_bytes + 3 * self.batch_max + 256;
            assert!(
                !dropped || margin > self.bytes_max,
                "sequence {sequence} was dropped before its time"
            );
        }
    }

    pub fn position_tried(&mut self, name: &str, sequence: u64) {
        self.positions
            .entry(name.to_owned())
            .or_insert_with(|| vec![None])
            .push(Some(sequence));
    }

    pub fn position_saved(&mut self, name: &str, sequence: u64) {
        self.positions.insert(name.to_owned(), vec![Some(sequence)]);
    }

    pub fn position_loaded(&mut self, name: &str, loaded: Option<(u64, String)>) {
        let allowed = self
            .positions
            .entry(name.to_owned())
            .or_insert_with(|| vec![None]);
        let sequence = loaded.as_ref().map(|(sequence, _)| *sequence);
        assert!(
            allowed.contains(&sequence),
            "position {name} is {sequence:?}, allowed {allowed:?}"
        );
        *allowed = vec![sequence];
        if let Some((sequence, id)) = loaded
            && let Some((number, _)) = self.durable.get(&sequence)
        {
            assert_eq!(
                id,
                message(self.seed, *number).id.0,
                "position {name} names another message"
            );
        }
    }
}
