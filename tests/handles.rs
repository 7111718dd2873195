//! What handles and guards must not do, each once a bug or a hole that a review found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus::spsc::Peer;
use annulus::{GeometryError, Heap, Redelivery, TryClaimError, TryReadError, mpmc, spsc};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// A mark said up to which position a consumer releases. One of another ring may lie amid a record
/// of this one, whose payload would then be read as a header.
#[test]
fn a_mark_of_another_consumer_releases_nothing() {
    let (mut other_producer, mut other) = spsc::Options::new(4096).heap().unwrap();
    other_producer.try_push(0, &[0; 8]).unwrap();
    let foreign = other.try_peek().unwrap().mark();

    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    producer.try_push(1, &[7; 24]).unwrap();
    let own = consumer.try_peek().unwrap().mark();
    assert_eq!(consumer.release_to(foreign), 0);
    assert_eq!(consumer.released_records(), 0);
    assert_eq!(consumer.release_to(own), 1);
}

/// A destructor that drains a ring while its thread unwinds: releasing by name must release, or
/// the loop never ends. A record that was claimed before the panic is requeued by its drop.
#[test]
fn while_unwinding_a_release_releases_and_a_drop_gives_back_what_was_held_before() {
    struct Drain(mpmc::Consumer<Heap>, u32);

    impl Drop for Drain {
        fn drop(&mut self) {
            while let Ok(record) = self.0.try_read() {
                self.1 += 1;
                assert!(self.1 <= 3, "the same records again and again");
                record.release();
            }
        }
    }

    let (producer, consumer) = mpmc::Options::new(8, 64).heap().unwrap();
    for tag in 0..3 {
        producer.try_push(tag, b"x").unwrap();
    }
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let drain = Drain(consumer, 0);
        let _held = drain.0.try_read().unwrap();
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    let again = producer.try_clone().unwrap();
    for tag in 0..8 {
        again.try_push(tag, b"y").expect("every slot was released");
    }
}

/// The same of the byte ring, where a record is dropped to release it: whoever panicked has not
/// done with it, however often, and a destructor that reads meanwhile comes to its end.
#[test]
fn while_unwinding_a_record_is_given_back_and_a_destructor_drains_all_of_the_ring() {
    struct Drain<'c>(&'c mut spsc::Consumer<Heap>, u32);

    impl Drop for Drain<'_> {
        fn drop(&mut self) {
            let mut reads = 0;
            while self.0.released_records() < u64::from(self.1) {
                drop(self.0.try_read());
                reads += 1;
                assert!(reads <= self.1, "the same records again and again");
            }
        }
    }

    fn panic_at(consumer: &mut spsc::Consumer<Heap>, tag: u32) {
        for attempt in 0..3 {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let record = consumer.try_read().unwrap();
                assert_eq!(record.tag(), tag, "attempt {attempt}");
                panic!("on purpose");
            }));
            assert!(unwound.is_err());
            assert_eq!(consumer.released_records(), u64::from(tag));
        }
    }

    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    (0..16).for_each(|tag| producer.try_push(tag, b"alike").unwrap());
    assert_eq!(consumer.try_read().unwrap().tag(), 0);
    panic_at(&mut consumer, 1);
    for tag in 1..3 {
        assert_eq!(consumer.try_read().unwrap().tag(), tag);
    }
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _drain = Drain(&mut consumer, 8);
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    // What a destructor has released does not count for the next panic.
    panic_at(&mut consumer, 8);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _drain = Drain(&mut consumer, 10);
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    // Nor does it for what was only looked at since.
    assert_eq!(consumer.try_peek_run(u64::MAX).unwrap().bytes(), 6 * 16);
    producer.try_push(16, b"alike").unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let record = consumer.try_read().unwrap();
        assert_eq!(record.tag(), 16);
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    assert_eq!(consumer.released_records(), 10);
    consumer.rewind();
    for tag in 10..17 {
        assert_eq!(consumer.try_read().unwrap().tag(), tag);
    }
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
}

/// Such a length, rounded up to whole words, begins again at nothing.
#[test]
fn a_length_that_no_memory_has_is_too_long() {
    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    producer.try_push(1, b"room is known behind this").unwrap();
    for len in (0..24)
        .map(|less| usize::MAX - less)
        .chain([usize::MAX / 2, 4096])
    {
        let refused = producer.try_claim(len).map(drop);
        let max = producer.max_record();
        assert_eq!(refused, Err(TryClaimError::TooLong { len, max }));
        let refused = producer.batch().try_claim(len).map(drop);
        assert_eq!(refused, Err(TryClaimError::TooLong { len, max }));
    }
    assert_eq!(consumer.try_read().unwrap().tag(), 1);
}

