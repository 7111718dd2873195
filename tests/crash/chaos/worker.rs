//! A worker: a process whose threads play producers or consumers, and what it does to itself.
//!
//! Signals come from the director, or from a timer that a player sets itself as it enters the step
//! in which it is to be hit. The other blows a player deals itself there: it panics, forks, or
//! executes this binary anew, with whatever it holds at that moment.
//!
//! # Who lives how long
//! A worker dies with the director. A child that it forked does not die with it: that one lives on
//! for its time, or until its standard input ends, which is a pipe of the test's.

use std::any::Any;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use annulus::segment::{Location, RecoverOptions, recover};
use nix::unistd::ForkResult;

use super::super::child::{Task, command};
use super::super::log::{Log, Step, Word};
use super::super::payload::Random;
use super::super::system;
use super::blows::{Kind, Side};
use super::waits::{Board, Stopwatch};
use super::{consumers, producers};

/// An executed image has come so far, and waits for the order.
pub(super) const ARRIVED: u64 = 1;
/// That order.
pub(super) const BEGIN: u64 = 1;

/// What all threads of a worker share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post<'w> {
    pub(super) side: Side,
    pub(super) ring: &'w Path,
    pub(super) board: &'w Board,
    pub(super) seed: u64,
    pub(super) director: u32,
}

/// The log of the thread that plays as `number`.
pub(super) fn log_path(ring: &Path, number: u64) -> PathBuf {
    ring.with_file_name(format!("life-{number}.log"))
}

/// The role's name for an image that a worker executes.
pub(super) fn image_role(side: Side) -> &'static str {
    match side {
        Side::Producer => "chaos-producer",
        Side::Consumer => "chaos-consumer",
    }
}

/// What a worker has become by executing this binary anew: another worker, with the same pid.
pub(super) fn image(task: &Task, side: Side) -> ! {
    task.log.set(Word::Answer, ARRIVED);
    task.wait_for_order(BEGIN);
    let post = Post {
        side,
        ring: &task.ring,
        board: &Board::open(&task.ring),
        seed: task.number,
        director: std::os::unix::process::parent_id(),
    };
    work(&post, &[(task.number, &task.log)])
}

/// The whole life of a worker with a thread for each of `lives`.
pub(super) fn work(post: &Post<'_>, lives: &[(u64, &Log)]) -> ! {
    let end = catch_unwind(|| {
        system::die_with(post.director);
        supervise(post, lives);
    });
    leave(i32::from(end.is_err()))
}

/// Ends this process at once.
fn leave(code: i32) -> ! {
    // SAFETY: what a forked process inherited is not its own to clean up.
    unsafe { libc::_exit(code) }
}

/// Tells that a thread comes to its end, also by a panic.
struct Farewell(mpsc::Sender<usize>, usize);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens any more if the supervisor itself has failed.
        let _ = self.0.send(self.1);
    }
}

/// Starts a thread for each life, and another one in the place of each that was ordered to panic.
fn supervise(post: &Post<'_>, lives: &[(u64, &Log)]) {
    std::thread::scope(|scope| {
        let (ends, ended) = mpsc::channel();
        let start = |index: usize| {
            let farewell = Farewell(ends.clone(), index);
            let (number, log) = lives[index];
            scope.spawn(move || {
                let _farewell = farewell;
                play(post, index, number, log);
            })
        };
        let mut threads: Vec<_> = (0..lives.len()).map(|index| Some(start(index))).collect();
        while threads.iter().any(Option::is_some) {
            let index = ended.recv().expect("a thread is left");
            let thread = threads[index].take().expect("it has just ended");
            match thread.join() {
                Ok(()) => {}
                Err(payload) if payload.is::<Ordered>() => threads[index] = Some(start(index)),
                Err(_) => {
                    lives[index].1.set(Word::Failed, 1);
                    leave(1);
                }
            }
        }
    });
}

fn play(post: &Post<'_>, index: usize, number: u64, log: &Log) {
    log.set(Word::Thread, system::this_thread());
    let restarts = log.get(Word::Rounds);
    let player = Player {
        post,
        number,
        log,
        watch: Stopwatch::new(log, post.board),
        random: Random::new(post.seed ^ (index as u64) << 16 ^ restarts),
    };
    match post.side {
        Side::Producer => producers::produce(player),
        Side::Consumer => consumers::consume(player),
    }
    log.enter(Step::Finished);
}

/// The payload of a panic that the director wanted.
struct Ordered;
/// What takes a forked child out of the midst of its parent's work: nothing else than a panic, so
/// that it drops all that its parent held.
struct ForkedChild {
    lives_for: Duration,
}

