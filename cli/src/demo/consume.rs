//! What the demo's consumers do.

use annulus::{Kind, ReadError, Wait, mpmc, spsc};
use hdrhistogram::Histogram;

use super::child::{BURST, ChildArgs, Orders, PATIENCE, begin, say, wait_for_death};
use super::crew::{Order, Said};
use super::ledger::Report;
use super::record::{Record, now_ns};
use crate::report::{Answer, Failure};

pub fn consume(args: &ChildArgs) -> Result<Answer, Failure> {
    let (orders, kind) = begin(args)?;
    let refused = |error| Failure::of_ring("receive from", &args.ring, &error);
    match kind {
        // SAFETY: as in `produce`.
        Kind::SpscBytes => unsafe { spsc::Consumer::attach(&args.ring) }
            .map_err(refused)
            .and_then(|mut consumer| receive(&mut consumer, &orders)),
        // SAFETY: as in `produce`.
        Kind::MpmcSlots => unsafe { mpmc::Consumer::attach(&args.ring) }
            .map_err(refused)
            .and_then(|mut consumer| receive(&mut consumer, &orders)),
    }
}

/// What both consumers can do.
trait Consumer {
    /// Waits for a record, notes those that are there, up to [`BURST`], and releases them.
    fn take(&mut self, tally: &mut Tally, wait: Wait) -> Result<(), ReadError>;
    /// Takes a record and waits for death.
    fn hold(&mut self) -> Result<(), Failure>;
}

fn receive(consumer: &mut impl Consumer, orders: &Orders) -> Result<Answer, Failure> {
    let mut tally = Tally::new();
    say(&Said::Ready)?;
    loop {
        if orders.has(Order::Hold) {
            // From here on it releases nothing, so what it says now is final.
            say(&Said::Received(tally.report()))?;
            consumer.hold()?;
        }
        let begun_ns = now_ns();
        match consumer.take(&mut tally, Wait::block().for_at_most(PATIENCE)) {
            Ok(()) => tally.waited_since(begun_ns),
            Err(ReadError::TimedOut) => tally.still_waits_since(begun_ns),
            Err(ReadError::Closed) => break,
            Err(error) => return Err(Failure::because("cannot receive", &error)),
        }
    }
    say(&Said::Received(tally.report()))?;
    Ok(Answer::Yes)
}

/// What was received so far.
struct Tally {
    report: Report,
    latency: Histogram<u64>,
    /// When waiting began, over several attempts; `None` if the last one brought records.
    waiting_since_ns: Option<u64>,
    is_paced: bool,
    has_begun: bool,
}

impl Tally {
    fn new() -> Self {
        let latency = Histogram::new(3).expect("3 significant digits are possible");
        let report = Report::default();
        Self {
            report,
            latency,
            waiting_since_ns: None,
            is_paced: false,
            has_begun: false,
        }
    }

    #[inline]
    fn note(&mut self, bytes: &[u8], attempts: u8) {
        let Some(Record {
            source,
            sequence,
            due_ns,
        }) = Record::read(bytes)
        else {
            self.report.corrupt += 1;
            return;
        };
        self.report.bytes += bytes.len() as u64;
        self.report.redelivered += u64::from(attempts > 0);
        if !self
            .report
            .received
            .entry(source)
            .or_default()
            .insert(sequence)
        {
            self.report.repeated += 1;
        }
        if due_ns > 0 {
            self.is_paced = true;
            // It grows as needed.
            let _ = self.latency.record(now_ns().saturating_sub(due_ns));
        }
    }

    fn waited_since(&mut self, begun_ns: u64) {
        let begun_ns = self.waiting_since_ns.take().unwrap_or(begun_ns);
        let counts = self.has_begun && !self.is_paced;
        self.has_begun = true;
        if counts {
            let waited_ns = now_ns() - begun_ns;
            self.report.longest_wait_ns = self.report.longest_wait_ns.max(waited_ns);
        }
    }

    fn still_waits_since(&mut self, begun_ns: u64) {
        self.waiting_since_ns.get_or_insert(begun_ns);
    }

    fn report(&self) -> Report {
        let latencies = self.latency.iter_recorded();
        let latencies = latencies
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect();
        Report {
            latencies,
            ..self.report.clone()
        }
    }
}

impl Consumer for spsc::Consumer {
    fn take(&mut self, tally: &mut Tally, wait: Wait) -> Result<(), ReadError> {
        let first = self.peek(wait)?;
        tally.note(&first, 0);
        let mut last = first.mark();
        for _ in 1..BURST {
            let Ok(next) = self.try_peek() else { break };
            tally.note(&next, 0);
            last = next.mark();
        }
        self.release_to(last);
        Ok(())
    }

    fn hold(&mut self) -> Result<(), Failure> {
        let _held = self
            .read(Wait::block())
            .map_err(|error| Failure::because("cannot receive", &error))?;
        wait_for_death()
    }
}

impl Consumer for mpmc::Consumer {
    fn take(&mut self, tally: &mut Tally, wait: Wait) -> Result<(), ReadError> {
        let batch = self.read_batch(BURST, wait)?;
        for record in &batch {
            tally.note(record, record.attempts());
        }
        batch.release();
        Ok(())
    }

    fn hold(&mut self) -> Result<(), Failure> {
        let _held = self
            .read(Wait::block())
            .map_err(|error| Failure::because("cannot receive", &error))?;
        wait_for_death()
    }
}
