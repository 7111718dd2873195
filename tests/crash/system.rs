//! The few things of the system that the standard library does not have.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// Nanoseconds of a clock that all processes share.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Sends a signal to one child of ours.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a pid is positive");
    // SAFETY: takes two integers. The child is not reaped yet, so the number is still its own.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "cannot signal our own child {pid}");
}

/// Sends a signal to this process in `delay_ns`, which is not 0, wherever it is then.
pub(crate) fn signal_self_after(signal: libc::c_int, delay_ns: u64) {
    // SAFETY: a `sigevent` is plain numbers, and all of them may be 0.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal;
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: both pointers are to locals, which the call does not keep.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    assert_eq!(made, 0, "cannot make a timer");
    let once = libc::timespec {
        tv_sec: (delay_ns / 1_000_000_000).cast_signed(),
        tv_nsec: (delay_ns % 1_000_000_000).cast_signed(),
    };
    let never = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let when = libc::itimerspec {
        it_interval: never,
        it_value: once,
    };
    // SAFETY: the timer was just made; the pointer is to a local, which the call does not keep.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const when, std::ptr::null_mut()) };
    assert_eq!(set, 0, "cannot set a timer");
}

/// Whether a child stands still, now or (`wait`) as soon as the SIGSTOP that it was sent has
/// reached it. False also if it has ended; it is not reaped by this.
pub(crate) fn is_stopped(pid: u32, wait: bool) -> bool {
    let pid = Pid::from_raw(pid.cast_signed());
    let mut flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    flags.set(WaitPidFlag::WNOHANG, !wait);
    let status = waitid(Id::Pid(pid), flags).expect("it is our child");
    matches!(status, WaitStatus::Stopped(..))
}

/// The number of the calling thread.
pub(crate) fn this_thread() -> u64 {
    u64::from(nix::unistd::gettid().as_raw().cast_unsigned())
}

/// Whether a thread sleeps in a system call; false for one that is gone.
pub(crate) fn is_asleep(pid: u32, thread: u64) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    let end_of_name = stat
        .iter()
        .rposition(|byte| *byte == b')')
        .unwrap_or(stat.len());
    stat.get(end_of_name + 2) == Some(&b'S')
}

/// Has the kernel kill this process as soon as its parent `parent` is gone.
pub(crate) fn die_with(parent: u32) {
    set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
    if std::os::unix::process::parent_id() != parent {
        std::process::exit(1); // It was gone before we asked.
    }
}

/// Waits until the standard input ends, but not longer than so.
pub(crate) fn wait_for_end_of_input(at_most: Duration) {
    let mut input = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    let ms = libc::c_int::try_from(at_most.as_millis()).expect("it fits");
    // SAFETY: one `pollfd`, which is a local, and which the call does not keep.
    unsafe { libc::poll(&raw mut input, 1, ms) };
}

/// Something that happened to a child of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Stopped,
    Exited(i32),
    Killed(Signal),
}

/// The next thing that has happened to any child of ours; it is reaped if it has ended.
pub(crate) fn next_event() -> Option<(u32, Event)> {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid, Event::Exited(code))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, Event::Killed(signal))),
        Ok(WaitStatus::Stopped(pid, _)) => Some((pid, Event::Stopped)),
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => None,
        other => panic!("waitid: {other:?}"),
    }
    .map(|(pid, event)| (pid.as_raw().cast_unsigned(), event))
}

/// Whether this process has children, dead or alive.
pub(crate) fn has_children() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// Has the children of our children become ours when their parents die.
pub(crate) fn adopt_orphans() {
    set_child_subreaper(true).expect("any process may ask for this");
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("/proc is mounted")
        .count()
}

/// Has this thread go before other work of the machine, where the system allows it (to root).
///
/// Who waits for a process that the machine does not run waits for the machine, and no clock of the
/// waiting one can tell. So on a crowded machine the children go first, and the bounds stay as they
/// are.
pub(crate) fn go_first() {
    // SAFETY: takes three integers, and concerns this thread alone. It may be refused.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// How long a thread has been ready to run and had no processor.
#[derive(Debug)]
pub(crate) struct RunQueue {
    /// `None` on a kernel that does not count.
    file: Option<File>,
}

impl RunQueue {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self {
            file: File::open("/proc/thread-self/schedstat").ok(),
        }
    }

    /// Of a thread of another process.
    pub(crate) fn of(pid: u32, thread: u64) -> Self {
        Self {
            file: File::open(format!("/proc/{pid}/task/{thread}/schedstat")).ok(),
        }
    }

    /// Nanoseconds since the thread began; always 0 on a kernel that does not count.
    pub(crate) fn waited_ns(&self) -> u64 {
        let mut text = [0; 64];
        let Some(file) = &self.file else { return 0 };
        let len = file.read_at(&mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
        text.split_ascii_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    }
}

/// A number from a variable of the environment.
pub(crate) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is `{text}`, expected a number")),
    )
}
