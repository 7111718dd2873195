//! `annulus stat`.

mod json;
mod text;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus::Location;
use annulus::segment::{Snapshot, inspect};
use clap::Args;

use crate::output::{self, Reader};
use crate::report::{Answer, Failure};

/// Shows a ring: its fill, who is attached and alive, and who holds what.
///
/// It joins nothing and writes nothing, so it works on a ring whose participants have crashed, and
/// needs only permission to read the file. On a busy ring each word is read at its own moment, so
/// sums may be off by what happened meanwhile; on one at rest they are exact, after any kill.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Counters of a participant:
  committed, released   records
  full, empty           attempts that the ring refused
  waits                 times it went to sleep
Recovery:
  recovered             participants that died and were recovered
  redelivered           records that were given back, to be delivered again
  skipped               claims that were given up, by their owner or after its death
  dropped               records that `create --redelivery` did not want delivered again
Claims in flight: who holds what. Nothing is ever taken from the living, stopped ones too. How long
a claim has been seen is known to --watch only.

Examples:
  annulus stat /dev/shm/a.ring --watch
  annulus stat /dev/shm/a.ring --json | jq .committed_records")]
pub struct StatArgs {
    /// The ring's file.
    path: PathBuf,
    /// Print one JSON object; with --watch, one a line.
    #[arg(long)]
    json: bool,
    /// Look again every second until interrupted.
    #[arg(long)]
    watch: bool,
}

const PERIOD: Duration = Duration::from_secs(1);
/// Moves a terminal's cursor home and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub fn run(args: &StatArgs) -> Result<Answer, Failure> {
    let mut watched = text::Watched::default();
    let redraws = args.watch && !args.json && io::stdout().is_terminal();
    loop {
        let snapshot = look(&args.path)?;
        let text = match (args.json, args.watch) {
            (true, false) => json::pretty(&snapshot)? + "\n",
            (true, true) => json::line(&snapshot)? + "\n",
            (false, false) => text::describe(&args.path, &snapshot, None),
            (false, true) => {
                watched.look(&snapshot);
                let text = text::describe(&args.path, &snapshot, Some(&watched));
                if redraws {
                    format!("{CLEAR}{text}")
                } else {
                    text + "\n"
                }
            }
        };
        if output::print(&text)? == Reader::Gone || !args.watch {
            return Ok(Answer::Yes);
        }
        std::thread::sleep(PERIOD);
    }
}

pub fn look(path: &Path) -> Result<Snapshot, Failure> {
    inspect(&Location::from(path)).map_err(|error| Failure::of_ring("look at", path, &error))
}
