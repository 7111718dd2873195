//! As much as goes, in one direction.

use super::{PHASES, Part, Played, Silence, Stop, end_stream};
use crate::clock::now_ns;
use crate::pace::Pace;
use crate::payload::{COUNT_BITS, Payload};
use crate::tally::{Sent, Tally};
use crate::transport::{Receive, Send, pause};
use crate::work::{Waiting, Work};

/// A sender reads the clock after so many bytes of records, and after 1024 records at the latest.
const STRIDE_BYTES: usize = 1 << 20;

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
        let mut pace = Pace::default();
        let mut before = now_ns();
        played.ended = loop {
            send_records(tx, payload, number, stride, work);
            number += stride;
            let now = now_ns();
            pace.record(now - before, stride);
            before = now;
            if now >= end {
                break now;
            }
        };
        // Whoever yields or sleeps is off its processor on purpose.
        played.paced_ns = (work.waiting == Waiting::Spin).then(|| pace.mean_ns());
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
            tx.send(payload, next, waiting);
            next += 1;
        }
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
    let waiting = part.work.waiting;
    for (_, phase) in PHASES {
        played.torn_before = tally.seen().torn;
        tally.begin(phase.last());
        played.began = part.control.meet(phase)?;
        let mut silence = Silence::default();
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
