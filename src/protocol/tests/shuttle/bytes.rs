//! The byte ring: records of any length around the end of a small ring, batches, and sides that
//! die and are replaced, each going on where the dead one stopped.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Member, Ring, below, check, payload};
use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::{Owner, byte_ring, recovery};
use crate::{ClaimError, ReadError, TryClaimError, TryReadError, Wait, spsc};

const CAPACITY: u64 = 64;
/// The longest record of a ring of that capacity.
const LONGEST: usize = 24;

/// What both sides say they are going to do before they do it, for they may die in between.
#[derive(Default)]
struct Known {
    /// How many records are committed, or will be when the publication that was begun is made.
    committed: [u64; 2],
    /// The same of those released.
    released: [u64; 2],
}

type Ledger = Arc<Mutex<Known>>;

fn known(ledger: &Ledger) -> MutexGuard<'_, Known> {
    ledger.lock().expect("nobody panics holding it")
}

fn tag(record: u64) -> u32 {
    u32::try_from(record).expect("few records")
}

fn bytes_of(record: u64) -> Vec<u8> {
    payload(tag(record), LONGEST)
}

/// What is to be done to a ring, and to those who do it.
#[derive(Clone, Copy)]
struct Script {
    records: u64,
    /// The consumer closes the ring when it has released that many, and not the producer at last.
    closed_after: u64,
    /// How often each side dies.
    deaths: u32,
    origin: u64,
}

/// Commits the records that are not, up to the last, then closes the ring.
fn produce(ring: &Arc<Ring>, life: u32, records: u64, ledger: &Ledger) {
    let member = ring.attach(Some(Owner::PRODUCER), ROLE_PRODUCER, life);
    let mut producer = spsc::Producer::of(member).expect("a sound ring of bytes");
    let begun = known(ledger).committed;
    assert!(
        begun.contains(&producer.committed_records()),
        "a publication is whole or was not made"
    );
    loop {
        let next = producer.committed_records();
        if next >= records {
            break;
        }
        match below(4) {
            0 => match claim(&mut producer) {
                Some(claim) => claim.abort(),
                None => return,
            },
            1 => {
                let due = next..records.min(next + 3);
                if !commit_batch(&mut producer, due, ledger) {
                    return;
                }
            }
            _ => {
                let bytes = bytes_of(next);
                let Some(mut claim) = claim(&mut producer) else {
                    return;
                };
                claim[..bytes.len()].copy_from_slice(&bytes);
                known(ledger).committed = [next, next + 1];
                claim.commit_first(bytes.len(), tag(next));
            }
        }
    }
    producer.close();
}

