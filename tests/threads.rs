//! Threads that do everything to one ring at once: every kind of claim, batch and wait, records
//! given back, and the end of the stream. What was committed comes out once, whole, and in the SPSC
//! ring in its order.
//!
//! Written for ThreadSanitizer (`cargo xtask sanitize thread`), which watches the payloads
//! themselves rather than loom's leases, on real threads. On the heap it sees each access. Of a
//! mapped ring every handle has a mapping of its own, at its own address, and the sanitizer, which
//! goes by addresses, sees that these are the same bytes no more than it would see another process:
//! there it watches what handles keep outside the ring.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;

use annulus::{ReadError, TryClaimError, TryReadError, Wait, ZeroCopy, mpmc, spsc};

/// Records that each producer commits.
const RECORDS: u32 = 4_000;
const LONGEST: usize = 56;

/// Chooses what to do next; its seed is the thread's number.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % sides
    }

    fn wait(&mut self) -> Wait {
        match self.roll(8) {
            0 => Wait::spin(),
            1 => Wait::yielding(),
            _ => Wait::block(),
        }
    }
}

/// The bytes of the record with this tag.
fn payload(tag: u32) -> Vec<u8> {
    let first = tag.to_le_bytes()[0];
    vec![first; 8 + tag as usize % (LONGEST - 7)]
}

fn check(tag: u32, bytes: &[u8]) {
    assert_eq!(bytes, payload(tag), "the bytes of record {tag}");
}

/// Results of threads, joined one by one: the end of a scope alone would hide from the sanitizer
/// that they have ended.
fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let results = threads
        .into_iter()
        .map(|thread| thread.join().expect("no thread panics"));
    results.collect()
}

/// Commits the records `tags`, each in its own way.
fn produce<A: ZeroCopy>(
    producer: &mpmc::Producer<A>,
    tags: core::ops::Range<u32>,
    dice: &mut Dice,
) {
    let mut tags = tags.peekable();
    while let Some(&tag) = tags.peek() {
        match dice.roll(6) {
            0 => producer.claim(8, dice.wait()).expect("it is open").abort(),
            1 => {
                let batch = producer.batch();
                stage(batch, &mut tags, dice);
            }
            2 => {
                let bytes = payload(tag);
                let mut claim = producer.claim(LONGEST, dice.wait()).expect("it is open");
                claim[..bytes.len()].copy_from_slice(&bytes);
                claim.commit_first(bytes.len(), tag);
                tags.next();
            }
            3 => match producer.try_push(tag, &payload(tag)) {
                Ok(()) => drop(tags.next()),
                Err(TryClaimError::Full) => {}
                Err(error) => panic!("{error}"),
            },
            _ => {
                producer
                    .push(tag, &payload(tag), dice.wait())
                    .expect("it is open");
                tags.next();
            }
        }
    }
}

