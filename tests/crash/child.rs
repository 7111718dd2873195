//! Children: how they are started, watched, stopped, killed and counted.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus::Wait;
use tempfile::TempDir;

use super::log::{Log, Step, Word};
use super::system;

/// How long anything may take before the test gives it up as lost.
const LOST: Duration = Duration::from_secs(20);

/// A wait that ends in an error rather than never.
pub(crate) fn patience() -> Wait {
    Wait::block().for_at_most(LOST)
}

/// Keeps tests apart that measure, or that need both processors.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    system::go_first();
    alone
}

/// A directory in memory for one test's rings and logs.
pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("annulus-crash-")
        .tempdir_in("/dev/shm")
        .expect("a directory")
}

/// What a child is told by its environment.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) role: String,
    pub(crate) ring: PathBuf,
    pub(crate) log: Log,
    /// Whatever the role wants.
    pub(crate) number: u64,
}

const ROLE: &str = "ANNULUS_CRASH_ROLE";
const PARENT: &str = "ANNULUS_CRASH_PARENT";
const RING: &str = "ANNULUS_CRASH_RING";
const LOG: &str = "ANNULUS_CRASH_LOG";
const NUMBER: &str = "ANNULUS_CRASH_NUMBER";

impl Task {
    /// `None` in the process that runs the tests.
    pub(crate) fn of_this_process() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let parent = system::number_from(PARENT).expect("the parent's pid");
        system::die_with(u32::try_from(parent).expect("a pid"));
        system::go_first();
        let path = |variable| PathBuf::from(std::env::var_os(variable).expect("a path"));
        let number = system::number_from(NUMBER).expect("a number");
        let log = Log::open(&path(LOG));
        log.set(Word::Thread, system::this_thread());
        Some(Self {
            role,
            ring: path(RING),
            log,
            number,
        })
    }

    /// Waits until the parent orders `order`.
    pub(crate) fn wait_for_order(&self, order: u64) {
        while self.log.get(Word::Order) != order {
            std::thread::yield_now();
        }
    }
}

/// This binary once more, to play `role`; it dies with `parent`.
pub(crate) fn command(role: &str, parent: u32, ring: &Path, log: &Path, number: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env(ROLE, role)
        .env(PARENT, parent.to_string())
        .env(RING, ring)
        .env(LOG, log)
        .env(NUMBER, number.to_string());
    command
}

/// A child of this process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    log_path: PathBuf,
    pub(crate) log: Log,
}

impl Child {
    /// Starts a child that plays `role` at `ring`, with room for `entries` in its log.
    pub(crate) fn start(role: &str, ring: &Path, number: u64, entries: usize) -> Self {
        Self::start_with_input(role, ring, number, entries, Stdio::null())
    }

    /// The same, with a standard input that its own children inherit.
    pub(crate) fn start_with_input(
        role: &str,
        ring: &Path,
        number: u64,
        entries: usize,
        input: Stdio,
    ) -> Self {
        Self::start_with(role, ring, number, entries, (input, Stdio::null()), |_| {})
    }

    /// A child whose lines the test reads.
    pub(crate) fn start_speaking(role: &str, ring: &Path, number: u64, input: Stdio) -> Self {
        Self::start_with(role, ring, number, 0, (input, Stdio::piped()), |_| {})
    }

