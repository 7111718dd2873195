//! What is done in a slice.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that a slice's players must know, but for who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What goes where.
    pub pattern: Pattern,
    /// Bytes of a record, at least 8.
    pub payload: usize,
    /// Records that are handed over in one call, at least 1.
    pub batch: usize,
    /// Records that the link holds, at least; a power of two.
    pub capacity: usize,
    /// What a player does that cannot go on.
    pub waiting: Waiting,
    /// How many send.
    pub producers: usize,
    /// How many receive.
    pub consumers: usize,
}

/// What goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// As much as goes, in one direction: throughput.
    Stream,
    /// One record under way at a time, there and back.
    RoundTrip,
    /// One record an interval, in one direction. Its latency counts from when it was due, not from
    /// when the sender came to it: who is held up is charged for it (no coordinated omission).
    Paced {
        /// From one record to the next.
        interval: Duration,
    },
}

/// What a player does that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// Looks again, with a processor of its own.
    Spin,
    /// Lets others run between two looks.
    Yield,
    /// As the contender blocks: sleeps in the kernel, sooner or later.
    Block,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("stream"),
            Self::RoundTrip => f.write_str("round trip"),
            Self::Paced { interval } => write!(f, "one record each {interval:?}"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spinning",
            Self::Yield => "yielding",
            Self::Block => "blocking",
        })
    }
}