/// `None` if the ring is closed.
fn claim(producer: &mut spsc::Producer<Member>) -> Option<spsc::Claim<'_, Member>> {
    match producer.claim(LONGEST, Wait::block()) {
        Ok(claim) => Some(claim),
        Err(ClaimError::Closed) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Returns false if the ring is closed.
fn commit_batch(
    producer: &mut spsc::Producer<Member>,
    records: core::ops::Range<u64>,
    ledger: &Ledger,
) -> bool {
    let next = records.start;
    let mut is_open = true;
    let mut batch = producer.batch();
    for record in records {
        match batch.try_push(tag(record), &bytes_of(record)) {
            Ok(()) => {}
            Err(TryClaimError::Full) => break,
            Err(TryClaimError::Closed) => {
                is_open = false;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    known(ledger).committed = [next, next + batch.len()];
    batch.commit();
    is_open
}

/// Reads to the end of the stream from where the last consumer released.
fn consume(ring: &Arc<Ring>, life: u32, closed_after: u64, ledger: &Ledger) {
    let member = ring.attach(Some(Owner::CONSUMER), ROLE_CONSUMER, life);
    let mut consumer = spsc::Consumer::of(member).expect("a sound ring of bytes");
    let begun = known(ledger).released;
    assert!(
        begun.contains(&consumer.released_records()),
        "a release is whole or was not made"
    );
    loop {
        let next = consumer.released_records();
        if next >= closed_after {
            consumer.close();
        }
        let wait = Wait::block();
        let outcome = match below(4) {
            0 => consumer.read(wait).map(|record| {
                check_record(next, record.tag(), &record);
                record.requeue();
            }),
            1 => look_ahead(&mut consumer, ledger),
            _ => consumer.read(wait).map(|record| {
                check_record(next, record.tag(), &record);
                known(ledger).released = [next, next + 1];
                record.release();
            }),
        };
        match outcome {
            Ok(()) => {}
            Err(ReadError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads up to three records, releases some of them and goes back to the first of the others.
fn look_ahead(consumer: &mut spsc::Consumer<Member>, ledger: &Ledger) -> Result<(), ReadError> {
    let next = consumer.released_records();
    let first = consumer.peek(Wait::block())?;
    check_record(next, first.tag(), &first);
    let mut marks = vec![first.mark()];
    drop(first);
    for record in next + 1..next + 3 {
        match consumer.try_peek() {
            Ok(peeked) => {
                check_record(record, peeked.tag(), &peeked);
                marks.push(peeked.mark());
            }
            Err(TryReadError::Empty | TryReadError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let last = below(u32::try_from(marks.len()).expect("three at most"));
    known(ledger).released = [next, next + u64::from(last) + 1];
    assert_eq!(
        consumer.release_to(marks[last as usize]),
        u64::from(last) + 1
    );
    consumer.rewind();
    Ok(())
}

fn check_record(expected: u64, tag_found: u32, bytes: &[u8]) {
    assert_eq!(tag_found, tag(expected), "out of order");
    assert_eq!(bytes, bytes_of(expected), "the bytes of {expected}");
}

fn pair(script: Script) {
    let Script {
        records,
        closed_after,
        deaths,
        origin,
    } = script;
    let options = spsc::Options::new(CAPACITY).starting_at(origin);
    let ring = Ring::new(options.geometry().expect("a possible ring"));
    let ledger = Ledger::default();
    let fate = move |life: u32| (life < deaths).then(|| below(200));
    let spawn = |live: fn(&Arc<Ring>, u32, u64, &Ledger), until: u64| {
        let (ring, ledger) = (Arc::clone(&ring), Arc::clone(&ledger));
        shuttle::thread::spawn(move || {
            let lives = |life| {
                ring.live(fate(life), |ring, life| live(ring, life, until, &ledger))
                    .is_some()
            };
            assert!((0..=deaths).any(lives));
        })
    };
    let writing = spawn(produce, records);
    let reading = spawn(consume, closed_after);
    let bystander = (deaths > 0).then(|| ring.start_bystander());
    writing.join().expect("it lived to the end");
    reading.join().expect("it lived to the end");
    if let Some(thread) = bystander {
        thread.join().expect("no panic but death");
    }
    ring.live(None, |ring, life| ring.mend(None, life));
    settle(&ring, script);
}

/// What was committed was released, to the last record, and nobody is left.
fn settle(ring: &Arc<Ring>, script: Script) {
    let memory = &*ring.memory;
    let released = byte_ring::released_end(memory).expect("a sound ring");
    let committed = match &ring.shape {
        recovery::Shape::Bytes(shape) => byte_ring::committed_end(shape, memory),
        recovery::Shape::Slots(..) => unreachable!("a ring of bytes"),
    };
    assert_eq!(released.records, committed.records);
    assert_eq!(released.position, committed.position);
    assert!(committed.records >= script.records.min(script.closed_after));
    assert_eq!(ring.skipped(), 0);
}

const PEACE: Script = Script {
    records: 12,
    closed_after: u64::MAX,
    deaths: 0,
    origin: 0,
};

#[test]
fn a_pair_loses_nothing() {
    check(5_000, || pair(PEACE));
}

#[test]
fn a_pair_that_is_replaced_loses_nothing() {
    let script = Script { deaths: 2, ..PEACE };
    check(15_000, move || pair(script));
}

#[test]
fn a_pair_near_the_last_position_loses_nothing() {
    let script = Script {
        records: 8,
        deaths: 3,
        origin: 0_u64.wrapping_sub(2 * CAPACITY),
        ..PEACE
    };
    check(10_000, move || pair(script));
}

#[test]
fn no_byte_is_committed_after_closed() {
    let script = Script {
        closed_after: 2,
        deaths: 1,
        ..PEACE
    };
    check(10_000, move || pair(script));
}
