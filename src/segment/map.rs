//! A ring's file in memory: the only place with raw pointers to a mapping.
//!
//! # Invariants
//! 1. A `Map` is at least `data_offset + data_bytes` long, and its file had every one of these
//!    bytes allocated when it was mapped. Nothing here ever makes the file shorter; whoever else
//!    could is spoken of in [`super`].
//! 2. `data_offset` is a multiple of 64 KiB behind the rows, of which there are `participants`: a
//!    [`Geometry`] is checked before it exists.
//! 3. The mapping stays at its address until the `Map` is dropped, and is not in forked children.
//! 4. A guard is watching from before the first access until the mapping is about to go.
//! 5. Everything that is handed out as a reference is an atomic, or made of atomics.

use core::ptr::NonNull;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{Advice, Mmap, MmapOptions, MmapRaw};

use crate::geometry::Geometry;
use crate::layout::{CONTROL_OFFSET, Control, HEADER_BYTES, MAGIC, ROW_BYTES, ROWS_OFFSET, Row};
use crate::protocol::heap::{bytes_around, check_span, check_word};
use crate::protocol::{Owner, Store};
use crate::sync::{AtomicU64, Leases, Ordering, ReadLease, WriteLease};

use super::fork;
use super::location::Access;
use super::sigbus::{Guard, GuardError};

/// Words of the header.
pub(super) const HEADER_WORDS: usize = (HEADER_BYTES / 8) as usize;

/// A mapped ring.
#[derive(Debug)]
pub struct Map {
    /// Dropped before the mapping.
    guard: Option<Guard>,
    raw: MmapRaw,
    /// Where the mapping begins.
    start: NonNull<u8>,
    /// Where its shared words are.
    control: NonNull<Control>,
    /// Where its data area begins.
    data: NonNull<u8>,
    /// The row of the participant that has the map; the first one until there is one.
    own: NonNull<Row>,
    participants: u16,
    data_bytes: u64,
    /// Of a position of a stream that goes round in the data area, the bits that tell its word.
    around: u64,
    /// What pins the locks, if they lie on another file. Behind `raw`, and so unmapped after it.
    _locks: Option<Mmap>,
}

impl Map {
    /// Maps `map_bytes` of a file of which that much is allocated.
    ///
    /// # Errors
    /// Those of `mmap` and `madvise`.
    ///
    /// # Panics
    /// If `map_bytes` is less than the geometry's file.
    pub(super) fn new(
        file: &File,
        geometry: &Geometry,
        map_bytes: u64,
        access: Access,
    ) -> io::Result<Self> {
        assert!(
            map_bytes >= geometry.file_bytes,
            "a map shorter than its ring"
        );
        let mut options = MmapOptions::new();
        options.len(usize::try_from(map_bytes).map_err(io::Error::other)?);
        let raw = fork::quietly(|| {
            let raw = match access {
                Access::Read => options.map_raw_read_only(file.as_raw_fd()),
                Access::ReadWrite => options.map_raw(file.as_raw_fd()),
            }?;
            raw.advise(Advice::DontFork)?;
            Ok::<_, io::Error>(raw)
        })?;
        raw.advise(Advice::DontDump)?;
        let start = NonNull::new(raw.as_mut_ptr()).ok_or(io::ErrorKind::InvalidData)?;
        let data_offset = usize::try_from(geometry.data_offset).map_err(io::Error::other)?;
        // SAFETY: the data area lies inside the mapping (INV-1).
        let data = unsafe { start.add(data_offset) };
        let control_offset = usize::try_from(CONTROL_OFFSET).map_err(io::Error::other)?;
        // SAFETY: the shared words lie before the rows (INV-2).
        let control = unsafe { start.add(control_offset) }.cast::<Control>();
        let rows_offset = usize::try_from(ROWS_OFFSET).map_err(io::Error::other)?;
        // SAFETY: every ring has a row, and all rows lie before the data area (INV-2).
        let own = unsafe { start.add(rows_offset) }.cast::<Row>();
        Ok(Self {
            guard: None,
            raw,
            start,
            control,
            data,
            own,
            participants: geometry.participants,
            data_bytes: geometry.data_bytes,
            around: bytes_around(geometry.data_bytes) - 8,
            _locks: None,
        })
    }

    /// Has it watched from here on, before anything in it is touched.
    pub(super) fn watch(&mut self, page_bytes: u64) -> Result<(), GuardError> {
        let guard = Guard::new(self.raw.as_mut_ptr(), self.raw.len(), page_bytes)?;
        self.guard = Some(guard);
        Ok(())
    }

