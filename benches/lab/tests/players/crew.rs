//! Who the players are: where they run, and that none outlives its driver.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use annulus_lab::transport::{Cannot, Place, Receive, Send, Transport};
use annulus_lab::work::{Pattern, Waiting, Work};
use annulus_lab::{Contender, Fault, Fixed, Of, Payload};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::saboteur::{Flaw, conditions, cpus, run, work};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

pub fn players_die_with_their_driver() {
    set_child_subreaper(true).expect("every Linux can");
    // SAFETY: this process has one thread.
    let driver = match unsafe { fork() }.expect("there is room") {
        ForkResult::Child => {
            // Far longer than the test.
            let long = Duration::from_secs(600);
            let _killed = run(Flaw::Nothing, &work(Pattern::Stream), long);
            std::process::exit(1);
        }
        ForkResult::Parent { child } => child,
    };
    let children = format!("/proc/{driver}/task/{driver}/children");
    let count = || {
        let children = std::fs::read_to_string(&children).unwrap_or_default();
        children.split_whitespace().count()
    };
    until("two players", || count() == 2);
    kill(driver, Signal::SIGKILL).expect("it is our child");
    let mut ends = 0;
    until("three ends", || {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            // A player that finds its driver dead as it begins leaves by itself.
            Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 4)) => ends += 1,
            other => panic!("unexpected: {other:?}"),
        }
        ends == 3
    });
    set_child_subreaper(false).expect("every Linux can");
    // Whose folder nobody removed.
    for entry in std::fs::read_dir("/dev/shm").expect("it is there") {
        let path = entry.expect("it can be read").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(&format!("annulus-bench-{driver}-")) {
            std::fs::remove_dir_all(path).expect("it is ours");
        }
    }
}

pub fn no_more_spin_than_there_are_processors() {
    let spinning = Work {
        waiting: Waiting::Spin,
        ..work(Pattern::Stream)
    };
    let mut conditions = conditions(Duration::from_millis(1));
    conditions.cpus.truncate(1);
    let (payload, transport) = (Fixed::<8>, annulus_lab::contenders::Spsc::default());
    let outcome = Of { payload, transport }.run(&spinning, &conditions);
    assert!(matches!(outcome, Err(Fault::Cannot(_))), "{outcome:?}");
}

pub fn a_driver_with_threads_is_refused() {
    std::thread::scope(|scope| {
        let (done, wait) = sync_channel::<()>(0);
        scope.spawn(move || wait.recv());
        let outcome = run(
            Flaw::Nothing,
            &work(Pattern::Stream),
            Duration::from_millis(1),
        );
        drop(done);
        match outcome {
            Err(Fault::Broken(why)) => assert!(why.contains("threads"), "{why}"),
            other => panic!("expected a refusal: {other:?}"),
        }
    });
    // The thread may still be on its way out.
    until("one thread", || {
        std::fs::read_dir("/proc/self/task")
            .expect("it is there")
            .count()
            == 1
    });
}

/// A channel, which writes down who uses it, and where.
struct Channel {
    place: Place,
}

struct Link {
    tx: Mutex<Option<SyncSender<u64>>>,
    rx: Mutex<Option<Receiver<u64>>>,
    notes: std::path::PathBuf,
}

struct Tx(SyncSender<u64>);
struct Rx(Receiver<u64>);

fn note(link: &Link, role: &str) {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("our own");
    let cpus = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true));
    let cpus: Vec<String> = cpus.map(|cpu| cpu.to_string()).collect();
    let text = format!("{} {}", std::process::id(), cpus.join(","));
    std::fs::write(link.notes.with_extension(role), text).expect("a folder for it");
}

impl<P: Payload> Transport<P> for Channel {
    type Link = Link;
    type Sender<'l> = Tx;
    type Receiver<'l> = Rx;

    fn name(&self) -> String {
        "channel".to_owned()
    }

    fn place(&self) -> Place {
        self.place
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Link, Cannot> {
        let (tx, rx) = sync_channel(work.capacity);
        Ok(Link {
            tx: Mutex::new(Some(tx)),
            rx: Mutex::new(Some(rx)),
            notes: std::env::temp_dir().join(format!("annulus-lab-{}", std::process::id())),
        })
    }

    fn sender<'l>(&'l self, link: &'l Link, _: &Work, _: usize) -> Result<Tx, Cannot> {
        note(link, "sender");
        let tx = link.tx.lock().expect("nobody panics").take();
        Ok(Tx(tx.expect("there is one")))
    }

    fn receiver<'l>(&'l self, link: &'l Link, _: &Work, _: usize) -> Result<Rx, Cannot> {
        note(link, "receiver");
        let rx = link.rx.lock().expect("nobody panics").take();
        Ok(Rx(rx.expect("there is one")))
    }
}

impl<P: Payload> Send<P> for Tx {
    fn try_send(&mut self, _: P, number: u64) -> bool {
        self.0.try_send(number).is_ok()
    }
}

impl<P: Payload> Receive<P> for Rx {
    fn try_receive(&mut self, _: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let number = self.0.try_recv();
        number.is_ok_and(|number| {
            seen(Some(number));
            true
        })
    }
}

/// What sender and receiver have noted: pid and processors.
fn notes(place: Place, time: Duration) -> (Result<annulus_lab::Found, Fault>, Vec<String>) {
    let (payload, transport) = (Fixed::<8>, Channel { place });
    let outcome = Of { payload, transport }.run(&work(Pattern::Stream), &conditions(time));
    let notes = std::env::temp_dir().join(format!("annulus-lab-{}", std::process::id()));
    let notes = ["sender", "receiver"].map(|role| {
        let path = notes.with_extension(role);
        let text = std::fs::read_to_string(&path).expect("it was noted");
        std::fs::remove_file(path).expect("it was just read");
        text
    });
    (outcome, notes.to_vec())
}

pub fn players_of_threads_share_a_process() {
    let (outcome, notes) = notes(Place::Threads, Duration::from_millis(20));
    let found = outcome.expect("a channel is whole");
    assert!(found.records > 0 && found.lost == 0, "{found:?}");
    let pid = |note: &str| note.split(' ').next().expect("a word").to_owned();
    assert_eq!(pid(&notes[0]), pid(&notes[1]));
    assert_ne!(pid(&notes[0]), std::process::id().to_string());
    assert_pinned(&notes);
}

pub fn players_of_processes_are_pinned_apart() {
    // Between processes a channel hands nothing over; who they are is noted all the same.
    let (outcome, notes) = notes(Place::Processes, Duration::from_millis(5));
    assert!(outcome.is_err(), "{outcome:?}");
    let pids: BTreeSet<&str> = notes
        .iter()
        .filter_map(|note| note.split(' ').next())
        .collect();
    assert_eq!(pids.len(), 2, "{notes:?}");
    assert_pinned(&notes);
}

fn assert_pinned(notes: &[String]) {
    let found: Vec<String> = notes
        .iter()
        .filter_map(|note| note.split(' ').nth(1).map(str::to_owned))
        .collect();
    let expected: Vec<String> = cpus().iter().map(usize::to_string).collect();
    assert_eq!(found, expected);
}
