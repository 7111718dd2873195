//! A file that is cut short, or gets a hole, under a mapping that is in use.
//!
//! The child is attached and about to do something; the row cuts the file and lets it. With a guard
//! it is told `CutShort`, and never sees a record of zeroes; without one it dies of SIGBUS, unless
//! it sleeps, for then it looks at the file before it touches it.
//!
//! Positions begin 32 KiB into the data, where records have their header on one page and their
//! payload on the next ones, so that a cut between the two leaves a sound header over nothing.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::segment::AttachOptions;
use annulus::{
    Attachment, ClaimError, CutShort, Guarded, Loss, Mapped, ReadError, TryClaimError,
    TryReadError, Wait, ZeroCopy, mpmc, spsc,
};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::stage::{Child, Talk, alone, patiently, place};

/// 64 KiB of rows and header before it.
const DATA: u64 = 65_536;
const CAPACITY: u64 = 65_536;
const WHOLE: u64 = DATA + CAPACITY;
/// Where positions begin, so near the end of a page that a header fits and nothing else.
const ORIGIN: u64 = 32_768 + 4096 - 8;
const RECORD: usize = 8192;
/// The record's header is before it, its payload behind it.
const MIDDLE: u64 = DATA + 32_768 + 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Claim,
    Commit,
    Read,
    Pop,
    Wait,
}

const ACTS: [Act; 5] = [Act::Claim, Act::Commit, Act::Read, Act::Pop, Act::Wait];
const LENGTHS: [u64; 3] = [0, 4096, MIDDLE];

fn cut_short(found_bytes: u64) -> CutShort {
    CutShort {
        found_bytes,
        expected_bytes: WHOLE,
    }
}

/// A ring of bytes whose first record lies over the middle.
fn create_bytes(path: &Path) {
    spsc::Options::new(CAPACITY)
        .starting_at(ORIGIN)
        .create(path)
        .expect("a ring");
}

/// A ring of slots of 16 KiB, of which the next one begins on the page before the middle.
fn create_slots(path: &Path) {
    // 4 slots of 16 KiB; the third one begins at 32 KiB, its payload ends 12 KiB behind the middle.
    let options = mpmc::Options::new(4, 16_384 - 64).starting_at(2);
    options.create(path).expect("a ring");
}

/// The two rings and the two ways to attach, under one face.
trait Pair {
    type A: ZeroCopy + std::fmt::Debug;
    fn options() -> AttachOptions {
        AttachOptions::default()
    }
    fn spsc_producer(path: &Path) -> spsc::Producer<Self::A>;
    fn spsc_consumer(path: &Path) -> spsc::Consumer<Self::A>;
    fn mpmc_producer(path: &Path) -> mpmc::Producer<Self::A>;
    fn mpmc_consumer(path: &Path) -> mpmc::Consumer<Self::A>;
}

struct WithGuard;
struct Without;

macro_rules! pair {
    ($way:ident, $a:ty, $attach:ident) => {
        impl Pair for $way {
            type A = $a;
            fn spsc_producer(path: &Path) -> spsc::Producer<$a> {
                // SAFETY: only the row and its child have the ring, and what they do to its file
                // besides is what the row is about.
                unsafe { spsc::Producer::$attach(path, &Self::options()) }.expect("attach")
            }
            fn spsc_consumer(path: &Path) -> spsc::Consumer<$a> {
                // SAFETY: as above.
                unsafe { spsc::Consumer::$attach(path, &Self::options()) }.expect("attach")
            }
            fn mpmc_producer(path: &Path) -> mpmc::Producer<$a> {
                // SAFETY: as above.
                unsafe { mpmc::Producer::$attach(path, &Self::options()) }.expect("attach")
            }
            fn mpmc_consumer(path: &Path) -> mpmc::Consumer<$a> {
                // SAFETY: as above.
                unsafe { mpmc::Consumer::$attach(path, &Self::options()) }.expect("attach")
            }
        }
    };
}
pair!(WithGuard, Guarded, attach_guarded);
pair!(Without, Mapped, attach_with);

/// Says that it is about to act, and waits for the cut. An act that waits is asleep meanwhile.
fn ready(talk: &mut Talk) {
    talk.say("ready");
    talk.hear();
}

/// The error. A record is looked into before it is an error of its own.
fn refused<R: Deref<Target = [u8]>>(read: Result<R, TryReadError>) -> TryReadError {
    match read {
        Err(error) => error,
        Ok(record) => {
            let zeroes = record.iter().filter(|byte| **byte == 0).count();
            panic!("a record with {zeroes} zeroes")
        }
    }
}

