//! Those who recover die at it too, and whoever comes next does all of it again.
//!
//! A victim with several handles dies holding thousands of slots of a large ring, so that sweeping
//! after it takes long. Recoverers come in pairs, by `recover` or by attaching, and are killed in
//! the midst of it. In the end each record that was committed has come exactly once, and the
//! ring's counts are exact: a skipped slot that is counted twice, or not at all, shows.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::mpmc::{Claim, Consumer, Options, Producer, Record};
use annulus::segment::{Location, RecoverOptions, RowState, Snapshot, inspect};
use annulus::{TryReadError, Wait, segment};

use super::child::{Child, Task, alone, directory};
use super::log::Step;
use super::payload::Random;
use super::stop::Holds;

const SLOTS: u64 = 1 << 15;
/// Handles of each role in a victim.
const HANDLES: u64 = 3;
/// Slots that each producer dies writing.
const WRITING: u64 = 4000;
/// Records that each consumer dies reading.
const READING: u64 = 100;
/// Pairs of recoverers for each victim.
const PAIRS: u64 = 6;
const LENGTH: Duration = Duration::from_secs(15);

/// A recoverer has mended a ring.
const BY_RECOVER: u64 = 0;

fn attach_producer(ring: &Path) -> Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { Producer::attach(ring) }.expect("attach")
}

fn attach_consumer(ring: &Path) -> Consumer {
    // SAFETY: as above.
    unsafe { Consumer::attach(ring) }.expect("attach")
}

/// The victim: commits records, reads them all and holds them, and claims as many slots as it is
/// told to. Its number is that of the first record.
pub(crate) fn hold_many(task: &Task) {
    let log = &task.log;
    log.enter(Step::Attaching);
    let producers: Vec<Producer> = (0..HANDLES).map(|_| attach_producer(&task.ring)).collect();
    let consumers: Vec<Consumer> = (0..HANDLES).map(|_| attach_consumer(&task.ring)).collect();
    for number in 0..HANDLES * READING {
        let payload = (task.number + number).to_le_bytes();
        producers[0]
            .push(0, &payload, Wait::block())
            .expect("space");
    }
    let mut records: Vec<Record<'_>> = Vec::new();
    for consumer in &consumers {
        records.extend((0..READING).map(|_| consumer.try_read().expect("a record")));
    }
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for producer in &producers {
        claims.extend((0..WRITING).map(|_| producer.try_claim(8).expect("space")));
    }
    log.enter(Step::Holding);
    task.wait_for_order(u64::MAX); // Which never comes.
    drop((records, claims));
}

/// A recoverer, of either kind.
pub(crate) fn recover(task: &Task) {
    let log = &task.log;
    log.enter(Step::Recovering);
    if task.number == BY_RECOVER {
        sweep(&task.ring);
    } else {
        drop(attach_consumer(&task.ring));
    }
    log.enter(Step::Finished);
}

fn sweep(ring: &Path) -> annulus::Recovered {
    segment::recover(&Location::from(ring), &RecoverOptions::default()).expect("recover")
}

#[derive(Debug, Default)]
struct Hits {
    /// Recoverers that were killed before they had come to an end.
    kills: u64,
    /// Of these, how many left a row that was being recovered.
    in_the_midst: u64,
    /// Rows that a dead recoverer had left to the next one.
    left_over: u64,
    victims: u64,
}

#[test]
fn recoverers_that_die_leave_all_to_the_next_one_and_every_count_exact() {
    let _alone = alone();
    let directory = directory();
    let ring = directory.path().join("recovery.ring");
    Options::new(SLOTS, 16).create(&ring).expect("create");
    let mut random = Random::new(4);
    let mut hits = Hits::default();
    let began = Instant::now();
    while began.elapsed() < LENGTH {
        one_victim(&ring, &mut random, &mut hits);
    }
    println!("{hits:?}");
    assert!(
        hits.in_the_midst > 0,
        "no recoverer died in the midst of it"
    );
}

fn one_victim(ring: &Path, random: &mut Random, hits: &mut Hits) {
    let first = hits.victims * HANDLES * READING;
    let mut victim = Child::start("victim", ring, first, 0);
    victim.wait_for(Step::Holding);
    // While it lives nobody takes anything from it, however hard one tries.
    assert_eq!(sweep(ring), annulus::Recovered::default());
    victim.kill();
    hits.victims += 1;
    for _ in 0..PAIRS {
        kill_a_pair(ring, random, hits);
    }
    sweep(ring);
    let snapshot = inspect(&Location::from(ring)).expect("inspect");
    is_exact(&snapshot, hits.victims);
    assert_eq!(snapshot.backlog_records, HANDLES * READING);
    drain(ring, first);
    let snapshot = inspect(&Location::from(ring)).expect("inspect");
    is_exact(&snapshot, hits.victims);
    assert_eq!(snapshot.backlog_records, 0);
}

