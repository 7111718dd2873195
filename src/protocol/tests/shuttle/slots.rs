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
use crate::{ClaimError, ReadError, TryClaimError, TryReadError, Wait, mpmc};

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
    let claim = || match producer.claim(LONGEST, Wait::block()) {
        Ok(claim) => Some(claim),
        Err(ClaimError::Closed) => None,
        Err(error) => panic!("{error}"),
    };
    loop {
        let due = |tag: &&u32| !known(ledger).contains_key(*tag);
        let due: Vec<u32> = tags.iter().filter(due).copied().collect();
        let Some(&tag) = due.first() else { return };
        match below(4) {
            0 => match claim() {
                Some(claim) => claim.abort(),
                None => return,
            },
            1 => commit_batch(&producer, &due, ledger),
            _ => {
                let bytes = payload(tag, LONGEST);
                let Some(mut claim) = claim() else { return };
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
            Err(TryClaimError::Full | TryClaimError::Closed) => break,
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

/// What is to be done to a ring, and to those who do it.
#[derive(Clone, Copy)]
struct Script {
    /// Of each producer.
    records: u32,
    /// As many producers, and as many consumers, die after some steps and are replaced.
    doomed: u32,
    /// The ring is closed while producers are at work, and not after they are done.
    is_cut_off: bool,
    origin: u64,
}

fn crowd(script: Script) {
    let Script {
        records,
        doomed,
        is_cut_off,
        origin,
    } = script;
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
    let bystander = (doomed > 0).then(|| ring.start_bystander());
    let close = |ring: &Arc<Ring>, life: u32| {
        let member = ring.attach(None, ROLE_PRODUCER, life);
        let producer = mpmc::Producer::of(member).expect("a ring of slots");
        producer.close();
    };
    if is_cut_off {
        ring.live(None, close);
    }
    for producer in producers {
        producer.join().expect("it lived to the end");
    }
    if !is_cut_off {
        ring.live(None, close);
    }
    if let Some(thread) = bystander {
        thread.join().expect("no panic but death");
    }
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

const PEACE: Script = Script {
    records: 8,
    doomed: 0,
    is_cut_off: false,
    origin: 0,
};

#[test]
fn a_crowd_loses_nothing() {
    check(3_000, || crowd(PEACE));
}

#[test]
fn a_crowd_of_mortals_loses_nothing() {
    let script = Script { doomed: 1, ..PEACE };
    check(4_000, move || crowd(script));
}

#[test]
fn a_crowd_near_the_last_position_loses_nothing() {
    let script = Script {
        records: 4,
        doomed: 2,
        origin: 0_u64.wrapping_sub(2 * SLOTS),
        ..PEACE
    };
    check(6_000, move || crowd(script));
}

#[test]
fn few_records_and_many_deaths() {
    let script = Script {
        records: 2,
        doomed: 3,
        ..PEACE
    };
    check(10_000, move || crowd(script));
}

#[test]
fn no_slot_is_committed_after_closed() {
    let script = Script {
        records: 3,
        doomed: 1,
        is_cut_off: true,
        ..PEACE
    };
    check(10_000, move || crowd(script));
}
