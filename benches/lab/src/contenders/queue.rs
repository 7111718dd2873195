//! POSIX message queues: any number of senders and receivers, a call a record.
//!
//! The system bounds them: `/proc/sys/fs/mqueue/` and `ulimit -q`. A queue is as long as it may be,
//! which is often much less than the capacity of the other links.

use std::path::Path;

use nix::errno::Errno;
use nix::mqueue::{
    MQ_OFlag, MqAttr, MqdT, mq_attr_member_t, mq_close, mq_open, mq_receive, mq_send, mq_unlink,
};
use nix::sys::stat::Mode;

use super::{cannot, looks_again};
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

/// A POSIX message queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct PosixQueue;

/// An open queue, without a name by now.
#[derive(Debug)]
pub struct Queue(Option<MqdT>);

impl Queue {
    fn descriptor(&self) -> &MqdT {
        self.0.as_ref().expect("it is closed last")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(descriptor) = self.0.take() {
            let _closed = mq_close(descriptor);
        }
    }
}

/// One end, with room for a record.
#[derive(Debug)]
pub struct End<'l> {
    queue: &'l Queue,
    buffer: Vec<u8>,
}

impl<'l> End<'l> {
    fn new(queue: &'l Queue, work: &Work) -> Self {
        let buffer = vec![0; work.payload];
        Self { queue, buffer }
    }
}

/// The longest queue that the system gives, up to `most` records.
fn open(name: &str, flags: MQ_OFlag, most: usize, bytes: usize) -> Result<MqdT, Errno> {
    let mut most = mq_attr_member_t::try_from(most).map_err(|_| Errno::EINVAL)?;
    let bytes = mq_attr_member_t::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    loop {
        let attributes = MqAttr::new(0, most, bytes, 0);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        match mq_open(name, flags, mode, Some(&attributes)) {
            Err(Errno::EINVAL | Errno::EMFILE | Errno::ENOMEM) if most > 1 => most /= 2,
            outcome => return outcome,
        }
    }
}

impl<P: Payload> Transport<P> for PosixQueue {
    type Link = Queue;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "POSIX mq".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Queue, Cannot> {
        let folder = folder.file_name().unwrap_or_default().display().to_string();
        let name = format!("/{folder}-{name}");
        let mut flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
        if looks_again(work) {
            flags |= MQ_OFlag::O_NONBLOCK;
        }
        let queue = open(&name, flags, work.capacity, work.payload).map_err(|error| {
            let limits = "see /proc/sys/fs/mqueue/ and `ulimit -q`";
            Cannot(format!("no queue of such records: {error}; {limits}"))
        })?;
        let queue = Queue(Some(queue));
        mq_unlink(name.as_str()).map_err(cannot)?;
        Ok(queue)
    }

    fn sender<'l>(&'l self, queue: &'l Queue, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(queue, work))
    }

    fn receiver<'l>(&'l self, queue: &'l Queue, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(queue, work))
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        payload.fill(&mut self.buffer, number);
        match mq_send(self.queue.descriptor(), &self.buffer, 0) {
            Ok(()) => true,
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(error) => panic!("the kernel refuses: {error}"),
        }
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let mut priority = 0;
        match mq_receive(self.queue.descriptor(), &mut self.buffer, &mut priority) {
            Ok(count) => {
                seen(payload.check(&self.buffer[..count]));
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(error) => panic!("the kernel refuses: {error}"),
        }
    }

    /// One, as a call takes one: a second call might sleep though there is one to show.
    #[inline(always)]
    fn try_receive_batch(&mut self, payload: P, _: usize, seen: impl FnMut(Option<u64>)) -> usize {
        usize::from(self.try_receive(payload, seen))
    }
}
