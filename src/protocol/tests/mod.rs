//! Loom tests of the shipped protocol and handles, on the heap ring.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p annulus --lib loom -- --nocapture
//! ```
//!
//! Payloads are tracked by `sync::Leases`, so an access that the protocol failed to order is a race
//! that loom reports; a sleep has no time-out, so a lost wake-up is a deadlock. Each test prints
//! its preemption bound and how many executions that took.
//!
//! # What loom 0.7 does not see by itself
//! - It takes SeqCst accesses for AcqRel ones; the protocol uses SeqCst in fences only.
//! - It does not take a fence for a step before which another thread may run. Where a handle's
//!   wake-up, a fence under loom, hides a weak store, [`loom_orderings`] goes without handles.
//! - It forgets an earlier load by another thread when a thread loads the word that it exchanges
//!   next; see [`turn`].
//!
//! # Mutants
//! Each line was weakened alone (Release, Acquire or AcqRel by what it is for; a barrier taken
//! out), and one test that failed stands beside it. Race: loom's causality violation. Lost: a
//! record, or a count, is missing. Deadlock: somebody sleeps for ever.
//!
//! | weakened | fails | with |
//! | --- | --- | --- |
//! | `slot_ring::commit`, store | `a_commit_carries_the_bytes` | race |
//! | `claim_in_order`, exchange | `a_commit_carries_the_bytes` | race |
//! | `slot_ring::release`, store | `a_release_carries_that_nobody_reads_the_bytes` | race |
//! | `slot_ring::abort`, store | `an_abort_carries_that_nobody_writes_the_bytes` | race |
//! | `slot_ring::requeue`, store | `a_requeue_carries_the_bytes_that_its_reader_saw` | race |
//! | `claim_given_back`, both | `a_requeue_carries_the_bytes_that_its_reader_saw` | race |
//! | `bump_epoch`, add | `whoever_has_seen_the_epoch_has_seen_what_was_given_back` | lost |
//! | `Consumption`, epoch | `whoever_has_seen_the_epoch_has_seen_what_was_given_back` | lost |
//! | `sweep_slot`, to SKIP | `a_slot_written_by_a_dead_producer_is_written_again` | race |
//! | `sweep_slot`, else | `the_bytes_read_by_a_dead_consumer_wait_for_its_recovery` | race |
//! | `admit`, fence | `a_single_closed_misses_no_committed_record` | lost |
//! | `closed_or_blocked`, fence | `a_single_closed_misses_no_committed_record` | lost |
//! | `Writer::publish`, header | `a_header_carries_the_bytes` | race |
//! | `Reader::read`, header | `a_header_carries_the_bytes` | race |
//! | `Reader::release_to`, head | `the_head_carries_that_nobody_reads_the_bytes` | race |
//! | `Writer::publish`, mark | `a_single_closed_of_bytes_misses_no_committed_record` | lost |
//! | `switches::admits`, barrier | `a_single_closed_of_bytes_misses_no_committed_record` | lost |
//! | `Reader::drained`, mark | `a_single_closed_of_bytes_misses_no_committed_record` | lost |
//! | `empty_or_closed` | `bytes_closed_by_a_third_party_lose_no_record` | lost |
//! | `take_sleepers`, barrier | `a_byte_consumer_sleeps_until_a_record_is_committed` | deadlock |
//! | `wait::arm`, barrier | `a_byte_producer_sleeps_until_a_record_is_released` | deadlock |
//! | `wake_all`, add | `recovery_wakes_a_consumer_for_what_a_dead_one_held` | deadlock |
//! | `HeapRing::attach`, exchange | `a_row_that_is_attached_again_goes_on_counting` | lost |
//! | `Heap::drop`, store | `a_row_that_is_attached_again_goes_on_counting` | lost |
//! | `recover`, row free | `a_row_is_free_only_after_all_of_its_recovery` | lost |
//!
//! Steps taken out, rather than orderings:
//!
//! | changed | fails | with |
//! | --- | --- | --- |
//! | abort to FREE | `a_consumer_asleep_behind_a_claim_is_woken_by_its_abort` | deadlock |
//! | `recover` without its bump | `a_consumer_dead_in_a_closed_ring_is_waited_for` | deadlock |
//! | unclaim wakes if closed | `a_claim_given_up_in_closed_bytes_ends_the_wait_for_it` | deadlock |
//! | release wakes producers only | `the_last_release_in_closed_slots_wakes_consumers` | deadlock |
//!
//! No test fails when one of these is weakened, because something else orders the same:
//! - `claim_to_write`'s exchange, its acquire half: the fence in `admit` acquires too. In
//!   production on x86-64 that fence is the compiler's only, and the exchange is what counts.
//! - The loads of the head in [`byte_ring::Writer`]: as above, by the barrier in `claim`.
//! - The load or the exchange of `claim_given_back`: the other one.
//! - The release halves of exchanges that claim, and the acquire half of the bump: nothing is read
//!   on their account.
//! - The exchange that passes a SKIP: it continues the release sequence of the abort, and the
//!   passer touched no bytes.
//! - The store of `closed` and the fence after it: what is committed was claimed before, with a
//!   fence that no scan after a closer's store can miss; sleepers are woken by `wake_all`, whose
//!   add is Release. The load of `closed`: a fence follows wherever more than its value counts.
//! - The load in `Reader::look`: the straight line loads the same header again behind it.
//! - The second load in `Reader::read`: a padding's header is published with what follows it.
//! - The store of the claim mark, the header in `drained`, the words in `closed_or_blocked`: only
//!   their value counts, and barriers order them.
//! - `death-order`, and what a recoverer or a successor loads: the dead one's lock, here a join,
//!   carries all of it. The order counts if a death falls between two stores; that it is kept is
//!   for the compiler, and the tests that die before each step show what it is good for.

