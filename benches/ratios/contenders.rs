//! What is measured: the contenders of each scenario, one slice at a time.

use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use annulus::{Wait, mpmc, spsc};
use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;

use crate::common::{
    LAST, Locked, Receive, Record, Send, Shelf, alternate, mpmc_consumer, mpmc_producer, now_ns,
    pin, receive_all, send_while, spsc_consumer, spsc_producer, unpin,
};
use crate::peer::{ANY, Blocks, END, Lines, Peer, lateness};

/// Words of a record: with the byte ring's header they fill a line of 64 bytes. The slot ring's
/// word, tag and length make two lines of it.
pub const W: usize = 7;
const SLOTS: u64 = 4096;
/// The byte ring has as many bytes as the others.
const CAPACITY: u64 = SLOTS * 64;
const HERE: usize = 0;
const THERE: usize = 1;
/// How long the processes of the oversubscribed scenario send.
pub const SHARED_SLICE_NS: u64 = 250_000_000;
/// Nanoseconds from record to record at a fixed rate.
const INTERVAL_NS: u64 = 5_000;

/// What a slice found.
pub struct Slice {
    /// Nanoseconds a record, or the median round trip.
    pub ns: f64,
    /// Round trips and latencies only.
    pub trips: Option<Histogram<u64>>,
}

pub struct Contender {
    pub name: &'static str,
    pub run: fn(Duration) -> Slice,
}

pub struct Scenario {
    pub name: &'static str,
    pub floor: Contender,
    pub contenders: Vec<Contender>,
}

fn contender(name: &'static str, run: fn(Duration) -> Slice) -> Contender {
    Contender { name, run }
}

