//! What players do in a slice, for every contender alike.
//!
//! In the part that counts there is the hand-off, the writing and the checking of records, and
//! nothing else: a sender reads the clock once in some [`STRIDE_BYTES`] of records, a receiver only
//! at its end. Only records at a fixed rate cost a look at the clock each, on both sides.
//!
//! | pattern | ends |
//! | --- | --- |
//! | stream, paced | by a last record for each receiver, once all senders are done; a contender that lost those too ends when nothing came for [`QUIET_NS`] |
//! | round trip | by the echo of a last record |

use hdrhistogram::Histogram;

use crate::clock::now_ns;
use crate::control::{Control, Over, Phase};
use crate::payload::{COUNT_BITS, LAST, Payload};
use crate::tally::{Seen, Sent, Tally};
use crate::transport::{Receive, Send, pause};
use crate::work::{Waiting, Work};

/// A sender reads the clock after so many bytes of records, and after 1024 records at the latest.
const STRIDE_BYTES: usize = 1 << 20;
/// Nothing for so long, after all was sent, is the end.
const QUIET_NS: u64 = 50_000_000;
/// Of a hundred, what reading the clock may take of round trips.
const CLOCK_PER_CENT: f64 = 1.0;
/// Records at a fixed rate count from here in the part that counts, so that a number tells when it
/// was due.
const PACED_FIRST: u64 = 1 << 40;
/// How much longer than twice its time a sender may take for the records that are due.
const LATE_NS: u64 = 1_000_000_000;
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
}

const PHASES: [(usize, Phase); 2] = [(0, Phase::WarmUp), (1, Phase::Timed)];

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds in order")
}

/// Sends as much as goes, as producer `nth`.
///
/// # Errors
/// See [`Stop`].
pub fn stream_out<P: Payload>(
    tx: &mut impl Send<P>,
    payload: P,
    part: &Part<'_>,
    nth: usize,
) -> Result<Played, Stop> {
    let work = part.work;
    let stride = (STRIDE_BYTES / work.payload).clamp(1, 1024) as u64;
    let stride = stride.next_multiple_of(work.batch as u64);
    let mut number = (nth as u64) << COUNT_BITS;
    let mut played = Played::default();
    for (time, phase) in PHASES {
        let first = number;
        played.began = part.control.meet(phase)?;
        let end = played.began + part.time_ns[time];
        played.ended = loop {
            send_records(tx, payload, number, stride, work);
            number += stride;
            let now = now_ns();
            if now >= end {
                break now;
            }
        };
        let records = number - first;
        played.sent = Some(Sent { first, records });
        end_stream(tx, payload, part, phase);
    }
    Ok(played)
}

