//! The processes that share the operations among them, and the table of what all of them found.
//!
//! Trials spend most of their time waiting: for a tick of the clock, for a sleeper's bound. So
//! several tracers work at the same time, each in a directory of its own. They take operations by
//! their number and report through one pipe, a line at a time.

use std::io::{BufRead as _, BufReader, PipeWriter, Write as _, pipe};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;

use super::Args;
use super::bench::Bench;
use super::campaign::{HEADINGS, Trials};
use super::operations::{self, Operation};
use super::victim::{Counter, in_child};

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
    let began = Instant::now();
    let next = Counter::new()?;
    let (reader, writer) = pipe().context("make a pipe")?;
    let mut workers = Vec::new();
    for _ in 0..args.jobs.clamp(1, operations.len()) {
        workers.push(in_child(|| work(args, &operations, next, &writer))?);
    }
    drop(writer);
    let mut total = Total::default();
    println!("{HEADINGS}");
    let bar = bar(operations.len());
    for line in BufReader::new(reader).lines() {
        total.take(&line?, &bar)?;
    }
    bar.finish_and_clear();
    for worker in workers {
        waitpid(worker, None)?;
    }
    total.report(operations.len() as u64, began)
}

/// One tracer: takes operations until none is left.
fn work(args: &Args, operations: &[&Operation], next: Counter, writer: &PipeWriter) {
    let tell = |line: &str| {
        let mut writer = writer;
        // A line is written at once, being shorter than what a pipe takes in one piece.
        writer
            .write_all(format!("{line}\n").as_bytes())
            .expect("somebody reads");
    };
    let trials = || {
        set_pdeathsig(Signal::SIGKILL)?;
        let bench = Bench::new()?;
        while let Some(operation) = operations.get(next.take()) {
            let tally = Trials::new(&bench, operation, args, &|| tell("trial")).run();
            let tally = tally.with_context(|| format!("torture {}", operation.name))?;
            let (kills, stops, failures) = (tally.kills, tally.stops, tally.failures);
            tell(&format!(
                "row\t{kills}\t{stops}\t{failures}\t{}",
                tally.row(operation)
            ));
        }
        anyhow::Ok(())
    };
    if let Err(error) = trials() {
        tell(&format!(
            "error\t{}",
            format!("{error:#}").replace('\n', " ")
        ));
    }
}

fn bar(operations: usize) -> ProgressBar {
    const TEMPLATE: &str = "{pos}/{len} operations {bar:30} {msg} trials, {elapsed}";
    let style = ProgressStyle::with_template(TEMPLATE);
    let bar = ProgressBar::new(operations as u64);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Sums over all operations.
#[derive(Debug, Default)]
struct Total {
    trials: u64,
    rows: u64,
    kills: u64,
    stops: u64,
    failures: u64,
}

impl Total {
    /// Takes in what a tracer reports.
    fn take(&mut self, line: &str, bar: &ProgressBar) -> Result<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        match *fields.as_slice() {
            ["trial"] => {
                self.trials += 1;
                bar.set_message(self.trials.to_string());
            }
            ["row", kills, stops, failures, row] => {
                self.rows += 1;
                self.kills += kills.parse::<u64>()?;
                self.stops += stops.parse::<u64>()?;
                self.failures += failures.parse::<u64>()?;
                bar.suspend(|| println!("{row}"));
                bar.inc(1);
            }
            ["error", error] => bail!("{error}"),
            _ => bail!("a tracer reports {line:?}"),
        }
        Ok(())
    }

    fn report(&self, operations: u64, began: Instant) -> Result<ExitCode> {
        let Self {
            rows,
            kills,
            stops,
            failures,
            ..
        } = self;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{rows} operations: {kills} kills, {stops} stops, {failures} failures, {seconds:.0} s"
        );
        ensure!(
            *rows == operations,
            "a tracer ended before its work was done"
        );
        Ok(if *failures == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
