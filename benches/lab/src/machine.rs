//! Where a run takes place, with what its figures depend on.

use std::hint::black_box;
use std::time::Instant;

use crate::report::figures::{Spread, number};
use crate::result::Machine;
use crate::system::System;

/// This machine. The warnings are left empty: what spoils a measurement depends on the processors
/// that are chosen, see [`doctor`](crate::doctor).
#[must_use]
pub fn describe(annulus: String, versions: Vec<(String, String)>) -> Machine {
    describe_in(&System::here(), annulus, versions)
}

/// The same of any system; the clock is always this one's.
#[must_use]
pub fn describe_in(system: &System, annulus: String, versions: Vec<(String, String)>) -> Machine {
    let cpus = allowed_cpus(system);
    let governors = system.governors(&cpus);
    Machine {
        cpu: cpu(system),
        kernel: system
            .read("proc/sys/kernel/osrelease")
            .unwrap_or_else(|| "unknown".to_owned()),
        governor: (!governors.is_empty()).then(|| governors.join(", ")),
        cpus,
        annulus,
        versions,
        clock_ns: clock_ns(),
        warnings: Vec::new(),
    }
}

/// Processors that this process may run on.
#[must_use]
pub fn allowed_cpus(system: &System) -> Vec<usize> {
    let allowed = system.field("proc/self/status", "Cpus_allowed_list");
    allowed
        .and_then(|list| crate::system::parse_cpus(&list))
        .unwrap_or_default()
}

/// As the processor calls itself; some name only their maker's and their own number.
fn cpu(system: &System) -> String {
    let field = |key| system.field("proc/cpuinfo", key);
    field("model name").unwrap_or_else(|| match (field("CPU implementer"), field("CPU part")) {
        (Some(maker), Some(part)) => format!("implementer {maker}, part {part}"),
        _ => "unknown".to_owned(),
    })
}

/// Nanoseconds that reading the clock takes: the median of many short runs, because an interrupt
/// hits some of them.
fn clock_ns() -> f64 {
    const RUNS: u32 = 1001;
    const READINGS: u32 = 64;
    let run = |_| {
        let begin = Instant::now();
        for _ in 0..READINGS {
            black_box(Instant::now());
        }
        let ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        number(ns) / f64::from(READINGS)
    };
    Spread::of((0..RUNS).map(run)).map_or(0.0, |spread| spread.median)
}
