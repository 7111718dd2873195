//! What a child tells: words and entries in a mapped file, which outlive it whatever kills it.
//!
//! A store is all that it costs, so that a child spends its time in the ring and not in telling.
//! What a killed process has stored is in the file for good; the compiler is kept from exchanging
//! two stores by Release.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use super::system::{RunQueue, now_ns, signal_self_after};

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Being loaded; nothing of the ring was touched.
    Starting,
    /// In `attach`.
    Attaching,
    /// Between operations.
    Idle,
    /// In an attempt to claim, of either side.
    Claiming,
    /// Refused, and in a call that waits: spinning, yielding or asleep.
    Waiting,
    /// Holds a claim that it writes or a record that it reads.
    Holding,
    /// In `commit`, or in `release`.
    Publishing,
    /// Aborting, or requeueing.
    Undoing,
    /// Dropping its handle.
    Detaching,
    /// In `recover`.
    Recovering,
    /// Has done what it was asked for.
    Finished,
}

impl Step {
    const ALL: [Self; 11] = [
        Self::Starting,
        Self::Attaching,
        Self::Idle,
        Self::Claiming,
        Self::Waiting,
        Self::Holding,
        Self::Publishing,
        Self::Undoing,
        Self::Detaching,
        Self::Recovering,
        Self::Finished,
    ];
}

/// The words at the beginning of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// A [`Step`].
    Step,
    /// Records that the child has begun to commit, or to release.
    Intent,
    /// Records whose commit, or release, has returned.
    Done,
    /// How many entries there are.
    Entries,
    /// How many of the entries' records are released for certain.
    Released,
    /// Records given back of its own will.
    Requeued,
    /// Longest wait in nanoseconds, less the time in which there was no processor for it.
    LongestWait,
    /// When the wait in progress began, 0 if there is none.
    WaitingSince,
    /// `RunQueue::waited_ns` at that moment.
    WaitingBase,
    /// The thread that plays the role.
    Thread,
    /// What the parent wants: 0 for nothing.
    Order,
    /// In which [`Step`] the child is to be hit: its number plus 1, or 0.
    AimStep,
    /// The signal that is to hit it.
    AimSignal,
    /// It comes so many nanoseconds after the step began, at most.
    AimWithin,
    /// 1 from the moment at which a child that is about to be hit goes on.
    InStep,
    /// How many times the child has done whatever it repeats.
    Rounds,
    /// For what a single test wants to know.
    Answer,
    /// The same.
    SecondAnswer,
}

const HEADER_WORDS: usize = 64;

/// One child's log, mapped by it and by its parent.
#[derive(Debug)]
pub(crate) struct Log {
    map: MmapRaw,
}

