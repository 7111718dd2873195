//! The account of the chaos: what was sent, what was delivered, and who held what as it ended.
//!
//! It knows nothing of rings: it goes by the logs of the players and by what the records say of
//! themselves. Each producing thread has a number, and numbers its records from 1 on.
//!
//! # What must hold
//! For each producer, with `done` and `intent` as its log tells:
//! 1. delivered is exactly 1..=m with done <= m <= intent: nothing is lost, nothing is invented;
//! 2. a record is delivered again only if a consumer held it as it was killed, executed another
//!    program or panicked, once for each such end, and is then marked as delivered before;
//! 3. to each consumer, records that were never given back come in the order of their numbers.
//!
//! # How much memory
//! An account is of one round of the chaos, whose ring is drained at its end. It is settled then,
//! and only the sums stay.

use std::collections::HashMap;

use super::super::log::{Log, Word};

const NUMBER_BITS: u32 = 36;
const GIVEN_BACK: u64 = 1 << 61;
const ATTEMPTS_SHIFT: u32 = 62;

/// Which record of which producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) producer: u64,
    /// From 1 on.
    pub(super) number: u64,
}

impl Sent {
    pub(super) fn id(self) -> u64 {
        self.producer << NUMBER_BITS | self.number
    }

    fn of(id: u64) -> Self {
        Self {
            producer: id >> NUMBER_BITS,
            number: id & ((1 << NUMBER_BITS) - 1),
        }
    }
}

/// The entry of a consumer that has the record `id` in its hands.
pub(super) fn delivery(id: u64, attempts: u8) -> u64 {
    assert!(id < GIVEN_BACK, "no producer has sent {id:#x}");
    u64::from(attempts) << ATTEMPTS_SHIFT | id
}

/// Marks the entries of records that a panic has taken out of this consumer's hands again.
pub(super) fn mark_given_back(log: &Log) {
    let (released, entries) = (log.get(Word::Released), log.get(Word::Entries));
    let held = usize::try_from(released).expect("it fits");
    let marks: Vec<u64> = log.entries().skip(held).collect();
    // Before the last one is there, the others count for nothing: see `Ledger::add_consumer`.
    for mark in marks {
        log.append(mark | GIVEN_BACK);
    }
    if entries > released {
        log.set(Word::Released, log.get(Word::Entries));
    }
}

/// How often one record was delivered.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u8,
    /// As a record that had not been given back before.
    fresh: u8,
}

#[derive(Debug, Default)]
struct Account {
    delivered: Vec<Count>,
    /// Of the log, once its thread has ended.
    done_and_intent: Option<(u64, u64)>,
}

/// What came of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) producers: u64,
    pub(super) distinct: u64,
    pub(super) duplicates: u64,
    pub(super) requeued: u64,
    /// Records that a producer had committed without living to tell.
    pub(super) untold: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of the first producer of this round.
    first: u64,
    accounts: Vec<Account>,
    /// How many consumers that ended held each record without having told its release.
    held_at_end: HashMap<Sent, u32>,
    /// Of all rounds.
    totals: Totals,
}

impl Ledger {
    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    fn account(&mut self, producer: u64) -> &mut Account {
        let index = producer
            .checked_sub(self.first)
            .unwrap_or_else(|| panic!("a record of producer {producer} of an earlier round"));
        let index = usize::try_from(index).expect("it fits");
        if self.accounts.len() <= index {
            self.accounts.resize_with(index + 1, Account::default);
        }
        &mut self.accounts[index]
    }

    /// Takes the log of a producer that has ended.
    pub(super) fn add_producer(&mut self, number: u64, log: &Log) {
        self.account(number).done_and_intent = Some((log.get(Word::Done), log.get(Word::Intent)));
    }

    /// Takes the log of a consumer that has ended.
    pub(super) fn add_consumer(&mut self, log: &Log) {
        let released = log.get(Word::Released);
        let mut last: HashMap<u64, u64> = HashMap::new();
        for (at, entry) in (0..).zip(log.entries()) {
            let attempts = u8::try_from(entry >> ATTEMPTS_SHIFT).expect("two bits");
            let sent = Sent::of(entry & (GIVEN_BACK - 1));
            let is_mark = entry & GIVEN_BACK != 0;
            // Of a consumer that ended among its marks the deliveries themselves count as held.
            if is_mark == (at < released) {
                *self.held_at_end.entry(sent).or_default() += 1;
            }
            if is_mark {
                continue;
            }
            self.count(sent, attempts);
            if attempts == 0 {
                let before = last.insert(sent.producer, sent.number).unwrap_or(0);
                assert!(before < sent.number, "{sent:?} came after number {before}");
            }
        }
        self.totals.requeued += log.get(Word::Requeued);
    }

    fn count(&mut self, sent: Sent, attempts: u8) {
        let delivered = &mut self.account(sent.producer).delivered;
        let index = usize::try_from(sent.number).expect("it fits") - 1;
        if delivered.len() <= index {
            delivered.resize(index + 1, Count::default());
        }
        delivered[index].all += 1;
        delivered[index].fresh += u8::from(attempts == 0);
    }

    /// Checks everything that is said above, once all have ended, and begins the next round with
    /// producer `next`.
    pub(super) fn settle(&mut self, next: u64) {
        let accounts = std::mem::take(&mut self.accounts);
        for (producer, account) in (self.first..).zip(&accounts) {
            let delivered = account.delivered.len() as u64;
            let Some((done, intent)) = account.done_and_intent else {
                // A number that a consumer has, or that nobody had.
                assert_eq!(delivered, 0, "records of {producer}, which is no producer");
                continue;
            };
            assert!(
                done <= delivered && delivered <= intent,
                "producer {producer}: {done} were committed, {delivered} delivered, \
                 {intent} intended"
            );
            for (number, count) in (1..).zip(&account.delivered) {
                self.check(Sent { producer, number }, *count);
                self.totals.duplicates += u64::from(count.all) - 1;
            }
            self.totals.producers += 1;
            self.totals.distinct += delivered;
            self.totals.untold += delivered - done;
        }
        self.held_at_end.clear();
        self.first = next;
    }

    fn check(&self, sent: Sent, count: Count) {
        assert!(count.all > 0, "{sent:?} was lost");
        assert!(count.fresh <= 1, "{sent:?} came twice as if it were new");
        let held = self.held_at_end.get(&sent).copied().unwrap_or(0);
        let again = u32::from(count.all) - 1;
        assert!(
            again <= held,
            "{sent:?} came {again} times again, {held} held it and ended"
        );
    }
}
