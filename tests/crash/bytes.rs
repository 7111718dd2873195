//! SPSC: both sides are killed all the time, and whoever comes next goes on exactly where the dead
//! one was.
//!
//! Record `n` of the ring is `n` in its tag, its id and, by these, in every byte. So a consumer
//! that begins at the count of released records and finds consecutive ones proves by itself that
//! nothing was lost, and that what was delivered again had not been released.
//!
//! After each death the ring's count must be one of two: what the dead one had told as done, or
//! what it was about to do. A batch counts whole or not at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::segment::{Location, RecoverOptions, Snapshot, inspect, recover};
use annulus::spsc::{Consumer, Options, Peer, Producer};
use annulus::{ReadError, TryClaimError, TryReadError, Wait};

use super::child::{Child, Task, alone, directory, patience};
use super::log::{Log, Step, Word};
use super::payload::{self, Random};
use super::stop::is_refused;

const FINISH: u64 = 1;
const CAPACITY: u64 = 8192;
const BATCH: u64 = 8;
/// How often a victim is stopped and counted, at most, before it is killed. A look costs much less
/// than a death, and the ring's words must be as good.
const MOST_LOOKS: u64 = 12;
/// Where three of four kills are aimed.
const AIMS: [Step; 5] = [
    Step::Publishing,
    Step::Publishing,
    Step::Claiming,
    Step::Undoing,
    Step::Holding,
];
const LENGTH: Duration = Duration::from_secs(18);

fn attach_producer(ring: &Path) -> Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { Producer::attach(ring) }.expect("attach the producer")
}

fn attach_consumer(ring: &Path) -> Consumer {
    // SAFETY: as above.
    unsafe { Consumer::attach(ring) }.expect("attach the consumer")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a tag is the lower half of the number"
)]
fn tag_of(record: u64) -> u32 {
    record as u32
}

/// Tells where this child goes on. One more than that, since 0 means that it has not come so far.
fn resume(log: &Log, records: u64) {
    log.set(Word::Intent, records);
    log.set(Word::Done, records);
    log.set(Word::Answer, records + 1);
}

/// The producer: single records and batches, until it is told to close.
pub(crate) fn produce(task: &Task) {
    let log = &task.log;
    log.enter(Step::Attaching);
    let mut producer = attach_producer(&task.ring);
    let mut random = Random::new(task.number);
    let mut next = producer.committed_records();
    resume(log, next);
    while log.get(Word::Order) != FINISH {
        log.enter(Step::Idle);
        next += match random.below(8) {
            0 => produce_batch(log, &mut producer, next, 1 + random.below(BATCH)),
            1 => produce_none(log, &mut producer, next),
            _ => produce_one(log, &mut producer, next),
        };
        log.set(Word::Done, next);
    }
    producer.close();
    log.enter(Step::Finished);
}

fn claim<'p>(log: &Log, producer: &'p mut Producer, len: usize) -> annulus::spsc::Claim<'p> {
    log.enter(Step::Claiming);
    if producer.backlog() + len as u64 + 24 > CAPACITY {
        log.enter(Step::Waiting);
    }
    let claim = producer.claim(len, patience()).expect("space, in the end");
    log.enter(Step::Holding);
    claim
}

fn produce_one(log: &Log, producer: &mut Producer, next: u64) -> u64 {
    let mut claim = claim(log, producer, payload::len_of(next));
    payload::write(&mut claim, next);
    log.set(Word::Intent, next + 1);
    log.enter(Step::Publishing);
    claim.commit(tag_of(next));
    1
}

fn produce_none(log: &Log, producer: &mut Producer, next: u64) -> u64 {
    let mut claim = claim(log, producer, payload::len_of(next));
    claim.fill(0xff);
    log.enter(Step::Undoing);
    claim.abort();
    0
}

