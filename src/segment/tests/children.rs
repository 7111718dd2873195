//! What children do.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{bytes, join_bytes, join_slots};
use crate::protocol::recovery::Shape;
use crate::protocol::{Attachment, byte_ring, slot_ring};
use crate::segment::{CreateOptions, Location, Mapped, Role, create};

const TASK: &str = "ANNULUS_TEST_TASK";
const PATH: &str = "ANNULUS_TEST_PATH";

/// This program once more, doing one of the tasks below.
pub(super) struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub(super) fn start(task: &str, path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "segment::tests::children::as_a_child",
                "--nocapture",
            ])
            .env(TASK, task)
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self {
            process,
            input,
            output,
        }
    }

    /// What it says next, once it has said it.
    pub(super) fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, said)) = line.trim_end().split_once("says: ") {
                return said.to_owned();
            }
            line.clear();
        }
        panic!("the child ended without a word");
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it; its memory is gone when this returns.
    pub(super) fn kill(self) {}

    /// Lets it go on.
    pub(super) fn nudge(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    /// Stops it; it is stopped when this returns.
    pub(super) fn stop(&self) {
        let pid = libc::pid_t::try_from(self.pid()).unwrap();
        // SAFETY: a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        let mut status = 0;
        // SAFETY: our child, our status.
        let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
        assert_eq!(stopped, pid);
        assert!(libc::WIFSTOPPED(status));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn say(words: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "says: {words}").unwrap();
    output.flush().unwrap();
}

fn wait_for_a_nudge() {
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn as_a_child() {
    let (Ok(task), Some(path)) = (std::env::var(TASK), std::env::var_os(PATH)) else {
        return;
    };
    let path = PathBuf::from(path);
    match task.as_str() {
        "hold a producer" => hold_a_producer(&path),
        "hold a slot" => hold_slots(&path, false),
        "hold a record" => hold_slots(&path, true),
        "create under a umask" => create_under_a_umask(&path),
        other => panic!("no such task: {other}"),
    }
}

fn hold_a_producer(path: &PathBuf) {
    let producer = join_bytes(path, Role::Producer).unwrap();
    let Shape::Bytes(shape) = *producer.shape() else {
        unreachable!()
    };
    let mut writer = byte_ring::Writer::resume(&shape, producer.store()).unwrap();
    let span = writer.claim(&shape, producer.store(), 16).unwrap();
    writer.stage(&shape, producer.store(), span, 7, 16);
    writer.publish(&shape, producer.store());
    writer.claim(&shape, producer.store(), 16).unwrap();
    say("claimed");
    wait_for_a_nudge();
    drop(producer);
    say("detached");
    wait_for_a_nudge();
}

/// Commits a record, and holds another claim, or that record.
fn hold_slots(path: &PathBuf, reading: bool) {
    let mine = join_slots(path).unwrap();
    super::lives::commit_one(&mine);
    let shape = slots_of(&mine);
    if reading {
        slot_ring::Consumption::new()
            .claim(&shape, mine.store(), mine.me(), &mut false)
            .unwrap();
    } else {
        slot_ring::claim_to_write(&shape, mine.store(), mine.me()).unwrap();
    }
    say("claimed");
    wait_for_a_nudge();
}

pub(super) fn slots_of(mapped: &Mapped) -> slot_ring::Shape {
    let Shape::Slots(shape, _) = *mapped.shape() else {
        unreachable!()
    };
    shape
}

fn create_under_a_umask(path: &Path) {
    // SAFETY: changes this process's umask and nothing else.
    unsafe { libc::umask(0o777) };
    let options = CreateOptions {
        mode: 0o640,
        ..CreateOptions::default()
    };
    create(&Location::from(path), &bytes(), &options).unwrap();
    say("created");
}
