//! TCP.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};

use super::{Connected, Mode, Port, no_listener, none_is_later};

/// A host and a port, to call or to be called at.
#[derive(Debug)]
pub(in crate::bridge) struct TcpPort {
    host: String,
    port: u16,
    mode: Mode,
    /// How long a peer may say nothing before the kernel asks whether it is there, and as long
    /// again before it takes it for gone; never if it is not said.
    silence: Option<Duration>,
    listener: Option<TcpListener>,
}

/// Unanswered questions after which a peer is gone.
const QUESTIONS: u32 = 4;

impl TcpPort {
    pub(in crate::bridge) fn new(
        (host, port): (&str, u16),
        mode: Mode,
        silence: Option<Duration>,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            mode,
            silence,
            listener: None,
        }
    }

    fn connected(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<Connected> {
        let peer = peer.to_string();
        stream.set_nonblocking(true)?;
        // A batch goes out whole: nothing is gained by waiting for more.
        stream.set_nodelay(true)?;
        if let Some(silence) = self.silence {
            // Not TCP_USER_TIMEOUT: that ends a connection to one that is there and reads nothing.
            // While bytes are under way the kernel asks nothing of its own: see `unanswered`.
            let seconds = |part: Duration| u32::try_from(part.as_secs()).unwrap_or(u32::MAX).max(1);
            setsockopt(&stream, TcpKeepIdle, &seconds(silence))?;
            setsockopt(&stream, TcpKeepInterval, &seconds(silence / QUESTIONS))?;
            setsockopt(&stream, TcpKeepCount, &QUESTIONS)?;
            setsockopt(&stream, KeepAlive, &true)?;
        }
        Ok(Connected {
            stream: Box::new(stream),
            peer,
            uid: None,
        })
    }
}

impl Port for TcpPort {
    fn dials(&self) -> bool {
        self.mode == Mode::Dial
    }

    fn at(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn dial(&mut self, patience: Duration) -> io::Result<Connected> {
        let mut outcome = Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => return self.connected(stream, address),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    fn listen(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind((self.host.as_str(), self.port))?;
        listener.set_nonblocking(true)?;
        // Port 0 is any port: whoever is told where we listen must be told which.
        self.port = listener.local_addr()?.port();
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<Option<Connected>> {
        let listener = self.listener.as_ref().ok_or_else(no_listener)?;
        // The address is what came with the caller: one that has gone already has none any more,
        // and that is no reason to be deaf for the others.
        match none_is_later(listener.accept())? {
            Some((stream, peer)) => self.connected(stream, peer).map(Some),
            None => Ok(None),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }
}

/// For how long no acknowledgement has come, if bytes were sent again, or a window that is shut was
/// asked for, since the last one. One that is there and reads nothing answers such a question, and
/// there is none between that and the next.
pub(super) fn unanswered(stream: &TcpStream) -> Option<Duration> {
    // SAFETY: it is numbers alone, and zero is one.
    let mut info: libc::tcp_info = unsafe { core::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    let to = (&raw mut info).cast();
    // SAFETY:
    // - The descriptor is open as long as the stream is borrowed.
    // - `to` is this function's own, and the kernel writes no more there than the `len` bytes that
    //   it has; an older one writes less, and leaves zeroes.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            to,
            &raw mut len,
        )
    };
    if failed != 0 {
        return None;
    }
    // Each acknowledgement sets the count of probes back; that of bytes which are sent again only
    // one that acknowledges some, which a full receiver does not.
    let sent_again =
        info.tcpi_retransmits > 0 && info.tcpi_last_ack_recv > info.tcpi_last_data_sent;
    let asked = sent_again || info.tcpi_probes > 0;
    asked.then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
}
