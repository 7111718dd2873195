//! Where connections come from. An adapter owns sockets and knows no ring, no frame and no cursor.

#[cfg(feature = "bridge-amqp")]
pub(super) mod amqp;
pub(super) mod tcp;
pub(super) mod unix;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A connected socket that never blocks.
pub(super) trait Stream: Read + Write + AsFd + Debug + Send {}

impl<S: Read + Write + AsFd + Debug + Send> Stream for S {}

/// A new connection, and who is at its other end.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: Box<dyn Stream>,
    pub(super) peer: String,
    /// Whose process that is, if the system knows.
    pub(super) uid: Option<u32>,
}

/// One end of a network: it dials, or it listens.
pub(super) trait Port: Debug {
    /// Whether this end calls; else it is called.
    fn dials(&self) -> bool;

    /// Where that is, for people.
    fn at(&self) -> String;

    /// Calls, for no longer than `patience`.
    fn dial(&mut self, patience: Duration) -> io::Result<Connected>;

    /// Begins to listen.
    fn listen(&mut self) -> io::Result<()>;

    /// Whoever has called; `None` if nobody has.
    fn accept(&mut self) -> io::Result<Option<Connected>>;

    /// What becomes readable when somebody calls.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It calls, and calls again.
    Dial,
    /// It is called.
    Listen,
}

fn none_is_later<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            // A caller that hung up before it was answered is nobody.
            io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error),
        },
    }
}

fn no_listener() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "this end does not listen")
}
