//! One record under way at a time, there and back.

use super::{Part, Played, Stop, histogram};
use crate::clock::now_ns;
use crate::control::Phase;
use crate::pace::Pace;
use crate::payload::{LAST, Payload};
use crate::tally::Sent;
use crate::transport::{Receive, Send};
use crate::work::Waiting;

/// Of a hundred, what reading the clock may take of round trips.
const CLOCK_PER_CENT: f64 = 1.0;

/// Sends a record, waits for its echo, and begins again.
///
/// # Errors
/// See [`Stop`].
pub fn ask<P: Payload>(
    tx: &mut impl Send<P>,
    rx: &mut impl Receive<P>,
    payload: P,
    part: &Part<'_>,
) -> Result<Played, Stop> {
    let mut trips = Trips {
        tx,
        rx,
        payload,
        waiting: part.work.waiting,
        number: 0,
    };
    let warm_up = part.control.meet(Phase::WarmUp)?;
    let mut now = warm_up;
    while trips.number == 0 || now < warm_up + part.time_ns[0] {
        trips.go(1)?;
        now = now_ns();
    }
    let stride = stride_of(now - warm_up, trips.number);

    let mut latency = histogram();
    let mut pace = Pace::default();
    let first = trips.number;
    let began = now_ns();
    let end = began + part.time_ns[1];
    let mut before = began;
    let ended = loop {
        trips.go(1)?;
        let after = now_ns();
        latency.saturating_record(after - before);
        trips.go(stride)?;
        before = now_ns();
        pace.record(before - after, stride);
        if before >= end {
            break before;
        }
    };
    let records = trips.number - first;
    trips.number = LAST;
    trips.one()?;
    Ok(Played {
        sent: Some(Sent { first, records }),
        began,
        ended,
        latency: Some(latency),
        paced_ns: Some(pace.median_ns()),
        ..Played::default()
    })
}

/// Both ends of the one who asks.
struct Trips<'e, P, S, R> {
    tx: &'e mut S,
    rx: &'e mut R,
    payload: P,
    waiting: Waiting,
    number: u64,
}

impl<P: Payload, S: Send<P>, R: Receive<P>> Trips<'_, P, S, R> {
    #[inline]
    fn go(&mut self, count: u64) -> Result<(), Stop> {
        for _ in 0..count {
            self.one()?;
            self.number += 1;
        }
        Ok(())
    }

    #[inline]
    fn one(&mut self) -> Result<(), Stop> {
        self.tx.send(self.payload, self.number, self.waiting);
        let echo = await_record(self.rx, self.payload, self.waiting);
        if echo == Some(self.number) {
            Ok(())
        } else {
            Err(other_record(self.number, echo))
        }
    }
}

/// How many trips go between two looks at the clock, so that these weigh next to nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn stride_of(elapsed_ns: u64, trips: u64) -> u64 {
    let trip_ns = elapsed_ns as f64 / trips as f64;
    let clock_ns = crate::clock::cost_ns();
    let stride = clock_ns * 100.0 / CLOCK_PER_CENT / trip_ns.max(1.0);
    (stride as u64).clamp(1, 32).next_power_of_two()
}

#[inline]
fn await_record<P: Payload>(rx: &mut impl Receive<P>, payload: P, waiting: Waiting) -> Option<u64> {
    let mut found = None;
    while !rx.receive(payload, waiting, |number| found = number) {}
    found
}

#[cold]
fn other_record(expected: u64, found: Option<u64>) -> Stop {
    Stop::Failed(match found {
        Some(found) => format!("record {found} came instead of {expected}"),
        None => format!("record {expected} was torn"),
    })
}

/// Sends back what comes.
///
/// # Errors
/// See [`Stop`].
pub fn echo<P: Payload>(
    tx: &mut impl Send<P>,
    rx: &mut impl Receive<P>,
    payload: P,
    part: &Part<'_>,
) -> Result<Played, Stop> {
    let waiting = part.work.waiting;
    part.control.meet(Phase::WarmUp)?;
    while let Some(number) = await_record(rx, payload, waiting) {
        tx.send(payload, number, waiting);
        if number == LAST {
            return Ok(Played::default());
        }
    }
    let why = "a record was torn on its way there";
    Err(Stop::Failed(why.to_owned()))
}
