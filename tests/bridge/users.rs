//! Whose process is at the other end of a UNIX socket, by the kernel's word.

use std::fs::{Permissions, set_permissions};
use std::io::{Error, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Uid, geteuid, setuid};

use crate::rig::{
    Place, Running, consumer, pop, producer, push, released, ring_end, settings, wait_until,
};

const NOBODY: u32 = 65534;

pub fn is_root(case: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("WARNING: NOT TESTED: {case} needs root");
    }
    root
}

/// Connects as another user, says what is no hello, and returns how many bytes came in reply.
#[track_caller]
fn reply_to_nobody(socket: &Path) -> usize {
    // Nobody may pass the folder and open the socket, so only the bridge itself refuses.
    set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    set_permissions(socket, Permissions::from_mode(0o777)).unwrap();
    let path = socket.to_owned();
    let talk = move || -> Result<(), Error> {
        setuid(Uid::from_raw(NOBODY))?;
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // It may be hung up on already.
        let _said = stream.write_all(&[0xff; 64]);
        let mut reply = [0; 4096];
        let mut count = 0;
        // Ends by the end of the connection, or by the time-out, which is an error.
        loop {
            match stream.read(&mut reply) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        // SAFETY: it ends this process, which is the child, without running anything else of it.
        unsafe { nix::libc::_exit(i32::from(count > 0)) }
    };
    let mut child = Command::new("true");
    // SAFETY: between fork and exec it makes system calls, and neither allocates nor locks.
    unsafe { child.pre_exec(talk) };
    let status = child.status().unwrap();
    usize::try_from(status.code().unwrap()).unwrap()
}

#[test]
fn another_users_process_is_hung_up_on_before_a_byte_is_read() {
    if !is_root("a caller of another user") {
        return;
    }
    let place = Place::new();
    let (from, to) = (place.ring("a", 4096), place.ring("b", 4096));
    let socket = place.path("s");
    let at = format!("unix-listen:{}", socket.display());
    let sends = Running::new(&ring_end(&from), &format!("{at}?allow_uid=4294967294,0"));
    sends.at();
    for turn in 1..=3 {
        assert_eq!(reply_to_nobody(&socket), 0, "not even a refusal");
        wait_until("it is counted", || sends.figures().forbidden == turn);
    }
    let told = sends.said();
    let told: Vec<_> = told.iter().filter(|said| said.contains("uid")).collect();
    assert_eq!(told.len(), 1, "each user is told of once: {told:?}");
    assert!(told[0].contains("uid 65534 is not among"), "{told:?}");

    let dial = format!("unix:{}", socket.display());
    let receives = Running::new(&format!("{dial}?allow_uid=0"), &ring_end(&to));
    push(&mut producer(&from), 0..10);
    pop(&mut consumer(&to), 0..10);
    wait_until("all is released", || released(&from) == 10);
    assert_eq!(sends.figures().connections, 1);
    assert!(receives.stop().all_confirmed && sends.stop().all_confirmed);
}

#[test]
fn one_who_is_allowed_is_heard_whoever_he_is() {
    if !is_root("a caller of another user") {
        return;
    }
    for options in ["", "?allow_uid=65534"] {
        let place = Place::new();
        let from = place.ring("a", 4096);
        let socket = place.path("s");
        let at = format!("unix-listen:{}{options}", socket.display());
        let sends = Running::new(&ring_end(&from), &at);
        sends.at();
        reply_to_nobody(&socket);
        // For what it said, not for who it is.
        let why = sends.wait_until_it_says(", uid 65534");
        assert!(why.starts_with("disconnected from pid"), "{why}");
        assert!(!why.contains("allow_uid"), "{why}");
        assert_eq!(sends.figures().forbidden, 0);
    }
}

/// The server of a socket in a place where anybody may have been first.
#[test]
fn a_server_of_another_user_is_not_talked_to() {
    let place = Place::new();
    let (from, to) = (place.ring("a", 4096), place.ring("b", 4096));
    let at = format!("unix-listen:{}", place.path("s").display());
    let sends = Running::new(&ring_end(&from), &at);
    let somebody = geteuid().as_raw() + 1;
    let dial = format!("unix:{}?allow_uid={somebody}", place.path("s").display());
    sends.at();
    let receives = Running::with(&dial, &ring_end(&to), settings()).unwrap();
    receives.wait_until_it_says("is not among those of `allow_uid`");
    wait_until("it tries on", || receives.figures().forbidden > 2);
    assert_eq!(receives.figures().connections, 0);
    let told = receives.said();
    let told = told.iter().filter(|said| said.contains("allow_uid"));
    assert_eq!(told.count(), 1);
}
