//! What a bridge tells of itself in numbers, to whoever looks while it runs.
//!
//! A driver stores, anybody reads, and nobody waits for anybody. Each figure is a word of its own:
//! two that are read together may be a turn of the driver apart.
//!
//! # Invariants
//! 1. Counters never go back, positions only when the ring's own do.
//! 2. The stamp of progress is set when a record is confirmed, and at each turn at which there is
//!    none to confirm. So its age says for how long something has been owed in vain; while a driver
//!    is idle it stays below the longest wait of a turn, a quarter of a second.
//! 3. Nothing here costs anything a record: drivers store once a turn, and count once a frame.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::clock::now;
use super::figures::{Figures, LatencyFigures, SubscriberFigures};
use super::report::Summary;
use crate::layout::SUBSCRIBERS;
use crate::sync::{AtomicU64, Ordering};

/// Upper bounds of the buckets of a latency, in microseconds; whatever is above them has one more.
const BOUNDS_MICROS: [u32; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A number that one thread stores and anybody reads.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

impl Default for Word {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Word {
    fn get(&self) -> u64 {
        // relaxed: nothing is published with it.
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: u64) {
        // relaxed: nothing is published with it.
        self.0.store(value, Ordering::Relaxed);
    }

    /// Only the driver's thread writes, so this need not be one step.
    pub(super) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }
}

/// The figures of a bridge, as its driver stores them; [`Figures`] says what they mean.
#[derive(Debug)]
pub struct Gauges {
    born: Instant,
    sends: bool,
    pub(super) read: Word,
    pub(super) confirmed: Word,
    pub(super) lag_records: Word,
    pub(super) lag_bytes: Word,
    pub(super) in_flight: Word,
    pub(super) published: Word,
    pub(super) republished: Word,
    pub(super) duplicates: Word,
    pub(super) reconnects: Word,
    pub(super) connected: Word,
    pub(super) wanted: Word,
    pub(super) forbidden: Word,
    pub(super) blocked: Word,
    nacked: Word,
    returned: Word,
    confirmations: Word,
    gaps: Word,
    gap_records: Word,
    connections: Word,
    draining: Word,
    /// Nanoseconds since `born`, as the next one.
    progressed: Word,
    turned: Word,
    latency: Latency,
    rows: [Row; SUBSCRIBERS],
}

/// How long frames took to be confirmed, counted by records.
#[derive(Debug, Default)]
struct Latency {
    buckets: [Word; BOUNDS_MICROS.len() + 1],
    nanos: Word,
}

#[derive(Debug, Default)]
struct Row {
    name: OnceLock<String>,
    confirmed: Word,
    in_flight: Word,
    connected: Word,
}

impl Gauges {
    pub(super) fn new(sends: bool) -> Self {
        Self {
            born: now(),
            sends,
            read: Word::default(),
            confirmed: Word::default(),
            lag_records: Word::default(),
            lag_bytes: Word::default(),
            in_flight: Word::default(),
            published: Word::default(),
            republished: Word::default(),
            duplicates: Word::default(),
            reconnects: Word::default(),
            connected: Word::default(),
            wanted: Word::default(),
            forbidden: Word::default(),
            blocked: Word::default(),
            nacked: Word::default(),
            returned: Word::default(),
            confirmations: Word::default(),
            gaps: Word::default(),
            gap_records: Word::default(),
            connections: Word::default(),
            draining: Word::default(),
            progressed: Word::default(),
            turned: Word::default(),
            latency: Latency::default(),
            rows: Default::default(),
        }
    }

    /// What the driver counts for its summary too.
    pub(super) fn count(&self, summary: &Summary) {
        self.confirmations.set(summary.confirmed);
        self.gaps.set(summary.gaps);
        self.gap_records.set(summary.gap_records);
        self.connections.set(summary.connections);
    }

    /// The same to or from a broker, where a session stands in the place of a connection.
    #[cfg(feature = "bridge-amqp")]
    pub(super) fn count_at_broker(&self, summary: &Summary) {
        self.count(summary);
        self.wanted.set(1);
        self.reconnects.set(summary.connections.saturating_sub(1));
        self.published.set(summary.published);
        self.republished.set(summary.republished);
        self.nacked.set(summary.nacked);
        self.returned.set(summary.returned);
        self.duplicates.set(summary.duplicates);
    }

    /// The driver has turned at `now`, and stands where it does. `is_idle` if nothing is owed.
    pub(super) fn turn(&self, now: Instant, confirmed: u64, is_idle: bool) {
        let nanos = nanos(now.saturating_duration_since(self.born));
        if is_idle || self.confirmed.get() != confirmed {
            self.progressed.set(nanos);
        }
        // Behind the other stamp, and read before it: an idle driver never seems to be late.
        self.turned.set(nanos);
        self.confirmed.set(confirmed);
    }

    /// It is to end.
    pub(super) fn drains(&self) {
        self.draining.set(1);
    }

    /// `records` were confirmed so long after they were sent.
    pub(super) fn confirmed_after(&self, latency: Duration, records: u64) {
        let micros = latency.as_micros();
        let place = BOUNDS_MICROS.partition_point(|bound| u128::from(*bound) < micros);
        self.latency.buckets[place].add(records);
        self.latency
            .nanos
            .add(nanos(latency).saturating_mul(records));
    }

    /// The row of the subscriber with that number.
    pub(super) fn subscriber(&self, number: usize, name: &str, figures: (u64, u64, bool)) {
        let Some(row) = self.rows.get(number) else {
            return;
        };
        let (confirmed, in_flight, connected) = figures;
        row.confirmed.set(confirmed);
        row.in_flight.set(in_flight);
        row.connected.set(connected.into());
        if row.name.get().is_none() {
            // The last of all, so that a row has a name when it has figures.
            let _named = row.name.set(name.to_owned());
        }
    }

    /// All of them, at this moment.
    pub fn figures(&self) -> Figures {
        let age = now().saturating_duration_since(self.born);
        let since = |stamp: &Word| age.saturating_sub(Duration::from_nanos(stamp.get()));
        let turn_age = since(&self.turned);
        Figures {
            sends: self.sends,
            read: self.read.get(),
            confirmed: self.confirmed.get(),
            lag_records: self.lag_records.get(),
            lag_bytes: self.lag_bytes.get(),
            in_flight: self.in_flight.get(),
            published: self.published.get(),
            confirmations: self.confirmations.get(),
            republished: self.republished.get(),
            duplicates: self.duplicates.get(),
            nacked: self.nacked.get(),
            returned: self.returned.get(),
            is_blocked: self.blocked.get() != 0,
            gaps: self.gaps.get(),
            gap_records: self.gap_records.get(),
            connections: self.connections.get(),
            reconnects: self.reconnects.get(),
            connected: self.connected.get(),
            wanted: self.wanted.get(),
            forbidden: self.forbidden.get(),
            draining: self.draining.get() != 0,
            progress_age: since(&self.progressed),
            turn_age,
            confirm_latency: self.latency.figures(),
            subscribers: self.rows.iter().filter_map(Row::figures).collect(),
        }
    }
}

impl Latency {
    fn figures(&self) -> LatencyFigures {
        let bounds = BOUNDS_MICROS.map(|micros| Duration::from_micros(micros.into()));
        let bounds = bounds.into_iter().chain([Duration::MAX]);
        let buckets = bounds.zip(self.buckets.iter().map(Word::get)).collect();
        LatencyFigures {
            buckets,
            sum: Duration::from_nanos(self.nanos.get()),
        }
    }
}

impl Row {
    fn figures(&self) -> Option<SubscriberFigures> {
        Some(SubscriberFigures {
            name: self.name.get()?.clone(),
            confirmed: self.confirmed.get(),
            in_flight: self.in_flight.get(),
            is_connected: self.connected.get() != 0,
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
