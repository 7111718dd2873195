//! cargo bench --all-features --bench ratios
//!
//! Ratios to what the machine itself can do, and to others' rings, in slices taken one after the
//! other: on a shared machine the same hand-off takes 58 ns in one second and 600 ns in the next,
//! so only what is measured side by side can be compared.
//!
//! Each round runs every contender for a slice, in an order that rotates from round to round, with a
//! slice of the physical floor before and after each. What is printed is the median of the rounds'
//! ratios with their least and greatest. Annulus runs between two pinned processes on a pre-faulted
//! ring in /dev/shm; what is made for threads runs as two pinned threads, which flatters it. The
//! sender writes every byte of every record, the receiver checks every byte and the order.
//!
//! - `-- --test`: one tiny round, to see that it works.
//! - `-- SCENARIO`: those whose name contains it.
//! - `-- count spsc 10000`: that many records through one thread, for callgrind; see `count`.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::fs::OpenOptions;
use std::hint::spin_loop;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use annulus::{Wait, mpmc, spsc};
use common::{Locked, Receive, Record, Send, Shelf, now_ns, pin, receive_all, send_while};
use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;
use memmap2::{MmapOptions, MmapRaw};

/// Words of a record: with the byte ring's header they fill a line of 64 bytes.
const W: usize = 7;
const SLOTS: u64 = 4096;
/// The byte ring has as many bytes as the others.
const CAPACITY: u64 = SLOTS * 64;
const SENDER: usize = 0;
const RECEIVER: usize = 1;

type Row = Record<W>;

/// How long, and how often.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    slice: Duration,
    floor: Duration,
}

/// What a slice found.
struct Slice {
    /// Nanoseconds a record, or the median round trip.
    ns: f64,
    /// Round trips only.
    trips: Option<Histogram<u64>>,
}

struct Contender {
    name: &'static str,
    run: fn(Duration) -> Slice,
}

struct Scenario {
    name: &'static str,
    floor: Contender,
    contenders: Vec<Contender>,
}

fn scenarios() -> Vec<Scenario> {
    let contender = |name, run| Contender { name, run };
    vec![
        Scenario {
            name: "spsc_stream/56B",
            floor: contender("memcpy with a flag per 32 KiB, processes", floor_stream),
            contenders: vec![
                contender("annulus, processes", |time| stream_processes("spsc", time)),
                contender("annulus batch of 32, processes", |time| {
                    stream_processes("spsc_batch", time)
                }),
                contender("annulus heap, threads", || spsc_heap(), ),
            ],
        },
    ]
}
