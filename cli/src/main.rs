//! The command `annulus`: rings in mapped files, from the shell.
//!
//! One file a subcommand. What they share: [`report`] turns errors into `error:` and `hint:` lines,
//! [`stop`] turns signals into an orderly end, [`framing`] cuts streams into records and joins them
//! again, [`output`] writes and knows how far it came, [`progress`] shows what goes by.

mod bench;
mod bridge;
mod create;
mod demo;
mod framing;
mod output;
mod progress;
mod recover;
mod recv;
mod report;
mod rm;
mod send;
mod size;
mod stat;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use annulus::segment::AttachOptions;
use clap::{Args, Parser, Subcommand};

use report::Answer;

/// Crash-safe rings in mapped files: many processes, one file, no daemon.
///
/// A ring is a file, usually under /dev/shm. Programs on both sides may die at any moment, by
/// SIGKILL too: what was committed arrives, and whoever lives goes on.
#[derive(Debug, Parser)]
#[command(name = "annulus", version, after_long_help = AFTER, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Examples:
  annulus demo                                       see it work, kills included
  annulus create /dev/shm/a.ring --spsc --capacity 1MiB
  tar c . | annulus send /dev/shm/a.ring --close &   any bytes, through the ring
  annulus recv /dev/shm/a.ring | tar x -C /tmp/copy
  annulus stat /dev/shm/a.ring
  annulus rm /dev/shm/a.ring
  annulus bridge ring:/dev/shm/a.ring tcp-listen://0.0.0.0:7400   to other machines
  annulus bench round-trip/64B                       how fast it is here

Exit codes:
  0  done; also if the reader of the output went away (`| head`)
  1  answered no: `demo` lost something, `rm` refused because somebody is attached,
     `recv --count` met the end first, `bridge` was ended before all was confirmed
  2  failed: see the `error:` and `hint:` lines on stderr, or wrong usage
  A command that SIGINT or SIGTERM ends detaches first, then dies of that signal: 130 or 143 in
  the shell. `bridge` drains instead, and exits with 0 or 1.

Trust:
  Whoever may write to the ring's file is trusted to use it through annulus only. Hence the mode
  0600 unless `create --mode` says otherwise. A damaged file gives an error, never a crash.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Moves records between real processes, kills some, and accounts for every record.
    Demo(demo::DemoArgs),
    /// Measures hand-offs between processes: the machine's floors, the rings, the kernel's ways.
    Bench(Box<bench::BenchArgs>),
    /// Creates a ring.
    Create(create::CreateArgs),
    /// Sends standard input through a ring.
    Send(send::SendArgs),
    /// Writes what comes out of a ring to standard output.
    Recv(recv::RecvArgs),
    /// Moves records between a ring and a network, so that none is lost.
    Bridge(Box<bridge::BridgeArgs>),
    /// Shows a ring: its fill, who is attached, and who holds what. Joins nothing, writes nothing.
    Stat(stat::StatArgs),
    /// Mends what dead participants have left. The living do so too, when it matters.
    Recover(recover::RecoverArgs),
    /// Removes a ring, unless somebody is attached.
    Rm(rm::RmArgs),
    #[command(hide = true)]
    DemoProduce(demo::ChildArgs),
    #[command(hide = true)]
    DemoConsume(demo::ChildArgs),
}

/// How `send` and `recv` join the ring.
#[derive(Debug, Args)]
struct AttachArgs {
    /// The ring's file.
    path: PathBuf,
    /// Map every page before the first record.
    #[arg(long)]
    prefault: bool,
    /// Keep the ring in memory; see `ulimit -l`.
    #[arg(long)]
    lock_memory: bool,
    /// Ask for transparent huge pages; tmpfs has them if mounted with huge=advise.
    #[arg(long)]
    huge_pages: bool,
    /// Also on file systems on which the guarantees are not known to hold.
    #[arg(long)]
    force_file_system: bool,
}

impl AttachArgs {
    fn options(&self) -> AttachOptions {
        AttachOptions {
            prefault: self.prefault,
            lock_memory: self.lock_memory,
            huge_pages: self.huge_pages,
            force_file_system: self.force_file_system,
            accept_other_boot: false,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Create(args) => create::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Recv(args) => recv::run(&args),
        Command::Bridge(args) => bridge::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::DemoProduce(args) => demo::produce(&args),
        Command::DemoConsume(args) => demo::consume(&args),
    };
    match outcome {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => {
            failure.print();
            ExitCode::from(2)
        }
    }
}
