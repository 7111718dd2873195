//! A racer that is traced: it runs from system call to system call, and is killed at one of them.
//!
//! Killed before a call it has not made it; killed after a call it has made it, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::arena::{Arena, Seat};
use super::points::{Phase, Point, Side};
use super::{racer, zygote};

/// The heap's own system call: it comes when it comes.
const NOT_OURS: libc::c_long = libc::SYS_brk;

#[derive(Debug)]
pub(crate) struct Victim {
    pid: Pid,
    seat: &'static Seat,
    /// The system call before whose end it stands.
    call: u64,
    has_linked: bool,
    is_gone: bool,
}

impl Victim {
    /// A racer that stands still before its race.
    pub(crate) fn new(arena: &'static Arena, number: usize, path: &Path) -> Self {
        let pid = zygote::fork_child(|| {
            ptrace::traceme().expect("the zygote traces us");
            raise(Signal::SIGSTOP).expect("a signal to ourselves");
            racer::enter(arena, number, path);
        });
        let status = waitpid(pid, None).expect("it is our child");
        assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(pid, options).expect("it is stopped");
        Self {
            pid,
            seat: &arena.seats[number],
            call: 0,
            has_linked: false,
            is_gone: false,
        }
    }

    /// Lets it run up to `point`. False if it finished its race without coming there.
    pub(crate) fn run_to(&mut self, point: Point) -> bool {
        let phase = point.operation.phase();
        let mut seen = 0;
        while let Some(call) = self.next_call() {
            if call == point.call && phase.is_of(self.seat) {
                seen += 1;
            }
            let is_there = seen == point.occurrence && phase.is_of(self.seat);
            if is_there && point.side == Side::Before {
                return true;
            }
            if !self.finish_call() {
                return false;
            }
            if is_there {
                return true;
            }
        }
        false
    }

    /// Lets it run to its end, and tells the system calls that it made in `phase`.
    pub(crate) fn trace(mut self, phase: Phase) -> Vec<u64> {
        let mut calls = Vec::new();
        while let Some(call) = self.next_call() {
            if phase.is_of(self.seat) && libc::c_long::try_from(call) != Ok(NOT_OURS) {
                calls.push(call);
            }
            if !self.finish_call() {
                break;
            }
        }
        calls
    }

    /// Runs to the next system call, before which it stands then; `None` if it has ended.
    fn next_call(&mut self) -> Option<u64> {
        if !self.step() {
            return None;
        }
        let info = ptrace::syscall_info(self.pid).expect("it stands at a system call");
        assert_eq!(info.op, libc::PTRACE_SYSCALL_INFO_ENTRY, "out of step");
        // SAFETY: the kernel says that this is the member of the union that it filled.
        self.call = unsafe { info.u.entry }.nr;
        Some(self.call)
    }

    /// Lets it make the system call at which it stands. False if that ended it.
    fn finish_call(&mut self) -> bool {
        if !self.step() {
            return false;
        }
        let info = ptrace::syscall_info(self.pid).expect("it stands at a system call");
        assert_eq!(info.op, libc::PTRACE_SYSCALL_INFO_EXIT, "out of step");
        // SAFETY: the kernel says that this is the member of the union that it filled.
        let failed = unsafe { info.u.exit }.is_error != 0;
        let links = libc::c_long::try_from(self.call) == Ok(libc::SYS_linkat);
        self.has_linked |= links && !failed;
        true
    }

    /// Whether it has given a file its name.
    pub(crate) fn has_linked(&self) -> bool {
        self.has_linked
    }

    /// To the beginning or the end of a system call. False if it has ended instead.
    fn step(&mut self) -> bool {
        ptrace::syscall(self.pid, None).expect("it is stopped");
        match waitpid(self.pid, None).expect("it is our child") {
            WaitStatus::PtraceSyscall(_) => true,
            WaitStatus::Exited(_, 0) => {
                self.is_gone = true;
                false
            }
            status => panic!("a victim ended by itself: {status:?}"),
        }
    }

    /// Kills it where it stands; its memory, descriptors and locks are gone when this returns.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !self.is_gone {
            kill(self.pid, Signal::SIGKILL).expect("it is our child");
            let status = waitpid(self.pid, None).expect("it is our child");
            assert_eq!(
                status,
                WaitStatus::Signaled(self.pid, Signal::SIGKILL, false)
            );
            self.is_gone = true;
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.end();
    }
}

/// Traces, by what they were made of.
pub(crate) type Traces = BTreeMap<super::points::Operation, Vec<u64>>;