/// A batch of a few records, which is committed, or dropped together with what it staged.
fn stage<A: ZeroCopy>(
    mut batch: mpmc::WriteBatch<'_, A>,
    tags: &mut core::iter::Peekable<core::ops::Range<u32>>,
    dice: &mut Dice,
) {
    let before = tags.clone();
    for _ in 0..dice.roll(4) {
        let Some(&tag) = tags.peek() else { break };
        match batch.try_push(tag, &payload(tag)) {
            Ok(()) => drop(tags.next()),
            Err(TryClaimError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    if dice.roll(4) == 0 {
        *tags = before;
    } else {
        batch.commit();
    }
}

/// Reads until the ring is closed and drained; returns the tags of what was released here.
fn consume<A: ZeroCopy>(consumer: &mpmc::Consumer<A>, dice: &mut Dice) -> Vec<u32> {
    let mut released = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let ended = match dice.roll(4) {
            0 => consumer.pop(&mut bytes, dice.wait()).map(|tag| {
                check(tag, &bytes);
                released.push(tag);
            }),
            1 => consumer.read_batch(3, dice.wait()).map(|batch| {
                batch.iter().for_each(|record| check(record.tag(), record));
                released.extend(batch.iter().map(mpmc::Record::tag));
                batch.release();
            }),
            2 => consumer.read(dice.wait()).map(|record| {
                check(record.tag(), &record);
                record.requeue();
            }),
            _ => consumer.read(dice.wait()).map(|record| {
                check(record.tag(), &record);
                released.push(record.tag());
            }),
        };
        match ended {
            Ok(()) => {}
            Err(ReadError::Closed) => return released,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Three producers and three consumers on what `producer` and `consumer` make of their number.
fn crowd<A: ZeroCopy>(
    producer: impl Fn(u32) -> mpmc::Producer<A>,
    consumer: impl Fn(u32) -> mpmc::Consumer<A>,
) {
    let end = producer(0);
    let released = std::thread::scope(|scope| {
        let spawn_producer = |number: u32| {
            let producer = producer(number);
            scope.spawn(move || {
                let first = number * RECORDS;
                produce(&producer, first..first + RECORDS, &mut Dice(number + 1));
            })
        };
        let spawn_consumer = |number: u32| {
            let consumer = consumer(number);
            scope.spawn(move || consume(&consumer, &mut Dice(number + 101)))
        };
        let consumers: Vec<_> = (0..3).map(spawn_consumer).collect();
        let producers: Vec<_> = (0..3).map(spawn_producer).collect();
        join(producers);
        end.close();
        join(consumers).concat()
    });
    let once: BTreeSet<u32> = released.iter().copied().collect();
    assert_eq!(once.len(), released.len(), "a record came out twice");
    assert!(once.into_iter().eq(0..3 * RECORDS), "a record was lost");
}

#[test]
fn a_crowd_on_a_heap_ring_of_slots_loses_nothing() {
    let (producer, consumer) = mpmc::Options::new(8, LONGEST as u64)
        .participants(9)
        .heap()
        .unwrap();
    crowd(
        |_| producer.try_clone().unwrap(),
        |_| consumer.try_clone().unwrap(),
    );
}

#[test]
fn a_crowd_on_a_mapped_ring_of_slots_loses_nothing() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("crowd.ring");
    let options = mpmc::Options::new(8, LONGEST as u64).participants(9);
    options.create(path.as_path()).unwrap();
    crowd(
        // SAFETY: only this test uses the file, through the library.
        |_| unsafe { mpmc::Producer::attach(path.as_path()) }.unwrap(),
        // SAFETY: as above.
        |_| unsafe { mpmc::Consumer::attach(path.as_path()) }.unwrap(),
    );
}

/// Commits `tags` in order, each in its own way.
fn write<A: ZeroCopy>(
    producer: &mut spsc::Producer<A>,
    tags: core::ops::Range<u32>,
    dice: &mut Dice,
) {
    let mut tags = tags.peekable();
    while let Some(&tag) = tags.peek() {
        match dice.roll(6) {
            0 => producer
                .claim(LONGEST, dice.wait())
                .expect("it is open")
                .abort(),
            1 => {
                let before = tags.clone();
                let mut batch = producer.batch();
                for _ in 0..dice.roll(4) {
                    let Some(&tag) = tags.peek() else { break };
                    match batch.try_push(tag, &payload(tag)) {
                        Ok(()) => drop(tags.next()),
                        Err(TryClaimError::Full) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                if dice.roll(4) == 0 {
                    tags = before;
                } else {
                    batch.commit();
                }
            }
            2 => {
                let bytes = payload(tag);
                let mut claim = producer.claim(LONGEST, dice.wait()).expect("it is open");
                claim[..bytes.len()].copy_from_slice(&bytes);
                claim.commit_first(bytes.len(), tag);
                tags.next();
            }
            _ => {
                producer
                    .push(tag, &payload(tag), dice.wait())
                    .expect("it is open");
                tags.next();
            }
        }
    }
}

/// Reads the records from `next` on, in order, until `end` or `Closed`, each in its own way.
fn read<A: ZeroCopy>(
    consumer: &mut spsc::Consumer<A>,
    next: &AtomicU32,
    end: u32,
    dice: &mut Dice,
) {
    let mut bytes = Vec::new();
    loop {
        let due = next.load(Ordering::Relaxed);
        if due >= end {
            return;
        }
        let read = match dice.roll(4) {
            0 => consumer.pop(&mut bytes, dice.wait()).map(|tag| {
                assert_eq!(tag, due);
                check(tag, &bytes);
                1
            }),
            1 => peek(consumer, due, dice.wait()),
            2 => consumer.read(dice.wait()).map(|record| {
                check(due, &record);
                record.requeue();
                0
            }),
            _ => consumer.read(dice.wait()).map(|record| {
                assert_eq!(record.tag(), due);
                check(due, &record);
                1
            }),
        };
        match read {
            Ok(released) => next.store(due + released, Ordering::Relaxed),
            Err(ReadError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Looks at the record that is due and at the next, and releases the first alone.
fn peek<A: ZeroCopy>(
    consumer: &mut spsc::Consumer<A>,
    due: u32,
    wait: Wait,
) -> Result<u32, ReadError> {
    let first = consumer.peek(wait)?;
    assert_eq!(first.tag(), due);
    check(due, &first);
    let mark = first.mark();
    match consumer.try_peek() {
        Ok(second) => check(due + 1, &second),
        Err(TryReadError::Empty | TryReadError::Closed) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(consumer.release_to(mark), 1);
    consumer.rewind();
    Ok(1)
}

#[test]
fn a_pair_on_a_heap_ring_of_bytes_loses_nothing() {
    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    let all = 3 * RECORDS;
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            write(&mut producer, 0..all, &mut Dice(1));
            producer.close();
        });
        let reading = scope.spawn(|| read(&mut consumer, &next, u32::MAX, &mut Dice(2)));
        join(vec![writing, reading]);
    });
    assert_eq!(next.into_inner(), all);
}

/// Each side goes away every few records, and another one goes on in its place.
#[test]
fn a_pair_that_is_replaced_again_and_again_loses_nothing() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("pair.ring");
    spsc::Options::new(4096).create(path.as_path()).unwrap();
    let (lives, life) = (RECORDS / 50, 50);
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 0..lives {
                // SAFETY: only this test uses the file, through the library.
                let mut producer = unsafe { spsc::Producer::attach(path.as_path()) }.unwrap();
                let tags = number * life..(number + 1) * life;
                write(&mut producer, tags, &mut Dice(number + 1));
            }
        });
        let reading = scope.spawn(|| {
            for number in 1..=lives {
                // SAFETY: as above.
                let mut consumer = unsafe { spsc::Consumer::attach(path.as_path()) }.unwrap();
                read(&mut consumer, &next, number * life, &mut Dice(number + 101));
            }
        });
        join(vec![writing, reading]);
    });
    assert_eq!(next.into_inner(), RECORDS);
}
