//! A byte ring as the destination of a bridge: records are committed together with how far they
//! reach in the ring that they come from.

use std::io;
use std::os::fd::BorrowedFd;

use super::error::{BridgeError, LinkError};
use super::frame::{FrameError, StreamId, first_record};
use crate::TryClaimError;
use crate::spsc::{self, Origin};

/// A ring that is written to.
#[derive(Debug)]
pub(super) struct Intake {
    producer: spsc::Producer,
    stream: Option<StreamId>,
    /// Number of the next record that is wanted.
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

impl Intake {
    pub(super) fn new(producer: spsc::Producer) -> Self {
        let origin = producer.origin();
        Self {
            stream: origin.map(|origin| StreamId {
                ring_id: origin.ring_id,
                generation: origin.generation,
                life: origin.life,
            }),
            next: origin.map_or(0, |origin| origin.records),
            producer,
        }
    }

    /// Whose records it holds.
    pub(super) fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Number of the next record that is wanted.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn largest_record(&self) -> u64 {
        self.producer.max_record() as u64
    }

    /// The name under which a sender remembers this ring, unless it is told another one.
    pub(super) fn name(&self) -> String {
        let id = self.producer.participant().attachment().ring_id();
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        self.producer.close();
    }

    /// Goes on with `stream` at `next`. Nothing is written down before the first record of it.
    pub(super) fn begin(&mut self, stream: StreamId, next: u64) {
        self.stream = Some(stream);
        self.next = next;
    }

    /// Leaves out what can never be had.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = next;
    }

    /// Commits as many records of a frame as there is room for. `bytes` begin at the next one.
    pub(super) fn commit(&mut self, bytes: &[u8]) -> Result<Taken, BridgeError> {
        let mut taken = Taken::default();
        let mut batch = self.producer.batch();
        while let Ok(record) = first_record(&bytes[taken.bytes..]) {
            match batch.try_push(record.tag, record.payload) {
                Ok(()) => {
                    taken.bytes += record.span;
                    taken.records += 1;
                }
                Err(TryClaimError::Full) => {
                    taken.is_full = true;
                    break;
                }
                Err(error) => return Err(fatal(error)),
            }
        }
        let stream = self.stream.unwrap_or_default();
        let next = self.next.wrapping_add(taken.records);
        batch.commit_from(&Origin {
            ring_id: stream.ring_id,
            generation: stream.generation,
            life: stream.life,
            records: next,
        });
        self.next = next;
        Ok(taken)
    }

    /// Commits one record that comes from no ring. False if there is no room.
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<bool, BridgeError> {
        match self.producer.try_push(0, payload) {
            Ok(()) => Ok(true),
            Err(TryClaimError::Full) => Ok(false),
            Err(error) => Err(fatal(error)),
        }
    }

    pub(super) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.producer.descriptor()
    }

    pub(super) fn arm(&self) -> io::Result<()> {
        self.producer.arm()
    }

    pub(super) fn check(&self) -> Result<(), BridgeError> {
        self.producer
            .loss()
            .map_or(Ok(()), |loss| Err(BridgeError::Lost(loss)))
    }
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