/// In each, what others are compared with comes first.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        // Full speed in one direction: the ring is full or empty most of the time.
        Scenario {
            name: "spsc_stream/56B",
            floor: contender("memcpy, a flag per 32 KiB, processes", floor_stream),
            contenders: vec![
                contender("annulus, processes", |time| {
                    stream_spsc("receive spsc", time)
                }),
                contender("annulus, batches of 32, processes", stream_batches),
                contender("annulus on the heap, threads", |time| {
                    let (tx, rx) = spsc::Options::new(CAPACITY).heap().expect("in range");
                    stream_threads(tx, rx, time)
                }),
                contender("rtrb, threads", |time| {
                    let (tx, rx) = rtrb::RingBuffer::<Record<W>>::new(slots());
                    stream_threads(tx, rx, time)
                }),
                contender("crossbeam ArrayQueue, threads", |time| {
                    let queue = Arc::new(ArrayQueue::<Record<W>>::new(slots()));
                    stream_threads(queue.clone(), queue, time)
                }),
                contender("mutex and VecDeque, threads", |time| {
                    let queue = Locked::<W>::new(slots());
                    stream_threads(queue.clone(), queue, time)
                }),
            ],
        },
        Scenario {
            name: "mpmc_stream_1p1c/56B",
            floor: contender("memcpy, a flag per 32 KiB, processes", floor_stream),
            contenders: vec![
                contender("annulus, processes", stream_mpmc),
                contender("annulus on the heap, threads", |time| {
                    let (tx, rx) = mpmc::Options::new(SLOTS, W as u64 * 8)
                        .heap()
                        .expect("in range");
                    stream_threads(tx, rx, time)
                }),
                contender("crossbeam ArrayQueue, threads", |time| {
                    let queue = Arc::new(ArrayQueue::<Record<W>>::new(slots()));
                    stream_threads(queue.clone(), queue, time)
                }),
                contender("mutex and VecDeque, threads", |time| {
                    let queue = Locked::<W>::new(slots());
                    stream_threads(queue.clone(), queue, time)
                }),
            ],
        },
        // Oversubscribed on two processors: each contender waits as its documents say.
        Scenario {
            name: "mpmc_stream_2p2c/56B",
            floor: contender("memcpy, a flag per 32 KiB, processes", floor_stream),
            contenders: vec![
                contender("annulus, blocking, processes", shared_mpmc),
                contender("crossbeam ArrayQueue, yielding, threads", |_| {
                    let queue = Arc::new(ArrayQueue::<Record<W>>::new(slots()));
                    shared_threads(&queue, &queue)
                }),
                contender("mutex and VecDeque, yielding, threads", |_| {
                    let queue = Locked::<W>::new(slots());
                    shared_threads(&queue, &queue)
                }),
            ],
        },
        // One record under way at a time, both sides spinning.
        Scenario {
            name: "round_trip/56B",
            floor: contender(
                "a line with a word and 56 bytes, processes",
                floor_round_trip,
            ),
            contenders: vec![
                contender("annulus spsc, processes", |time| {
                    let shelf = Shelf::new();
                    create_spsc(&shelf);
                    let peer = Peer::start("echo spsc", &shelf.path(""), "1");
                    let tx = spsc_producer(&shelf.path("there"));
                    trips(tx, spsc_consumer(&shelf.path("back")), time, peer)
                }),
                contender("annulus mpmc, processes", |time| {
                    let shelf = Shelf::new();
                    create_mpmc(&shelf);
                    let peer = Peer::start("echo mpmc", &shelf.path(""), "1");
                    let tx = mpmc_producer(&shelf.path("there"));
                    trips(tx, mpmc_consumer(&shelf.path("back")), time, peer)
                }),
                contender("rtrb, threads", |time| {
                    let (there, far) = rtrb::RingBuffer::<Record<W>>::new(slots());
                    let (back, near) = rtrb::RingBuffer::<Record<W>>::new(slots());
                    trips_threads((there, far), (back, near), time)
                }),
                contender("crossbeam ArrayQueue, threads", |time| {
                    let queue = || {
                        let queue = Arc::new(ArrayQueue::<Record<W>>::new(slots()));
                        (queue.clone(), queue)
                    };
                    trips_threads(queue(), queue(), time)
                }),
            ],
        },
        // The same, but whoever has nothing to do may sleep, on a processor of its own.
        Scenario {
            name: "blocking_round_trip/two processors",
            floor: contender("a futex word, processes", |time| floor_futex(time, "1")),
            contenders: vec![
                contender("annulus spsc, processes", |time| blocking_spsc(time, "1")),
                contender("annulus mpmc, processes", |time| blocking_mpmc(time, "1")),
                contender("std sync_channel, threads", |time| {
                    blocking_channel(time, THERE)
                }),
            ],
        },
        // And on one processor, where the other side cannot go on before one sleeps.
        Scenario {
            name: "blocking_round_trip/one processor",
            floor: contender("a futex word, processes", |time| floor_futex(time, "0")),
            contenders: vec![
                contender("annulus spsc, processes", |time| blocking_spsc(time, "0")),
                contender("annulus mpmc, processes", |time| blocking_mpmc(time, "0")),
                contender("std sync_channel, threads", |time| {
                    blocking_channel(time, HERE)
                }),
            ],
        },
        // Records at 200,000 a second, each as late as it is against its plan: time in which the
        // sender was held up counts too.
        Scenario {
            name: "fixed_rate/56B",
            floor: contender(
                "a line with a word and 56 bytes, processes",
                floor_round_trip,
            ),
            contenders: vec![
                contender("annulus spsc, processes", |time| {
                    let shelf = Shelf::new();
                    create_spsc(&shelf);
                    let peer = Peer::start("late spsc", &shelf.path(""), "1");
                    late(&mut spsc_producer(&shelf.path("there")), time, || {
                        peer.ends()
                    })
                }),
                contender("annulus mpmc, processes", |time| {
                    let shelf = Shelf::new();
                    create_mpmc(&shelf);
                    let peer = Peer::start("late mpmc", &shelf.path(""), "1");
                    late(&mut mpmc_producer(&shelf.path("there")), time, || {
                        peer.ends()
                    })
                }),
                contender("rtrb, threads", |time| {
                    let (mut tx, mut rx) = rtrb::RingBuffer::<Record<W>>::new(slots());
                    let receiver = thread::spawn(move || {
                        pin(THERE);
                        lateness(&mut rx)
                    });
                    late(&mut tx, time, || {
                        let found = receiver.join().expect("it checks every record");
                        found
                            .split(' ')
                            .map(|word| word.parse().expect("a number"))
                            .collect()
                    })
                }),
            ],
        },
    ]
}

fn slots() -> usize {
    usize::try_from(SLOTS).expect("a small number")
}

fn create_spsc(shelf: &Shelf) {
    for name in ["there", "back"] {
        spsc::Options::new(CAPACITY)
            .create(shelf.path(name))
            .expect("a new folder");
    }
}

