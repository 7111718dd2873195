//! Two rings, somebody who holds a claim in each, and the questions that each row of the table
//! asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::segment::{AttachError, ClaimKind, Location, RecoverOptions, inspect, recover};
use annulus::{ReadError, Wait, mpmc, spsc};
use tempfile::TempDir;

use super::peer::Peer;

/// From the moment in which its lock may go free to that in which others have what it held.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a live owner is looked at: several times as long as anybody sleeps without a look.
const WATCHED: Duration = Duration::from_millis(350);
/// Longer than anything takes that works.
const LOST: Duration = Duration::from_secs(30);

/// A ring of slots and a ring of bytes, for one row of the table.
#[derive(Debug)]
pub(crate) struct Scene {
    directory: TempDir,
    /// Commits what lies behind the owner's slot. Attached throughout, so that it mends too.
    bystander: mpmc::Producer,
}

pub(crate) fn slots_in(directory: &Path) -> PathBuf {
    directory.join("slots.ring")
}

pub(crate) fn bytes_in(directory: &Path) -> PathBuf {
    directory.join("bytes.ring")
}

pub(crate) fn slot_producer(directory: &Path) -> mpmc::Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { mpmc::Producer::attach(slots_in(directory)) }.expect("attach")
}

pub(crate) fn byte_producer(directory: &Path) -> Result<spsc::Producer, AttachError> {
    // SAFETY: as above.
    unsafe { spsc::Producer::attach(bytes_in(directory)) }
}

fn slot_consumer(directory: &Path) -> mpmc::Consumer {
    // SAFETY: as above.
    unsafe { mpmc::Consumer::attach(slots_in(directory)) }.expect("attach")
}

fn byte_consumer(directory: &Path) -> spsc::Consumer {
    // SAFETY: as above.
    unsafe { spsc::Consumer::attach(bytes_in(directory)) }.expect("attach")
}

/// Recovers both rings; how many participants were found dead.
pub(crate) fn recover_both(directory: &Path) -> u64 {
    [slots_in(directory), bytes_in(directory)]
        .iter()
        .map(|ring| recover(&Location::from(ring), &RecoverOptions::default()).expect("recover"))
        .map(|recovered| recovered.participants)
        .sum()
}

