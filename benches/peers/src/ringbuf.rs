//! ringbuf: one producer and one consumer in one process, values in an array.
//!
//! `HeapRb`, which it recommends, with the caching ends that `split` gives. One by one by
//! `try_push` and `try_pop`; several by `push_iter`, which publishes them together, and read where
//! they lie before `skip`. It has no way to wait.

use std::path::Path;

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Place, Receive, Send, Transport, Work};
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::ends::{End, expect_one_each, expect_values};

pub(crate) struct Ringbuf;

pub(crate) struct Link<V> {
    producer: End<HeapProd<V>>,
    consumer: End<HeapCons<V>>,
}

pub(crate) struct Sender<V>(HeapProd<V>);

pub(crate) struct Receiver<V>(HeapCons<V>);

impl<P: Payload> Transport<P> for Ringbuf {
    type Link = Link<P::Value>;
    type Sender<'l> = Sender<P::Value>;
    type Receiver<'l> = Receiver<P::Value>;

    fn name(&self) -> String {
        "ringbuf".into()
    }

    fn place(&self) -> Place {
        Place::Threads
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Self::Link, Cannot> {
        expect_one_each(work)?;
        expect_values::<P>(work)?;
        let (producer, consumer) = HeapRb::new(work.capacity).split();
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
        self.0.try_push(payload.value(number)).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let numbers = first..first + count as u64;
        self.0
            .push_iter(numbers.map(|number| payload.value(number)))
    }
}

impl<P: Payload> Receive<P> for Receiver<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some(value) = self.0.try_pop() else {
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
        let (one, two) = self.0.as_slices();
        let mut count = 0;
        for value in one.iter().chain(two).take(max) {
            seen(payload.check_value(value));
            count += 1;
        }
        self.0.skip(count)
    }
}
