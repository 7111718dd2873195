//! What the others pay for a dead sleeper and for a dead waker: one bound at most, and never more.
//!
//! A sleeper that dies leaves its mark in the event word. A waker that dies between making its
//! records visible and its system call leaves the others asleep with work to do. To be killed just
//! there, a waker commits a batch so large that the stores take some time, and is stopped when the
//! ring shows a part of it.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::segment::{Location, inspect};
use annulus::{Wait, mpmc};
use nix::poll::{PollFd, PollFlags, poll};

use super::child::{Child, Task, alone, directory, patience};
use super::log::{Step, Word};
use super::system::{is_stopped, now_ns};

const BOUND: Duration = Duration::from_secs(1);
/// Slots of the ring for large batches.
const SLOTS: u64 = 1 << 13;
const BATCH: u64 = SLOTS - 64;
const FINISH: u64 = 1;

fn attach_producer(ring: &Path) -> mpmc::Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { mpmc::Producer::attach(ring) }.expect("attach")
}

fn attach_consumer(ring: &Path) -> mpmc::Consumer {
    // SAFETY: as above.
    unsafe { mpmc::Consumer::attach(ring) }.expect("attach")
}

/// The sleeper: takes what comes, and notes when. Number 0 waits for records, 1 for space.
pub(crate) fn sleep(task: &Task) {
    let log = &task.log;
    log.enter(Step::Attaching);
    if task.number == 0 {
        let consumer = attach_consumer(&task.ring);
        loop {
            log.enter(Step::Waiting);
            match consumer.read(patience()) {
                Ok(record) => {
                    log.append(now_ns());
                    record.release();
                }
                Err(error) => panic!("{error}"),
            }
        }
    } else {
        let producer = attach_producer(&task.ring);
        log.enter(Step::Waiting);
        producer
            .push(0, b"", patience())
            .expect("space, in the end");
        log.append(now_ns());
    }
    log.enter(Step::Finished);
}

/// The waker: stages a batch, and publishes it by order. Number 0 commits records, 1 releases them.
pub(crate) fn wake(task: &Task) {
    let log = &task.log;
    log.enter(Step::Attaching);
    if task.number == 0 {
        let producer = attach_producer(&task.ring);
        let mut batch = producer.batch();
        for _ in 0..BATCH {
            batch.try_push(0, b"").expect("space");
        }
        log.enter(Step::Holding);
        task.wait_for_order(FINISH);
        log.enter(Step::Publishing);
        batch.commit();
    } else {
        let consumer = attach_consumer(&task.ring);
        let most = usize::try_from(SLOTS).expect("it fits");
        let batch = consumer.try_read_batch(most).expect("a full ring");
        log.enter(Step::Holding);
        task.wait_for_order(FINISH);
        log.enter(Step::Publishing);
        batch.release();
    }
    log.enter(Step::Finished);
}

fn fall_asleep(child: &mut Child) {
    child.wait_for(Step::Waiting);
    let began = Instant::now();
    while !child.is_asleep() {
        assert!(began.elapsed() < BOUND, "it does not fall asleep");
        std::thread::yield_now();
    }
}

fn first_entry_ns(child: &mut Child) -> u64 {
    child.wait_until(|log| log.get(Word::Entries) > 0);
    child.log.entries().next().expect("it has one")
}

#[test]
fn a_killed_sleeper_takes_no_wake_up_from_the_others() {
    const ROUNDS: u32 = 60;
    let _alone = alone();
    let directory = directory();
    let ring = directory.path().join("sleepers.ring");
    mpmc::Options::new(8, 16).create(&ring).expect("create");
    let producer = attach_producer(&ring);
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let mut sleepers = [0; 3].map(|_| Child::start("sleeper", &ring, 0, 64));
        sleepers.iter_mut().for_each(fall_asleep);
        let [dead, living @ ..] = &mut sleepers;
        dead.kill();
        for count in 1..=8 {
            let pushed = now_ns();
            producer.push(0, b"", patience()).expect("space");
            let taken = || {
                living
                    .iter()
                    .map(|child| child.log.get(Word::Entries))
                    .sum::<u64>()
            };
            while taken() < count {
                let waited = Duration::from_nanos(now_ns() - pushed);
                assert!(waited < BOUND, "nobody woke up for {waited:?}");
                std::thread::yield_now();
            }
            longest = longest.max(Duration::from_nanos(now_ns() - pushed));
        }
        living.iter_mut().for_each(Child::kill);
    }
    println!(
        "{ROUNDS} killed sleepers, {} kills; longest delay {longest:?}",
        3 * ROUNDS
    );
}

