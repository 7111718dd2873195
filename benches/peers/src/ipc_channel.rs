//! ipc-channel: a channel over a pair of UNIX sockets; bytes, as `ipc::bytes_channel` carries them
//! without serialization. Many producers, one consumer.
//!
//! Long records travel in fragments over sockets of their own. `send` has no other form and blocks
//! when the socket is full. `recv` sleeps, and is what its documentation shows. Only in round trips
//! between two that spin `try_recv` is quicker, though it takes three system calls to `recv`'s one.

use std::path::Path;

use annulus_lab::transport::{Cannot, pause};
use annulus_lab::{Pattern, Payload, Place, Receive, Send, Transport, Waiting, Work};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};
use std::sync::Mutex;

use crate::ends::{End, cannot};

pub(crate) struct IpcChannel;

pub(crate) struct Link {
    sender: Mutex<IpcBytesSender>,
    receiver: End<IpcBytesReceiver>,
}

pub(crate) struct Sender {
    channel: IpcBytesSender,
    record: Vec<u8>,
}

pub(crate) struct Receiver {
    channel: IpcBytesReceiver,
    spins: bool,
}

impl<P: Payload> Transport<P> for IpcChannel {
    type Link = Link;
    type Sender<'l> = Sender;
    type Receiver<'l> = Receiver;

    fn name(&self) -> String {
        "ipc-channel".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Link, Cannot> {
        if work.consumers != 1 {
            return Err(Cannot("it has one consumer".into()));
        }
        let (sender, receiver) = ipc::bytes_channel().map_err(cannot)?;
        Ok(Link {
            sender: Mutex::new(sender),
            receiver: End::new(receiver),
        })
    }

    fn sender<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<Sender, Cannot> {
        let channel = link.sender.lock().expect("nobody panics with it").clone();
        let record = vec![0; work.payload];
        Ok(Sender { channel, record })
    }

    fn receiver<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<Receiver, Cannot> {
        Ok(Receiver {
            channel: link.receiver.take()?,
            spins: work.waiting == Waiting::Spin && work.pattern == Pattern::RoundTrip,
        })
    }
}

impl<P: Payload> Send<P> for Sender {
    /// Waits for room, as `send` does.
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        payload.fill(&mut self.record, number);
        self.channel.send(&self.record).is_ok()
    }
}

impl<P: Payload> Receive<P> for Receiver {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(record) = self.channel.try_recv() else {
            return false;
        };
        seen(payload.check(&record));
        true
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        if self.spins {
            let received = self.try_receive(payload, seen);
            if !received {
                pause(waiting);
            }
            return received;
        }
        let Ok(record) = self.channel.recv() else {
            return false;
        };
        seen(payload.check(&record));
        true
    }

    /// There are no batches: one, as [`receive`](Receive::receive) does it.
    #[inline(always)]
    fn try_receive_batch(&mut self, payload: P, _: usize, seen: impl FnMut(Option<u64>)) -> usize {
        usize::from(self.receive(payload, Waiting::Block, seen))
    }
}
