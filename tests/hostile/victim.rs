//! The attacked process: two threads, one on each side of the ring, that do all there is to do.

use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::segment::{AttachError, AttachOptions, RecoverOptions, inspect, recover};
use annulus::{
    ClaimError, Kind, Location, ReadError, TryClaimError, TryReadError, Untrusted, Wait, mpmc, spsc,
};

use super::guard::guarded;
use super::log::{Log, Met, Operation};
use super::scribble::Noise;

/// One side's thread.
struct Side<'s> {
    number: usize,
    log: &'s Log,
    noise: Noise,
    at: &'s Location,
}

/// Until the log says stop.
pub(crate) fn suffer(ring: OwnedFd, kind: Kind, log: &Log, seed: u64) {
    let at = Location::fd(ring);
    std::thread::scope(|scope| {
        for number in [0, 1] {
            let side = Side {
                number,
                log,
                noise: Noise(seed * 77 + number as u64),
                at: &at,
            };
            scope.spawn(move || match (kind, number) {
                (Kind::SpscBytes, 0) => side.run(spsc::Producer::attach_untrusting, write_bytes),
                (Kind::SpscBytes, _) => side.run(spsc::Consumer::attach_untrusting, read_bytes),
                (Kind::MpmcSlots, 0) => side.run(mpmc::Producer::attach_untrusting, write_slots),
                (Kind::MpmcSlots, _) => side.run(mpmc::Consumer::attach_untrusting, read_slots),
            });
        }
    });
}

