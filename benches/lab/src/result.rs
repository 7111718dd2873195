//! What was found, as programs read it: `--json` writes it, `--baseline` reads it.

use serde::{Deserialize, Serialize};

use crate::transport::Place;
use crate::work::Work;

/// Changes whenever a field changes its meaning.
pub const REPORT_VERSION: u32 = 1;

/// One run of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Where it ran.
    pub machine: Machine,
    /// The command line that made it.
    pub command: String,
    /// Seconds since 1970 when it began.
    pub began: u64,
    /// What was measured, in order.
    pub scenarios: Vec<Scenario>,
}

/// Where a run took place, with what a figure depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// Processors that may be used.
    pub cpus: Vec<usize>,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor, if it can be read.
    pub governor: Option<String>,
    /// The code that was measured: version, and commit if known.
    pub annulus: String,
    /// Versions of the others, by name.
    pub versions: Vec<(String, String)>,
    /// Nanoseconds that reading the clock takes.
    pub clock_ns: f64,
    /// What the doctor found that spoils a measurement here.
    pub warnings: Vec<String>,
}

/// The same work by all contenders, in turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Short, unique and stable: comparisons find it by this.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What is done.
    pub work: Work,
    /// What the floor of this work is, in words.
    pub floor: String,
    /// Nanoseconds of the floor in all its slices.
    pub floor_ns: Vec<f64>,
    /// One for each contender.
    pub rows: Vec<Row>,
}

/// One contender in one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// As the contender is named.
    pub contender: String,
    /// Where its players lived.
    pub place: Place,
    /// The slices that count.
    pub slices: Vec<Slice>,
    /// Slices that the machine disturbed, after as many repeats as are allowed.
    pub left_out: u32,
    /// Why there are no slices, or fewer: it cannot, it wedged, it tore a record.
    pub failure: Option<String>,
    /// Latencies of all slices together, for round trips and paced streams.
    pub latency: Option<Latency>,
}

/// One slice that counts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Nanoseconds a record of a stream, or a round trip, without interruptions if the players
    /// spin (see [`pace`](crate::pace)). Of records at a fixed rate: the median latency.
    pub ns: f64,
    /// The floor's, right before and right after.
    pub floor_ns: [f64; 2],
    /// Records received.
    pub records: u64,
    /// Records sent and never received.
    pub lost: u64,
    /// Records received once more.
    pub repeated: u64,
}

impl Slice {
    /// Of the contender's time to the floor's; for a stream its inverse is the share of the
    /// floor's throughput.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ns / f64::midpoint(self.floor_ns[0], self.floor_ns[1])
    }
}

/// A histogram, with its percentiles beside it for those who do not decode it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Nanoseconds at 50, 99, 99.9 and 99.99 per cent, and the greatest.
    pub p50: u64,
    /// At 99 per cent.
    pub p99: u64,
    /// At 99.9 per cent.
    pub p999: u64,
    /// At 99.99 per cent.
    pub p9999: u64,
    /// The greatest.
    pub max: u64,
    /// How many were measured.
    pub count: u64,
    /// HdrHistogram's V2 encoding, in hexadecimal digits.
    pub hdr: String,
}
