//! What entering the kernel and leaving it takes.

use crate::contender::{Conditions, Contender, Fault, Found};
use crate::players;
use crate::transport::Place;
use crate::work::Work;

/// A call of `getppid`, which does next to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemCall;

impl Contender for SystemCall {
    fn name(&self) -> String {
        "system call".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn run(&self, _: &Work, conditions: &Conditions) -> Result<Found, Fault> {
        players::play_alone(conditions, || {
            core::hint::black_box(nix::unistd::getppid());
        })
    }
}