impl Log {
    /// A log of zeroes with room for `entries`; pages come into being as they are written.
    pub(crate) fn create(path: &Path, entries: usize) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = file.expect("create a log");
        file.set_len((HEADER_WORDS + entries) as u64 * 8)
            .expect("set the size of a log");
        Self::map(&file)
    }

    pub(crate) fn open(path: &Path) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("open a log");
        Self::map(&file)
    }

    fn map(file: &File) -> Self {
        Self {
            map: MmapOptions::new().map_raw(file).expect("map a log"),
        }
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn words(&self) -> &[AtomicU64] {
        let (start, bytes) = (self.map.as_ptr().cast::<AtomicU64>(), self.map.len());
        // SAFETY: the mapping is of that many bytes for as long as `self` is borrowed, begins at a
        // page, and all processes that map it access it as atomic words only.
        unsafe { std::slice::from_raw_parts(start, bytes / 8) }
    }

    pub(crate) fn get(&self, word: Word) -> u64 {
        self.words()[word as usize].load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, word: Word, value: u64) {
        self.words()[word as usize].store(value, Ordering::Release);
    }

    pub(crate) fn step(&self) -> Step {
        let step = usize::try_from(self.get(Word::Step)).expect("it fits");
        Step::ALL[step]
    }

    /// Tells that a step begins, which the caller's next call is about.
    pub(crate) fn enter(&self, step: Step) {
        self.set(Word::Step, step as u64);
        if self.get(Word::AimStep) == step as u64 + 1 {
            self.be_hit();
        }
    }

    /// Sets a timer that hits this process in what it does next: nobody else is as quick.
    ///
    /// Setting it takes longer than many a step, so the process waits until it is about to go off
    /// before it goes on.
    #[cold]
    fn be_hit(&self) {
        const LEAD_NS: u64 = 30_000;
        /// A timer goes off so much later than it should, about.
        const LATE_NS: u64 = 1500;
        self.set(Word::InStep, 0);
        let signal = i32::try_from(self.get(Word::AimSignal)).expect("a signal");
        let armed = now_ns();
        let random = armed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        signal_self_after(signal, LEAD_NS + random % self.get(Word::AimWithin));
        while now_ns() < armed + LEAD_NS + LATE_NS {
            std::hint::spin_loop();
        }
        self.set(Word::InStep, 1);
    }

    /// Whether the child, which stands still, was hit in `step`, and not on its way there.
    pub(crate) fn is_hit_in(&self, step: Step) -> bool {
        self.step() == step && self.get(Word::InStep) == 1
    }

    /// Asks the child to have `signal` hit it in `step`, at some moment `within` its beginning.
    pub(crate) fn aim(&self, step: Step, signal: libc::c_int, within: Duration) {
        let within_ns = u64::try_from(within.as_nanos()).expect("it fits");
        self.set(Word::AimWithin, within_ns.max(1));
        self.set(Word::AimSignal, signal.cast_unsigned().into());
        self.set(Word::AimStep, step as u64 + 1);
    }

    /// Takes the aim away.
    pub(crate) fn hold_fire(&self) {
        self.set(Word::AimStep, 0);
    }

    /// How many more entries there is room for.
    pub(crate) fn room(&self) -> u64 {
        (self.words().len() - HEADER_WORDS) as u64 - self.get(Word::Entries)
    }

    /// Appends an entry; it counts from the second store on.
    pub(crate) fn append(&self, entry: u64) {
        let at = self.get(Word::Entries);
        let index = HEADER_WORDS + usize::try_from(at).expect("it fits");
        self.words()[index].store(entry, Ordering::Release);
        self.set(Word::Entries, at + 1);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = u64> + '_ {
        let count = usize::try_from(self.get(Word::Entries)).expect("it fits");
        let entries = &self.words()[HEADER_WORDS..HEADER_WORDS + count];
        entries.iter().map(|entry| entry.load(Ordering::Acquire))
    }
}

/// Measures how long a child waits.
///
/// Counted is the time from the refusal to the return of the waiting call, less the time in which
/// the child could run and the machine had no processor for it. That is not the ring's doing, the
/// kernel counts it exactly (`schedstat`), and it is taken at the beginning and at the end of the
/// same wait: so the bound holds on a crowded machine without being any wider.
#[derive(Debug)]
pub(crate) struct Stopwatch<'l> {
    log: &'l Log,
    run_queue: RunQueue,
}

impl<'l> Stopwatch<'l> {
    pub(crate) fn new(log: &'l Log) -> Self {
        Self {
            log,
            run_queue: RunQueue::of_this_thread(),
        }
    }

    /// Runs `wait` and remembers the longest.
    pub(crate) fn time<T>(&self, wait: impl FnOnce() -> T) -> T {
        let (began, base) = (now_ns(), self.run_queue.waited_ns());
        self.log.set(Word::WaitingBase, base);
        self.log.set(Word::WaitingSince, began);
        let value = wait();
        self.log.set(Word::WaitingSince, 0);
        let longest = self.log.get(Word::LongestWait);
        let wall = now_ns().saturating_sub(began);
        if wall > longest {
            let net = wall.saturating_sub(self.run_queue.waited_ns() - base);
            self.log.set(Word::LongestWait, longest.max(net));
        }
        value
    }
}
