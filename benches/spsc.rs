//! cargo bench --all-features --bench spsc
//!
//! The byte ring beside rtrb, crossbeam's `ArrayQueue`, std's channel and a mutex. Times on a busy
//! machine mean little by themselves: `annulus bench` compares, this is for a look at one thing.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use annulus::spsc::Options;
use common::{Locked, Receive, Send, Shelf, alternate, pin, receive_all, send_while};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use crossbeam_queue::ArrayQueue;

/// Words of a record: with the byte ring's header 64 bytes.
const W: usize = 7;
const BYTES: u64 = W as u64 * 8;
const SLOTS: usize = 1024;
/// As many bytes as the contenders with slots have.
const CAPACITY: u64 = SLOTS as u64 * 64;

/// Instructions only: one thread, the ring nearly empty and in its own cache.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc_alone");
    group.throughput(Throughput::Elements(1));
    let param = format!("{BYTES}B/{SLOTS}slots");
    let mut bench = |subject: &str, mut tx: Box<dyn Send<W>>, mut rx: Box<dyn Receive<W>>| {
        // The same virtual call for each.
        let mut one = move || {
            tx.send(7);
            assert_eq!(rx.receive(), 7);
        };
        one();
        group.bench_function(BenchmarkId::new(subject, &param), |bencher| {
            bencher.iter(&mut one)
        });
    };
    let shelf = Shelf::new();
    let path = shelf.path("alone");
    Options::new(CAPACITY).create(&path).expect("a new ring");
    let (tx, rx) = (common::spsc_producer(&path), common::spsc_consumer(&path));
    bench("annulus", Box::new(tx), Box::new(rx));
    let (tx, rx) = Options::new(CAPACITY).heap().expect("numbers in range");
    bench("annulus_heap", Box::new(tx), Box::new(rx));
    let (tx, rx) = rtrb::RingBuffer::new(SLOTS);
    bench("rtrb", Box::new(tx), Box::new(rx));
    let queue = Arc::new(ArrayQueue::new(SLOTS));
    bench(
        "crossbeam_array_queue",
        Box::new(queue.clone()),
        Box::new(queue),
    );
    let (tx, rx) = sync_channel(SLOTS);
    bench("std_mpsc", Box::new(tx), Box::new(rx));
    let queue = Locked::new(SLOTS);
    bench("mutex_vecdeque", Box::new(queue.clone()), Box::new(queue));
    group.finish();
}

/// Hand-off between two processors at full speed: the ring runs full or empty most of the time, and
/// every record's cache line changes hands. Two pinned threads.
fn oneway(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc_oneway");
    group.throughput(Throughput::Elements(1024));
    let param = format!("{BYTES}B/{SLOTS}slots");
    macro_rules! bench {
        ($subject:literal, $pair:expr) => {
            group.bench_function(BenchmarkId::new($subject, &param), |bencher| {
                bencher.iter_custom(|blocks| {
                    let (tx, rx) = $pair;
                    stream(tx, rx, blocks)
                });
            });
        };
    }
    let shelf = Shelf::new();
    let file = || {
        let path = shelf.path("oneway");
        // Each measurement begins with a new ring; there is none at the first one.
        let _ = std::fs::remove_file(&path);
        Options::new(CAPACITY).create(&path).expect("a new ring");
        (common::spsc_producer(&path), common::spsc_consumer(&path))
    };
    bench!("annulus", file());
    bench!(
        "annulus_heap",
        Options::new(CAPACITY).heap().expect("numbers in range")
    );
    bench!("rtrb", rtrb::RingBuffer::<common::Record<W>>::new(SLOTS));
    bench!(
        "crossbeam_array_queue",
        twice(Arc::new(ArrayQueue::<common::Record<W>>::new(SLOTS)))
    );
    bench!("std_mpsc", sync_channel::<common::Record<W>>(SLOTS));
    bench!("mutex_vecdeque", twice(Locked::<W>::new(SLOTS)));
    group.finish();
}

fn twice<Q: Clone>(queue: Q) -> (Q, Q) {
    (queue.clone(), queue)
}

/// How long it takes to move `blocks` of 1024 records; every one is checked.
fn stream<T, R>(mut tx: T, mut rx: R, blocks: u64) -> Duration
where
    T: Send<W> + std::marker::Send,
    R: Receive<W> + std::marker::Send,
{
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            ready.wait();
            send_while(&mut tx, |number| number < blocks * 1024);
        });
        let receiver = scope.spawn(|| {
            pin(0);
            ready.wait();
            let start = Instant::now();
            assert_eq!(receive_all(&mut rx), blocks * 1024);
            start.elapsed()
        });
        receiver.join().expect("it checks every record")
    })
}

/// The same between two processes, each pinned to its processor.
fn processes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc_processes");
    group.throughput(Throughput::Elements(1024));
    let param = format!("{BYTES}B/{SLOTS}slots");
    group.bench_function(BenchmarkId::new("annulus", param), |bencher| {
        bencher.iter_custom(|blocks| {
            let shelf = Shelf::new();
            let (there, back) = (shelf.path("there"), shelf.path("back"));
            Options::new(CAPACITY).create(&there).expect("a new ring");
            Options::new(CAPACITY).create(&back).expect("a new ring");
            let mut tx = common::spsc_producer(&there);
            let mut answers = common::spsc_consumer(&back);
            let mut peer = peer(&shelf);
            pin(1);
            assert_eq!(Receive::<W>::receive(&mut answers), 0, "the peer is there");
            let start = Instant::now();
            send_while::<W>(&mut tx, |number| number < blocks * 1024);
            assert_eq!(Receive::<W>::receive(&mut answers), blocks * 1024);
            let elapsed = start.elapsed();
            assert!(peer.wait().expect("it is our child").success());
            elapsed
        });
    });
    group.finish();
}

/// Where the rings of the peer process are.
const PEER: &str = "ANNULUS_BENCH_PEER";

fn peer(shelf: &Shelf) -> Child {
    let program = std::env::current_exe().expect("we are running");
    let mut command = Command::new(program);
    command.env(PEER, shelf.path("")).stdin(Stdio::null());
    command.spawn().expect("this program starts")
}

fn play_peer(folder: &std::path::Path) {
    pin(0);
    let mut rx = common::spsc_consumer(&folder.join("there"));
    let mut answers = common::spsc_producer(&folder.join("back"));
    Send::<W>::send(&mut answers, 0);
    let count = receive_all::<W>(&mut rx);
    Send::<W>::send(&mut answers, count);
}

/// Every contender delivers what it was given, in order, before any is timed.
fn check() {
    fn one(mut tx: impl Send<W>, mut rx: impl Receive<W>) {
        alternate(&mut tx, &mut rx, 3 * SLOTS as u64);
    }
    let (tx, rx) = Options::new(CAPACITY).heap().expect("numbers in range");
    one(tx, rx);
    let (tx, rx) = rtrb::RingBuffer::<common::Record<W>>::new(SLOTS);
    one(tx, rx);
    let (tx, rx) = twice(Arc::new(ArrayQueue::<common::Record<W>>::new(SLOTS)));
    one(tx, rx);
    let (tx, rx) = sync_channel::<common::Record<W>>(SLOTS);
    one(tx, rx);
    let (tx, rx) = twice(Locked::<W>::new(SLOTS));
    one(tx, rx);
}

criterion_group!(benches, alone, oneway, processes);

fn main() {
    if let Some(folder) = std::env::var_os(PEER) {
        return play_peer(std::path::Path::new(&folder));
    }
    check();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