impl<'s> Side<'s> {
    fn run<H>(
        mut self,
        attach: fn(&'s Location, &AttachOptions) -> Result<H, AttachError>,
        perform: fn(&mut H, &mut Self),
    ) {
        while !self.log.is_stopped() {
            self.begin(Operation::Attach);
            let options = AttachOptions::default();
            match guarded(|| attach(self.at, &options)) {
                Ok(mut handle) => {
                    for _ in 0..self.noise.below(400) {
                        match self.noise.below(100) {
                            0 => self.recover(),
                            1 => self.inspect(),
                            _ => perform(&mut handle, &mut self),
                        }
                    }
                    self.begin(Operation::Detach);
                    drop(handle);
                }
                Err(_) => {
                    self.log.meet(Met::RefusalToAttach);
                    self.recover();
                }
            }
        }
    }

    fn begin(&self, operation: Operation) {
        self.log.begin(self.number, operation);
    }

    fn recover(&mut self) {
        self.begin(Operation::Recover);
        let _ = recover(self.at, &RecoverOptions::default());
    }

    fn inspect(&mut self) {
        self.begin(Operation::Inspect);
        let _ = inspect(self.at);
    }

    fn wait(&mut self) -> Wait {
        let how = [Wait::block, Wait::yielding, Wait::spin];
        let how = self.noise.one_of(&how);
        how().for_at_most(Duration::from_micros(self.noise.below(1000)))
    }

    /// Some bytes, at times more than the ring takes.
    fn payload(&mut self, max: usize) -> Vec<u8> {
        let len = self.noise.below(max as u64 + 2);
        vec![7; usize::try_from(len).expect("short")]
    }

    fn met<T>(&self, met: Result<T, Met>) {
        self.log.meet(met.map_or_else(|met| met, |_| Met::Success));
    }
}

fn of_claim(error: TryClaimError) -> Met {
    match error {
        TryClaimError::Damaged(_) => Met::Damage,
        TryClaimError::Forked => panic!("nobody forks"),
        _ => Met::OtherError,
    }
}

fn of_waiting_claim(error: ClaimError) -> Met {
    match error {
        ClaimError::Damaged(_) => Met::Damage,
        ClaimError::Forked | ClaimError::Replaced => panic!("{error}"),
        _ => Met::OtherError,
    }
}

fn of_read(error: TryReadError) -> Met {
    match error {
        TryReadError::Damaged(_) => Met::Damage,
        TryReadError::Forked => panic!("nobody forks"),
        _ => Met::OtherError,
    }
}

fn of_waiting_read(error: ReadError) -> Met {
    match error {
        ReadError::Damaged(_) => Met::Damage,
        ReadError::Forked | ReadError::Replaced => panic!("{error}"),
        _ => Met::OtherError,
    }
}

/// What both producers do; a macro, for their methods have other receivers.
macro_rules! write {
    ($producer:expr, $side:expr, $bound:expr, $ask:expr) => {{
        let (producer, side) = ($producer, $side);
        match side.noise.below(64) {
            0..40 => {
                let payload = side.payload(producer.max_record());
                side.begin(Operation::Push);
                side.met(producer.try_push(3, &payload).map_err(of_claim));
            }
            40..52 => {
                let (payload, wait) = (side.payload(producer.max_record()), side.wait());
                side.begin(Operation::WaitToPush);
                let pushed = producer.push(3, &payload, wait);
                side.met(pushed.map_err(of_waiting_claim));
            }
            52 => {
                side.begin(Operation::Close);
                producer.close();
            }
            53..57 => {
                side.begin(Operation::Reopen);
                producer.reopen();
            }
            57..60 => {
                side.begin(Operation::AskForNumbers);
                assert!(producer.backlog() <= $bound);
                let _ = producer.is_closed();
            }
            60..63 => {
                side.begin(Operation::AskForPeer);
                $ask(producer);
            }
            _ => {
                side.begin(Operation::Arm);
                let _ = producer.arm();
            }
        }
    }};
}

/// The same of both consumers.
macro_rules! read {
    ($consumer:expr, $side:expr, $bound:expr, $ask:expr, $go_back:expr) => {{
        let (consumer, side) = ($consumer, $side);
        let mut payload = Vec::new();
        match side.noise.below(64) {
            0..40 => {
                side.begin(Operation::Pop);
                side.met(consumer.try_pop(&mut payload).map_err(of_read));
            }
            40..52 => {
                let wait = side.wait();
                side.begin(Operation::WaitToPop);
                let popped = consumer.pop(&mut payload, wait);
                side.met(popped.map_err(of_waiting_read));
            }
            52..56 => {
                side.begin(Operation::GoBack);
                $go_back(consumer);
            }
            56 => {
                side.begin(Operation::Close);
                consumer.close();
            }
            57..60 => {
                side.begin(Operation::AskForNumbers);
                assert!(consumer.backlog() <= $bound);
            }
            60..63 => {
                side.begin(Operation::AskForPeer);
                $ask(consumer);
            }
            _ => {
                side.begin(Operation::Arm);
                let _ = consumer.arm();
            }
        }
        assert!(payload.len() <= consumer.max_record());
    }};
}

fn write_bytes(producer: &mut spsc::Producer<Untrusted>, side: &mut Side<'_>) {
    let capacity = producer.capacity();
    write!(producer, side, capacity, |producer: &mut spsc::Producer<
        _,
    >| {
        let _ = (producer.peer(), producer.committed_records());
    });
}

fn read_bytes(consumer: &mut spsc::Consumer<Untrusted>, side: &mut Side<'_>) {
    let capacity = consumer.capacity();
    let ask = |consumer: &mut spsc::Consumer<_>| {
        let _ = (consumer.peer(), consumer.released_records());
    };
    read!(
        consumer,
        side,
        capacity,
        ask,
        |consumer: &mut spsc::Consumer<_>| {
            consumer.rewind();
            consumer.release_all();
        }
    );
}

fn write_slots(producer: &mut mpmc::Producer<Untrusted>, side: &mut Side<'_>) {
    let slots = producer.slots();
    write!(producer, side, slots, |producer: &mut mpmc::Producer<_>| {
        let _ = producer.loss();
    });
}

fn read_slots(consumer: &mut mpmc::Consumer<Untrusted>, side: &mut Side<'_>) {
    let slots = consumer.slots();
    let ask = |consumer: &mut mpmc::Consumer<_>| {
        let _ = consumer.loss();
    };
    // Nothing can be given back of what was copied; others may close it, though.
    read!(
        consumer,
        side,
        slots,
        ask,
        |consumer: &mut mpmc::Consumer<_>| {
            consumer.close();
        }
    );
}
