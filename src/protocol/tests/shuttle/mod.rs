//! Shuttle: random schedules of scenarios that are too large for loom, with deaths.
//!
//! ```text
//! export RUSTFLAGS="--cfg loom --cfg shuttle"
//! cargo test --release -p annulus --lib shuttle -- --nocapture
//! ```
//!
//! The shipped handles and the shipped recovery run on a heap ring whose participants can die
//! before any of their accesses; see `sync::shuttle`. [`Member`] plays the part that
//! `segment` has in a mapped file: locks that go free with their holder, mending, attaching.
//! Half of the schedules are random, half probabilistic ones with few preemptions (PCT), which find
//! an order that needs just two or three of them far more often. The seed is fixed, so that a run
//! can be repeated; `SHUTTLE_RANDOM_SEED` sets another one. A schedule that fails is printed, many
//! lines as a rule; the variable `SHUTTLE_SCHEDULE`, with all of them, and the name of its test
//! replay that one alone.
//!
//! # What it does not see
//! Every access is SeqCst here: weak orderings are loom's. Time does not pass: a sleeper wakes at
//! its bound only after somebody's death, when his locks are free, so that a wake-up that is lost
//! while all live is a deadlock, and one lost by a death is not. Whoever is refused looks after the
//! dead at once.
//!
//! # Mutants
//! What was changed, alone, and a test that failed. Lost: a record, or a count, is missing.
//! Deadlock: somebody sleeps for ever.
//!
//! | changed | fails | with |
//! | --- | --- | --- |
//! | a consumer never rescans for what was given back | `a_crowd_loses_nothing` | deadlock |
//! | requeue frees the slot | `a_crowd_loses_nothing` | lost |
//! | requeue without its bump | `a_crowd_loses_nothing` | deadlock |
//! | abort to FREE | `a_crowd_loses_nothing` | deadlock |
//! | `take_sleepers` wakes nobody | `a_crowd_loses_nothing` | deadlock |
//! | `take_sleepers` clears without counting | `no_slot_is_committed_after_closed` | deadlock |
//! | `admit` without its look | `no_slot_is_committed_after_closed` | lost |
//! | `closed_or_blocked` without its walk | `no_slot_is_committed_after_closed` | lost |
//! | `after_released` as for a claim | `a_crowd_loses_nothing` | deadlock |
//! | the sweep leaves what was written | `few_records_and_many_deaths` | deadlock |
//! | `recover` without its bump | `few_records_and_many_deaths` | deadlock |
//! | `recover` without its wake-up | `few_records_and_many_deaths` | deadlock |
//! | `recover` frees the row at first | `few_records_and_many_deaths` | deadlock |
//! | `recover` frees the row before the bump | `a_pair_that_is_replaced_loses_nothing` | deadlock |
//! | `begin_skip`, the first two stores exchanged | `few_records_and_many_deaths` | lost |
//! | `publish`, the journal behind the header | `a_pair_that_is_replaced_loses_nothing` | lost |
//! | `publish` without the EMPTY header | `a_pair_loses_nothing` | lost |
//! | `Writer::claim` without its look | `no_byte_is_committed_after_closed` | lost |
//! | `drained`, the mark behind the header | the same | lost |
//!
//! Nothing fails if an entry of a journal gets its end before its records: the entry is not the
//! true one yet, and its end tells that in either order.

mod bytes;
mod slots;

