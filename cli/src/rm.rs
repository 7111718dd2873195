//! `annulus rm`.

use std::path::PathBuf;

use annulus::Location;
use annulus::segment::{RemoveError, remove};
use clap::Args;

use crate::report::{Answer, Failure};

/// Removes a ring, unless somebody is attached (exit code 1) or the file is no ring.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The ring's file.
    path: PathBuf,
    /// Remove the file whatever it is and whoever is attached. Those keep the nameless file.
    #[arg(long)]
    force: bool,
}

pub fn run(args: &RmArgs) -> Result<Answer, Failure> {
    match remove(&Location::from(&args.path), args.force) {
        Ok(()) => Ok(Answer::Yes),
        Err(error) => {
            let failure = Failure::of_ring("remove", &args.path, &error);
            if matches!(error, RemoveError::InUse { .. }) {
                failure.print();
                return Ok(Answer::No);
            }
            Err(failure)
        }
    }
}
