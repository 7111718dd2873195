//! Every way to wait, on both rings, both sides, in files and on the heap.
//!
//! | file | for |
//! | --- | --- |
//! | `waiting/rings.rs` | both rings behind two traits, and what the test knows of a waiter |
//! | `waiting/processes.rs` | tests in a process of their own, and processes to be killed |
//! | `waiting/traced.rs` | counting system calls |
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod waiting {
    pub(crate) mod processes;
    pub(crate) mod rings;
    pub(crate) mod traced;
}

use std::thread;
use std::time::{Duration, Instant};

use annulus::segment::Role;
use annulus::{
    ClaimError, Location, ReadError, TryClaimError, TryReadError, Wait, mpmc, segment, spsc,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use waiting::processes::{Victim, alone, command, hold, is_alone, victims_part};
use waiting::rings::{
    PATIENCE, Place, Pop, Push, Ring, byte_ring, eventually, mpmc_consumer, mpmc_producer,
    patiently, slot_ring, spsc_consumer, spsc_producer, ways,
};
use waiting::traced;

/// How late a waiter may be on a machine that does much else.
const NOISE: Duration = Duration::from_millis(500);
/// The longest sleep of a waiter that nobody wakes, as the documents promise.
const BOUND: Duration = Duration::from_millis(100);

#[test]
fn each_way_to_wait_moves_all_records_in_order() {
    for ring in Ring::ALL {
        for (name, way) in ways() {
            // Two spinners on one processor take turns of a whole time slice.
            let records = if name == "spin" { 400 } else { 4000 };
            let place = Place::new();
            let (mut producer, mut consumer) = ring.pair(&place);
            let writing = thread::spawn(move || {
                for tag in 0..records {
                    producer.push(tag, patiently(way)).unwrap();
                }
                producer
            });
            for tag in 0..records {
                assert_eq!(consumer.pop(patiently(way)), Ok(tag), "{ring:?}, {name}");
            }
            writing.join().unwrap();
        }
    }
}

#[test]
fn trying_never_waits() {
    for ring in Ring::ALL {
        let (mut producer, mut consumer) = ring.pair(&Place::new());
        assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
        let start = Instant::now();
        let written = (0..)
            .take_while(|tag| producer.try_push(*tag).is_ok())
            .count();
        assert_eq!(written, Ring::ROOM as usize, "{ring:?}");
        assert_eq!(producer.try_push(9), Err(TryClaimError::Full));
        assert!(start.elapsed() < NOISE);
        producer.close();
        assert_eq!(producer.try_push(9), Err(TryClaimError::Closed));
        (0..Ring::ROOM).for_each(|tag| assert_eq!(consumer.try_pop(), Ok(tag)));
        assert_eq!(consumer.try_pop(), Err(TryReadError::Closed));
    }
}

#[test]
fn a_deadline_ends_a_wait_on_time_and_never_early() {
    const TIMEOUT: Duration = Duration::from_millis(30);
    for ring in Ring::ALL {
        let (mut producer, mut consumer) = ring.pair(&Place::new());
        let on_time = |start: Instant, timeout: Duration, what: &str| {
            let late = start.elapsed().checked_sub(timeout);
            let late = late.unwrap_or_else(|| panic!("{ring:?}, {what}: too early"));
            assert!(late < NOISE, "{ring:?}, {what}: {late:?} late");
        };
        for (name, way) in ways() {
            for timeout in [Duration::ZERO, TIMEOUT, BOUND + TIMEOUT] {
                let start = Instant::now();
                assert_eq!(
                    consumer.pop(way.for_at_most(timeout)),
                    Err(ReadError::TimedOut)
                );
                on_time(start, timeout, name);
            }
            let start = Instant::now();
            assert_eq!(consumer.pop(way.until(start)), Err(ReadError::TimedOut));
            on_time(start, Duration::ZERO, name);
        }
        (0..Ring::ROOM).for_each(|tag| producer.try_push(tag).unwrap());
        for (name, way) in ways() {
            for timeout in [Duration::ZERO, TIMEOUT, BOUND + TIMEOUT] {
                let start = Instant::now();
                let outcome = producer.push(9, way.for_at_most(timeout));
                assert_eq!(outcome, Err(ClaimError::TimedOut));
                on_time(start, timeout, name);
            }
        }
        // Nothing of the refused attempts is in the ring, and a success needs no time.
        for tag in 0..Ring::ROOM {
            assert_eq!(
                consumer.pop(Wait::block().for_at_most(Duration::ZERO)),
                Ok(tag)
            );
        }
        assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
    }
}

/// Whoever waits in a full ring hopes for room for many records, and takes what there is.
#[test]
fn room_for_one_record_ends_a_wait() {
    fn of(place: &Place, way: Wait, mut producer: impl Push + 'static, mut consumer: impl Pop) {
        while producer.try_push(1).is_ok() {}
        let waiter = thread::spawn(move || producer.push(1, way.for_at_most(PATIENCE)));
        place.until_refused(Role::Producer);
        // At the ring's end a record takes the rest of it as well.
        consumer.try_pop().unwrap();
        consumer.try_pop().unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(()), "{way:?}");
    }
    for (_, way) in ways() {
        let (bytes, slots) = (Place::new(), Place::new());
        let path = bytes.path();
        spsc::Options::new(1 << 16).create(&path).unwrap();
        of(&bytes, way, spsc_producer(&path), spsc_consumer(&path));
        let path = slots.path();
        mpmc::Options::new(64, 8).create(&path).unwrap();
        of(&slots, way, mpmc_producer(&path), mpmc_consumer(&path));
    }
}

