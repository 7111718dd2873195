//! UNIX stream sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket,
    sockopt::PeerCredentials,
};

use super::{Connected, Mode, Port, no_listener, none_is_later};

/// A socket's path, to call or to be called at.
#[derive(Debug)]
pub(in crate::bridge) struct UnixPort {
    path: PathBuf,
    mode: Mode,
    /// With the file that is its name.
    listener: Option<(UnixListener, (u64, u64))>,
}

impl UnixPort {
    pub(in crate::bridge) fn new(path: &Path, mode: Mode) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            listener: None,
        }
    }

    fn connected(stream: UnixStream) -> io::Result<Connected> {
        stream.set_nonblocking(true)?;
        // The kernel's word, given when they connected.
        let peer = getsockopt(&stream, PeerCredentials)?;
        Ok(Connected {
            stream: Box::new(stream),
            peer: format!("pid {}, uid {}", peer.pid(), peer.uid()),
            uid: Some(peer.uid()),
        })
    }

    /// Connects without waiting: as long as the listener's queue is full, which may be as long as
    /// it is stopped, nothing could end that wait, the wish to stop included. `EAGAIN` says so.
    fn call(&self) -> Result<UnixStream, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&self.path)?)?;
        Ok(UnixStream::from(socket))
    }

    /// Takes away a socket at which nobody listens, as one that was killed leaves it.
    fn sweep(&self) -> io::Result<()> {
        let is_socket = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_socket && matches!(self.call(), Err(Errno::ECONNREFUSED)) {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    /// Which file stands at the path.
    fn file(&self) -> io::Result<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(&self.path)?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

impl Port for UnixPort {
    fn dials(&self) -> bool {
        self.mode == Mode::Dial
    }

    fn at(&self) -> String {
        self.path.display().to_string()
    }

    fn dial(&mut self, _patience: Duration) -> io::Result<Connected> {
        match self.call() {
            Ok(stream) => Self::connected(stream),
            Err(Errno::EAGAIN) => {
                let text = "too many others wait to be answered there";
                Err(io::Error::new(io::ErrorKind::WouldBlock, text))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        self.sweep()?;
        let listener = UnixListener::bind(&self.path)?;
        listener.set_nonblocking(true)?;
        self.listener = Some((listener, self.file()?));
        Ok(())
    }

    fn accept(&mut self) -> io::Result<Option<Connected>> {
        let (listener, _) = self.listener.as_ref().ok_or_else(no_listener)?;
        match none_is_later(listener.accept())? {
            Some((stream, _)) => Self::connected(stream).map(Some),
            None => Ok(None),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|(listener, _)| listener.as_fd())
    }
}

impl Drop for UnixPort {
    fn drop(&mut self) {
        // Another's by now, if somebody took ours away. As long as ours is open, no other file has
        // its number.
        if let Some((_, ours)) = &self.listener
            && self.file().is_ok_and(|file| file == *ours)
        {
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}
