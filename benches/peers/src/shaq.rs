//! shaq: queues of values in a mapped file, one for one producer and one consumer, one for many of
//! both. Both sides write and read in place; a consumer can sleep on a futex, a producer cannot.
//!
//! In the queue for many a claim is published in the order in which it was made: whoever stops
//! between the two keeps all others waiting, spinning.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus_lab::transport::{Cannot, pause};
use annulus_lab::{Payload, Place, Receive, Send, Transport, Waiting, Work};
use shaq::{mpmc, spsc};

use crate::ends::{cannot, expect_one_each, expect_values};

/// `shaq::spsc`.
pub(crate) struct Spsc;

/// `shaq::mpmc`.
pub(crate) struct Mpmc;

pub(crate) struct Sender<V>(spsc::Producer<V>);
pub(crate) struct Receiver<V>(spsc::Consumer<V>);
pub(crate) struct SenderOfMany<V>(mpmc::Producer<V>);
pub(crate) struct ReceiverOfMany<V>(mpmc::Consumer<V>);

/// After this a receiver looks whether the slice is over.
const MOMENT: Duration = Duration::from_millis(50);

fn create(folder: &Path, name: &str) -> Result<(PathBuf, File), Cannot> {
    let path = folder.join(name);
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(cannot)?;
    Ok((path, file))
}

fn open(path: &Path) -> Result<File, Cannot> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(cannot)
}

impl<P: Payload> Transport<P> for Spsc {
    type Link = PathBuf;
    type Sender<'l> = Sender<P::Value>;
    type Receiver<'l> = Receiver<P::Value>;

    fn name(&self) -> String {
        "shaq".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<PathBuf, Cannot> {
        expect_one_each(work)?;
        expect_values::<P>(work)?;
        let (path, file) = create(folder, name)?;
        let bytes = spsc::minimum_file_size::<P::Value>(work.capacity);
        // SAFETY: the file is new, so this initializes it once; values are plain words. The
        // producer that it returns is dropped before another one joins.
        unsafe { spsc::Producer::<P::Value>::create(&file, bytes) }.map_err(cannot)?;
        Ok(path)
    }

    fn sender<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        // SAFETY: `link` refuses a second producer; all sides agree on the type, for they are
        // forks of one program.
        let producer = unsafe { spsc::Producer::join(&open(link)?) };
        producer.map(Sender).map_err(cannot)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        // SAFETY: as in `sender`, of consumers.
        let consumer = unsafe { spsc::Consumer::join(&open(link)?) };
        consumer.map(Receiver).map_err(cannot)
    }
}

impl<P: Payload> Send<P> for Sender<P::Value> {
    /// By `try_write`, because a batch is published even if nothing was written.
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.0.try_write(payload.value(number)).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let mut batch = self.0.write_batch();
        for nth in 0..count {
            // SAFETY: the slot is written right below, before the batch is dropped.
            let Some(slot) = (unsafe { batch.try_as_mut() }) else {
                return nth;
            };
            slot.write(payload.value(first + nth as u64));
        }
        count
    }
}

impl<P: Payload> Receive<P> for Receiver<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) == 1
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        if waiting == Waiting::Block {
            let one = NonZeroUsize::MIN;
            let Ok(batch) = self.0.reserve_read_batch_timeout(one, MOMENT) else {
                return false;
            };
            seen(payload.check_value(&batch[0]));
            return true;
        }
        let received = self.try_receive(payload, seen);
        if !received {
            pause(waiting);
        }
        received
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let max = NonZeroUsize::new(max).expect("a batch has records");
        let Some(batch) = self.0.try_reserve_read_batch(max) else {
            return 0;
        };
        let (one, two) = batch.as_slices();
        for value in one.iter().chain(two) {
            seen(payload.check_value(value));
        }
        batch.len()
    }
}

impl<P: Payload> Transport<P> for Mpmc {
    type Link = PathBuf;
    type Sender<'l> = SenderOfMany<P::Value>;
    type Receiver<'l> = ReceiverOfMany<P::Value>;

    fn name(&self) -> String {
        "shaq mpmc".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<PathBuf, Cannot> {
        expect_values::<P>(work)?;
        let (path, file) = create(folder, name)?;
        let bytes = mpmc::minimum_file_size::<P::Value>(work.capacity);
        // SAFETY: the file is new, so this initializes it once; values are plain words.
        unsafe { mpmc::Producer::<P::Value>::create(&file, bytes) }.map_err(cannot)?;
        Ok(path)
    }

    fn sender<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        // SAFETY: all sides agree on the type, for they are forks of one program.
        let producer = unsafe { mpmc::Producer::join(&open(link)?) };
        producer.map(SenderOfMany).map_err(cannot)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l PathBuf,
        _: &Work,
        _: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        // SAFETY: as in `sender`.
        let consumer = unsafe { mpmc::Consumer::join(&open(link)?) };
        consumer.map(ReceiverOfMany).map_err(cannot)
    }
}

impl<P: Payload> Send<P> for SenderOfMany<P::Value> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        // SAFETY: the slot is written right below, before the guard is dropped.
        let Some(guard) = (unsafe { self.0.try_reserve_write() }) else {
            return false;
        };
        guard.write(payload.value(number));
        true
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let count = NonZeroUsize::new(count).expect("a batch has records");
        // SAFETY: all its slots are written right below, before the batch is dropped.
        let Some(mut batch) = (unsafe { self.0.try_reserve_write_batch(count) }) else {
            return 0;
        };
        for nth in 0..count.get() {
            // SAFETY: `nth` is less than the number of reserved slots.
            unsafe { batch.write(nth, payload.value(first + nth as u64)) };
        }
        count.get()
    }
}

impl<P: Payload> Receive<P> for ReceiverOfMany<P::Value> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) == 1
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        if waiting == Waiting::Block {
            let Ok(guard) = self.0.reserve_read_timeout(MOMENT) else {
                return false;
            };
            seen(payload.check_value(guard.as_ref()));
            return true;
        }
        let received = self.try_receive(payload, seen);
        if !received {
            pause(waiting);
        }
        received
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let max = NonZeroUsize::new(max).expect("a batch has records");
        let Some(batch) = self.0.try_reserve_read_batch(max) else {
            return 0;
        };
        let (one, two) = batch.as_slices();
        for value in one.iter().chain(two) {
            seen(payload.check_value(value));
        }
        batch.len()
    }
}
