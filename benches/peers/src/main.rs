//! annulus beside its peers: the same work, the same checks, in turns.
//!
//! `cargo run --release -p annulus-peers` runs all of it, prints the tables as Markdown, and leaves
//! a report for programs where it is told to. A minute with `--quick`, which tells no more than who
//! works.
//!
//! # The peers
//!
//! As their own documentation has them, and used as it recommends for speed; each file says how.
//! Values are elements of one type, bytes are records of any length.
//!
//! | crate | what it is | place | how it waits | in place |
//! | --- | --- | --- | --- | --- |
//! | `rtrb` 0.4.1 | SPSC, values | threads | not at all | chunks are read so |
//! | `ringbuf` 0.6.0 | SPSC, values | threads | not at all | batches are read so |
//! | `crossbeam-queue` 0.3.14 | MPMC `ArrayQueue`, values | threads | not at all | no |
//! | `kanal` 0.1.1 | MPMC channel, values | threads | spins, then sleeps | no |
//! | `ringfire` 0.5.2 | SPMC lossless, MPMC lossy, values | processes | spins, yields, futex | no |
//! | `disruptor-mp` 0.1.0-alpha.2 | SPMC, all see all, values | processes | spins, yields | yes |
//! | `shaq` 4.3.0 | SPSC and MPMC, values | processes | consumers: futex | yes |
//! | `ipc_ring` 0.2.1 | SPSC, bytes | processes | futex; wakes for each record | no |
//! | `ipc-channel` 0.23.1 | MPSC over sockets, bytes | processes | sleeps | no |
//! | `iceoryx2` 0.10.0 | publish-subscribe, all see all | processes | is polled | yes, lent |
//! | `rusteron-media-driver` 0.2.16 | Aeron's IPC, all see all, bytes | processes | spins | yes |
//!
//! `shaq` 4.4 to 5.1.1 want a Rust after 1.95 (`isolate_highest_one`). Aeron is behind the feature
//! `aeron`: its C sources want CMake 3.30 (`pip install cmake`) and, as Debian names them,
//! `libclang-14-dev`, `libbsd-dev`, `uuid-dev`.
//!
//! # When a peer fails
//!
//! The lab forks its players for each slice and kills those that are not done in time, so that a
//! crash or a wedge of one is a line in the table. What it leaves in `/dev/shm` goes with its link
//! ([`leavings`]), after a kill too; what the peers of a killed driver left goes when the next one
//! begins.

#[cfg(feature = "aeron")]
mod aeron;
mod crossbeam;
mod disruptor_mp;
mod ends;
#[cfg(feature = "iceoryx2")]
mod iceoryx;
mod ipc_channel;
mod ipc_ring;
mod kanal;
mod leavings;
mod peers;
mod quick;
mod ringbuf;
mod ringfire;
mod rtrb;
mod scenarios;
mod shaq;
mod table;
mod versions;

use std::error::Error;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use annulus_lab::result::{Machine, REPORT_VERSION, Report};
use annulus_lab::slices::{self, Rounds, Step};
use annulus_lab::system::System;
use annulus_lab::{Conditions, Contender, doctor, machine};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::scenarios::Scenario;

/// Runs annulus beside its peers and prints what they do, as Markdown.
#[derive(Debug, Parser)]
#[command(name = "annulus-peers", version, max_term_width = 100)]
struct Options {
    /// One tiny slice of each: says who works, and next to nothing about speed.
    #[arg(long)]
    quick: bool,
    /// Only contenders whose name contains this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only scenarios whose name contains this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// How many rounds.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Writes the report for programs to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the tables to a file as well.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Names the scenarios with their contenders, and runs nothing.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn wants(&self, contender: &dyn Contender) -> bool {
        is_named(&self.only, &contender.name())
    }

    fn scenarios(&self) -> Vec<&'static Scenario> {
        scenarios::ALL
            .iter()
            .filter(|scenario| is_named(&self.scenario, &scenario.name()))
            .collect()
    }

    fn rounds(&self, cpus: &[usize]) -> Rounds {
        let (rounds, [slice, floor]) = if self.quick {
            (1, [50, 50])
        } else {
            (self.rounds, [500, 150])
        };
        let conditions = |time_ms: u64| Conditions {
            cpus: cpus.to_vec(),
            warm_up: Duration::from_millis(time_ms / 5),
            time: Duration::from_millis(time_ms),
            folder: PathBuf::from("/dev/shm"),
        };
        Rounds {
            rounds,
            slice: conditions(slice),
            floor: conditions(floor),
        }
    }
}

fn is_named(wanted: &[String], name: &str) -> bool {
    let name = name.to_lowercase();
    wanted.is_empty()
        || wanted
            .iter()
            .any(|part| name.contains(&part.to_lowercase()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut out = std::io::stdout().lock();
    let cpus = machine::allowed_cpus(&System::here());
    if options.list {
        for scenario in options.scenarios() {
            let bench = scenario.bench(&cpus, |contender| options.wants(contender));
            writeln!(out, "{}: {}", bench.name, bench.title)?;
            for contender in &bench.contenders {
                writeln!(out, "    {}", contender.name())?;
            }
        }
        return Ok(());
    }
    leavings::sweep();
    let report = run(&options, &cpus)?;
    let tables = table::markdown(&report);
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = &options.markdown {
        fs::write(file, &tables)?;
    }
    write!(out, "{tables}")?;
    Ok(())
}

/// All scenarios, or those until somebody had enough: what was found until then is reported.
fn run(options: &Options, cpus: &[usize]) -> Result<Report, Box<dyn Error>> {
    let enough = Arc::new(AtomicBool::new(false));
    for stop in [SIGINT, SIGTERM] {
        // The second one ends it at once.
        signal_hook::flag::register_conditional_shutdown(stop, 130, Arc::clone(&enough))?;
        signal_hook::flag::register(stop, Arc::clone(&enough))?;
    }
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let rounds = options.rounds(cpus);
    let mut report = Report {
        version: REPORT_VERSION,
        machine: Machine {
            warnings: doctor::warnings(&doctor::examine(cpus)),
            ..machine::describe(versions::own(), versions::of_peers())
        },
        command: command(),
        began: began.as_secs(),
        scenarios: Vec::new(),
    };
    let mut watch = |step: &Step<'_>| {
        if enough.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        show(step);
        ControlFlow::Continue(())
    };
    for scenario in options.scenarios() {
        let bench = scenario.bench(cpus, |contender| options.wants(contender));
        if bench.contenders.is_empty() {
            continue;
        }
        let found = if options.quick {
            quick::run(&bench, &rounds, &mut watch)
        } else {
            slices::run(&bench, &rounds, &mut watch)
        };
        report.scenarios.push(found.unwrap_or_else(|fault| {
            eprintln!("{}: the floor: {fault}", bench.name);
            quick::without_floor(&bench, &fault)
        }));
    }
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    Ok(report)
}

fn show(step: &Step<'_>) {
    if std::io::stderr().is_terminal() {
        let Step {
            scenario,
            contender,
            done,
            total,
        } = step;
        eprint!("\r\x1b[K{scenario}: {done} of {total}, {contender}");
    }
}

/// As somebody would type it.
fn command() -> String {
    let options = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut command = "cargo run --release -p annulus-peers".to_owned();
    if !cfg!(feature = "iceoryx2") {
        command.push_str(" --no-default-features");
    }
    if cfg!(feature = "aeron") {
        command.push_str(" --features aeron");
    }
    if !options.is_empty() {
        command.push_str(" -- ");
        command.push_str(&options);
    }
    command
}
