//! The guard against SIGBUS: a file that is cut short under a mapping becomes an error.
//!
//! Whoever may write to a file may make it shorter, and the next access to what is gone is SIGBUS,
//! which ends the process. A guarded mapping stands in a table. A handler looks up there whether
//! the address that faulted lies in it, marks the mapping as cut, puts private zero pages in the
//! place of the missing ones, and returns: the access goes on over zeroes, and its operation sees
//! the mark when it is through and answers `CutShort` in the place of what it found.
//!
//! # Invariants
//! 1. The mark is set before the zeroes are there. Whoever has read one of them, in whatever
//!    thread, finds the mark when it looks after that.
//! 2. The handler touches nothing but the table, `errno`, the mapping that it found there, and the
//!    previous handler. It takes no lock and allocates nothing.
//! 3. An entry is watched from before the first access to its mapping until after the last one,
//!    and always less long than the mapping: another mapping's address is never found in it.
//! 4. An entry counts only in the process that made it: children do not have the mapping.
//! 5. Zeroes replace everything from the page that faulted to the mapping's end, never what lies
//!    before. With the last page of the file's mapping goes the lock, as with an `munmap`: then no
//!    processor can store to the file through it any more.
//!
//! # What it does not do
//! - A record that is being read in place when the file is cut may turn to zeroes under the
//!   reader's eyes. All of it was there when it was lent. Who must know asks `loss` after reading
//!   and before acting; `pop` does so by itself.
//! - What was committed and not read is lost, with the file. A claim may be lost too: its commit
//!   tells nothing, the next operation does.
//! - A file that was cut and made longer again before anybody touched it has holes and no missing
//!   page: no fault, and zeroes that nobody can tell from others. So it is with a hole that is
//!   punched. Free or damaged is how words of zeroes look, but a payload has no such mark.
//! - A system call that is given such memory, as `write` of a lent slice, fails with `EFAULT`.
//! - Whoever takes SIGBUS for another handler later must pass on to this one what is not theirs.
//!   The previous handler is called as the kernel would, but for its mask and its other flags.
//!   One that is installed in the same moment as the first guard may be lost.
//! - At most [`ROOM`] mappings of a process are guarded at a time.
//!
//! # Pairing
//! - `guard-entry`: store of the state in [`Guard::new`] -> load in [`Entry::missing`] and
//!   [`Entry::take`]; carries the bounds and the process.
//! - `guard-mark`: exchange of the state in [`Entry::cut`] -> load in [`Guard::is_cut`].
//!
//! # After a crash
//! All of this dies with the process.

use std::io;
use std::sync::OnceLock;

use crate::sync::{AtomicU64, Ordering, full_fence, signal_fence};

use super::fork::{self, Mark};

/// Guarded mappings of a process at a time.
pub(super) const ROOM: usize = 1024;

/// One guarded mapping, or room for one.
#[derive(Debug)]
struct Entry {
    /// `version << 2 | kind`. The version is another one each time the entry is filled.
    state: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// Bytes of a page of the mapping, a power of two.
    page_bytes: AtomicU64,
    /// Where the mark of the process stands that it belongs to; 0 before the first one.
    process: AtomicU64,
}

const FREE: u64 = 0;
const FILLING: u64 = 1;
const WATCHED: u64 = 2;
const CUT: u64 = 3;
const KIND: u64 = 3;
const ONE_VERSION: u64 = 4;

static TABLE: [Entry; ROOM] = [const {
    Entry {
        state: AtomicU64::new(FREE),
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
        page_bytes: AtomicU64::new(0),
        process: AtomicU64::new(0),
    }
}; ROOM];

/// What was to be done at SIGBUS before there was a guard.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Why a mapping is not guarded.
#[derive(Debug)]
pub(super) enum GuardError {
    /// The table is full.
    NoRoom,
    /// The handler could not be installed.
    Handler(io::Error),
}

/// The watch over one mapping, which outlives it.
#[derive(Debug)]
pub(super) struct Guard {
    entry: &'static Entry,
}

impl Guard {
    /// Watches `bytes` bytes from `start` on, which are mapped and were not touched yet.
    pub(super) fn new(start: *mut u8, bytes: usize, page_bytes: u64) -> Result<Self, GuardError> {
        install().map_err(GuardError::Handler)?;
        let process = fork::mark().map_err(GuardError::Handler)?.address();
        let taken = TABLE.iter().find_map(|entry| Some((entry, entry.take()?)));
        let (entry, version) = taken.ok_or(GuardError::NoRoom)?;
        let start = start.expose_provenance() as u64;
        let fields = [
            (&entry.start, start),
            (&entry.end, start + bytes as u64),
            (&entry.page_bytes, page_bytes),
            (&entry.process, process),
        ];
        for (field, value) in fields {
            // relaxed: published by the state.
            field.store(value, Ordering::Relaxed);
        }
        // sync(guard-entry): release half.
        entry.state.store(version | WATCHED, Ordering::Release);
        Ok(Self { entry })
    }

    /// Whether part of the mapping is zeroes by now.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        // The handler may have run in this thread, at any access before this.
        signal_fence();
        // sync(guard-mark): acquire half.
        self.entry.state.load(Ordering::Acquire) & KIND == CUT
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // relaxed: only the handler changes it otherwise, and nobody uses the mapping any more.
        let version = self.entry.state.load(Ordering::Relaxed) & !KIND;
        // relaxed: the next to take the entry carries nothing over from here.
        self.entry.state.store(version | FREE, Ordering::Relaxed);
    }
}

