//! What a forked child inherits, and how it is kept from holding its parent's locks.
//!
//! A lock belongs to an open file description. A child that inherited a descriptor, or a mapping,
//! of it would keep the lock after its parent's death. So mappings are not inherited
//! (`MADV_DONTFORK`), and a handler that runs in the child closes the descriptors listed here. The
//! same handler counts, so that handles of the parent know that they have no mapping any more.
//!
//! # Invariants
//! 1. A descriptor on the list is open and belongs to a [`Private`] of this process; both change
//!    only under the list's mutex, which a fork holds from before it until after it.
//! 2. A description is locked only once its descriptor is on the list.
//! 3. [`quietly`] excludes forks: what is mapped within is inherited by nobody, if it is marked so
//!    within.
//!
//! `vfork` and `posix_spawn` run no handlers; their children share the parent's memory until they
//! execute a program, and every descriptor here is close-on-exec. A child made by a bare `clone`
//! system call runs no handlers either: it inherits descriptors without locks, no mapping, and must
//! not use the handles.
//!
//! # After a crash
//! All of this dies with the process.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::sync::{AtomicU64, Ordering};

/// Descriptors that no child may keep.
#[derive(Debug)]
struct List {
    descriptors: Vec<RawFd>,
    /// How often this process has forked.
    forks: u64,
}

static LIST: Mutex<List> = Mutex::new(List {
    descriptors: Vec::new(),
    forks: 0,
});

/// How many forks lie between the first process that attached and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The list's guard while this thread forks.
    static FORKING: RefCell<Option<MutexGuard<'static, List>>> = const { RefCell::new(None) };
}

fn list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Differs between a process and its forked children.
#[inline]
pub(super) fn generation() -> u64 {
    // relaxed: changed only while the process has a single thread, in the child's handler.
    GENERATION.load(Ordering::Relaxed)
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
    generation: u64,
}

impl Private {
    /// Takes the file that `open` opens onto the list.
    ///
    /// # Errors
    /// Those of `open`; out of memory for the handlers.
    pub(super) fn open(open: impl Fn() -> io::Result<File>) -> io::Result<Self> {
        install_handlers()?;
        let forks = list().forks;
        let file = open()?;
        let mut list = list();
        // A child made meanwhile has the descriptor: that description must never be locked. Opened
        // once more with forks kept waiting, which the first attempt showed to be quick.
        let file = if list.forks == forks { file } else { open()? };
        list.descriptors.push(file.as_raw_fd());
        Ok(Self {
            file: ManuallyDrop::new(file),
            generation: generation(),
        })
    }

    /// Whether this is the process that opened it.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.generation == generation()
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
    // relaxed: the child has a single thread.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let _ = FORKING.try_with(|forking| {
        let Some(mut list) = forking.take() else {
            return;
        };
        for descriptor in list.descriptors.drain(..) {
            // SAFETY: open and ours to close (INV-1): no `Private` of this process closes it, since
            // the generation has changed.
            unsafe { libc::close(descriptor) };
        }
    });
}
