//! What on this machine spoils a measurement, and what to do about it.
//!
//! Nothing here changes the machine. A file that is missing or cannot be read is no finding: most
//! of them are missing on most machines.

mod load;
mod memory;
mod processors;

use std::fmt::Write as _;
use std::time::Duration;

use crate::report::figures::cpus as show_cpus;
use crate::system::System;

/// Between both looks at what the processors do.
const LOOK: Duration = Duration::from_millis(200);

/// How much harm there is in it, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Figures are of something else than what they seem to be of.
    Spoils,
    /// Figures vary more, or are worse, than they need be.
    Disturbs,
    /// Good to know when figures are compared with another machine's.
    Note,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Spoils => "spoils",
            Self::Disturbs => "disturbs",
            Self::Note => "note",
        }
    }
}

/// Something that spoils a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found, with its figures.
    pub what: String,
    /// What it does to a measurement.
    pub why: &'static str,
    /// What can be done, as commands where there are any.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
}

/// A machine as it is examined: tests make up each part.
pub struct Patient<'a> {
    /// Its files.
    pub system: System,
    /// The processors that will be measured on.
    pub cpus: &'a [usize],
    /// Bytes that are free on `/dev/shm`; `None` if there is none.
    pub shm_bytes: Option<u64>,
    /// Runs between both looks at what the processors do.
    pub meanwhile: &'a dyn Fn(),
}

impl std::fmt::Debug for Patient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            system,
            cpus,
            shm_bytes,
            ..
        } = self;
        let mut debug = f.debug_struct("Patient");
        debug
            .field("system", system)
            .field("cpus", cpus)
            .field("shm_bytes", shm_bytes);
        debug.finish_non_exhaustive()
    }
}

impl Patient<'_> {
    /// All findings, the worst first.
    #[must_use]
    pub fn examine(&self) -> Vec<Finding> {
        let mut findings = processors::examine(self);
        findings.extend(memory::examine(self));
        findings.extend(load::examine(self));
        findings.sort_by_key(|finding| finding.severity);
        findings
    }
}

/// Examines this machine, as it is for a measurement on `cpus`. Takes a fifth of a second.
#[must_use]
pub fn examine(cpus: &[usize]) -> Vec<Finding> {
    let system = System::here();
    let shm_bytes = system.free_bytes("dev/shm");
    // This is the time that is looked at, not a wait for somebody.
    let meanwhile = || std::thread::sleep(LOOK);
    Patient {
        system,
        cpus,
        shm_bytes,
        meanwhile: &meanwhile,
    }
    .examine()
}

/// What a report says of its machine: all but the notes.
#[must_use]
pub fn warnings(findings: &[Finding]) -> Vec<String> {
    let grave = findings
        .iter()
        .filter(|finding| finding.severity < Severity::Note);
    grave.map(|finding| finding.what.clone()).collect()
}

/// For a terminal.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "Nothing was found that spoils a measurement.\n".to_owned();
    }
    let mut out = String::new();
    for Finding {
        what,
        why,
        remedy,
        severity,
    } in findings
    {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<9} {what}", severity.word());
        let _ = writeln!(out, "{:<9} why: {why}", "");
        let _ = writeln!(out, "{:<9} remedy: {remedy}\n", "");
    }
    let count = |wanted| {
        findings
            .iter()
            .filter(|finding| finding.severity == wanted)
            .count()
    };
    let _ = writeln!(
        out,
        "{} spoil figures, {} disturb them, {} to know.",
        count(Severity::Spoils),
        count(Severity::Disturbs),
        count(Severity::Note)
    );
    out
}

fn named(cpus: &[usize]) -> String {
    match cpus {
        [one] => format!("CPU {one}"),
        more => format!("CPUs {}", show_cpus(more)),
    }
}