/// The child, in the ring of bytes.
fn act_on_bytes<P: Pair>(act: Act, path: &Path, left: u64, talk: &mut Talk) {
    let cut = cut_short(left);
    let mut payload = vec![1, 2, 3];
    match act {
        Act::Claim => {
            let mut producer = P::spsc_producer(path);
            ready(talk);
            // What is claimed lies behind the cut; whoever writes there learns of it.
            if let Ok(mut claim) = producer.try_claim(RECORD) {
                claim.fill(7);
            }
            assert_eq!(
                producer.try_claim(8).expect_err("cut"),
                TryClaimError::CutShort(cut)
            );
            let waited = producer.push(0, b"", patiently(Wait::spin()));
            assert_eq!(waited, Err(ClaimError::CutShort(cut)));
        }
        Act::Commit => {
            let mut producer = P::spsc_producer(path);
            let mut claim = producer.try_claim(RECORD).expect("space");
            ready(talk);
            claim.fill(7);
            claim.commit(7);
            assert_eq!(producer.try_push(7, b""), Err(TryClaimError::CutShort(cut)));
            assert_eq!(producer.loss(), Some(Loss::CutShort(cut)));
        }
        Act::Read => {
            let mut consumer = P::spsc_consumer(path);
            ready(talk);
            let error = refused(consumer.try_read());
            assert_eq!(error, TryReadError::CutShort(cut));
            assert_eq!(
                consumer.try_peek().expect_err("cut"),
                TryReadError::CutShort(cut)
            );
        }
        Act::Pop => {
            let mut consumer = P::spsc_consumer(path);
            ready(talk);
            let popped = consumer.try_pop(&mut payload);
            assert_eq!(popped, Err(TryReadError::CutShort(cut)));
            assert!(
                payload.iter().all(|byte| *byte != 0),
                "zeroes were handed out"
            );
        }
        Act::Wait => {
            let mut consumer = P::spsc_consumer(path);
            // The row's own record first.
            drop(consumer.try_read().expect("the record"));
            ready(talk);
            let error = consumer.read(patiently(Wait::block())).expect_err("cut");
            assert_eq!(error, ReadError::CutShort(cut));
        }
    }
}