/// A waiter that nobody wakes goes on after its bound all the same, so a lost wake-up is no hang
/// but a tenth of a second.
#[test]
fn a_sleeper_is_woken_and_not_left_to_its_bound() {
    const ROUNDS: u32 = 2000;
    const SLOW: usize = 20;
    for ring in Ring::ALL {
        let (mut there, mut far) = ring.pair(&Place::new());
        let (mut back, mut near) = ring.pair(&Place::new());
        let echo = thread::spawn(move || {
            while let Ok(tag) = far.pop(Wait::block()) {
                back.push(tag, Wait::block()).unwrap();
            }
        });
        let mut slow = 0;
        for tag in 0..ROUNDS {
            let start = Instant::now();
            there.push(tag, Wait::block()).unwrap();
            assert_eq!(near.pop(Wait::block()), Ok(tag));
            slow += usize::from(start.elapsed() > BOUND * 9 / 10);
            assert!(
                slow < SLOW,
                "{ring:?}: {slow} of {tag} round trips took a whole bound"
            );
        }
        there.close();
        echo.join().unwrap();
    }
}

#[test]
fn closing_wakes_everybody_who_sleeps() {
    const ROUNDS: usize = 10;
    for ring in Ring::FILES {
        // Producers need not give up what was claimed before, so only an idle end is timed.
        let slept_on = |round: usize| {
            let place = Place::new();
            let (mut producer, mut consumer) = ring.pair(&place);
            let (role, closed) = if round.is_multiple_of(2) {
                let sleeper = thread::spawn(move || {
                    assert_eq!(
                        consumer.pop(patiently(Wait::block())),
                        Err(ReadError::Closed)
                    );
                    Instant::now()
                });
                place.until_asleep(Role::Consumer, 1);
                let start = Instant::now();
                producer.close();
                (Role::Consumer, sleeper.join().unwrap() - start)
            } else {
                (0..Ring::ROOM).for_each(|tag| producer.try_push(tag).unwrap());
                let sleeper = thread::spawn(move || {
                    let outcome = producer.push(9, patiently(Wait::block()));
                    assert_eq!(outcome, Err(ClaimError::Closed));
                    Instant::now()
                });
                place.until_asleep(Role::Producer, 1);
                let start = Instant::now();
                consumer.close();
                (Role::Producer, sleeper.join().unwrap() - start)
            };
            (role, closed)
        };
        let rounds: Vec<_> = (0..ROUNDS).map(slept_on).collect();
        for role in [Role::Producer, Role::Consumer] {
            let fastest = rounds
                .iter()
                .filter(|round| round.0 == role)
                .map(|round| round.1)
                .min();
            assert!(
                fastest.unwrap() < BOUND / 4,
                "{ring:?}, {role}: {fastest:?}"
            );
        }
    }
}

#[test]
fn closing_wakes_all_consumers_and_all_producers_of_a_slot_ring() {
    let place = Place::new();
    slot_ring().create(place.path()).unwrap();
    let closer = mpmc_producer(&place.path());
    let consumers: Vec<_> = ways()
        .into_iter()
        .cycle()
        .take(6)
        .map(|(_, way)| {
            let consumer = mpmc_consumer(&place.path());
            thread::spawn(move || consumer.read(patiently(way)).map(|record| record.tag()))
        })
        .collect();
    place.until_asleep(Role::Consumer, 2);
    place.until_refused(Role::Consumer);
    closer.close();
    for consumer in consumers {
        assert_eq!(consumer.join().unwrap(), Err(ReadError::Closed));
    }

    closer.reopen();
    (0..Ring::ROOM).for_each(|tag| closer.try_push(tag, b"").unwrap());
    let consumer = mpmc_consumer(&place.path());
    let producers: Vec<_> = ways()
        .into_iter()
        .cycle()
        .take(6)
        .map(|(_, way)| {
            let producer = mpmc_producer(&place.path());
            thread::spawn(move || producer.push(9, b"", patiently(way)))
        })
        .collect();
    place.until_asleep(Role::Producer, 2);
    consumer.close();
    for producer in producers {
        assert_eq!(producer.join().unwrap(), Err(ClaimError::Closed));
    }
}

/// Creates the ring anew, as somebody would who does not know that it is in use.
fn replace(place: &Place) {
    std::fs::remove_file(place.path()).unwrap();
    slot_ring().create(place.path()).unwrap();
}