impl Entry {
    /// Takes an entry that nobody has, or whose process is another one. Its new version.
    fn take(&self) -> Option<u64> {
        // An older process than the state's would make an entry that is in use look stale.
        // sync(guard-entry): acquire half.
        let state = self.state.load(Ordering::Acquire);
        // An entry that is being filled is nobody's to take.
        let is_stale = !self.is_here() && state & KIND != FILLING;
        if state & KIND != FREE && !is_stale {
            return None;
        }
        let version = (state & !KIND).wrapping_add(ONE_VERSION);
        // relaxed: the bounds are published by the state that follows.
        let taken = self.state.compare_exchange(
            state,
            version | FILLING,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        taken.ok().map(|_| version)
    }

    /// Whether it was filled in this process.
    fn is_here(&self) -> bool {
        // relaxed: see `missing`; an entry that is being taken is looked at by its state.
        let process = self.process.load(Ordering::Relaxed);
        // SAFETY: nothing but 0 and addresses of marks was ever stored there.
        process != 0 && unsafe { Mark::at(process) }.is_here()
    }

    /// The bounds of the missing part and the entry's version, if `address` lies in this mapping.
    fn missing(&self, address: u64) -> Option<(u64, u64, u64)> {
        // sync(guard-entry): acquire half.
        let state = self.state.load(Ordering::Acquire);
        if state & KIND < WATCHED {
            return None;
        }
        // relaxed: carried by the state, which is looked at again, here and below.
        let (start, end) = (
            self.start.load(Ordering::Relaxed),
            self.end.load(Ordering::Relaxed),
        );
        let page_bytes = self.page_bytes.load(Ordering::Relaxed);
        let is_here = self.is_here();
        full_fence();
        let again = self.state.load(Ordering::Relaxed);
        let is_same = again & !KIND == state & !KIND && is_here;
        let is_mine = is_same && (start..end).contains(&address);
        is_mine.then(|| (address & !(page_bytes - 1), end, state & !KIND))
    }

    /// Marks the mapping, then puts zeroes in the place of what is missing.
    #[expect(clippy::cast_possible_truncation, reason = "bounds of a mapping")]
    fn cut(&self, (from, end, version): (u64, u64, u64)) -> bool {
        // sync(guard-mark): release half.
        // relaxed: a failure means that another thread has marked it before.
        let _marked = self.state.compare_exchange(
            version | WATCHED,
            version | CUT,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        full_fence();
        let (place, len) = (
            std::ptr::with_exposed_provenance_mut(from as usize),
            (end - from) as usize,
        );
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: replaces pages of a mapping of ours that is in use (INV-3, INV-5), so everything
        // that points there stays valid; what it reads is atomics or bytes, which zeroes are too.
        let zeroes = unsafe { libc::mmap(place, len, both, flags, -1, 0) };
        if zeroes == libc::MAP_FAILED {
            return false;
        }
        // SAFETY: the pages that were just mapped. A refusal means that children have zeroes too.
        let _kept = unsafe { libc::madvise(place, len, libc::MADV_DONTFORK) };
        true
    }
}

/// Installs the handler, once a process.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let errno = *INSTALLED.get_or_init(|| {
        try_install()
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

fn try_install() -> io::Result<()> {
    // SAFETY: all of its fields may be 0.
    let mut previous: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: only reads the present action, into a local.
    succeeded(unsafe { libc::sigaction(libc::SIGBUS, core::ptr::null(), &raw mut previous) })?;
    // Told before the handler can ask.
    PREVIOUS.get_or_init(|| previous);
    // SAFETY: all of its fields may be 0: no signal is masked but SIGBUS itself.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler may run at any instruction of any thread (INV-2) and is never unloaded
    // before the process ends.
    succeeded(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, core::ptr::null_mut()) })
}

fn succeeded(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An access beyond the end of the file, or one for which the file system had no block.
const BUS_ADRERR: libc::c_int = 2;

extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above, and valid as long as the thread.
    let before = unsafe { *errno };
    // SAFETY: the kernel gives every handler of this kind a filled `siginfo_t`.
    let told = unsafe { &*info };
    let code = told.si_code;
    // SAFETY: the kernel fills all of it. Whether the number is an address, the code tells.
    let address = unsafe { told.si_addr() }.addr() as u64;
    let mine = || {
        TABLE
            .iter()
            .find_map(|entry| Some((entry, entry.missing(address)?)))
    };
    let is_done = code == BUS_ADRERR && mine().is_some_and(|(entry, part)| entry.cut(part));
    if !is_done {
        pass_on(signal, code, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Does what would have been done without a guard.
fn pass_on(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    /// As `SA_SIGINFO` has it.
    type Long = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    /// As `signal` has it.
    type Short = extern "C" fn(libc::c_int);
    let is_a_process_own = code <= 0;
    let (action, flags) = PREVIOUS.get().map_or((libc::SIG_DFL, 0), |previous| {
        (previous.sa_sigaction, previous.sa_flags)
    });
    if action == libc::SIG_IGN && is_a_process_own {
        return;
    }
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // SAFETY: the default action has no handler. The access that faulted does so again and
        // ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        if is_a_process_own {
            // SAFETY: takes an integer. It comes as soon as this handler returns.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    let handler = core::ptr::with_exposed_provenance::<()>(action);
    if flags & libc::SA_SIGINFO == 0 {
        // SAFETY: installed as a handler of this type, for the kernel to call just so.
        let handler = unsafe { core::mem::transmute::<*const (), Short>(handler) };
        handler(signal);
    } else {
        // SAFETY: as above.
        let handler = unsafe { core::mem::transmute::<*const (), Long>(handler) };
        handler(signal, info, context);
    }
}