/// The child, in the ring of slots.
fn act_on_slots<P: Pair>(act: Act, path: &Path, left: u64, talk: &mut Talk) {
    let cut = cut_short(left);
    let mut payload = vec![1, 2, 3];
    match act {
        Act::Claim => {
            let producer = P::mpmc_producer(path);
            ready(talk);
            if let Ok(mut claim) = producer.try_claim(RECORD) {
                claim.fill(7);
            }
            assert_eq!(
                producer.try_claim(8).expect_err("cut"),
                TryClaimError::CutShort(cut)
            );
            let waited = producer.push(0, b"", patiently(Wait::spin()));
            assert_eq!(waited, Err(ClaimError::CutShort(cut)));
        }
        Act::Commit => {
            let producer = P::mpmc_producer(path);
            let mut claim = producer.try_claim(RECORD).expect("space");
            ready(talk);
            claim.fill(7);
            claim.commit(7);
            assert_eq!(producer.try_push(7, b""), Err(TryClaimError::CutShort(cut)));
            assert_eq!(producer.loss(), Some(Loss::CutShort(cut)));
        }
        Act::Read => {
            let consumer = P::mpmc_consumer(path);
            ready(talk);
            let error = refused(consumer.try_read());
            assert_eq!(error, TryReadError::CutShort(cut));
            let batch = consumer.try_read_batch(4).expect_err("cut");
            assert_eq!(batch, TryReadError::CutShort(cut));
        }
        Act::Pop => {
            let consumer = P::mpmc_consumer(path);
            ready(talk);
            let popped = consumer.try_pop(&mut payload);
            assert_eq!(popped, Err(TryReadError::CutShort(cut)));
            assert!(
                payload.iter().all(|byte| *byte != 0),
                "zeroes were handed out"
            );
        }
        Act::Wait => {
            let consumer = P::mpmc_consumer(path);
            drop(consumer.try_read().expect("the record"));
            ready(talk);
            let error = consumer.read(patiently(Wait::block())).expect_err("cut");
            assert_eq!(error, ReadError::CutShort(cut));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Ring {
    Bytes,
    Slots,
}

/// How the child ends that is in `act` when the file is cut to `left` bytes.
fn end_of<P: Pair>(ring: Ring, act: Act, left: u64) -> WaitStatus {
    let (_directory, path) = place();
    match ring {
        Ring::Bytes => create_bytes(&path),
        Ring::Slots => create_slots(&path),
    }
    if matches!(act, Act::Read | Act::Pop | Act::Wait) {
        let payload = [9; RECORD];
        match ring {
            Ring::Bytes => Without::spsc_producer(&path).try_push(9, &payload),
            Ring::Slots => Without::mpmc_producer(&path).try_push(9, &payload),
        }
        .expect("space");
    }
    let mut child = Child::start(|talk| match ring {
        Ring::Bytes => act_on_bytes::<P>(act, &path, left, talk),
        Ring::Slots => act_on_slots::<P>(act, &path, left, talk),
    });
    assert_eq!(child.talk.hear(), "ready");
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the ring");
    if act == Act::Wait {
        child.talk.say("wait");
        child.until_asleep();
        file.set_len(left).expect("shorter");
    } else {
        file.set_len(left).expect("shorter");
        child.talk.say("act");
    }
    let status = child.end();
    if act == Act::Commit && left == MIDDLE {
        assert_not_committed(ring, &file);
    }
    status
}

/// The header that publishes lies before the cut, and must not have been stored.
fn assert_not_committed(ring: Ring, file: &File) {
    const COMMITTED: u64 = 2;
    let mut word = [0; 8];
    match ring {
        Ring::Bytes => {
            file.read_exact_at(&mut word, DATA + ORIGIN)
                .expect("what is left");
            assert_eq!(word, [0; 8], "a header over a payload that is gone");
        }
        Ring::Slots => {
            file.read_exact_at(&mut word, DATA + 32_768)
                .expect("what is left");
            assert_ne!(
                u64::from_le_bytes(word) & 7,
                COMMITTED,
                "a record that is gone"
            );
        }
    }
}

#[test]
fn a_guarded_handle_is_told_that_its_file_was_cut_whatever_it_is_doing() {
    alone(|| {
        for ring in [Ring::Bytes, Ring::Slots] {
            for act in ACTS {
                for left in LENGTHS {
                    let began = Instant::now();
                    let status = end_of::<WithGuard>(ring, act, left);
                    assert!(
                        matches!(status, WaitStatus::Exited(_, 0)),
                        "{ring:?}, {act:?}, cut to {left}: {status:?}"
                    );
                    assert!(
                        began.elapsed() < Duration::from_secs(10),
                        "{act:?} took so long"
                    );
                }
            }
        }
        assert_eq!(
            cut_short(4096).to_string(),
            "the ring's file was cut short: it has 4096 bytes, the ring 131072"
        );
    });
}

#[test]
fn an_unguarded_one_dies_unless_it_is_asleep() {
    alone(|| {
        let mut told = 0;
        for ring in [Ring::Bytes, Ring::Slots] {
            for act in ACTS {
                for left in LENGTHS {
                    let status = end_of::<Without>(ring, act, left);
                    let here = format!("{ring:?}, {act:?}, cut to {left}: {status:?}");
                    let died = matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _));
                    match act {
                        // It may have been up for its look, once in a tenth of a second.
                        Act::Wait if !died => {
                            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{here}");
                            told += 1;
                        }
                        _ => assert!(died, "{here}"),
                    }
                }
            }
        }
        assert!(told > 0, "nobody who slept was told");
    });
}

/// Its helper thread looks at the file before it looks at the ring.
#[test]
fn an_unguarded_epoll_loop_is_woken_by_the_cut() {
    const TURNS: usize = 3;
    // All that the handle needs to detach, and not the header that is looked at.
    const LEFT: u64 = DATA + 32_768;
    alone(|| {
        let told = (0..TURNS).filter(|_| {
            let (_directory, path) = place();
            create_bytes(&path);
            let mut child = Child::start(|talk| {
                let consumer = Without::spsc_consumer(&path);
                consumer.arm().expect("a helper");
                talk.say("ready");
                let descriptor = consumer.descriptor().expect("a helper");
                let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
                let ready = poll(&mut polled, PollTimeout::from(5000_u16));
                assert_eq!(ready, Ok(1), "nobody was told");
                assert_eq!(consumer.loss(), Some(Loss::CutShort(cut_short(LEFT))));
            });
            assert_eq!(child.talk.hear(), "ready");
            let file = File::options().write(true).open(&path).expect("the ring");
            file.set_len(LEFT).expect("shorter");
            match child.end() {
                WaitStatus::Exited(_, 0) => true,
                // It may have been up for its look.
                WaitStatus::Signaled(_, Signal::SIGBUS, _) => false,
                status => panic!("{status:?}"),
            }
        });
        assert!(told.count() > 0, "no loop was told");
    });
}

/// What can be promised of a record that is being read at that moment: it can be found out.
#[test]
fn a_record_that_was_cut_while_it_was_read_is_told_afterwards() {
    alone(|| {
        let (_directory, path) = place();
        create_bytes(&path);
        Without::spsc_producer(&path)
            .try_push(9, &[9; RECORD])
            .expect("space");
        let mut consumer = WithGuard::spsc_consumer(&path);
        let record = consumer.try_read().expect("all of it is there");
        let file = File::options().write(true).open(&path).expect("the ring");
        file.set_len(MIDDLE).expect("shorter");
        let nines = record.iter().filter(|byte| **byte == 9).count();
        assert!(nines < RECORD, "the cut does not show");
        drop(record);
        assert_eq!(consumer.loss(), Some(Loss::CutShort(cut_short(MIDDLE))));
        assert_eq!(
            consumer.try_read().expect_err("cut"),
            TryReadError::CutShort(cut_short(MIDDLE))
        );
        // Nothing was released in the file: it is as it was before.
        let mut head = [0; 8];
        File::open(&path)
            .expect("the ring")
            .read_exact_at(&mut head, 2560)
            .expect("its head");
        assert_eq!(u64::from_le_bytes(head), ORIGIN);
    });
}

/// Words of zeroes are free or damage; nobody is handed a record, and nobody dies or hangs.
#[test]
fn a_hole_under_a_mapping_is_damage_or_an_empty_ring() {
    alone(|| {
        for ring in [Ring::Bytes, Ring::Slots] {
            for (from, bytes) in [(0, WHOLE), (0, 4096), (4096, 4096), (DATA, CAPACITY)] {
                let (_directory, path) = place();
                match ring {
                    Ring::Bytes => create_bytes(&path),
                    Ring::Slots => create_slots(&path),
                }
                let file = File::options().write(true).open(&path).expect("the ring");
                let punch = || {
                    let flags =
                        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                    let (from, bytes) = (i64::try_from(from), i64::try_from(bytes));
                    fallocate(&file, flags, from.expect("small"), bytes.expect("small"))
                        .expect("a hole");
                };
                let wait = Wait::block().for_at_most(Duration::from_millis(150));
                let mut payload = Vec::new();
                let (pushed, popped) = match ring {
                    Ring::Bytes => {
                        let mut producer = Without::spsc_producer(&path);
                        let mut consumer = Without::spsc_consumer(&path);
                        producer.try_push(9, &[9; 64]).expect("space");
                        punch();
                        let popped = consumer.pop(&mut payload, wait);
                        (producer.push(9, &[9; 64], wait), popped)
                    }
                    Ring::Slots => {
                        let producer = Without::mpmc_producer(&path);
                        let consumer = Without::mpmc_consumer(&path);
                        producer.try_push(9, &[9; 64]).expect("space");
                        punch();
                        let popped = consumer.pop(&mut payload, wait);
                        (producer.push(9, &[9; 64], wait), popped)
                    }
                };
                let here = format!("{ring:?}, a hole of {bytes} at {from}: {pushed:?}, {popped:?}");
                let fine = match popped {
                    Ok(9) => payload == [9; 64],
                    Ok(_) => false,
                    Err(ReadError::TimedOut | ReadError::Damaged(_)) => true,
                    Err(_) => false,
                };
                assert!(fine, "{here}, {payload:?}");
                let fine = match pushed {
                    Ok(()) | Err(ClaimError::TimedOut | ClaimError::Damaged(_)) => true,
                    Err(_) => false,
                };
                assert!(fine, "{here}");
            }
        }
    });
}

#[test]
fn a_guarded_handle_of_an_untouched_file_is_like_any_other() {
    alone(|| {
        let (_directory, path) = place();
        create_bytes(&path);
        let mut producer = WithGuard::spsc_producer(&path);
        let mut consumer = WithGuard::spsc_consumer(&path);
        for tag in 0..100 {
            producer
                .push(tag, &[3; RECORD], patiently(Wait::block()))
                .expect("space");
            let record = consumer.read(patiently(Wait::block())).expect("a record");
            assert_eq!((record.tag(), &record[..]), (tag, &[3; RECORD][..]));
        }
        assert_eq!(producer.loss(), None);
        const { assert!(<Guarded as Attachment>::GUARDED && !<Mapped as Attachment>::GUARDED) };
    });
}