#[test]
fn a_waiter_learns_that_the_name_belongs_to_another_ring_now() {
    for ring in Ring::FILES {
        for (name, way) in ways() {
            let place = Place::new();
            let (producer, mut consumer) = ring.pair(&place);
            let waiter = thread::spawn(move || consumer.pop(patiently(way)));
            place.until_refused(Role::Consumer);
            replace(&place);
            let outcome = waiter.join().unwrap();
            assert_eq!(
                outcome,
                Err(ReadError::Replaced),
                "{ring:?}, {name}, consumer"
            );
            drop(producer);

            let place = Place::new();
            let (mut producer, _consumer) = ring.pair(&place);
            (0..Ring::ROOM).for_each(|tag| producer.try_push(tag).unwrap());
            let waiter = thread::spawn(move || producer.push(9, patiently(way)));
            place.until_refused(Role::Producer);
            replace(&place);
            let outcome = waiter.join().unwrap();
            assert_eq!(
                outcome,
                Err(ClaimError::Replaced),
                "{ring:?}, {name}, producer"
            );
        }
    }
}

#[test]
fn a_removed_name_alone_ends_no_wait() {
    for ring in Ring::FILES {
        let place = Place::new();
        let (mut producer, mut consumer) = ring.pair(&place);
        std::fs::remove_file(place.path()).unwrap();
        let timeout = BOUND + BOUND / 2;
        for (name, way) in ways() {
            let outcome = consumer.pop(way.for_at_most(timeout));
            assert_eq!(outcome, Err(ReadError::TimedOut), "{ring:?}, {name}");
        }
        producer.try_push(3).unwrap();
        assert_eq!(consumer.try_pop(), Ok(3));
    }
}

/// Plays the processes that other tests kill; nothing when run by itself.
#[test]
fn victim() {
    let Some((role, path)) = victims_part() else {
        return;
    };
    let path = std::path::Path::new(&path);
    match role.as_str() {
        "mpmc producer" => {
            let producer = mpmc_producer(path);
            let _claim = producer.try_claim(8).unwrap();
            hold()
        }
        "mpmc consumer" => {
            let consumer = mpmc_consumer(path);
            let _record = consumer.try_read().unwrap();
            hold()
        }
        "spsc producer" => {
            let mut producer = spsc_producer(path);
            let _claim = producer.try_claim(8).unwrap();
            hold()
        }
        "spsc consumer" => {
            let mut consumer = spsc_consumer(path);
            let _record = consumer.try_read().unwrap();
            hold()
        }
        other => panic!("no such role: {other}"),
    }
}

/// A consumer waits at the slot that a dead producer claimed, with a record behind it.
#[test]
fn a_waiting_consumer_recovers_a_dead_producer() {
    for (name, way) in ways() {
        let place = Place::new();
        slot_ring().create(place.path()).unwrap();
        let victim = Victim::start("mpmc producer", place.path());
        let producer = mpmc_producer(&place.path());
        producer.try_push(5, b"").unwrap();
        let consumer = mpmc_consumer(&place.path());
        let read = move || consumer.read(patiently(way)).map(|record| record.tag());
        let waiter = thread::spawn(read);
        place.until_refused(Role::Consumer);
        victim.kill();
        assert_eq!(waiter.join().unwrap(), Ok(5), "{name}");
        assert_eq!(snapshot(&place).totals.skipped, 1, "{name}");
    }
}

fn snapshot(place: &Place) -> segment::Snapshot {
    segment::inspect(&Location::path(place.path())).unwrap()
}

/// A producer waits for the slot whose record a dead consumer held; this ring drops such records.
#[test]
fn a_waiting_producer_recovers_a_dead_consumer() {
    for (name, way) in ways() {
        let place = Place::new();
        slot_ring().create(place.path()).unwrap();
        let producer = mpmc_producer(&place.path());
        (0..Ring::ROOM).for_each(|tag| producer.try_push(tag, b"").unwrap());
        let victim = Victim::start("mpmc consumer", place.path());
        let waiter = thread::spawn(move || producer.push(9, b"", patiently(way)));
        place.until_refused(Role::Producer);
        victim.kill();
        assert_eq!(waiter.join().unwrap(), Ok(()), "{name}");
        assert_eq!(snapshot(&place).totals.dropped, 1, "{name}");
    }
}

/// In the byte ring nothing moves until the dead one has a successor, but its claim is recovered,
/// and a consumer of a closed ring need not wait for it any longer.
#[test]
fn a_waiting_consumer_of_a_closed_byte_ring_is_released_by_the_producers_death() {
    for (name, way) in ways() {
        let place = Place::new();
        byte_ring().create(place.path()).unwrap();
        let victim = Victim::start("spsc producer", place.path());
        let mut consumer = spsc_consumer(&place.path());
        consumer.close();
        let early = consumer
            .read(way.for_at_most(BOUND * 2))
            .map(|record| record.tag());
        assert_eq!(
            early,
            Err(ReadError::TimedOut),
            "{name}: the claim may still be committed"
        );
        victim.kill();
        let late = consumer.read(patiently(way)).map(|record| record.tag());
        assert_eq!(late, Err(ReadError::Closed), "{name}");
    }
}

