//! Loom tests of the shipped protocol and handles, on the heap ring.

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
        let done = recovery::recover(&self.shape, &*self.ring, dead);
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
