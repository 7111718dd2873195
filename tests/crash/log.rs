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

use super::system::{now_ns, signal_self_after};

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
    /// Holds a claim or a record.
    Holding,
    /// Writes the bytes of its claim.
    Writing,
    /// Reads those of its record.
    Reading,
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
    const ALL: [Self; 13] = [
        Self::Starting,
        Self::Attaching,
        Self::Idle,
        Self::Claiming,
        Self::Waiting,
        Self::Holding,
        Self::Writing,
        Self::Reading,
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
    /// The thread that plays the role.
    Thread,
    /// What the parent wants: 0 for nothing.
    Order,
    /// In which [`Step`] the child is to be hit: its number plus 1, or 0.
    AimStep,
    /// What is to hit it: a signal, or a number that the test gives a meaning to.
    AimBlow,
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
    /// The same.
    ThirdAnswer,
    /// Longest wait in nanoseconds, less what is not the ring's doing.
    LongestWait,
    /// When the wait in progress began, 0 if there is none.
    WaitingSince,
    /// What was not the ring's doing until that moment.
    WaitingBase,
    /// Nanoseconds for which it was stopped.
    Stopped,
    /// Since when it has been in a system call that nobody can hurry, 0 if it is not.
    BusySince,
    /// 1 if something in it went wrong.
    Failed,
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
        if let Some(signal) = self.blow_in(step) {
            self.be_hit(signal);
        }
    }

    /// What is to hit this child in `step`.
    pub(crate) fn blow_in(&self, step: Step) -> Option<u64> {
        (self.get(Word::AimStep) == step as u64 + 1).then(|| self.get(Word::AimBlow))
    }

    /// In which step this child is to be hit.
    pub(crate) fn aimed_step(&self) -> Option<Step> {
        let number = usize::try_from(self.get(Word::AimStep)).expect("it fits");
        number.checked_sub(1).map(|step| Step::ALL[step])
    }

    /// Sets a timer that hits this process in what it does next: nobody else is as quick.
    ///
    /// Setting it takes longer than many a step, so the process waits until it is about to go off
    /// before it goes on.
    #[cold]
    pub(crate) fn be_hit(&self, signal: u64) {
        const LEAD_NS: u64 = 30_000;
        /// A timer goes off so much later than it should, about.
        const LATE_NS: u64 = 1500;
        self.set(Word::InStep, 0);
        let signal = i32::try_from(signal).expect("a signal");
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
        self.aim_blow(step, signal.cast_unsigned().into(), within);
    }

    /// The same with what need not be a signal.
    pub(crate) fn aim_blow(&self, step: Step, blow: u64, within: Duration) {
        let within_ns = u64::try_from(within.as_nanos()).expect("it fits");
        self.set(Word::AimWithin, within_ns.max(1));
        self.set(Word::AimBlow, blow);
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
