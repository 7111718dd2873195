//! The end of an SPSC stream: who closed the ring, and barriers that pass over the producer.
//!
//! # What is modelled
//! A producer stores its claim's mark, looks whether the ring is closed, stores the header that
//! commits and takes the mark back. What it stores sits in its store buffer, in order, until that
//! drains; its loads do not wait. To close, to reopen and to detach drains the buffer first, and so
//! does its death. A consumer takes records; where there is none and the ring is closed, it issues
//! the heavy barrier, which drains the producer's buffer or passes over it, asks whether the
//! producer lives, and looks at mark, switch and header before it is told `Closed`. Where another
//! one than the producer closed the ring, it asks every processor before that, once. Consumers die,
//! and others follow.
//!
//! Not modelled: claims given up, journals, and what recovery does with a dead producer's claim.
//!
//! # How it maps to the code
//! The producer is `Writer::claim` with `admits`, and `publish`; the consumer is `empty_or_closed`
//! with `drained`; `has_asked_all` is the consumer's.
//!
//! # Invariants
//! 1. Behind `Closed` comes no record, unless the producer opens the ring again.
//! 2. Whoever waits for the end of a closed ring is told it, at the latest when the producer left.

use super::explorer::{Label, Model, Steps};

/// A record behind the end of the stream.
pub(crate) const LATE: &str = "a record came behind Closed";

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    Nothing,
    TrustsTheHeavyBarrier,
    AsksOnlyOnce,
    SuccessorAsksNobody,
    LooksAtSwitchLast,
}