    /// What a child that speaks says, line by line, until it has nothing more to say.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let output = self.process.stdout.take().expect("it speaks");
        BufReader::new(output).lines().map_while(Result::ok)
    }

    /// The same, with a log that `aim` has prepared: nothing the child does can come before it.
    pub(crate) fn start_aimed(
        role: &str,
        ring: &Path,
        number: u64,
        entries: usize,
        aim: impl FnOnce(&Log),
    ) -> Self {
        let quiet = (Stdio::null(), Stdio::null());
        Self::start_with(role, ring, number, entries, quiet, aim)
    }

    fn start_with(
        role: &str,
        ring: &Path,
        number: u64,
        entries: usize,
        (input, output): (Stdio, Stdio),
        aim: impl FnOnce(&Log),
    ) -> Self {
        static LOGS: AtomicU64 = AtomicU64::new(0);
        let unique = LOGS.fetch_add(1, Ordering::Relaxed);
        let log_path = ring.with_file_name(format!("{role}-{unique}.log"));
        let log = Log::create(&log_path, entries);
        aim(&log);
        let mut command = command(role, std::process::id(), ring, &log_path, number);
        let process = command
            .stdin(input)
            .stdout(output)
            .spawn()
            .expect("start a child");
        Self {
            process,
            log_path,
            log,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `what` holds of its log, and fails if the child ends before, or takes for ever.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: impl Fn(&Log) -> bool) {
        let began = Instant::now();
        while !what(&self.log) {
            let ended = self.process.try_wait().expect("it is our child");
            if let Some(status) = ended.filter(|_| !what(&self.log)) {
                panic!("a child ended in {:?}: {status}", self.log.step());
            }
            assert!(
                began.elapsed() < LOST,
                "a child hangs in {:?}",
                self.log.step()
            );
            std::thread::yield_now();
        }
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, step: Step) {
        self.wait_until(|log| log.step() == step);
    }

    /// Sends SIGSTOP and waits until the child stands still. False if it has ended.
    pub(crate) fn stop(&self) -> bool {
        system::signal(self.pid(), libc::SIGSTOP);
        system::is_stopped(self.pid(), true)
    }

    pub(crate) fn go_on(&self) {
        system::signal(self.pid(), libc::SIGCONT);
    }

    /// Has the child stopped in `step`, within so long after it began. False if it did not come
    /// there in `budget`; then it runs on, or is about to stop.
    pub(crate) fn stop_in(&self, step: Step, within: Duration, budget: Duration) -> bool {
        let began = Instant::now();
        self.log.aim(step, libc::SIGSTOP, within);
        while began.elapsed() < budget {
            if !system::is_stopped(self.pid(), false) {
                std::thread::yield_now();
                continue;
            }
            if self.log.is_hit_in(step) {
                self.log.hold_fire();
                return true;
            }
            self.go_on(); // It had left the step; it comes by again.
        }
        self.log.hold_fire();
        false
    }

    /// Whether it waits for the ring, and sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        let thread = self.log.get(Word::Thread);
        self.log.step() == Step::Waiting && system::is_asleep(self.pid(), thread)
    }

    /// Sends SIGKILL and reaps it.
    ///
    /// # Panics
    /// If it had ended by itself: then something in it went wrong.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("kill a child");
        let status = self.process.wait().expect("reap a child");
        let by_us = status.signal() == Some(libc::SIGKILL);
        assert!(
            by_us,
            "a child ended by itself in {:?}: {status}",
            self.log.step()
        );
    }

    /// Waits for the death that it is aimed at. False if it finished its work before.
    #[track_caller]
    pub(crate) fn dies(&mut self) -> bool {
        let status = self.process.wait().expect("reap a child");
        let killed = status.signal() == Some(libc::SIGKILL);
        assert!(
            killed || status.success(),
            "a child failed in {:?}: {status}",
            self.log.step()
        );
        killed
    }

    /// Whether it has ended, and well.
    #[track_caller]
    pub(crate) fn has_finished(&mut self) -> bool {
        let status = self.process.try_wait().expect("it is our child");
        let failed = status.is_some_and(|status| !status.success());
        assert!(
            !failed,
            "a child failed in {:?}: {status:?}",
            self.log.step()
        );
        status.is_some()
    }

    /// Waits until it has ended, and well.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        let began = Instant::now();
        while !self.has_finished() {
            assert!(
                began.elapsed() < LOST,
                "a child hangs in {:?}",
                self.log.step()
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has been reaped already.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
        let _removed = std::fs::remove_file(&self.log_path);
    }
}
