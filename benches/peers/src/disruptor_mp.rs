//! disruptor-mp: the member of the disruptor family for several processes. One producer, values in
//! POSIX shared memory, each consumer with a cursor of its own; every consumer sees every record.
//!
//! Written and read in place: `try_publish` and `try_batch_publish`, leases and
//! `process_available`. It spins; who is to use less of a processor yields or sleeps for a
//! microsecond (`perform_default_block_wait`). A producer without consumers overwrites, so each is
//! told by which prefix to find its one consumer, as in the crate's own example.
//!
//! Its segments lie in `/dev/shm`, several to a ring. The link makes their prefix, and removes what
//! has it.

use std::path::Path;

use annulus_lab::transport::{Cannot, pause};
use annulus_lab::{Fixed, Payload as _, Place, Receive, Send, Transport, Waiting, Work};
use disruptor_mp::{
    CoordinationMode, SharedConsumer, SharedProducer, attach_shared_consumer,
    build_shared_single_producer, perform_default_block_wait,
};

use crate::ends::{attach, cannot, expect_one_each};
use crate::leavings::{Leavings, silence};

pub(crate) struct DisruptorMp;

/// A record; the crate wants a `Default`, which long arrays have not.
#[derive(Clone, Copy)]
pub(crate) struct Event<const W: usize>([u64; W]);

impl<const W: usize> Default for Event<W> {
    fn default() -> Self {
        Self([0; W])
    }
}

/// All its segments have names that begin with the one prefix.
pub(crate) struct Link(Leavings);

pub(crate) struct Sender<const W: usize>(SharedProducer<Event<W>>);

pub(crate) struct Receiver<const W: usize>(SharedConsumer<Event<W>>);

impl<const W: usize> Transport<Fixed<W>> for DisruptorMp {
    type Link = Link;
    type Sender<'l> = Sender<W>;
    type Receiver<'l> = Receiver<W>;

    fn name(&self) -> String {
        "disruptor-mp".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Link, Cannot> {
        expect_one_each(work)?;
        Ok(Link(Leavings::new()))
    }

    fn sender<'l>(
        &'l self,
        link: &'l Link,
        work: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        silence();
        build_shared_single_producer(link.0.prefix(), work.capacity)
            .discover_consumer_with_prefix(1, "cp")
            .with_coordination(CoordinationMode::Immediate)
            .build_producer(Event::default)
            .map(Sender)
            .map_err(cannot)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Link,
        work: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        silence();
        let consumer = attach(|| {
            attach_shared_consumer(link.0.prefix(), work.capacity)
                .with_consumer_id("cp_0")
                .build_consumer()
        });
        consumer.map(Receiver)
    }
}

/// As the crate waits where it does not spin.
fn wait(waiting: Waiting) {
    match waiting {
        Waiting::Block => perform_default_block_wait(),
        Waiting::Spin | Waiting::Yield => pause(waiting),
    }
}

impl<const W: usize> Send<Fixed<W>> for Sender<W> {
    #[inline(always)]
    fn try_send(&mut self, payload: Fixed<W>, number: u64) -> bool {
        let published = self.0.try_publish(|slot| slot.0 = payload.value(number));
        published.is_ok()
    }

    #[inline(always)]
    fn send(&mut self, payload: Fixed<W>, number: u64, waiting: Waiting) {
        while !self.try_send(payload, number) {
            wait(waiting);
        }
    }

    /// All or nothing: its batches are of one size.
    #[inline(always)]
    fn try_send_batch(&mut self, payload: Fixed<W>, first: u64, count: usize) -> usize {
        let published = self.0.try_batch_publish(count, |slot, nth| {
            slot.0 = payload.value(first + nth as u64);
        });
        if published.is_ok() { count } else { 0 }
    }
}

impl<const W: usize> Receive<Fixed<W>> for Receiver<W> {
    #[inline(always)]
    fn try_receive(&mut self, payload: Fixed<W>, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some(lease) = self.0.try_consume_next_leased() else {
            return false;
        };
        seen(payload.check_value(&lease.0));
        true
    }

    #[inline(always)]
    fn receive(
        &mut self,
        payload: Fixed<W>,
        waiting: Waiting,
        seen: impl FnMut(Option<u64>),
    ) -> bool {
        let received = self.try_receive(payload, seen);
        if !received {
            wait(waiting);
        }
        received
    }

    /// All that there is, whatever `max` says: `process_available` knows no bound.
    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: Fixed<W>,
        _: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        self.0
            .process_available(|event, _| seen(payload.check_value(&event.0)))
    }
}
