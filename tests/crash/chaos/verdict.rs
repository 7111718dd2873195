//! What is counted, and what must hold: of each death, of each stop, of each round.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::Recovered;
use annulus::segment::{
    Location, ParticipantInfo, RecoverOptions, RowState, Snapshot, inspect, recover,
};

use super::super::log::Word;
use super::super::system::{self, Event, now_ns};
use super::blows::{At, Kind, Side};
use super::bounds::{BOUND, Bounds};
use super::crew::{Life, Seat, State, Stop, rows_of_the_dead};
use super::figures::Figures;
use super::hits::{Fate, Hits};
use super::ledger::Ledger;
use super::say;
use super::waits::Board;
use super::worker::BEGIN;

/// Nobody who runs takes so long to mend a row.
const LONG_ENOUGH_NS: u64 = 10_000_000;

pub(super) struct Verdict {
    location: Location,
    ledger: Ledger,
    pub(super) hits: Hits,
    pub(super) bounds: Bounds,
    /// What those who ended had achieved.
    achieved: [u64; 2],
    /// The last number that a thread was given.
    numbers: u64,
    pub(super) figures: Figures,
}

impl Verdict {
    pub(super) fn new(ring: &Path) -> Self {
        Self {
            location: Location::from(ring),
            ledger: Ledger::default(),
            hits: Hits::default(),
            bounds: Bounds::default(),
            achieved: [0; 2],
            numbers: 0,
            figures: Figures::default(),
        }
    }

    fn look(&self) -> Snapshot {
        inspect(&self.location).expect("inspect")
    }

    /// The first of so many numbers that nobody had before.
    pub(super) fn next_numbers(&mut self, count: u64) -> u64 {
        let first = self.numbers + 1;
        self.numbers += count;
        first
    }

    pub(super) fn note_wait(&mut self, side: Side, wait: Duration) {
        let longest = &mut self.figures.longest_wait[side as usize];
        *longest = wait.max(*longest);
        assert!(wait < BOUND, "a {side:?} waited for {wait:?}");
    }

    /// A worker stands still where it was to.
    pub(super) fn begin_stop(&mut self, seats: &mut [Seat], index: usize, board: &Board) {
        let snapshot = self.look();
        let suspects = rows_of_the_dead(&snapshot, seats);
        let seat = &mut seats[index];
        seat.hold_fire();
        let own = seat.belongings(&snapshot);
        let obstructs = !own.claims.is_empty() || seat.is_undoing();
        let state = std::mem::replace(&mut seat.state, State::Empty);
        let State::Aimed(aim) = state else {
            unreachable!("only who was aimed at is stopped");
        };
        self.figures.stops += 1;
        seat.state = State::Stopped(Box::new(Stop {
            until: Instant::now() + aim.blow.stop,
            aim,
            since_ns: now_ns(),
            excused_ns: board.excused_ns(),
            own,
            obstructs,
            suspects,
        }));
    }

    /// A worker has stood still for its time, and goes on or is about to be killed.
    pub(super) fn end_stop(&mut self, seat: &mut Seat, kills: bool, board: &Board) {
        let state = std::mem::replace(&mut seat.state, State::AtLarge);
        let State::Stopped(stop) = state else {
            unreachable!("only who is stopped goes on");
        };
        let snapshot = self.look();
        assert_eq!(
            seat.belongings(&snapshot),
            stop.own,
            "of a worker that stood still: {seat:?}"
        );
        let stopped_ns = now_ns() - stop.since_ns;
        self.figures.longest_stop = self
            .figures
            .longest_stop
            .max(Duration::from_nanos(stopped_ns));
        // What others were excused for at the same time is not taken off twice.
        let excused = board.excused_ns() - stop.excused_ns;
        for life in &seat.lives {
            let so_far = life.log.get(Word::Stopped);
            let own = stopped_ns.saturating_sub(excused);
            life.log.set(Word::Stopped, so_far + own);
        }
        if kills {
            self.note_stopped_victim(seat, &stop, &snapshot);
            seat.state = State::Stopped(stop);
            return;
        }
        for life in &seat.lives {
            self.hits.note(seat.side, life.log.step(), Fate::WentOn);
        }
        system::signal(seat.pid, libc::SIGCONT);
    }