#[test]
fn a_waiter_of_the_byte_ring_goes_on_with_the_dead_peers_successor() {
    for (name, way) in ways() {
        let place = Place::new();
        byte_ring().create(place.path()).unwrap();
        let victim = Victim::start("spsc producer", place.path());
        let mut consumer = spsc_consumer(&place.path());
        let waiter = thread::spawn(move || {
            let outcome = consumer.pop(&mut Vec::new(), patiently(way));
            (outcome, consumer)
        });
        place.until_refused(Role::Consumer);
        victim.kill();
        let mut producer = spsc_producer(&place.path());
        producer.try_push(6, b"").unwrap();
        let (outcome, consumer) = waiter.join().unwrap();
        assert_eq!(outcome, Ok(6), "{name}");

        drop(consumer);
        while producer.try_push(7, &[0; 900]).is_ok() {}
        let victim = Victim::start("spsc consumer", place.path());
        let waiter = thread::spawn(move || producer.push(8, &[0; 900], patiently(way)));
        place.until_refused(Role::Producer);
        victim.kill();
        let mut consumer = spsc_consumer(&place.path());
        let first = consumer.read(patiently(way)).map(|record| record.tag());
        assert_eq!(
            first,
            Ok(7),
            "{name}: what the dead one held is delivered again"
        );
        assert_eq!(waiter.join().unwrap(), Ok(()), "{name}");
    }
}

/// One descriptor in a loop of its own.
struct Loop {
    epoll: Epoll,
    waits: u32,
    /// Of these, how many took as long as if nobody had woken it.
    late: u32,
}

impl Loop {
    fn of(descriptor: std::os::fd::BorrowedFd<'_>) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll
            .add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 0))
            .unwrap();
        Self {
            epoll,
            waits: 0,
            late: 0,
        }
    }

    /// Waits for whoever is at work on the other side all the time. A lost wake-up costs a bound
    /// and no more, for its helper looks by itself; so does, now and then, a machine that has no
    /// processor for either side. So this tells wake-ups that are lost often, and loom the others.
    fn wait(&mut self) {
        const LATE: u32 = 10;
        let began = Instant::now();
        assert!(self.is_readable_within(PATIENCE), "a wake-up is lost");
        self.waits += 1;
        self.late += u32::from(began.elapsed() >= BOUND / 2);
        let Self { waits, late, .. } = self;
        assert!(*late < LATE, "wake-ups are lost: {late} of {waits}");
    }

    /// Whether the descriptor is, or becomes, readable in time.
    fn is_readable_within(&self, timeout: Duration) -> bool {
        let mut events = [EpollEvent::empty()];
        let timeout = EpollTimeout::try_from(timeout).unwrap();
        self.epoll.wait(&mut events, timeout).unwrap() == 1
    }
}

fn push_all_by_epoll(producer: &mut dyn Push, records: u32) {
    let mut epoll = Loop::of(producer.descriptor().unwrap());
    let mut tag = 0;
    while tag < records {
        producer.arm().unwrap();
        while tag < records && producer.try_push(tag).is_ok() {
            tag += 1;
        }
        if tag < records {
            epoll.wait();
        }
    }
}

fn pop_all_by_epoll(consumer: &mut dyn Pop, records: u32) {
    let mut epoll = Loop::of(consumer.descriptor().unwrap());
    let mut tag = 0;
    while tag < records {
        consumer.arm().unwrap();
        while let Ok(found) = consumer.try_pop() {
            assert_eq!(found, tag);
            tag += 1;
        }
        if tag < records {
            epoll.wait();
        }
    }
}

#[test]
fn epoll_loops_on_both_sides_lose_no_wake_up() {
    const RECORDS: u32 = 100_000;
    for ring in Ring::ALL {
        let place = Place::new();
        let (mut producer, mut consumer) = ring.pair(&place);
        thread::scope(|scope| {
            scope.spawn(|| push_all_by_epoll(&mut *producer, RECORDS));
            pop_all_by_epoll(&mut *consumer, RECORDS);
        });
        assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
    }
}

#[test]
fn an_epoll_loop_meets_a_sleeper_and_loses_no_wake_up() {
    const RECORDS: u32 = 20_000;
    for ring in Ring::ALL {
        let (mut producer, mut consumer) = ring.pair(&Place::new());
        thread::scope(|scope| {
            scope.spawn(|| push_all_by_epoll(&mut *producer, RECORDS));
            for tag in 0..RECORDS {
                assert_eq!(consumer.pop(patiently(Wait::block())), Ok(tag));
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| pop_all_by_epoll(&mut *consumer, RECORDS));
            for tag in 0..RECORDS {
                producer.push(tag, patiently(Wait::block())).unwrap();
            }
        });
    }
}

#[test]
fn a_descriptor_tells_of_what_comes_and_of_nothing_else() {
    for ring in Ring::ALL {
        let (mut producer, mut consumer) = ring.pair(&Place::new());
        consumer.arm().unwrap();
        let items = Loop::of(consumer.descriptor().unwrap());
        let quiet = items.is_readable_within(Duration::ZERO);
        assert!(!quiet, "{ring:?}: an empty ring");
        producer.try_push(0).unwrap();
        assert!(items.is_readable_within(PATIENCE), "{ring:?}: a record");
        assert!(
            items.is_readable_within(PATIENCE),
            "{ring:?}: it stays so until it is armed"
        );
        consumer.arm().unwrap();
        assert_eq!(consumer.try_pop(), Ok(0));
        producer.close();
        assert!(items.is_readable_within(PATIENCE), "{ring:?}: the end");
    }
}

