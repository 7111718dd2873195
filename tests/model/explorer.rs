//! A small explicit-state explorer: visits every state that a model can reach.
//!
//! A [`Model`] says which steps can be taken in a state; each step is one atomic access of one
//! party, or a death. [`explore`] takes all of them in all orders, breadth first, so that the trace
//! to whatever it finds is as short as any. It asks three things:
//!
//! - *Safety, of a step*: a step can say that what it found must never be there
//!   ([`Steps::forbid`]).
//! - *Safety, of a state*: [`Model::violation`].
//! - *Draining*: from every state some way leads to a good one ([`Model::is_good`]), found by
//!   walking all steps backwards from the good states. That finds a wedge and a lost wake-up. It
//!   does not find a livelock: that a way exists does not say that the parties take it.
//!
//! # Invariants
//! 1. A state is stored once. Its number is its place in the order of discovery.
//! 2. Steps are a function of the state alone, so a trace can be told again from numbers.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};

/// A system of parties that share memory.
pub(crate) trait Model {
    /// Everything that shared memory and all parties hold.
    type State: Clone + Eq + Hash + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// Pushes all steps that can be taken in `state`.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What is wrong with `state`, if anything.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether everything that was to be done is done.
    fn is_good(&self, state: &Self::State) -> bool;

    /// Whether nobody is left who could bring `state` to a good end.
    fn is_excused(&self, _state: &Self::State) -> bool {
        false
    }
}

/// Who does what.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    /// The party, or whose place is taken.
    pub(crate) party: &'static str,
    /// Its number among its like.
    pub(crate) number: u8,
    /// The step's name.
    pub(crate) step: &'static str,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.party, self.number, self.step)
    }
}

/// The steps that can be taken in one state.
pub(crate) struct Steps<S> {
    taken: Vec<(Label, S)>,
    forbidden: Option<(Label, &'static str)>,
}

impl<S> Steps<S> {
    fn new() -> Self {
        Self {
            taken: Vec::new(),
            forbidden: None,
        }
    }

    /// A step that leads to `state`.
    pub(crate) fn push(&mut self, label: Label, state: S) {
        self.taken.push((label, state));
    }

    /// A step that finds what must never be there.
    pub(crate) fn forbid(&mut self, label: Label, what: &'static str) {
        self.forbidden.get_or_insert((label, what));
    }
}

/// What was found.
pub(crate) enum Outcome {
    /// All states are safe, and all can drain.
    Sound,
    /// A state or a step that must not be.
    Violation {
        /// What is wrong.
        what: &'static str,
        /// The way there.
        trace: Vec<String>,
    },
    /// States from which no way leads to a good one.
    Stuck {
        /// How many there are.
        count: usize,
        /// The way to the first.
        trace: Vec<String>,
    },
}

/// What [`explore`] saw.
pub(crate) struct Report {
    /// How many states it visited.
    pub(crate) states: usize,
    /// What it found.
    pub(crate) outcome: Outcome,
}

/// Beyond this many states a model is too large for a test.
const MOST_STATES: usize = 8_000_000;

/// Visits every state that `model` can reach.
pub(crate) fn explore<M: Model>(model: &M) -> Report {
    let mut visited = Visited::new();
    let mut parents = vec![0];
    let mut graph = Graph::default();
    let mut steps = Steps::new();
    visited.number_of(model.initial());
    let mut at = 0;
    while at < visited.states.len() {
        let state = visited.states[at].clone();
        let wrong = model.violation(&state).map(|what| (None, what));
        model.steps(&state, &mut steps);
        let forbidden = steps
            .forbidden
            .take()
            .map(|(label, what)| (Some(label), what));
        if let Some((last, what)) = wrong.or(forbidden) {
            let mut trace = trace_to(model, &visited, &parents, at);
            trace.extend(last.map(|label| label.to_string()));
            return visited.report(Outcome::Violation { what, trace });
        }
        for (_, next) in steps.taken.drain(..) {
            let (number, is_new) = visited.number_of(next);
            if is_new {
                parents.push(small(at));
            }
            graph.targets.push(number);
        }
        graph.ends.push(graph.targets.len());
        at += 1;
        assert!(
            at < MOST_STATES,
            "the model is too large: lower its budgets"
        );
    }
    let stuck = stuck_states(model, &visited, &graph);
    let outcome = match stuck.first() {
        None => Outcome::Sound,
        Some(&first) => {
            let trace = trace_to(model, &visited, &parents, first);
            Outcome::Stuck {
                count: stuck.len(),
                trace,
            }
        }
    };
    visited.report(outcome)
}

/// The states from which no way leads to a good one, and that have no excuse.
fn stuck_states<M: Model>(model: &M, visited: &Visited<M::State>, graph: &Graph) -> Vec<usize> {
    let reversed = graph.reversed();
    let states = &visited.states;
    let mut drains = vec![false; states.len()];
    let mut open: Vec<usize> = (0..states.len())
        .filter(|&at| model.is_good(&states[at]))
        .collect();
    for &at in &open {
        drains[at] = true;
    }
    while let Some(at) = open.pop() {
        for &before in reversed.of(at) {
            let before = before as usize;
            if !drains[before] {
                drains[before] = true;
                open.push(before);
            }
        }
    }
    (0..states.len())
        .filter(|&at| !drains[at] && !model.is_excused(&states[at]))
        .collect()
}

/// The steps from the initial state to state `at`, each with the state after it.
fn trace_to<M: Model>(
    model: &M,
    visited: &Visited<M::State>,
    parents: &[u32],
    at: usize,
) -> Vec<String> {
    let mut way = vec![at];
    while let Some(&last) = way.last().filter(|&&last| last != 0) {
        way.push(parents[last] as usize);
    }
    way.reverse();
    let states = &visited.states;
    let mut trace = vec![format!("{:?}", states[0])];
    let mut steps = Steps::new();
    for pair in way.windows(2) {
        steps.taken.clear();
        model.steps(&states[pair[0]], &mut steps);
        let taken = steps
            .taken
            .iter()
            .find(|(_, next)| *next == states[pair[1]]);
        let (label, next) = taken.expect("INV-2: the same steps as when it was discovered");
        trace.push(format!("{label}\n        {next:?}"));
    }
    trace
}

/// All states seen, in the order of discovery, and a hash table of their numbers.
struct Visited<S> {
    states: Vec<S>,
    /// Open addressing; 0 is an empty place, else the state's number + 1.
    table: Vec<u32>,
}

impl<S: Eq + Hash> Visited<S> {
    fn new() -> Self {
        Self {
            states: Vec::new(),
            table: vec![0; 1 << 10],
        }
    }

