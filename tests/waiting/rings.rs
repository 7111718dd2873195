//! Both rings, on the heap and in files, behind two traits: what every way to wait is tried on.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::segment::{Counters, Location, Role, inspect};
use annulus::{
    ClaimError, Heap, Mapped, ReadError, Redelivery, TryClaimError, TryReadError, Wait, mpmc, spsc,
};

/// Bytes of a record of the byte ring: four fit into its 4096 bytes, as into the slot ring's slots.
const RECORD_BYTES: usize = 900;

/// The producing side of either ring.
pub(crate) trait Push: Send {
    fn try_push(&mut self, tag: u32) -> Result<(), TryClaimError>;
    fn push(&mut self, tag: u32, wait: Wait) -> Result<(), ClaimError>;
    fn close(&mut self);
    fn arm(&self) -> io::Result<()>;
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>>;
}

/// The consuming side of either ring; what it returns is the tag of a record.
pub(crate) trait Pop: Send {
    fn try_pop(&mut self) -> Result<u32, TryReadError>;
    fn pop(&mut self, wait: Wait) -> Result<u32, ReadError>;
    fn close(&mut self);
    fn arm(&self) -> io::Result<()>;
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>>;
}

macro_rules! sides {
    ($ring:ident, $attachment:ty, $bytes:expr) => {
        impl Push for $ring::Producer<$attachment> {
            fn try_push(&mut self, tag: u32) -> Result<(), TryClaimError> {
                $ring::Producer::try_push(self, tag, &filled(tag)[..$bytes])
            }
            fn push(&mut self, tag: u32, wait: Wait) -> Result<(), ClaimError> {
                $ring::Producer::push(self, tag, &filled(tag)[..$bytes], wait)
            }
            fn close(&mut self) {
                $ring::Producer::close(self);
            }
            fn arm(&self) -> io::Result<()> {
                $ring::Producer::arm(self)
            }
            fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
                $ring::Producer::descriptor(self)
            }
        }

        impl Pop for $ring::Consumer<$attachment> {
            fn try_pop(&mut self) -> Result<u32, TryReadError> {
                let record = self.try_read()?;
                Ok(checked(record.tag(), &record, $bytes))
            }
            fn pop(&mut self, wait: Wait) -> Result<u32, ReadError> {
                let record = self.read(wait)?;
                Ok(checked(record.tag(), &record, $bytes))
            }
            fn close(&mut self) {
                $ring::Consumer::close(self);
            }
            fn arm(&self) -> io::Result<()> {
                $ring::Consumer::arm(self)
            }
            fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
                $ring::Consumer::descriptor(self)
            }
        }
    };
}

sides!(spsc, Heap, RECORD_BYTES);
sides!(spsc, Mapped, RECORD_BYTES);
sides!(mpmc, Heap, 8);
sides!(mpmc, Mapped, 8);

fn filled(tag: u32) -> [u8; RECORD_BYTES] {
    [tag.to_le_bytes()[0]; RECORD_BYTES]
}

fn checked(tag: u32, payload: &[u8], bytes: usize) -> u32 {
    assert_eq!(
        payload,
        &filled(tag)[..bytes],
        "the payload of record {tag}"
    );
    tag
}

/// Which ring, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    SpscHeap,
    SpscFile,
    MpmcHeap,
    MpmcFile,
}

impl Ring {
    pub(crate) const ALL: [Self; 4] = [
        Self::SpscHeap,
        Self::SpscFile,
        Self::MpmcHeap,
        Self::MpmcFile,
    ];
    pub(crate) const FILES: [Self; 2] = [Self::SpscFile, Self::MpmcFile];

    /// Records that fit into it.
    pub(crate) const ROOM: u32 = 4;

    /// A new ring and both of its sides. One that lies in a file is at `place`.
    pub(crate) fn pair(self, place: &Place) -> (Box<dyn Push>, Box<dyn Pop>) {
        match self {
            Self::SpscHeap => boxed(byte_ring().heap().unwrap()),
            Self::MpmcHeap => boxed(slot_ring().heap().unwrap()),
            Self::SpscFile => {
                byte_ring().create(place.path()).unwrap();
                boxed((spsc_producer(&place.path()), spsc_consumer(&place.path())))
            }
            Self::MpmcFile => {
                slot_ring().create(place.path()).unwrap();
                boxed((mpmc_producer(&place.path()), mpmc_consumer(&place.path())))
            }
        }
    }
}

fn boxed<P: Push + 'static, C: Pop + 'static>((p, c): (P, C)) -> (Box<dyn Push>, Box<dyn Pop>) {
    (Box::new(p), Box::new(c))
}

/// A byte ring for four records.
pub(crate) fn byte_ring() -> spsc::Options {
    spsc::Options::new(4096)
}

/// A slot ring for four records. What a dead consumer held makes space.
pub(crate) fn slot_ring() -> mpmc::Options {
    mpmc::Options::new(Ring::ROOM.into(), 8).redelivery(Redelivery::Never)
}

pub(crate) fn spsc_producer(path: &Path) -> spsc::Producer {
    // SAFETY: only this test and its children, which use this library, know the file.
    unsafe { spsc::Producer::attach(path) }.unwrap()
}

pub(crate) fn spsc_consumer(path: &Path) -> spsc::Consumer {
    // SAFETY: as for `spsc_producer`.
    unsafe { spsc::Consumer::attach(path) }.unwrap()
}

pub(crate) fn mpmc_producer(path: &Path) -> mpmc::Producer {
    // SAFETY: as for `spsc_producer`.
    unsafe { mpmc::Producer::attach(path) }.unwrap()
}

pub(crate) fn mpmc_consumer(path: &Path) -> mpmc::Consumer {
    // SAFETY: as for `spsc_producer`.
    unsafe { mpmc::Consumer::attach(path) }.unwrap()
}

/// A name under /dev/shm for one ring, removed at the end.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("annulus-waiting-")
            .tempdir_in("/dev/shm");
        Self {
            folder: folder.unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("test.ring")
    }

    /// Counters of those who are attached on one side.
    pub(crate) fn counters(&self, role: Role) -> Vec<Counters> {
        let snapshot = inspect(&Location::path(self.path())).unwrap();
        let side = snapshot
            .participants
            .iter()
            .filter(|one| one.role == Some(role));
        side.map(|one| one.counters).collect()
    }

    /// Returns once everybody of that side has been refused, and more than once, if they go on
    /// trying.
    pub(crate) fn until_refused(&self, role: Role) {
        eventually("a waiter is refused", || {
            let counters = self.counters(role);
            !counters.is_empty() && counters.iter().all(|one| one.full + one.empty > 1)
        });
    }

    /// Returns once `sleepers` of that side have slept.
    pub(crate) fn until_asleep(&self, role: Role, sleepers: usize) {
        eventually("a waiter sleeps", || {
            self.counters(role)
                .iter()
                .filter(|one| one.waits > 0)
                .count()
                >= sleepers
        });
    }
}

/// Looks until `condition` holds, for as long as a test may take.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::yield_now();
    }
}

/// Longer than anything takes that works, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waiting in a way, with an end that only a failure reaches.
pub(crate) fn patiently(way: Wait) -> Wait {
    way.for_at_most(PATIENCE)
}

/// The three ways to wait within a call.
pub(crate) fn ways() -> [(&'static str, Wait); 3] {
    [
        ("spin", Wait::spin()),
        ("yield", Wait::yielding()),
        ("block", Wait::block()),
    ]
}