/// A producer, a consumer and its successors.
#[derive(Clone, Copy)]
pub(crate) struct Closing {
    pub(crate) records: u8,
    pub(crate) producer_closes: u8,
    pub(crate) consumer_closes: u8,
    pub(crate) reopenings: u8,
    pub(crate) producer_deaths: u8,
    pub(crate) consumer_deaths: u8,
    /// The kernel does not ask every processor.
    pub(crate) is_refused: bool,
    pub(crate) mutant: Mutant,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stored {
    Mark,
    Header,
    MarkTakenBack,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum ProducerAt {
    Idle,
    LookAtFlags,
    Commit,
    TakeMarkBack,
    Refused,
    Stopped,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum ConsumerAt {
    Look,
    LookAtFlags,
    Barrier,
    AskWhetherItLives,
    AskEveryProcessor,
    LookAtMark,
    LookAgainAtFlags,
    LookAtHeader,
    Told,
}

/// Shared memory, both parties and what they may still do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    mark: bool,
    records: u8,
    closed: bool,
    closed_in_order: bool,
    producer: ProducerAt,
    buffer: Vec<Stored>,
    left: u8,
    consumer: ConsumerAt,
    has_asked_all: bool,
    saw_order: bool,
    saw_idle: bool,
    saw_mark: bool,
    saw_closed: bool,
    saw_empty: bool,
    /// It was opened behind the second look at the switch.
    reopened_since: bool,
    /// Closings by the producer and by consumers, reopenings, deaths.
    done: [u8; 5],
}

const BY_PRODUCER: usize = 0;
const BY_CONSUMER: usize = 1;
const REOPENED: usize = 2;
const PRODUCERS_DEAD: usize = 3;
const CONSUMERS_DEAD: usize = 4;

impl State {
    fn drain_one(&mut self) {
        match self.buffer.remove(0) {
            Stored::Mark => self.mark = true,
            Stored::Header => self.records += 1,
            Stored::MarkTakenBack => self.mark = false,
        }
    }

    fn drain(&mut self) {
        while !self.buffer.is_empty() {
            self.drain_one();
        }
    }

    /// The consumer looks anew.
    fn forget(&mut self) {
        self.saw_order = false;
        (self.saw_idle, self.saw_mark) = (false, false);
        (self.saw_closed, self.saw_empty) = (false, false);
        self.reopened_since = false;
    }

    /// A step of the producer that stores nothing but through its buffer.
    fn stores(&self, stored: Stored, producer: ProducerAt) -> Self {
        let mut next = self.clone();
        next.buffer.push(stored);
        next.producer = producer;
        next
    }
}

fn producer(step: &'static str) -> Label {
    Label {
        party: "producer",
        number: 0,
        step,
    }
}

fn consumer(step: &'static str) -> Label {
    Label {
        party: "consumer",
        number: 0,
        step,
    }
}

impl Model for Closing {
    type State = State;

    fn initial(&self) -> State {
        State {
            mark: false,
            records: 0,
            closed: false,
            closed_in_order: false,
            producer: ProducerAt::Idle,
            buffer: Vec::new(),
            left: self.records,
            consumer: ConsumerAt::Look,
            has_asked_all: false,
            saw_order: false,
            saw_idle: false,
            saw_mark: false,
            saw_closed: false,
            saw_empty: false,
            reopened_since: false,
            done: [0; 5],
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if !state.buffer.is_empty() {
            let mut next = state.clone();
            next.drain_one();
            steps.push(producer("its store buffer drains"), next);
        }
        self.produce(state, steps);
        self.consume(state, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let is_late = state.records > 0 || state.buffer.contains(&Stored::Header);
        (state.consumer == ConsumerAt::Told && is_late).then_some(LATE)
    }

    fn is_good(&self, state: &State) -> bool {
        let told = state.consumer == ConsumerAt::Told || !state.closed;
        let rests = matches!(state.producer, ProducerAt::Stopped | ProducerAt::Gone)
            || state.producer == ProducerAt::Idle && state.left == 0;
        told && rests && state.records == 0 && state.buffer.is_empty()
    }
}

/// The producer's steps.
impl Closing {
    fn produce(&self, state: &State, steps: &mut Steps<State>) {
        let to = |at| State {
            producer: at,
            ..state.clone()
        };
        match state.producer {
            ProducerAt::Idle if state.left > 0 => {
                let next = state.stores(Stored::Mark, ProducerAt::LookAtFlags);
                steps.push(producer("mark its claim"), next);
            }
            ProducerAt::Idle | ProducerAt::Gone => {}
            ProducerAt::LookAtFlags => {
                let at = if state.closed {
                    ProducerAt::Refused
                } else {
                    ProducerAt::Commit
                };
                steps.push(producer("look whether the ring is closed"), to(at));
            }
            ProducerAt::Commit => {
                let mut next = state.stores(Stored::Header, ProducerAt::TakeMarkBack);
                next.left -= 1;
                steps.push(producer("commit"), next);
            }
            ProducerAt::TakeMarkBack => {
                let next = state.stores(Stored::MarkTakenBack, ProducerAt::Idle);
                steps.push(producer("take its mark back"), next);
            }
            ProducerAt::Refused => {
                let next = state.stores(Stored::MarkTakenBack, ProducerAt::Stopped);
                steps.push(producer("take its mark back, refused"), next);
            }
            ProducerAt::Stopped => {
                if state.done[REOPENED] < self.reopenings {
                    let mut next = to(ProducerAt::Idle);
                    next.drain();
                    (next.closed, next.closed_in_order) = (false, false);
                    next.done[REOPENED] += 1;
                    next.reopened_since = next.saw_closed;
                    if next.consumer == ConsumerAt::Told {
                        next.consumer = ConsumerAt::Look;
                    }
                    steps.push(producer("reopen"), next);
                }
            }
        }
        let is_between = matches!(state.producer, ProducerAt::Idle | ProducerAt::Stopped);
        if is_between {
            let mut next = to(ProducerAt::Gone);
            next.drain();
            steps.push(producer("detach"), next);
        }
        let may_close = state.done[BY_PRODUCER] < self.producer_closes;
        if is_between && may_close {
            let mut next = state.clone();
            next.drain();
            (next.closed, next.closed_in_order) = (true, true);
            next.done[BY_PRODUCER] += 1;
            steps.push(producer("close"), next);
        }
        let may_die = state.done[PRODUCERS_DEAD] < self.producer_deaths;
        if may_die && state.producer != ProducerAt::Gone {
            let mut next = to(ProducerAt::Gone);
            next.drain();
            next.done[PRODUCERS_DEAD] += 1;
            steps.push(producer("dies"), next);
        }
    }
}

/// The consumer's steps, and its successor's.
impl Closing {
    fn consume(&self, state: &State, steps: &mut Steps<State>) {
        let to = |at| State {
            consumer: at,
            ..state.clone()
        };
        match state.consumer {
            ConsumerAt::Look if state.records > 0 => {
                let mut next = state.clone();
                next.records -= 1;
                steps.push(consumer("take a record"), next);
            }
            ConsumerAt::Look => {
                steps.push(consumer("nothing here"), to(ConsumerAt::LookAtFlags));
            }
            ConsumerAt::LookAtFlags => {
                let mut next = to(match (state.closed, state.closed_in_order) {
                    (false, _) => ConsumerAt::Look,
                    (true, false) => ConsumerAt::Barrier,
                    (true, true) => ConsumerAt::AskWhetherItLives,
                });
                next.saw_order = state.closed_in_order;
                steps.push(consumer("look whether the ring is closed"), next);
            }
            ConsumerAt::Barrier => {
                let mut reached = to(ConsumerAt::AskWhetherItLives);
                reached.drain();
                steps.push(consumer("its barrier reaches the producer"), reached);
                let passed_over = to(ConsumerAt::AskWhetherItLives);
                steps.push(consumer("its barrier passes over it"), passed_over);
            }
            ConsumerAt::AskWhetherItLives => {
                let idle = state.producer == ProducerAt::Gone;
                let trusts = self.mutant == Mutant::TrustsTheHeavyBarrier;
                let is_sure = state.saw_order || idle || state.has_asked_all || trusts;
                let at = if !is_sure {
                    ConsumerAt::AskEveryProcessor
                } else {
                    ConsumerAt::LookAtMark
                };
                let mut next = to(at);
                next.saw_idle = idle;
                steps.push(consumer("ask whether the producer lives"), next);
            }
            ConsumerAt::AskEveryProcessor if self.is_refused => {
                let mut next = to(ConsumerAt::Look);
                next.forget();
                steps.push(consumer("refused by the kernel"), next);
            }
            ConsumerAt::AskEveryProcessor => {
                let mut next = to(ConsumerAt::LookAtMark);
                next.drain();
                next.has_asked_all = true;
                steps.push(consumer("ask every processor"), next);
            }
            ConsumerAt::LookAtMark => {
                let mut next = to(ConsumerAt::LookAgainAtFlags);
                next.saw_mark = state.mark;
                if self.mutant == Mutant::LooksAtSwitchLast {
                    next.consumer = ConsumerAt::LookAtHeader;
                }
                steps.push(consumer("look at the mark"), next);
            }
            ConsumerAt::LookAgainAtFlags => {
                let mut next = to(ConsumerAt::LookAtHeader);
                next.saw_closed = state.closed;
                if self.mutant == Mutant::LooksAtSwitchLast {
                    Self::decide(&mut next);
                }
                steps.push(consumer("look again whether it is closed"), next);
            }
            ConsumerAt::LookAtHeader => {
                let mut next = to(ConsumerAt::LookAgainAtFlags);
                next.saw_empty = state.records == 0;
                if self.mutant != Mutant::LooksAtSwitchLast {
                    Self::decide(&mut next);
                }
                steps.push(consumer("look at the header"), next);
            }
            ConsumerAt::Told => {}
        }
        if state.consumer == ConsumerAt::Look && state.done[BY_CONSUMER] < self.consumer_closes {
            let mut next = state.clone();
            next.has_asked_all &= self.mutant == Mutant::AsksOnlyOnce;
            next.closed = true;
            next.done[BY_CONSUMER] += 1;
            steps.push(consumer("close"), next);
        }
        if state.consumer != ConsumerAt::Told && state.done[CONSUMERS_DEAD] < self.consumer_deaths {
            let mut next = to(ConsumerAt::Look);
            next.has_asked_all = self.mutant == Mutant::SuccessorAsksNobody;
            next.forget();
            next.done[CONSUMERS_DEAD] += 1;
            steps.push(consumer("dies, and another one attaches"), next);
        }
    }

    /// What its looks have told it. The end is as of its look at the switch: in a ring that was
    /// opened since, it has been told and reads on.
    fn decide(next: &mut State) {
        let on_its_way = next.saw_mark && !next.saw_idle;
        let ended = next.saw_closed && next.saw_empty && !on_its_way;
        next.consumer = if ended && !next.reopened_since {
            ConsumerAt::Told
        } else {
            ConsumerAt::Look
        };
        next.forget();
    }
}
