//! The event word: sleepers and wakers, store buffers and barriers, with death anywhere.
//!
//! # What is modelled
//! Wakers publish records, and the last of them closes the ring. A publication sits in its waker's
//! store buffer until that drains, by itself or by a barrier; the waker's next load does not wait
//! for it. That is the one reordering of x86, and the one that the handshake is about. Sleepers
//! take records; when there is none they arm the word, issue the heavy barrier, look again and
//! sleep. The heavy barrier interrupts each waker once, at any time before it returns, and drains
//! its buffer then, as `membarrier` does; or it passes over wakers, as that may, and their buffers
//! are drained before the sleeper's first sleep has ended. `FUTEX_WAIT` compares and sleeps in one
//! step; `FUTEX_WAKE` is a step of its own after the exchange. What a killed waker had in its
//! buffer still reaches memory.
//!
//! A waker that dies may leave its waiters to their bound. Or there are menders, and sleepers that
//! have no bound, as whoever waits on a descriptor: see [`super::sleeper_mender`].
//!
//! Not modelled: the wrap of the count, the bit that has wakers fence, the ring itself (a count of
//! records), reordering by other machines.
//!
//! # How it maps to `src/protocol/event.rs`
//! `Arm` is `arm`; `LookAtWord` and `Exchange` are `take_sleepers` and its slow path; `Wake` is the
//! system call, which compares the whole word: the count and the bit. "Closed" stands for all that
//! is published beside records: the recovery epoch too.
//!
//! # Invariants
//! 1. As long as no waker has died, nobody sleeps while there is something to wake up for and no
//!    waker is on its way to wake. So nothing relies on the bound.
//! 2. Each dead waker leaves each sleeper to its bound at most once.
//! 3. Where dead wakers are mended, nobody who sleeps relies on a bound at all: as long as a dead
//!    one's row is in use, somebody is still to come, and when it is free, everybody was woken.
//! 4. A waker exchanges the word only if somebody armed it since the last exchange, or still
//!    sleeps.

use super::explorer::{Label, Model, Steps};
use super::sleeper_mender::Mending;

const WAKERS: usize = 2;
const SLEEPERS: usize = 2;

/// Which barriers stand between publication and look, and between arming and look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Barrier {
    /// The sleeper issues a heavy barrier; the waker has none.
    Heavy,
    /// The same, and it may pass over any waker: who sleeps looks once more before long.
    PassesOver,
    /// Both sides fence.
    Fences,
    /// Neither side has any.
    Missing,
}

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    Nothing,
    LooksBeforeItArms,
    SleepsLongAtOnce,
    LooksAgainOnlyForRecords,
    CountsSleepers,
    SleepsOnWhateverTheWordIs,
    ClearsWithoutCounting,
    FreesRowBeforeWaking,
    WakesBeforeSweeping,
    WakesWithoutCounting,
}