    /// The number of `state`, and whether it is new.
    fn number_of(&mut self, state: S) -> (u32, bool) {
        let mut place = self.first_place(&state);
        loop {
            match self.table[place] {
                0 => break,
                number if self.states[number as usize - 1] == state => return (number - 1, false),
                _ => place = (place + 1) & (self.table.len() - 1),
            }
        }
        self.states.push(state);
        self.table[place] = small(self.states.len());
        if self.states.len() * 2 > self.table.len() {
            self.grow();
        }
        (small(self.states.len() - 1), true)
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for at in 0..self.states.len() {
            let mut place = self.first_place(&self.states[at]);
            while self.table[place] != 0 {
                place = (place + 1) & (self.table.len() - 1);
            }
            self.table[place] = small(at + 1);
        }
    }

    fn first_place(&self, state: &S) -> usize {
        let mut hasher = FastHasher(0);
        state.hash(&mut hasher);
        // The high bits of a product are the good ones.
        let mixed = hasher.finish().wrapping_mul(MULTIPLIER) >> 32;
        usize::try_from(mixed).expect("32 bits") & (self.table.len() - 1)
    }

    fn report(&self, outcome: Outcome) -> Report {
        Report {
            states: self.states.len(),
            outcome,
        }
    }
}

/// Which states each state leads to.
#[derive(Default)]
struct Graph {
    /// The targets of state n end here; they begin where those of n - 1 end.
    ends: Vec<usize>,
    targets: Vec<u32>,
}

impl Graph {
    fn of(&self, at: usize) -> &[u32] {
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.targets[begin..self.ends[at]]
    }

    fn reversed(&self) -> Self {
        let mut ends = vec![0; self.ends.len() + 1];
        for &target in &self.targets {
            ends[target as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        // `ends[n]` is now where n's sources begin, and moves to where they end.
        let mut targets = vec![0; self.targets.len()];
        for at in 0..self.ends.len() {
            for &target in self.of(at) {
                let end = &mut ends[target as usize];
                targets[*end] = small(at);
                *end += 1;
            }
        }
        ends.pop();
        Self { ends, targets }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("fewer states than MOST_STATES")
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and rotate: states are small and nobody attacks us.
struct FastHasher(u64);

impl FastHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
