//! The project's own commands, run as `cargo xtask <command>`.
//!
//! - `test` installs what the tests need and runs all of them; CI runs nothing else.
//! - `tidy` checks the house rules that a machine can check.
//! - `torture` kills and stops participants at every instruction of every operation.
//! - `sabotage` breaks the code on purpose: the tests must find each break.
//! - `aarch64` runs the library's unit tests on an emulated aarch64.
//! - `sanitize` runs tests under ThreadSanitizer or AddressSanitizer.
//! - `instructions` counts what a record costs, and compares it with what is kept.
//! - `mutants` changes the library in small ways and looks which change no test notices.
#![expect(
    clippy::print_stdout,
    reason = "a command line tool talks to its terminal"
)]

mod aarch64;
mod fuzz;
mod instructions;
mod mutants;
mod sabotage;
mod sanitize;
mod setup;
mod shell;
mod steps;
mod tidy;
mod torture;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// The project's own commands
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the tests need, then run every test there is
    ///
    /// Stops at the first step that fails and names the command that runs it again. The emulated
    /// run of `cargo xtask aarch64` is not part of this.
    Test(TestArgs),
    /// Check the house rules: sync labels, reasons for orderings, sizes, links, the layout's hash
    Tidy {
        /// Write the hash of src/layout.rs into docs/format.md first
        #[arg(long)]
        bless: bool,
    },
    /// Run the library's unit tests on aarch64 under emulation (not part of `cargo xtask test`)
    ///
    /// Needs a Debian-like system: as root it installs Debian's own Rust with its arm64 standard
    /// library, a cross linker and qemu-user where they are missing. The toolchains of rustup stay
    /// as they are.
    Aarch64,
    /// Run the library's tests under a sanitizer (not part of `cargo xtask test`)
    ///
    /// Installs nightly and its `rust-src` where they are missing: the standard library is
    /// instrumented as well.
    Sanitize {
        /// Which one
        #[arg(value_name = "SANITIZER")]
        sanitizer: sanitize::Sanitizer,
    },
    /// Count the instructions of a record under callgrind, and compare them with those kept
    ///
    /// Not part of `cargo xtask test`: another compiler makes other code. Installs valgrind where
    /// it is missing.
    Instructions {
        /// Keep the counts of this run
        #[arg(long)]
        bless: bool,
        /// Count in rings that so many records have gone through already
        #[arg(long, value_name = "RECORDS", conflicts_with = "bless")]
        after: Option<u64>,
    },
    /// Change the library in small ways, and name the changes that no test notices
    ///
    /// Runs cargo-mutants, which is installed if it is missing, as `.cargo/mutants.toml` says.
    Mutants {
        /// Only these source files, or patterns of them; all if none is named
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        /// How many mutants are tested at once
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        jobs: u32,
    },
    /// Kill and stop participants at every instruction of every operation, and check what is left
    ///
    /// Steps real processes through ptrace, so it needs Linux on x86_64. Build it with `--release`.
    Torture(torture::Args),
    /// Break the code on purpose, one mistake after the other: each must be found
    ///
    /// Works in a copy of the tree below `target/`. What the checks print is kept in a log a break
    /// beside it.
    Sabotage(sabotage::Args),
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Run only these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these steps out
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    skip: Vec<String>,
    /// Print the steps and what each is for, and run nothing
    #[arg(long)]
    list: bool,
    /// How long each fuzz target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    fuzz_seconds: u32,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(args) => test(&args),
        Command::Tidy { bless } => tidy(bless),
        Command::Torture(args) => torture::run(&args),
        Command::Sabotage(args) => sabotage::run(&args, &root()),
        Command::Aarch64 => aarch64::run(&root()).map(|()| ExitCode::SUCCESS),
        Command::Sanitize { sanitizer } => {
            sanitize::run(&root(), sanitizer).map(|()| ExitCode::SUCCESS)
        }
        Command::Instructions { bless, after } => {
            instructions::run(&root(), bless, after).map(|()| ExitCode::SUCCESS)
        }
        Command::Mutants { files, jobs } => {
            mutants::run(&root(), &files, jobs).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn test(args: &TestArgs) -> Result<ExitCode> {
    if args.list {
        for step in steps::STEPS {
            println!("{:<10} {}", step.name, step.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let selected = steps::select(&args.only, &args.skip)?;
    let passed = steps::run(&selected, &root(), args.fuzz_seconds)?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tidy(bless: bool) -> Result<ExitCode> {
    if bless {
        tidy::bless(&root())?;
    }
    let count = tidy::report(&root())?;
    Ok(if count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The top of the repository: the folder above this package.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
