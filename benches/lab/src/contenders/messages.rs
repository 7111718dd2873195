//! UNIX sockets that keep records apart: any number of senders and receivers, a call a record.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, getsockopt, recv, send, socketpair, sockopt,
};

use super::{cannot, looks_again};
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

/// A pair of UNIX sockets of the type `SOCK_SEQPACKET`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seqpacket;

/// What the kernel takes of a send buffer besides a record.
const OVERHEAD: usize = 32;

/// One end, with room for a record.
#[derive(Debug)]
pub struct End<'l> {
    socket: &'l OwnedFd,
    buffer: Vec<u8>,
}

impl<'l> End<'l> {
    fn new(socket: &'l OwnedFd, work: &Work) -> Self {
        let buffer = vec![0; work.payload];
        Self { socket, buffer }
    }
}

impl<P: Payload> Transport<P> for Seqpacket {
    type Link = [OwnedFd; 2];
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "UNIX seqpacket".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<[OwnedFd; 2], Cannot> {
        let mut flags = SockFlag::SOCK_CLOEXEC;
        if looks_again(work) {
            flags |= SockFlag::SOCK_NONBLOCK;
        }
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (sending, receiving) = pair.map_err(cannot)?;
        let room = getsockopt(&sending.as_fd(), sockopt::SndBuf).map_err(cannot)?;
        if work.payload + OVERHEAD > room {
            return Err(Cannot(format!(
                "a record has at most {} bytes",
                room - OVERHEAD
            )));
        }
        Ok([sending, receiving])
    }

    fn sender<'l>(
        &'l self,
        [sending, _]: &'l [OwnedFd; 2],
        work: &Work,
        _: usize,
    ) -> Result<End<'l>, Cannot> {
        Ok(End::new(sending, work))
    }

    fn receiver<'l>(
        &'l self,
        [_, receiving]: &'l [OwnedFd; 2],
        work: &Work,
        _: usize,
    ) -> Result<End<'l>, Cannot> {
        Ok(End::new(receiving, work))
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        payload.fill(&mut self.buffer, number);
        match send(
            self.socket.as_raw_fd(),
            &self.buffer,
            MsgFlags::MSG_NOSIGNAL,
        ) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(error) => panic!("the kernel refuses: {error}"),
        }
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
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
