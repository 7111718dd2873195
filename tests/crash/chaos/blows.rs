//! What may strike a worker, drawn from a seed.
//!
//! A blow is drawn whole, whatever comes of it: so a seed gives the same blows in the same order,
//! and only what they meet depends on the scheduler.

use std::time::Duration;

use super::super::log::Step;
use super::super::payload::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Producer,
    Consumer,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Producer, Self::Consumer];

    /// The step in which this side has its hands on a payload.
    pub(super) fn handling(self) -> Step {
        match self {
            Self::Producer => Step::Writing,
            Self::Consumer => Step::Reading,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Stop,
    /// SIGSTOP, and SIGKILL later.
    StopAndKill,
    /// The thread panics, the others of its process go on, and another thread takes its place.
    Panic,
    /// The worker forks; the child drops all that it inherited and lives on for a while.
    Fork,
    /// The same, and the worker is killed by SIGKILL while its child lives on.
    ForkAndDie,
    /// The worker executes this binary anew: its mappings are gone, its pid stays.
    Exec,
}

impl Kind {
    /// How it is told to a worker: as a signal, or as a number above all of them.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Kill => libc::SIGKILL.cast_unsigned().into(),
            Self::Stop | Self::StopAndKill => libc::SIGSTOP.cast_unsigned().into(),
            Self::Panic => 1000,
            Self::Fork => 1001,
            Self::ForkAndDie => 1002,
            Self::Exec => 1003,
        }
    }

    pub(super) fn is_stop(self) -> bool {
        matches!(self, Self::Stop | Self::StopAndKill)
    }
}

/// Of a hundred blows so many are of each kind.
const KINDS: [(u64, Kind); 7] = [
    (72, Kind::Kill),
    (7, Kind::Stop),
    (7, Kind::StopAndKill),
    (5, Kind::Panic),
    (2, Kind::Fork),
    (4, Kind::ForkAndDie),
    (3, Kind::Exec),
];

/// When it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Whenever it is.
    Anywhere,
    /// Just born, before it has touched the ring.
    Birth,
    /// Waiting, and asleep in the kernel.
    Asleep,
    In(Step),
}

/// Steps in which a worker is killed.
fn steps_to_die_in(side: Side) -> [Step; 10] {
    [
        Step::Attaching,
        Step::Idle,
        Step::Claiming,
        Step::Waiting,
        Step::Holding,
        side.handling(),
        Step::Publishing,
        Step::Undoing,
        Step::Detaching,
        Step::Recovering,
    ]
}

/// Steps in which a worker does something to itself: before the call that the step is about.
fn steps_to_act_in(side: Side) -> [Step; 5] {
    [
        Step::Idle,
        Step::Holding,
        side.handling(),
        Step::Publishing,
        Step::Undoing,
    ]
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Blow {
    pub(super) kind: Kind,
    pub(super) side: Side,
    pub(super) at: At,
    /// Which of the side's workers, and which of its threads: taken modulo their number.
    pub(super) whom: u64,
    /// How long after the step began, at most.
    pub(super) within: Duration,
    /// For how long a worker is stopped.
    pub(super) stop: Duration,
}

impl Blow {
    pub(super) fn draw(random: &mut Random) -> Self {
        let side = Side::BOTH[usize::from(random.below(3) == 0)];
        let mut ticket = random.below(100);
        let (_, kind) = KINDS
            .into_iter()
            .find(|(share, _)| match ticket.checked_sub(*share) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            })
            .expect("the shares add up to a hundred");
        let (ticket, step) = (random.below(100), random.next());
        let any_of = |steps: &[Step]| At::In(Random::new(step).pick(steps));
        let at = match (kind, ticket) {
            (Kind::Kill, 0..6) => At::Birth,
            (Kind::Kill, 6..12) => At::Asleep,
            (Kind::Kill, 12..50) | (Kind::Stop | Kind::StopAndKill, 0..30) => At::Anywhere,
            (Kind::Kill | Kind::Stop | Kind::StopAndKill, _) => any_of(&steps_to_die_in(side)),
            _ => any_of(&steps_to_act_in(side)),
        };
        Self::new(kind, side, at, random)
    }

    /// A certain blow to anybody of a side.
    pub(super) fn new(kind: Kind, side: Side, at: At, random: &mut Random) -> Self {
        let within = match at {
            // In these the library makes system calls.
            At::In(Step::Attaching) => Duration::from_micros(400),
            At::In(Step::Recovering) => Duration::from_micros(200),
            At::In(Step::Detaching | Step::Waiting) => Duration::from_micros(80),
            _ => Duration::from_nanos(2500),
        };
        // Most stops are short, for a stopped claim stops the ring sooner or later. Some are longer
        // than every bound: whoever goes by time takes such a one for dead.
        let stop = match random.below(100) {
            0 => Duration::from_millis(1100 + random.below(500)),
            1..5 => Duration::from_millis(100 + random.below(200)),
            _ => Duration::from_micros(500 + random.below(20_000)),
        };
        Self {
            kind,
            side,
            at,
            whom: random.next(),
            within,
            stop,
        }
    }
}
