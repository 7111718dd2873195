//! How rings are born: 64 processes that create and open one name at once, thousands of times, and
//! some of them killed at each system call of creation.
//!
//! A zygote, this binary once more, forks the racers, lets all of them go at once, kills the
//! victims where it wants them dead, and looks at what is left. After each race there is exactly
//! one whole ring under the name, or none if nobody who lived had made one; every survivor got what
//! it asked for or an error that says why not; and nothing else is left behind.
//!
//! # What a survivor may be told
//! | error | by whom | why it is right |
//! | --- | --- | --- |
//! | `AlreadyExists` | a creator | another one was quicker, and its ring is there |
//! | `NotFound` | an opener | there was no ring; it asks again until nobody can make one |
//! | `RoleTaken` | an SPSC opener | the row of that role has somebody who lives |
//!
//! Anything else fails the test, and so does a system call at which nobody was killed.
//!
//! `ANNULUS_BIRTH_RACES` is the number of races, 1000 unless it says otherwise; each test runs as
//! many. Run with `--nocapture` to see what was hit.
//!
//! | file | for |
//! | --- | --- |
//! | `arena` | the memory that zygote and racers share, and the starting signal |
//! | `racer` | what a racer does |
//! | `victim` | a racer that is traced, and killed at a system call |
//! | `points` | every system call of every operation, and who died there |
//! | `race` | one race, and what must be true after it |
//! | `judge` | is the file whole? is anything left behind? |
//! | `zygote` | the process from which all of them are forked |
#![expect(
    clippy::print_stdout,
    reason = "each test says whom it killed and where"
)]

mod birth {
    pub(crate) mod arena;
    pub(crate) mod judge;
    pub(crate) mod points;
    pub(crate) mod race;
    pub(crate) mod racer;
    pub(crate) mod victim;
    pub(crate) mod zygote;
}

use birth::zygote;

/// Where the file has no name until it is whole.
#[test]
fn a_name_has_one_whole_ring_or_none_whoever_dies() {
    zygote::run(zygote::Way::Unnamed);
}

/// Where it is built under a private name, as the kernel does without `O_TMPFILE`.
#[test]
fn so_it_does_where_files_cannot_be_made_without_a_name() {
    zygote::run(zygote::Way::PrivateName);
}

/// The door through which the zygote comes in; does nothing in a run of the tests.
#[test]
fn role() {
    zygote::play();
}
