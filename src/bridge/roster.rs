//! The names of those for whom a ring's records are held, in the ring's own file.
//!
//! A bridge that is started again must not release what a subscriber has not got that is not there
//! at the moment. So it writes down whom it serves. Only the ring's consumer writes here, and in an
//! SPSC ring there is one.
//!
//! # Invariants
//! 1. Each name is there once: who is counted twice is waited for in vain.
//!
//! # After a crash
//! A name is there once its length is, which is stored last.

use crate::layout::{SUBSCRIBER_NAME_BYTES, Subscriber};
use crate::protocol::Store;
use crate::sync::Ordering;

/// All names, each once.
pub(super) fn names<S: Store + ?Sized>(store: &S) -> Vec<String> {
    let entries = store.control().subscribers.iter().filter_map(name_in);
    let mut names = Vec::new();
    for name in entries {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn name_in(entry: &Subscriber) -> Option<String> {
    // sync(death-order): acquire half.
    let len = usize::try_from(entry.len.load(Ordering::Acquire)).ok()?;
    if len == 0 || len > SUBSCRIBER_NAME_BYTES {
        return None;
    }
    // sync(death-order): acquire half.
    let words = entry.name.iter().map(|word| word.load(Ordering::Acquire));
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).take(len).collect();
    String::from_utf8(bytes).ok()
}

/// Adds one, unless it is there. Returns false if there is no room.
pub(super) fn add<S: Store + ?Sized>(store: &S, name: &str) -> bool {
    let entries = &store.control().subscribers;
    if entries.iter().filter_map(name_in).any(|held| held == name) {
        return true;
    }
    let Some(entry) = entries.iter().find(|entry| name_in(entry).is_none()) else {
        return false;
    };
    let mut bytes = [0; SUBSCRIBER_NAME_BYTES];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    for (word, bytes) in entry.name.iter().zip(bytes.as_chunks::<8>().0) {
        // sync(death-order): release half.
        word.store(u64::from_le_bytes(*bytes), Ordering::Release);
    }
    // sync(death-order): release half.
    entry.len.store(name.len() as u64, Ordering::Release);
    true
}

/// Takes one away.
pub(super) fn remove<S: Store + ?Sized>(store: &S, name: &str) {
    for entry in &store.control().subscribers {
        if name_in(entry).is_some_and(|found| found == name) {
            // sync(death-order): release half.
            entry.len.store(0, Ordering::Release);
        }
    }
}
