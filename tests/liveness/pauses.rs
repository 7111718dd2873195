//! Owners that do not run: stopped, held by a debugger, frozen, or starved.

use std::path::PathBuf;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::peer::Peer;
use super::scene::{Scene, is_root};

/// `crash/stop` has this one at length; here is its death.
#[test]
fn an_owner_that_is_killed_while_it_is_stopped() {
    let scene = Scene::new();
    let owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    owner.signal(Signal::SIGSTOP);
    owner.until_stopped();
    scene.keeps(&owner);
    scene.is_taken_back("stopped", || owner.kill());
}

fn threads_of(pid: Pid) -> Vec<Pid> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it lives")
        .map(|entry| entry.expect("a thread").file_name())
        .map(|name| name.to_str().expect("digits").parse().expect("a number"))
        .map(Pid::from_raw)
        .collect()
}

/// Has every thread of a process wait for this one, its debugger.
fn hold_by_debugger(pid: Pid) -> Vec<Pid> {
    let threads = threads_of(pid);
    for thread in &threads {
        ptrace::seize(*thread, ptrace::Options::empty()).expect("a child of ours");
        ptrace::interrupt(*thread).expect("a tracee");
        let status = waitpid(*thread, Some(WaitPidFlag::__WALL)).expect("a tracee");
        assert!(matches!(status, WaitStatus::PtraceEvent(..)), "{status:?}");
    }
    threads
}

#[test]
fn an_owner_that_a_debugger_holds() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let threads = hold_by_debugger(owner.pid);
    scene.keeps(&owner);
    for thread in threads {
        ptrace::detach(thread, None).expect("a tracee");
    }
    scene.goes_on(&mut owner);
    let threads = hold_by_debugger(owner.pid);
    scene.is_taken_back("held by a debugger", || owner.kill());
    for thread in threads.into_iter().filter(|thread| *thread != owner.pid) {
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("a debugger reaps every thread");
    }
}

/// A control group with a freezer. Dropping it removes it.
struct Freezer {
    directory: PathBuf,
    /// The file, and what freezes and thaws.
    switch: (&'static str, [&'static str; 2]),
}

impl Freezer {
    const ROOTS: [(&str, &str, [&str; 2]); 3] = [
        (
            "/sys/fs/cgroup/freezer",
            "freezer.state",
            ["FROZEN", "THAWED"],
        ),
        ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
    ];

    /// `None` where nothing of that kind is mounted.
    fn new() -> Option<Self> {
        for (root, file, words) in Self::ROOTS {
            Self::sweep(root, file, words[1]);
            let directory = PathBuf::from(root).join(format!("annulus-{}", std::process::id()));
            if std::fs::create_dir(&directory).is_err() {
                continue;
            }
            let freezer = Self {
                directory,
                switch: (file, words),
            };
            if freezer.directory.join(file).exists() {
                return Some(freezer);
            }
        }
        None
    }

    /// Lets those die whom a test that was killed itself has left frozen.
    fn sweep(root: &str, file: &str, thaw: &str) {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix("annulus-"));
            if owner.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
                let _ = std::fs::write(entry.path().join(file), thaw);
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }

    fn admit(&self, pid: Pid) {
        self.write("cgroup.procs", &pid.to_string());
    }

    fn write(&self, file: &str, word: &str) {
        std::fs::write(self.directory.join(file), word).expect("a control group of ours");
    }

    /// Returns once everything in it stands still.
    fn freeze(&self) {
        let (file, [freeze, _]) = self.switch;
        self.write(file, freeze);
        let shown = if file == "freezer.state" {
            "FROZEN"
        } else {
            "frozen 1"
        };
        let state = if file == "freezer.state" {
            file
        } else {
            "cgroup.events"
        };
        while !std::fs::read_to_string(self.directory.join(state))
            .expect("a control group of ours")
            .contains(shown)
        {
            std::thread::yield_now();
        }
    }

    fn thaw(&self) {
        let (file, [_, thaw]) = self.switch;
        self.write(file, thaw);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let (file, [_, thaw]) = self.switch;
        let _ = std::fs::write(self.directory.join(file), thaw);
        // It is busy until its last process is reaped.
        while std::fs::read_to_string(self.directory.join("cgroup.procs"))
            .is_ok_and(|pids| !pids.is_empty())
        {
            std::thread::yield_now();
        }
        let _ = std::fs::remove_dir(&self.directory);
    }
}

#[test]
fn an_owner_whose_control_group_is_frozen() {
    if !is_root("an owner whose control group is frozen") {
        return;
    }
    let Some(freezer) = Freezer::new() else {
        println!("NOT RUN: no freezer is mounted at {:?}", Freezer::ROOTS);
        return;
    };
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    freezer.admit(owner.pid);
    freezer.freeze();
    scene.keeps(&owner);
    freezer.thaw();
    scene.goes_on(&mut owner);
    freezer.freeze();
    // The first kind of control groups lets nobody die while it is frozen, so that it is alive.
    scene.is_taken_back("frozen", || {
        owner.kill();
        let thawed = Instant::now();
        freezer.thaw();
        thawed
    });
    drop(owner);
}

/// On one processor with somebody who never gives it away, at the lowest priority that there is.
#[test]
fn an_owner_that_gets_no_processor() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let all = sched_getaffinity(Pid::from_raw(0)).expect("our own");
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.expect("a processor")).expect("a processor");
    for thread in threads_of(owner.pid) {
        sched_setaffinity(thread, &one).expect("a child of ours");
        let idle = libc::sched_param { sched_priority: 0 };
        // SAFETY: a thread of our child, and a structure that outlives the call.
        let done =
            unsafe { libc::sched_setscheduler(thread.as_raw(), libc::SCHED_IDLE, &raw const idle) };
        assert_eq!(done, 0, "cannot starve our own child");
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sched_setaffinity(Pid::from_raw(0), &one).expect("our own");
            while !done.load(relaxed) {
                std::hint::spin_loop();
            }
        });
        scene.keeps(&owner);
        scene.goes_on(&mut owner);
        scene.keeps(&owner);
        done.store(true, relaxed);
    });
    scene.is_taken_back("starved", || owner.kill());
}
