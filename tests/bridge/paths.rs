//! Paths of UNIX sockets, and whose they are.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::rig::{Place, Running, ring_end};

/// A listener that is stopped, and before which as many wait as may: nobody can call it, and
/// somebody is there.
#[test]
fn a_path_at_which_somebody_stands_still_is_not_taken() {
    let place = Place::new();
    let ring = ring_end(&place.ring("a", 4096));
    let path = place.path("s");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _takes_the_one_place = UnixStream::connect(&path).unwrap();
    let sends = Running::new(&ring, &format!("unix-listen:{}", path.display()));
    // It goes before the bridge does, so that one that is held up ends with this test.
    let _held = listener;
    let why = sends.end().unwrap_err().to_string();
    assert!(why.contains("cannot listen at"), "{why}");
    assert!(path.exists());
}

#[test]
fn a_path_that_is_anothers_by_now_is_left_to_it() {
    let place = Place::new();
    let ring = ring_end(&place.ring("a", 4096));
    let path = place.path("s");
    let url = format!("unix-listen:{}", path.display());
    let sends = Running::new(&ring, &url);
    sends.at();
    std::fs::remove_file(&path).unwrap();
    let _another = UnixListener::bind(&path).unwrap();
    sends.stop();
    UnixStream::connect(&path).unwrap();
    // And one's own goes with it.
    std::fs::remove_file(&path).unwrap();
    let sends = Running::new(&ring, &url);
    sends.at();
    sends.stop();
    assert!(!path.exists());
}