fn create_mpmc(shelf: &Shelf) {
    for name in ["there", "back"] {
        mpmc::Options::new(SLOTS, W as u64 * 8)
            .create(shelf.path(name))
            .expect("a new folder");
    }
}

#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
fn per_record(elapsed_ns: u64, records: u64) -> Slice {
    Slice {
        ns: elapsed_ns as f64 / records.max(1) as f64,
        trips: None,
    }
}

fn ns_of(time: Duration) -> u64 {
    time.as_nanos().try_into().expect("a short time")
}

/// Sends for a time, and asks the peer how many came, and when the last one did.
fn stream(peer: Peer, time: Duration, send: impl FnOnce(&mut dyn FnMut() -> bool) -> u64) -> Slice {
    pin(HERE);
    let start = now_ns();
    let end = start + ns_of(time);
    let sent = send(&mut || now_ns() < end);
    let found = peer.ends();
    assert_eq!(found[0], sent, "records are missing");
    per_record(found[1] - start, sent)
}

fn stream_spsc(part: &str, time: Duration) -> Slice {
    let shelf = Shelf::new();
    create_spsc(&shelf);
    let peer = Peer::start(part, &shelf.path(""), "1");
    let mut tx = spsc_producer(&shelf.path("there"));
    stream(peer, time, |more| send_while::<W>(&mut tx, |_| more()))
}

fn stream_mpmc(time: Duration) -> Slice {
    let shelf = Shelf::new();
    create_mpmc(&shelf);
    let peer = Peer::start("receive mpmc", &shelf.path(""), "1");
    let mut tx = mpmc_producer(&shelf.path("there"));
    stream(peer, time, |more| send_while::<W>(&mut tx, |_| more()))
}

fn stream_batches(time: Duration) -> Slice {
    let shelf = Shelf::new();
    create_spsc(&shelf);
    let peer = Peer::start("receive spsc ahead", &shelf.path(""), "1");
    let mut tx = spsc_producer(&shelf.path("there"));
    stream(peer, time, |more| {
        let mut number = 0;
        while more() {
            for _ in 0..32 {
                let end = number + 32;
                while number < end {
                    let mut batch = tx.batch();
                    while number < end {
                        let Ok(mut claim) = batch.try_claim(W * 8) else {
                            break;
                        };
                        claim.copy_from_slice(bytemuck::bytes_of(&[number; W]));
                        claim.stage(0);
                        number += 1;
                    }
                    batch.commit();
                }
            }
        }
        Send::<W>::send(&mut tx, LAST);
        number
    })
}

fn floor_stream(time: Duration) -> Slice {
    let shelf = Shelf::new();
    let blocks = Blocks::open(&shelf.path("there"));
    let peer = Peer::start("receive blocks", &shelf.path(""), "1");
    stream(peer, time, |more| blocks.send_while(more))
}

fn stream_threads<T, R>(mut tx: T, mut rx: R, time: Duration) -> Slice
where
    T: Send<W> + std::marker::Send,
    R: Receive<W> + std::marker::Send,
{
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            pin(THERE);
            ready.wait();
            (receive_all(&mut rx), now_ns())
        });
        pin(HERE);
        ready.wait();
        let start = now_ns();
        let end = start + ns_of(time);
        let sent = send_while(&mut tx, |_| now_ns() < end);
        let (count, last) = receiver.join().expect("it checks every record");
        assert_eq!(count, sent, "records are missing");
        per_record(last - start, sent)
    })
}

/// Two processes send and two receive, none of them pinned.
fn shared_mpmc(_time: Duration) -> Slice {
    let shelf = Shelf::new();
    create_mpmc(&shelf);
    let closer = mpmc_producer(&shelf.path("there"));
    let start = |part| [0; 2].map(|_| Peer::start(part, &shelf.path(""), ANY));
    let (mut senders, receivers) = (start("share mpmc in"), start("share mpmc out"));
    let begin = now_ns();
    senders.iter_mut().for_each(Peer::go);
    let sent = senders.map(Peer::ends);
    closer.close();
    let received = receivers.map(Peer::ends);
    for what in [0, 1] {
        let total = |all: &[Vec<u64>]| all.iter().map(|one| one[what]).sum::<u64>();
        assert_eq!(total(&sent), total(&received), "records are missing");
    }
    let end = received[0][2].max(received[1][2]);
    per_record(end - begin, received[0][0] + received[1][0])
}

