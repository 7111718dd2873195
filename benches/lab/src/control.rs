//! The page through which the players of a slice meet: a barrier, the end, and nothing else.
//!
//! A slice has two phases, a warm-up and the part that counts; each has a barrier before it and an
//! end of its own, so that nothing of the first is taken for the second. Players look at the page
//! only at the barrier and when they have nothing to do.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ns;
use crate::memory::Memory;
use crate::payload::LAST;

/// A part of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not counted: caches, pages and predictors get warm.
    WarmUp,
    /// What counts.
    Timed,
}

impl Phase {
    /// The number of this phase's last record. A lossy contender may deliver the warm-up's one
    /// late: it must not end the part that counts.
    #[inline]
    #[must_use]
    pub fn last(self) -> u64 {
        match self {
            Self::WarmUp => LAST - 1,
            Self::Timed => LAST,
        }
    }
}

/// Each word has two lines of its own: neighbours are fetched together.
const STRIDE: usize = 128;
const WORDS: usize = 4;

/// The players' page.
#[derive(Debug)]
pub struct Control {
    memory: Memory,
    players: u64,
    producers: u64,
}

/// Somebody failed, and the slice is over.
#[derive(Clone, Copy, Debug)]
pub struct Over;

impl Control {
    /// A page for so many.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(producers: usize, consumers: usize) -> Result<Self, nix::Error> {
        Ok(Self {
            memory: Memory::new(4096)?,
            players: (producers + consumers) as u64,
            producers: producers as u64,
        })
    }

    #[inline]
    fn word(&self, phase: Phase, which: usize) -> &AtomicU64 {
        let before = match phase {
            Phase::WarmUp => 1,
            Phase::Timed => 1 + WORDS,
        };
        self.memory.word((before + which) * STRIDE)
    }

    fn arrived(&self, phase: Phase) -> &AtomicU64 {
        self.word(phase, 0)
    }

    fn began(&self, phase: Phase) -> &AtomicU64 {
        self.word(phase, 1)
    }

    fn done(&self, phase: Phase) -> &AtomicU64 {
        self.word(phase, 2)
    }

    fn all_sent(&self, phase: Phase) -> &AtomicU64 {
        self.word(phase, 3)
    }

    /// Waits for all the others; when the phase began, which all are told alike.
    ///
    /// # Errors
    /// [`Over`], if somebody failed and will not come.
    pub fn meet(&self, phase: Phase) -> Result<u64, Over> {
        if self.arrived(phase).fetch_add(1, Ordering::AcqRel) + 1 == self.players {
            self.began(phase).store(now_ns(), Ordering::Release);
        }
        loop {
            match self.began(phase).load(Ordering::Acquire) {
                0 if self.is_over() => return Err(Over),
                0 => std::thread::yield_now(),
                began => return Ok(began),
            }
        }
    }

    /// A producer is done. True for the last one, which ends the stream for all.
    #[must_use]
    pub fn is_last_producer(&self, phase: Phase) -> bool {
        self.done(phase).fetch_add(1, Ordering::AcqRel) + 1 == self.producers
    }

    /// Everything is sent: nothing comes after what is under way.
    pub fn set_all_sent(&self, phase: Phase) {
        self.all_sent(phase).store(1, Ordering::Release);
    }

    /// Whether everything is sent.
    #[inline]
    pub fn is_all_sent(&self, phase: Phase) -> bool {
        self.all_sent(phase).load(Ordering::Acquire) != 0
    }

    /// Tells whoever waits at a barrier that not all will come.
    pub fn set_over(&self) {
        self.memory.word(0).store(1, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.memory.word(0).load(Ordering::Acquire) != 0
    }
}
