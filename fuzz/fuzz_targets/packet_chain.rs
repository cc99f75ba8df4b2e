//! A story of packets under the packs that ship: what follows from it depends neither on how its packets are batched nor on restarts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfold_fuzz::story::{Step, told};

fuzz_target!(|input: (u8, u8, Vec<Step>)| {
    let (rows, restart_every, steps) = input;
    let (whole, packets) = told(&steps, 4_096, None);
    let row_by_row = told(&steps, 1, None);
    assert!(row_by_row == (whole.clone(), packets), "row by row");
    let stored = told(
        &steps,
        1 + usize::from(rows),
        Some(1 + usize::from(restart_every % 8)),
    );
    assert!(stored == (whole, packets), "stored and loaded");
});
