//! A ring in plain memory: for threads of one process, and for loom.
//!
//! The same words, rows and bytes as in a mapped file. Participants share one fate, so nobody is
//! ever found dead; a thread that panics gives back what it held, as a guard's drop does.
//!
//! # Invariants
//! 1. A row is taken by exchange on its state and freed by its participant's drop.
//! 2. The data area is allocated zeroed and aligned to 128 bytes, as in the file.

use super::{
    Attachment, ElementType, Gone, Loss, Owner, Recovered, Store, ZeroCopy, byte_ring, ledger,
    recovery,
};
use crate::layout::{Control, ROW_ATTACHED, ROW_FREE, Row};
use crate::sync::{Arc, AtomicU64, Leases, Ordering, ReadLease, WriteLease};

/// The memory of one heap ring.
#[derive(Debug)]
pub struct HeapRing {
    control: Control,
    rows: Box<[Row]>,
    data: Data,
    leases: Leases,
    shape: recovery::Shape,
    element: Option<ElementType>,
}

/// A participant of a heap ring.
#[derive(Debug)]
pub struct Heap {
    ring: Arc<HeapRing>,
    me: Owner,
}

impl HeapRing {
    /// A ring of `data_bytes` for `participants`, which begins at position `origin`.
    pub fn new(
        shape: recovery::Shape,
        data_bytes: u64,
        participants: u16,
        origin: u64,
        element: Option<ElementType>,
    ) -> Arc<Self> {
        let bytes = usize::try_from(data_bytes).expect("checked by the builder");
        let ring = Self {
            control: Control::new(origin),
            rows: (0..participants).map(|_| Row::new()).collect(),
            data: Data::new(bytes),
            leases: Leases::new(bytes / 8),
            shape,
            element,
        };
        if let recovery::Shape::Slots(slots, _) = &ring.shape {
            for index in 0..slots.slots() {
                let word = slots.first_word(index, origin);
                // relaxed: nobody else has the ring yet.
                slots.word(&ring, index).store(word.0, Ordering::Relaxed);
            }
        }
        Arc::new(ring)
    }

    /// Attaches the participant `wanted`, or any free one; `None` if there is none.
    pub fn attach(ring: &Arc<Self>, wanted: Option<Owner>, role: u32) -> Option<Heap> {
        let me = super::owners(&**ring)
            .filter(|owner| wanted.is_none_or(|wanted| wanted == *owner))
            .find(|owner| {
                // sync(row-state): acquire half.
                // relaxed: a failure decides nothing.
                ring.row(*owner)
                    .state
                    .compare_exchange(ROW_FREE, ROW_ATTACHED, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            })?;
        let row = ring.row(me);
        // relaxed: display only.
        row.role.store(role, Ordering::Relaxed);
        if let recovery::Shape::Bytes(bytes) = &ring.shape {
            byte_ring::bring_up_to_date(bytes, &**ring, me);
        }
        ledger::begin_life(row);
        Some(Heap {
            ring: Arc::clone(ring),
            me,
        })
    }
}

impl Heap {
    /// The ring's memory.
    pub fn ring(&self) -> &Arc<HeapRing> {
        &self.ring
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // sync(row-state): release half.
        self.ring
            .row(self.me)
            .state
            .store(ROW_FREE, Ordering::Release);
    }
}

impl Attachment for Heap {
    type Store = HeapRing;
    type Near<'a> = &'a HeapRing;
    const COPY_BY_WORDS: bool = false;
    const GUARDED: bool = false;
    const IN_ONE_PROCESS: bool = true;

    fn store(&self) -> &HeapRing {
        &self.ring
    }

    fn near(&self) -> &HeapRing {
        &self.ring
    }

    fn me(&self) -> Owner {
        self.me
    }

    fn shape(&self) -> &recovery::Shape {
        &self.ring.shape
    }

    fn element(&self) -> Option<&ElementType> {
        self.ring.element.as_ref()
    }

    fn mend(&self) -> Recovered {
        Recovered::default()
    }

    fn is_alive(&self, owner: Owner) -> bool {
        recovery::in_use(&*self.ring, owner)
    }

    fn is_here(&self) -> bool {
        true
    }

    fn gone(&self) -> Gone {
        Gone::Forked
    }

    fn loss(&self) -> Option<Loss> {
        None
    }
}

impl ZeroCopy for Heap {}

// SAFETY: `Data` checks every access in every build and lives, unmoved, as long as the ring.
unsafe impl Store for HeapRing {
    #[inline]
    fn control(&self) -> &Control {
        &self.control
    }

