//! A ring as the destination of a bridge: records are committed together with how far they reach in
//! the ring that they come from. A byte ring takes a frame's records in one batch, a slot ring one
//! after the other.

#[cfg(feature = "bridge-amqp")]
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

#[cfg(feature = "bridge-amqp")]
use super::broker::{Delivery, Seen};
use super::error::{BridgeError, LinkError};
use super::frame::{FrameError, StreamId, WireRecord, first_record};
use crate::TryClaimError;
use crate::spsc::Origin;
use crate::{mpmc, spsc};

/// Who writes to the ring.
#[derive(Debug)]
pub(super) enum Writing {
    Bytes(spsc::Producer),
    /// In the ring's seat for a bridge.
    Slots(mpmc::Producer),
}

/// The same of either.
macro_rules! either {
    ($writing:expr, $producer:ident => $what:expr) => {
        match $writing {
            Writing::Bytes($producer) => $what,
            Writing::Slots($producer) => $what,
        }
    };
}

/// A ring that is written to.
#[derive(Debug)]
pub(super) struct Intake {
    writing: Writing,
    /// Whose records it holds, and the number of the next one of them.
    held: Option<(StreamId, u64)>,
    /// Whose records come, and the number of the next one that is wanted.
    stream: Option<StreamId>,
    next: u64,
}

/// How far a frame's records were committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) records: u64,
    /// There is no room for the next one.
    pub(super) is_full: bool,
}

/// How far a queue of messages was committed.
#[cfg(feature = "bridge-amqp")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    pub(super) records: u64,
    /// They had come before.
    pub(super) duplicates: u64,
    /// The last delivery that is done with, either way.
    pub(super) through: Option<u64>,
    /// There is no room for the next one.
    pub(super) is_full: bool,
}

impl Intake {
    pub(super) fn new(writing: Writing) -> Self {
        let origin = either!(&writing, producer => producer.origin());
        let mut intake = Self {
            writing,
            held: origin.map(|origin| {
                let stream = StreamId {
                    ring_id: origin.ring_id,
                    generation: origin.generation,
                    life: origin.life,
                };
                (stream, origin.records)
            }),
            stream: None,
            next: 0,
        };
        intake.resume();
        intake
    }

    /// Goes back to what it holds, whatever a connection has begun.
    pub(super) fn resume(&mut self) {
        self.stream = self.held.map(|(stream, _)| stream);
        self.next = self.held.map_or(0, |(_, next)| next);
    }

    /// Whose records it holds, or goes on with.
    pub(super) fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Number of the next record that is wanted.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn largest_record(&self) -> u64 {
        either!(&self.writing, producer => producer.max_record() as u64)
    }

    /// The name under which a sender remembers this ring, unless it is told another one.
    pub(super) fn name(&self) -> String {
        let id = either!(&self.writing, producer => producer.participant().attachment().ring_id());
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        either!(&mut self.writing, producer => producer.close());
    }

    /// Goes on with `stream` at `next`. It is what is held with the first record of it, and not
    /// before.
    pub(super) fn begin(&mut self, stream: StreamId, next: u64) {
        self.stream = Some(stream);
        self.next = next;
    }

    /// Leaves out what can never be had.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = next;
        if let (Some((held, number)), Some(stream)) = (&mut self.held, self.stream)
            && *held == stream
        {
            *number = next;
        }
    }

    /// Commits as many records of a frame as there is room for. `bytes` begin at the next one.
    pub(super) fn commit(&mut self, bytes: &[u8]) -> Result<Taken, BridgeError> {
        let (stream, next) = (self.stream.unwrap_or_default(), self.next);
        let origin = |records: u64| Origin {
            ring_id: stream.ring_id,
            generation: stream.generation,
            life: stream.life,
            records: next.wrapping_add(records),
        };
        let taken = match &mut self.writing {
            Writing::Bytes(producer) => {
                let mut batch = producer.batch();
                let taken = in_pieces(bytes, &mut batch)?;
                batch.commit_from(&origin(taken.records));
                taken
            }
            Writing::Slots(producer) => each(bytes, |record, before| {
                let mut claim = producer.try_claim(record.payload.len())?;
                claim.copy_from_slice(record.payload);
                claim.commit_from(record.tag, &origin(before + 1));
                Ok(())
            })?,
        };
        self.next = next.wrapping_add(taken.records);
        if taken.records > 0 {
            self.held = Some((stream, self.next));
        }
        Ok(taken)
    }

    /// How far the records of the stream that it holds reach.
    #[cfg(feature = "bridge-amqp")]
    pub(super) fn origin(&self) -> Option<Origin> {
        either!(&self.writing, producer => producer.origin())
    }

    /// Commits as many messages as there is room for, oldest first, without those that have come
    /// before, and takes both from the queue.
    #[cfg(feature = "bridge-amqp")]
    pub(super) fn commit_deliveries(
        &mut self,
        deliveries: &mut VecDeque<Delivery>,
        seen: &mut Seen,
    ) -> Result<Delivered, BridgeError> {
        match &mut self.writing {
            Writing::Bytes(producer) => {
                let mut batch = producer.batch();
                let mut reached = None;
                let taken = each_delivery(deliveries, seen, |delivery, seen| {
                    batch.try_push(delivery.tag, &delivery.payload)?;
                    reached = note(delivery, seen).or(reached);
                    Ok(())
                })?;
                match reached {
                    Some(origin) => batch.commit_from(&origin),
                    None => batch.commit(),
                }
                Ok(taken)
            }
            Writing::Slots(producer) => each_delivery(deliveries, seen, |delivery, seen| {
                let mut claim = producer.try_claim(delivery.payload.len())?;
                claim.copy_from_slice(&delivery.payload);
                match note(delivery, seen) {
                    Some(origin) => claim.commit_from(delivery.tag, &origin),
                    None => claim.commit(delivery.tag),
                }
                Ok(())
            }),
        }
    }

    /// Commits one record that comes from no ring. False if there is no room.
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<bool, BridgeError> {
        match either!(&mut self.writing, producer => producer.try_push(0, payload)) {
            Ok(()) => Ok(true),
            Err(TryClaimError::Full) => Ok(false),
            Err(error) => Err(fatal(error)),
        }
    }

    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, BridgeError> {
        either!(&self.writing, producer => producer.descriptor()).map_err(BridgeError::unwatched)
    }

    /// From here on the descriptor tells of new room. Fails if the ring is not there any more.
    pub(super) fn arm(&self) -> Result<(), BridgeError> {
        either!(&self.writing, producer => BridgeError::armed(producer.arm(), producer.loss()))
    }
}

