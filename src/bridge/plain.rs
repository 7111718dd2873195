//! Peers that are no bridges: lines, or records behind their lengths. At most once.
//!
//! A plain peer has no name, confirms nothing, and cannot say where to go on. So a record counts as
//! delivered when the kernel has taken it, and what a connection had received of a record when it
//! ended is dropped.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::around::{Around, Told};
use super::clock::{Backoff, now};
use super::error::{BridgeError, LinkError};
use super::feed::{Feed, Read};
use super::frame::first_record;
use super::intake::Intake;
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::url::Framing;

const BOUND: Duration = Duration::from_millis(250);

/// Connections to plain peers, one at a time.
struct Plain<'b> {
    around: Around<'b>,
    link: Option<Link>,
    backoff: Backoff,
    told: Told,
    stopped: Option<Instant>,
    summary: Summary,
}

impl<'b> Plain<'b> {
    fn new(mut around: Around<'b>) -> Result<Self, BridgeError> {
        around.listen()?;
        let settings = around.settings;
        Ok(Self {
            backoff: Backoff::new(settings.backoff_first, settings.backoff_longest),
            around,
            link: None,
            told: Told::Nothing,
            stopped: None,
            summary: Summary::default(),
        })
    }

    /// Waits for the ring, if it is given, the network, or the wish to stop. Returns whether the
    /// link may be read.
    fn wait(
        &mut self,
        ring: Option<std::os::fd::BorrowedFd<'_>>,
        reads: bool,
        timeout: Duration,
    ) -> Result<bool, BridgeError> {
        let mut poller = Poller::default();
        let is_new = self.stopped.is_none();
        let stop = is_new.then(|| poller.add(self.around.stop, For::Reading));
        if let Some(listener) = self
            .around
            .port
            .descriptor()
            .filter(|_| self.link.is_none())
        {
            poller.add(listener, For::Reading);
        }
        if let Some(ring) = ring {
            poller.add(ring, For::Reading);
        }
        let link = self.link.as_ref().and_then(|link| {
            let writes = link.has_more();
            let what = if writes { For::Writing } else { For::Reading };
            (writes || reads).then(|| poller.add(link.as_fd(), what))
        });
        let ready = poller.wait(timeout)?;
        let now = now();
        if stop.is_some_and(|stop| ready[stop]) {
            self.stopped = Some(now + self.around.settings.drain_timeout);
            (self.around.report)(&Event::Draining { unconfirmed: 0 });
        }
        self.connect(now)?;
        Ok(link.is_some_and(|link| ready[link]))
    }

    fn connect(&mut self, now: Instant) -> Result<(), BridgeError> {
        if self.link.is_some() {
            return Ok(());
        }
        let connected = if !self.around.port.dials() {
            self.around.accept()
        } else if now >= self.backoff.due() {
            let connected = self.around.dial(&mut self.told);
            if connected.is_none() {
                self.backoff.failed(now);
            }
            connected
        } else {
            None
        };
        if let Some(connected) = connected {
            (self.around.report)(&Event::Connected {
                peer: &connected.peer,
                name: "a plain peer",
                next: self.summary.confirmed,
            });
            self.summary.connections += 1;
            self.backoff.succeeded();
            self.link = Some(Link::new(connected, 0, now));
        }
        Ok(())
    }

    fn hang_up(&mut self, why: &LinkError) {
        self.backoff.failed(now());
        if let Some(link) = self.link.take() {
            let (peer, name) = (link.peer(), "");
            (self.around.report)(&Event::Disconnected { peer, name, why });
        }
    }

    /// Records of which nobody knows whether they arrived.
    fn lost(&mut self, records: u64) {
        self.summary.gaps += 1;
        self.summary.gap_records += records;
    }

    /// Stores the figures of this turn. `is_idle` if nothing is to be moved.
    fn tell_figures(&self, position: u64, is_idle: bool) {
        let gauges = self.around.gauges;
        gauges.connected.set(self.link.is_some().into());
        gauges.wanted.set(1);
        let again = self.summary.connections.saturating_sub(1);
        gauges.reconnects.set(again);
        gauges.count(&self.summary);
        if self.stopped.is_some() {
            gauges.drains();
        }
        gauges.turn(now(), position, is_idle && self.link.is_some());
    }

    fn until_next(&self) -> Duration {
        let now = now();
        let due = match (&self.link, self.stopped) {
            (None, _) if self.around.port.dials() => self.backoff.due(),
            (_, Some(deadline)) => deadline,
            _ => return BOUND,
        };
        due.saturating_duration_since(now)
            .clamp(Duration::from_millis(1), BOUND)
    }
}

