//! What the child processes of the demo do.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus::segment::inspect;
use annulus::{ClaimError, Kind, Location, ReadError, Wait, mpmc, spsc};
use clap::Args;
use hdrhistogram::Histogram;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::crew::{Order, Said};
use super::ledger::Report;
use super::record::{Record, now_ns};
use crate::report::{Answer, Failure};

/// Started by `annulus demo`.
#[derive(Debug, Args)]
pub struct ChildArgs {
    ring: PathBuf,
    /// The source of the records.
    #[arg(long)]
    number: u32,
    /// Records a second in the second part.
    #[arg(long)]
    rate: u64,
    /// Who started it.
    #[arg(long)]
    parent: i32,
}

/// Records that are published, or released, together.
const BURST: usize = 32;
/// How long to wait for the ring before looking at the orders.
const PATIENCE: Duration = Duration::from_millis(20);
/// A sleeper wakes up late by about this; the rest is spent yielding.
const WAKE_UP: Duration = Duration::from_micros(80);

/// The orders that came so far.
#[derive(Debug, Default)]
struct Orders {
    hold: AtomicBool,
    pace: AtomicBool,
    stop: AtomicBool,
    close: AtomicBool,
}

impl Orders {
    fn of(&self, order: Order) -> &AtomicBool {
        match order {
            Order::Hold => &self.hold,
            Order::Pace => &self.pace,
            Order::Stop => &self.stop,
            Order::Close => &self.close,
        }
    }

    fn has(&self, order: Order) -> bool {
        self.of(order).load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.has(Order::Stop) || self.has(Order::Close)
    }

    /// Follows standard input until it ends; then so does the process.
    fn follow() -> Arc<Self> {
        let orders = Arc::new(Self::default());
        let follower = Arc::clone(&orders);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if let Ok(order) = serde_json::from_str(&line) {
                    follower.of(order).store(true, Ordering::Relaxed);
                }
            }
            if !follower.is_over() {
                // The parent is gone without a word.
                std::process::exit(2);
            }
        });
        orders
    }
}

/// Dies with the parent, even if that one is killed.
fn begin(args: &ChildArgs) -> Result<(Arc<Orders>, Kind), Failure> {
    let failed = |error| Failure::because("cannot set up a process of the demo", &error);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    prctl::set_timerslack(1).map_err(failed)?;
    if getppid().as_raw() != args.parent {
        return Err(Failure::new("only `annulus demo` starts this"));
    }
    let ring = inspect(&Location::from(&args.ring))
        .map_err(|error| Failure::of_ring("look at", &args.ring, &error))?;
    Ok((Orders::follow(), ring.kind))
}

fn say(said: &Said) -> Result<(), Failure> {
    let mut line = serde_json::to_string(said)
        .map_err(|error| Failure::because("cannot write JSON", &error))?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::because("cannot talk to the demo", &error))
}

/// Holds whatever the caller holds until this process is killed.
fn wait_for_death() -> Result<(), Failure> {
    say(&Said::Holding)?;
    loop {
        std::thread::park();
    }
}

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
