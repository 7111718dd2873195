//! The MPMC slot ring: many producers and consumers, in many processes and threads.
//!
//! Records are delivered in the order in which their slots were claimed, each to one consumer. A
//! full ring refuses; nothing is ever overwritten. Each handle is one participant: it has a row in
//! the file, a lock that lives exactly as long as its mapping, and its claims bear its number.
//!
//! | handle | `Send` | `Sync` | `Clone` |
//! | --- | --- | --- | --- |
//! | [`Producer`], [`Consumer`] | yes | no: its counters are one thread's | `try_clone` |
//! | [`Claim`], [`Record`], batches | no: they borrow their handle | no | no |
//!
//! `try_clone` attaches another participant, and so can fail.
//! One handle may hold many claims at a time, up to the number of slots.
//!
//! # After a crash
//! A producer that died holding a claim: the slot is skipped. A consumer that died holding a
//! record: it is delivered again, after those claimed meanwhile and before newer ones, unless the
//! ring's [`Redelivery`] says otherwise. What a stopped (not dead) participant holds stays its own:
//! consumers wait behind a stopped producer's claim, producers one lap behind a stopped consumer's.

mod consumer;
mod options;
mod producer;

pub use crate::protocol::Redelivery;
pub use consumer::{Batch as ReadBatch, Consumer, Record};
pub use options::{NoRow, Options};
pub use producer::{Batch as WriteBatch, BatchClaim, Claim, Producer};
