//! What players do in a slice, for every contender alike.
//!
//! In the part that counts there is the hand-off, the writing and the checking of records, and
//! nothing else. A sender reads the clock once in a mebibyte of records or less, see
//! [`pace`](crate::pace), a receiver only at its end; whoever waits for echoes times one trip by
//! itself, for the percentiles, and then a group of them. Only records at a fixed rate cost a look
//! at the clock each, on both sides.
//!
//! A stream ends by a last record for each receiver, once all senders are done; a contender that
//! lost those too ends when nothing came for `QUIET_NS`. Round trips end by the echo of a last
//! record.

mod paced;
mod stream;
mod trips;

pub use paced::{paced_in, paced_out};
pub use stream::{stream_in, stream_out};
pub use trips::{ask, echo};

use hdrhistogram::Histogram;

use crate::clock::now_ns;
use crate::control::{Control, Over, Phase};
use crate::payload::Payload;
use crate::tally::{Seen, Sent};
use crate::transport::Send;
use crate::work::Work;

/// Nothing for so long, after all was sent, is the end.
const QUIET_NS: u64 = 50_000_000;
/// The longest latency that is told from longer ones: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// What all players of a slice are told.
#[derive(Debug)]
pub struct Part<'c> {
    /// Where they meet.
    pub control: &'c Control,
    /// What they do.
    pub work: &'c Work,
    /// Nanoseconds of the warm-up and of the part that counts.
    pub time_ns: [u64; 2],
}

/// Why a player gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Another one failed.
    Over,
    /// This one did.
    Failed(String),
}

impl From<Over> for Stop {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// What a player did in the part that counts.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// If it sent.
    pub sent: Option<Sent>,
    /// If it received.
    pub seen: Option<Seen>,
    /// Torn records of the warm-up.
    pub torn_before: u64,
    /// When it began.
    pub began: u64,
    /// When it had the last record, or sent it.
    pub ended: u64,
    /// If it measured any.
    pub latency: Option<Histogram<u64>>,
    /// If it timed groups of records or trips: nanoseconds of one, without interruptions.
    pub paced_ns: Option<f64>,
}

const PHASES: [(usize, Phase); 2] = [(0, Phase::WarmUp), (1, Phase::Timed)];

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds in order")
}

/// The last producer ends the stream for every receiver.
fn end_stream<P: Payload>(tx: &mut impl Send<P>, payload: P, part: &Part<'_>, phase: Phase) {
    if part.control.is_last_producer(phase) {
        for _ in 0..part.work.consumers {
            tx.send(payload, phase.last(), part.work.waiting);
        }
        part.control.set_all_sent(phase);
    }
}

/// How long nothing has come after everything was sent.
#[derive(Default)]
struct Silence {
    since: Option<(u64, u64)>,
}

impl Silence {
    /// Told of a look in vain; since when nothing has come, if that is long enough.
    #[cold]
    fn is_long(&mut self, records: u64) -> Option<u64> {
        let now = now_ns();
        match self.since {
            Some((since, then)) if then == records => (now - since > QUIET_NS).then_some(since),
            _ => {
                self.since = Some((now, records));
                None
            }
        }
    }
}
