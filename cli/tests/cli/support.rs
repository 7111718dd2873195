//! Running the command, and rings that go when a test ends.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const SPSC: &[&str] = &["--spsc", "--capacity", "64KiB"];
pub const MPMC: &[&str] = &["--mpmc", "--slots", "64", "--slot-size", "240"];

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks, so that those who are looked at get on.
const NAP: Duration = Duration::from_millis(5);

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    /// It failed as promised: with this code, one `error:` line that has all of `words`, and no
    /// panic.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code(), Some(code), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let errors = lines
            .iter()
            .filter(|line| line.starts_with("error: "))
            .count();
        let hints = lines
            .iter()
            .filter(|line| line.starts_with("hint: "))
            .count();
        assert_eq!(errors, 1, "{self:?}");
        assert_eq!(errors + hints, lines.len(), "{self:?}");
        for word in words {
            assert!(lines[0].contains(word), "`{word}` in {self:?}");
        }
    }

    #[track_caller]
    pub fn assert_done(&self) {
        assert_eq!(self.code(), Some(0), "{self:?}");
        assert!(!self.stderr.contains("error:"), "{self:?}");
    }
}

pub fn annulus<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    finish(annulus(args).spawn().unwrap())
}

pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran {
        status: output.status,
        stdout: output.stdout,
        stderr,
    }
}

/// A ring of its own, in a directory of its own under `/dev/shm`.
#[derive(Debug)]
pub struct Ring {
    pub dir: tempfile::TempDir,
    pub path: PathBuf,
}

impl Ring {
    /// A place where there is none yet.
    pub fn none() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("annulus-test-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let path = dir.path().join("test.ring");
        Self { dir, path }
    }

    pub fn new(kind: &[&str]) -> Self {
        let ring = Self::none();
        ring.run("create", kind).assert_done();
        ring
    }

    pub fn command(&self, subcommand: &str, options: &[&str]) -> Command {
        let mut command = annulus([subcommand]);
        command.arg(&self.path).args(options);
        command
    }

    pub fn run(&self, subcommand: &str, options: &[&str]) -> Ran {
        finish(self.command(subcommand, options).spawn().unwrap())
    }

    /// Starts it with files, which never block, on both ends.
    pub fn start(&self, subcommand: &str, options: &[&str], input: &Path) -> Running {
        let mut command = self.command(subcommand, options);
        command.stdin(File::open(input).unwrap());
        Running(command.spawn().unwrap())
    }

    /// Sends `input` from a file.
    pub fn send(&self, options: &[&str], input: &[u8]) -> Ran {
        self.start("send", options, &self.file("input", input))
            .finish()
    }

    /// Starts a receiver that writes to a file.
    pub fn start_recv(&self, options: &[&str], output: &Path) -> Running {
        let mut command = self.command("recv", options);
        command.stdout(File::create(output).unwrap());
        Running(command.spawn().unwrap())
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        path
    }

    pub fn stat(&self) -> Value {
        let ran = self.run("stat", &["--json"]);
        ran.assert_done();
        serde_json::from_slice(&ran.stdout).unwrap()
    }

    pub fn number(&self, field: &str) -> u64 {
        self.stat()[field].as_u64().unwrap()
    }

    /// Looks again and again until the ring is as expected.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let stat = self.stat();
            if is_so(&stat) {
                return stat;
            }
            assert!(begun.elapsed() < PATIENCE, "in vain: {stat:#}");
            std::thread::sleep(NAP);
        }
    }
}

/// A child that does not outlive its test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Whether the kernel has it asleep in a write or in a poll. `recv` is there only because of
    /// its output, and stays until somebody reads; whoever waits for a ring is in a futex.
    pub fn waits_for_its_reader(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let poll = nix::libc::SYS_poll;
        #[cfg(not(target_arch = "x86_64"))]
        let poll = nix::libc::SYS_ppoll;
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid())).unwrap();
        let number = call.split(' ').next().unwrap();
        [nix::libc::SYS_write, poll]
            .iter()
            .any(|call| number == call.to_string())
    }

    /// Kills what may be about to end by itself, all being done. Whether it lived until then.
    #[track_caller]
    pub fn strike(mut self) -> bool {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        let was_killed = status.signal() == Some(nix::libc::SIGKILL);
        assert!(
            was_killed || status.success(),
            "it failed by itself: {status}"
        );
        was_killed
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(nix::libc::SIGKILL),
            "it lived until it was killed"
        );
    }

    pub fn finish(mut self) -> Ran {
        let mut child = std::mem::replace(&mut self.0, Command::new("true").spawn().unwrap());
        drop(child.stdin.take());
        finish(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `count` lines, each of which tells its number.
pub fn numbered(count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|number| format!("line {number}\n").into_bytes())
        .collect()
}

/// The numbers of the whole lines in `output`.
#[track_caller]
pub fn numbers(output: &[u8]) -> Vec<u64> {
    let whole = output
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    let text = str::from_utf8(&output[..whole]).unwrap();
    text.lines()
        .map(|line| line.strip_prefix("line ").unwrap().parse().unwrap())
        .collect()
}

/// Bytes without a pattern, among them all values and some newlines.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}