#[inline]
fn send_records<P: Payload>(
    tx: &mut impl Send<P>,
    payload: P,
    first: u64,
    count: u64,
    work: &Work,
) {
    let (mut next, end, waiting) = (first, first + count, work.waiting);
    if work.batch == 1 {
        while next < end {
            tx.send(payload, next, waiting);
            next += 1;
        }
        return;
    }
    let batch = work.batch as u64;
    while next < end {
        #[expect(clippy::cast_possible_truncation, reason = "at most a batch")]
        let count = batch.min(end - next) as usize;
        let sent = tx.try_send_batch(payload, next, count);
        next += sent as u64;
        if sent == 0 {
            if waiting == Waiting::Block {
                tx.send(payload, next, waiting);
                next += 1;
            } else {
                pause(waiting);
            }
        }
    }
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

/// Receives what the senders send.
///
/// # Errors
/// See [`Stop`].
pub fn stream_in<P: Payload>(
    rx: &mut impl Receive<P>,
    payload: P,
    part: &Part<'_>,
) -> Result<Played, Stop> {
    let mut tally = Tally::default();
    let mut played = Played::default();
    for (_, phase) in PHASES {
        played.torn_before = tally.seen().torn;
        tally.begin(phase.last());
        played.began = part.control.meet(phase)?;
        let mut silence = Silence::default();
        let waiting = part.work.waiting;
        let quiet = loop {
            if tally.has_ended() {
                break None;
            }
            let received = if part.work.batch == 1 {
                rx.receive(payload, waiting, |number| tally.see(number))
            } else {
                receive_batch(rx, payload, part.work, |number| tally.see(number))
            };
            if !received
                && part.control.is_all_sent(phase)
                && let Some(since) = silence.is_long(tally.seen().records)
            {
                break Some(since);
            }
        };
        played.ended = quiet.unwrap_or_else(now_ns);
    }
    played.seen = Some(tally.seen());
    Ok(played)
}

#[inline]
fn receive_batch<P: Payload>(
    rx: &mut impl Receive<P>,
    payload: P,
    work: &Work,
    mut seen: impl FnMut(Option<u64>),
) -> bool {
    if rx.try_receive_batch(payload, work.batch, &mut seen) > 0 {
        return true;
    }
    if work.waiting == Waiting::Block {
        return rx.receive(payload, work.waiting, seen);
    }
    pause(work.waiting);
    false
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
    let first = trips.number;
    let began = now_ns();
    let end = began + part.time_ns[1];
    let ended = loop {
        let before = now_ns();
        trips.go(1)?;
        let after = now_ns();
        latency.saturating_record(after - before);
        if after >= end {
            break after;
        }
        trips.go(stride - 1)?;
    };
    let records = trips.number - first;
    trips.number = LAST;
    trips.one()?;
    Ok(Played {
        sent: Some(Sent { first, records }),
        began,
        ended,
        latency: Some(latency),
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

/// Every which trip is timed by itself, so that two looks at the clock weigh next to nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn stride_of(elapsed_ns: u64, trips: u64) -> u64 {
    let trip_ns = elapsed_ns as f64 / trips as f64;
    let clock_ns = 2.0 * crate::clock::cost_ns();
    let stride = clock_ns * 100.0 / CLOCK_PER_CENT / trip_ns.max(1.0);
    (stride as u64).clamp(1, 64).next_power_of_two()
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
    loop {
        match await_record(rx, payload, waiting) {
            Some(number) => {
                tx.send(payload, number, waiting);
                if number == LAST {
                    return Ok(Played::default());
                }
            }
            None => {
                return Err(Stop::Failed(
                    "a record was torn on its way there".to_owned(),
                ));
            }
        }
    }
}

/// When records are due, for sender and receiver alike.
struct Plan {
    began: u64,
    interval_ns: u64,
    first: u64,
    producers: u64,
}

impl Plan {
    fn new(began: u64, interval_ns: u64, phase: Phase, work: &Work) -> Self {
        let first = match phase {
            Phase::WarmUp => 0,
            Phase::Timed => PACED_FIRST,
        };
        Self {
            began,
            interval_ns,
            first,
            producers: work.producers as u64,
        }
    }

    /// Producers take turns within an interval.
    #[inline]
    fn due(&self, number: u64) -> u64 {
        let (producer, count) = (number >> COUNT_BITS, number & ((1 << COUNT_BITS) - 1));
        let shift = self.interval_ns * producer / self.producers;
        self.began
            + shift
            + count
                .wrapping_sub(self.first)
                .wrapping_mul(self.interval_ns)
    }
}

/// Sends a record an interval, as producer `nth`, whether or not the ones before are through.
///
/// # Errors
/// See [`Stop`]; also if what is due cannot be sent in much more than twice the time.
pub fn paced_out<P: Payload>(
    tx: &mut impl Send<P>,
    payload: P,
    part: &Part<'_>,
    interval_ns: u64,
    nth: usize,
) -> Result<Played, Stop> {
    let mut played = Played::default();
    // A sender with a processor of its own does not let go of it: the timer's lateness would be
    // charged to the records.
    let until_due = if part.work.producers == 1 {
        Waiting::Spin
    } else {
        Waiting::Yield
    };
    for (time, phase) in PHASES {
        played.began = part.control.meet(phase)?;
        let plan = Plan::new(played.began, interval_ns, phase, part.work);
        let (end, time_ns) = (played.began + part.time_ns[time], part.time_ns[time]);
        let first = plan.first | ((nth as u64) << COUNT_BITS);
        let mut number = first;
        let is_behind = loop {
            let due = plan.due(number);
            if due >= end {
                break false;
            }
            let now = loop {
                let now = now_ns();
                if now >= due {
                    break now;
                }
                pause(until_due);
            };
            if now > end + time_ns + LATE_NS {
                break true;
            }
            tx.send(payload, number, part.work.waiting);
            number += 1;
        };
        if is_behind {
            let (sent, planned) = (number - first, time_ns / interval_ns);
            let behind = format!("cannot keep the rate: sent {sent} of {planned} that were due");
            return Err(Stop::Failed(behind));
        }
        played.ended = now_ns();
        let records = number - first;
        played.sent = Some(Sent { first, records });
        end_stream(tx, payload, part, phase);
    }
    Ok(played)
}

/// Receives what comes at a fixed rate, and keeps how late it was.
///
/// # Errors
/// See [`Stop`].
pub fn paced_in<P: Payload>(
    rx: &mut impl Receive<P>,
    payload: P,
    part: &Part<'_>,
    interval_ns: u64,
) -> Result<Played, Stop> {
    let mut tally = Tally::default();
    let mut played = Played::default();
    let mut latency = histogram();
    for (_, phase) in PHASES {
        played.torn_before = tally.seen().torn;
        tally.begin(phase.last());
        latency.reset();
        played.began = part.control.meet(phase)?;
        let plan = Plan::new(played.began, interval_ns, phase, part.work);
        let mut silence = Silence::default();
        while !tally.has_ended() {
            let received = rx.receive(payload, part.work.waiting, |number| {
                if let Some(number) = number.filter(|number| *number < LAST - 1) {
                    latency.saturating_record(now_ns().saturating_sub(plan.due(number)));
                }
                tally.see(number);
            });
            if !received
                && part.control.is_all_sent(phase)
                && silence.is_long(tally.seen().records).is_some()
            {
                break;
            }
        }
        played.ended = now_ns();
    }
    played.seen = Some(tally.seen());
    played.latency = Some(latency);
    Ok(played)
}
