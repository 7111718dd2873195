//! Every system call of every operation, before and after it: where victims die.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::SeqCst;

use super::arena::Seat;

/// In which operation a racer is, for its tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Elsewhere,
    Creating,
    Attaching,
}

impl Phase {
    /// Has `operation` run in this phase.
    pub(crate) fn within<T>(self, seat: &Seat, operation: impl FnOnce() -> T) -> T {
        seat.phase.store(self as u32, SeqCst);
        let outcome = operation();
        seat.phase.store(Self::Elsewhere as u32, SeqCst);
        outcome
    }

    pub(crate) fn is_of(self, seat: &Seat) -> bool {
        seat.phase.load(SeqCst) == self as u32
    }
}

/// What a victim is doing when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// It creates the ring.
    Create,
    /// It attaches to a ring of slots, and finds a dead participant there.
    Attach,
    /// It attaches in place of a dead producer of a ring of bytes.
    Replace,
    /// It attaches to a ring from before the last boot.
    Adopt,
}

impl Operation {
    pub(crate) const ALL: [Self; 4] = [Self::Create, Self::Attach, Self::Replace, Self::Adopt];

    pub(crate) fn phase(self) -> Phase {
        match self {
            Self::Create => Phase::Creating,
            Self::Attach | Self::Replace | Self::Adopt => Phase::Attaching,
        }
    }

    pub(crate) fn is_spsc(self) -> bool {
        self == Self::Replace
    }
}

/// On which side of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Before,
    After,
}

/// One place to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) operation: Operation,
    /// The system call's number.
    pub(crate) call: u64,
    /// Which one of those with this number, from 1 on.
    pub(crate) occurrence: u32,
    pub(crate) side: Side,
}

/// All of them, in turn, and how often somebody died there.
#[derive(Debug)]
pub(crate) struct Points {
    all: Vec<Point>,
    hits: BTreeMap<Point, u64>,
    next: usize,
}

impl Points {
    /// From the system calls that each operation made when nobody disturbed it.
    pub(crate) fn new(traces: &BTreeMap<Operation, Vec<u64>>) -> Self {
        let mut all = Vec::new();
        for (operation, calls) in traces {
            let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
            for call in calls {
                let occurrence = seen.entry(*call).or_default();
                *occurrence += 1;
                all.extend([Side::Before, Side::After].map(|side| Point {
                    operation: *operation,
                    call: *call,
                    occurrence: *occurrence,
                    side,
                }));
            }
        }
        Self {
            all,
            hits: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The next one in turn.
    pub(crate) fn next(&mut self) -> Point {
        let point = self.all[self.next % self.all.len()];
        self.next += 1;
        point
    }

    /// Any one of an operation.
    pub(crate) fn any(&self, operation: Operation, random: u64) -> Point {
        let of = |point: &&Point| point.operation == operation;
        let count = self.all.iter().filter(of).count() as u64;
        let chosen = usize::try_from(random % count).expect("an index");
        *self.all.iter().filter(of).nth(chosen).expect("one of them")
    }

    pub(crate) fn hit(&mut self, point: Point) {
        *self.hits.entry(point).or_default() += 1;
    }

    pub(crate) fn kills(&self) -> u64 {
        self.hits.values().sum()
    }

    /// Prints who died where, and fails if nobody did somewhere.
    pub(crate) fn report(&self) {
        for operation in Operation::ALL {
            let of: Vec<&Point> = self
                .all
                .iter()
                .filter(|p| p.operation == operation)
                .collect();
            let hits = |point: &Point| self.hits.get(point).copied().unwrap_or(0);
            let told: Vec<String> = of
                .chunks(2)
                .map(|pair| format!("{} {}/{}", Call(*pair[0]), hits(pair[0]), hits(pair[1])))
                .collect();
            println!("{operation:?}, killed before/after: {}", told.join(", "));
        }
        let missed: Vec<&Point> = self
            .all
            .iter()
            .filter(|p| !self.hits.contains_key(p))
            .collect();
        assert!(missed.is_empty(), "nobody died at {missed:?}");
    }
}

/// A system call by its name, where it is one that rings use.
struct Call(Point);

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES
            .iter()
            .find(|(number, _)| u64::try_from(*number) == Ok(self.0.call));
        match known {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "call {}", self.0.call)?,
        }
        if self.0.occurrence > 1 {
            write!(f, "#{}", self.0.occurrence)?;
        }
        Ok(())
    }
}

const NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_openat, "openat"),
    (libc::SYS_close, "close"),
    (libc::SYS_read, "read"),
    (libc::SYS_pread64, "pread"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_statfs, "statfs"),
    (libc::SYS_fstatfs, "fstatfs"),
    (libc::SYS_fstat, "fstat"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_prlimit64, "prlimit"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_getrandom, "getrandom"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_unlinkat, "unlinkat"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_newfstatat, "newfstatat"),
    (libc::SYS_getdents64, "getdents"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_lseek, "lseek"),
    (libc::SYS_getcwd, "getcwd"),
    (libc::SYS_getpid, "getpid"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_membarrier, "membarrier"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_sched_yield, "sched_yield"),
];
