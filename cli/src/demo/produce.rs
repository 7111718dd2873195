//! What the demo's producers do.

use std::time::Duration;

use annulus::{ClaimError, Kind, Wait, mpmc, spsc};

use super::child::{BURST, ChildArgs, Orders, PATIENCE, begin, say, wait_for_death};
use super::crew::{Order, Said};
use super::record::{Record, now_ns};
use crate::report::{Answer, Failure};

/// A sleeper wakes up late by about this; the rest is spent yielding.
const WAKE_UP: Duration = Duration::from_micros(80);

pub fn produce(args: &ChildArgs) -> Result<Answer, Failure> {
    let (orders, kind) = begin(args)?;
    let refused = |error| Failure::of_ring("send to", &args.ring, &error);
    match kind {
        // SAFETY: `annulus demo` has made the ring's file for its own children, mode 0600; they use
        // it through this library only.
        Kind::SpscBytes => unsafe { spsc::Producer::attach(&args.ring) }
            .map_err(refused)
            .and_then(|producer| {
                Producing {
                    producer,
                    args,
                    orders: &orders,
                    committed: 0,
                }
                .run()
            }),
        // SAFETY: as above.
        Kind::MpmcSlots => unsafe { mpmc::Producer::attach(&args.ring) }
            .map_err(refused)
            .and_then(|producer| {
                Producing {
                    producer,
                    args,
                    orders: &orders,
                    committed: 0,
                }
                .run()
            }),
    }
}

/// What both producers can do.
trait Producer {
    /// Commits `next` and some that follow it; waits for space for the first.
    fn burst(&mut self, next: Record) -> Result<u64, ClaimError>;
    fn one(&mut self, record: Record, wait: Wait) -> Result<(), ClaimError>;
    /// Claims, writes half of the record, and waits for death.
    fn hold(&mut self, record: Record) -> Result<(), Failure>;
    fn is_drained(&self) -> bool;
    fn close(&mut self);
}

struct Producing<'a, P> {
    producer: P,
    args: &'a ChildArgs,
    orders: &'a Orders,
    committed: u64,
}

impl<P: Producer> Producing<'_, P> {
    fn run(mut self) -> Result<Answer, Failure> {
        say(&Said::Ready)?;
        while !self.orders.has(Order::Pace) && !self.orders.is_over() {
            if self.orders.has(Order::Hold) {
                say(&Said::Committed(self.committed))?;
                self.producer.hold(self.record(0))?;
            }
            match self.producer.burst(self.record(0)) {
                Ok(count) => self.committed += count,
                Err(ClaimError::TimedOut) => {}
                Err(error) => return Err(Failure::because("cannot send", &error)),
            }
        }
        self.pace()?;
        if self.orders.has(Order::Close) {
            self.producer.close();
        }
        say(&Said::Committed(self.committed))?;
        Ok(Answer::Yes)
    }

    /// The next record.
    fn record(&self, due_ns: u64) -> Record {
        Record {
            source: self.args.number,
            sequence: self.committed,
            due_ns,
        }
    }

    /// Sends a record whenever one is due, however late the last one was.
    fn pace(&mut self) -> Result<(), Failure> {
        while !self.producer.is_drained() && !self.orders.is_over() {
            std::thread::sleep(WAKE_UP);
        }
        let period_ns = 1_000_000_000 / self.args.rate.max(1);
        let mut due_ns = now_ns() + period_ns;
        while !self.orders.is_over() {
            wait_until(due_ns);
            let wait = Wait::block().for_at_most(PATIENCE);
            match self.producer.one(self.record(due_ns), wait) {
                Ok(()) => {
                    self.committed += 1;
                    due_ns += period_ns;
                }
                Err(ClaimError::TimedOut) => {}
                Err(error) => return Err(Failure::because("cannot send", &error)),
            }
        }
        Ok(())
    }
}

/// Sleeps, and yields at the end: a sleeper alone would be late for every record.
fn wait_until(due_ns: u64) {
    loop {
        let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
        if left.is_zero() {
            return;
        }
        match left.checked_sub(WAKE_UP) {
            Some(sleep) if !sleep.is_zero() => std::thread::sleep(sleep),
            _ => std::thread::yield_now(),
        }
    }
}

/// The two producers have the same methods, but no type in common; see `send`.
macro_rules! impl_producer {
    ($producer:ty) => {
        impl Producer for $producer {
            fn burst(&mut self, next: Record) -> Result<u64, ClaimError> {
                let mut count = 0;
                let mut batch = self.batch();
                while count < BURST as u64 {
                    let record = Record {
                        sequence: next.sequence + count,
                        ..next
                    };
                    let Ok(mut claim) = batch.try_claim(record.len()) else {
                        break;
                    };
                    record.write(&mut claim);
                    claim.stage(0);
                    count += 1;
                }
                batch.commit();
                if count == 0 {
                    self.one(next, Wait::block().for_at_most(PATIENCE))?;
                    count = 1;
                }
                Ok(count)
            }

            fn one(&mut self, record: Record, wait: Wait) -> Result<(), ClaimError> {
                let mut claim = self.claim(record.len(), wait)?;
                record.write(&mut claim);
                claim.commit(0);
                Ok(())
            }

            fn hold(&mut self, record: Record) -> Result<(), Failure> {
                let mut claim = self
                    .claim(record.len(), Wait::block())
                    .map_err(|error| Failure::because("cannot send", &error))?;
                let half = claim.len() / 2;
                claim[..half].fill(0xee);
                wait_for_death()
            }

            fn is_drained(&self) -> bool {
                self.backlog() == 0
            }

            fn close(&mut self) {
                // The handle's own: an inherent method goes before a trait's.
                <$producer>::close(self);
            }
        }
    };
}

impl_producer!(spsc::Producer);
impl_producer!(mpmc::Producer);
