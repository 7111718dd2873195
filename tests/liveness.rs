//! Who is alive: the table. A live owner is never robbed; a dead one always is, by whoever waits
//! for what it held, within a second of its lock going free.
//!
//! In every row an owner holds a slot of one ring and bytes of another one. While it lives, those
//! who wait, attach and recover take nothing from it, and it goes on afterwards. Then it dies, and
//! both are taken back in time. See [`scene`](liveness::scene) for what exactly is asked.
//!
//! | what makes it hard to tell | alive | dead | shown in |
//! | --- | --- | --- | --- |
//! | its pid is used again, by another owner or a stranger | kept | taken back | `pids` |
//! | it is a zombie: dead and not reaped | | taken back | `pids` |
//! | it looks like one: its first thread has ended | kept | taken back | `pids` |
//! | it executes another program: same pid, same start | | taken back | `pids` |
//! | it is in another PID namespace: its pid is 1 | kept | taken back | `pids` |
//! | whoever looks is in another PID namespace | kept | taken back | `pids` |
//! | a child by `fork` outlives it | kept | taken back | `crash/forks` |
//! | a child by bare `clone`: no handlers | kept | taken back | `children` |
//! | a child that shares its file table | kept | taken back | `children` |
//! | a program with a descriptor of the file | kept | taken back | `children` |
//! | a child that shares its memory, and can store | kept, for the child | with it | `children` |
//! | a child by `vfork`, before it executes | kept, for the child | with it | `children` |
//! | it comes by a bind mount, or by `/proc/PID/root` | kept | taken back | `places` |
//! | whoever looks comes by a bind mount | kept | taken back | `places` |
//! | `CLOCK_MONOTONIC` steps by a day, on and back | kept | taken back | `places` |
//! | it is stopped by SIGSTOP | kept | taken back | `crash/stop`, `pauses` |
//! | a debugger holds it | kept | taken back | `pauses` |
//! | its control group is frozen | kept | once it can die | `pauses` |
//! | it gets no processor | kept | taken back | `pauses` |
//!
//! Two rows need no run. The wall clock may step: `clippy.toml` keeps the library from reading it,
//! but for the time of attachment that a row shows. A block device that is mounted twice has the
//! same inodes in both places, as a bind mount has.
//!
//! What needs root says so, and is not run without it.
#![expect(
    clippy::print_stdout,
    reason = "parts talk by it, and each row says how long it took"
)]

mod liveness {
    mod children;
    pub(crate) mod part;
    mod pauses;
    mod peer;
    mod pids;
    mod places;
    pub(crate) mod scene;
}

/// The door through which the other processes come in; does nothing in a run of the tests.
#[test]
fn part() {
    liveness::part::play_if_asked();
}