/// Two threads send and two receive, none of them pinned.
fn shared_threads<T, R>(tx: &T, rx: &R) -> Slice
where
    T: Send<W> + Clone + std::marker::Send,
    R: Receive<W> + Clone + std::marker::Send,
{
    assert!(unpin(), "threads are free to move");
    let (start, mut last) = (now_ns(), tx.clone());
    let end = start + SHARED_SLICE_NS;
    thread::scope(|scope| {
        let senders = [tx.clone(), tx.clone()].map(|mut tx| {
            scope.spawn(move || {
                let (mut number, mut sum) = (0, 0);
                while now_ns() < end {
                    for _ in 0..256 {
                        while !tx.try_send(number) {
                            thread::yield_now();
                        }
                        (number, sum) = (number + 1, sum + number);
                    }
                }
                (number, sum)
            })
        });
        let receivers = [rx.clone(), rx.clone()].map(|mut rx| {
            scope.spawn(move || {
                let (mut count, mut sum) = (0, 0);
                loop {
                    match rx.try_receive() {
                        Some(LAST) => return (count, sum),
                        Some(number) => (count, sum) = (count + 1, sum + number),
                        None => thread::yield_now(),
                    }
                }
            })
        });
        let add = |all: (u64, u64), one: (u64, u64)| (all.0 + one.0, all.1 + one.1);
        let sent = senders
            .map(|one| one.join().expect("it only sends"))
            .into_iter()
            .fold((0, 0), add);
        receivers.iter().for_each(|_| last.send(LAST));
        let received = receivers.map(|one| one.join().expect("all is whole"));
        assert_eq!(
            received.into_iter().fold((0, 0), add),
            sent,
            "records are missing"
        );
        per_record(now_ns() - start, sent.0)
    })
}

fn of_trips(trips: Histogram<u64>) -> Slice {
    #[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
    let ns = trips.value_at_quantile(0.5) as f64;
    Slice {
        ns,
        trips: Some(trips),
    }
}

/// Round trips for a time, one by one.
fn measure(time: Duration, mut trip: impl FnMut(u64)) -> Slice {
    let mut trips = Histogram::<u64>::new(3).expect("3 digits");
    let end = now_ns() + ns_of(time);
    let mut number = 1;
    let mut before = now_ns();
    while before < end {
        trip(number);
        let after = now_ns();
        trips.record(after - before).expect("it grows");
        (before, number) = (after, number + 1);
    }
    of_trips(trips)
}

fn trips(mut tx: impl Send<W>, mut rx: impl Receive<W>, time: Duration, peer: Peer) -> Slice {
    pin(HERE);
    let slice = measure(time, |number| {
        tx.send(number);
        assert_eq!(rx.receive(), number);
    });
    tx.send(LAST);
    assert_eq!(rx.receive(), LAST);
    peer.ends();
    slice
}

fn trips_threads<T, R>(
    (mut there, mut far): (T, R),
    (mut back, mut near): (T, R),
    time: Duration,
) -> Slice
where
    T: Send<W> + std::marker::Send,
    R: Receive<W> + std::marker::Send,
{
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(THERE);
            loop {
                let number = far.receive();
                back.send(number);
                if number == LAST {
                    return;
                }
            }
        });
        pin(HERE);
        let slice = measure(time, |number| {
            there.send(number);
            assert_eq!(near.receive(), number);
        });
        there.send(LAST);
        assert_eq!(near.receive(), LAST);
        slice
    })
}

fn floor_round_trip(time: Duration) -> Slice {
    let shelf = Shelf::new();
    let lines = Lines::open(&shelf.path("there"));
    let peer = Peer::start("echo line", &shelf.path(""), "1");
    pin(HERE);
    let slice = measure(time, |number| {
        lines.write(0, number);
        assert_eq!(lines.wait(1, number - 1), number);
    });
    lines.write(0, LAST);
    peer.ends();
    slice
}

fn floor_futex(time: Duration, cpu: &str) -> Slice {
    let shelf = Shelf::new();
    let lines = Lines::open(&shelf.path("there"));
    let peer = Peer::start("echo futex", &shelf.path(""), cpu);
    pin(HERE);
    let slice = measure(time, |_| {
        lines.give_turn(1);
        assert!(lines.await_turn(0));
    });
    lines.give_turn(END);
    peer.ends();
    slice
}

