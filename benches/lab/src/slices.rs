//! Rounds of slices: contenders in rotated order, with the floor right before and after each.
//!
//! A slice whose floors differ by more than [`MOVED`], or are [`STARVED`], was disturbed by
//! somebody else on the machine. It is repeated, [`REPEATS`] times at most, and then left out, and
//! counted as such. Whoever wedges in one has more attempts as well, and fails if it wedges in the
//! last.

use core::ops::ControlFlow;

use hdrhistogram::Histogram;

use crate::contender::{Conditions, Contender, Fault, Found};
use crate::result::{Latency, Row, Scenario, Slice};
use crate::work::Work;

/// The floor after a slice may be so many times the floor before, or the other way round.
pub const MOVED: f64 = 1.4;
/// A floor that is so many times the least one of its scenario was starved: the states of a machine
/// that nobody disturbs are closer together.
pub const STARVED: f64 = 10.0;
/// How often a disturbed slice is repeated.
pub const REPEATS: u32 = 3;

/// The same work by all contenders, and what it is compared with.
#[allow(missing_debug_implementations, reason = "contenders are code")]
pub struct Bench {
    /// Short, unique and stable.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What is done.
    pub work: Work,
    /// What the floor of this work is.
    pub floor: Floor,
    /// Who does it.
    pub contenders: Vec<Box<dyn Contender>>,
}

/// The least that a work can take on this machine.
#[allow(missing_debug_implementations, reason = "a floor is code")]
pub struct Floor {
    /// In words.
    pub words: String,
    /// The same bytes with the same checks, and nothing but the loop.
    pub contender: Box<dyn Contender>,
    /// The work as the floor does it: the same, but for its own batch.
    pub work: Work,
}

/// How many rounds, and how each slice is run.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// How many, 9 unless somebody is in a hurry.
    pub rounds: u32,
    /// Of a contender's slice.
    pub slice: Conditions,
    /// Of a floor's slice.
    pub floor: Conditions,
}

/// What is going on, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub struct Step<'s> {
    /// The scenario's name.
    pub scenario: &'s str,
    /// Whose slice is next.
    pub contender: &'s str,
    /// Slices of this scenario that are through.
    pub done: u32,
    /// Slices of this scenario.
    pub total: u32,
}

/// Asked before each slice whether to go on.
pub type Watch<'w> = dyn FnMut(&Step<'_>) -> ControlFlow<()> + 'w;

/// Runs all rounds of a scenario.
///
/// # Errors
/// [`Fault`] of the floor, without which nothing can be said. A contender's faults are in its row.
/// If `watch` breaks off, what was found until then is returned.
pub fn run(bench: &Bench, rounds: &Rounds, watch: &mut Watch<'_>) -> Result<Scenario, Fault> {
    let mut course = Course::new(bench, rounds);
    let rows = course.rows.len();
    let count = |some| u32::try_from(some).unwrap_or(u32::MAX);
    let total = rounds.rounds.saturating_mul(count(rows));
    let turns = (0..rounds.rounds).flat_map(|round| order(round, rows));
    for (done, which) in turns.enumerate() {
        let step = Step {
            scenario: &bench.name,
            contender: &course.rows[which].row.contender,
            done: count(done),
            total,
        };
        if watch(&step).is_break() {
            break;
        }
        course.turn(which)?;
    }
    Ok(course.end())
}

/// Who comes when in a round: everybody once, each round beginning with another one.
fn order(round: u32, rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).map(move |turn| (round as usize + turn) % rows)
}

struct Course<'b> {
    bench: &'b Bench,
    rounds: &'b Rounds,
    /// The floor right before what comes next, if there is one.
    before: Option<f64>,
    floor_ns: Vec<f64>,
    rows: Vec<Entry>,
}

struct Entry {
    row: Row,
    latency: Option<Histogram<u64>>,
}

impl<'b> Course<'b> {
    fn new(bench: &'b Bench, rounds: &'b Rounds) -> Self {
        let entry = |contender: &dyn Contender| Entry {
            row: Row {
                contender: contender.name(),
                place: contender.place(),
                slices: Vec::new(),
                left_out: 0,
                failure: None,
                latency: None,
            },
            latency: None,
        };
        Self {
            bench,
            rounds,
            before: None,
            floor_ns: Vec::new(),
            rows: bench.contenders.iter().map(|one| entry(&**one)).collect(),
        }
    }

    fn measure_floor(&mut self) -> Result<f64, Fault> {
        let Floor {
            contender, work, ..
        } = &self.bench.floor;
        let mut attempts = (0..=REPEATS).map(|_| contender.run(work, &self.rounds.floor));
        // One that was starved to death says nothing: the machine was disturbed.
        let found = attempts.find(|found| !matches!(found, Err(Fault::Wedged(_))));
        let gone = || Fault::Wedged(format!("the floor, {} times", REPEATS + 1));
        let found = found.unwrap_or_else(|| Err(gone()))?;
        self.floor_ns.push(found.ns);
        Ok(found.ns)
    }

    /// A slice of one contender, repeated while the machine is disturbed.
    fn turn(&mut self, which: usize) -> Result<(), Fault> {
        if self.rows[which].row.failure.is_some() {
            return Ok(());
        }
        for attempt in 0..=REPEATS {
            let before = match self.before.take() {
                Some(before) => before,
                None => self.measure_floor()?,
            };
            let contender = &self.bench.contenders[which];
            let found = contender.run(&self.bench.work, &self.rounds.slice);
            if let Err(fault @ (Fault::Cannot(_) | Fault::Broken(_))) = found {
                self.rows[which].row.failure = Some(fault.to_string());
                return Ok(());
            }
            let after = self.measure_floor()?;
            self.before = Some(after);
            let is_quiet = self.is_quiet(before, after);
            match found {
                Ok(found) if is_quiet => {
                    self.rows[which].count(&found, [before, after]);
                    return Ok(());
                }
                Err(wedged) if is_quiet || attempt == REPEATS => {
                    self.rows[which].row.failure = Some(wedged.to_string());
                    return Ok(());
                }
                _ => {}
            }
        }
        self.rows[which].row.left_out += 1;
        Ok(())
    }

    fn is_quiet(&self, before: f64, after: f64) -> bool {
        let least = self.floor_ns.iter().copied().fold(f64::INFINITY, f64::min);
        let (low, high) = (before.min(after), before.max(after));
        high <= low * MOVED && high <= least * STARVED
    }

    fn end(self) -> Scenario {
        let bench = self.bench;
        Scenario {
            name: bench.name.clone(),
            title: bench.title.clone(),
            work: bench.work,
            floor: bench.floor.words.clone(),
            floor_ns: self.floor_ns,
            rows: self.rows.into_iter().map(Entry::end).collect(),
        }
    }
}

impl Entry {
    fn count(&mut self, found: &Found, floor_ns: [f64; 2]) {
        self.row.slices.push(Slice {
            ns: found.ns,
            floor_ns,
            records: found.records,
            lost: found.lost,
            repeated: found.repeated,
        });
        match (&mut self.latency, &found.latency) {
            (Some(all), Some(more)) => all.add(more).expect("the same bounds"),
            (all, more) => *all = all.take().or_else(|| more.clone()),
        }
    }

    fn end(self) -> Row {
        Row {
            latency: self.latency.as_ref().map(Latency::of),
            ..self.row
        }
    }
}

#[cfg(test)]
mod tests;
