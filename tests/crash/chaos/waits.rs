//! Who waits for how long, less what is not the ring's doing.
//!
//! A wait is counted from the refusal to the return of the waiting call, less
//! - the time in which the waiting thread could run and the machine had no processor for it, which
//!   the kernel counts exactly (`schedstat`);
//! - the time for which it was stopped itself;
//! - the time in which somebody stood still who was alive and kept others from going on: the
//!   ring's promise is that nothing of his is taken. The director counts it, on the [`Board`], from
//!   its last look before it found him standing;
//! - the time in which the director did not come to look, for it goes before other work, and what
//!   keeps it from that keeps those for whom others wait as well;
//! - the time that the kernel takes to fork, to execute or to take a process apart, if it is long:
//!   whoever has a claim keeps it until then.
//!
//! So the bound holds on a crowded machine without being any wider.

use std::path::Path;
use std::time::Duration;

use super::super::log::{Log, Word};
use super::super::system::{RunQueue, now_ns};
use super::blows::Side;

/// What the director tells all workers: words of a log of its own.
#[derive(Debug)]
pub(super) struct Board {
    log: Log,
}

/// Everybody plays at full speed.
pub(super) const NO_TIDE: u64 = 0;

/// The excuse's word is the time excused so far, or with this bit, while it is running, the moment
/// at which it would have been nothing. So one store changes it.
const RUNNING: u64 = 1 << 63;

/// A wait so long is not told before it is known what of it is excused.
const LONG_NS: u64 = 300_000_000;

const PLAY: u64 = 0;
const FINISH: u64 = 1;

impl Board {
    fn path(ring: &Path) -> std::path::PathBuf {
        ring.with_file_name("board.log")
    }

    pub(super) fn create(ring: &Path) -> Self {
        Self {
            log: Log::create(&Self::path(ring), 0),
        }
    }

    pub(super) fn open(ring: &Path) -> Self {
        Self {
            log: Log::open(&Self::path(ring)),
        }
    }

    /// Tells producers to come to an end; consumers end when the ring is closed and drained.
    pub(super) fn finish(&self, finish: bool) {
        self.log
            .set(Word::Order, if finish { FINISH } else { PLAY });
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.log.get(Word::Order) == FINISH
    }

    /// Slows one side down, so that the other one comes to wait: `side as u64 + 1` or [`NO_TIDE`].
    pub(super) fn set_tide(&self, tide: u64) {
        self.log.set(Word::Answer, tide);
    }

    pub(super) fn is_slow(&self, side: Side) -> bool {
        self.log.get(Word::Answer) == side as u64 + 1 && !self.is_finishing()
    }

    /// For how long somebody has stood in others' way so far.
    pub(super) fn excused_ns(&self) -> u64 {
        let word = self.log.get(Word::Stopped);
        if word & RUNNING == 0 {
            word
        } else {
            now_ns() - (word & !RUNNING)
        }
    }

    /// Only for the director: whether somebody stands in others' way from now on.
    pub(super) fn excuse(&self, excuse: bool) {
        let word = self.log.get(Word::Stopped);
        if excuse != (word & RUNNING != 0) {
            let (now, so_far) = (now_ns(), self.excused_ns());
            let running = (now - so_far) | RUNNING;
            self.log
                .set(Word::Stopped, if excuse { running } else { so_far });
        }
    }

    /// Only for the director: it has looked at everything, and told what it excuses.
    pub(super) fn note_look(&self) {
        self.log.set(Word::Rounds, self.log.get(Word::Rounds) + 1);
    }

    /// Waits until the director has looked at everything, so that nothing is to be excused of which
    /// it has not told yet. It may have been without a processor itself.
    fn wait_for_look(&self) {
        let looks = self.log.get(Word::Rounds);
        // The look in progress may have begun too early.
        while self.log.get(Word::Rounds) < looks + 2 {
            std::thread::yield_now();
        }
    }

    /// Only for the director: somebody may have stood in others' way for so long, unseen.
    pub(super) fn excuse_also(&self, time: Duration) {
        let word = self.log.get(Word::Stopped);
        if word & RUNNING == 0 {
            let ns = u64::try_from(time.as_nanos()).expect("it fits");
            self.log.set(Word::Stopped, word + ns);
        }
    }
}

/// Measures the waits of one thread.
#[derive(Debug)]
pub(super) struct Stopwatch<'l> {
    log: &'l Log,
    board: &'l Board,
    run_queue: RunQueue,
}

impl<'l> Stopwatch<'l> {
    pub(super) fn new(log: &'l Log, board: &'l Board) -> Self {
        Self {
            log,
            board,
            run_queue: RunQueue::of_this_thread(),
        }
    }

    /// Runs `wait` and remembers the longest.
    pub(super) fn time<T>(&self, wait: impl FnOnce() -> T) -> T {
        let (began, base) = (
            now_ns(),
            uncounted_ns(self.log, self.board, &self.run_queue),
        );
        self.log.set(Word::WaitingBase, base);
        self.log.set(Word::WaitingSince, began);
        let value = wait();
        let wall = now_ns().saturating_sub(began);
        if wall > LONG_NS {
            self.board.wait_for_look();
        }
        self.log.set(Word::WaitingSince, 0);
        let longest = self.log.get(Word::LongestWait);
        if wall > longest {
            let uncounted = uncounted_ns(self.log, self.board, &self.run_queue) - base;
            let net = wall.saturating_sub(uncounted);
            self.log.set(Word::LongestWait, longest.max(net));
        }
        value
    }
}

fn uncounted_ns(log: &Log, board: &Board, run_queue: &RunQueue) -> u64 {
    run_queue.waited_ns() + board.excused_ns() + log.get(Word::Stopped)
}

/// How long the thread of `log` has been waiting when its process `pid` is about to be killed.
pub(super) fn unfinished_ns(log: &Log, board: &Board, pid: u32) -> u64 {
    let since = log.get(Word::WaitingSince);
    if since == 0 {
        return 0;
    }
    let run_queue = RunQueue::of(pid, log.get(Word::Thread));
    let uncounted = uncounted_ns(log, board, &run_queue).saturating_sub(log.get(Word::WaitingBase));
    now_ns().saturating_sub(since).saturating_sub(uncounted)
}