/// Records that a leaked batch left staged were published by whatever was committed next.
#[test]
fn a_leaked_batch_is_not_published_by_the_next_commit() {
    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    let mut batch = producer.batch();
    batch.try_push(1, b"never committed").unwrap();
    #[expect(clippy::mem_forget, reason = "the leak is what is tested")]
    std::mem::forget(batch);
    assert!(producer.batch().is_empty());
    producer.try_push(2, b"committed").unwrap();
    assert_eq!(consumer.try_read().unwrap().tag(), 2);
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
}

/// Such a ring was created and could then be opened by nobody.
#[test]
fn a_limit_of_redeliveries_that_the_file_cannot_hold_is_refused() {
    for (limit, possible) in [(0, false), (1, true), (3, true), (4, false), (200, false)] {
        let options = mpmc::Options::new(8, 64).redelivery(Redelivery::AtMost(limit));
        let made: Result<_, GeometryError> = options.geometry();
        assert_eq!(made.is_ok(), possible, "{limit}: {made:?}");
    }
}

/// The consumer of a closed ring waits until a claim is gone; a producer that left a leaked one
/// behind did not wake it.
#[test]
fn a_producer_that_detaches_with_a_leaked_claim_wakes_who_waits_for_its_end() {
    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    #[expect(clippy::mem_forget, reason = "the leak is what is tested")]
    std::mem::forget(producer.try_claim(8).unwrap());
    consumer.close();
    consumer.arm().unwrap();
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
    drop(producer);
    let descriptor = consumer.descriptor().unwrap();
    let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::from(5000_u16)).unwrap(), 1);
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Closed);
}

/// A forked child has no mapping: whatever it does with an inherited handle or guard, it must not
/// touch memory that is not there, or is somebody else's by now.
#[test]
fn a_forked_child_touches_nothing_whatever_it_calls() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (bytes, slots) = (
        directory.path().join("bytes"),
        directory.path().join("slots"),
    );
    spsc::Options::new(4096).create(bytes.as_path()).unwrap();
    mpmc::Options::new(8, 64).create(slots.as_path()).unwrap();
    // SAFETY: the files are this test's own, and all that use them use this library.
    let mut byte_producer = unsafe { spsc::Producer::attach(bytes.as_path()) }.unwrap();
    // SAFETY: as above.
    let byte_consumer = unsafe { spsc::Consumer::attach(bytes.as_path()) }.unwrap();
    // SAFETY: as above.
    let slot_producer = unsafe { mpmc::Producer::attach(slots.as_path()) }.unwrap();
    slot_producer.arm().unwrap();
    let slot_claim = slot_producer.try_claim(4).unwrap();
    let mut slot_batch = slot_producer.batch();
    slot_batch.try_push(0, b"x").unwrap();
    let byte_claim = byte_producer.try_claim(4).unwrap();
    // SAFETY: the child calls nothing that another thread of the parent may hold a lock of.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let told = byte_consumer.backlog() + slot_producer.backlog();
            let refused = slot_producer.arm().is_err();
            slot_claim.commit(0);
            slot_batch.commit();
            byte_claim.commit(0);
            // SAFETY: ends the child without the test harness, whose threads it lacks.
            unsafe { nix::libc::_exit(i32::from(told != 0 || !refused)) }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).unwrap();
            assert_eq!(ended, WaitStatus::Exited(child, 0));
        }
    }
    drop((slot_claim, slot_batch, byte_claim));
}

/// What a handle says of its ring and of its own work, in the course of it.
#[test]
fn handles_tell_the_ring_they_are_on() {
    let (producer, consumer) = mpmc::Options::new(8, 60).heap().unwrap();
    assert_eq!((producer.slots(), consumer.slots()), (8, 8));
    let longest = producer.max_record();
    assert!(longest >= 60 && consumer.max_record() == longest);
    assert!(producer.try_push(0, &vec![0; longest]).is_ok());
    assert!(matches!(
        producer.try_push(0, &vec![0; longest + 1]),
        Err(TryClaimError::TooLong { .. })
    ));
    assert_eq!((producer.backlog(), consumer.backlog()), (1, 1));
    consumer.try_read().unwrap().release();
    assert_eq!((producer.backlog(), consumer.backlog()), (0, 0));
    assert!(!producer.is_closed());
    producer.close();
    assert!(producer.is_closed());
    assert_eq!(producer.try_push(0, b"x"), Err(TryClaimError::Closed));
    producer.reopen();
    assert!(!producer.is_closed());
    producer.try_push(0, b"x").unwrap();
    consumer.close();
    assert!(producer.is_closed());

    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    assert_eq!((producer.capacity(), consumer.capacity()), (4096, 4096));
    assert_eq!((producer.max_record(), consumer.max_record()), (2040, 2040));
    producer.try_push(0, &[0; 9]).unwrap();
    producer.try_push(0, &[]).unwrap();
    // Two headers, and 9 bytes made 16.
    assert_eq!((producer.backlog(), consumer.backlog()), (32, 32));
    assert_eq!(producer.committed_records(), 2);
    consumer.try_read().unwrap().release();
    assert_eq!((producer.backlog(), consumer.backlog()), (8, 8));
    assert_eq!(consumer.released_records(), 1);
    assert!(matches!(
        producer.try_push(0, &[0; 2041]),
        Err(TryClaimError::TooLong {
            len: 2041,
            max: 2040
        })
    ));
    assert_eq!(
        (producer.peer(), consumer.peer()),
        (Peer::Alive, Peer::Alive)
    );
    assert!(!producer.is_closed());
    consumer.close();
    assert!(producer.is_closed());
    producer.reopen();
    assert!(!producer.is_closed());
    drop(consumer);
    assert_eq!(producer.peer(), Peer::Absent);
}

