//! What a forked child inherits, and how it is kept from holding its parent's locks.
//!
//! A lock belongs to an open file description. A child that inherited a descriptor, or a mapping,
//! of it would keep the lock after its parent's death. So mappings are not inherited
//! (`MADV_DONTFORK`), and a handler that runs in the child closes the descriptors listed here. A
//! page that children find wiped (`MADV_WIPEONFORK`) tells them from the process whose handles they
//! have copies of, however they were made.
//!
//! # Invariants
//! 1. A descriptor on the list is open and belongs to a [`Private`] of this process; both change
//!    only under the list's mutex, which a fork holds from before it until after it.
//! 2. A description is locked only once its descriptor is on the list.
//! 3. [`quietly`] excludes forks: what is mapped within is inherited by nobody, if it is marked so
//!    within.
//! 4. A [`Mark`] is [`HERE`] in the process that made it and 0 in every other one, for ever: a
//!    process that finds the last mark wiped makes one of its own.
//!
//! # Other ways to make a child
//! `vfork`, `posix_spawn` and a `clone` that shares the memory run no handlers and wipe nothing:
//! such a child is the same memory, which is mapped until it executes a program or ends. So is the
//! lock: whoever can store is alive. Every descriptor here is close-on-exec.
//!
//! A bare `clone` that copies the memory runs no handlers either. Its child has no mapping, knows
//! by the mark that the handles are not its own, and inherits descriptors that hold no lock, unless
//! another thread attaches or takes somebody over at that very moment: then it keeps that one lock
//! until it ends or executes a program. Use `fork`, after which the handler closes it.
//!
//! # After a crash
//! All of this dies with the process.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

use crate::sync::{AtomicU64, Ordering};

/// Descriptors that no child may keep.
#[derive(Debug)]
struct List {
    descriptors: Vec<RawFd>,
    /// How often this process has forked.
    forks: u64,
    /// This process's, unless it is wiped.
    mark: Option<Mark>,
}

static LIST: Mutex<List> = Mutex::new(List {
    descriptors: Vec::new(),
    forks: 0,
    mark: None,
});

thread_local! {
    /// The list's guard while this thread forks.
    static FORKING: RefCell<Option<MutexGuard<'static, List>>> = const { RefCell::new(None) };
}