    /// Whether it is guarded and part of it is zeroes in the place of what the file has lost.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_cut)
    }

    /// Pins the locks on a description of another file, by a mapping that nobody reads.
    ///
    /// # Errors
    /// Those of `mmap` and `madvise`.
    pub(super) fn with_locks(mut self, locks: &File) -> io::Result<Self> {
        let pin = fork::quietly(|| {
            // SAFETY: nobody looks at its bytes, which are sealed besides.
            let pin = unsafe { MmapOptions::new().map_copy_read_only(locks) }?;
            pin.advise(Advice::DontFork)?;
            Ok::<_, io::Error>(pin)
        })?;
        self._locks = Some(pin);
        Ok(self)
    }

    /// Belongs to a participant from here on.
    ///
    /// # Panics
    /// If the ring has no such row.
    pub(super) fn belong_to(&mut self, me: Owner) {
        self.own = NonNull::from(self.row(me));
    }

    /// The row of the participant that has the map.
    #[inline]
    pub(super) fn own_row(&self) -> &Row {
        // SAFETY: row 1, which every ring has, or one that `row` has returned; as there otherwise.
        unsafe { self.own.as_ref() }
    }

    /// Asks for transparent huge pages; a file system that has none ignores it.
    pub(super) fn prefer_huge_pages(&self) {
        let _ = self.raw.advise(Advice::HugePage);
    }

    /// Has every page mapped now rather than on first use; kernels before 5.14 cannot.
    pub(super) fn prefault(&self) {
        let _ = self.raw.advise(Advice::PopulateWrite);
    }

    /// Keeps every page in memory.
    ///
    /// # Errors
    /// Those of `mlock`, mostly RLIMIT_MEMLOCK.
    pub(super) fn lock_memory(&self) -> io::Result<()> {
        self.raw.lock()
    }

    /// Bytes that are mapped.
    pub(super) fn bytes_mapped(&self) -> u64 {
        self.raw.len() as u64
    }

    /// The same as pointers side by side.
    #[inline]
    pub(super) fn near(&self) -> Near<'_> {
        Near {
            map: self,
            control: self.control(),
            data: self.data,
            data_bytes: self.data_bytes,
            around: self.around,
        }
    }

    /// The header as words; for its creator, and for whoever adopts a ring of another boot.
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    pub(super) fn header_words(&self) -> &[AtomicU64; HEADER_WORDS] {
        let start = self.raw.as_mut_ptr().cast::<[AtomicU64; HEADER_WORDS]>();
        // SAFETY: the mapping begins at a page and is longer than the header (INV-1), stays as long
        // as `self` (INV-3), and an array of atomics may be shared and has no invalid values.
        unsafe { &*start }
    }

    /// Whether the magic is there, and with it everything that was written before.
    pub(super) fn is_published(&self) -> bool {
        // sync(born-whole): acquire half.
        self.header_words()[0].load(Ordering::Acquire) == MAGIC
    }

    /// A pointer to byte `offset` of the mapping, of which the caller has checked that `len` bytes
    /// lie inside one of its parts.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "inside a mapping, whose length is a usize"
    )]
    fn at(&self, offset: u64, len: u64) -> *mut u8 {
        debug_assert!(offset + len <= self.raw.len() as u64, "INV-1");
        // SAFETY: inside the mapping, or one past its end for 0 bytes: callers check the span
        // against a part of the file, and the mapping holds all parts (INV-1, INV-2).
        unsafe { self.start.as_ptr().add(offset as usize) }
    }
}

/// A mapped ring as pointers side by side.
#[derive(Clone, Copy, Debug)]
pub struct Near<'m> {
    map: &'m Map,
    control: &'m Control,
    data: NonNull<u8>,
    data_bytes: u64,
    around: u64,
}

