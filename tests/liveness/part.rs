//! What the other process does: it attaches, holds a slot and bytes, and does as it is told.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use annulus::segment::AttachError;
use annulus::{Wait, mpmc};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{ForkResult, fork};

use super::children::{self, FIFO};
use super::scene::{byte_producer, recover_both, slot_producer, slots_in};

/// Set in a process that was started to play a part.
pub(crate) const PART: &str = "ANNULUS_LIVENESS_PART";
/// Where its rings are.
pub(crate) const DIRECTORY: &str = "ANNULUS_LIVENESS_DIRECTORY";
/// Where a part that comes by a bind mount mounts the directory, inside of it.
pub(crate) const ELSEWHERE: &str = "elsewhere";

pub(crate) fn play_if_asked() {
    let (Ok(part), Some(directory)) = (std::env::var(PART), std::env::var_os(DIRECTORY)) else {
        return;
    };
    let directory = PathBuf::from(directory);
    set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
    match part.as_str() {
        "owner" => own(&directory),
        "owner with one thread" => in_a_single_thread(|| own(&directory)),
        "owner in a second thread" => in_a_single_thread(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| own(&directory));
                // SAFETY: ends the calling thread, the process's first one, and nothing else; what
                // the other one borrows stays where it is.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
        }),
        "owner in a PID namespace" => in_a_pid_namespace(|| own(&directory)),
        "looker in a PID namespace" => in_a_pid_namespace(|| look(&directory)),
        "looker with one thread" => in_a_single_thread(|| look(&directory)),
        "owner by a bind mount" => own(&mounted_elsewhere(&directory)),
        "looker by a bind mount" => look(&mounted_elsewhere(&directory)),
        "owner by a process's root" => own(&by_the_root_of_our_parent(&directory)),
        other => panic!("no such part: {other}"),
    }
}

/// Runs `body` in a child that has no other thread. This process waits for it, and then for the end
/// of the test, so that the child's end stays unreaped as long.
fn in_a_single_thread(body: impl FnOnce()) {
    // SAFETY: the only other thread of this process is the harness's, which waits for this one.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
            body();
            // SAFETY: ends this process without the harness's ado.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(child), flags).expect("it is our child");
            children::linger();
        }
    }
}

fn in_a_pid_namespace(body: impl FnOnce()) {
    // SAFETY: takes an integer; it is about the children of this thread alone.
    let done = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    Errno::result(done).expect("a PID namespace of its own");
    in_a_single_thread(body);
}

/// The same directory by a bind mount, in a mount namespace of this thread's.
fn mounted_elsewhere(directory: &Path) -> PathBuf {
    let elsewhere = directory.join(ELSEWHERE);
    // SAFETY: takes an integer.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    Errno::result(done).expect("a mount namespace of its own");
    mount(None, Path::new("/"), libc::MS_REC | libc::MS_PRIVATE);
    mount(Some(directory), &elsewhere, libc::MS_BIND);
    elsewhere
}

fn mount(source: Option<&Path>, target: &Path, flags: libc::c_ulong) {
    let string = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no zero within");
    let (source, target) = (source.map(string), string(target));
    let nothing = std::ptr::null();
    let source = source.as_ref().map_or(nothing, |source| source.as_ptr());
    // SAFETY: strings that end in a zero and outlive the call, or null where nothing is meant.
    let done = unsafe { libc::mount(source, target.as_ptr(), nothing, flags, nothing.cast()) };
    Errno::result(done).expect("mount");
}

fn by_the_root_of_our_parent(directory: &Path) -> PathBuf {
    let parent = std::os::unix::process::parent_id();
    let mut path = PathBuf::from(format!("/proc/{parent}/root"));
    path.push(directory.strip_prefix("/").expect("absolute"));
    path
}

pub(crate) fn say(words: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "says: {words}").expect("somebody listens");
    output.flush().expect("somebody listens");
}

/// By the name that the test has for this process, which may lie in another namespace, and by its
/// own.
fn say_attached() {
    let outer = std::fs::read_link("/proc/self").expect("/proc is mounted");
    say(&format!(
        "attached {} {}",
        outer.display(),
        std::process::id()
    ));
}

