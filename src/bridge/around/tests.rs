//! Callers of all sorts, of whom the system tells through a port that is made of words.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::{Around, CALLERS};
use crate::bridge::adapter::{Connected, Port};
use crate::bridge::clock::now;
use crate::bridge::gauges::Gauges;
use crate::bridge::poller::Poller;
use crate::bridge::{End, Event, Settings, SocketEnd};

/// Somebody calls all the time, or nobody can be answered.
#[derive(Debug)]
struct Crowd {
    /// Always readable.
    readable: UnixStream,
    uid: u32,
    /// No descriptor is left.
    is_out: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Port for Crowd {
    fn dials(&self) -> bool {
        false
    }

    fn at(&self) -> String {
        "here".to_owned()
    }

    fn dial(&mut self, _patience: Duration) -> io::Result<Connected> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> io::Result<Option<Connected>> {
        self.asked.fetch_add(1, Relaxed);
        if self.is_out.load(Relaxed) {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        let (stream, _) = UnixStream::pair()?;
        Ok(Some(Connected {
            stream: Box::new(stream),
            peer: "somebody".to_owned(),
            uid: Some(self.uid),
        }))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.readable.as_fd())
    }
}

/// One turn: whether callers were waited for, and how many were let in.
fn turn(around: &mut Around<'_>) -> (bool, u32) {
    let mut poller = Poller::default();
    let watched = around.watch(&mut poller, true);
    let waits = watched.callers.is_some();
    let ready = poller.wait(Duration::ZERO).unwrap();
    let at = now();
    assert!(!around.woke(&watched, &ready, at), "nobody stops it");
    let mut admitted = 0;
    while around.connected(at).is_some() {
        admitted += 1;
        assert!(admitted <= 1000, "the turn does not end");
    }
    (waits, admitted)
}

#[test]
fn a_turn_answers_so_many_callers_and_none_while_no_descriptor_is_left() {
    let (readable, _written) = UnixStream::pair().unwrap();
    let hung_up = UnixStream::pair().unwrap().0;
    let (is_out, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
    let Ok(End::Socket(socket)) = "unix-listen:/s?allow_uid=7".parse::<End>() else {
        panic!("a socket");
    };
    for (uid, expected) in [(7, CALLERS), (8, 0)] {
        let port = Crowd {
            readable: hung_up.try_clone().unwrap(),
            uid,
            is_out: Arc::clone(&is_out),
            asked: Arc::clone(&asked),
        };
        with(port, &socket, readable.as_fd(), |around| {
            for _ in 0..3 {
                asked.store(0, Relaxed);
                assert_eq!(turn(around), (true, expected));
                assert_eq!(
                    asked.load(Relaxed),
                    CALLERS,
                    "the others wait for the next turn"
                );
            }
            is_out.store(true, Relaxed);
            asked.store(0, Relaxed);
            assert_eq!(turn(around), (true, 0));
            assert_eq!(turn(around), (false, 0), "it waits before it tries again");
            assert_eq!(asked.load(Relaxed), 1);
            is_out.store(false, Relaxed);
            let pause = around.until_next(false, core::iter::empty());
            assert!(!pause.is_zero() && pause <= super::DEAF, "{pause:?}");
            // Once that is over it is as it was.
            let later = now() + super::DEAF;
            let nothing = around.watch(&mut Poller::default(), false);
            around.woke(&nothing, &[false], later);
            assert_eq!(turn(around), (true, expected));
        });
    }
}

fn with(
    port: Crowd,
    socket: &SocketEnd,
    stop: BorrowedFd<'_>,
    check: impl FnOnce(&mut Around<'_>),
) {
    let (settings, gauges) = (Settings::default(), Gauges::new(true));
    let mut report = |_: &Event<'_>| {};
    let port = Box::new(port);
    check(&mut Around::new(
        port,
        (socket, &settings),
        &gauges,
        stop,
        &mut report,
    ));
}
