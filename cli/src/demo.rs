//! `annulus demo`: records between real processes, some of which are killed, and every record
//! accounted for.
//!
//! | file | for |
//! | --- | --- |
//! | `script` | what happens when, in one run |
//! | `crew` | the child processes, and talking to them |
//! | `produce`, `consume`, `child` | what the children do |
//! | `record` | what a record holds |
//! | `ledger` | who sent and received what, and whether that agrees |
//! | `table` | the results |

mod child;
mod consume;
mod crew;
mod ledger;
mod produce;
mod record;
mod script;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::output;
use crate::report::{Answer, Failure};
use crate::stop::Stop;

pub use child::ChildArgs;
pub use consume::consume;
use crew::Halt;
pub use produce::produce;

/// Moves records between real processes, kills some, and accounts for every record.
///
/// First one producer and one consumer over an SPSC ring, then two and two over an MPMC ring. Each
/// record has a sequence number and a checksum. In the MPMC run a producer and a consumer are
/// killed by SIGKILL, each while it holds a claim, and replaced.
///
/// Each run has two parts. In the first, records go as fast as they can: that gives the throughput.
/// In the second they go at a fixed rate, and latency is counted from the moment at which each one
/// was due, so that a producer that was held up makes its records late, not fewer.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit codes: 0 if every record arrived whole and once, and the kills were recovered from; 1 if not;
2 if the demo itself failed.")]
pub struct DemoArgs {
    /// How long each run takes.
    #[arg(long, default_value_t = 3.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Where the rings are made, in a directory that is removed at the end.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.5..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, 0.5 to 3600".to_owned()),
    }
}

pub fn run(args: &DemoArgs) -> Result<Answer, Failure> {
    let stop = Stop::new()?;
    let dir = tempfile::Builder::new()
        .prefix("annulus-demo-")
        .tempdir_in(&args.dir)
        .map_err(|error| {
            Failure::because(format_args!("cannot use `{}`", args.dir.display()), &error)
                .hint("choose another directory with --dir, on tmpfs if possible")
        })?;
    let duration = Duration::from_secs_f64(args.seconds);
    let mut outcomes = Vec::new();
    for run in [script::SPSC, script::MPMC] {
        match script::play(&run, dir.path(), duration, &stop) {
            Ok(outcome) => outcomes.push(outcome),
            Err(Halt::Failed(failure)) => return Err(failure),
            Err(Halt::Stopped) => {
                drop(dir);
                return Ok(stop.finish(Answer::No));
            }
        }
    }
    output::print(&table::draw(&outcomes))?;
    let faults: Vec<String> = outcomes.iter().flat_map(ledger::Outcome::faults).collect();
    for fault in &faults {
        eprintln!("error: {fault}");
    }
    Ok(if faults.is_empty() {
        Answer::Yes
    } else {
        Answer::No
    })
}
