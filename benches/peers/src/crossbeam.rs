//! crossbeam's `ArrayQueue`: any number of producers and consumers in one process, values in an
//! array, a stamp to each. It has no batches and no way to wait.

use std::path::Path;

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Place, Receive, Send, Transport, Work};
use crossbeam_queue::ArrayQueue;

use crate::ends::expect_values;

pub(crate) struct Crossbeam;

pub(crate) struct End<'l, V>(&'l ArrayQueue<V>);

impl<P: Payload> Transport<P> for Crossbeam {
    type Link = ArrayQueue<P::Value>;
    type Sender<'l> = End<'l, P::Value>;
    type Receiver<'l> = End<'l, P::Value>;

    fn name(&self) -> String {
        "crossbeam ArrayQueue".into()
    }

    fn place(&self) -> Place {
        Place::Threads
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Self::Link, Cannot> {
        expect_values::<P>(work)?;
        Ok(ArrayQueue::new(work.capacity))
    }

    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        Ok(End(link))
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        _: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        Ok(End(link))
    }
}

impl<P: Payload> Send<P> for End<'_, P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.0.push(payload.value(number)).is_ok()
    }
}

impl<P: Payload> Receive<P> for End<'_, P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some(value) = self.0.pop() else {
            return false;
        };
        seen(payload.check_value(&value));
        true
    }
}
