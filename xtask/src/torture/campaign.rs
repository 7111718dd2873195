//! All trials of all operations, and the table of what they showed.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::bench::Bench;
use super::halt::halt;
use super::operations::{self, Operation, Points, Ring};
use super::plan::{END, Plan, Random, plan};
use super::trial::{Variant, kill};
use super::{Args, Mode};

/// Each trial of this many has survivors that sleep; the others yield, which is quicker.
const SLEEPS_EACH: usize = 16;
/// Failures of one operation that are told in full.
const TOLD: usize = 3;

/// The row of an operation in the final table.
#[derive(Debug, Default)]
struct Tally {
    instructions: u64,
    kills: u64,
    stops: u64,
    failures: usize,
    states: BTreeSet<&'static str>,
    slowest: Duration,
    took: Duration,
}

/// The operations that were asked for.
fn selected(args: &Args) -> Result<Vec<&'static Operation>> {
    let all = operations::all();
    for name in &args.operation {
        let known = all.iter().any(|operation| operation.name == name);
        ensure!(known, "no operation is called `{name}`; --list shows them");
    }
    let is_wanted = |operation: &&Operation| {
        args.operation.is_empty() || args.operation.iter().any(|name| name == operation.name)
    };
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Runs the campaign.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let operations = selected(args)?;
    if args.list {
        for operation in operations {
            println!("{}", operation.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for operation in operations {
        let mut trials = Trials::new(&bench, operation, args);
        trials.run()?;
        rows.push((operation, trials.tally));
    }
    Ok(report(&rows, args.at.is_none()))
}

struct Trials<'t> {
    bench: &'t Bench,
    operation: &'t Operation,
    args: &'t Args,
    tally: Tally,
}

impl<'t> Trials<'t> {
    fn new(bench: &'t Bench, operation: &'t Operation, args: &'t Args) -> Self {
        Self {
            bench,
            operation,
            args,
            tally: Tally::default(),
        }
    }

    fn run(&mut self) -> Result<()> {
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
        Ok(())
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
        let bar = bar(self.operation.name, "kill", plan.points.len());
        for (count, point) in plan.points.iter().enumerate() {
            let sleeps = count % SLEEPS_EACH == SLEEPS_EACH / 2;
            let shown = kill(self.bench, self.operation, variant, *point, &plan.calls, sleeps);
            self.tally.kills += 1;
            match shown {
                Ok(shown) => {
                    self.tally.states.extend(shown.states);
                    self.tally.slowest = self.tally.slowest.max(shown.took);
                }
                Err(error) => self.fail("kill", *point, &format!("{variant:?}: {error:#}")),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn stops(&mut self) -> Result<()> {
        const FEW: usize = 60;
        let variant = if self.operation.has_witnesses {
            Variant::Witness
        } else {
            Variant::Successor
        };
        let mut plan = self.plan(variant, self.args.sample / 10)?;
        self.tally.instructions = self.tally.instructions.max(plan.instructions);
        if self.operation.points == Points::Changes || !self.operation.has_witnesses {
            plan.points = thinned(&plan.points, self.args.sample / 10 + FEW, self.args.seed);
        }
        let bar = bar(self.operation.name, "stop", plan.points.len());
        for point in &plan.points {
            self.tally.stops += 1;
            if let Err(error) = halt(self.bench, self.operation, *point, &plan.calls) {
                self.fail("stop", *point, &format!("{error:#}"));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn fail(&mut self, mode: &str, point: u64, what: &str) {
        self.tally.failures += 1;
        if self.tally.failures > TOLD {
            return;
        }
        let name = self.operation.name;
        let (seed, place) = (self.args.seed, Point(point));
        eprintln!("\nFAILED: {name}, {mode} after {place}, seed {seed}: {what}");
        eprintln!(
            "  again: cargo xtask torture --operation {name} --mode {mode} --seed {seed} --at {point}"
        );
    }

    fn check_states(&mut self) {
        let states = self.operation.states.iter();
        let missed: Vec<_> = states.filter(|state| !self.tally.states.contains(*state)).collect();
        if !missed.is_empty() {
            self.tally.failures += 1;
            let name = self.operation.name;
            eprintln!("\nFAILED: {name}: no death was seen in the states {missed:?}");
        }
    }
}

/// A point, as one reads it.
struct Point(u64);

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            END => f.write_str("the last instruction"),
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

fn bar(name: &str, mode: &str, count: usize) -> ProgressBar {
    const TEMPLATE: &str = "{prefix:<42} {bar:30} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(TEMPLATE);
    let bar = ProgressBar::new(count as u64).with_prefix(format!("{mode} {name}"));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn report(rows: &[(&Operation, Tally)], is_whole: bool) -> ExitCode {
    println!(
        "{:<34} {:>12} {:>6} {:>6} {:>8} {:>10} {:>7}  states at death",
        "operation", "instructions", "kills", "stops", "failures", "slowest ms", "s"
    );
    let (mut kills, mut stops, mut failures, mut seconds) = (0, 0, 0, 0.0);
    for (operation, tally) in rows {
        let states: Vec<&str> = tally.states.iter().copied().collect();
        println!(
            "{:<34} {:>12} {:>6} {:>6} {:>8} {:>10.1} {:>7.1}  {}",
            operation.name,
            tally.instructions,
            tally.kills,
            tally.stops,
            tally.failures,
            tally.slowest.as_secs_f64() * 1000.0,
            tally.took.as_secs_f64(),
            states.join(" ")
        );
        kills += tally.kills;
        stops += tally.stops;
        failures += tally.failures;
        seconds += tally.took.as_secs_f64();
    }
    println!(
        "{:<34} {:>12} {kills:>6} {stops:>6} {failures:>8} {:>10} {seconds:>7.1}",
        "all", "", ""
    );
    let rings = [Ring::Mpmc, Ring::Spsc].map(|ring| {
        rows.iter().filter(|(operation, _)| operation.ring == ring).count()
    });
    if is_whole {
        println!("{} operations of the slot ring, {} of the byte ring", rings[0], rings[1]);
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
