//! `annulus recover`.

use std::path::PathBuf;

use annulus::segment::{RecoverOptions, recover};
use annulus::{Location, Recovered};
use clap::Args;

use crate::output;
use crate::report::{Answer, Failure};
use crate::size::grouped;
use crate::stat;

/// Mends what dead participants have left, and says what that was.
///
/// Nobody needs this while somebody lives: participants mend a ring when they wait for it. Whoever
/// is alive, stopped ones too, keeps what it holds.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The ring's file.
    path: PathBuf,
    /// Also check and adopt a ring from before the last boot, if nobody is attached to it. A power
    /// loss may have torn what was in it.
    #[arg(long)]
    accept_other_boot: bool,
    /// Also on file systems on which the guarantees are not known to hold.
    #[arg(long)]
    force_file_system: bool,
}

pub fn run(args: &RecoverArgs) -> Result<Answer, Failure> {
    let options = RecoverOptions {
        accept_other_boot: args.accept_other_boot,
        force_file_system: args.force_file_system,
    };
    let adopts = args.accept_other_boot && stat::look(&args.path)?.is_of_other_boot;
    let done = recover(&Location::from(&args.path), &options)
        .map_err(|error| Failure::of_ring("recover", &args.path, &error))?;
    if adopts {
        eprintln!("checked and adopted a ring from before the last boot");
    }
    output::print(&tell(&done))?;
    Ok(Answer::Yes)
}

fn tell(done: &Recovered) -> String {
    if done.participants == 0 {
        return "nothing to recover: no participant has died\n".to_owned();
    }
    let mut text = format!("recovered {}", count(done.participants, "dead participant"));
    if done.skipped > 0 {
        text += &format!(", gave up {}", count(done.skipped, "unfinished claim"));
    }
    if done.redelivered > 0 {
        text += &format!(
            ", {} to be delivered again",
            count(done.redelivered, "record")
        );
    }
    if done.dropped > 0 {
        text += &format!(", dropped {}", count(done.dropped, "record"));
    }
    text + "\n"
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_and_nothing_else() {
        let mut done = Recovered::default();
        assert_eq!(tell(&done), "nothing to recover: no participant has died\n");
        (done.participants, done.redelivered) = (1, 2);
        assert_eq!(
            tell(&done),
            "recovered 1 dead participant, 2 records to be delivered again\n"
        );
    }
}
