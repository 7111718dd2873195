//! The slot ring: three producers and three consumers, four slots, records committed and released
//! alone and in batches, aborted, requeued, and lost with their holders, until the ring is closed
//! and drained.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Member, Ring, below, check, payload};
use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::slot_ring::{self, FREE, Word};
use crate::protocol::{Attachment, recovery};
use crate::sync::Ordering;
use crate::{ReadError, TryClaimError, TryReadError, Wait, mpmc};

const SLOTS: u64 = 4;
const LONGEST: usize = 16;
const SIDE: u32 = 3;
/// Rows: one more participant than there are threads never waits for a row.
const ROWS: u16 = 8;

/// What is known of a record without looking into the ring. Its holder says what it is going to do
/// before it does it, for it may die in between.
#[derive(Default)]
struct Known {
    commit_begun: bool,
    committed: bool,
    seen: bool,
    release_begun: bool,
    released: bool,
}

type Ledger = Arc<Mutex<BTreeMap<u32, Known>>>;

fn known(ledger: &Ledger) -> MutexGuard<'_, BTreeMap<u32, Known>> {
    ledger.lock().expect("nobody panics holding it")
}

fn note(ledger: &Ledger, tag: u32, what: impl FnOnce(&mut Known)) {
    what(known(ledger).entry(tag).or_default());
}

/// Commits the records that nobody has tried to commit, in one of the ways there are.
fn produce(ring: &Arc<Ring>, life: u32, tags: &[u32], ledger: &Ledger) {
    let member = ring.attach(None, ROLE_PRODUCER, life);
    let producer = mpmc::Producer::of(member).expect("a ring of slots");
    let claim = || producer.claim(LONGEST, Wait::block()).expect("it is open");
    loop {
        let due = |tag: &&u32| !known(ledger).contains_key(*tag);
        let due: Vec<u32> = tags.iter().filter(due).copied().collect();
        let Some(&tag) = due.first() else { return };
        match below(4) {
            0 => claim().abort(),
            1 => commit_batch(&producer, &due, ledger),
            _ => {
                let bytes = payload(tag, LONGEST);
                let mut claim = claim();
                claim[..bytes.len()].copy_from_slice(&bytes);
                note(ledger, tag, |known| known.commit_begun = true);
                claim.commit_first(bytes.len(), tag);
                note(ledger, tag, |known| known.committed = true);
            }
        }
    }
}