#[test]
fn an_epoll_loop_recovers_a_dead_peer() {
    let place = Place::new();
    slot_ring().create(place.path()).unwrap();
    let victim = Victim::start("mpmc producer", place.path());
    mpmc_producer(&place.path()).try_push(5, b"").unwrap();
    let consumer = mpmc_consumer(&place.path());
    consumer.arm().unwrap();
    let epoll = Loop::of(consumer.descriptor().unwrap());
    assert_eq!(
        consumer.try_read().map(|record| record.tag()),
        Err(TryReadError::Empty)
    );
    victim.kill();
    assert!(
        epoll.is_readable_within(PATIENCE),
        "the dead one is not recovered"
    );
    assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(5));
}

/// Threads of this process with the name that helpers have.
fn helpers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|entry| {
        // A thread that ends meanwhile has no name any more.
        std::fs::read_to_string(entry.ok()?.path().join("comm")).ok()
    });
    names
        .filter(|name| name.trim_end() == "annulus-helper")
        .count()
}

#[test]
fn an_attachment_has_one_helper_and_takes_it_along() {
    alone("an_attachment_has_one_helper_and_takes_it_along", || {
        for ring in Ring::ALL {
            let (mut producer, mut consumer) = ring.pair(&Place::new());
            consumer
                .pop(Wait::block().for_at_most(BOUND / 10))
                .unwrap_err();
            producer.push(0, Wait::block()).unwrap();
            assert_eq!(helpers(), 0, "{ring:?}: nobody asked for a descriptor");
            for _ in 0..3 {
                consumer.arm().unwrap();
                let first = std::os::fd::AsRawFd::as_raw_fd(&consumer.descriptor().unwrap());
                let again = std::os::fd::AsRawFd::as_raw_fd(&consumer.descriptor().unwrap());
                assert_eq!(first, again);
            }
            eventually("the helper has its name", || helpers() == 1);
            producer.arm().unwrap();
            eventually("the other helper has its name", || helpers() == 2);
            drop(consumer);
            // Joined: but the kernel may show a thread for a moment after that.
            eventually("the helper ends with its handle", || helpers() == 1);
            let start = Instant::now();
            drop(producer);
            assert!(
                start.elapsed() < NOISE,
                "{ring:?}: the drop waited for its helper"
            );
            eventually("the other helper ends with its handle", || helpers() == 0);
        }
    });
}

fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.cast_unsigned())
}

#[test]
fn an_armed_attachment_that_waits_uses_no_processor() {
    alone("an_armed_attachment_that_waits_uses_no_processor", || {
        for ring in Ring::FILES {
            let (mut producer, mut consumer) = ring.pair(&Place::new());
            (0..Ring::ROOM).for_each(|tag| producer.try_push(tag).unwrap());
            (0..Ring::ROOM).for_each(|tag| assert_eq!(consumer.try_pop(), Ok(tag)));
            consumer.arm().unwrap();
            let epoll = Loop::of(consumer.descriptor().unwrap());
            let before = cpu_time();
            assert!(
                !epoll.is_readable_within(Duration::from_secs(1)),
                "nothing came"
            );
            let waiting = cpu_time() - before;
            assert!(
                waiting < Duration::from_millis(20),
                "{ring:?}, armed: {waiting:?}"
            );

            let before = cpu_time();
            let wait = Wait::block().for_at_most(Duration::from_secs(1));
            assert_eq!(consumer.pop(wait), Err(ReadError::TimedOut));
            let waiting = cpu_time() - before;
            assert!(
                waiting < Duration::from_millis(20),
                "{ring:?}, asleep: {waiting:?}"
            );
        }
    });
}

/// Runs in the child whose system calls are counted; nothing when run by itself.
#[test]
fn traced_part() {
    let Ok(part) = std::env::var("ANNULUS_TEST_TRACED") else {
        return;
    };
    const RECORDS: u32 = 10_000;
    let place = Place::new();
    let ring = if part.contains("spsc") {
        Ring::SpscFile
    } else {
        Ring::MpmcFile
    };
    let (mut producer, mut consumer) = ring.pair(&place);
    // What a process does once: to find its clock, at the first refusal, and to touch each page.
    assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
    (0..2 * Ring::ROOM).for_each(|tag| {
        producer.push(tag, Wait::spin()).unwrap();
        assert_eq!(consumer.pop(Wait::spin()), Ok(tag));
    });
    let sleeper = part.contains("sleeper").then(|| {
        let mut other = Box::new(mpmc_consumer(&place.path())) as Box<dyn Pop>;
        let thread = thread::spawn(move || other.pop(patiently(Wait::block())).unwrap());
        place.until_asleep(Role::Consumer, 1);
        thread
    });
    traced::mark();
    if let Some(sleeper) = sleeper {
        producer.push(0, Wait::spin()).unwrap();
        traced::mark();
        assert_eq!(sleeper.join().unwrap(), 0);
    } else if part.contains("threads") {
        thread::scope(|scope| {
            scope.spawn(|| {
                (0..RECORDS / 10).for_each(|tag| producer.push(tag, Wait::spin()).unwrap());
            });
            (0..RECORDS / 10).for_each(|tag| assert_eq!(consumer.pop(Wait::spin()), Ok(tag)));
        });
        traced::mark();
    } else {
        for tag in 0..RECORDS {
            producer.push(tag, Wait::spin()).unwrap();
            assert_eq!(consumer.pop(Wait::spin()), Ok(tag));
        }
        for _ in 0..RECORDS / 10 {
            // In the byte ring the room depends on where it wraps.
            let full = (0..).find(|tag| producer.try_push(*tag) == Err(TryClaimError::Full));
            let full = full.expect("no ring is endless");
            (0..full).for_each(|tag| assert_eq!(consumer.try_pop(), Ok(tag)));
            assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
        }
        traced::mark();
    }
}

