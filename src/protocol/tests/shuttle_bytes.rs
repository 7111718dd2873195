//! The byte ring: records of any length around the end of a small ring, batches, and sides that
//! die and are replaced, each going on where the dead one stopped.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Member, Ring, below, check, payload};
use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::{Attachment, Owner, byte_ring};
use crate::{ReadError, TryClaimError, TryReadError, Wait, spsc};

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

/// Commits the records that are not, up to `records`, then closes the ring.
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
            0 => claim(&mut producer).abort(),
            1 => commit_batch(&mut producer, next..records.min(next + 3), ledger),
            _ => {
                let bytes = bytes_of(next);
                let mut claim = claim(&mut producer);
                claim[..bytes.len()].copy_from_slice(&bytes);
                known(ledger).committed = [next, next + 1];
                claim.commit_first(bytes.len(), tag(next));
            }
        }
    }
    producer.close();
}

fn claim(producer: &mut spsc::Producer<Member>) -> spsc::Claim<'_, Member> {
    producer.claim(LONGEST, Wait::block()).expect("it is open")
}

fn commit_batch(
    producer: &mut spsc::Producer<Member>,
    records: core::ops::Range<u64>,
    ledger: &Ledger,
) {
    let next = records.start;
    let mut batch = producer.batch();
    for record in records {
        match batch.try_push(tag(record), &bytes_of(record)) {
            Ok(()) => {}
            Err(TryClaimError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    known(ledger).committed = [next, next + batch.len()];
    batch.commit();
}

/// Reads to the end of the stream from where the last consumer released.
fn consume(ring: &Arc<Ring>, life: u32, ledger: &Ledger) {
    let member = ring.attach(Some(Owner::CONSUMER), ROLE_CONSUMER, life);
    let mut consumer = spsc::Consumer::of(member).expect("a sound ring of bytes");
    let begun = known(ledger).released;
    assert!(
        begun.contains(&consumer.released_records()),
        "a release is whole or was not made"
    );
    loop {
        let next = consumer.released_records();
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

/// Each side dies `deaths` times, each time after some steps, and is replaced.
fn pair(records: u64, deaths: u32, origin: u64) {
    let options = spsc::Options::new(CAPACITY).starting_at(origin);
    let ring = Ring::new(options.geometry().expect("a possible ring"));
    let ledger = Ledger::default();
    let fate = move |life: u32| (life < deaths).then(|| below(200));
    let writing = shuttle::thread::spawn({
        let (ring, ledger) = (Arc::clone(&ring), Arc::clone(&ledger));
        move || {
            let live = |life| {
                ring.live(fate(life), |ring, life| {
                    produce(ring, life, records, &ledger)
                })
            };
            assert!((0..=deaths).any(|life| live(life).is_some()));
        }
    });
    let reading = shuttle::thread::spawn({
        let (ring, ledger) = (Arc::clone(&ring), Arc::clone(&ledger));
        move || {
            let live = |life| ring.live(fate(life), |ring, life| consume(ring, life, &ledger));
            assert!((0..=deaths).any(|life| live(life).is_some()));
        }
    });
    writing.join().expect("it lived to the end");
    reading.join().expect("it lived to the end");
    let memory = &*ring.memory;
    let released = byte_ring::released_end(memory).expect("a sound ring");
    let committed = match &ring.shape {
        super::recovery::Shape::Bytes(shape) => byte_ring::committed_end(shape, memory),
        super::recovery::Shape::Slots(..) => unreachable!("a ring of bytes"),
    };
    assert_eq!(committed.records, records);
    assert_eq!(released.records(), records);
    assert_eq!(released.position(), committed.end);
    // Whoever died last may have left its row to a successor that never came: nobody did.
    ring.live(None, |ring, life| {
        ring.attach(Some(Owner::PRODUCER), ROLE_PRODUCER, life)
            .mend()
    });
    assert_eq!(ring.skipped(), 0);
}

#[test]
fn a_pair_around_the_end_of_the_ring_loses_nothing() {
    check(10_000, || pair(12, 0, 0));
}

#[test]
fn a_pair_that_dies_and_is_replaced_loses_nothing() {
    check(15_000, || pair(12, 2, 0));
}

#[test]
fn a_pair_that_dies_near_the_last_position_loses_nothing() {
    check(10_000, || pair(8, 3, 0_u64.wrapping_sub(2 * CAPACITY)));
}
