//! What a contender implements: a link, its senders and its receivers.
//!
//! The loops of a slice are generic over these, so that a hand-off is compiled into its loop and no
//! contender pays for a call through a table.

use std::path::Path;

use crate::payload::Payload;
use crate::work::{Waiting, Work};

/// Why a contender cannot do something, in words for the report.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cannot(pub String);

/// Where a contender's players live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Each in a process of its own.
    Processes,
    /// All in one process, as threads: what is made for threads. It flatters.
    Threads,
}

/// A way to hand records over.
pub trait Transport<P: Payload>: Sync {
    /// What both sides have before there are sides: a path, a pair of sockets, both ends of a
    /// queue. Players of [`Place::Processes`] have it from before the fork.
    type Link: Sync;
    /// The sending end.
    type Sender<'l>: Send<P>
    where
        Self: 'l;
    /// The receiving end.
    type Receiver<'l>: Receive<P>
    where
        Self: 'l;

    /// As the report names it.
    fn name(&self) -> String;

    /// Where the players live.
    fn place(&self) -> Place;

    /// Makes what one direction of a slice needs. `folder` is empty, on `/dev/shm`, and removed
    /// after the slice; `name` is of this direction and may name a file in it.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if this work is not for this contender; the report says why.
    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Self::Link, Cannot>;

    /// The `nth` sending end, in its player.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if it cannot be made.
    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Sender<'l>, Cannot>;

    /// The `nth` receiving end, in its player.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if it cannot be made.
    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Receiver<'l>, Cannot>;
}

/// A sending end.
pub trait Send<P: Payload> {
    /// Sends record `number`, written in place where that is possible. False if there is no room.
    fn try_send(&mut self, payload: P, number: u64) -> bool;

    /// Sends record `number` as soon as there is room. [`Waiting::Block`] is the contender's own
    /// way to sleep; without one it yields.
    fn send(&mut self, payload: P, number: u64, waiting: Waiting) {
        while !self.try_send(payload, number) {
            pause(waiting);
        }
    }

    /// Sends the records from `first` on, at most `count` of them, made visible together if the
    /// contender can. How many were sent.
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        (0..count as u64)
            .take_while(|nth| self.try_send(payload, first + nth))
            .count()
    }
}

/// A receiving end.
pub trait Receive<P: Payload> {
    /// Receives a record, calls `seen` with what [`Payload::check`] says of it, and makes its room
    /// free again. False if there is none.
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool;

    /// Receives a record as soon as there is one, or returns false after a moment of the
    /// contender's choice, so that the caller can look whether the slice is over.
    fn receive(&mut self, payload: P, waiting: Waiting, seen: impl FnMut(Option<u64>)) -> bool {
        let received = self.try_receive(payload, seen);
        if !received {
            pause(waiting);
        }
        received
    }

    /// Receives what there is, at most `max` records, their room made free together if the
    /// contender can. How many there were. It may sleep for the first one, and for no other.
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        (0..max)
            .take_while(|_| self.try_receive(payload, &mut seen))
            .count()
    }
}

/// Between two looks.
#[inline]
pub fn pause(waiting: Waiting) {
    match waiting {
        Waiting::Spin => core::hint::spin_loop(),
        Waiting::Yield | Waiting::Block => std::thread::yield_now(),
    }
}
