//! What the senders and the receivers of the churn do between their births and their deaths.
//!
//! Everything that a handle offers is in the mix: single claims, batches, aborts and requeues,
//! detaching and attaching anew. Before each operation the step is told; a sender tells what it is
//! about to commit before, and what it has committed after; a receiver tells what it holds before
//! it releases it, and that it has released it after.

use std::path::Path;

use annulus::mpmc::{Consumer, Producer};
use annulus::{TryClaimError, TryReadError};

use super::child::{Task, patience};
use super::log::{Log, Step, Stopwatch, Word};
use super::payload::{self, Random};
use super::tally::{Delivery, Sent};

/// The parent's order to come to an end.
pub(crate) const FINISH: u64 = 1;

/// Operations of one handle, before it is dropped and another one attached.
const OPERATIONS: u64 = 800;
/// Most records of a batch.
const BATCH: u64 = 6;

fn attach_producer(ring: &Path) -> Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { Producer::attach(ring) }.expect("attach a producer")
}

fn attach_consumer(ring: &Path) -> Consumer {
    // SAFETY: as for the producers.
    unsafe { Consumer::attach(ring) }.expect("attach a consumer")
}

/// A sender: its number is the one in the records' ids.
pub(crate) fn send(task: &Task) {
    let log = &task.log;
    let mut sender = Sender {
        log,
        watch: Stopwatch::new(log),
        random: Random::new(task.number),
        number: task.number,
        sent: 0,
    };
    while log.get(Word::Order) != FINISH {
        log.enter(Step::Attaching);
        let producer = sender.watch.time(|| attach_producer(&task.ring));
        for _ in 0..OPERATIONS {
            log.enter(Step::Idle);
            if log.get(Word::Order) == FINISH {
                break;
            }
            match sender.random.below(16) {
                0 => sender.abort(&producer),
                1 | 2 => sender.batch(&producer),
                _ => sender.one(&producer),
            }
        }
        log.enter(Step::Detaching);
        drop(producer);
    }
    log.enter(Step::Finished);
}

struct Sender<'l> {
    log: &'l Log,
    watch: Stopwatch<'l>,
    random: Random,
    number: u64,
    sent: u64,
}

impl Sender<'_> {
    fn next_id(&self, ahead: u64) -> u64 {
        Sent {
            sender: self.number,
            number: self.sent + 1 + ahead,
        }
        .id()
    }

    fn one(&mut self, producer: &Producer) {
        let id = self.next_id(0);
        let mut claim = self.claim(producer, payload::len_of(id));
        payload::write(&mut claim, id);
        self.log.set(Word::Intent, self.sent + 1);
        self.log.enter(Step::Publishing);
        claim.commit(7);
        self.sent += 1;
        self.log.set(Word::Done, self.sent);
    }

    fn abort(&mut self, producer: &Producer) {
        let mut claim = self.claim(producer, payload::LONGEST);
        claim.fill(0xa5);
        self.log.enter(Step::Undoing);
        claim.abort();
    }

    fn claim<'p>(&mut self, producer: &'p Producer, len: usize) -> annulus::mpmc::Claim<'p> {
        self.log.enter(Step::Claiming);
        let claim = match producer.try_claim(len) {
            Ok(claim) => claim,
            Err(TryClaimError::Full) => {
                self.log.enter(Step::Waiting);
                self.watch
                    .time(|| producer.claim(len, patience()))
                    .expect("space, in the end")
            }
            Err(error) => panic!("{error}"),
        };
        self.log.enter(Step::Holding);
        claim
    }

    /// As many as there is space for: who waits with a batch half full may wait for itself.
    fn batch(&mut self, producer: &Producer) {
        let wanted = 1 + self.random.below(BATCH);
        let mut batch = producer.batch();
        let mut staged = 0;
        while staged < wanted {
            let id = self.next_id(staged);
            self.log.enter(if staged == 0 {
                Step::Claiming
            } else {
                Step::Holding
            });
            match batch.try_claim(payload::len_of(id)) {
                Ok(mut claim) => {
                    payload::write(&mut claim, id);
                    claim.stage(7);
                }
                Err(TryClaimError::Full) => break,
                Err(error) => panic!("{error}"),
            }
            staged += 1;
        }
        self.log.set(Word::Intent, self.sent + staged);
        self.log.enter(Step::Publishing);
        batch.commit();
        self.sent += staged;
        self.log.set(Word::Done, self.sent);
    }
}

/// A receiver. It ends when the ring is closed and drained, or when its log is full.
pub(crate) fn receive(task: &Task) {
    let log = &task.log;
    let watch = Stopwatch::new(log);
    let mut receiver = Receiver {
        log,
        watch,
        random: Random::new(task.number),
        ended: false,
    };
    while !receiver.ended && log.room() > OPERATIONS * BATCH {
        log.enter(Step::Attaching);
        let consumer = receiver.watch.time(|| attach_consumer(&task.ring));
        for _ in 0..OPERATIONS {
            log.enter(Step::Idle);
            if receiver.ended {
                break;
            }
            match receiver.random.below(8) {
                0 => receiver.batch(&consumer),
                _ => receiver.one(&consumer),
            }
        }
        log.enter(Step::Detaching);
        drop(consumer);
    }
    log.enter(Step::Finished);
}

struct Receiver<'l> {
    log: &'l Log,
    watch: Stopwatch<'l>,
    random: Random,
    ended: bool,
}

impl Receiver<'_> {
    fn one(&mut self, consumer: &Consumer) {
        self.log.enter(Step::Claiming);
        let record = match consumer.try_read() {
            Ok(record) => record,
            Err(TryReadError::Empty) => {
                self.log.enter(Step::Waiting);
                match self.watch.time(|| consumer.read(patience())) {
                    Ok(record) => record,
                    Err(error) => return self.end(&error),
                }
            }
            Err(TryReadError::Closed) => {
                self.ended = true;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        self.log.enter(Step::Holding);
        let entry = delivery(&record, record.attempts());
        if record.attempts() == 0 && self.random.below(32) == 0 {
            self.log.enter(Step::Undoing);
            record.requeue();
            self.log
                .set(Word::Requeued, self.log.get(Word::Requeued) + 1);
            return;
        }
        self.log.append(entry);
        self.log.enter(Step::Publishing);
        record.release();
        self.log.set(Word::Released, self.log.get(Word::Entries));
    }

    fn batch(&mut self, consumer: &Consumer) {
        self.log.enter(Step::Claiming);
        let most = usize::try_from(BATCH).expect("it fits");
        let batch = match consumer.try_read_batch(most) {
            Ok(batch) => batch,
            Err(TryReadError::Empty) => {
                self.log.enter(Step::Waiting);
                match self.watch.time(|| consumer.read_batch(most, patience())) {
                    Ok(batch) => batch,
                    Err(error) => return self.end(&error),
                }
            }
            Err(TryReadError::Closed) => {
                self.ended = true;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        self.log.enter(Step::Holding);
        for record in &batch {
            self.log.append(delivery(record, record.attempts()));
        }
        self.log.enter(Step::Publishing);
        batch.release();
        self.log.set(Word::Released, self.log.get(Word::Entries));
    }

    fn end(&mut self, error: &annulus::ReadError) {
        assert_eq!(*error, annulus::ReadError::Closed);
        self.ended = true;
    }
}

fn delivery(bytes: &[u8], attempts: u8) -> u64 {
    let id = payload::read(bytes).expect("a whole record");
    Delivery {
        sent: Sent::of(id),
        attempts,
    }
    .entry()
}
