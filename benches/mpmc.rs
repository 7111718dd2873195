//! cargo bench --all-features --bench mpmc
//!
//! The slot ring beside crossbeam's `ArrayQueue`, std's channel and a mutex. Times on a busy
//! machine mean little by themselves: `annulus bench` compares, this is for a look at one thing.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use annulus::mpmc::Options;
use common::{LAST, Locked, Receive, Send, Shelf, alternate, pin, receive_all, send_while};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use crossbeam_queue::ArrayQueue;

/// Words of a record: with the slot's word, tag and length 64 bytes.
const W: usize = 6;
const BYTES: u64 = W as u64 * 8;
const SLOTS: usize = 1024;

fn options() -> Options {
    Options::new(SLOTS as u64, BYTES)
}

/// Instructions only: one thread, the ring nearly empty and in its own cache.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mpmc_alone");
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
    options().create(&path).expect("a new ring");
    let (tx, rx) = (common::mpmc_producer(&path), common::mpmc_consumer(&path));
    bench("annulus", Box::new(tx), Box::new(rx));
    let (tx, rx) = options().heap().expect("numbers in range");
    bench("annulus_heap", Box::new(tx), Box::new(rx));
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

/// Several handles on each side. 1p1c: two processors hand over at full speed. 2p2c: on two
/// processors oversubscribed, so that a thread that finds nothing gives its time slice away.
fn shared(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mpmc_shared");
    group.throughput(Throughput::Elements(1024));
    let shelf = Shelf::new();
    for sides in [1, 2] {
        let param = format!("{BYTES}B/{SLOTS}slots/{sides}p{sides}c");
        macro_rules! bench {
            ($subject:literal, $pair:expr) => {
                group.bench_function(BenchmarkId::new($subject, &param), |bencher| {
                    bencher.iter_custom(|blocks| {
                        let handles = $pair;
                        many(handles.0, handles.1, blocks)
                    });
                });
            };
        }
        bench!("annulus", {
            let path = shelf.path("shared");
            // Each measurement begins with a new ring; there is none at the first one.
            let _ = std::fs::remove_file(&path);
            options().create(&path).expect("a new ring");
            let producers: Vec<_> = (0..=sides).map(|_| common::mpmc_producer(&path)).collect();
            let consumers: Vec<_> = (0..sides).map(|_| common::mpmc_consumer(&path)).collect();
            (producers, consumers)
        });
        bench!("crossbeam_array_queue", {
            let queue = Arc::new(ArrayQueue::<common::Record<W>>::new(SLOTS));
            (vec![queue.clone(); sides + 1], vec![queue; sides])
        });
        bench!("mutex_vecdeque", {
            let queue = Locked::<W>::new(SLOTS);
            (vec![queue.clone(); sides + 1], vec![queue; sides])
        });
    }
    group.finish();
}

/// How long it takes to move `blocks` of 1024 records. Each number is received once: their sum and
/// count are checked. The last one of `txs` tells the receivers of the end.
fn many<T, R>(mut txs: Vec<T>, rxs: Vec<R>, blocks: u64) -> Duration
where
    T: Send<W> + std::marker::Send,
    R: Receive<W> + std::marker::Send,
{
    let records = blocks * 1024;
    let next = &AtomicU64::new(0);
    let ready = &Barrier::new(txs.len() + rxs.len());
    let crowded = txs.len() > 2;
    let mut end = txs.pop().expect("one more than there are senders");
    thread::scope(|scope| {
        let senders: Vec<_> = txs
            .into_iter()
            .map(|mut tx| {
                scope.spawn(move || {
                    place(crowded, 1);
                    ready.wait();
                    // Numbers are taken 64 at a time, so that their counter is no bottleneck.
                    loop {
                        let first = next.fetch_add(64, Ordering::Relaxed);
                        if first >= records {
                            return;
                        }
                        (first..first + 64).for_each(|number| push(&mut tx, number, crowded));
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = rxs
            .into_iter()
            .map(|mut rx| {
                scope.spawn(move || {
                    place(crowded, 0);
                    ready.wait();
                    let (mut count, mut sum) = (0, 0);
                    loop {
                        match rx.try_receive() {
                            Some(LAST) => return (count, sum),
                            Some(number) => (count, sum) = (count + 1, sum + number),
                            None => pause(crowded),
                        }
                    }
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        senders
            .into_iter()
            .for_each(|sender| sender.join().expect("it only sends"));
        receivers.iter().for_each(|_| push(&mut end, LAST, true));
        let received = receivers
            .into_iter()
            .map(|receiver| receiver.join().expect("all is whole"));
        let (count, sum) = received.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let elapsed = start.elapsed();
        assert_eq!((count, sum), (records, records * (records - 1) / 2));
        elapsed
    })
}

fn place(crowded: bool, nth: usize) {
    if !crowded {
        pin(nth);
    }
}

fn push(tx: &mut impl Send<W>, number: u64, crowded: bool) {
    while !tx.try_send(number) {
        pause(crowded);
    }
}

fn pause(crowded: bool) {
    if crowded {
        thread::yield_now()
    } else {
        std::hint::spin_loop()
    }
}

/// The same between two processes, each pinned to its processor.
fn processes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mpmc_processes");
    group.throughput(Throughput::Elements(1024));
    let param = format!("{BYTES}B/{SLOTS}slots");
    group.bench_function(BenchmarkId::new("annulus", param), |bencher| {
        bencher.iter_custom(|blocks| {
            let shelf = Shelf::new();
            let (there, back) = (shelf.path("there"), shelf.path("back"));
            options().create(&there).expect("a new ring");
            options().create(&back).expect("a new ring");
            let mut tx = common::mpmc_producer(&there);
            let mut answers = common::mpmc_consumer(&back);
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
    let mut rx = common::mpmc_consumer(&folder.join("there"));
    let mut answers = common::mpmc_producer(&folder.join("back"));
    Send::<W>::send(&mut answers, 0);
    let count = receive_all::<W>(&mut rx);
    Send::<W>::send(&mut answers, count);
}

/// Every contender delivers what it was given, in order, before any is timed.
fn check() {
    fn one(mut tx: impl Send<W>, mut rx: impl Receive<W>) {
        alternate(&mut tx, &mut rx, 3 * SLOTS as u64);
    }
    let (tx, rx) = options().heap().expect("numbers in range");
    one(tx, rx);
    let queue = Arc::new(ArrayQueue::<common::Record<W>>::new(SLOTS));
    one(queue.clone(), queue);
    let (tx, rx) = sync_channel::<common::Record<W>>(SLOTS);
    one(tx, rx);
    let queue = Locked::<W>::new(SLOTS);
    one(queue.clone(), queue);
}

criterion_group!(benches, alone, shared, processes);

fn main() {
    if let Some(folder) = std::env::var_os(PEER) {
        return play_peer(std::path::Path::new(&folder));
    }
    check();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
