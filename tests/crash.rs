//! Real processes that are killed, stopped and forked in the middle of everything.
//!
//! # How a test has children
//! A child is this test binary once more, told by its environment to play a role: see [`role`]. It
//! tells what it does in a mapped log that outlives it, so what it was doing when it was killed can
//! be read afterwards, and what it has delivered before can be counted. Children die with the
//! thread that made them, and rings and logs lie in a directory under `/dev/shm` that goes with it.
//!
//! # How long
//! As it stands, the file takes about a minute and a half and kills some thousands. These make it
//! larger:
//! - `ANNULUS_CHAOS_SECONDS=60`, `ANNULUS_CHAOS_KILLS=100000`: see `chaos`;
//! - `ANNULUS_STOP_SECONDS=30`: whoever is stopped stays stopped for so long.
//!
//! Each test prints what it did: run with `--nocapture` to see it.
//!
//! | file | question |
//! | --- | --- |
//! | `chaos` | MPMC: does anything that happens to a process lose, repeat or delay a record? |
//! | `stop` | Is somebody who is stopped ever taken for dead? |
//! | `bytes` | SPSC: does a restarted side go on exactly where the dead one was? |
//! | `recovery` | What if those who recover die too? |
//! | `forks` | Does a child keep anything of its parent's? |
//! | `sleepers` | What do dead sleepers and dead wakers cost the others? |
//! | `child`, `log`, `payload`, `system` | what all of these share |
#![expect(
    clippy::print_stdout,
    reason = "each test says what it killed and what it found"
)]

mod crash {
    mod bytes;
    mod chaos;
    pub(crate) mod child;
    mod forks;
    mod log;
    mod payload;
    mod recovery;
    mod sleepers;
    mod stop;
    mod system;

    use child::Task;

    /// What a child does, by the name that its parent calls it.
    pub(crate) fn play(task: &Task) {
        match task.role.as_str() {
            "chaos" => chaos::direct(task),
            "chaos-producer" => chaos::produce_anew(task),
            "chaos-consumer" => chaos::consume_anew(task),
            "holder" => stop::hold(task),
            "byte-producer" => bytes::produce(task),
            "byte-consumer" => bytes::consume(task),
            "victim" => recovery::hold_many(task),
            "recoverer" => recovery::recover(task),
            "forker" => forks::fork(task),
            "sleeper" => sleepers::sleep(task),
            "waker" => sleepers::wake(task),
            other => panic!("nobody plays `{other}`"),
        }
    }
}

/// The door through which children come in; does nothing in a run of the tests.
#[test]
fn role() {
    if let Some(task) = crash::child::Task::of_this_process() {
        crash::play(&task);
    }
}