/// Copies as many records as there is room for, in pieces that the end of the ring divides.
fn in_pieces(bytes: &[u8], batch: &mut spsc::Batch<'_>) -> Result<Taken, BridgeError> {
    let mut taken = Taken::default();
    // Ends with the bytes, or by a record for which there is no room.
    while taken.bytes < bytes.len() && !taken.is_full {
        let (run, records) = batch.try_push_run(&bytes[taken.bytes..]);
        taken.bytes += run;
        taken.records += records;
        if run == 0 {
            // At the end of the ring, in a full one, or one that it does not take.
            let Ok(record) = first_record(&bytes[taken.bytes..]) else {
                break;
            };
            match batch.try_push(record.tag, record.payload) {
                Ok(()) => {
                    taken.bytes += record.span;
                    taken.records += 1;
                }
                Err(TryClaimError::Full) => taken.is_full = true,
                Err(error) => return Err(fatal(error)),
            }
        }
    }
    Ok(taken)
}

/// Does `take` with each record, up to the first for which there is no room. It is told how many
/// went before.
fn each(
    bytes: &[u8],
    mut take: impl FnMut(WireRecord<'_>, u64) -> Result<(), TryClaimError>,
) -> Result<Taken, BridgeError> {
    let mut taken = Taken::default();
    while let Ok(record) = first_record(&bytes[taken.bytes..]) {
        let span = record.span;
        match take(record, taken.records) {
            Ok(()) => {
                taken.bytes += span;
                taken.records += 1;
            }
            Err(TryClaimError::Full) => {
                taken.is_full = true;
                break;
            }
            Err(error) => return Err(fatal(error)),
        }
    }
    Ok(taken)
}

/// How far the record's stream reaches with it.
#[cfg(feature = "bridge-amqp")]
fn note(delivery: &Delivery, seen: &mut Seen) -> Option<Origin> {
    let (stream, position) = delivery.source?;
    seen.note(stream, position)
}

/// Does `take` with each message that has not come before, up to the first for which there is no
/// room, and removes what is done with.
#[cfg(feature = "bridge-amqp")]
fn each_delivery(
    deliveries: &mut VecDeque<Delivery>,
    seen: &mut Seen,
    mut take: impl FnMut(&Delivery, &mut Seen) -> Result<(), TryClaimError>,
) -> Result<Delivered, BridgeError> {
    let mut done = Delivered::default();
    while let Some(delivery) = deliveries.front() {
        let source = delivery.source;
        if source.is_some_and(|(stream, position)| seen.has(stream, position)) {
            done.duplicates += 1;
        } else {
            match take(delivery, seen) {
                Ok(()) => done.records += 1,
                Err(TryClaimError::Full) => {
                    done.is_full = true;
                    break;
                }
                Err(error) => return Err(fatal(error)),
            }
        }
        done.through = Some(delivery.delivery);
        deliveries.pop_front();
    }
    Ok(done)
}

fn fatal(error: TryClaimError) -> BridgeError {
    match error {
        TryClaimError::TooLong { len, max } => BridgeError::RecordTooLong {
            len: len as u64,
            max: max as u64,
        },
        TryClaimError::Forked => BridgeError::Forked,
        TryClaimError::CutShort(cut) => BridgeError::Lost(crate::Loss::CutShort(cut)),
        TryClaimError::Damaged(damage) => BridgeError::Damaged(damage),
        TryClaimError::Closed | TryClaimError::Full => BridgeError::Closed,
    }
}

/// A frame has as many records as it says, and nothing else.
pub(super) fn check_records(mut bytes: &[u8], count: u32) -> Result<(), LinkError> {
    let mut found = 0;
    while !bytes.is_empty() {
        bytes = &bytes[first_record(bytes)?.span..];
        found += 1;
    }
    if found == count && count > 0 {
        Ok(())
    } else {
        Err(FrameError::Records.into())
    }
}
