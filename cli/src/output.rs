//! Standard output, written in large pieces, and how many of its bytes are out.
//!
//! A record may be released once its bytes are out, and not before; so this buffer, unlike std's,
//! tells how far it came when a write fails half-way.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::report::Failure;
use crate::stop::{For, Stop};

/// Pieces of this size and more go past the buffer, straight from the ring.
const BUFFER: usize = 64 << 10;

/// Why bytes did not go out.
#[derive(Debug)]
pub enum Trouble {
    /// The reader went away: that is its right.
    ReaderGone,
    /// It is time to stop.
    Stopped,
    Failed(io::Error),
}

/// Writes to standard output.
#[derive(Debug)]
pub struct Output<'s> {
    stop: &'s Stop,
    stdout: io::Stdout,
    buffer: Vec<u8>,
    /// Bytes that the kernel has taken.
    written: u64,
}

impl<'s> Output<'s> {
    pub fn new(stop: &'s Stop) -> Self {
        Self {
            stop,
            stdout: io::stdout(),
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
        }
    }

    /// Bytes that the kernel has taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes given to [`add`](Self::add): written ones and those of the buffer.
    pub fn added(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds bytes, and writes what does not fit into the buffer.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            return write_all(self.stop, &self.stdout, &mut self.written, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is in the buffer.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        let outcome = write_all(self.stop, &self.stdout, &mut self.written, &self.buffer);
        self.buffer.clear();
        outcome
    }
}

fn write_all(
    stop: &Stop,
    fd: &impl AsFd,
    written: &mut u64,
    mut bytes: &[u8],
) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        if !stop
            .wait_for(fd.as_fd(), For::Writing)
            .map_err(Trouble::Failed)?
        {
            return Err(Trouble::Stopped);
        }
        match nix::unistd::write(fd, bytes) {
            Ok(count) => {
                *written += count as u64;
                bytes = &bytes[count..];
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EPIPE) => return Err(Trouble::ReaderGone),
            Err(errno) => return Err(Trouble::Failed(errno.into())),
        }
    }
    Ok(())
}

/// Whether anybody reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

/// Prints a command's answer, which is small. A reader that went away is no failure.
pub fn print(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::because("cannot write to standard output", &error)),
    }
}