/// The next order; `None` at the end of the test.
fn next_order() -> Option<String> {
    let mut line = String::new();
    let len = std::io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("read orders");
    (len > 0).then(|| line.trim_end().to_owned())
}

/// Holds a slot and bytes, and commits both when told so, to claim the next ones.
fn own(directory: &Path) {
    let slots = slot_producer(directory);
    let mut bytes = byte_producer(directory).expect("attach");
    let mut introduce: fn() = say_attached;
    loop {
        let mut slot = slots.claim(4, Wait::block()).expect("space");
        let mut span = bytes.claim(4, Wait::block()).expect("space");
        slot.copy_from_slice(b"mine");
        span.copy_from_slice(b"mine");
        introduce();
        introduce = || say("committed");
        loop {
            match next_order().as_deref() {
                Some("commit") => break,
                Some(order) => obey(order, &slots, directory),
                None => return,
            }
        }
        slot.commit(7);
        span.commit(7);
    }
}

/// Holds nothing, and looks after others when told so.
fn look(directory: &Path) {
    say_attached();
    while let Some(order) = next_order() {
        match order.as_str() {
            "attach" => match byte_producer(directory).map(drop) {
                Ok(()) => say("attached"),
                Err(AttachError::RoleTaken { pid, .. }) => say(&format!("taken by {pid}")),
                Err(other) => panic!("{other:?}"),
            },
            "recover" => say(&recover_both(directory).to_string()),
            step => step_clock(step),
        }
    }
}

#[expect(clippy::zombie_processes, reason = "it outlives its parent")]
fn obey(order: &str, slots: &mpmc::Producer, directory: &Path) {
    match order {
        "clone" => children::clone_bare(0, slots, || {
            let own = slot_producer(directory);
            let claim = own.try_claim(4).expect("space");
            claim.abort();
        }),
        "clone with our files" => children::clone_bare(libc::CLONE_FILES, slots, || {}),
        "clone with our memory" => children::clone_with_our_memory(),
        "vfork" => children::vfork(&directory.join(FIFO)),
        "spawn" => {
            let ring = File::open(slots_in(directory)).expect("open");
            // SAFETY: an open descriptor and two integers.
            let done = unsafe { libc::fcntl(ring.as_raw_fd(), libc::F_SETFD, 0) };
            Errno::result(done).expect("keep it open in children");
            // One that ends with the test, and leaves our orders to us.
            let test = std::os::unix::process::parent_id();
            let mut tail = Command::new("tail");
            tail.arg(format!("--pid={test}")).args(["-f", "/dev/null"]);
            let child = tail.stdout(Stdio::null()).spawn().expect("spawn tail");
            say(&format!("child {}", child.id()));
        }
        "execute" => {
            let Err::<Infallible, _>(error) = Err(Command::new("cat").exec());
            panic!("execute cat: {error}");
        }
        step => step_clock(step),
    }
}

/// `step SECONDS`: has `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` be so far ahead of the machine's, for
/// this process, which must have a single thread, from here on.
fn step_clock(order: &str) {
    const CLONE_NEWTIME: libc::c_int = 0x80;
    let ahead = order
        .strip_prefix("step ")
        .unwrap_or_else(|| panic!("no such order: {order}"));
    let before = Instant::now();
    // SAFETY: takes an integer.
    let done = unsafe { libc::unshare(CLONE_NEWTIME) };
    Errno::result(done).expect("a time namespace");
    let offsets = format!("monotonic {ahead} 0\nboottime {ahead} 0\n");
    std::fs::write("/proc/self/timens_offsets", offsets).expect("set its clocks");
    let entrance = File::open("/proc/self/ns/time_for_children").expect("its descriptor");
    // SAFETY: an open descriptor and an integer.
    let done = unsafe { libc::setns(entrance.as_raw_fd(), CLONE_NEWTIME) };
    Errno::result(done).expect("enter it");
    let after = Instant::now();
    let forward = after.saturating_duration_since(before).as_secs();
    let back = before.saturating_duration_since(after).as_secs();
    say(&format!("stepped {forward} {back}"));
}
