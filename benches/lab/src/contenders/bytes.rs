//! The kernel's streams of bytes: a pipe, a UNIX socket, TCP over loopback.
//!
//! Records are of one length, so that nothing need be parsed: a batch goes in one `write`, and one
//! `read` takes what there is, up to a batch. A call that moved a part of a record is repeated
//! until the record is whole, also where nothing blocks: the other side makes it go on.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{cannot, looks_again, one_and_one};
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

/// A stream of bytes of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// A pipe, as large as the link's capacity and the system allow.
    Pipe,
    /// A pair of connected sockets.
    Unix,
    /// TCP over loopback, without Nagle's delay.
    Tcp,
}

/// Most bytes of a pipe that the system gives to everybody.
const LARGEST_PIPE: usize = 1 << 20;

/// Both ends.
#[derive(Debug)]
pub struct Ends {
    sending: File,
    receiving: File,
}

/// One end, with room for a batch.
#[derive(Debug)]
pub struct End<'l> {
    file: &'l File,
    buffer: Vec<u8>,
}

fn ends(sending: impl Into<OwnedFd>, receiving: impl Into<OwnedFd>) -> Ends {
    Ends {
        sending: File::from(sending.into()),
        receiving: File::from(receiving.into()),
    }
}

fn pipe(work: &Work) -> Result<Ends, Cannot> {
    let (receiving, sending) = nix::unistd::pipe().map_err(cannot)?;
    let bytes = work.capacity.saturating_mul(work.payload);
    let bytes = bytes.clamp(4096, LARGEST_PIPE);
    let bytes = i32::try_from(bytes).map_err(cannot)?;
    // As large as may be: it stays as it was where that is not allowed.
    let _size = fcntl(&sending, FcntlArg::F_SETPIPE_SZ(bytes));
    Ok(ends(sending, receiving))
}

fn tcp() -> io::Result<Ends> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let sending = TcpStream::connect(listener.local_addr()?)?;
    let (receiving, _) = listener.accept()?;
    sending.set_nodelay(true)?;
    receiving.set_nodelay(true)?;
    Ok(ends(sending, receiving))
}

fn do_not_block(file: &File) -> Result<(), Cannot> {
    let flags = fcntl(file.as_fd(), FcntlArg::F_GETFL).map_err(cannot)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(file.as_fd(), FcntlArg::F_SETFL(flags)).map_err(cannot)?;
    Ok(())
}

impl<P: Payload> Transport<P> for Bytes {
    type Link = Ends;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        let name = match self {
            Self::Pipe => "pipe",
            Self::Unix => "UNIX stream",
            Self::Tcp => "TCP",
        };
        name.to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Ends, Cannot> {
        one_and_one(work)?;
        let ends = match self {
            Self::Pipe => pipe(work)?,
            Self::Unix => {
                let (sending, receiving) = UnixStream::pair().map_err(cannot)?;
                ends(sending, receiving)
            }
            Self::Tcp => tcp().map_err(cannot)?,
        };
        if looks_again(work) {
            do_not_block(&ends.sending)?;
            do_not_block(&ends.receiving)?;
        }
        Ok(ends)
    }

    fn sender<'l>(&'l self, link: &'l Ends, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(&link.sending, work))
    }

    fn receiver<'l>(&'l self, link: &'l Ends, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(&link.receiving, work))
    }
}

impl<'l> End<'l> {
    fn new(file: &'l File, work: &Work) -> Self {
        Self {
            file,
            buffer: vec![0; work.batch * work.payload],
        }
    }
}

/// Bytes that `call` moved; 0 if it would have to wait.
fn moved(call: io::Result<usize>) -> usize {
    match call {
        Ok(0) => panic!("the other end is closed"),
        Ok(count) => count,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
        Err(error) => panic!("the kernel refuses: {error}"),
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.try_send_batch(payload, number, 1) == 1
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let bytes = payload.bytes();
        let batch = &mut self.buffer[..count * bytes];
        for (nth, record) in batch.chunks_exact_mut(bytes).enumerate() {
            payload.fill(record, first + nth as u64);
        }
        let mut done = moved(self.file.write(batch));
        if done == 0 {
            return 0;
        }
        while !done.is_multiple_of(bytes) {
            let rest = done.next_multiple_of(bytes);
            done += moved(self.file.write(&batch[done..rest]));
        }
        done / bytes
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) == 1
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let bytes = payload.bytes();
        let batch = &mut self.buffer[..max * bytes];
        let mut done = moved(self.file.read(batch));
        if done == 0 {
            return 0;
        }
        while !done.is_multiple_of(bytes) {
            let rest = done.next_multiple_of(bytes);
            done += moved(self.file.read(&mut batch[done..rest]));
        }
        for record in batch[..done].chunks_exact(bytes) {
            seen(payload.check(record));
        }
        done / bytes
    }
}
