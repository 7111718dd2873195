//! cargo bench --all-features --bench ratios
//!
//! Ratios to what the machine itself can do, and to others' rings, in slices taken one after the
//! other: on a shared machine the same hand-off takes 58 ns in one second and 600 ns in the next,
//! so only what is measured side by side can be compared.
//!
//! Each round runs every contender for a slice, in an order that rotates from round to round, with
//! a slice of the physical floor before and after each. Printed is the median of the rounds' ratios
//! to the floor, with their least and greatest. Annulus runs between two pinned processes, on a
//! pre-faulted ring in /dev/shm; what is made for threads runs as two pinned threads, which
//! flatters it. The sender writes every byte of every record, the receiver checks all of them.
//!
//! - `-- --test`: one tiny round, to see that it works.
//! - `-- NAME`: the scenarios whose name contains it.
//! - `-- count RING RECORDS`: so many records through one thread. Instructions of a record, which
//!   repeat exactly: `valgrind --tool=callgrind` on this program (its path is what `cargo bench
//!   --no-run` prints) for 10000 and for 20000 records, the difference divided by 10000.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;
#[path = "ratios/contenders.rs"]
mod contenders;
#[path = "ratios/peer.rs"]
mod peer;

use std::time::Duration;

use contenders::{Contender, Scenario, Slice, scenarios};
use hdrhistogram::Histogram;

/// How long, and how often.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    slice: Duration,
    floor: Duration,
}

const FULL: Plan = Plan {
    rounds: 9,
    slice: Duration::from_millis(500),
    floor: Duration::from_millis(200),
};
const TINY: Plan = Plan {
    rounds: 1,
    slice: Duration::from_millis(5),
    floor: Duration::from_millis(5),
};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // What cargo adds to every benchmark's arguments.
    arguments.retain(|argument| argument != "--bench");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["peer", ..] => return peer::play(&words[1..]),
        ["count", ring, records] => {
            return contenders::count(ring, records.parse().expect("a number of records"));
        }
        _ => {}
    }
    let is_test = words.contains(&"--test");
    let plan = if is_test { TINY } else { FULL };
    let filter = words
        .iter()
        .find(|word| !word.starts_with('-'))
        .copied()
        .unwrap_or("");
    print_machine(&words);
    for scenario in scenarios()
        .iter()
        .filter(|scenario| scenario.name.contains(filter))
    {
        print_table(scenario, &run(scenario, plan));
    }
}

/// One contender's slices with what the floor was beside each.
#[derive(Default)]
struct Measured {
    ns: Vec<f64>,
    to_floor: Vec<f64>,
    trips: Option<Histogram<u64>>,
}

fn run(scenario: &Scenario, plan: Plan) -> Vec<Measured> {
    let count = scenario.contenders.len();
    let mut measured: Vec<Measured> = (0..count).map(|_| Measured::default()).collect();
    for round in 0..plan.rounds {
        let mut before = (scenario.floor.run)(plan.floor).ns;
        for turn in 0..count {
            let which = (round + turn) % count;
            let Slice { ns, trips } = (scenario.contenders[which].run)(plan.slice);
            let after = (scenario.floor.run)(plan.floor).ns;
            let one = &mut measured[which];
            one.ns.push(ns);
            one.to_floor.push(ns / f64::midpoint(before, after));
            match (&mut one.trips, trips) {
                (Some(all), Some(trips)) => all.add(trips).expect("both grow as they must"),
                (all, trips) => *all = all.take().or(trips),
            }
            before = after;
        }
    }
    measured
}

/// Median, least and greatest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (
        sorted[sorted.len() / 2],
        sorted[0],
        sorted[sorted.len() - 1],
    )
}

#[expect(clippy::print_stdout, reason = "this is a report")]
fn print_table(scenario: &Scenario, measured: &[Measured]) {
    let Contender { name, .. } = scenario.floor;
    println!("\n## {}\n\nfloor: {name}\n", scenario.name);
    println!("| contender | x floor | least | greatest | x first | least | greatest | ns |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (contender, one) in scenario.contenders.iter().zip(measured) {
        let (median, least, greatest) = spread(&one.to_floor);
        let (ns, _, _) = spread(&one.ns);
        let ratios = one
            .to_floor
            .iter()
            .zip(&measured[0].to_floor)
            .map(|(one, first)| one / first);
        let (first, lo, hi) = spread(&ratios.collect::<Vec<_>>());
        println!(
            "| {} | {median:.2} | {least:.2} | {greatest:.2} | {first:.2} | {lo:.2} | {hi:.2} \
             | {ns:.1} |",
            contender.name
        );
    }
    if measured.iter().all(|one| one.trips.is_none()) {
        return;
    }
    println!("\n| contender, ns | p50 | p99 | p99.9 | p99.99 | max | count |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (contender, one) in scenario.contenders.iter().zip(measured) {
        let Some(trips) = &one.trips else { continue };
        let at = |quantile| trips.value_at_quantile(quantile);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            contender.name,
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            trips.max(),
            trips.len()
        );
    }
}

#[expect(clippy::print_stdout, reason = "this is a report")]
fn print_machine(words: &[&str]) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or("unknown");
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let commit = std::process::Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "describe",
            "--always",
            "--dirty",
        ])
        .output();
    let commit = commit.map(|output| output.stdout).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("- {} x {cpus}", model.replace('\t', ""));
    println!("- kernel {}", read("/proc/sys/kernel/osrelease").trim());
    println!(
        "- governor {}",
        if governor.is_empty() {
            "unknown"
        } else {
            governor.trim()
        }
    );
    println!("- commit {}", String::from_utf8_lossy(&commit).trim());
    for name in ["annulus", "crossbeam-queue", "rtrb"] {
        println!("- {name} {}", version(name));
    }
    println!("- reading the clock takes {:.0} ns", contenders::clock_ns());
    println!(
        "- cargo bench --all-features --bench ratios -- {}",
        words.join(" ")
    );
}

/// A package's version as the lock file has it.
fn version(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let lock = std::fs::read_to_string(path).unwrap_or_default();
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted).skip(1);
    lines
        .next()
        .unwrap_or("unknown")
        .replace("version = ", "")
        .replace('"', "")
}
