//! What the rows share: processes of their own, namespaces, children that talk, and rings.

use std::any::type_name_of_val;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use annulus::Wait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use tempfile::TempDir;

/// Set in the process in which a row runs.
const ROW: &str = "ANNULUS_STORAGE_ROW";
/// What says that no namespace is to be had.
const NO_NAMESPACE: i32 = 97;

/// Runs a row in a process of its own.
pub(crate) fn alone(row: impl FnOnce()) {
    let program = std::env::current_exe().expect("this binary");
    run(type_name_of_val(&row), row, Command::new(program));
}

/// Runs a row in a process of its own, which may mount.
pub(crate) fn with_mounts(row: impl FnOnce()) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount"]);
    unshare.args(["sh", "-c"]);
    let script = format!("mount -t tmpfs none /mnt || exit {NO_NAMESPACE}; exec \"$0\" \"$@\"");
    unshare.arg(script);
    unshare.arg(std::env::current_exe().expect("this binary"));
    run(type_name_of_val(&row), row, unshare);
}

fn run(closure: &str, row: impl FnOnce(), mut command: Command) {
    // `storage::storage::file::test::{{closure}}`
    let path = closure.split_once("::").expect("a path").1;
    let name = path.trim_end_matches("::{{closure}}");
    if std::env::var(ROW).as_deref() == Ok(name) {
        return row();
    }
    command
        .args([name, "--exact", "--nocapture"])
        .env(ROW, name);
    let output = command.output().expect("a process for the row");
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_NAMESPACE) || complained.contains("unshare: ") {
        return excuse(&complained);
    }
    assert!(
        output.status.success(),
        "{}\n{told}\n{complained}",
        output.status
    );
    assert!(told.contains("1 passed"), "the row did not run: {told}");
}

/// The kernel must be the one that refused.
fn excuse(complained: &str) {
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let refused = limit.trim() == "0" || complained.contains("Operation not permitted");
    assert!(
        refused,
        "no namespace, and nobody who forbids it: {complained}"
    );
    eprintln!("WARNING: NOT TESTED: this machine gives nobody a user namespace: {complained}");
}

/// A directory in memory, and a path in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let mut directory = tempfile::Builder::new();
    let directory = directory.prefix("annulus-storage-").tempdir_in("/dev/shm");
    let directory = directory.expect("a directory");
    let path = directory.path().join("orders.ring");
    (directory, path)
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// An error's text with its cause.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Sets a soft limit of this process.
pub(crate) fn limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).expect("a limit");
    setrlimit(resource, soft, hard).expect("at most the hard limit");
}

/// Longer than anything may take.
pub(crate) fn patiently(wait: Wait) -> Wait {
    wait.for_at_most(Duration::from_secs(20))
}

/// One end of a talk between a row and its child.
#[derive(Debug)]
pub(crate) struct Talk(UnixStream);

impl Talk {
    pub(crate) fn say(&mut self, words: &str) {
        self.0
            .write_all(format!("{words}\n").as_bytes())
            .expect("somebody listens");
    }

    /// The next line; empty if the other one is gone.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("words")
    }
}

/// A forked process. It ends with the row.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) talk: Talk,
}

impl Child {
    pub(crate) fn start(work: impl FnOnce(&mut Talk)) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        // SAFETY: the other threads of a row's process wait for it and hold no lock.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child: pid } => Self {
                pid,
                talk: Talk(ours),
            },
            ForkResult::Child => {
                drop(ours);
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("anybody may ask for it");
                let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut Talk(theirs))));
                // SAFETY: ends the process without running the row's destructors.
                unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) }
            }
        }
    }

    pub(crate) fn end(self) -> WaitStatus {
        waitpid(self.pid, None).expect("it is our child")
    }

    /// Waits until it sleeps in a system call.
    pub(crate) fn until_asleep(&self) {
        let began = std::time::Instant::now();
        loop {
            let path = format!("/proc/{}/syscall", self.pid);
            let call = std::fs::read_to_string(path).unwrap_or_default();
            let futex = format!("{} ", libc::SYS_futex);
            if call.starts_with(&futex) {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "it never sleeps: {call}"
            );
            std::thread::yield_now();
        }
    }
}
