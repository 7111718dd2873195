//! The process that starts the workers, strikes them, and passes the verdict.
//!
//! # Rounds
//! A run is a sequence of rounds. In each one the workers play and are struck for some seconds;
//! then the producers come to an end, the ring is closed, the consumers drain it, and everything is
//! checked: so a failure is found in the round in which it happened, whose seed replays its blows,
//! and neither logs nor accounts grow with the length of the run. The ring is the same throughout.
//!
//! # Time
//! Nothing is taken from anybody by a clock here either. The director looks at everything every
//! other millisecond, and strikes in a rhythm; what it cannot strike in time it gives up.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::mpmc::{Options, Producer};

use super::super::payload::{LONGEST, Random};
use super::super::system;
use super::blows::{Blow, Side};
use super::crew::Seat;
use super::say;
use super::verdict::Verdict;
use super::waits::{Board, NO_TIDE};

/// Threads of each producer's process: eight producers.
const PRODUCERS: [usize; 6] = [1, 1, 1, 1, 2, 2];
/// Four consumers.
const CONSUMERS: [usize; 3] = [1, 1, 2];
const SLOTS: u64 = 128;

const ROUND: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(2);
const BETWEEN_BLOWS: Duration = Duration::from_millis(6);
const BETWEEN_TIDES: Duration = Duration::from_millis(150);
const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// How much longer than asked for a run may last until every state has been hit.
const OVERTIME: Duration = Duration::from_secs(90);
/// How long the end of a round may take.
const LOST: Duration = Duration::from_secs(20);

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Length(Duration),
    Kills(u64),
}

pub(super) struct Director {
    pub(super) ring: PathBuf,
    pub(super) board: Board,
    pub(super) seats: Vec<Seat>,
    pub(super) verdict: Verdict,
    size: Size,
    pub(super) began: Instant,
    /// When the run had been as long as asked for.
    full_size: Option<Instant>,
    pub(super) round_seed: u64,
    random: Random,
    tide: Random,
    pub(super) finishing: bool,
    pub(super) last_tick: Instant,
    /// Seats whose next worker is killed at birth.
    pub(super) stillborn: Vec<usize>,
    /// Blows that come when the worker of a seat has died.
    pub(super) sequels: Vec<(usize, Blow)>,
    pub(super) last_blows: VecDeque<Blow>,
}

impl Director {
    pub(super) fn begin(ring: &Path, seed: u64, size: Size) -> Self {
        // The thread that waits for this role to be played, and this one.
        assert_eq!(system::threads(), 2, "who forks workers has no threads");
        system::adopt_orphans();
        let options = Options::new(SLOTS, LONGEST as u64);
        options.create(ring).expect("create a ring");
        let seats = [
            (Side::Producer, &PRODUCERS[..]),
            (Side::Consumer, &CONSUMERS),
        ];
        let seats = seats.into_iter().flat_map(|(side, threads)| {
            threads.iter().map(move |threads| Seat::new(side, *threads))
        });
        Self {
            ring: ring.to_path_buf(),
            board: Board::create(ring),
            seats: seats.collect(),
            verdict: Verdict::new(ring),
            size,
            began: Instant::now(),
            full_size: None,
            round_seed: seed,
            random: Random::new(seed),
            tide: Random::new(seed),
            finishing: false,
            last_tick: Instant::now(),
            stillborn: Vec::new(),
            sequels: Vec::new(),
            last_blows: VecDeque::new(),
        }
    }

    /// The whole run.
    pub(super) fn run(mut self) {
        let mut line_due = self.began + BETWEEN_LINES;
        while !self.is_done() {
            self.play_round(&mut line_due);
            self.finish_round();
            self.round_seed = Random::new(self.round_seed).next();
            self.random = Random::new(self.round_seed);
        }
        self.verdict.wait_for_orphans(LOST);
        self.verdict.pass(self.began.elapsed());
    }

