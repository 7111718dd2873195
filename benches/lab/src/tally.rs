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

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(producer: u64, count: u64) -> u64 {
        (producer << COUNT_BITS) | count
    }

    fn seen(numbers: &[u64]) -> Seen {
        let mut tally = Tally::default();
        tally.begin(LAST);
        numbers.iter().for_each(|number| tally.see(Some(*number)));
        tally.seen()
    }

    fn sent(producer: u64, records: u64) -> Sent {
        let first = of(producer, 0);
        Sent { first, records }
    }

    fn verdict(sent: &[Sent], seen: &[Seen]) -> (u64, u64, bool) {
        let verdict = judge(sent, seen);
        (verdict.lost, verdict.repeated, verdict.broken.is_some())
    }

    #[test]
    fn records_of_several_producers_are_told_apart() {
        let both = [of(0, 0), of(3, 0), of(3, 1), of(0, 1), of(0, 2), of(3, 2)];
        let all = [sent(0, 3), sent(3, 3)];
        assert_eq!(verdict(&all, &[seen(&both)]), (0, 0, false));
        let (here, there) = ([both[0], both[2], both[4]], [both[1], both[3], both[5]]);
        assert_eq!(verdict(&all, &[seen(&here), seen(&there)]), (0, 0, false));
    }

    #[test]
    fn a_record_lost_and_one_repeated_do_not_make_up_for_each_other() {
        let all = [sent(0, 4)];
        assert_eq!(verdict(&all, &[seen(&[0, 1, 3])]), (1, 0, false));
        assert_eq!(verdict(&all, &[seen(&[0, 1, 1, 2, 3])]), (0, 1, false));
        assert_eq!(verdict(&all, &[seen(&[0, 1, 1, 3])]), (1, 1, false));
        // Between two receivers neither of them sees it.
        assert_eq!(
            verdict(&all, &[seen(&[0, 1]), seen(&[1, 3])]),
            (1, 1, false)
        );
        assert_eq!(
            verdict(&all, &[seen(&[0, 1, 2, 3]), seen(&[1, 3])]),
            (0, 2, false)
        );
    }

    #[test]
    fn what_must_not_be_is_told() {
        let all = [sent(0, 4)];
        assert_eq!(verdict(&all, &[seen(&[0, 2, 1, 3])]), (0, 0, true));
        let torn = Seen {
            torn: 1,
            ..seen(&[0, 1, 2, 3])
        };
        assert_eq!(verdict(&all, &[torn]), (0, 0, true));
    }

    #[test]
    fn the_end_of_the_warm_up_does_not_end_what_follows() {
        let mut tally = Tally::default();
        tally.begin(LAST);
        tally.see(Some(LAST - 1));
        assert!(!tally.has_ended());
        tally.see(Some(LAST));
        assert!(tally.has_ended());
        assert_eq!(tally.seen(), Seen::default());
    }
}
