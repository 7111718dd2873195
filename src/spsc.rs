//! The SPSC byte ring: variable-length records from one producer to one consumer.
//!
//! Records have 0 to [`Producer::max_record`] bytes and lie contiguously, in order. A full ring
//! refuses. Each side is one participant with its own lock, so a second producer or consumer is
//! refused with the name of the first; one that is restarted goes on where the dead one stopped:
//! the producer at the committed end, the consumer at the head.
//!
//! | handle | `Send` | `Sync` | `Clone` |
//! | --- | --- | --- | --- |
//! | [`Producer`], [`Consumer`] | yes | no | no: there is one of each |
//! | [`Claim`], [`Record`], [`Peeked`], [`Batch`] | no: they borrow their handle | no | no |
//!
//! # After a crash
//! A producer that died: what it had not committed never existed. A consumer that died: what it
//! had not released is delivered again. See `protocol::byte_ring` for each step.

mod consumer;
mod options;
mod producer;

pub use crate::protocol::byte_ring::Mark;
#[cfg(not(loom))]
pub use crate::protocol::byte_ring::Origin;
#[cfg(not(loom))]
pub use consumer::Run;
pub use consumer::{Consumer, Peeked, Record};
pub use options::Options;
pub use producer::{Batch, BatchClaim, Claim, Producer};

/// What is known of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It is attached and its process lives, running or stopped.
    Alive,
    /// The last one died without detaching, and nobody has taken its place.
    Died,
    /// Nobody is attached: it has not come yet, or has left.
    Absent,
}
