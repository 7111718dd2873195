//! That nothing takes a second: the rows of the dead are mended, and either side gets on.
//!
//! Time in which somebody who stood still was in the way does not count: see `waits`.

use std::time::Duration;

use annulus::segment::{ParticipantInfo, Snapshot};

use super::super::system::now_ns;
use super::blows::Side;
use super::crew::{Seat, State, rows_of_the_dead};
use super::waits::Board;

/// Nobody may wait longer, and nothing of a dead one may stay longer.
pub(super) const BOUND: Duration = Duration::from_secs(1);

/// Something that must come to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    began_ns: u64,
    excused_ns: u64,
}

impl Since {
    fn now(board: &Board) -> Self {
        Self {
            began_ns: now_ns(),
            excused_ns: board.excused_ns(),
        }
    }

    /// How long it has lasted, less what is excused.
    fn elapsed(&self, board: &Board) -> Duration {
        let excused = board.excused_ns() - self.excused_ns;
        Duration::from_nanos((now_ns() - self.began_ns).saturating_sub(excused))
    }
}

/// A row of a process that was reaped, so that its lock is free, by number and lives.
#[derive(Clone, Copy, Debug)]
struct Dead {
    row: (u16, u64),
    pid: u32,
    since: Since,
}

#[derive(Debug, Default)]
pub(super) struct Bounds {
    dead: Vec<Dead>,
    /// What each side had achieved, and since when.
    progress: [(u64, Since); 2],
    pub(super) longest_recovery: Duration,
}

impl Bounds {
    /// A process has died, or is another one by now.
    pub(super) fn mourn(&mut self, pid: u32, snapshot: &Snapshot, board: &Board) {
        let rows = snapshot.participants.iter().filter(|row| row.pid == pid);
        self.dead.extend(rows.map(|row| Dead {
            row: (row.number, row.lives),
            pid,
            since: Since::now(board),
        }));
    }

    /// Sees that the rows of the dead are mended, and who that stands still may be mending them.
    pub(super) fn look_after_the_dead(
        &mut self,
        look: impl FnOnce() -> Snapshot,
        seats: &mut [Seat],
        board: &Board,
    ) {
        let is_suspected = |seat: &Seat| match &seat.state {
            State::Stopped(stop) => !stop.suspects.is_empty(),
            _ => false,
        };
        if self.dead.is_empty() && !seats.iter().any(is_suspected) {
            return;
        }
        let snapshot = look();
        let unmended = rows_of_the_dead(&snapshot, seats);
        for seat in seats {
            if let State::Stopped(stop) = &mut seat.state {
                stop.suspects.retain(|row| unmended.contains(row));
            }
        }
        let longest = &mut self.longest_recovery;
        self.dead.retain(|dead| {
            let age = dead.since.elapsed(board);
            *longest = age.max(*longest);
            let is_its_own = |row: &&ParticipantInfo| (row.number, row.lives) == dead.row;
            let row = snapshot.participants.iter().find(is_its_own);
            assert!(
                age < BOUND || row.is_none(),
                "process {} died {age:?} ago, and its row is still {row:?}",
                dead.pid
            );
            row.is_some()
        });
    }

    pub(super) fn begin_round(&mut self, board: &Board) {
        self.progress = [(u64::MAX, Since::now(board)); 2];
    }

    pub(super) fn check_progress(&mut self, side: Side, achieved: u64, board: &Board) {
        let (before, since) = &mut self.progress[side as usize];
        if achieved != *before {
            (*before, *since) = (achieved, Since::now(board));
        }
        let since = since.elapsed(board);
        assert!(since < BOUND, "no {side:?} got on for {since:?}");
    }
}