/// Sends a ring's records as plain ones.
pub(super) fn send<F: Feed>(mut feed: F, around: Around<'_>) -> Result<Summary, BridgeError> {
    let framing = around.socket.framing;
    let batch = around.settings.batch_bytes;
    let mut plain = Plain::new(around)?;
    // A lot, as bytes of the peer's framing, and what it was made of.
    let mut pending: Option<(F::Lot, u64)> = None;
    let mut bytes = Vec::new();
    let mut closed = false;
    loop {
        // Ends by a stop, or by the end of the stream.
        let mut hungry = false;
        if plain.link.is_some() && pending.is_none() && plain.stopped.is_none() {
            match feed.read(batch)? {
                Read::Lot { count, lot } => {
                    bytes.clear();
                    encode(feed.bytes(&lot), framing, &mut bytes)?;
                    if let Some(link) = &mut plain.link {
                        link.begin_plain(bytes.len());
                    }
                    pending = Some((lot, count));
                }
                Read::Empty => hungry = true,
                Read::Closed => (hungry, closed) = (true, true),
            }
        }
        if let (Some(link), Some(_)) = (&mut plain.link, &pending) {
            match link.write(&bytes, now()) {
                Ok(_) if !link.has_more() => {
                    if let Some((lot, count)) = pending.take() {
                        feed.release(lot);
                        plain.summary.confirmed += count;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(why) => {
                    plain.hang_up(&why);
                    // Which of them the kernel had taken nobody knows: none is sent twice.
                    if let Some((lot, count)) = pending.take() {
                        feed.release(lot);
                        plain.lost(count);
                    }
                }
            }
        }
        let late = plain.stopped.is_some_and(|deadline| now() >= deadline);
        if late || (plain.stopped.is_some() || closed) && pending.is_none() {
            plain.summary.all_confirmed = pending.is_none();
            plain.summary.ended = closed;
            return Ok(plain.summary);
        }
        if hungry {
            feed.arm().map_err(BridgeError::system("watch the ring"))?;
            feed.check()?;
            if feed.committed() > feed.next() {
                continue;
            }
        }
        let of_pending = pending.as_ref().map_or(0, |(_, count)| *count);
        let released = feed.next() - of_pending;
        let gauges = plain.around.gauges;
        let (records, bytes) = feed.lag(released);
        gauges.lag_bytes.set(bytes);
        gauges.lag_records.set(records);
        gauges.read.set(feed.next());
        gauges.in_flight.set(of_pending);
        gauges
            .published
            .set(plain.summary.confirmed + plain.summary.gap_records + of_pending);
        plain.tell_figures(released, records == 0);
        let ring = if hungry { feed.descriptor().ok() } else { None };
        let timeout = plain.until_next();
        if plain.wait(ring, true, timeout)?
            && let Some(link) = &mut plain.link
        {
            // What it says is of no interest, but that it is still there.
            let heard = link.read(now());
            link.take(usize::MAX);
            if let Err(why) = heard {
                plain.hang_up(&why);
                if let Some((lot, count)) = pending.take() {
                    feed.release(lot);
                    plain.lost(count);
                }
            }
        }
    }
}

fn encode(mut records: &[u8], framing: Framing, out: &mut Vec<u8>) -> Result<(), BridgeError> {
    while !records.is_empty() {
        let Ok(record) = first_record(records) else {
            return Err(BridgeError::Ends("the ring's records do not add up"));
        };
        if framing == Framing::Len32 {
            let len = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
            out.extend(len.to_le_bytes());
        }
        out.extend(record.payload);
        if framing == Framing::Lines {
            out.push(b'\n');
        }
        records = &records[record.span..];
    }
    Ok(())
}

/// Commits the records of plain peers.
pub(super) fn receive(mut intake: Intake, around: Around<'_>) -> Result<Summary, BridgeError> {
    let framing = around.socket.framing;
    let mut plain = Plain::new(around)?;
    let mut full = false;
    loop {
        // Ends by a stop.
        let limit = usize::try_from(intake.largest_record()).unwrap_or(usize::MAX);
        while let Some(link) = &mut plain.link {
            match next_record(link.bytes(), framing, limit) {
                Ok(Some((record, taken))) => {
                    full = !intake.push(record)?;
                    if full {
                        break;
                    }
                    link.take(taken);
                    plain.summary.confirmed += 1;
                }
                Ok(None) => break,
                Err(why) => plain.hang_up(&why),
            }
        }
        let late = plain.stopped.is_some_and(|deadline| now() >= deadline);
        if late || plain.stopped.is_some() && !full {
            plain.summary.all_confirmed = !full;
            return Ok(plain.summary);
        }
        if full {
            intake
                .arm()
                .map_err(BridgeError::system("watch the ring"))?;
            intake.check()?;
        }
        let received = plain.summary.confirmed;
        plain.around.gauges.read.set(received);
        plain.tell_figures(received, !full);
        let ring = if full { intake.descriptor().ok() } else { None };
        // A look after arming: what came between is found at once, or after a short wait.
        let timeout = plain.until_next().min(if full {
            Duration::from_millis(10)
        } else {
            BOUND
        });
        if plain.wait(ring, !full, timeout)?
            && let Some(link) = &mut plain.link
            && let Err(why) = link.read(now())
        {
            plain.hang_up(&why);
        }
    }
}

/// The first record, and how many bytes it took.
fn next_record(
    bytes: &[u8],
    framing: Framing,
    limit: usize,
) -> Result<Option<(&[u8], usize)>, LinkError> {
    let too_long = || {
        Err(LinkError::Nonsense(
            "sends a record that is too long for the ring",
        ))
    };
    if framing == Framing::Len32 {
        let Some((len, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > limit {
            return too_long();
        }
        return Ok(rest.get(..len).map(|record| (record, 4 + len)));
    }
    match memchr_newline(&bytes[..bytes.len().min(limit + 1)]) {
        Some(at) => Ok(Some((&bytes[..at], at + 1))),
        None if bytes.len() > limit => too_long(),
        None => Ok(None),
    }
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}
