//! rtrb: one producer and one consumer in one process, values in an array.
//!
//! One by one by `push` and `pop`; several by its chunks, which publish them together and are read
//! where they lie. It has no way to wait.

use std::path::Path;

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Place, Receive, Send, Transport, Work};
use rtrb::chunks::{ChunkError, ReadChunk, WriteChunkUninit};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::ends::{End, expect_one_each, expect_values};

pub(crate) struct Rtrb;

pub(crate) struct Link<V> {
    producer: End<Producer<V>>,
    consumer: End<Consumer<V>>,
}

pub(crate) struct Sender<V>(Producer<V>);

pub(crate) struct Receiver<V>(Consumer<V>);

impl<P: Payload> Transport<P> for Rtrb {
    type Link = Link<P::Value>;
    type Sender<'l> = Sender<P::Value>;
    type Receiver<'l> = Receiver<P::Value>;

    fn name(&self) -> String {
        "rtrb".into()
    }

    fn place(&self) -> Place {
        Place::Threads
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Self::Link, Cannot> {
        expect_one_each(work)?;
        expect_values::<P>(work)?;
        let (producer, consumer) = RingBuffer::new(work.capacity);
        Ok(Link {
            producer: End::new(producer),
            consumer: End::new(consumer),
        })
    }

    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        link.producer.take().map(Sender)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        _: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        link.consumer.take().map(Receiver)
    }
}

impl<P: Payload> Send<P> for Sender<P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.0.push(payload.value(number)).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let fill = |chunk: WriteChunkUninit<'_, P::Value>| {
            chunk.fill_from_iter((first..).map(|number| payload.value(number)))
        };
        let room = match self.0.write_chunk_uninit(count) {
            Ok(chunk) => return fill(chunk),
            Err(ChunkError::TooFewSlots(room)) => room,
        };
        self.0.write_chunk_uninit(room).map_or(0, fill)
    }
}

impl<P: Payload> Receive<P> for Receiver<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(value) = self.0.pop() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let mut check = |chunk: ReadChunk<'_, P::Value>| {
            let (one, two) = chunk.as_slices();
            for value in one.iter().chain(two) {
                seen(payload.check_value(value));
            }
            let count = chunk.len();
            chunk.commit_all();
            count
        };
        let count = match self.0.read_chunk(max) {
            Ok(chunk) => return check(chunk),
            Err(ChunkError::TooFewSlots(count)) => count,
        };
        self.0.read_chunk(count).map_or(0, check)
    }
}