    #[inline]
    fn row(&self, owner: Owner) -> &Row {
        &self.rows[usize::from(owner.number()) - 1]
    }

    fn participants(&self) -> u16 {
        u16::try_from(self.rows.len()).expect("built from a u16")
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        self.data.word(offset)
    }

    #[inline]
    fn bytes_around(&self) -> u64 {
        bytes_around(self.data.bytes)
    }

    #[inline]
    fn word_around(&self, position: u64) -> &AtomicU64 {
        self.data.word(position & (self.bytes_around() - 8))
    }

    #[inline]
    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        self.data.bytes(offset, len)
    }

    #[inline]
    fn write_lease(&self, offset: u64, len: u64) -> WriteLease {
        self.leases.write(words_of(offset, len))
    }

    #[inline]
    fn read_lease(&self, offset: u64, len: u64) -> ReadLease {
        self.leases.read(words_of(offset, len))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "inside an allocation")]
fn words_of(offset: u64, len: u64) -> core::ops::Range<usize> {
    (offset / 8) as usize..(offset + len).div_ceil(8) as usize
}

/// The greatest power of two that is at most `total`, which is a word's size at least.
///
/// # Panics
/// If it is less.
#[inline]
pub fn bytes_around(total: u64) -> u64 {
    assert!(total >= 8, "not even a word");
    1 << total.ilog2()
}

/// Panics unless `len` bytes at `offset` lie inside `total`.
#[inline]
pub fn check_span(offset: u64, len: u64, total: u64) {
    assert!(
        len <= total && offset <= total - len,
        "span outside the ring"
    );
}

/// Panics unless `offset`, rounded down to a multiple of 8, is that of a word inside `total` bytes.
#[inline]
pub fn check_word(offset: u64, total: u64) {
    debug_assert!(offset.is_multiple_of(8), "not the offset of a word");
    // Areas are made of whole words, so a word that begins inside lies inside.
    assert!(offset < total, "not a word of the ring");
}

/// The data area: its words and its bytes are the same memory. Under loom, whose atomics are not 8
/// bytes, the words lie apart.
#[derive(Debug)]
struct Data {
    start: core::ptr::NonNull<u8>,
    layout: std::alloc::Layout,
    /// Of the ring; there may be a little more memory.
    bytes: u64,
    #[cfg(loom)]
    words: Vec<AtomicU64>,
}

// SAFETY: the memory is owned, and shared access to it is for the protocol's claims to order.
unsafe impl Send for Data {}
// SAFETY: as above; `&Data` gives out atomics and raw pointers only.
unsafe impl Sync for Data {}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked against a usize before"
)]
impl Data {
    fn new(bytes: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(bytes.max(128), 128)
            .expect("the builder keeps sizes far below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = core::ptr::NonNull::new(start) else {
            std::alloc::handle_alloc_error(layout)
        };
        Self {
            start,
            layout,
            bytes: bytes as u64,
            #[cfg(loom)]
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    #[cfg(not(loom))]
    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        check_word(offset, self.layout.size() as u64);
        let offset = offset & !7;
        // SAFETY: the offset lies inside the allocation.
        let word = unsafe { self.start.add(offset as usize) };
        // SAFETY: 8 bytes at a multiple of 8 inside memory that lives as long as `self` (INV-2),
        // initialised, and an atomic may be shared.
        unsafe { word.cast::<AtomicU64>().as_ref() }
    }

    #[cfg(loom)]
    fn word(&self, offset: u64) -> &AtomicU64 {
        check_word(offset, self.layout.size() as u64);
        &self.words[offset as usize / 8]
    }

    #[inline]
    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        check_span(offset, len, self.layout.size() as u64);
        // SAFETY: the offset lies inside the allocation, or is one past its end for 0 bytes.
        unsafe { self.start.add(offset as usize) }.as_ptr()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody can reach it any more.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::catch_unwind;

    use super::{check_span, check_word};

    #[test]
    fn what_lies_outside_is_refused() {
        for (offset, len) in [
            (0, 65),
            (1, 64),
            (64, 1),
            (65, 0),
            (u64::MAX, 2),
            (8, u64::MAX),
        ] {
            let checked = catch_unwind(|| check_span(offset, len, 64));
            checked.expect_err("a span outside");
        }
        check_span(0, 64, 64);
        check_span(64, 0, 64);
        for offset in [64, 72, u64::MAX - 7] {
            catch_unwind(|| check_word(offset, 64)).expect_err("a word outside");
        }
        check_word(56, 64);
    }
}
