//! cargo bench --all-features --bench birth
//!
//! How long it takes to create a ring of a mebibyte and to attach to it, its pages touched and the
//! handle dropped again: a small part of a millisecond, or every restart would be felt.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::{mpmc, spsc};
use common::Shelf;
use criterion::{Criterion, criterion_group, criterion_main};

const BYTES: u64 = 1 << 20;
/// Bytes of a record that has two cache lines with the slot's word, tag and length.
const RECORD: u64 = 112;

/// What `timed` takes, each time after an untimed `prepare`.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    mut prepare: impl FnMut(),
    mut timed: impl FnMut(),
) {
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut all = Duration::ZERO;
            for _ in 0..times {
                prepare();
                let begun = Instant::now();
                timed();
                all += begun.elapsed();
            }
            all
        });
    });
}

fn remove(path: &Path) {
    // There is none the first time.
    let _ = std::fs::remove_file(path);
}

fn byte_ring(criterion: &mut Criterion) {
    let shelf = Shelf::new();
    let path = shelf.path("spsc");
    let options = spsc::Options::new(BYTES);
    let create = || options.create(&path).expect("a new ring");
    measure(
        criterion,
        "birth/spsc/create_1MiB",
        || remove(&path),
        create,
    );
    measure(
        criterion,
        "birth/spsc/attach",
        || (),
        || drop(common::spsc_producer(&path)),
    );
}

fn slot_ring(criterion: &mut Criterion) {
    let shelf = Shelf::new();
    let path = shelf.path("mpmc");
    let options = mpmc::Options::new(BYTES / 128, RECORD);
    let create = || options.create(&path).expect("a new ring");
    measure(
        criterion,
        "birth/mpmc/create_1MiB",
        || remove(&path),
        create,
    );
    measure(
        criterion,
        "birth/mpmc/attach",
        || (),
        || drop(common::mpmc_producer(&path)),
    );
}

criterion_group!(benches, byte_ring, slot_ring);
criterion_main!(benches);