/// Who closes the ring before the consumer, with its producer still there, looks at it twice.
const CLOSERS: [&str; 3] = ["producer", "consumer", "earlier consumer"];

/// Runs in the child whose system calls are counted; nothing when run by itself.
#[test]
fn traced_closing() {
    let Ok(closer) = std::env::var("ANNULUS_TEST_TRACED") else {
        return;
    };
    let place = Place::new();
    let (mut producer, mut consumer) = Ring::SpscFile.pair(&place);
    match closer.as_str() {
        "producer" => producer.close(),
        "consumer" => consumer.close(),
        _ => {
            consumer.close();
            drop(consumer);
            consumer = Box::new(spsc_consumer(&place.path()));
        }
    }
    traced::mark();
    assert_eq!(consumer.try_pop(), Err(TryReadError::Closed));
    assert_eq!(consumer.try_pop(), Err(TryReadError::Closed));
    traced::mark();
    drop(producer);
}

/// The heavy barrier, of two calls, may pass over the processor of a producer that is about to
/// commit. Its own close comes behind its commits.
#[test]
fn every_processor_is_asked_once_where_a_consumer_closed_the_ring() {
    alone(
        "every_processor_is_asked_once_where_a_consumer_closed_the_ring",
        || {
            let barriers = CLOSERS.map(|closer| {
                let calls = trace("traced_closing", closer);
                let barriers = calls.get(&libc::SYS_membarrier.cast_unsigned());
                barriers.copied().unwrap_or_default()
            });
            let asked = 2 * 2 + 1;
            assert_eq!(barriers, [0, asked, asked], "{CLOSERS:?}");
        },
    );
}

/// From here on MEMBARRIER_CMD_GLOBAL is refused, as by a kernel with `nohz_full`.
fn refuse_to_ask_every_processor() {
    const GLOBAL: u64 = 1;
    let is_global =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, GLOBAL).unwrap();
    let rule = SeccompRule::new(vec![is_global]).unwrap();
    let refused = SeccompAction::Errno(libc::EINVAL.cast_unsigned());
    let rules = [(libc::SYS_membarrier, vec![rule])].into();
    let machine = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, machine).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    // SAFETY: takes three integers and no pointer.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    assert_eq!(outcome, -1, "not refused");
}

#[test]
fn where_not_every_processor_is_asked_the_end_is_told_when_the_producer_has_closed_or_left() {
    let name =
        "where_not_every_processor_is_asked_the_end_is_told_when_the_producer_has_closed_or_left";
    alone(name, || {
        refuse_to_ask_every_processor();
        let (mut producer, mut consumer) = Ring::SpscFile.pair(&Place::new());
        consumer.close();
        assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
        assert_eq!(producer.try_push(1), Err(TryClaimError::Closed));
        assert_eq!(consumer.try_pop(), Err(TryReadError::Empty));
        producer.close();
        assert_eq!(consumer.try_pop(), Err(TryReadError::Closed));

        let (producer, mut consumer) = Ring::SpscFile.pair(&Place::new());
        producer.arm().unwrap(); // A helper, which its drop waits for.
        consumer.close();
        let epoll = Loop::of(consumer.descriptor().unwrap());
        let leaving = thread::spawn(move || drop(producer));
        let ended = (0..100).any(|_| {
            consumer.arm().unwrap();
            match consumer.try_pop() {
                Err(TryReadError::Closed) => true,
                Err(TryReadError::Empty) => {
                    assert!(epoll.is_readable_within(PATIENCE), "nobody was told");
                    false
                }
                other => panic!("{other:?}"),
            }
        });
        assert!(ended, "looked a hundred times");
        leaving.join().unwrap();
    });
}

fn trace(test: &str, part: &str) -> std::collections::BTreeMap<u64, u64> {
    let mut command = command(test);
    command
        .env("ANNULUS_TEST_TRACED", part)
        .stdout(std::process::Stdio::null());
    traced::count_between_marks(command)
}