fn list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word that is [`HERE`] in one process only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(&'static AtomicU64);

const HERE: u64 = 1;

impl Mark {
    /// In a page of its own, which stays mapped as long as the process: handles point to it.
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn new() -> io::Result<Self> {
        let page = MmapRaw::from(MmapOptions::new().len(size_of::<AtomicU64>()).map_anon()?);
        // Before Linux 4.14 there is no such page; there the handler alone wipes.
        // SAFETY: the whole of a mapping that was made just now and holds nothing yet.
        let _ = unsafe {
            madvise(
                page.as_mut_ptr().cast(),
                page.len(),
                Advice::LinuxWipeOnFork,
            )
        };
        let page = ManuallyDrop::new(page);
        let word = page.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: a mapping begins at a page, is long enough by its length above, and is never
        // unmapped; an atomic may be shared and has no invalid values.
        let word = unsafe { &*word };
        // relaxed: whoever gets the mark gets it under the list's mutex, here and below.
        word.store(HERE, Ordering::Relaxed);
        Ok(Self(word))
    }

    /// Whether this is the process that made it.
    #[inline]
    pub(super) fn is_here(self) -> bool {
        // relaxed: wiped only on the way into another process, before that one runs.
        self.0.load(Ordering::Relaxed) == HERE
    }

    /// Where it stands, for whoever can only keep a number.
    pub(super) fn address(self) -> u64 {
        core::ptr::from_ref(self.0).expose_provenance() as u64
    }

    /// The mark that stands at an address.
    ///
    /// # Safety
    /// The address was given by [`Mark::address`], in this process or in one of which this is a
    /// copy.
    #[expect(clippy::cast_possible_truncation, reason = "an address")]
    pub(super) unsafe fn at(address: u64) -> Self {
        let word = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
        // SAFETY: the page of a mark stays mapped, in copies of the process as well (INV-4).
        Self(unsafe { &*word })
    }

    fn wipe(self) {
        // relaxed: the child has a single thread.
        self.0.store(0, Ordering::Relaxed);
    }
}

impl List {
    /// This process's mark.
    fn mark(&mut self) -> io::Result<Mark> {
        if let Some(mark) = self.mark.filter(|mark| mark.is_here()) {
            return Ok(mark);
        }
        // A child that ran no handler: those listed are its parent's, who may share them with it.
        self.descriptors.clear();
        let mark = Mark::new()?;
        self.mark = Some(mark);
        Ok(mark)
    }
}

/// The mark of this process.
///
/// # Errors
/// Out of memory for it.
pub(super) fn mark() -> io::Result<Mark> {
    install_handlers()?;
    list().mark()
}

/// Runs `section` while no thread of this process can fork. It must be short.
pub(super) fn quietly<T>(section: impl FnOnce() -> T) -> T {
    let _list = list();
    section()
}

/// An open file whose description no forked child keeps.
#[derive(Debug)]
pub(super) struct Private {
    file: ManuallyDrop<File>,
    mark: Mark,
}

impl Private {
    /// Takes the file that `open` opens onto the list.
    ///
    /// # Errors
    /// Those of `open`; out of memory for the handlers or for the mark.
    pub(super) fn open(open: impl Fn() -> io::Result<File>) -> io::Result<Self> {
        install_handlers()?;
        let forks = list().forks;
        let file = open()?;
        let mut list = list();
        let mark = list.mark()?;
        // A child made meanwhile has the descriptor: that description must never be locked. Opened
        // once more with forks kept waiting, which the first attempt showed to be quick.
        let file = if list.forks == forks { file } else { open()? };
        list.descriptors.push(file.as_raw_fd());
        Ok(Self {
            file: ManuallyDrop::new(file),
            mark,
        })
    }

    /// Whether this is the process that opened it.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.mark.is_here()
    }
}

#[cfg(test)]
impl Private {
    /// Where the mark lies, which is no word of a ring.
    pub(super) fn mark_address(&self) -> usize {
        core::ptr::from_ref(self.mark.0).addr()
    }
}

impl core::ops::Deref for Private {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl AsFd for Private {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // In a child the handler has closed it, and the number may be somebody else's by now.
        if !self.is_here() {
            return;
        }
        let mut list = list();
        let mine = self.file.as_raw_fd();
        list.descriptors.retain(|descriptor| *descriptor != mine);
        // SAFETY: dropped here and nowhere else; `file` is not used after this.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

fn install_handlers() -> io::Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let code = *INSTALLED.get_or_init(|| {
        // SAFETY: the three functions live as long as the process and may be called around any
        // fork: they take a mutex before it, and after it only close, count and unlock.
        unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) }
    });
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

extern "C" fn before() {
    let mut list = list();
    list.forks += 1;
    // A thread that forks from the destructor of one of its locals has no place to keep the guard;
    // it is dropped then, and the child finds nothing to close.
    let _ = FORKING.try_with(|forking| forking.replace(Some(list)));
}

extern "C" fn after_in_parent() {
    let _ = FORKING.try_with(|forking| forking.take());
}

extern "C" fn after_in_child() {
    let _ = FORKING.try_with(|forking| {
        let Some(mut list) = forking.take() else {
            return;
        };
        list.mark.into_iter().for_each(Mark::wipe);
        for descriptor in list.descriptors.drain(..) {
            // SAFETY: open and ours to close (INV-1): no `Private` of this process closes it, since
            // its mark is wiped.
            unsafe { libc::close(descriptor) };
        }
    });
}
