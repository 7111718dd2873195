//! A record an interval, whose latency counts from when it was due.

use super::{PHASES, Part, Played, Silence, Stop, end_stream, histogram};
use crate::clock::now_ns;
use crate::control::Phase;
use crate::payload::{COUNT_BITS, LAST, Payload};
use crate::tally::{Sent, Tally};
use crate::transport::{Receive, Send, pause};
use crate::work::{Waiting, Work};

/// Records at a fixed rate count from here in the part that counts, so that a number tells when it
/// was due.
const TIMED_FIRST: u64 = 1 << 40;
/// How much longer than twice its time a sender may take for the records that are due.
const LATE_NS: u64 = 1_000_000_000;

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
            Phase::Timed => TIMED_FIRST,
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