    fn is_done(&mut self) -> bool {
        let is_full_size = match self.size {
            Size::Length(length) => self.began.elapsed() >= length,
            Size::Kills(kills) => self.verdict.figures.kills >= kills,
        };
        if !is_full_size {
            return false;
        }
        let overtime = self.full_size.get_or_insert_with(Instant::now).elapsed();
        self.verdict.hits.missing().is_empty() || overtime > OVERTIME
    }

    fn play_round(&mut self, line_due: &mut Instant) {
        for index in 0..self.seats.len() {
            self.fill(index);
        }
        let began = Instant::now();
        self.last_tick = began;
        let (mut blow_due, mut tide_due) = (began, began);
        self.verdict.bounds.begin_round(&self.board);
        while began.elapsed() < ROUND && !self.is_done() {
            self.tick();
            self.verdict.check_progress(&self.seats, &self.board);
            let now = Instant::now();
            if now >= tide_due {
                tide_due = now + BETWEEN_TIDES;
                self.board.set_tide(self.tide.below(3));
            }
            // One that comes too late to be dealt is left out rather than made up for.
            blow_due = blow_due.max(now.checked_sub(2 * BETWEEN_BLOWS).unwrap_or(now));
            while blow_due <= now {
                blow_due += BETWEEN_BLOWS;
                let blow = self.next_blow();
                self.strike(blow);
            }
            if now >= *line_due {
                *line_due = now + BETWEEN_LINES;
                self.print_line();
            }
            // A rhythm, not a synchronisation: nothing depends on what happens meanwhile.
            std::thread::sleep(TICK);
        }
    }

    /// From the seed; when the run has been as long as asked for, whatever is still missing.
    fn next_blow(&mut self) -> Blow {
        if self.full_size.is_none() {
            return Blow::draw(&mut self.random);
        }
        let missing = self.verdict.hits.missing();
        match missing.is_empty() {
            true => Blow::draw(&mut self.random),
            false => {
                let (kind, side, at) = self.random.pick(&missing);
                Blow::new(kind, side, at, &mut self.random)
            }
        }
    }

    /// Lets everybody come to an end, and has the verdict looked at.
    fn finish_round(&mut self) {
        self.finishing = true;
        self.board.set_tide(NO_TIDE);
        self.board.finish(true);
        self.wait_for(Side::Producer);
        // SAFETY: only this test's processes have the ring, and only through the library.
        let closer = unsafe { Producer::attach(&self.ring) }.expect("attach");
        closer.close();
        drop(closer);
        self.wait_for(Side::Consumer);
        self.verdict.settle();
        // SAFETY: as above.
        let opener = unsafe { Producer::attach(&self.ring) }.expect("attach");
        opener.reopen();
        drop(opener);
        self.board.finish(false);
        self.finishing = false;
    }

    fn wait_for(&mut self, side: Side) {
        let began = Instant::now();
        let is_playing = |seat: &Seat| seat.side == side && !seat.is_empty();
        while self.seats.iter().any(is_playing) {
            self.tick();
            assert!(
                began.elapsed() < LOST,
                "a {side:?} does not come to its end"
            );
            std::thread::sleep(TICK);
        }
    }

    fn print_line(&self) {
        let (elapsed, kills) = (
            self.began.elapsed().as_secs_f64(),
            self.verdict.figures.kills,
        );
        let done = match self.size {
            Size::Length(length) => elapsed / length.as_secs_f64(),
            Size::Kills(wanted) => kills as f64 / wanted as f64,
        };
        let left = elapsed / done.min(1.0) - elapsed;
        say!(
            "{elapsed:.0} s: {kills} kills, {:.0} a second, {}; {left:.0} s left",
            kills as f64 / elapsed,
            self.verdict.line()
        );
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say!(
                "failed in round {} of this run",
                self.verdict.figures.rounds + 1
            );
            say!("the same blows: ANNULUS_CHAOS_SEED={}", self.round_seed);
            say!("the last blows, the newest first:");
            for blow in &self.last_blows {
                say!("{blow:?}");
            }
            for seat in &self.seats {
                say!("{seat:?}");
            }
            self.verdict.print_ring();
        }
    }
}
