//! What the victim does and meets, in a file that outlives it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// The victim's threads: one writes, one reads.
pub(crate) const SIDES: usize = 2;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),* }

        impl $name {
            pub(crate) const ALL: [Self; [$(stringify!($variant)),*].len()] =
                [$(Self::$variant),*];
        }
    };
}

named!(
    /// What the victim does.
    Operation {
        Attach, Detach, Push, WaitToPush, Pop, WaitToPop, GoBack, Close, Reopen, AskForNumbers,
        AskForPeer, Arm, Recover, Inspect,
    }
);

named!(
    /// How an operation ended.
    Met { Success, Damage, OtherError, RefusalToAttach }
);

const STOP: usize = 0;
/// For each side the number of operations begun, and the one that it is in.
const SIDE: usize = 8;
const DONE: usize = 24;
const MET: usize = 48;
const WORDS: usize = 64;

/// A word of a mapping by its number.
#[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
pub(crate) fn word_of(map: &MmapRaw, word: usize) -> &AtomicU64 {
    assert!(word < map.len() / 8);
    // SAFETY: 8 bytes inside the mapping, as asserted, which begins at a page.
    let word = unsafe { map.as_mut_ptr().cast::<u64>().add(word) };
    // SAFETY: mapped as long as `map` is borrowed, and all who use it here use it as an atomic.
    unsafe { AtomicU64::from_ptr(word) }
}

/// A mapped file of counters.
pub(crate) struct Log {
    map: MmapRaw,
}

impl Log {
    pub(crate) fn create(path: &Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .expect("a file");
        file.set_len((WORDS * 8) as u64).expect("a few bytes");
        Self::of(&file)
    }

    pub(crate) fn open(path: &OsStr) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self::of(&file.expect("the log"))
    }

    fn of(file: &File) -> Self {
        let map = MmapOptions::new().len(WORDS * 8).map_raw(file);
        Self {
            map: map.expect("memory for a log"),
        }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        word_of(&self.map, word)
    }

    fn get(&self, word: usize) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn add(&self, word: usize) {
        self.word(word).fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a side begins an operation.
    pub(crate) fn begin(&self, side: usize, operation: Operation) {
        let word = SIDE + side * 8;
        self.word(word + 1)
            .store(operation as u64, Ordering::Relaxed);
        self.add(word);
        self.add(DONE + operation as usize);
    }

    pub(crate) fn begun(&self, side: usize) -> u64 {
        self.get(SIDE + side * 8)
    }

    pub(crate) fn operation(&self, side: usize) -> Operation {
        let number = usize::try_from(self.get(SIDE + side * 8 + 1)).expect("a small number");
        Operation::ALL[number]
    }

    pub(crate) fn done(&self, operation: Operation) -> u64 {
        self.get(DONE + operation as usize)
    }

    pub(crate) fn meet(&self, met: Met) {
        self.add(MET + met as usize);
    }

    pub(crate) fn met(&self, met: Met) -> u64 {
        self.get(MET + met as usize)
    }

    pub(crate) fn stop(&self) {
        self.word(STOP).store(1, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.get(STOP) != 0
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = Operation::ALL.map(|operation| (operation, self.done(operation)));
        let met = Met::ALL.map(|met| (met, self.met(met)));
        f.debug_map().entries(done).entries(met).finish()
    }
}