mod loom_close;
mod loom_mpmc;
mod loom_orderings;
mod loom_recovery;
mod loom_spsc;
mod loom_wait;
mod ops;

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64 as Count, Ordering::Relaxed};

use super::heap::{Heap, HeapRing};
use super::{Attachment, Owner, Recovered, Store, byte_ring, recovery, slot_ring};
use crate::layout::{Control, ROW_ATTACHED, Row};
use crate::sync::{Arc, AtomicU64, Ordering, ReadLease, WriteLease};
use crate::{mpmc, spsc, wait};

loom::lazy_static! {
    static ref TURNS: AtomicU64 = AtomicU64::new(0);
}

/// Called before an operation of the scenario: makes loom try the operations of different threads
/// in every order.
///
/// loom 0.7 remembers one last access of an atomic. A thread that loads a word and then exchanges
/// it, as every claim does, so hides an earlier load by another thread, and the order in which the
/// exchange comes before that load is never tried. These exchanges depend on each other whatever
/// the operations do. They are Relaxed, and all fences of the crate are SeqCst, which loom orders
/// among each other anyway: a turn orders nothing that would not be.
fn turn() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

/// Most preemptions of one execution; `None` explores all.
type Bound = Option<usize>;

/// Explores a scenario and prints how much that was. `LOOM_MAX_PREEMPTIONS` overrides the bound.
fn check(bound: Bound, scenario: impl Fn() + Send + Sync + 'static) {
    report(bound, explore(bound, scenario));
}

/// Explores a scenario once for each step that a [`Mortal`] in it can die before, and once more in
/// which it lives on.
fn check_every_death(bound: Bound, scenario: impl Fn(Steps) + Send + Sync + Clone + 'static) {
    let mut executions = 0;
    for before_step in 0.. {
        let died = std::sync::Arc::new(AtomicBool::new(false));
        let steps = Steps {
            before_step,
            died: std::sync::Arc::clone(&died),
        };
        let scenario = scenario.clone();
        executions += explore(bound, move || scenario(steps.clone()));
        if !died.load(Relaxed) {
            assert!(before_step > 0, "the scenario has no step to die before");
            break;
        }
    }
    report(bound, executions);
}

fn explore(bound: Bound, scenario: impl Fn() + Send + Sync + 'static) -> u64 {
    let executions = std::sync::Arc::new(Count::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.preemption_bound = model.preemption_bound.or(bound);
    model.check(move || {
        counted.fetch_add(1, Relaxed);
        turn();
        scenario();
    });
    executions.load(Relaxed)
}

#[expect(
    clippy::print_stdout,
    reason = "how much was explored is what a reader wants to know"
)]
fn report(bound: Bound, executions: u64) {
    let thread = std::thread::current();
    let test = thread
        .name()
        .unwrap_or("?")
        .trim_start_matches("protocol::tests::");
    let bound = bound.map_or("none".into(), |bound| bound.to_string());
    println!("{test}: bound {bound}, {executions} executions");
}

/// A byte ring of `capacity` bytes whose first position is `origin`.
fn byte_ring_at(capacity: u64, origin: u64) -> (spsc::Producer, spsc::Consumer) {
    spsc::Options::new(capacity)
        .starting_at(origin)
        .heap()
        .expect("a possible ring")
}

/// A ring of 2 slots for records of up to 8 bytes.
fn slot_ring_for(participants: u16) -> (mpmc::Producer, mpmc::Consumer) {
    mpmc::Options::new(2, 8)
        .participants(participants)
        .heap()
        .expect("a possible ring")
}

