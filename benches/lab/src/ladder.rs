//! The scenarios that everybody wants to see, and those that somebody asks for.
//!
//! From the machine's floors over the rings to the kernel's ways, on the same works. Scenarios have
//! names such as `round-trip/64B`, `stream/64B/batch-32`, `stream/64B/2+2/blocking`: comparisons
//! find them by these.

mod floors;

use core::time::Duration;

use crate::contender;
use crate::contender::Contender;
use crate::contenders::{Backing, Bytes, EventFd, Mpmc, PosixQueue, Seqpacket, Spsc};
use crate::floors::{Records, Slots};
use crate::slices::{Bench, Floor};
use crate::work::{Pattern, Waiting, Work};

use floors::floors_themselves;

/// A group of contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// annulus' byte ring: one producer, one consumer.
    Spsc,
    /// annulus' slot ring: many of both.
    Mpmc,
    /// The kernel's ways.
    Kernel,
}

/// What somebody asks for; what is `None` or empty is as in the usual ladder.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Which groups.
    pub kinds: Vec<Kind>,
    /// Bytes of a record.
    pub payloads: Vec<usize>,
    /// Records a call.
    pub batch: Option<usize>,
    /// Records that a link holds.
    pub capacity: Option<usize>,
    /// What a player does that cannot go on.
    pub waiting: Option<Waiting>,
    /// Producers and consumers.
    pub players: Option<(usize, usize)>,
    /// From record to record: instead of streams and round trips.
    pub interval: Option<Duration>,
    /// Where rings lie.
    pub backing: Backing,
}

