//! ringfire: rings of values in a mapped file, each record with its sequence number.
//!
//! For one producer there is `LosslessBackpressure`, which waits for the slowest registered reader;
//! it is used here. For many producers and competing consumers there is nothing but "latest wins":
//! producers overwrite what nobody took, and the records are lost. Records are copied in and out,
//! in place there is nothing. A consumer may spin, yield or sleep on a futex; a sleeper cannot look
//! at a clock, so `Block` is `YieldBackoff` here: 64 looks, then it yields.

use std::path::{Path, PathBuf};

use annulus_lab::transport::{Cannot, pause};
use annulus_lab::{Payload, Place, Receive, Send, Transport, Waiting, Work};
use ringfire::{
    CleanupMode, FlowControl, MpmcProducer, MpmcQueueConsumer, RingConsumer, RingProducer,
    RingProducerBuilder,
};

use crate::ends::{attach, cannot, expect_one_each, expect_values};

/// One producer, nothing lost.
pub(crate) struct Lossless;

/// Many producers, latest wins.
pub(crate) struct Mpmc;

pub(crate) struct Sender<V: Copy + 'static> {
    ring: RingProducer<V>,
    batch: Vec<V>,
}

pub(crate) struct Receiver<V: Copy + 'static> {
    ring: RingConsumer<V>,
    batch: Vec<V>,
}

pub(crate) struct SenderOfMany<V: Copy + 'static>(MpmcProducer<V>);

pub(crate) struct ReceiverOfMany<V: Copy + 'static>(MpmcQueueConsumer<V>);

impl<P: Payload> Transport<P> for Lossless {
    type Link = PathBuf;
    type Sender<'l> = Sender<P::Value>;
    type Receiver<'l> = Receiver<P::Value>;

    fn name(&self) -> String {
        "ringfire".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<PathBuf, Cannot> {
        expect_one_each(work)?;
        expect_values::<P>(work)?;
        Ok(folder.join(name))
    }

    fn sender<'l>(
        &'l self,
        link: &'l PathBuf,
        work: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        let ring = RingProducerBuilder::new(work.capacity as u64)
            .flow_control(FlowControl::LosslessBackpressure)
            .cleanup_mode(CleanupMode::Persistent) // a receiver may be the later one to go
            .build(link)
            .map_err(cannot)?;
        let batch = Vec::with_capacity(work.batch);
        Ok(Sender { ring, batch })
    }

    fn receiver<'l>(
        &'l self,
        link: &'l PathBuf,
        work: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        let ring = attach(|| RingConsumer::attach(link))?;
        let batch = Vec::with_capacity(work.batch);
        Ok(Receiver { ring, batch })
    }
}

impl<P: Payload> Send<P> for Sender<P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.ring.try_push(&payload.value(number)).is_ok()
    }

    /// `push_batch` waits for room itself, record by record: all are sent.
    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        self.batch.clear();
        let numbers = first..first + count as u64;
        self.batch
            .extend(numbers.map(|number| payload.value(number)));
        self.ring.push_batch(&self.batch);
        count
    }
}

impl<P: Payload> Receive<P> for Receiver<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some(value) = self.ring.try_recv() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, seen: impl FnMut(Option<u64>)) -> bool {
        back_off(waiting, seen, |seen| self.try_receive(payload, seen))
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        if self.batch.len() != max {
            self.batch.resize(max, payload.value(0));
        }
        let count = self.ring.recv_batch(&mut self.batch);
        for value in &self.batch[..count] {
            seen(payload.check_value(value));
        }
        count
    }
}

/// As `YieldBackoff` waits.
#[inline(always)]
fn back_off<S: FnMut(Option<u64>)>(
    waiting: Waiting,
    mut seen: S,
    mut attempt: impl FnMut(&mut S) -> bool,
) -> bool {
    const LOOKS: u32 = 64;
    if waiting == Waiting::Block {
        for _ in 0..LOOKS {
            if attempt(&mut seen) {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    let received = attempt(&mut seen);
    if !received {
        pause(waiting);
    }
    received
}

impl<P: Payload> Transport<P> for Mpmc {
    type Link = PathBuf;
    type Sender<'l> = SenderOfMany<P::Value>;
    type Receiver<'l> = ReceiverOfMany<P::Value>;

    fn name(&self) -> String {
        "ringfire mpmc".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<PathBuf, Cannot> {
        expect_values::<P>(work)?;
        let path = folder.join(name);
        let ring = MpmcProducer::<P::Value>::create(&path, work.capacity as u64);
        ring.map_err(cannot)?
            .set_cleanup_mode(CleanupMode::Persistent);
        Ok(path)
    }

    fn sender<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        MpmcProducer::attach(link).map(SenderOfMany).map_err(cannot)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        let consumer = MpmcQueueConsumer::attach(link);
        consumer.map(ReceiverOfMany).map_err(cannot)
    }
}

impl<P: Payload> Send<P> for SenderOfMany<P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.0.push(&payload.value(number));
        true
    }
}

impl<P: Payload> Receive<P> for ReceiverOfMany<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some(value) = self.0.try_recv() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, seen: impl FnMut(Option<u64>)) -> bool {
        back_off(waiting, seen, |seen| self.try_receive(payload, seen))
    }
}