    /// What a worker that stands still is about to leave to the others.
    fn note_stopped_victim(&mut self, seat: &Seat, stop: &Stop, snapshot: &Snapshot) {
        let is_mended = |row: &&ParticipantInfo| {
            row.state == RowState::Recovering && stop.suspects.contains(&(row.number, row.lives))
        };
        // Everybody who attached meanwhile has tried to mend it: the lock was not to be had.
        if now_ns() - stop.since_ns > LONG_ENOUGH_NS {
            let mended = snapshot.participants.iter().filter(is_mended).count();
            self.hits.left_in_recovery += mended as u64;
        }
        if let [life] = &seat.lives[..] {
            let claims = !stop.own.claims.is_empty();
            self.hits.note_left(seat.side, life.log.step(), claims);
        }
    }

    /// A worker was reaped.
    pub(super) fn bury(&mut self, seat: &mut Seat, killed: bool, board: &Board) {
        let snapshot = self.look();
        self.bounds.mourn(seat.pid, &snapshot, board);
        let state = std::mem::replace(&mut seat.state, State::Empty);
        let fate = match &state {
            State::Dying {
                stood_still: true, ..
            } => Fate::KilledStopped,
            _ => Fate::Killed,
        };
        if killed {
            self.figures.kills += 1;
            for life in &seat.lives {
                self.hits.note(seat.side, life.log.step(), fate);
            }
            self.note_left(seat, &snapshot, fate);
        }
        if let State::Aimed(aim) = &state {
            let has_dealt = seat.lives[aim.thread].log.get(Word::Rounds) > aim.dealt;
            if aim.blow.kind == Kind::ForkAndDie && has_dealt {
                self.note_forked(seat.side, aim.blow.at);
            }
        }
        let lives = std::mem::take(&mut seat.lives);
        self.close_accounts(seat.side, lives);
    }

    /// Whether a worker with a single thread, whose row nobody has mended yet, left claims.
    fn note_left(&mut self, seat: &Seat, snapshot: &Snapshot, fate: Fate) {
        let [life] = &seat.lives[..] else { return };
        let mut rows = snapshot.participants.iter();
        let row = rows.find(|row| row.pid == seat.pid && row.state == RowState::Attached);
        if let (Some(row), Fate::Killed) = (row, fate) {
            let claims = snapshot
                .claims
                .iter()
                .any(|claim| claim.owner == row.number);
            self.hits.note_left(seat.side, life.log.step(), claims);
        }
    }

    fn note_forked(&mut self, side: Side, at: At) {
        self.figures.forks += 1;
        if let At::In(step) = at {
            self.hits.note(side, step, Fate::Forked);
        }
    }

    /// A thread has panicked or forked as it was told to, and its process goes on.
    pub(super) fn note_dealt(&mut self, seat: &mut Seat) {
        seat.hold_fire();
        let State::Aimed(aim) = std::mem::replace(&mut seat.state, State::AtLarge) else {
            unreachable!("only who was aimed at has dealt itself a blow");
        };
        match (aim.blow.kind, aim.blow.at) {
            (Kind::Panic, At::In(step)) => {
                self.figures.panics += 1;
                self.hits.note(seat.side, step, Fate::Panicked);
            }
            (_, at) => self.note_forked(seat.side, at),
        }
    }

    /// A worker has executed this binary: what it was is dead, and what it is now may begin.
    pub(super) fn execute(&mut self, seat: &mut Seat, board: &Board) {
        let snapshot = self.look();
        self.bounds.mourn(seat.pid, &snapshot, board);
        let State::Aimed(aim) = std::mem::replace(&mut seat.state, State::AtLarge) else {
            unreachable!("only who was aimed at has executed anything");
        };
        self.figures.executions += 1;
        for life in &seat.lives {
            self.hits.note(seat.side, life.log.step(), Fate::Executed);
        }
        let image = aim.image.expect("it was prepared");
        image.log.set(Word::Order, BEGIN);
        let lives = std::mem::replace(&mut seat.lives, vec![image]);
        self.close_accounts(seat.side, lives);
    }

