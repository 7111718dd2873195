//! Another process, and how it gets its descriptors.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use annulus::Wait;
use annulus::segment::share;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Set in a process that was started to play a part.
pub(crate) const PART: &str = "ANNULUS_TEST_PART";
/// The socket over which it gets its descriptor.
pub(crate) const SOCKET: &str = "ANNULUS_TEST_SOCKET";
/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const RECORDS: u32 = 1000;

pub(crate) fn patiently() -> Wait {
    Wait::block().for_at_most(PATIENCE)
}

/// Another process, to which a ring is handed, and the line to it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
}

impl Peer {
    /// Starts this program to play `part`, and gives it the file behind `descriptor`.
    pub(crate) fn start(part: &str, descriptor: impl AsFd) -> Self {
        Self::start_with(part, &[share(descriptor).unwrap()])
    }

    /// Starts this program to play `part`, and gives it these descriptors.
    pub(crate) fn start_with(part: &str, descriptors: &[OwnedFd]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "part", "--nocapture"])
            .env(PART, part)
            .env(SOCKET, &path);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&socket, descriptors);
        Self { child, socket }
    }

    /// Waits until it says that it has come so far.
    pub(crate) fn until_ready(&mut self) {
        let mut byte = [0];
        self.socket.read_exact(&mut byte).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) {
        self.socket.write_all(&[1]).unwrap();
    }

    pub(crate) fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn send(socket: &UnixStream, descriptors: &[OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(b"r")];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
}

pub(crate) fn receive(socket: &UnixStream) -> Vec<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 2]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut space), flags).unwrap();
    let rights = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let rights = rights.expect("descriptors").into_iter();
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let owned = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
    rights.map(owned).collect()
}

/// Attaches by `$attach`, which is unsafe for handles that trust their peers.
macro_rules! trusting {
    ($handle:ty, $location:expr) => {{
        // SAFETY: only the processes of this test have the ring, and they use this library.
        unsafe { <$handle>::attach($location) }
    }};
}
pub(crate) use trusting;