impl Scene {
    pub(crate) fn new() -> Self {
        go_first();
        let directory = tempfile::Builder::new()
            .prefix("annulus-liveness-")
            .tempdir_in("/dev/shm")
            .expect("a directory");
        mpmc::Options::new(16, 16)
            .create(slots_in(directory.path()))
            .expect("create");
        spsc::Options::new(4096)
            .create(bytes_in(directory.path()))
            .expect("create");
        let bystander = slot_producer(directory.path());
        Self {
            directory,
            bystander,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Commits a record behind the owner's slot, which nobody gets before that is settled.
    pub(crate) fn commit_behind(&self) {
        self.bystander.try_push(1, b"behind").expect("space");
    }

    /// Nothing is taken from `owner`, who holds its two claims, whoever looks, waits or attaches.
    #[track_caller]
    pub(crate) fn keeps(&self, owner: &Peer) {
        let began = Instant::now();
        let consumer = slot_consumer(self.directory());
        while began.elapsed() < WATCHED {
            assert_eq!(recover_both(self.directory()), 0, "a live owner was robbed");
            let second = byte_producer(self.directory()).map(drop);
            let Err(AttachError::RoleTaken { pid, .. }) = second else {
                panic!("{second:?}")
            };
            assert_eq!(pid, owner.pid_in_row);
            let nothing = consumer.read(Wait::block().for_at_most(Duration::from_millis(120)));
            assert_eq!(
                nothing.err(),
                Some(ReadError::TimedOut),
                "its slot was passed"
            );
            for ring in [slots_in(self.directory()), bytes_in(self.directory())] {
                let snapshot = inspect(&Location::from(&ring)).expect("inspect");
                let mut rows = snapshot.participants.iter();
                let row = rows.find(|row| row.pid == owner.pid_in_row);
                let row = row.expect("its row is in use");
                assert!(row.is_alive, "{row:?}");
                let held = snapshot
                    .claims
                    .iter()
                    .filter(|claim| claim.owner == row.number)
                    .map(|claim| claim.kind);
                assert_eq!(held.collect::<Vec<_>>(), [ClaimKind::Writing]);
            }
        }
    }

    /// The owner commits both claims, others get them, and it takes two new ones.
    #[track_caller]
    pub(crate) fn goes_on(&self, owner: &mut Peer) {
        assert_eq!(owner.ask("commit"), "committed");
        let patient = Wait::block().for_at_most(LOST);
        let slots = slot_consumer(self.directory());
        assert_eq!(&slots.read(patient).expect("its record")[..], b"mine");
        assert_eq!(&slots.read(patient).expect("the one behind")[..], b"behind");
        let mut bytes = byte_consumer(self.directory());
        assert_eq!(&bytes.read(patient).expect("its record")[..], b"mine");
        self.commit_behind();
    }

    /// What an owner held that dies in `death` is had by others in time. `death` returns when the
    /// lock may have gone free.
    #[track_caller]
    pub(crate) fn is_taken_back(&self, what: &str, death: impl FnOnce() -> Instant) {
        let directory = self.directory();
        std::thread::scope(|scope| {
            let (ready, wait_until_ready) = std::sync::mpsc::channel();
            let reader = scope.spawn(move || {
                go_first();
                let consumer = slot_consumer(directory);
                ready.send(()).expect("the test waits");
                let record = consumer.read(Wait::block().for_at_most(LOST));
                let found = Instant::now();
                assert_eq!(&record.expect("the record behind it")[..], b"behind");
                found
            });
            wait_until_ready.recv().expect("the reader attaches");
            let died = death();
            let attached = loop {
                match byte_producer(directory) {
                    Ok(_) => break Instant::now(),
                    Err(AttachError::RoleTaken { .. }) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
                assert!(died.elapsed() < LOST, "{what}: the role stays taken");
            };
            let read = reader.join().expect("the reader reads");
            for (claim, when) in [("slot", read), ("role", attached)] {
                let took = when.saturating_duration_since(died);
                println!("{what}: its {claim} was had after {took:?}");
                assert!(took < LIMIT, "{what}: its {claim} was had after {took:?}");
            }
        });
        self.is_clean();
    }

    /// `looker`, who sees things from elsewhere, takes nothing from `owner`.
    #[track_caller]
    pub(crate) fn is_kept_from(&self, owner: &Peer, looker: &mut Peer) {
        let began = Instant::now();
        while began.elapsed() < WATCHED {
            assert_eq!(looker.ask("recover"), "0", "a live owner was robbed");
            let taken = format!("taken by {}", owner.pid_in_row);
            assert_eq!(looker.ask("attach"), taken);
        }
        self.keeps(owner);
    }

    /// `looker` takes back in time what an owner held that dies in `death`.
    #[track_caller]
    pub(crate) fn is_recovered_by(
        &self,
        what: &str,
        looker: &mut Peer,
        death: impl FnOnce() -> Instant,
    ) {
        let died = death();
        let mut recovered = 0;
        while recovered < 2 {
            let said = looker.ask("recover");
            recovered += said.parse::<u64>().expect("a number");
            assert!(died.elapsed() < LOST, "{what}: {recovered} of 2 rings");
        }
        let took = died.elapsed();
        println!("{what}: recovered both rings after {took:?}");
        assert!(took < LIMIT, "{what}: recovered both rings after {took:?}");
        assert_eq!(looker.ask("attach"), "attached");
        self.is_clean();
    }

    /// Nobody but the bystander is left, and no claim.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert_eq!(recover_both(self.directory()), 0, "recovered already");
        let slots = Location::path(slots_in(self.directory()));
        let slots = inspect(&slots).expect("inspect");
        let me = std::process::id();
        assert!(
            slots.participants.iter().all(|row| row.pid == me),
            "{slots:?}"
        );
        assert_eq!(slots.claims, []);
        let bytes = Location::path(bytes_in(self.directory()));
        let bytes = inspect(&bytes).expect("inspect");
        assert_eq!((bytes.participants, bytes.claims), (vec![], vec![]));
    }
}

/// Has this thread, and what it starts, go before other work of the machine, where the system
/// allows it: no clock of one who waits can tell a process that is late from one that is not run.
fn go_first() {
    // SAFETY: takes three integers, and concerns this thread alone. It may be refused.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// Whether this may be run: says loudly why not.
pub(crate) fn is_root(row: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("NOT RUN: {row} needs root");
    }
    root
}