fn memory_of(attachment: &Heap) -> Arc<HeapRing> {
    Arc::clone(attachment.ring())
}

/// What to do to the memory of a ring without a handle: to die in it and to recover.
#[derive(Clone)]
struct Bare {
    ring: Arc<HeapRing>,
    shape: recovery::Shape,
}

impl Bare {
    fn of(attachment: &Heap) -> Self {
        Self {
            ring: memory_of(attachment),
            shape: *attachment.shape(),
        }
    }

    fn slots(&self) -> slot_ring::Shape {
        match self.shape {
            recovery::Shape::Slots(shape, _) => shape,
            recovery::Shape::Bytes(_) => unreachable!("a slot ring was asked for"),
        }
    }

    fn bytes(&self) -> byte_ring::Shape {
        match self.shape {
            recovery::Shape::Bytes(shape) => shape,
            recovery::Shape::Slots(..) => unreachable!("a byte ring was asked for"),
        }
    }

    /// Takes a row for a participant that has no handle, because a handle's drop is no death.
    fn occupy(&self, owner: Owner) {
        self.ring
            .row(owner)
            .state
            .store(ROW_ATTACHED, Ordering::Release);
    }

    /// What the holder of the dead one's lock does, as `segment` does it: recover, then wake.
    fn recover(&self, dead: Owner) -> Recovered {
        turn();
        let done = recovery::recover(&self.shape, &*self.ring, dead, || {});
        self.wake_everybody();
        done
    }

    fn wake_everybody(&self) {
        wait::wake_all(&self.ring.control().items);
        wait::wake_all(&self.ring.control().space);
    }

    /// A counter of a row, read when all is quiet.
    fn counter(&self, owner: Owner, counter: usize) -> u64 {
        self.ring.row(owner).counters[counter].load(Ordering::Relaxed)
    }

    fn is_free(&self, owner: Owner) -> bool {
        !recovery::in_use(&*self.ring, owner)
    }

    /// Lets `life` run until it reaches the step before which it is to die. Returns whether it got
    /// through alive. What a death leaves behind is what the shipped code has stored by then.
    fn live(&self, steps: &Steps, life: impl FnOnce(&Mortal)) -> bool {
        turn();
        let mortal = Mortal {
            ring: Arc::clone(&self.ring),
            left: Cell::new(steps.before_step),
        };
        match catch_unwind(AssertUnwindSafe(|| life(&mortal))) {
            Ok(()) => true,
            Err(cause) if cause.is::<Death>() => {
                steps.died.store(true, Relaxed);
                false
            }
            Err(cause) => resume_unwind(cause),
        }
    }
}

/// Before which of its steps a participant dies.
#[derive(Clone)]
struct Steps {
    before_step: u32,
    /// Whether it died in any execution.
    died: std::sync::Arc<AtomicBool>,
}

struct Death;

/// The heap ring as a participant sees it that dies before one of its accesses.
///
/// A step is a call that asks for a word, a row, the shared words or the bytes of a payload. Where
/// the protocol makes several stores after one call, a test makes the state between them itself.
struct Mortal {
    ring: Arc<HeapRing>,
    left: Cell<u32>,
}

impl Mortal {
    fn step(&self) {
        match self.left.get() {
            0 => resume_unwind(Box::new(Death)),
            left => self.left.set(left - 1),
        }
    }

    /// Writes a payload that the caller has claimed: one step.
    fn write(&self, offset: u64, bytes: &[u8]) {
        self.step();
        super::copy::fill::<Heap>(&self.ring, offset, bytes);
    }

    /// Reads a payload that the caller has claimed: one step.
    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        self.step();
        let mut bytes = vec![0; len];
        super::copy::empty::<Heap>(&self.ring, offset, &mut bytes);
        bytes
    }
}

// SAFETY: every answer is the heap ring's own.
unsafe impl Store for Mortal {
    fn control(&self) -> &Control {
        self.step();
        self.ring.control()
    }

    fn row(&self, owner: Owner) -> &Row {
        self.step();
        self.ring.row(owner)
    }

    fn participants(&self) -> u16 {
        self.ring.participants()
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.step();
        self.ring.word(offset)
    }

    fn bytes_around(&self) -> u64 {
        self.ring.bytes_around()
    }

    fn word_around(&self, position: u64) -> &AtomicU64 {
        self.step();
        self.ring.word_around(position)
    }

    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        self.ring.bytes(offset, len)
    }

    fn write_lease(&self, offset: u64, len: u64) -> WriteLease {
        self.ring.write_lease(offset, len)
    }

    fn read_lease(&self, offset: u64, len: u64) -> ReadLease {
        self.ring.read_lease(offset, len)
    }
}
