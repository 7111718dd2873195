//! Death, and a halt, after every instruction of every operation: `cargo xtask torture`.
//!
//! A victim, a real process, performs one operation on a fresh ring. The tracer steps it through
//! ptrace and kills it, really, after n instructions; for every n there is another ring and another
//! victim. Then an independent checker reads the ring's words, and survivors must go on.
//!
//! | file | for |
//! | --- | --- |
//! | `operations` | what victims do, and what that may do to records |
//! | `victim` | forking, stepping, killing, stopping |
//! | `bench` | the directory and the ring of a trial |
//! | `plan` | after which instructions |
//! | `trial` | one kill and all questions after it |
//! | `halt` | one stop, the ring driven round it, and its going on |
//! | `image`, `account` | the independent checker: the file's bytes, and what they say |
//! | `survivors` | handles that go on, and measure how long that took |
//! | `campaign` | all trials of one operation, and how a failure is replayed |
//! | `crew` | the processes that share the operations, and the table |
//!
//! # Invariants
//! 1. The checker shares no code with the library: not its offsets, not its rules.
//! 2. A trial depends on nothing but the operation, the variant and the instruction, so that a
//!    failure can be replayed.
//! 3. Each tracer is a process with one thread, so that it may fork.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod account;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod bench;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod campaign;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod crew;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod halt;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod image;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod operations;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod plan;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod survivors;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod trial;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod victim;

use std::process::ExitCode;

use anyhow::Result;

/// What is to be tortured, and how.
#[derive(Debug, clap::Args)]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    expect(dead_code, reason = "nothing is tortured here")
)]
pub(crate) struct Args {
    /// Only these operations
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    operation: Vec<String>,
    /// Chooses the instructions of long operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Whether victims are killed or stopped
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,
    /// How many instructions of a long operation are tried besides those that change something
    #[arg(long, value_name = "K", default_value_t = 1000)]
    sample: usize,
    /// Only after this many instructions: what a failure names
    #[arg(long, value_name = "N")]
    at: Option<u64>,
    /// How many operations are tried at the same time
    #[arg(long, value_name = "N", default_value_t = 6)]
    jobs: usize,
    /// Print the operations and do nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// By SIGKILL
    Kill,
    /// By SIGSTOP, and later SIGCONT
    Stop,
    /// One after the other
    Both,
}

/// Runs the campaign.
///
/// # Errors
/// If the harness itself fails; what it finds is in the exit code.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    crew::run(args)
}

/// Says where it could run.
///
/// # Errors
/// Always.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) fn run(_args: &Args) -> Result<ExitCode> {
    anyhow::bail!("this steps through x86_64 instructions: it needs Linux on x86_64")
}
