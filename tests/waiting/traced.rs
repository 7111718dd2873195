//! Counts the system calls of a child process between two marks, with ptrace(2).

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// An argument that no caller of `getpgid` has.
const MARK: libc::c_long = 0x00c0_ffee;

/// In the child: begins or ends what is counted.
pub(crate) fn mark() {
    // SAFETY: takes an integer and no pointer; there is no such process.
    let outcome = unsafe { libc::syscall(libc::SYS_getpgid, MARK) };
    assert_eq!(outcome, -1);
}

/// What a child of two marks did between them: how often it made each system call, by number.
pub(crate) fn count_between_marks(mut command: Command) -> BTreeMap<u64, u64> {
    // SAFETY: ptrace is a system call and touches no memory.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    #[expect(
        clippy::zombie_processes,
        reason = "the loop below waits for all of its threads"
    )]
    let child = command.spawn().unwrap();
    let main = Pid::from_raw(child.id().cast_signed());
    // It stops as it executes the program.
    assert!(matches!(
        waitpid(main, None),
        Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))
    ));
    let follow =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(main, follow).unwrap();
    ptrace::syscall(main, None).unwrap();

    let mut calls = BTreeMap::new();
    let mut marks = 0;
    loop {
        // Any thread of the child, and nothing of other tests' children.
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).unwrap();
        let (pid, signal) = match status {
            WaitStatus::PtraceSyscall(pid) => {
                if let Some((number, first)) = entered(pid) {
                    if number == libc::SYS_getpgid.cast_unsigned() && first == MARK.cast_unsigned()
                    {
                        marks += 1;
                    } else if marks == 1 {
                        *calls.entry(number).or_default() += 1;
                    }
                }
                (pid, None)
            }
            // Signals are passed on, except for the stop with which a new thread begins.
            WaitStatus::Stopped(pid, Signal::SIGSTOP | Signal::SIGTRAP) => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::Exited(pid, code) if pid == main => {
                assert_eq!(
                    (code, marks),
                    (0, 2),
                    "the traced test failed or has not two marks"
                );
                return calls;
            }
            WaitStatus::Signaled(pid, signal, _) if pid == main => {
                panic!("the traced test died of {signal}")
            }
            _ => match status.pid() {
                Some(pid) => (pid, None),
                None => continue,
            },
        };
        // A thread may be gone by now.
        let _ = ptrace::syscall(pid, signal);
    }
}

/// Number and first argument of the call that the thread enters; `None` as it leaves one.
fn entered(pid: Pid) -> Option<(u64, u64)> {
    let info = ptrace::syscall_info(pid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this is the field that the kernel filled.
    let entry = unsafe { info.u.entry };
    Some((entry.nr, entry.args[0]))
}