#[test]
fn no_system_call_is_made_when_nobody_sleeps() {
    alone("no_system_call_is_made_when_nobody_sleeps", || {
        for part in ["spsc", "mpmc"] {
            assert_eq!(
                trace("traced_part", part),
                [].into(),
                "{part}: number and count of each call"
            );
        }
        // A processor that is taken away is a peer that stands still, which may be probed for its
        // death; but nobody sleeps, so nobody is woken.
        for part in ["spsc threads", "mpmc threads"] {
            let calls = trace("traced_part", part);
            for call in [libc::SYS_futex, libc::SYS_membarrier] {
                let count = calls
                    .get(&call.cast_unsigned())
                    .copied()
                    .unwrap_or_default();
                // Starting and joining the thread takes a few.
                assert!(count < 10, "{part}: {calls:?}");
            }
        }
    });
}

#[test]
fn one_system_call_wakes_a_sleeper() {
    alone("one_system_call_wakes_a_sleeper", || {
        let calls = trace("traced_part", "mpmc sleeper");
        let wakes = calls
            .get(&libc::SYS_futex.cast_unsigned())
            .copied()
            .unwrap_or_default();
        assert!(
            wakes >= 1,
            "nobody woke the sleeper, or counting does not work: {calls:?}"
        );
    });
}

/// What `is_alone` is for, and what no test wants: one that runs twice.
#[test]
fn a_test_runs_alone_in_its_own_process() {
    let before = std::process::id();
    alone("a_test_runs_alone_in_its_own_process", || {
        assert!(is_alone());
        assert_eq!(std::process::id(), before);
    });
}

#[cfg(feature = "tokio")]
mod as_futures {
    use super::*;
    use annulus::{mpmc, spsc};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    /// The largest number of records in one test.
    const MANY: u32 = 100_000;

    fn on_two_threads<F: Future>(body: F) -> F::Output {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime
            .unwrap()
            .block_on(async { timeout(PATIENCE * 2, body).await.expect("hangs") })
    }

    /// Both sides of both rings, wherever they lie, as statements on them.
    macro_rules! write_all {
        ($producer:ident, $records:expr) => {
            for tag in 0..$records {
                let mut claim = $producer.claim_async(4).await.unwrap();
                claim.copy_from_slice(&tag.to_le_bytes());
                claim.commit(tag);
            }
        };
    }

    macro_rules! read_all {
        ($consumer:ident, $records:expr) => {
            for tag in 0..$records {
                let record = $consumer.read_async().await.unwrap();
                assert_eq!((record.tag(), &record[..]), (tag, &tag.to_le_bytes()[..]));
            }
        };
    }

    macro_rules! in_two_tasks {
        ($pair:expr, $records:expr) => {{
            let (mut producer, mut consumer) = $pair;
            on_two_threads(async move {
                // Spawning them needs futures that are `Send`.
                let writing = tokio::spawn(async move {
                    write_all!(producer, $records);
                    producer
                });
                let reading = tokio::spawn(async move {
                    read_all!(consumer, $records);
                    consumer
                });
                (writing.await.unwrap(), reading.await.unwrap())
            });
        }};
    }

    fn byte_file(place: &Place) -> (spsc::Producer, spsc::Consumer) {
        byte_ring().create(place.path()).unwrap();
        (spsc_producer(&place.path()), spsc_consumer(&place.path()))
    }

    fn slot_file(place: &Place) -> (mpmc::Producer, mpmc::Consumer) {
        slot_ring().create(place.path()).unwrap();
        (mpmc_producer(&place.path()), mpmc_consumer(&place.path()))
    }

    #[test]
    fn two_tasks_move_all_records_through_each_ring() {
        in_two_tasks!(byte_ring().heap().unwrap(), MANY);
        in_two_tasks!(slot_ring().heap().unwrap(), MANY);
        in_two_tasks!(byte_file(&Place::new()), MANY);
        in_two_tasks!(slot_file(&Place::new()), MANY);
    }

    /// Each wait is dropped after its first polls unless they ended it, again and again. The writer
    /// begins when the reader has dropped some, the reader goes on when the writer has.
    macro_rules! with_dropped_futures {
        ($pair:expr, $records:expr) => {{
            const DROPPED: u64 = 10;
            let (mut producer, mut consumer) = $pair;
            let reader_dropped = Arc::new(AtomicU64::new(0));
            let writer_dropped = Arc::new(AtomicU64::new(0));
            let (by_reader, by_writer) = (reader_dropped.clone(), writer_dropped.clone());
            on_two_threads(async move {
                let writing = tokio::spawn(async move {
                    while reader_dropped.load(Relaxed) < DROPPED {
                        tokio::task::yield_now().await;
                    }
                    let mut tag = 0_u32;
                    while tag < $records {
                        tokio::select! {
                            biased;
                            claim = producer.claim_async(4) => {
                                let mut claim = claim.unwrap();
                                claim.copy_from_slice(&tag.to_le_bytes());
                                claim.commit(tag);
                                tag += 1;
                                continue;
                            }
                            () = std::future::ready(()) => {}
                        }
                        if by_writer.fetch_add(1, Relaxed).is_multiple_of(3) {
                            tokio::task::yield_now().await;
                        }
                    }
                    producer
                });
                let reading = tokio::spawn(async move {
                    let mut tag = 0_u32;
                    while tag < $records {
                        while tag == 1 && writer_dropped.load(Relaxed) < DROPPED {
                            tokio::task::yield_now().await;
                        }
                        tokio::select! {
                            biased;
                            record = consumer.read_async() => {
                                let record = record.unwrap();
                                let found = (record.tag(), &record[..]);
                                assert_eq!(found, (tag, &tag.to_le_bytes()[..]));
                                tag += 1;
                            }
                            // Ready at its second poll only, so the wait is polled twice too.
                            () = tokio::task::yield_now() => {
                                by_reader.fetch_add(1, Relaxed);
                            }
                        }
                    }
                    consumer
                });
                (writing.await.unwrap(), reading.await.unwrap())
            });
        }};
    }

