//! All trials of one operation, and what they showed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::halt::halt;
use super::operations::{Operation, Points};
use super::plan::{ASLEEP, END, Plan, Random, plan};
use super::trial::{Variant, kill};
use super::{Args, Mode};

/// How many points of an operation that sleeps are stops.
const STOPS_OF_A_SLEEPER: usize = 100;
/// Each trial of this many has survivors that sleep; the others yield, which is quicker.
const SLEEPS_EACH: usize = 16;
/// Failures of one operation that are told in full.
const TOLD: u64 = 3;

/// The row of an operation in the final table.
#[derive(Debug, Default)]
pub(super) struct Tally {
    instructions: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) failures: u64,
    states: BTreeSet<&'static str>,
    slowest: Duration,
    took: Duration,
}

/// What the columns of [`Tally::row`] are called.
pub(super) const HEADINGS: &str = "operation                          instructions  kills  stops \
    failures slowest ms       s  states at death";

impl Tally {
    /// A row of the table.
    pub(super) fn row(&self, operation: &Operation) -> String {
        let states: Vec<&str> = self.states.iter().copied().collect();
        format!(
            "{:<34} {:>12} {:>6} {:>6} {:>8} {:>10.1} {:>7.1}  {}",
            operation.name,
            self.instructions,
            self.kills,
            self.stops,
            self.failures,
            self.slowest.as_secs_f64() * 1000.0,
            self.took.as_secs_f64(),
            states.join(" ")
        )
    }
}

/// All trials of one operation.
pub(super) struct Trials<'t> {
    bench: &'t Bench,
    operation: &'t Operation,
    args: &'t Args,
    progress: &'t dyn Fn(),
    tally: Tally,
}

impl<'t> Trials<'t> {
    /// `progress` is told of each trial.
    pub(super) fn new(
        bench: &'t Bench,
        operation: &'t Operation,
        args: &'t Args,
        progress: &'t dyn Fn(),
    ) -> Self {
        Self {
            bench,
            operation,
            args,
            progress,
            tally: Tally::default(),
        }
    }

    /// Tries the operation at all its points.
    pub(super) fn run(mut self) -> Result<Tally> {
        let began = Instant::now();
        let mode = self.args.mode;
        if mode != Mode::Stop {
            if self.operation.has_witnesses {
                self.kills(Variant::Witness)?;
            }
            self.kills(Variant::Successor)?;
        }
        if mode != Mode::Kill {
            self.stops()?;
        }
        if mode != Mode::Stop && self.args.at.is_none() {
            self.check_states();
        }
        self.tally.took = began.elapsed();
        Ok(self.tally)
    }

    /// The points, or the one that is to be replayed.
    fn plan(&self, variant: Variant, sample: usize) -> Result<Plan> {
        let seed = self.args.seed ^ hash(self.operation.name);
        let mut plan = plan(self.bench, self.operation, variant, seed, sample)?;
        if let Some(at) = self.args.at {
            plan.points = vec![at];
        }
        Ok(plan)
    }

    fn kills(&mut self, variant: Variant) -> Result<()> {
        let plan = self.plan(variant, self.args.sample)?;
        self.tally.instructions = self.tally.instructions.max(plan.instructions);
        for (count, point) in plan.points.iter().enumerate() {
            let sleeps = count % SLEEPS_EACH == SLEEPS_EACH / 2;
            let shown = kill(self.bench, self.operation, variant, *point, &plan, sleeps);
            self.tally.kills += 1;
            match shown {
                Ok(shown) => {
                    self.tally.states.extend(shown.states);
                    self.tally.slowest = self.tally.slowest.max(shown.took);
                }
                Err(error) => self.fail("kill", *point, &format!("{variant:?}: {error:#}")),
            }
            (self.progress)();
        }
        Ok(())
    }

    fn stops(&mut self) -> Result<()> {
        let variant = if self.operation.has_witnesses {
            Variant::Witness
        } else {
            Variant::Successor
        };
        let mut plan = self.plan(variant, self.args.sample / 10)?;
        self.tally.instructions = self.tally.instructions.max(plan.instructions);
        plan.points.retain(|point| *point != ASLEEP);
        if self.operation.points == Points::Sleep {
            // Each takes as long as a sleep does.
            plan.points = thinned(&plan.points, STOPS_OF_A_SLEEPER, self.args.seed);
        }
        for point in &plan.points {
            self.tally.stops += 1;
            if let Err(error) = halt(self.bench, self.operation, *point, &plan) {
                self.fail("stop", *point, &format!("{error:#}"));
            }
            (self.progress)();
        }
        Ok(())
    }

    fn fail(&mut self, mode: &str, point: u64, what: &str) {
        self.tally.failures += 1;
        if self.tally.failures > TOLD {
            return;
        }
        let name = self.operation.name;
        let (seed, place) = (self.args.seed, Point(point));
        tell(&format!(
            "FAILED: {name}, {mode} after {place}, seed {seed}: {what}\n  \
             again: cargo xtask torture --operation {name} --mode {mode} --seed {seed} --at {point}"
        ));
    }

    fn check_states(&mut self) {
        let states = self.operation.states.iter();
        let missed: Vec<_> = states
            .filter(|state| !self.tally.states.contains(*state))
            .collect();
        if !missed.is_empty() {
            self.tally.failures += 1;
            let name = self.operation.name;
            tell(&format!(
                "FAILED: {name}: no death was seen in the states {missed:?}"
            ));
        }
    }
}

/// Writes to the terminal in one piece, for others do so at the same time.
fn tell(what: &str) {
    let _ = std::io::stderr().write_all(format!("\n{what}\n").as_bytes());
}

/// A point, as one reads it.
struct Point(u64);

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            END => f.write_str("the last instruction"),
            ASLEEP => f.write_str("falling asleep"),
            number => write!(f, "{number} instructions"),
        }
    }
}

/// At most `count` of the points, chosen by the seed, and the last one.
fn thinned(points: &[u64], count: usize, seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut left = points.to_vec();
    while left.len() > count.max(1) {
        let at = random.below(left.len() as u64 - 1);
        left.swap_remove(usize::try_from(at).unwrap_or(0));
    }
    left.sort_unstable();
    left
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
