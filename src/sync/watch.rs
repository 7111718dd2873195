//! What a test may see, and change, at any access to a shared word by its own thread.
//!
//! A peer that is not trusted can write between any two loads of ours. With a watcher that changes
//! what each load finds, every such moment is taken, in one thread and by a seed, which no second
//! process could do; and a loop that has no end of its own is seen by its number of accesses.

use core::cell::RefCell;

/// What is about to be done to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is loaded. A change is what the load finds, and is gone after it.
    Load,
    /// It is exchanged, or added to. A change is stored before that.
    Exchange,
}

/// Gets an access, a word's address and its value, and may answer with another value.
type Watcher = Box<dyn FnMut(Access, usize, u64) -> Option<u64>>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Called before each access.
pub(super) fn look(access: Access, address: usize, value: u64) -> Option<u64> {
    WATCHER.with(|watcher| watcher.borrow_mut().as_mut()?(access, address, value))
}

/// Runs `body` on this thread with a watcher.
pub fn watched<T>(
    watcher: impl FnMut(Access, usize, u64) -> Option<u64> + 'static,
    body: impl FnOnce() -> T,
) -> T {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            WATCHER.set(None);
        }
    }
    WATCHER.set(Some(Box::new(watcher)));
    let _off = Off;
    body()
}