fn blocking_spsc(time: Duration, cpu: &str) -> Slice {
    let shelf = Shelf::new();
    create_spsc(&shelf);
    let peer = Peer::start("echo spsc blocking", &shelf.path(""), cpu);
    let mut tx = spsc_producer(&shelf.path("there"));
    let mut rx = spsc_consumer(&shelf.path("back"));
    pin(HERE);
    let slice = measure(time, |number| {
        let tag = tag_of(number);
        tx.push(tag, &[1; W * 8], Wait::block())
            .expect("it stays open");
        assert_eq!(rx.read(Wait::block()).map(|record| record.tag()), Ok(tag));
    });
    tx.close();
    peer.ends();
    slice
}

fn blocking_mpmc(time: Duration, cpu: &str) -> Slice {
    let shelf = Shelf::new();
    create_mpmc(&shelf);
    let peer = Peer::start("echo mpmc blocking", &shelf.path(""), cpu);
    let tx = mpmc_producer(&shelf.path("there"));
    let rx = mpmc_consumer(&shelf.path("back"));
    pin(HERE);
    let slice = measure(time, |number| {
        let tag = tag_of(number);
        tx.push(tag, &[1; W * 8], Wait::block())
            .expect("it stays open");
        assert_eq!(rx.read(Wait::block()).map(|record| record.tag()), Ok(tag));
    });
    tx.close();
    peer.ends();
    slice
}

#[expect(clippy::cast_possible_truncation, reason = "tags may repeat")]
fn tag_of(number: u64) -> u32 {
    number as u32
}

fn blocking_channel(time: Duration, cpu: usize) -> Slice {
    let (there, far) = sync_channel::<Record<W>>(slots());
    let (back, near) = sync_channel::<Record<W>>(slots());
    let echo = thread::spawn(move || {
        pin(cpu);
        while let Ok(record) = far.recv() {
            back.send(record).expect("somebody receives");
        }
    });
    pin(HERE);
    let slice = measure(time, |number| {
        there.send([number; W]).expect("somebody receives");
        assert_eq!(near.recv().map(|record| record[0]), Ok(number));
    });
    drop(there);
    echo.join().expect("it only echoes");
    slice
}

/// Sends at a fixed rate, and asks the receiver how late the records were.
fn late(tx: &mut impl Send<W>, time: Duration, found: impl FnOnce() -> Vec<u64>) -> Slice {
    pin(HERE);
    let start = now_ns();
    let mut intended = start;
    while intended < start + ns_of(time) {
        while now_ns() < intended {
            std::hint::spin_loop();
        }
        tx.send(intended);
        intended += INTERVAL_NS;
    }
    tx.send(LAST);
    let mut late = Histogram::new(3).expect("3 digits");
    for pair in found().chunks_exact(2) {
        late.record_n(pair[0], pair[1]).expect("it grows");
    }
    of_trips(late)
}

/// Nanoseconds that a look at the clock takes.
pub fn clock_ns() -> f64 {
    const LOOKS: u64 = 100_000;
    let start = now_ns();
    for _ in 0..LOOKS {
        black_box(now_ns());
    }
    per_record(now_ns() - start, LOOKS).ns
}

/// Moves so many records through one thread: for tools that count instructions.
pub fn count(ring: &str, records: u64) {
    let shelf = Shelf::new();
    let path = shelf.path("there");
    match ring {
        "spsc" => {
            create_spsc(&shelf);
            let (mut tx, mut rx) = (spsc_producer(&path), spsc_consumer(&path));
            alternate::<W>(&mut tx, &mut rx, records);
        }
        "mpmc" => {
            create_mpmc(&shelf);
            let (mut tx, mut rx) = (mpmc_producer(&path), mpmc_consumer(&path));
            alternate::<W>(&mut tx, &mut rx, records);
        }
        "rtrb" => {
            let (mut tx, mut rx) = rtrb::RingBuffer::<Record<W>>::new(slots());
            alternate(&mut tx, &mut rx, records);
        }
        "queue" => {
            let mut tx = Arc::new(ArrayQueue::<Record<W>>::new(slots()));
            alternate(&mut tx.clone(), &mut tx, records);
        }
        other => panic!("no such ring: {other}"),
    }
}