fn produce_batch(log: &Log, producer: &mut Producer, next: u64, wanted: u64) -> u64 {
    log.enter(Step::Claiming);
    let mut batch = producer.batch();
    while batch.len() < wanted {
        let record = next + batch.len();
        match batch.try_claim(payload::len_of(record)) {
            Ok(mut claim) => {
                log.enter(Step::Holding);
                payload::write(&mut claim, record);
                claim.stage(tag_of(record));
            }
            Err(TryClaimError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let staged = batch.len();
    log.set(Word::Intent, next + staged);
    log.enter(Step::Publishing);
    batch.commit();
    staged
}

/// The consumer: reads ahead, and releases one by one or several at once.
pub(crate) fn consume(task: &Task) {
    let log = &task.log;
    log.enter(Step::Attaching);
    let mut consumer = attach_consumer(&task.ring);
    let mut random = Random::new(task.number);
    resume(log, consumer.released_records());
    loop {
        log.enter(Step::Idle);
        let wanted = if random.below(4) == 0 {
            1 + random.below(BATCH)
        } else {
            1
        };
        if !consume_some(log, &mut consumer, wanted) {
            break;
        }
        if random.below(16) == 0 {
            log.enter(Step::Undoing);
            consumer.rewind();
        }
    }
    log.enter(Step::Finished);
}

/// False once the ring is closed and drained.
fn consume_some(log: &Log, consumer: &mut Consumer, wanted: u64) -> bool {
    let mut next = log.get(Word::Done);
    let mut mark = None;
    for _ in 0..wanted {
        log.enter(Step::Claiming);
        let peeked = match consumer.try_peek() {
            Ok(peeked) => peeked,
            Err(TryReadError::Empty | TryReadError::Closed) if mark.is_some() => break,
            Err(TryReadError::Empty) => {
                log.enter(Step::Waiting);
                match consumer.peek(patience()) {
                    Ok(peeked) => peeked,
                    Err(ReadError::Closed) => return false,
                    Err(error) => panic!("{error}"),
                }
            }
            Err(TryReadError::Closed) => return false,
            Err(error) => panic!("{error}"),
        };
        log.enter(Step::Holding);
        assert_eq!(
            (peeked.tag(), payload::read(&peeked)),
            (tag_of(next), Some(next))
        );
        next += 1;
        mark = Some(peeked.mark());
    }
    log.set(Word::Intent, next);
    log.enter(Step::Publishing);
    consumer.release_to(mark.expect("one at least"));
    log.set(Word::Done, next);
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Producer,
    Consumer,
}

impl Side {
    fn role(self) -> &'static str {
        match self {
            Self::Producer => "byte-producer",
            Self::Consumer => "byte-consumer",
        }
    }

    fn start(self, ring: &Path, number: u64) -> Child {
        Child::start(self.role(), ring, number, 0)
    }

    /// One that dies as it attaches, at some moment.
    fn start_doomed(self, ring: &Path, number: u64) -> Child {
        let within = Duration::from_micros(400);
        let aim = |log: &Log| log.aim(Step::Attaching, libc::SIGKILL, within);
        Child::start_aimed(self.role(), ring, number, 0, aim)
    }

    /// What the ring counts of it.
    fn records(self, snapshot: &Snapshot) -> u64 {
        match self {
            Self::Producer => snapshot.committed_records,
            Self::Consumer => snapshot.released_records,
        }
    }
}

/// One side of the ring and those who have played it.
struct Player {
    side: Side,
    child: Child,
    /// Where the present one must go on.
    resumes_at: u64,
}

impl Player {
    /// What the present one must have told, if it has come so far.
    fn check_start(&self) {
        let told = self.child.log.get(Word::Answer);
        let expected = self.resumes_at + 1;
        assert!(
            told == 0 || told == expected,
            "{:?}: {told}, {expected}",
            self.side
        );
    }

    /// Lives for a while, and is killed at some moment.
    fn die(&mut self, ring: &Path, random: &mut Random) -> Step {
        let target = self.resumes_at + random.below(1500);
        self.child.wait_until(|log| log.get(Word::Done) >= target);
        if random.below(4) > 0 {
            let step = random.pick(&AIMS);
            let (within, budget) = (Duration::from_nanos(1500), Duration::from_millis(20));
            let looks = random.below(MOST_LOOKS);
            for _ in 0..looks {
                if self.child.stop_in(step, within, budget) {
                    self.count(ring);
                    self.child.go_on();
                }
            }
            self.child.stop_in(step, within, budget);
        }
        self.child.kill();
        self.is_followed(ring, random)
    }

    /// The present one is killed at once, as a rule before it has attached; the next one as it
    /// attaches.
    fn die_young(&mut self, ring: &Path, random: &mut Random) -> [Step; 2] {
        self.child.kill();
        let first = self.has_died(ring);
        self.child = self.side.start_doomed(ring, random.next());
        assert!(self.child.dies(), "it attached and finished");
        [first, self.is_followed(ring, random)]
    }

    /// Checks the ring's count after a death, and starts the next one.
    fn is_followed(&mut self, ring: &Path, random: &mut Random) -> Step {
        let step = self.has_died(ring);
        self.child = self.side.start(ring, random.next());
        step
    }

    /// Checks the ring's count after a death.
    fn has_died(&mut self, ring: &Path) -> Step {
        self.check_start();
        self.resumes_at = self.count(ring);
        self.child.log.step()
    }

    /// What the ring counts of one that is dead or stands still, which must be one of two numbers.
    fn count(&self, ring: &Path) -> u64 {
        let log = &self.child.log;
        let snapshot = inspect(&Location::from(ring)).expect("inspect");
        let found = self.side.records(&snapshot);
        let (done, intent) = match log.get(Word::Answer) {
            0 => (self.resumes_at, self.resumes_at),
            _ => (log.get(Word::Done), log.get(Word::Intent)),
        };
        assert!(
            found == done || found == intent,
            "{:?} died in {:?}: {found} records, {done} were done, {intent} intended",
            self.side,
            log.step(),
        );
        if self.side == Side::Producer {
            let (committed, released) = (snapshot.committed_records, snapshot.released_records);
            assert!(
                released <= committed,
                "{released} of {committed} records were released"
            );
        }
        found
    }
}

#[test]
fn killed_producers_and_consumers_are_resumed_where_they_were() {
    let _alone = alone();
    let directory = directory();
    let ring = directory.path().join("bytes.ring");
    Options::new(CAPACITY).create(&ring).expect("create");
    let mut random = Random::new(2);
    let mut players = [Side::Producer, Side::Consumer].map(|side| Player {
        side,
        child: side.start(&ring, random.next()),
        resumes_at: 0,
    });
    let mut hits: BTreeMap<(Side, Step), u64> = BTreeMap::new();
    let began = Instant::now();
    while began.elapsed() < LENGTH {
        let player = &mut players[random.index(2)];
        let step = player.die(&ring, &mut random);
        *hits.entry((player.side, step)).or_default() += 1;
        if random.below(8) == 0 {
            for step in player.die_young(&ring, &mut random) {
                *hits.entry((player.side, step)).or_default() += 1;
            }
        }
    }
    let [mut producer, mut consumer] = players;
    producer.child.log.set(Word::Order, FINISH);
    producer.child.finish();
    consumer.child.finish();
    producer.check_start();
    consumer.check_start();
    recover(&Location::from(&ring), &RecoverOptions::default()).expect("recover");
    let snapshot = inspect(&Location::from(&ring)).expect("inspect");
    let kills: u64 = hits.values().sum();
    println!(
        "{kills} kills, {} records: {hits:?}",
        snapshot.committed_records
    );
    assert_eq!(
        snapshot.committed_records,
        producer.child.log.get(Word::Done)
    );
    assert_eq!(snapshot.released_records, snapshot.committed_records);
    assert_eq!(snapshot.claims_count, 0);
    assert!(snapshot.participants.is_empty());
    let steps = [
        Step::Starting,
        Step::Attaching,
        Step::Claiming,
        Step::Holding,
    ];
    for step in steps
        .into_iter()
        .chain([Step::Waiting, Step::Publishing, Step::Undoing])
    {
        for side in [Side::Producer, Side::Consumer] {
            assert!(
                hits.contains_key(&(side, step)),
                "no {side:?} died in {step:?}"
            );
        }
    }
}

#[test]
fn a_second_one_is_refused_by_name_and_a_survivor_is_told_within_a_second() {
    const BOUND: Duration = Duration::from_secs(1);
    let directory = directory();
    let ring = directory.path().join("peer.ring");
    Options::new(CAPACITY).create(&ring).expect("create");

    let mut consumer = attach_consumer(&ring);
    assert_eq!(consumer.peer(), Peer::Absent);
    let mut child = Side::Producer.start(&ring, 1);
    child.wait_until(|log| log.get(Word::Done) > 0);
    assert_eq!(consumer.peer(), Peer::Alive);
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    is_refused(unsafe { Producer::attach(&ring) }.err(), &child);
    child.kill();
    let dead = Instant::now();
    while consumer.peer() == Peer::Alive {
        assert!(
            dead.elapsed() < BOUND,
            "the consumer still takes the producer for alive"
        );
        std::thread::yield_now();
    }
    while consumer.try_read().is_ok() {}
    let nothing = consumer.read(Wait::block().for_at_most(Duration::from_millis(200)));
    assert_eq!(nothing.err(), Some(ReadError::TimedOut));
    drop(consumer);

    let mut producer = attach_producer(&ring);
    let mut child = Side::Consumer.start(&ring, 1);
    child.wait_until(|log| log.get(Word::Answer) > 0);
    assert_eq!(producer.peer(), Peer::Alive);
    // SAFETY: as above.
    is_refused(unsafe { Consumer::attach(&ring) }.err(), &child);
    child.kill();
    let dead = Instant::now();
    while producer.peer() == Peer::Alive {
        assert!(
            dead.elapsed() < BOUND,
            "the producer still takes the consumer for alive"
        );
        std::thread::yield_now();
    }
    producer.close();
}
