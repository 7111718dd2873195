//! Another process, as the test sees it: this program once more, playing a part.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::part::{DIRECTORY, PART};

/// A process that holds what its part says. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Our child: the one that plays, or one that waits for it.
    child: Pid,
    /// The one that plays, as we call it.
    pub(crate) pid: Pid,
    /// The same, as it calls itself.
    pub(crate) pid_in_row: u32,
    input: File,
    output: BufReader<File>,
    is_reaped: bool,
}

/// Longer than any answer takes that comes.
const LOST_MS: u16 = 30_000;
const ARGUMENTS: [&str; 4] = ["part", "--exact", "--nocapture", "--test-threads=1"];

impl Peer {
    /// Starts one, and waits until it is attached.
    #[expect(clippy::zombie_processes, reason = "`Drop` reaps it by its pid")]
    pub(crate) fn start(part: &str, directory: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(ARGUMENTS)
            .env(PART, part)
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a peer");
        let input = OwnedFd::from(process.stdin.take().expect("a pipe"));
        let output = OwnedFd::from(process.stdout.take().expect("a pipe"));
        let child = Pid::from_raw(process.id().cast_signed());
        Self::listen(child, input, output)
    }

    /// Starts one whose pid is to be `pid`; `None` if somebody has that one.
    pub(crate) fn start_as(pid: Pid, part: &str, directory: &Path) -> Option<Self> {
        let (their_input, input) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let (output, their_output) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let program = std::env::current_exe().expect("this program");
        let string = |text: &OsStr| CString::new(text.as_bytes()).expect("no zero within");
        let mut arguments = vec![string(program.as_os_str())];
        arguments.extend(ARGUMENTS.map(|argument| string(argument.as_ref())));
        let setting = |name: &str, value: &OsStr| {
            let mut text = std::ffi::OsString::from(format!("{name}="));
            text.push(value);
            string(&text)
        };
        let environment = [
            setting(PART, part.as_ref()),
            setting(DIRECTORY, directory.as_os_str()),
        ];
        let pointers = |strings: &[CString]| {
            let ends = std::iter::once(std::ptr::null());
            let all = strings.iter().map(|string| string.as_ptr()).chain(ends);
            all.collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        match clone_as(pid) {
            Ok(None) => {
                // The child of a process with threads: system calls, and nothing else.
                // SAFETY: open descriptors.
                unsafe { libc::dup2(their_input.as_raw_fd(), 0) };
                // SAFETY: as above.
                unsafe { libc::dup2(their_output.as_raw_fd(), 1) };
                // SAFETY: a path and two lists of strings, each ending in a null pointer.
                unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
                // SAFETY: ends this process.
                unsafe { libc::_exit(127) }
            }
            Ok(Some(child)) => {
                drop((their_input, their_output));
                assert_eq!(child, pid, "not the pid that was asked for");
                Some(Self::listen(child, input, output))
            }
            Err(Errno::EEXIST) => None,
            Err(errno) => panic!("clone3: {errno}"),
        }
    }

    fn listen(child: Pid, input: OwnedFd, output: OwnedFd) -> Self {
        let mut peer = Self {
            child,
            pid: child,
            pid_in_row: 0,
            input: input.into(),
            output: BufReader::new(output.into()),
            is_reaped: false,
        };
        let said = peer.hear();
        let (pid, pid_in_row) = said
            .strip_prefix("attached ")
            .and_then(|pids| pids.split_once(' '))
            .unwrap_or_else(|| panic!("the peer said `{said}`"));
        peer.pid = Pid::from_raw(pid.parse().expect("a pid"));
        peer.pid_in_row = pid_in_row.parse().expect("a pid");
        peer
    }

    /// What it says next, once it has said it.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            self.until_readable();
            if self.output.read_line(&mut line).expect("read its words") == 0 {
                panic!("the peer ended without a word");
            }
            if let Some((_, said)) = line.trim_end().split_once("says: ") {
                return said.to_owned();
            }
            line.clear();
        }
    }

    /// Waits for a word of its, and fails if none comes.
    #[track_caller]
    fn until_readable(&self) {
        if self.output.buffer().is_empty() {
            let mut output = [PollFd::new(
                self.output.get_ref().as_fd(),
                PollFlags::POLLIN,
            )];
            let ready = poll(&mut output, LOST_MS).expect("an open pipe");
            assert!(ready > 0, "the peer is silent");
        }
    }

    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.input, "{order}").expect("it listens");
    }

    /// Gives an order and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.hear()
    }

    /// Gives an order that makes it start a child, and returns that one's pid.
    #[track_caller]
    pub(crate) fn ask_for_child(&mut self, order: &str) -> Pid {
        let said = self.ask(order);
        let pid = said.strip_prefix("child ").and_then(|pid| pid.parse().ok());
        Pid::from_raw(pid.unwrap_or_else(|| panic!("the peer said `{said}`")))
    }

    /// Kills it, and leaves it unreaped. Returns when its end may have begun.
    pub(crate) fn kill(&self) -> Instant {
        let now = Instant::now();
        kill(self.pid, Signal::SIGKILL).expect("it is not reaped");
        now
    }

    /// Waits until our child is dead, and leaves it unreaped.
    pub(crate) fn until_dead(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.child), flags).expect("it is our child");
    }

    /// Reaps our child, which is dead or about to be. Its pid may be anybody's from here on.
    pub(crate) fn reap(&mut self) {
        waitpid(self.child, None).expect("it is our child");
        self.is_reaped = true;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it is not reaped");
    }

    /// Waits until it has been stopped by a signal.
    pub(crate) fn until_stopped(&self) {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.child), flags).expect("it is our child");
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.is_reaped {
            // If it is dead already, so much the better. Who plays behind our child dies with it.
            let _ = kill(self.child, Signal::SIGKILL);
            let _ = waitpid(self.child, None);
        }
    }
}

/// As `fork`, with a pid of one's choice. `None` in the child.
fn clone_as(pid: Pid) -> Result<Option<Pid>, Errno> {
    let wanted = [pid.as_raw()];
    // SAFETY: plain numbers, all of which may be 0.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    how.set_tid = wanted.as_ptr() as u64;
    how.set_tid_size = 1;
    // SAFETY: the structure and its size; without shared memory the child is a copy, as of `fork`.
    let made = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const how,
            size_of::<libc::clone_args>(),
        )
    };
    let made = Errno::result(made)?;
    let made = i32::try_from(made).expect("a pid");
    Ok((made > 0).then(|| Pid::from_raw(made)))
}

/// The state that `/proc` shows of a process, as one letter; `None` if it is gone.
pub(crate) fn state_of(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}
