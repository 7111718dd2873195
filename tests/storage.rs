//! What a file system, a limit, or a stranger with a shell can do to a ring's file: each is an
//! error of its own, told before or instead of a signal.
//!
//! Each row is a test, and runs in a process of its own; those that mount do so in a user and mount
//! namespace, so that they need no privilege and leave nothing behind. Where the machine allows no
//! such namespace the test says so, checks why, and fails unless it really is so.
//!
//! | file | question |
//! | --- | --- |
//! | `space` | What if there is no room, or only so much? |
//! | `names` | What if the name goes, or moves, or belongs to another file? |
//! | `mounts` | What if the file system is none for rings, or is read-only? |
//! | `descriptors` | What if the process has no descriptor left, at whichever step? |
//! | `cuts` | What if the file is cut short, or gets a hole, under a mapping? |
//! | `foreign` | Whose SIGBUS does the guard leave alone? |
//! | `stage` | processes, namespaces, limits: what all of these share |

mod storage {
    mod cuts;
    mod descriptors;
    mod foreign;
    mod mounts;
    mod names;
    mod space;
    pub(crate) mod stage;
}