use std::sync::atomic::{AtomicU32 as Count, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use super::heap::HeapRing;
use super::{
    Attachment, ElementType, Gone, Loss, Owner, Recovered, Store, ZeroCopy, ledger, owners,
    recovery,
};
use crate::layout::{ROW_ATTACHED, ROW_FREE};
use crate::sync::Ordering;
use crate::sync::shuttle::{is_dead, live};
use crate::wait;

const SEED: u64 = 0x5eed;
/// Of PCT: one more than the preemptions of a schedule.
const DEPTH: usize = 4;

/// Runs a scenario in `schedules` random and as many PCT schedules.
fn check(schedules: usize, scenario: impl Fn() + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("SHUTTLE_SCHEDULE") {
        return shuttle::replay(scenario, &schedule);
    }
    let scenario = Arc::new(scenario);
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    let random = {
        let (scenario, config) = (Arc::clone(&scenario), config.clone());
        let scheduler = RandomScheduler::new_from_seed(SEED, schedules);
        Runner::new(scheduler, config).run(move || scenario())
    };
    let scheduler = PctScheduler::new_from_seed(SEED, DEPTH, schedules);
    let pct = Runner::new(scheduler, config).run(move || scenario());
    report(random, pct);
}

#[expect(
    clippy::print_stdout,
    reason = "how much was explored is what a reader wants to know"
)]
fn report(random: usize, pct: usize) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let test = test.trim_start_matches("protocol::shuttle_tests::");
    println!("{test}: {random} random schedules, {pct} of PCT with depth {DEPTH}");
}

/// A number below `end`, which a replayed schedule repeats.
fn below(end: u32) -> u32 {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_range(0..end)
}

/// A ring and the locks of its rows: who lives is what they say.
struct Ring {
    memory: Arc<HeapRing>,
    shape: recovery::Shape,
    /// Which life holds each row's lock; 0 for none. No access of the protocol's: another thread
    /// comes in at those only.
    holders: Mutex<Vec<u32>>,
    lives: Count,
}

impl Ring {
    fn new(geometry: crate::Geometry) -> Arc<Self> {
        let rows = geometry.participants;
        let (shape, bytes) = (geometry.shape(), geometry.data_bytes);
        Arc::new(Self {
            memory: HeapRing::new(shape, bytes, rows, geometry.origin, None),
            shape,
            holders: Mutex::new(vec![0; rows.into()]),
            lives: Count::new(0),
        })
    }