/// Up to three records with one wake-up, if there is space.
fn commit_batch(producer: &mpmc::Producer<Member>, due: &[u32], ledger: &Ledger) {
    let mut batch = producer.batch();
    for &tag in due.iter().take(3) {
        match batch.try_push(tag, &payload(tag, LONGEST)) {
            Ok(()) => {}
            Err(TryClaimError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let staged = &due[..batch.len()];
    for &tag in staged {
        note(ledger, tag, |known| known.commit_begun = true);
    }
    batch.commit();
    for &tag in staged {
        note(ledger, tag, |known| known.committed = true);
    }
}

/// Reads until the end of the stream.
fn consume(ring: &Arc<Ring>, life: u32, ledger: &Ledger) {
    let member = ring.attach(None, ROLE_CONSUMER, life);
    let consumer = mpmc::Consumer::of(member).expect("a ring of slots");
    loop {
        let outcome = if below(3) == 0 {
            let batch = consumer.read_batch(3, Wait::block());
            batch.map(|batch| release_batch(batch, ledger))
        } else {
            let record = consumer.read(Wait::block());
            record.map(|record| deal_with(record, ledger))
        };
        match outcome {
            Ok(()) => {}
            Err(ReadError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn look_at(record: &mpmc::Record<'_, Member>, ledger: &Ledger) {
    let tag = record.tag();
    assert_eq!(record[..], payload(tag, LONGEST)[..], "the bytes of {tag}");
    note(ledger, tag, |known| {
        assert!(known.commit_begun, "record {tag} was never committed");
        assert!(!known.released, "record {tag} came out twice");
        known.seen = true;
    });
}

fn note_released(tag: u32, ledger: &Ledger) {
    note(ledger, tag, |known| {
        assert!(!known.released, "record {tag} was released twice");
        known.released = true;
    });
}

fn deal_with(record: mpmc::Record<'_, Member>, ledger: &Ledger) {
    let tag = record.tag();
    look_at(&record, ledger);
    if below(4) == 0 {
        return record.requeue();
    }
    note(ledger, tag, |known| known.release_begun = true);
    record.release();
    note_released(tag, ledger);
}

/// Releases all with one wake-up.
fn release_batch(batch: mpmc::ReadBatch<'_, Member>, ledger: &Ledger) {
    let tags: Vec<u32> = batch.iter().map(mpmc::Record::tag).collect();
    batch.iter().for_each(|record| look_at(record, ledger));
    for &tag in &tags {
        note(ledger, tag, |known| known.release_begun = true);
    }
    batch.release();
    for tag in tags {
        note_released(tag, ledger);
    }
}

/// Every record that was committed has come out and is gone, nothing else has, every slot is free,
/// and the totals are right to the last one.
fn settle(ring: &Ring, origin: u64, ledger: &Ledger) {
    let ledger = known(ledger);
    for (tag, known) in &*ledger {
        assert!(known.seen || !known.committed, "record {tag} was lost");
        let gone = known.released || known.release_begun;
        assert!(gone || !known.seen, "record {tag} was never released");
    }
    let memory = &*ring.memory;
    let recovery::Shape::Slots(shape, _) = &ring.shape else {
        unreachable!("a ring of slots")
    };
    for index in 0..SLOTS {
        let word = Word(shape.word(memory, index).load(Ordering::Relaxed));
        assert_eq!(word.state(), FREE, "slot {index}");
    }
    let seen = ledger.values().filter(|known| known.seen).count() as u64;
    let claimed = slot_ring::frontier(shape, memory).wrapping_sub(origin);
    assert_eq!(claimed - ring.skipped(), seen, "records by position");
}

/// `doomed` producers and as many consumers die after some steps; others go on in their place.
fn crowd(records: u32, doomed: u32, origin: u64) {
    let options = mpmc::Options::new(SLOTS, LONGEST as u64)
        .participants(ROWS)
        .starting_at(origin);
    let ring = Ring::new(options.geometry().expect("a possible ring"));
    let ledger = Ledger::default();
    let fate = move |number: u32| (number < doomed).then(|| below(40 * records));
    let consumers: Vec<_> = (0..SIDE)
        .map(|number| {
            let (ring, ledger) = (Arc::clone(&ring), Arc::clone(&ledger));
            shuttle::thread::spawn(move || {
                let mut steps = fate(number);
                while ring
                    .live(steps.take(), |ring, life| consume(ring, life, &ledger))
                    .is_none()
                {}
            })
        })
        .collect();
    let producers: Vec<_> = (0..SIDE)
        .map(|number| {
            let (ring, ledger) = (Arc::clone(&ring), Arc::clone(&ledger));
            shuttle::thread::spawn(move || {
                let tags: Vec<u32> = (number * records..(number + 1) * records).collect();
                let mut steps = fate(number);
                while ring
                    .live(steps.take(), |ring, life| {
                        produce(ring, life, &tags, &ledger)
                    })
                    .is_none()
                {}
            })
        })
        .collect();
    for producer in producers {
        producer.join().expect("it lived to the end");
    }
    ring.live(None, |ring, life| {
        let member = ring.attach(None, ROLE_PRODUCER, life);
        mpmc::Producer::of(member).expect("a ring of slots").close();
    });
    for consumer in consumers {
        consumer.join().expect("it lived to the end");
    }
    ring.live(None, |ring, life| {
        let member = ring.attach(None, ROLE_CONSUMER, life);
        member.mend();
        let consumer = mpmc::Consumer::of(member).expect("a ring of slots");
        assert_eq!(consumer.try_read().err(), Some(TryReadError::Closed));
    });
    settle(&ring, origin, &ledger);
}

#[test]
fn a_crowd_loses_nothing() {
    check(5_000, || crowd(8, 0, 0));
}

#[test]
fn a_crowd_of_which_some_die_loses_nothing() {
    check(10_000, || crowd(8, 1, 0));
}

#[test]
fn a_crowd_of_which_most_die_loses_nothing_near_the_last_position() {
    // The positions wrap amid the run, and with them the laps.
    check(15_000, || crowd(4, 2, 0_u64.wrapping_sub(2 * SLOTS)));
}

#[test]
fn few_records_and_many_deaths() {
    check(20_000, || crowd(2, 3, 0));
}
