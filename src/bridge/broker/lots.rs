//! Lots of the ring that were read and not given back, and where in them each record begins.

use std::collections::VecDeque;

use super::Outgoing;
use crate::bridge::error::BridgeError;
use crate::bridge::feed::Feed;
use crate::bridge::frame::first_record;

/// Records that were read together.
struct Lot<L> {
    first: u64,
    /// Where each of them begins.
    starts: Vec<usize>,
    bytes: u64,
    lot: L,
}

impl<L> Lot<L> {
    fn end(&self) -> u64 {
        self.first + self.starts.len() as u64
    }
}

/// All of them, oldest first, without a gap.
pub(super) struct Lots<F: Feed> {
    lots: VecDeque<Lot<F::Lot>>,
    bytes: u64,
}

impl<F: Feed> Default for Lots<F> {
    fn default() -> Self {
        Self {
            lots: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<F: Feed> Lots<F> {
    pub(super) fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first record that is not given back.
    pub(super) fn first(&self) -> Option<u64> {
        self.lots.front().map(|lot| lot.first)
    }

    /// One more, of `count` records from `first` on.
    ///
    /// # Errors
    /// If its bytes are not as many records: the ring is damaged.
    pub(super) fn push(
        &mut self,
        feed: &F,
        first: u64,
        count: u64,
        lot: F::Lot,
    ) -> Result<(), BridgeError> {
        let damaged = || BridgeError::Ends("the ring's records do not add up");
        let records = feed.bytes(&lot);
        let (mut starts, mut at) = (Vec::new(), 0);
        while at < records.len() {
            starts.push(at);
            at += first_record(&records[at..]).map_err(|_| damaged())?.span;
        }
        if starts.len() as u64 != count {
            return Err(damaged());
        }
        let bytes = at as u64;
        self.bytes += bytes;
        self.lots.push_back(Lot {
            first,
            starts,
            bytes,
            lot,
        });
        Ok(())
    }

    /// The record of that number.
    pub(super) fn record(&self, feed: &F, position: u64) -> Option<Outgoing> {
        let place = self.lots.partition_point(|lot| lot.end() <= position);
        let lot = self.lots.get(place)?;
        let number = usize::try_from(position.checked_sub(lot.first)?).ok()?;
        let start = *lot.starts.get(number)?;
        let record = first_record(feed.bytes(&lot.lot).get(start..)?).ok()?;
        Some(Outgoing {
            position,
            tag: record.tag,
            payload: record.payload.to_vec(),
        })
    }

    /// Gives back what lies before `head` altogether.
    pub(super) fn release_before(&mut self, head: u64, feed: &mut F) {
        while self.lots.front().is_some_and(|lot| lot.end() <= head) {
            if let Some(lot) = self.lots.pop_front() {
                self.bytes -= lot.bytes;
                feed.release(lot.lot);
            }
        }
    }
}