    fn holders(&self) -> MutexGuard<'_, Vec<u32>> {
        self.holders.lock().expect("nobody panics holding it")
    }

    fn is_locked(&self, owner: Owner) -> bool {
        self.holders()[usize::from(owner.number()) - 1] != 0
    }

    fn try_lock(&self, owner: Owner, life: u32) -> bool {
        let holder = &mut self.holders()[usize::from(owner.number()) - 1];
        let is_free = *holder == 0;
        if is_free {
            *holder = life;
        }
        is_free
    }

    fn unlock(&self, owner: Owner) {
        self.holders()[usize::from(owner.number()) - 1] = 0;
    }

    /// Lets somebody live, for `steps` or to the end. Returns what came of it, `None` for death.
    ///
    /// After a death the kernel lets go of the locks; and then, after some time, those who sleep
    /// have reached their bound.
    fn live<T>(
        self: &Arc<Self>,
        steps: Option<u32>,
        life: impl FnOnce(&Arc<Self>, u32) -> T,
    ) -> Option<T> {
        let number = self.lives.fetch_add(1, Relaxed) + 1;
        let lived = live(steps, || life(self, number));
        if lived.is_none() {
            for holder in &mut *self.holders() {
                if *holder == number {
                    *holder = 0;
                }
            }
            self.memory.control().items.lot.pass_a_bound();
            self.memory.control().space.lot.pass_a_bound();
        }
        lived
    }

    /// As `segment::attach`: a row's lock, its recovery if it is in use, then the row itself.
    fn attach(self: &Arc<Self>, wanted: Option<Owner>, role: u32, life: u32) -> Member {
        loop {
            // Ends when a mender lets go of a row: there are as many as participants.
            let me = owners(&*self.memory)
                .filter(|owner| wanted.is_none_or(|wanted| wanted == *owner))
                .find(|owner| self.try_lock(*owner, life));
            if let Some(me) = me {
                return self.move_in(me, role, life);
            }
            crate::sync::yield_now();
        }
    }

    fn move_in(self: &Arc<Self>, me: Owner, role: u32, life: u32) -> Member {
        let memory = &*self.memory;
        if recovery::in_use(memory, me) {
            self.recover(me);
        }
        ledger::begin_life(memory.row(me));
        memory.row(me).role.store(role, Ordering::Relaxed);
        memory.row(me).state.store(ROW_ATTACHED, Ordering::Release);
        let ring = Arc::clone(self);
        let member = Member { ring, me, life };
        member.mend();
        member
    }

    /// As `segment::recover::mend_row`.
    fn recover(&self, dead: Owner) -> Recovered {
        let memory = &*self.memory;
        recovery::recover(&self.shape, memory, dead, || {
            wait::wake_all(&memory.control().items);
            wait::wake_all(&memory.control().space);
        })
    }

    /// As `segment::recover::mend_others`.
    fn mend(&self, me: Option<Owner>, life: u32) -> Recovered {
        let memory = &*self.memory;
        let mut done = Recovered::default();
        for dead in owners(memory).filter(|owner| Some(*owner) != me) {
            let is_dead = !self.is_locked(dead) && recovery::in_use(memory, dead);
            if is_dead && self.try_lock(dead, life) {
                if recovery::in_use(memory, dead) {
                    done += self.recover(dead);
                }
                self.unlock(dead);
            }
        }
        done
    }

    /// Starts somebody who mends without being a participant, as `segment::recover` does, and dies
    /// over it: no recovery of its own repeats what it left undone.
    fn start_bystander(self: &Arc<Self>) -> shuttle::thread::JoinHandle<()> {
        let ring = Arc::clone(self);
        shuttle::thread::spawn(move || {
            ring.live(Some(below(60)), |ring, life| {
                for _ in 0..20 {
                    ring.mend(None, life);
                    crate::sync::yield_now();
                }
            });
        })
    }

    /// Positions that all participants together skipped, when all is quiet.
    fn skipped(&self) -> u64 {
        let memory = &*self.memory;
        let skipped = owners(memory).map(|owner| {
            assert!(!recovery::in_use(memory, owner), "row {owner:?} is in use");
            ledger::skipped(memory.row(owner), |_| unreachable!("all is quiet"))
        });
        skipped.sum()
    }
}

/// A participant that can die, and then is found dead.
struct Member {
    ring: Arc<Ring>,
    me: Owner,
    life: u32,
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_here() {
            let row = self.ring.memory.row(self.me);
            row.state.store(ROW_FREE, Ordering::Release);
            self.ring.unlock(self.me);
        }
    }
}

impl Attachment for Member {
    type Store = HeapRing;
    type Near<'a> = &'a HeapRing;
    const COPY_BY_WORDS: bool = false;
    const GUARDED: bool = false;
    const IN_ONE_PROCESS: bool = true;

    fn store(&self) -> &HeapRing {
        &self.ring.memory
    }

    fn near(&self) -> &HeapRing {
        self.store()
    }

    fn me(&self) -> Owner {
        self.me
    }

    fn shape(&self) -> &recovery::Shape {
        &self.ring.shape
    }

    fn element(&self) -> Option<&ElementType> {
        None
    }

    fn mend(&self) -> Recovered {
        self.ring.mend(Some(self.me), self.life)
    }

    fn is_alive(&self, owner: Owner) -> bool {
        recovery::in_use(self.store(), owner) && self.ring.is_locked(owner)
    }

    fn is_here(&self) -> bool {
        !is_dead()
    }

    fn gone(&self) -> Gone {
        Gone::Forked
    }

    fn loss(&self) -> Option<Loss> {
        None
    }
}

impl ZeroCopy for Member {}

/// The bytes of the record with this tag.
fn payload(tag: u32, longest: usize) -> Vec<u8> {
    let byte = u8::try_from(tag).expect("tags are small");
    vec![byte; tag as usize * 5 % (longest + 1)]
}