    fn close_accounts(&mut self, side: Side, lives: Vec<Life>) {
        for life in lives {
            let log = &life.log;
            assert_eq!(
                log.get(Word::Failed),
                0,
                "a worker failed, see above: {life:?}"
            );
            match side {
                Side::Producer => self.ledger.add_producer(life.number, log),
                Side::Consumer => self.ledger.add_consumer(log),
            }
            self.note_wait(side, Duration::from_nanos(log.get(Word::LongestWait)));
            self.achieved[side as usize] += log.get(Word::Done) + log.get(Word::Entries);
        }
    }

    pub(super) fn orphan_has_ended(&mut self, pid: u32, event: Event) {
        assert_eq!(event, Event::Exited(0), "a forked child {pid} failed");
        self.figures.orphans += 1;
    }

    pub(super) fn wait_for_orphans(&mut self, at_most: Duration) {
        let began = Instant::now();
        while system::has_children() {
            if let Some((pid, event)) = system::next_event() {
                self.orphan_has_ended(pid, event);
            }
            assert!(began.elapsed() < at_most, "a forked child does not end");
            std::thread::yield_now();
        }
    }

    /// Looks at what must not take long.
    pub(super) fn check_bounds(&mut self, seats: &mut [Seat], board: &Board) {
        let location = &self.location;
        let look = || inspect(location).expect("inspect");
        self.bounds.look_after_the_dead(look, seats, board);
    }

    pub(super) fn check_progress(&mut self, seats: &[Seat], board: &Board) {
        self.figures.excused = Duration::from_nanos(board.excused_ns());
        for side in Side::BOTH {
            let playing = seats.iter().filter(|seat| seat.side == side);
            let achieved = self.achieved[side as usize] + playing.map(Seat::achieved).sum::<u64>();
            self.bounds.check_progress(side, achieved, board);
        }
    }

    /// Everybody has ended and the ring is drained.
    pub(super) fn settle(&mut self) {
        let recovered = recover(&self.location, &RecoverOptions::default()).expect("recover");
        let Recovered {
            skipped,
            redelivered,
            dropped,
            ..
        } = recovered;
        assert_eq!(
            (skipped, redelivered, dropped),
            (0, 0, 0),
            "claims in a drained ring"
        );
        let snapshot = self.look();
        let claims = &snapshot.claims;
        assert_eq!(snapshot.claims_count, 0, "slots are held: {claims:?}");
        let rows = &snapshot.participants;
        assert!(rows.is_empty(), "rows are in use: {rows:?}");
        self.ledger.settle(self.numbers + 1);
        let totals = self.ledger.totals();
        assert_eq!(snapshot.committed_records, totals.distinct);
        assert_eq!(snapshot.released_records, totals.distinct);
        assert!(snapshot.totals.redelivered >= totals.duplicates);
        self.figures.rounds += 1;
    }

    /// The whole run is over.
    pub(super) fn pass(&self, length: Duration) {
        let rate = self.figures.kills as f64 / length.as_secs_f64();
        say!(
            "{length:.1?}: {} kills, {rate:.0} a second, {}",
            self.figures.kills,
            self.line()
        );
        say!("{:?}", self.ledger.totals());
        say!("{:?}", self.look().totals);
        let recovery = self.bounds.longest_recovery;
        say!("longest time for which a dead one's row was in use: {recovery:?}");
        self.figures.print();
        for line in self.hits.table() {
            say!("{line}");
        }
        let missing = self.hits.missing();
        assert!(missing.is_empty(), "never hit: {missing:?}");
    }

    pub(super) fn line(&self) -> String {
        self.figures.line(self.ledger.totals().distinct)
    }

    pub(super) fn print_ring(&self) {
        let snapshot = self.look();
        for row in &snapshot.participants {
            say!("{row:?}");
        }
        for claim in &snapshot.claims {
            say!("{claim:?}");
        }
        let Snapshot {
            head,
            tail,
            committed_records,
            released_records,
            recovery_epoch,
            ..
        } = snapshot;
        say!("head {head}, tail {tail}, recovery epoch {recovery_epoch}");
        say!("{committed_records} records committed, {released_records} released");
    }
}