impl<'m> Near<'m> {
    /// The word at byte `offset` of the data area, rounded down to a multiple of 8.
    #[inline]
    fn word_at(self, offset: u64) -> &'m AtomicU64 {
        check_word(offset, self.data_bytes);
        // SAFETY: just checked.
        unsafe { self.word_inside(offset & !7) }
    }

    /// The word on which a position of a stream falls that goes round in the data area.
    #[inline]
    fn word_around(self, position: u64) -> &'m AtomicU64 {
        // SAFETY: `around` is the offset of the last word before a power of two that is at most the
        // area's size (`Map::new`), and so has every bit that a word's offset below it may have.
        unsafe { self.word_inside(position & self.around) }
    }

    /// The word at byte `offset` of the data area.
    ///
    /// # Safety
    /// A word lies there: 8 divides the offset, and it is inside the area.
    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "8 divides the offset")]
    unsafe fn word_inside(self, offset: u64) -> &'m AtomicU64 {
        // SAFETY: inside the area, says the caller.
        let word = unsafe { self.byte_at(offset) }.cast::<AtomicU64>();
        // SAFETY: 8 bytes inside the data area, says the caller, at a multiple of 8 from a page,
        // valid as long as the map (INV-3); an atomic may be shared and written by others.
        unsafe { &*word }
    }

    /// The `len` bytes at byte `offset` of the data area.
    #[inline]
    fn bytes_at(self, offset: u64, len: u64) -> *mut u8 {
        check_span(offset, len, self.data_bytes);
        // SAFETY: just checked.
        unsafe { self.byte_at(offset) }
    }

    /// A pointer to byte `offset` of the data area.
    ///
    /// # Safety
    /// The byte lies inside the area, or is one past its end.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "inside a mapping, whose length is a usize"
    )]
    unsafe fn byte_at(self, offset: u64) -> *mut u8 {
        debug_assert!(offset <= self.data_bytes, "the caller's promise");
        // SAFETY: inside the data area or one past its end, says the caller, and so inside the
        // mapping (INV-1).
        unsafe { self.data.as_ptr().add(offset as usize) }
    }
}

// SAFETY: the pointers are into a mapping that `raw` owns, which belongs to no thread.
unsafe impl Send for Map {}
// SAFETY: as above; `&Map` gives out atomics and raw pointers only (INV-5).
unsafe impl Sync for Map {}

// SAFETY:
// - `word` and `bytes` check their arguments against the data area in every build, `row` against
//   the number of rows; `word_around` masks its own to less than the area's size.
// - What they return lies in the mapping, which stays where it is as long as `self` (INV-3).
// - All stores of a ring map the same file, of which everybody takes the same geometry.
unsafe impl Store for Map {
    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: inside the mapping (INV-1), at a multiple of 128 bytes from a page, valid as long
        // as `self` (INV-3); all of its fields are atomics, which others may write (INV-5).
        unsafe { self.control.as_ref() }
    }

    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "128 divides the offset")]
    fn row(&self, owner: Owner) -> &Row {
        assert!(owner.number() <= self.participants, "no such row");
        let offset = ROWS_OFFSET + u64::from(owner.number() - 1) * ROW_BYTES;
        let row = self.at(offset, ROW_BYTES).cast::<Row>();
        // SAFETY: one of the rows, all of which lie before the data area and so in the mapping
        // (INV-2), at a multiple of 128 bytes; as for `control` otherwise.
        unsafe { &*row }
    }

    #[inline]
    fn participants(&self) -> u16 {
        self.participants
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        self.near().word_at(offset)
    }

    #[inline]
    fn bytes_around(&self) -> u64 {
        self.around + 8
    }

    #[inline]
    fn word_around(&self, position: u64) -> &AtomicU64 {
        self.near().word_around(position)
    }

    #[inline]
    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        self.near().bytes_at(offset, len)
    }

    #[inline]
    fn write_lease(&self, _offset: u64, _len: u64) -> WriteLease {
        Leases::new(0).write(0..0)
    }

    #[inline]
    fn read_lease(&self, _offset: u64, _len: u64) -> ReadLease {
        Leases::new(0).read(0..0)
    }
}

// SAFETY: as for `Map`, of which these are copies, and which stays while it is borrowed.
unsafe impl Store for Near<'_> {
    #[inline]
    fn control(&self) -> &Control {
        self.control
    }

    #[inline]
    fn row(&self, owner: Owner) -> &Row {
        self.map.row(owner)
    }

    #[inline]
    fn participants(&self) -> u16 {
        self.map.participants
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        self.word_at(offset)
    }

    #[inline]
    fn bytes_around(&self) -> u64 {
        self.around + 8
    }

    #[inline]
    fn word_around(&self, position: u64) -> &AtomicU64 {
        (*self).word_around(position)
    }

    #[inline]
    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        self.bytes_at(offset, len)
    }

    #[inline]
    unsafe fn bytes_inside(&self, offset: u64, len: u64) -> *mut u8 {
        debug_assert!(
            len <= self.data_bytes && offset <= self.data_bytes - len,
            "the caller's promise"
        );
        // SAFETY: the caller's promise is this one's.
        unsafe { self.byte_at(offset) }
    }

    #[inline]
    fn write_lease(&self, _offset: u64, _len: u64) -> WriteLease {
        Leases::new(0).write(0..0)
    }

    #[inline]
    fn read_lease(&self, _offset: u64, _len: u64) -> ReadLease {
        Leases::new(0).read(0..0)
    }
}