    #[test]
    fn futures_dropped_while_they_wait_lose_nothing_and_repeat_nothing() {
        const RECORDS: u32 = 10_000;
        with_dropped_futures!(byte_ring().heap().unwrap(), RECORDS);
        with_dropped_futures!(slot_ring().heap().unwrap(), RECORDS);
        with_dropped_futures!(byte_file(&Place::new()), RECORDS);
        let place = Place::new();
        with_dropped_futures!(slot_file(&place), RECORDS);
        let totals = snapshot(&place).totals;
        assert_eq!(
            (totals.committed, totals.released),
            (RECORDS.into(), RECORDS.into())
        );
        assert_eq!(
            (totals.skipped, totals.redelivered),
            (0, 0),
            "a dropped future held a claim"
        );
    }

    #[test]
    fn a_close_ends_the_futures_of_both_sides() {
        on_two_threads(async {
            let place = Place::new();
            let (mut producer, mut consumer) = slot_file(&place);
            let closer = mpmc_producer(&place.path());
            let read = async { consumer.read_async().await.map(|record| record.tag()) };
            let close = async {
                tokio::task::yield_now().await;
                closer.close();
            };
            assert_eq!(tokio::join!(read, close).0, Err(ReadError::Closed));

            closer.reopen();
            (0..Ring::ROOM).for_each(|tag| closer.try_push(tag, b"").unwrap());
            let claim = async { producer.claim_async(4).await.map(drop) };
            let close = async {
                tokio::task::yield_now().await;
                closer.close();
            };
            assert_eq!(tokio::join!(claim, close).0, Err(ClaimError::Closed));
        });
    }

    #[test]
    fn a_future_recovers_a_dead_peer() {
        on_two_threads(async {
            let place = Place::new();
            slot_ring().create(place.path()).unwrap();
            let victim = Victim::start("mpmc producer", place.path());
            let mut producer = mpmc_producer(&place.path());
            producer.try_push(5, b"").unwrap();
            let mut consumer = mpmc_consumer(&place.path());
            let read = async { consumer.read_async().await.map(|record| record.tag()) };
            let kill = async {
                tokio::task::yield_now().await;
                victim.kill();
            };
            assert_eq!(tokio::join!(read, kill).0, Ok(5));

            while producer.try_push(0, b"").is_ok() {}
            let victim = Victim::start("mpmc consumer", place.path());
            let claim = async { producer.claim_async(4).await.map(drop) };
            let kill = async {
                tokio::task::yield_now().await;
                victim.kill();
            };
            assert_eq!(tokio::join!(claim, kill).0, Ok(()));
        });
    }

    #[test]
    fn a_future_learns_that_the_name_belongs_to_another_ring_now() {
        on_two_threads(async {
            let place = Place::new();
            let (_producer, mut consumer) = slot_file(&place);
            let read = async { consumer.read_async().await.map(|record| record.tag()) };
            let replace = async {
                tokio::task::yield_now().await;
                replace(&place);
            };
            assert_eq!(tokio::join!(read, replace).0, Err(ReadError::Replaced));
        });
    }

    #[test]
    fn a_future_that_waits_uses_no_processor() {
        alone("as_futures::a_future_that_waits_uses_no_processor", || {
            on_two_threads(async {
                let (_producer, mut consumer) = slot_file(&Place::new());
                let before = cpu_time();
                let waiting = timeout(Duration::from_secs(1), consumer.read_async()).await;
                assert!(waiting.is_err(), "nothing came");
                let used = cpu_time() - before;
                assert!(used < Duration::from_millis(20), "{used:?}");
            });
        });
    }

    #[test]
    fn futures_need_one_helper_an_attachment() {
        alone("as_futures::futures_need_one_helper_an_attachment", || {
            on_two_threads(async {
                let (mut producer, mut consumer) = slot_file(&Place::new());
                for _ in 0..100 {
                    let wait = timeout(Duration::from_millis(1), consumer.read_async());
                    assert!(wait.await.is_err());
                    assert!(helpers() <= 1);
                }
                while producer.try_push(0, b"").is_ok() {}
                let wait = timeout(Duration::from_millis(1), producer.claim_async(4));
                assert!(wait.await.is_err());
                eventually("both helpers have their names", || helpers() == 2);
                drop((producer, consumer));
                eventually("both are gone", || helpers() == 0);
            });
        });
    }
}