/// A batch is as long as what was staged in it, and each record may be cut short.
#[test]
fn batches_count_and_cut_short() {
    let (producer, consumer) = mpmc::Options::new(8, 64).heap().unwrap();
    let mut batch = producer.batch();
    assert!(batch.is_empty());
    let mut claim = batch.try_claim(8).unwrap();
    claim.copy_from_slice(b"whatever");
    assert_eq!(&claim[..4], b"what");
    claim.stage_first(4, 1);
    batch.try_claim(3).unwrap().stage(2);
    drop(batch.try_claim(3).unwrap());
    assert_eq!((batch.len(), batch.is_empty()), (2, false));
    batch.commit();
    let read = consumer.try_read_batch(8).unwrap();
    let lengths: Vec<_> = read
        .iter()
        .map(|record| (record.tag(), record.len()))
        .collect();
    assert_eq!(lengths, [(1, 4), (2, 3)]);
    assert_eq!(
        (read.len(), &read.iter().next().unwrap()[..]),
        (2, &b"what"[..])
    );
    assert_eq!(read.into_records().len(), 2);
    assert_eq!(consumer.try_read_batch(8).unwrap_err(), TryReadError::Empty);

    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    let mut batch = producer.batch();
    assert!(batch.is_empty());
    let mut claim = batch.try_claim(8).unwrap();
    claim.copy_from_slice(b"whatever");
    assert_eq!(&claim[..4], b"what");
    claim.stage_first(4, 1);
    batch.try_claim(3).unwrap().stage(2);
    drop(batch.try_claim(3).unwrap());
    assert_eq!((batch.len(), batch.is_empty()), (2, false));
    batch.commit();
    assert_eq!(&consumer.try_read().unwrap()[..], b"what");
    let second = consumer.try_read().unwrap();
    assert_eq!((second.tag(), second.len()), (2, 3));
}

/// A handle that goes away gives back what its leaked guards held, and only then troubles others.
#[test]
fn a_handle_that_goes_gives_back_what_its_leaked_guards_held() {
    let (producer, consumer) = mpmc::Options::new(4, 64).participants(4).heap().unwrap();
    let other = producer.try_clone().unwrap();
    for tag in 0..2 {
        producer.try_push(tag, b"x").unwrap();
    }
    let reader = consumer.try_clone().unwrap();
    #[expect(clippy::mem_forget, reason = "the leak is what is tested")]
    std::mem::forget(reader.try_read().unwrap());
    drop(reader);
    let again = consumer.try_read().unwrap();
    assert_eq!((again.tag(), again.attempts()), (0, 1));
    again.release();
    #[expect(clippy::mem_forget, reason = "as above")]
    std::mem::forget(other.try_claim(1).unwrap());
    producer.try_push(2, b"x").unwrap();
    assert_eq!(consumer.try_read().unwrap().tag(), 1);
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
    drop(other);
    assert_eq!(consumer.try_read().unwrap().tag(), 2);
}

/// Only a handle that leaves something behind has the others look for it: the file's epoch tells.
#[test]
fn a_handle_that_holds_nothing_goes_without_a_recovery() {
    // As docs/format.md says.
    const EPOCH: std::ops::Range<usize> = 2056..2064;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("slots");
    mpmc::Options::new(8, 64).create(path.as_path()).unwrap();
    let epoch = || std::fs::read(&path).unwrap()[EPOCH].to_vec();
    // SAFETY: the file is this test's own, and all that use it use this library.
    let producer = unsafe { mpmc::Producer::attach(path.as_path()) }.unwrap();
    // SAFETY: as above.
    let consumer = unsafe { mpmc::Consumer::attach(path.as_path()) }.unwrap();
    for _ in 0..3 {
        producer.try_push(0, b"x").unwrap();
        producer.try_claim(1).unwrap().abort();
        consumer.try_read().unwrap().release();
    }
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
    let before = epoch();
    drop(producer);
    drop(consumer);
    assert_eq!(epoch(), before);
}