impl Choice {
    /// Whether it leaves the usual ladder, but for who climbs it.
    fn is_special(&self) -> bool {
        !self.payloads.is_empty()
            || self.batch.is_some()
            || self.waiting.is_some()
            || self.players.is_some()
            || self.interval.is_some()
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn work(&self, pattern: Pattern, payload: usize, waiting: Waiting) -> Work {
        Work {
            pattern,
            payload,
            batch: 1,
            capacity: self.capacity.unwrap_or_else(|| usual_capacity(payload)),
            waiting,
            producers: 1,
            consumers: 1,
        }
    }
}

/// A mebibyte of records, but 16 at least and 4096 at most.
#[must_use]
pub fn usual_capacity(payload: usize) -> usize {
    let records = ((1 << 20) / payload.max(1)).clamp(16, 4096);
    1 << records.ilog2()
}

/// Records at a fixed rate come this far from each other in the usual ladder: 100,000 a second.
const USUAL_INTERVAL: Duration = Duration::from_micros(10);

/// The scenarios of a choice, to be run on these processors.
#[must_use]
pub fn climb(choice: &Choice, cpus: &[usize]) -> Vec<Bench> {
    let works = if choice.is_special() {
        special_works(choice, cpus)
    } else {
        usual_works(choice, cpus)
    };
    let floors = (!choice.is_special()).then(|| floors_themselves(choice, cpus));
    let benches = works.into_iter().map(|(work, with_kernel)| {
        let mut contenders = Vec::new();
        let backing = choice.backing;
        // Beside each ring the same work without what it adds; neither of the bare ones sleeps.
        let spins = work.waiting != Waiting::Block;
        if choice.has(Kind::Spsc) && work.producers + work.consumers == 2 {
            contenders.push(contender!(work.payload, Spsc { backing }));
            contenders.extend(spins.then(|| contender!(work.payload, Records)));
        }
        if choice.has(Kind::Mpmc) {
            contenders.push(contender!(work.payload, Mpmc { backing }));
            contenders.extend(spins.then(|| contender!(work.payload, Slots)));
        }
        if choice.has(Kind::Kernel) && (with_kernel || choice.kinds == [Kind::Kernel]) {
            contenders.extend(kernels_ways(&work));
        }
        bench(work, contenders, cpus)
    });
    let floors = floors.into_iter().flatten();
    floors
        .chain(benches)
        .filter(|bench| !bench.contenders.is_empty())
        .collect()
}

/// A scenario of a work, with its floor, named as it is by everybody.
#[must_use]
pub fn bench(work: Work, contenders: Vec<Box<dyn Contender>>, cpus: &[usize]) -> Bench {
    Bench {
        name: name_of(&work),
        title: title_of(&work),
        work,
        floor: Floor::of(&work, cpus),
        contenders,
    }
}

/// Works of the usual ladder, and whether the kernel's ways are shown beside the rings: on streams
/// only where all block, as nobody lets them spin.
fn usual_works(choice: &Choice, cpus: &[usize]) -> Vec<(Work, bool)> {
    let busy = busiest(cpus, 2);
    let mut works = Vec::new();
    for payload in [8, 56, 64, 4 << 10, 64 << 10] {
        let with_kernel = matches!(payload, 64 | 4096);
        works.push((choice.work(Pattern::RoundTrip, payload, busy), with_kernel));
    }
    works.push((choice.work(Pattern::RoundTrip, 64, Waiting::Block), true));
    for payload in [8, 64, 4 << 10, 64 << 10, 1 << 20] {
        let one_by_one = choice.work(Pattern::Stream, payload, busy);
        works.push((one_by_one, false));
        if payload <= 64 {
            let batch = 32;
            works.push((
                Work {
                    batch,
                    ..one_by_one
                },
                false,
            ));
        }
    }
    for payload in [64, 4 << 10] {
        works.push((choice.work(Pattern::Stream, payload, Waiting::Block), true));
    }
    for players in [2, 4] {
        let work = Work {
            producers: players,
            consumers: players,
            ..choice.work(Pattern::Stream, 64, Waiting::Block)
        };
        works.push((work, true));
    }
    let paced = Pattern::Paced {
        interval: USUAL_INTERVAL,
    };
    works.push((choice.work(paced, 64, busy), false));
    works.push((choice.work(paced, 64, Waiting::Block), true));
    works
}

fn special_works(choice: &Choice, cpus: &[usize]) -> Vec<(Work, bool)> {
    let payloads = match choice.payloads.as_slice() {
        [] => &[64],
        payloads => payloads,
    };
    let (producers, consumers) = choice.players.unwrap_or((1, 1));
    let batch = choice.batch.unwrap_or(1);
    let waiting = choice
        .waiting
        .unwrap_or(busiest(cpus, producers + consumers));
    let patterns = match choice.interval {
        Some(interval) => vec![Pattern::Paced { interval }],
        None if batch > 1 || producers + consumers > 2 => vec![Pattern::Stream],
        None => vec![Pattern::RoundTrip, Pattern::Stream],
    };
    let mut works = Vec::new();
    for pattern in patterns {
        for payload in payloads {
            let work = Work {
                batch,
                producers,
                consumers,
                ..choice.work(pattern, *payload, waiting)
            };
            works.push((work, true));
        }
    }
    works
}

/// Spinning if each player has a processor of its own, blocking otherwise.
fn busiest(cpus: &[usize], players: usize) -> Waiting {
    if distinct(cpus) >= players {
        Waiting::Spin
    } else {
        Waiting::Block
    }
}

fn distinct(cpus: &[usize]) -> usize {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    cpus.len()
}

fn kernels_ways(work: &Work) -> Vec<Box<dyn Contender>> {
    let bytes = work.payload;
    let mut ways = vec![contender!(bytes, Seqpacket), contender!(bytes, PosixQueue)];
    if work.producers + work.consumers == 2 {
        ways.extend([
            contender!(bytes, Bytes::Pipe),
            contender!(bytes, Bytes::Unix),
            contender!(bytes, Bytes::Tcp),
            contender!(bytes, EventFd),
        ]);
    }
    ways
}

/// `64B`, `4KiB`, `1MiB`.
fn size_of(bytes: usize) -> String {
    match bytes {
        0 => "0B".to_owned(),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

/// Records a second.
fn rate_of(interval: Duration) -> u128 {
    1_000_000_000 / interval.as_nanos().max(1)
}

/// The name of a work's scenario.
#[must_use]
pub fn name_of(work: &Work) -> String {
    let pattern = match work.pattern {
        Pattern::Stream => "stream".to_owned(),
        Pattern::RoundTrip => "round-trip".to_owned(),
        Pattern::Paced { interval } => format!("paced-{}", rate_of(interval)),
    };
    let mut parts = vec![pattern, size_of(work.payload)];
    if work.batch > 1 {
        parts.push(format!("batch-{}", work.batch));
    }
    if work.producers + work.consumers > 2 {
        parts.push(format!("{}+{}", work.producers, work.consumers));
    }
    if work.waiting != Waiting::Spin {
        parts.push(work.waiting.to_string());
    }
    parts.join("/")
}

fn title_of(work: &Work) -> String {
    let size = size_of(work.payload);
    let mut title = match work.pattern {
        Pattern::Stream => format!("{size} records, as fast as they go"),
        Pattern::RoundTrip => format!("{size} there and back, one at a time"),
        Pattern::Paced { interval } => format!("{size} records, {} a second", rate_of(interval)),
    };
    if work.batch > 1 {
        title += &format!(", {} a call", work.batch);
    }
    title += &format!(", {} to {}", work.producers, work.consumers);
    title + &format!(", {}", work.waiting)
}
