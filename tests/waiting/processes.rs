//! Tests that need a process of their own, or another one to kill: this program, started again.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Set in a process that was started to run one test alone.
const ALONE: &str = "ANNULUS_TEST_ALONE";
/// Set in a process that was started to be killed: what it shall do.
const VICTIM: &str = "ANNULUS_TEST_VICTIM";
/// Where its ring is.
const PATH: &str = "ANNULUS_TEST_PATH";

/// Whether this process was started by [`command`] to run its test alone.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// This program, running nothing but the test `name`.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1");
    command
}

/// Runs `body` in a process in which no other test runs.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if is_alone() {
        return body();
    }
    let output = command(name).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
    assert!(
        stdout.contains("1 passed"),
        "no such test: {name}\n{stdout}"
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that holds something in a ring until it is killed.
pub(crate) struct Victim {
    child: Child,
    /// Kept open, or the victim could die of writing to it.
    _stdout: BufReader<ChildStdout>,
}

impl Victim {
    /// Starts `role`, which the test `victim` plays, and returns once it holds what it shall.
    pub(crate) fn start(role: &str, path: impl Into<OsString>) -> Self {
        let mut command = command("victim");
        command
            .env(VICTIM, role)
            .env(PATH, path.into())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("holding") {
            line.clear();
            let bytes = stdout.read_line(&mut line).unwrap();
            assert!(bytes > 0, "the victim ended before it held anything");
        }
        Self {
            child,
            _stdout: stdout,
        }
    }

    /// Kills it and waits until nothing is left of it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// In a victim: its role and its ring.
pub(crate) fn victims_part() -> Option<(String, OsString)> {
    Some((std::env::var(VICTIM).ok()?, std::env::var_os(PATH)?))
}

/// In a victim: says that it holds what it shall, and waits to be killed.
pub(crate) fn hold() -> ! {
    #[expect(clippy::print_stdout, reason = "the one who kills waits for this line")]
    {
        println!("holding");
    }
    loop {
        std::thread::park();
    }
}
