//! Payloads copied by atomic words.
//!
//! A slice over bytes that another process may be writing is undefined behaviour, and so is
//! `memcpy` from them. Where the peer is not trusted to keep out of a claimed span, its bytes are
//! moved with Relaxed loads and stores of whole words instead: whatever the peer does meanwhile,
//! the copy holds some bytes and nothing else happens.
//!
//! # Invariants
//! 1. A payload begins at a multiple of 8, so every word that it touches lies in its own span; the
//!    last one may reach into the padding behind it, which belongs to the same record.

use super::{Attachment, Store};
use crate::sync::Ordering;

/// Copies `source` to byte `offset` of the data area. Bytes of the last word behind it become 0.
pub fn copy_in<S: Store + ?Sized>(store: &S, offset: u64, source: &[u8]) {
    let mut at = offset;
    for chunk in source.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        // relaxed: the commit that follows publishes it.
        store
            .word(at)
            .store(u64::from_ne_bytes(word), Ordering::Relaxed);
        at += 8;
    }
}

/// Fills `target` from byte `offset` of the data area.
pub fn copy_out<S: Store + ?Sized>(store: &S, offset: u64, target: &mut [u8]) {
    let mut at = offset;
    for chunk in target.chunks_mut(8) {
        // relaxed: the claim that preceded it acquired it.
        let word = store.word(at).load(Ordering::Relaxed).to_ne_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
        at += 8;
    }
}

/// Copies `source` into a span that the caller has claimed, as its attachment requires.
#[inline]
pub fn fill<A: Attachment>(store: &A::Store, offset: u64, source: &[u8]) {
    if A::COPY_BY_WORDS {
        return copy_in(store, offset, source);
    }
    let _lease = store.write_lease(offset, source.len() as u64);
    let target = store.bytes(offset, source.len() as u64);
    // SAFETY:
    // - `target` is valid for as many bytes: `Store`.
    // - The span is claimed for writing, so nobody else touches it; such attachments trust their
    //   peers in that.
    // - `source` is not part of the span: a claim lends its bytes only while it is not copied into.
    unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) }
}

/// Loads a word of every page of a span, so that what is not there any more is missed now.
pub fn touch<S: Store + ?Sized>(store: &S, offset: u64, len: u64) {
    /// No page is smaller.
    const STEP: usize = 4096;
    let last = (offset + len).saturating_sub(1) & !7;
    let mut at = offset & !7;
    // Ends: it moves on by a page, or is through.
    while at < last {
        // relaxed: the value is of no interest.
        core::hint::black_box(store.word(at).load(Ordering::Relaxed));
        at += STEP as u64;
    }
    if len > 0 {
        // relaxed: as above.
        core::hint::black_box(store.word(last).load(Ordering::Relaxed));
    }
}

/// Fills `target` from a span that the caller has claimed, as its attachment requires.
#[inline]
pub fn empty<A: Attachment>(store: &A::Store, offset: u64, target: &mut [u8]) {
    if A::COPY_BY_WORDS {
        return copy_out(store, offset, target);
    }
    let _lease = store.read_lease(offset, target.len() as u64);
    let source = store.bytes(offset, target.len() as u64);
    // SAFETY:
    // - `source` is valid for as many bytes, all initialised: `Store`.
    // - The span is claimed for reading, so nobody writes it; such attachments trust their peers in
    //   that.
    // - `target` is the caller's own memory: a `&mut` cannot overlap the ring.
    unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::cell::RefCell;

    use super::touch;
    use crate::layout::{Control, Row};
    use crate::protocol::{Attachment, Owner, Store};
    use crate::spsc;
    use crate::sync::{AtomicU64, ReadLease, WriteLease};

    /// Another store, and where its words were asked for.
    struct Watched<'s, S> {
        store: &'s S,
        words: RefCell<Vec<u64>>,
    }

    // SAFETY: each call is the other store's, which keeps the contract.
    unsafe impl<S: Store> Store for Watched<'_, S> {
        fn control(&self) -> &Control {
            self.store.control()
        }
        fn row(&self, owner: Owner) -> &Row {
            self.store.row(owner)
        }
        fn participants(&self) -> u16 {
            self.store.participants()
        }
        fn word(&self, offset: u64) -> &AtomicU64 {
            self.words.borrow_mut().push(offset);
            self.store.word(offset)
        }
        fn bytes_around(&self) -> u64 {
            self.store.bytes_around()
        }
        fn word_around(&self, position: u64) -> &AtomicU64 {
            self.store.word_around(position)
        }
        fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
            self.store.bytes(offset, len)
        }
        fn write_lease(&self, offset: u64, len: u64) -> WriteLease {
            self.store.write_lease(offset, len)
        }
        fn read_lease(&self, offset: u64, len: u64) -> ReadLease {
            self.store.read_lease(offset, len)
        }
    }

    #[test]
    fn a_word_of_every_page_is_loaded_and_none_twice_or_outside() {
        let (producer, _consumer) = spsc::Options::new(1 << 16).heap().expect("memory");
        let store = producer.participant().attachment().store();
        let touched = |offset, len| {
            let words = RefCell::default();
            let watched = Watched { store, words };
            touch(&watched, offset, len);
            watched.words.into_inner()
        };
        assert_eq!(touched(8, 0), [0; 0]);
        assert_eq!(touched(8, 1), [8]);
        assert_eq!(touched(8, 8), [8]);
        assert_eq!(touched(8, 9), [8, 16]);
        assert_eq!(touched(4088, 4096), [4088, 8176]);
        assert_eq!(touched(4088, 4097), [4088, 8184]);
        assert_eq!(touched(8, 3 * 4096), [8, 4104, 8200, 12288]);
        assert_eq!(touched(4092, 5), [4088, 4096]);
    }
}
