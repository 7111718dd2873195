//! The account of the churn: what was sent, what was delivered, and who died holding what.
//!
//! # What must hold
//! For each sender, whose records are numbered from 1, with `done` and `intent` as its log tells:
//! 1. delivered is exactly 1..=m with done <= m <= intent: nothing is lost, nothing is invented;
//! 2. a record is delivered again only if a killed receiver held it, once for each such receiver,
//!    and is then marked as delivered before;
//! 3. to each receiver, records that were never given back come in the order of their numbers.

use std::collections::HashMap;

use super::log::{Log, Word};

const NUMBER_BITS: u32 = 40;
const ATTEMPTS_SHIFT: u32 = 62;

/// Which record of which sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    pub(crate) sender: u64,
    /// From 1 on.
    pub(crate) number: u64,
}

impl Sent {
    pub(crate) fn id(self) -> u64 {
        debug_assert!(self.sender < 1 << (ATTEMPTS_SHIFT - NUMBER_BITS));
        self.sender << NUMBER_BITS | self.number
    }

    pub(crate) fn of(id: u64) -> Self {
        Self {
            sender: id >> NUMBER_BITS,
            number: id & ((1 << NUMBER_BITS) - 1),
        }
    }
}

/// A record in the hands of a receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) sent: Sent,
    pub(crate) attempts: u8,
}

impl Delivery {
    pub(crate) fn entry(self) -> u64 {
        u64::from(self.attempts) << ATTEMPTS_SHIFT | self.sent.id()
    }

    fn of(entry: u64) -> Self {
        let id = entry & ((1 << ATTEMPTS_SHIFT) - 1);
        let attempts = u8::try_from(entry >> ATTEMPTS_SHIFT).expect("two bits");
        Self {
            sent: Sent::of(id),
            attempts,
        }
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
struct Sender {
    delivered: Vec<Count>,
    /// Of the log, once it is dead.
    done_and_intent: Option<(u64, u64)>,
}

/// What came of all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) senders: u64,
    pub(crate) distinct: u64,
    pub(crate) duplicates: u64,
    pub(crate) requeued: u64,
    /// Records that a killed sender had committed without living to tell.
    pub(crate) untold: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    senders: HashMap<u64, Sender>,
    /// How many killed receivers held each record without having told its release.
    held_at_death: HashMap<Sent, u32>,
    requeued: u64,
}

impl Tally {
    /// Takes the log of a sender that has ended.
    pub(crate) fn add_sender(&mut self, number: u64, log: &Log) {
        let done_and_intent = Some((log.get(Word::Done), log.get(Word::Intent)));
        self.senders.entry(number).or_default().done_and_intent = done_and_intent;
    }

    /// Takes the log of a receiver that has ended.
    pub(crate) fn add_receiver(&mut self, log: &Log) {
        let released = log.get(Word::Released);
        let mut last: HashMap<u64, u64> = HashMap::new();
        for (at, entry) in (0..).zip(log.entries()) {
            let Delivery { sent, attempts } = Delivery::of(entry);
            self.count(sent, attempts);
            if attempts == 0 {
                let before = last.insert(sent.sender, sent.number).unwrap_or(0);
                assert!(before < sent.number, "{sent:?} came after number {before}");
            }
            if at >= released {
                *self.held_at_death.entry(sent).or_default() += 1;
            }
        }
        self.requeued += log.get(Word::Requeued);
    }

    fn count(&mut self, sent: Sent, attempts: u8) {
        let delivered = &mut self.senders.entry(sent.sender).or_default().delivered;
        let index = usize::try_from(sent.number).expect("it fits") - 1;
        if delivered.len() <= index {
            delivered.resize(index + 1, Count::default());
        }
        delivered[index].all += 1;
        delivered[index].fresh += u8::from(attempts == 0);
    }

    /// Checks everything that is said above, once all have ended.
    pub(crate) fn settle(&self) -> Totals {
        let mut totals = Totals {
            requeued: self.requeued,
            ..Totals::default()
        };
        for (&number, sender) in &self.senders {
            let (done, intent) = sender
                .done_and_intent
                .expect("a record of an unknown sender");
            let most = sender.delivered.len() as u64;
            let told = done <= most && most <= intent;
            assert!(
                told,
                "sender {number}: done {done}, delivered up to {most}, intent {intent}"
            );
            for (number_of_record, count) in (1..).zip(&sender.delivered) {
                let sent = Sent {
                    sender: number,
                    number: number_of_record,
                };
                self.check(sent, *count);
                totals.duplicates += u64::from(count.all) - 1;
            }
            totals.senders += 1;
            totals.distinct += most;
            totals.untold += most - done;
        }
        totals
    }

    fn check(&self, sent: Sent, count: Count) {
        assert!(count.all > 0, "{sent:?} was lost");
        assert!(count.fresh <= 1, "{sent:?} came twice as if it were new");
        let held = self.held_at_death.get(&sent).copied().unwrap_or(0);
        let again = u32::from(count.all) - 1;
        assert!(
            again <= held,
            "{sent:?} came {again} times again, {held} held it and died"
        );
    }
}