/// Lets a waker publish while somebody sleeps, stops it half-way, and kills it. Returns how long
/// the sleeper slept on, or `None` if the waker was not met half-way.
fn kill_half_way(ring: &Path, side: u64) -> Option<Duration> {
    let mut waker = Child::start("waker", ring, side, 0);
    waker.wait_for(Step::Holding);
    let mut sleeper = Child::start("sleeper", ring, side, 1 << 14);
    fall_asleep(&mut sleeper);
    let location = Location::from(ring);
    let claims = || inspect(&location).expect("inspect").claims_count;
    let before = claims();
    waker
        .log
        .aim(Step::Publishing, libc::SIGKILL, Duration::from_micros(60));
    waker.log.set(Word::Order, FINISH);
    let killed = waker.dies();
    let since = now_ns();
    let after = claims();
    let half_way = killed && (1..before).contains(&after) && sleeper.log.get(Word::Entries) == 0;
    if after == before {
        // It has published nothing: there is nothing to wake up for.
        sleeper.kill();
        return None;
    }
    let woken = first_entry_ns(&mut sleeper);
    match side {
        0 => sleeper.kill(),
        _ => sleeper.finish(),
    }
    let delay = Duration::from_nanos(woken.saturating_sub(since));
    assert!(delay < BOUND, "a dead waker cost {delay:?}");
    half_way.then_some(delay)
}

fn killed_half_way(side: u64) {
    const ROUNDS: u32 = 150;
    const ENOUGH: usize = 12;
    let _alone = alone();
    let mut delays = Vec::new();
    let mut rounds = 0;
    while rounds < ROUNDS && delays.len() < ENOUGH {
        rounds += 1;
        let directory = directory();
        let ring = directory.path().join("wakers.ring");
        mpmc::Options::new(SLOTS, 0).create(&ring).expect("create");
        if side == 1 {
            let producer = attach_producer(&ring);
            while producer.try_push(0, b"").is_ok() {}
        }
        delays.extend(kill_half_way(&ring, side));
        is_whole(&ring);
    }
    println!(
        "{rounds} killed wakers, {} of them half-way: {delays:?}",
        delays.len()
    );
    assert!(!delays.is_empty(), "no waker was met half-way");
}

/// All that was committed can be read, and the slots of the dead waker are in use again.
fn is_whole(ring: &Path) {
    let consumer = attach_consumer(ring);
    while let Ok(record) = consumer.read(Wait::block().for_at_most(Duration::from_millis(20))) {
        record.release();
    }
    let snapshot = inspect(&Location::from(ring)).expect("inspect");
    assert_eq!((snapshot.claims_count, snapshot.backlog_records), (0, 0));
}

/// Lets a waker publish while an epoll loop waits, and stops it half-way. Returns how long the loop
/// waited on, or `None` if the waker was not met half-way.
fn stop_half_way(ring: &Path, side: u64) -> Option<Duration> {
    let mut waker = Child::start("waker", ring, side, 0);
    waker.wait_for(Step::Holding);
    let (producer, consumer) = (attach_producer(ring), attach_consumer(ring));
    let descriptor = if side == 0 {
        consumer.arm().expect("a helper");
        assert!(consumer.try_read().is_err(), "nothing is committed");
        consumer.descriptor()
    } else {
        producer.arm().expect("a helper");
        assert!(producer.try_push(0, b"").is_err(), "nothing is released");
        producer.descriptor()
    };
    let mut descriptor = [PollFd::new(
        descriptor.expect("a helper"),
        PollFlags::POLLIN,
    )];
    let aim = &waker.log;
    aim.aim(Step::Publishing, libc::SIGSTOP, Duration::from_micros(60));
    aim.set(Word::Order, FINISH);
    if !is_stopped(waker.pid(), true) {
        return None; // It was quicker.
    }
    let since = Instant::now();
    let left = inspect(&Location::from(ring))
        .expect("inspect")
        .claims_count;
    let all = if side == 0 { BATCH } else { SLOTS };
    if waker.log.step() != Step::Publishing || left == 0 || left == all {
        return None;
    }
    let ready = poll(&mut descriptor, 5000_u16).expect("poll");
    let waited = since.elapsed();
    assert_eq!(ready, 1, "a stopped waker keeps an epoll loop waiting");
    assert!(waited < BOUND, "a stopped waker cost {waited:?}");
    Some(waited)
}

fn stopped_half_way(side: u64) {
    const ROUNDS: u32 = 150;
    const ENOUGH: usize = 6;
    let _alone = alone();
    let mut delays = Vec::new();
    let mut rounds = 0;
    while rounds < ROUNDS && delays.len() < ENOUGH {
        rounds += 1;
        let directory = directory();
        let ring = directory.path().join("wakers.ring");
        mpmc::Options::new(SLOTS, 0).create(&ring).expect("create");
        if side == 1 {
            let producer = attach_producer(&ring);
            while producer.try_push(0, b"").is_ok() {}
        }
        delays.extend(stop_half_way(&ring, side));
    }
    println!(
        "{rounds} stopped wakers, {} of them half-way: {delays:?}",
        delays.len()
    );
    assert!(!delays.is_empty(), "no waker was met half-way");
}

#[test]
fn a_producer_stopped_before_its_wake_up_delays_an_epoll_loop_by_one_bound() {
    stopped_half_way(0);
}

#[test]
fn a_consumer_stopped_before_its_wake_up_delays_an_epoll_loop_by_one_bound() {
    stopped_half_way(1);
}

#[test]
fn a_producer_killed_before_its_wake_up_delays_consumers_by_one_bound() {
    killed_half_way(0);
}

#[test]
fn a_consumer_killed_before_its_wake_up_delays_producers_by_one_bound() {
    killed_half_way(1);
}
