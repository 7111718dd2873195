//! Operations on a sound ring, answer by answer as the oracle has it.

use crate::memory::{Input, location, ring};
use crate::properties::ops::Step;
use crate::properties::{mpmc, spsc};

const MAX_STEPS: usize = 600;

/// The first bytes choose the ring, each seven after them are a step.
pub fn ops_model(data: &[u8]) {
    let mut input = Input(data);
    let (kind, slot_bytes) = (input.u8(), input.u8());
    let origin = input.origin();
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < MAX_STEPS {
        steps.push(Step::of((input.u8(), input.u16(), input.u32())));
    }
    match kind % 8 {
        0 | 1 => spsc::run_on_heap(4096, origin, &steps),
        2..=5 => mpmc::run_on_heap(2 << (kind % 4), slot_bytes.into(), origin, &steps),
        6 => spsc::run_in_file(location(&ring(false, origin)), origin, &steps),
        _ => mpmc::run_in_file(location(&ring(true, origin)), origin, &steps),
    }
}
