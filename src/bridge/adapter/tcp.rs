//! TCP. At most once with a plain peer, else what the driver at the other end makes of it.

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Connected, Mode, Port, no_listener, none_is_later};

/// A host and a port, to call or to be called at.
#[derive(Debug)]
pub(in crate::bridge) struct TcpPort {
    host: String,
    port: u16,
    mode: Mode,
    listener: Option<TcpListener>,
}

impl TcpPort {
    pub(in crate::bridge) fn new(host: &str, port: u16, mode: Mode) -> Self {
        Self {
            host: host.to_owned(),
            port,
            mode,
            listener: None,
        }
    }

    fn connected(stream: TcpStream) -> io::Result<Connected> {
        let peer = stream.peer_addr()?.to_string();
        stream.set_nonblocking(true)?;
        // A batch goes out whole: nothing is gained by waiting for more.
        stream.set_nodelay(true)?;
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
                Ok(stream) => return Self::connected(stream),
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
        match none_is_later(listener.accept())? {
            Some((stream, _)) => Self::connected(stream).map(Some),
            None => Ok(None),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }
}