/// A thread of a worker.
pub(super) struct Player<'w> {
    pub(super) post: &'w Post<'w>,
    pub(super) number: u64,
    pub(super) log: &'w Log,
    pub(super) watch: Stopwatch<'w>,
    pub(super) random: Random,
}

impl Player<'_> {
    /// Tells that a step begins, in which this thread may be about to be struck.
    pub(super) fn enter(&mut self, step: Step) {
        self.log.set(Word::Step, step as u64);
        if let Some(blow) = self.log.blow_in(step) {
            self.be_struck(blow);
        }
    }

    #[cold]
    fn be_struck(&mut self, blow: u64) {
        let is = |kind: Kind| blow == kind.number();
        if is(Kind::Kill) || is(Kind::Stop) {
            self.log.be_hit(blow);
            return;
        }
        self.log.hold_fire();
        self.log.set(Word::Rounds, self.log.get(Word::Rounds) + 1);
        if !is(Kind::Panic) {
            self.log.set(Word::BusySince, system::now_ns());
        }
        match blow {
            _ if is(Kind::Panic) => {
                self.log.set(Word::Step, Step::Undoing as u64);
                resume_unwind(Box::new(Ordered));
            }
            _ if is(Kind::Fork) => self.fork(),
            _ if is(Kind::ForkAndDie) => {
                self.log.set(Word::ThirdAnswer, 0);
                self.fork();
                while self.log.get(Word::ThirdAnswer) == 0 && self.log.get(Word::Failed) == 0 {
                    std::thread::yield_now();
                }
                system::signal(std::process::id(), libc::SIGKILL);
            }
            _ => {
                let (ring, number) = (self.post.ring, self.log.get(Word::SecondAnswer));
                let role = image_role(self.post.side);
                let log = log_path(ring, number);
                let mut image = command(role, self.post.director, ring, &log, number);
                let error = image.stdin(Stdio::inherit()).stdout(Stdio::null()).exec();
                panic!("cannot execute this binary anew: {error}");
            }
        }
    }

    /// Forks. The child comes out of [`with`](Self::with).
    fn fork(&mut self) {
        // One in four outlives every bound: if it kept a lock, that would be noticed.
        let lives_for = match self.random.below(4) {
            0 => Duration::from_millis(1500),
            _ => Duration::from_millis(20 + self.random.below(300)),
        };
        // SAFETY: the child has this thread only. It takes no lock but the allocator's, which the
        // C library keeps usable across a fork, and drops, waits and exits.
        if let ForkResult::Child = unsafe { nix::unistd::fork() }.expect("fork") {
            resume_unwind(Box::new(ForkedChild { lives_for }));
        }
        self.log.set(Word::BusySince, 0);
    }

    /// Has a handle used, and returns it. A child forked meanwhile drops all that was held, then
    /// `in_child` must find the handle useless and drop it, and the child never returns.
    pub(super) fn with<H>(
        &mut self,
        handle: H,
        mut operate: impl FnMut(&mut Self, &H),
        in_child: impl FnOnce(H),
    ) -> H {
        let end = catch_unwind(AssertUnwindSafe(|| operate(self, &handle)));
        match end.map_err(<Box<dyn Any + Send>>::downcast::<ForkedChild>) {
            Ok(()) => handle,
            Err(Err(panic)) => resume_unwind(panic),
            Err(Ok(forked)) => {
                if catch_unwind(AssertUnwindSafe(|| in_child(handle))).is_err() {
                    self.log.set(Word::Failed, 1);
                    leave(1);
                }
                let pid = u64::from(std::process::id());
                self.log.set(Word::ThirdAnswer, pid);
                system::wait_for_end_of_input(forked.lives_for);
                leave(0)
            }
        }
    }

    /// What a user does between two calls takes time: now and then, or if it is to be struck here.
    pub(super) fn dawdle(&mut self, step: Step) {
        let spins = match self.log.blow_in(step) {
            Some(_) => 60,
            None if self.random.below(8) == 0 => self.random.below(200),
            None => return,
        };
        for _ in 0..spins {
            std::hint::spin_loop();
        }
    }

    /// Goes slowly if the other side is to come to wait. A pace: nothing depends on it.
    pub(super) fn keep_pace(&self) {
        if self.post.board.is_slow(self.post.side) {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Sweeps the ring, as anybody may at any time.
    pub(super) fn recover(&mut self) {
        self.enter(Step::Recovering);
        recover(&Location::from(self.post.ring), &RecoverOptions::default()).expect("recover");
    }
}
