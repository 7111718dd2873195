//! What a receiver keeps of the records that it saw, and what all of them together tell.
//!
//! Each receiver checks that a producer's numbers ascend; one that is alone checks with that that
//! none is missing. With several receivers a record may be lost or repeated between them: the
//! number of records and the sum of their numbers tell.

use serde::{Deserialize, Serialize};

use crate::payload::{COUNT_BITS, LAST};

/// What one receiver saw in one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Records, but for the last one.
    pub records: u64,
    /// Of their numbers, wrapping.
    pub sum: u64,
    /// Records whose number was not above the one before from the same producer.
    pub backwards: u64,
    /// Records with bytes of different ones.
    pub torn: u64,
}

/// What one sender sent in one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The first one's number.
    pub first: u64,
    /// How many.
    pub records: u64,
}

impl Sent {
    /// Of their numbers, wrapping.
    fn sum(self) -> u64 {
        let (first, n) = (u128::from(self.first), u128::from(self.records));
        let sum = first * n + n * n.saturating_sub(1) / 2;
        u64::try_from(sum & u128::from(u64::MAX)).expect("masked")
    }
}

/// What became of the records of a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Received, repeated ones included.
    pub received: u64,
    /// Sent and never received: at least so many.
    pub lost: u64,
    /// Received once more: at least so many.
    pub repeated: u64,
    /// What must not be at all.
    pub broken: Option<String>,
}

/// Holds what was received against what was sent.
#[must_use]
pub fn judge(sent: &[Sent], seen: &[Seen]) -> Verdict {
    let total = |of: fn(&Seen) -> u64| seen.iter().map(of).fold(0, u64::wrapping_add);
    let (received, backwards, torn) = (
        total(|seen| seen.records),
        total(|seen| seen.backwards),
        total(|seen| seen.torn),
    );
    let expected: u64 = sent.iter().map(|sent| sent.records).sum();
    let expected_sum = sent
        .iter()
        .fold(0_u64, |all, sent| all.wrapping_add(sent.sum()));
    let sums_agree = total(|seen| seen.sum) == expected_sum;
    let mut verdict = Verdict {
        received,
        ..Verdict::default()
    };
    if torn > 0 {
        verdict.broken = Some(format!("{torn} of {received} records were torn"));
    } else if received == expected && sums_agree {
        if backwards > 0 {
            verdict.broken = Some(format!("{backwards} of {received} records overtook others"));
        }
    } else {
        // One that goes back was received before, or overtaken by one that was not lost.
        verdict.repeated = backwards.max(received.saturating_sub(expected));
        verdict.lost = (expected + verdict.repeated).saturating_sub(received);
        if verdict.lost == 0 && verdict.repeated == 0 {
            // As many as were sent, and not the same ones.
            (verdict.lost, verdict.repeated) = (1, 1);
        }
    }
    verdict
}

/// Counts while receiving. The common case, the next number of the same producer, takes a
/// comparison and two additions.
#[derive(Debug)]
pub struct Tally {
    next: u64,
    /// Where `next` of the other producers is kept.
    others: Box<[u64; 256]>,
    seen: Seen,
    last: u64,
    ended: bool,
}

impl Default for Tally {
    fn default() -> Self {
        let others = core::array::from_fn(|producer| (producer as u64) << COUNT_BITS);
        Self {
            next: 0,
            others: Box::new(others),
            seen: Seen::default(),
            last: LAST,
            ended: false,
        }
    }
}

impl Tally {
    /// Begins a phase that ends with the record `last`; numbers go on.
    pub fn begin(&mut self, last: u64) {
        (self.seen, self.last, self.ended) = (Seen::default(), last, false);
    }

    /// What was seen since.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Whether the last record was among them.
    #[inline]
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A record as its check has found it.
    #[inline]
    pub fn see(&mut self, number: Option<u64>) {
        match number {
            Some(number) if number == self.next => {
                self.next += 1;
                self.seen.records += 1;
                self.seen.sum = self.seen.sum.wrapping_add(number);
            }
            Some(number) => self.see_another(number),
            None => self.see_torn(),
        }
    }

    #[inline(never)]
    fn see_another(&mut self, number: u64) {
        if number >= LAST - 1 {
            self.ended |= number == self.last;
            return;
        }
        let producer_of = |number: u64| usize::from(number.to_le_bytes()[7]);
        self.others[producer_of(self.next)] = self.next;
        let next = self.others[producer_of(number)];
        if number < next {
            self.seen.backwards += 1;
        }
        self.next = next.max(number + 1);
        self.seen.records += 1;
        self.seen.sum = self.seen.sum.wrapping_add(number);
    }

    #[cold]
    fn see_torn(&mut self) {
        self.seen.torn += 1;
        self.seen.records += 1;
    }
}