/// What a dead one held, or kept others from, comes to those who were there all along: nobody
/// attaches, nobody calls for recovery, and they sleep while they wait.
#[test]
fn survivors_alone_get_what_the_dead_held_within_a_second() {
    const BOUND: Duration = Duration::from_secs(1);
    const ROUNDS: u32 = 12;
    let _alone = alone();
    let directory = directory();
    let ring = directory.path().join("survivors.ring");
    Options::new(8, 16).create(&ring).expect("create");
    let (producer, consumer) = (attach_producer(&ring), attach_consumer(&ring));
    let within_bound = || Wait::block().for_at_most(BOUND);
    for _ in 0..ROUNDS {
        // A consumer that has looked at the ring, and found it empty, since the last recovery.
        assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
        producer.push(1, b"first", within_bound()).expect("space");
        let mut holder = Child::start("holder", &ring, Holds::SlotToRead as u64, 0);
        holder.wait_for(Step::Holding);
        assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
        holder.kill();
        let record = consumer
            .read(within_bound())
            .expect("what the dead one held");
        assert_eq!((record.tag(), record.attempts()), (1, 1));
        record.release();

        let mut holder = Child::start("holder", &ring, Holds::SlotToWrite as u64, 0);
        holder.wait_for(Step::Holding);
        producer
            .push(4, b"behind it", within_bound())
            .expect("space");
        holder.kill();
        for tag in [1, 2, 4] {
            let record = consumer.read(within_bound()).expect("a record");
            assert_eq!((record.tag(), record.attempts()), (tag, 0));
        }
    }
    println!("{} kills", 2 * ROUNDS);
}

/// Two at a time, of which the first may wait for the second one's lock.
fn kill_a_pair(ring: &Path, random: &mut Random, hits: &mut Hits) {
    let mut pair = [0, 1].map(|_| {
        let recoverer = Child::start("recoverer", ring, random.below(2), 0);
        recoverer
            .log
            .aim(Step::Recovering, libc::SIGKILL, Duration::from_micros(1500));
        recoverer
    });
    for recoverer in &mut pair {
        hits.kills += u64::from(recoverer.dies());
    }
    let left = rows_in_recovery(ring);
    hits.in_the_midst += u64::from(left > 0);
    hits.left_over += left;
    let snapshot = inspect(&Location::from(ring)).expect("inspect");
    assert_eq!(snapshot.committed_records, hits.victims * HANDLES * READING);
}

fn rows_in_recovery(ring: &Path) -> u64 {
    let snapshot = inspect(&Location::from(ring)).expect("inspect");
    let in_recovery = |row: &&segment::ParticipantInfo| row.state == RowState::Recovering;
    snapshot.participants.iter().filter(in_recovery).count() as u64
}

#[track_caller]
fn is_exact(snapshot: &Snapshot, victims: u64) {
    assert_eq!(snapshot.claims_count, 0);
    assert!(
        snapshot.participants.is_empty(),
        "{:?}",
        snapshot.participants
    );
    assert_eq!(snapshot.totals.skipped, victims * HANDLES * WRITING);
    assert_eq!(snapshot.committed_records, victims * HANDLES * READING);
}

/// Takes all that is left, which must be each record of the victim once, as given back before.
fn drain(ring: &Path, first: u64) {
    let consumer = attach_consumer(ring);
    let mut count = vec![0; usize::try_from(HANDLES * READING).expect("it fits")];
    loop {
        match consumer.try_read() {
            Ok(record) => {
                let number = u64::from_le_bytes(record[..].try_into().expect("eight bytes"));
                assert!(record.attempts() > 0);
                count[usize::try_from(number - first).expect("it fits")] += 1;
            }
            Err(TryReadError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        count.iter().all(|count| *count == 1),
        "lost or delivered twice"
    );
}

/// Whoever is never refused by the same thing for long has to look after the dead all the same: a
/// record that a dead one was reading is behind everybody, and blocks nobody for a whole lap.
#[test]
fn a_dead_readers_record_comes_again_in_time_also_while_others_come_all_the_time() {
    const SOON: Duration = Duration::from_secs(1);
    let _alone = alone();
    let directory = directory();
    let ring = directory.path().join("trickle.ring");
    Options::new(1 << 12, 16).create(&ring).expect("create");
    let (producer, consumer) = (attach_producer(&ring), attach_consumer(&ring));
    producer.try_push(1, b"first").expect("space");
    let mut holder = Child::start("holder", &ring, Holds::SlotToRead as u64, 0);
    holder.wait_for(Step::Holding);
    holder.kill();
    let died = Instant::now();
    std::thread::scope(|scope| {
        let found = scope.spawn(move || {
            let consumer = consumer;
            loop {
                let record = consumer.read(Wait::block()).expect("records come");
                if record.tag() == 1 {
                    assert_eq!((record.attempts(), &record[..]), (1, &b"first"[..]));
                    return Instant::now();
                }
            }
        });
        while !found.is_finished() {
            producer.try_push(2, b"another").expect("space");
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = found
            .join()
            .expect("it reads")
            .saturating_duration_since(died);
        println!("it came again after {took:?}");
        assert!(took < SOON, "it came again after {took:?}");
    });
}
