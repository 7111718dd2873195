//! Memory that a driver and the players that it forks have in common.

use core::ffi::c_void;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Anonymous shared memory of zeroes, all of its pages there.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: it is plain memory, bound to no thread; who may write what is for its users to say, each
// of whom goes through a raw pointer or through atomics.
unsafe impl core::marker::Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `bytes` of it, at least a page.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(bytes: usize) -> Result<Self, nix::Error> {
        let bytes = bytes.max(4096).next_multiple_of(4096);
        let length = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at a place of the kernel's choice takes nothing from anybody.
        let start = unsafe { mmap_anonymous(None, length, access, flags) }?;
        Ok(Self { start, bytes })
    }

    /// The byte at `offset`, of which `len` bytes are inside.
    ///
    /// # Panics
    /// If they are not.
    #[inline]
    #[must_use]
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.bytes), "outside");
        // SAFETY: inside the mapping, as was just checked.
        unsafe { self.start.as_ptr().cast::<u8>().add(offset) }
    }

    /// The word at `offset`, a multiple of 8.
    ///
    /// # Panics
    /// If it is outside, or not aligned.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "checked, and a mapping begins at a page"
    )]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "words are aligned");
        let word = self.at(offset, 8).cast::<AtomicU64>();
        // SAFETY: 8 bytes inside the mapping, aligned, initialised as zeroes, alive as long as
        // `self`; an `AtomicU64` has interior mutability, so that others may store to it.
        unsafe { &*word }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The byte at `offset`, unchecked: for loops that are floors.
    ///
    /// # Safety
    /// It is inside.
    #[inline(always)]
    #[must_use]
    pub unsafe fn at_unchecked(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.bytes, "outside");
        // SAFETY: inside the mapping, as the caller promises.
        unsafe { self.start.as_ptr().cast::<u8>().add(offset) }
    }

    /// The word at `offset`, unchecked: for loops that are floors.
    ///
    /// # Safety
    /// All of it is inside, and `offset` a multiple of 8.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_ptr_alignment, reason = "the caller promises it")]
    pub unsafe fn word_unchecked(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8), "words are aligned");
        // SAFETY: inside, as the caller promises.
        let word = unsafe { self.at_unchecked(offset) }.cast::<AtomicU64>();
        // SAFETY: as for `word`, but for what the caller promises.
        unsafe { &*word }
    }

    /// The half word at `offset`, a multiple of 4: what a futex is.
    ///
    /// # Panics
    /// If it is outside, or not aligned.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "checked, and a mapping begins at a page"
    )]
    pub fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4), "half words are aligned");
        let half = self.at(offset, 4).cast::<AtomicU32>();
        // SAFETY: as for `word`.
        unsafe { &*half }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, once; every borrow of it ended with `self`'s.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
