//! Who hands records over: annulus, and the kernel's ways.
//!
//! Each is used as a careful user would for speed: annulus claims in place and commits, sockets and
//! pipes move a batch in one call. Whoever spins uses descriptors that do not block, and looks
//! again; whoever blocks sleeps in the kernel.

mod bytes;
mod eventfd;
mod messages;
mod mpmc;
mod queue;
mod ring;
mod spsc;

pub use bytes::Bytes;
pub use eventfd::EventFd;
pub use messages::Seqpacket;
pub use mpmc::{Mpmc, Receiver as MpmcReceiver, Sender as MpmcSender};
pub use queue::PosixQueue;
pub use ring::Backing;
pub use spsc::{Receiver as SpscReceiver, Sender as SpscSender, Spsc};

use crate::transport::Cannot;
use crate::work::{Waiting, Work};

fn cannot(error: impl core::fmt::Display) -> Cannot {
    Cannot(error.to_string())
}

/// Whether descriptors are to say that they would block.
fn looks_again(work: &Work) -> bool {
    work.waiting != Waiting::Block
}

fn one_and_one(work: &Work) -> Result<(), Cannot> {
    if work.producers + work.consumers == 2 {
        Ok(())
    } else {
        Err(Cannot("it is for one sender and one receiver".to_owned()))
    }
}
