//! UNIX stream sockets.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
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

    /// Takes away a socket at which nobody listens, as one that was killed leaves it. Only in one's
    /// turn: another one's may be there between the look and the removal.
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
        std::fs::symlink_metadata(&self.path).map(|metadata| number(&metadata))
    }
}

/// Which file that is.
fn number(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The right to look at a socket's path and to take it: a lock on a file beside it, which is there
/// as long as that lasts. One that was killed in its turn leaves the file, and no lock.
struct Turn {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Turn {
    /// `AddrInUse` if it is another's.
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(&path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => io::ErrorKind::AddrInUse.into(),
            _ => io::Error::from(errno),
        })?;
        // Who had the turn before may have taken the file away since it was opened.
        let is_there = std::fs::symlink_metadata(&path).is_ok_and(|there| {
            lock.metadata()
                .is_ok_and(|ours| number(&there) == number(&ours))
        });
        if is_there {
            Ok(Self { path, _lock: lock })
        } else {
            Err(io::ErrorKind::AddrInUse.into())
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.path);
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
        let _turn = Turn::take(&self.path)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn of_several_who_find_a_dead_socket_one_takes_its_path() {
        const RACERS: usize = 4;
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("s");
        for _ in 0..500 {
            // What a listener leaves that does not take its file away.
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(RACERS);
            let race = || {
                let mut port = UnixPort::new(&path, Mode::Listen);
                barrier.wait();
                port.listen().map(|()| port)
            };
            let outcomes = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
                let ended = racers.into_iter().map(|racer| racer.join().unwrap());
                ended.collect::<Vec<_>>()
            });
            let (mut listening, refused): (Vec<_>, Vec<_>) =
                outcomes.into_iter().partition(Result::is_ok);
            for error in refused.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            assert_eq!(
                listening.len(),
                1,
                "each of them believes that it is called there"
            );
            let _caller = UnixStream::connect(&path).unwrap();
            let port = listening[0].as_mut().unwrap();
            assert!(
                port.accept().unwrap().is_some(),
                "another one is called there"
            );
            drop(listening);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        }
    }
}
