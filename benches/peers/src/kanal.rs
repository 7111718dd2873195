//! kanal: a channel in one process, any number of producers and consumers, one lock around a deque.
//!
//! `send` and `recv` are what its documentation shows: they spin for a moment and then sleep, and a
//! record for a receiver that waits goes straight to its stack. They are used however a player is
//! to wait: spinning around `try_send` and `try_recv` took two to five times as long. Several are
//! received at once by `drain_into`; several cannot be sent at once.

use std::path::Path;

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Place, Receive, Send, Transport, Waiting, Work};

use crate::ends::expect_values;

pub(crate) struct Kanal;

pub(crate) type Link<V> = (kanal::Sender<V>, kanal::Receiver<V>);

pub(crate) struct Sender<V>(kanal::Sender<V>);

pub(crate) struct Receiver<V> {
    channel: kanal::Receiver<V>,
    /// What a batch took from the channel, and how much of it was seen.
    drained: Vec<V>,
    handed_out: usize,
}

impl<P: Payload> Transport<P> for Kanal {
    type Link = Link<P::Value>;
    type Sender<'l> = Sender<P::Value>;
    type Receiver<'l> = Receiver<P::Value>;

    fn name(&self) -> String {
        "kanal".into()
    }

    fn place(&self) -> Place {
        Place::Threads
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Self::Link, Cannot> {
        expect_values::<P>(work)?;
        Ok(kanal::bounded(work.capacity))
    }

    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        Ok(Sender(link.0.clone()))
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        Ok(Receiver {
            channel: link.1.clone(),
            drained: Vec::with_capacity(work.capacity),
            handed_out: 0,
        })
    }
}

impl<P: Payload> Send<P> for Sender<P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        matches!(self.0.try_send(payload.value(number)), Ok(true))
    }

    #[inline(always)]
    fn send(&mut self, payload: P, number: u64, _: Waiting) {
        // An error says that all receivers are gone: the slice ends by its deadline.
        let _gone = self.0.send(payload.value(number));
    }
}

impl<P: Payload> Receive<P> for Receiver<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(Some(value)) = self.channel.try_recv() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }

    /// However long it takes: each receiver is sent a last record, and none is lost.
    #[inline(always)]
    fn receive(&mut self, payload: P, _: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(value) = self.channel.recv() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }

    /// `drain_into` knows no bound: what is more than `max` waits here for the next call. When
    /// there is nothing to drain, one is waited for.
    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        if self.handed_out == self.drained.len() {
            self.drained.clear();
            self.handed_out = 0;
            // An error says that all senders are gone, with nothing left.
            let _gone = self.channel.drain_into(&mut self.drained);
        }
        if self.drained.is_empty() {
            return usize::from(self.receive(payload, Waiting::Block, seen));
        }
        let rest = &self.drained[self.handed_out..];
        let count = rest.len().min(max);
        for value in &rest[..count] {
            seen(payload.check_value(value));
        }
        self.handed_out += count;
        count
    }
}
