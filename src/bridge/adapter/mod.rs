//! Where connections come from. An adapter owns sockets and knows no ring, no frame and no cursor.

#[cfg(feature = "bridge-amqp")]
pub(super) mod amqp;
pub(super) mod tcp;
#[cfg(feature = "bridge-tls")]
pub(super) mod tls;
pub(super) mod unix;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Settings;
use super::error::BridgeError;
use super::url::{Address, Framing, SocketEnd};

/// A connected socket that never blocks.
pub(super) trait Stream: Read + Write + AsFd + Debug + Send {
    /// Whether it has taken bytes that the socket has not: [`flush`](Write::flush) goes on with
    /// them.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Whether both ends have agreed how to speak.
    fn is_established(&self) -> bool {
        true
    }

    /// What only the two ends of this very connection know; zeroes if it is not encrypted.
    fn binding(&self) -> io::Result<[u8; 32]> {
        Ok([0; 32])
    }

    /// Whether the peer has said that nothing more comes. The socket may have no more to tell: who
    /// reads on finds the end.
    fn is_over(&self) -> bool {
        false
    }

    /// For how long nothing has come back, if the other machine was asked again for an answer to
    /// what was sent and has given none; as far as the system knows.
    fn unanswered(&self) -> Option<Duration> {
        None
    }
}

impl Stream for TcpStream {
    fn unanswered(&self) -> Option<Duration> {
        tcp::unanswered(self)
    }
}

impl Stream for UnixStream {}

/// A new connection, and who is at its other end.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: Box<dyn Stream>,
    pub(super) peer: String,
    /// Whose process that is, if the system knows.
    pub(super) uid: Option<u32>,
}

/// One end of a network: it dials, or it listens.
pub(super) trait Port: Debug + Send {
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

/// The port of an end.
///
/// # Errors
/// If it is one that was not built in, or its credentials cannot be used.
pub(super) fn port(end: &SocketEnd, settings: &Settings) -> Result<Box<dyn Port>, BridgeError> {
    let (host, port) = match &end.address {
        Address::Tcp { host, port } => (host, *port),
        Address::Unix { path } => return Ok(Box::new(unix::UnixPort::new(path, end.mode))),
    };
    // A bridge says that it is there; of others only the kernel can ask.
    let asks = (end.framing != Framing::Annulus).then_some(settings.silence);
    let tcp = tcp::TcpPort::new((host, port), end.mode, asks);
    match &end.tls {
        None => Ok(Box::new(tcp)),
        #[cfg(feature = "bridge-tls")]
        Some(files) => Ok(Box::new(tls::TlsPort::new(tcp, host, end.mode, files)?)),
        #[cfg(not(feature = "bridge-tls"))]
        Some(_) => Err(BridgeError::Ends(
            "this was built without TLS: build it with the feature `bridge-tls`",
        )),
    }
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