/// Wakers, sleepers and their budgets.
#[derive(Clone, Copy)]
pub(crate) struct EventWord {
    pub(crate) barrier: Barrier,
    /// How many records each waker publishes.
    pub(crate) records: [u8; WAKERS],
    pub(crate) waker_deaths: u8,
    pub(crate) sleeper_deaths: u8,
    /// How often a mender dies; `None` if nobody mends, and sleepers have a bound instead.
    pub(crate) mender_deaths: Option<u8>,
    pub(crate) mutant: Mutant,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum WakerAt {
    Idle,
    LookAtWord,
    Exchange,
    Wake,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waker {
    pub(super) at: WakerAt,
    /// How many records it is still to publish, and whether it closes the ring after them.
    left: u8,
    closes: bool,
    /// The count of the word that it looked at.
    seen: u8,
    // The store buffer: records drain first.
    buffered: u8,
    close_buffered: bool,
    /// Its row is in use.
    pub(super) in_use: bool,
    /// It died holding a record, which recovery gives back.
    pub(super) holds: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum SleeperAt {
    Look,
    Arm,
    Barrier,
    LookAgain,
    Wait,
    Asleep,
    /// Only where sleepers are counted.
    Disarm,
    Done,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sleeper {
    pub(super) at: SleeperAt,
    /// The count of the word that it armed.
    armed: u8,
    /// The wakers that its barrier has still to interrupt, a bit each.
    to_interrupt: u8,
    /// The wakers that it passed over, until their buffers have drained.
    passed_over: u8,
    /// Its first sleep is over, and the next one is a long one.
    has_settled: bool,
    /// How often it slept until its bound though it should have been woken.
    relied: u8,
}

/// Shared memory, wakers and sleepers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// Bit 0 of the event word (or the number of sleepers, in the mutant).
    sleeping: u8,
    /// The rest of the event word.
    pub(super) count: u8,
    pub(super) records: u8,
    closed: bool,
    pub(super) wakers: [Waker; WAKERS],
    pub(super) sleepers: [Sleeper; SLEEPERS],
    pub(super) mending: Option<Mending>,
    waker_deaths: u8,
    sleeper_deaths: u8,
    pub(super) mender_deaths: u8,
    /// Somebody armed the word since it was last exchanged.
    armed_since: bool,
}

impl Model for EventWord {
    type State = State;

    fn initial(&self) -> State {
        let waker = Waker {
            at: WakerAt::Idle,
            left: 0,
            closes: false,
            seen: 0,
            buffered: 0,
            close_buffered: false,
            in_use: true,
            holds: false,
        };
        let mut wakers = self.records.map(|left| Waker { left, ..waker });
        wakers[WAKERS - 1].closes = true;
        let sleeper = Sleeper {
            at: SleeperAt::Look,
            armed: 0,
            to_interrupt: 0,
            passed_over: 0,
            has_settled: false,
            relied: 0,
        };
        State {
            sleeping: 0,
            count: 0,
            records: 0,
            closed: false,
            wakers,
            sleepers: [sleeper; SLEEPERS],
            mending: None,
            waker_deaths: 0,
            sleeper_deaths: 0,
            mender_deaths: 0,
            armed_since: false,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for number in 0..WAKERS {
            self.wake(state, number, steps);
            drain_step(state, number, steps);
        }
        for number in 0..SLEEPERS {
            self.sleep(state, number, steps);
        }
        self.mend(state, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let relied = state
            .sleepers
            .iter()
            .map(|sleeper| sleeper.relied)
            .max()
            .unwrap_or(0);
        if relied > state.waker_deaths {
            return Some("a sleeper relied on its bound more than once for a dead waker");
        }
        let asleep = state
            .sleepers
            .iter()
            .any(|sleeper| sleeper.at == SleeperAt::Asleep && !self.is_brief(sleeper));
        let has_bound = state.waker_deaths > 0 && !self.is_mended();
        if asleep && !has_bound && self.relies_on_bound(state) {
            return Some("a wake-up was lost");
        }
        None
    }

    fn is_good(&self, state: &State) -> bool {
        let quiet = |waker: &Waker| {
            let done = waker.left == 0 && !waker.closes && waker.at == WakerAt::Idle;
            let gone = waker.at == WakerAt::Dead && !(self.is_mended() && waker.in_use);
            (done || gone) && !waker.has_buffered()
        };
        let closer_died = !state.closed;
        let rests = |sleeper: &Sleeper| match sleeper.at {
            SleeperAt::Done | SleeperAt::Dead => true,
            SleeperAt::Asleep => closer_died,
            _ => false,
        };
        state.wakers.iter().all(quiet)
            && state.mending.is_none()
            && state.records == 0
            && state.sleepers.iter().all(rests)
    }

    fn is_excused(&self, state: &State) -> bool {
        state
            .sleepers
            .iter()
            .all(|sleeper| sleeper.at >= SleeperAt::Done)
    }
}

impl Waker {
    fn has_buffered(&self) -> bool {
        self.buffered > 0 || self.close_buffered
    }

    fn is_on_its_way(&self) -> bool {
        matches!(
            self.at,
            WakerAt::LookAtWord | WakerAt::Exchange | WakerAt::Wake
        )
    }
}

impl EventWord {
    /// Whether this sleep is the first one behind a barrier that may have passed over somebody.
    fn is_brief(&self, sleeper: &Sleeper) -> bool {
        self.barrier == Barrier::PassesOver && !sleeper.has_settled
    }

    fn is_mended(&self) -> bool {
        self.mender_deaths.is_some()
    }

    /// Whether there is something to wake up for, and nobody who is going to wake.
    fn relies_on_bound(&self, state: &State) -> bool {
        let news = state.records > 0 || state.closed;
        let is_due = |waker: &Waker| waker.is_on_its_way() || self.is_to_mend(waker);
        news && !state.wakers.iter().any(is_due) && state.mending.is_none()
    }
}

/// The oldest publication in a waker's store buffer reaches memory.
fn drain_one(state: &mut State, number: usize) {
    let waker = &mut state.wakers[number];
    if waker.buffered > 0 {
        waker.buffered -= 1;
        state.records += 1;
    } else if waker.close_buffered {
        waker.close_buffered = false;
        state.closed = true;
    }
    if !state.wakers[number].has_buffered() {
        for sleeper in &mut state.sleepers {
            sleeper.passed_over &= !(1 << number);
        }
    }
}

fn drain_all(state: &mut State, number: usize) {
    while state.wakers[number].has_buffered() {
        drain_one(state, number);
    }
}

fn drain_step(state: &State, number: usize, steps: &mut Steps<State>) {
    if state.wakers[number].has_buffered() {
        let mut next = *state;
        drain_one(&mut next, number);
        steps.push(waker(number, "its store buffer drains"), next);
    }
}

fn waker(number: usize, step: &'static str) -> Label {
    Label {
        party: "waker",
        number: u8::try_from(number).expect("few wakers"),
        step,
    }
}

fn sleeper(number: usize, step: &'static str) -> Label {
    Label {
        party: "sleeper",
        number: u8::try_from(number).expect("few sleepers"),
        step,
    }
}

/// The waker's steps.
impl EventWord {
    fn wake(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let me = state.wakers[number];
        let mut next = *state;
        match me.at {
            WakerAt::Idle => {
                if me.left > 0 || me.closes {
                    publish(&mut next.wakers[number]);
                    steps.push(waker(number, "publish"), next);
                }
            }
            WakerAt::LookAtWord => {
                let fenced = self.barrier == Barrier::Fences;
                if !(fenced && me.has_buffered()) {
                    if state.sleeping > 0 {
                        next.wakers[number].at = WakerAt::Exchange;
                        next.wakers[number].seen = state.count;
                    } else {
                        next.wakers[number].at = WakerAt::Idle;
                    }
                    steps.push(waker(number, "look at the event word"), next);
                }
            }
            // An exchange drains the buffer first.
            WakerAt::Exchange if me.has_buffered() => {}
            WakerAt::Exchange => self.exchange(state, number, steps),
            WakerAt::Wake => {
                self.wake_sleepers(&mut next);
                next.wakers[number].at = WakerAt::Idle;
                steps.push(waker(number, "FUTEX_WAKE"), next);
            }
            WakerAt::Dead => {}
        }
        let rests = me.at == WakerAt::Idle && me.left == 0 && !me.closes;
        if me.at != WakerAt::Dead && !rests && state.waker_deaths < self.waker_deaths {
            let mut next = *state;
            drain_all(&mut next, number);
            next.waker_deaths += 1;
            let drained = next.wakers[number];
            let at = WakerAt::Dead;
            next.wakers[number] = Waker {
                at,
                left: 0,
                closes: false,
                seen: 0,
                holds: self.is_mended() && me.at == WakerAt::Idle && me.left > 0,
                ..drained
            };
            for sleeper in &mut next.sleepers {
                sleeper.to_interrupt &= !(1 << number);
            }
            steps.push(waker(number, "dies"), next);
        }
    }

    fn exchange(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        next.wakers[number].at = WakerAt::Idle;
        next.wakers[number].seen = 0;
        if state.count != state.wakers[number].seen || state.sleeping == 0 {
            return steps.push(waker(number, "another waker was quicker"), next);
        }
        let waits =
            |sleeper: &Sleeper| (SleeperAt::Barrier..=SleeperAt::Disarm).contains(&sleeper.at);
        if !state.armed_since && !state.sleepers.iter().any(waits) {
            steps.forbid(
                waker(number, "exchange"),
                "a waker woke nobody, and will for ever",
            );
        }
        next.wakers[number].at = WakerAt::Wake;
        if self.mutant != Mutant::ClearsWithoutCounting {
            next.count += 1;
        }
        next.armed_since = false;
        if self.mutant != Mutant::CountsSleepers {
            next.sleeping = 0;
        }
        steps.push(waker(number, "bump the event word"), next);
    }

    /// `FUTEX_WAKE`.
    pub(super) fn wake_sleepers(&self, state: &mut State) {
        for sleeper in &mut state.sleepers {
            if sleeper.at == SleeperAt::Asleep {
                *sleeper = self.awake(*sleeper);
            }
        }
    }

    fn awake(&self, sleeper: Sleeper) -> Sleeper {
        let counted = self.mutant == Mutant::CountsSleepers;
        let at = if counted {
            SleeperAt::Disarm
        } else {
            SleeperAt::Look
        };
        Sleeper {
            at,
            armed: 0,
            to_interrupt: 0,
            passed_over: 0,
            has_settled: false,
            ..sleeper
        }
    }
}

fn publish(me: &mut Waker) {
    if me.left > 0 {
        me.left -= 1;
        me.buffered += 1;
    } else {
        me.closes = false;
        me.close_buffered = true;
    }
    me.at = WakerAt::LookAtWord;
}

/// The sleeper's steps.
impl EventWord {
    fn sleep(&self, state: &State, number: usize, steps: &mut Steps<State>) {
        let me = state.sleepers[number];
        let mut next = *state;
        let mut push = |step, mut next: State, after: Sleeper| {
            next.sleepers[number] = after;
            steps.push(sleeper(number, step), next);
        };
        let then = |at| Sleeper { at, ..me };
        match me.at {
            SleeperAt::Look if state.records > 0 => {
                next.records -= 1;
                push("take a record", next, me);
            }
            SleeperAt::Look if state.closed => push("closed", next, then(SleeperAt::Done)),
            SleeperAt::Look => push("nothing here", next, then(SleeperAt::Arm)),
            SleeperAt::Arm => {
                let counted = self.mutant == Mutant::CountsSleepers;
                next.sleeping = if counted { state.sleeping + 1 } else { 1 };
                next.armed_since = true;
                let at = match (self.mutant, self.barrier) {
                    (Mutant::LooksBeforeItArms, _) => SleeperAt::Wait,
                    (_, Barrier::Heavy | Barrier::PassesOver) => SleeperAt::Barrier,
                    _ => SleeperAt::LookAgain,
                };
                let alive = |&number: &usize| state.wakers[number].at != WakerAt::Dead;
                let all = (0..WAKERS)
                    .filter(alive)
                    .fold(0, |bits, number| bits | 1 << number);
                let to_interrupt = if at == SleeperAt::Barrier { all } else { 0 };
                push(
                    "arm",
                    next,
                    Sleeper {
                        at,
                        armed: state.count,
                        to_interrupt,
                        ..me
                    },
                );
            }
            SleeperAt::Barrier if me.to_interrupt == 0 => {
                push(
                    "the heavy barrier returns",
                    next,
                    then(SleeperAt::LookAgain),
                );
            }
            SleeperAt::Barrier => {
                for other in (0..WAKERS).filter(|other| me.to_interrupt & 1 << other != 0) {
                    let mut next = *state;
                    drain_all(&mut next, other);
                    let to_interrupt = me.to_interrupt & !(1 << other);
                    push(
                        "its barrier interrupts a waker",
                        next,
                        Sleeper { to_interrupt, ..me },
                    );
                    if self.barrier == Barrier::PassesOver {
                        let has_buffered = state.wakers[other].has_buffered();
                        let passed_over = me.passed_over | u8::from(has_buffered) << other;
                        push(
                            "its barrier passes over a waker",
                            *state,
                            Sleeper {
                                to_interrupt,
                                passed_over,
                                ..me
                            },
                        );
                    }
                }
            }
            SleeperAt::LookAgain => {
                let looks_at_closed = self.mutant != Mutant::LooksAgainOnlyForRecords;
                let news = state.records > 0 || state.closed && looks_at_closed;
                let after = if news {
                    self.awake(me)
                } else {
                    then(SleeperAt::Wait)
                };
                push("look again", next, after);
            }
            SleeperAt::Wait => {
                let compares = self.mutant != Mutant::SleepsOnWhateverTheWordIs;
                let changed = compares && (me.armed != state.count || state.sleeping == 0);
                let after = if changed {
                    self.awake(me)
                } else {
                    let has_settled = me.has_settled || self.mutant == Mutant::SleepsLongAtOnce;
                    Sleeper {
                        at: SleeperAt::Asleep,
                        has_settled,
                        ..me
                    }
                };
                push("FUTEX_WAIT", next, after);
            }
            SleeperAt::Asleep if self.is_brief(&me) => {
                if me.passed_over == 0 {
                    let after = Sleeper {
                        at: SleeperAt::LookAgain,
                        has_settled: true,
                        ..me
                    };
                    push("its first sleep has ended", next, after);
                }
            }
            SleeperAt::Asleep => {
                if self.waker_deaths > 0 && !self.is_mended() {
                    let relied = me.relied + u8::from(self.relies_on_bound(state));
                    push(
                        "wakes at its bound",
                        next,
                        Sleeper {
                            relied,
                            ..self.awake(me)
                        },
                    );
                }
            }
            SleeperAt::Disarm => {
                next.sleeping -= 1;
                push("disarm", next, then(SleeperAt::Look));
            }
            SleeperAt::Done | SleeperAt::Dead => {}
        }
        if me.at < SleeperAt::Done && state.sleeper_deaths < self.sleeper_deaths {
            next = *state;
            next.sleeper_deaths += 1;
            let dead = Sleeper {
                at: SleeperAt::Dead,
                armed: 0,
                to_interrupt: 0,
                passed_over: 0,
                has_settled: false,
                ..me
            };
            push("dies", next, dead);
        }
    }
}
