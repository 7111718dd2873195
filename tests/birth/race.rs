//! One race, and all of them.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::arena::{Arena, LOST, SEATS};
use super::judge;
use super::points::{Operation, Point, Points};
use super::racer::{self, STEADY};
use super::victim::{Traces, Victim};
use super::zygote::{Way, fork_child};

/// All races of a zygote.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) way: Way,
    pub(crate) arena: &'static Arena,
    directory: TempDir,
    racers: Vec<Pid>,
    points: Points,
    random: u64,
}

/// How a race went for those who did not live to tell.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    /// Killed before they had given the ring its name.
    pub(crate) unborn: usize,
    /// Killed after that, in their creation.
    pub(crate) linked: usize,
    /// Killed as they attached.
    pub(crate) attaching: usize,
}

impl Campaign {
    pub(crate) fn new(way: Way) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("annulus-birth-")
            .tempdir_in("/dev/shm")
            .expect("a directory");
        let mut campaign = Self {
            way,
            arena: Arena::new(),
            directory,
            racers: Vec::new(),
            points: Points::new(&Traces::new()),
            random: 1,
        };
        let traces = Operation::ALL.map(|operation| (operation, campaign.calls_of(operation)));
        campaign.points = Points::new(&Traces::from(traces));
        let (arena, path) = (campaign.arena, campaign.path());
        campaign.racers = (0..STEADY)
            .map(|number| fork_child(|| racer::run(arena, number, &path)))
            .collect();
        campaign
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("race.ring")
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    fn draw(&mut self) -> u64 {
        // Knuth's MMIX generator; its upper half is the better one.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        self.random >> 33
    }

    /// The system calls of an operation that nobody disturbs.
    fn calls_of(&mut self, operation: Operation) -> Vec<u64> {
        self.set_the_stage(operation);
        let number = SEATS - 1;
        self.order(number, operation);
        let victim = Victim::new(self.arena, number, &self.path());
        let calls = victim.trace(operation.phase());
        assert!(
            calls.len() > 10,
            "{operation:?} makes {} system calls",
            calls.len()
        );
        judge::clear(self, &Deaths::default());
        calls
    }

    /// What stands under the name before the race.
    fn set_the_stage(&self, operation: Operation) {
        let (path, is_spsc) = (self.path(), operation.is_spsc());
        self.arena.prepare(is_spsc);
        if operation == Operation::Create {
            return;
        }
        racer::create(is_spsc, &path).expect("nothing has that name");
        match operation {
            Operation::Create => {}
            Operation::Attach | Operation::Replace => judge::leave_a_dead_producer(is_spsc, &path),
            Operation::Adopt => judge::date_back(&path),
        }
    }

    fn order(&self, number: usize, operation: Operation) {
        let seat = &self.arena.seats[number];
        seat.creates
            .store((operation == Operation::Create).into(), SeqCst);
        seat.produces.store(1, SeqCst);
    }

    pub(crate) fn run(mut self, races: u64) {
        let began = Instant::now();
        let needed = 2 * self.points.count() as u64;
        assert!(
            races >= needed,
            "{races} races are too few to die everywhere: {needed} at least"
        );
        let mut empty = 0;
        for number in 0..races {
            empty += u64::from(!self.race(number));
        }
        self.arena.stop();
        for racer in &self.racers {
            let status = waitpid(*racer, None).expect("it is our child");
            assert_eq!(status, WaitStatus::Exited(*racer, 0), "a racer ended badly");
        }
        println!(
            "{:?}: {races} races of {SEATS}, {} kills at {} points, {empty} left no ring, {:.1} s",
            self.way,
            self.points.kills(),
            self.points.count(),
            began.elapsed().as_secs_f64(),
        );
        self.points.report();
    }

    /// True if there is a ring after it.
    fn race(&mut self, number: u64) -> bool {
        // Every other race halts its first victim before the start, where it comes for certain.
        let is_halted = number.is_multiple_of(2);
        let first = if is_halted {
            self.points.next()
        } else {
            let operation = Operation::ALL[usize::try_from(number / 2 % 4).expect("below 4")];
            let random = self.draw();
            self.points.any(operation, random)
        };
        let operation = first.operation;
        self.set_the_stage(operation);
        let is_doomed = operation == Operation::Create && self.draw().is_multiple_of(4);
        self.give_orders(operation, is_doomed);

        let (arena, path) = (self.arena, self.path());
        let mut deaths = Deaths::default();
        let mut victims = (STEADY..SEATS)
            .map(|seat| Victim::new(arena, seat, &path))
            .rev();
        let mut halted = victims.next().expect("several");
        let others: Vec<Victim> = victims.collect();
        let is_there = is_halted && halted.run_to(first);
        assert_eq!(is_there, is_halted, "{first:?} is not where it was");
        arena.go();
        if !is_halted && halted.run_to(first) {
            self.kill(halted, first, &mut deaths);
        } else if is_halted && self.may_stop_others(operation, is_doomed) {
            arena.wait_until_finished(STEADY / 2, Duration::from_millis(2));
            self.kill(halted, first, &mut deaths);
        } else if is_halted {
            self.kill_others(others, operation, &mut deaths);
            self.wait_for_all();
            self.kill(halted, first, &mut deaths);
            return judge::judge(self, operation, &deaths);
        }
        self.kill_others(others, operation, &mut deaths);
        if is_doomed {
            arena.give_up_hope();
        }
        self.wait_for_all();
        judge::judge(self, operation, &deaths)
    }

    /// Whether others may have to wait for a victim that is halted for ever.
    fn may_stop_others(&mut self, operation: Operation, is_doomed: bool) -> bool {
        is_doomed || operation == Operation::Adopt || self.draw().is_multiple_of(2)
    }

    fn give_orders(&mut self, operation: Operation, is_doomed: bool) {
        let one_in = 1 + self.draw() % 8;
        for number in 0..SEATS {
            let creates = !is_doomed && self.draw().is_multiple_of(one_in);
            let produces = self.draw().is_multiple_of(2);
            let seat = &self.arena.seats[number];
            seat.creates.store(creates.into(), SeqCst);
            seat.produces.store(produces.into(), SeqCst);
        }
        if operation == Operation::Create && !is_doomed {
            self.arena.seats[0].creates.store(1, SeqCst);
        }
        for number in STEADY..SEATS {
            self.order(number, operation);
        }
    }

    fn kill_others(&mut self, others: Vec<Victim>, operation: Operation, deaths: &mut Deaths) {
        for mut victim in others {
            let random = self.draw();
            let point = self.points.any(operation, random);
            if victim.run_to(point) {
                self.kill(victim, point, deaths);
            }
        }
    }

    fn kill(&mut self, victim: Victim, point: Point, deaths: &mut Deaths) {
        let has_linked = victim.has_linked();
        victim.kill();
        self.points.hit(point);
        match point.operation {
            Operation::Create if has_linked => deaths.linked += 1,
            Operation::Create => deaths.unborn += 1,
            _ => deaths.attaching += 1,
        }
    }

    fn wait_for_all(&self) {
        if !self.arena.wait_until_finished(STEADY, LOST) {
            let seats = self.arena.seats[..STEADY].iter().enumerate();
            let lost: Vec<_> = seats
                .filter(|(_, seat)| seat.opening.load(SeqCst) == 0)
                .collect();
            panic!("these hang: {lost:?}");
        }
    }
}
