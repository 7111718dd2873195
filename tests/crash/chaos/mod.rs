//! MPMC: eight producers and four consumers, and everything that can happen to a process.
//!
//! Workers are killed, stopped and continued, killed while they are stopped, panic in one thread
//! while the other goes on, fork children that outlive them, and execute this binary anew: at any
//! moment, or in the step at which the blow is aimed. Whoever ends is replaced at once.
//!
//! # The verdict
//! - By a ledger of each producer's records, which shares nothing with the ring: see `ledger`.
//! - Nobody waits for a second: a thread that is not stopped and not kept from going on by
//!   somebody who is (`waits`); a side as a whole; the row of a dead one (`bounds`).
//! - What was a worker's own as it was stopped is its own, unchanged, when it goes on.
//! - After each round no row is in use, no slot is held, and the ring's counts are the ledger's.
//! - Every state was hit, by every sort of blow that it is there for: see `hits`.
//!
//! # How long
//! - `ANNULUS_CHAOS_SECONDS=60`: so long (20 as it stands), and longer until every state is hit;
//! - `ANNULUS_CHAOS_KILLS=100000`: until so many SIGKILLs have ended a process;
//! - `ANNULUS_CHAOS_SEED=7`: these blows, in this order. Whom they meet in which state is up to the
//!   scheduler. A failure tells the seed of its round.
//!
//! # How blows are aimed
//! The victim sets itself a timer as it enters the step, which hits it some hundred nanoseconds
//! later, in the midst of the library's code as a rule. So what takes no time is hit as surely as
//! what takes long. A process that is stopped so and has left the step already goes on and tries
//! again.
//!
//! | file | for |
//! | --- | --- |
//! | `blows` | what may strike whom, from a seed |
//! | `director`, `strikes`, `crew` | rounds; blows; workers as the director sees them |
//! | `worker`, `producers`, `consumers` | what the workers do |
//! | `ledger`, `waits`, `bounds`, `hits`, `figures`, `verdict` | what is counted, and must hold |

mod blows;
mod bounds;
mod consumers;
mod crew;
mod director;
mod figures;
mod hits;
mod ledger;
mod producers;
mod strikes;
mod verdict;
mod waits;
mod worker;

use std::io::pipe;
use std::time::Duration;

use super::child::{Child, Task, alone, directory};
use super::system::number_from;
use blows::Side;
use director::{Director, Size};

const LENGTH: Duration = Duration::from_secs(20);

/// A line of the director's for the test to print.
macro_rules! say {
    ($($line:tt)*) => {
        for line in format!($($line)*).lines() {
            println!("chaos: {line}");
        }
    };
}
use say;

/// The director, in a process of its own: it forks, and the one that runs the tests has threads.
pub(crate) fn direct(task: &Task) {
    let length = number_from("ANNULUS_CHAOS_SECONDS").map_or(LENGTH, Duration::from_secs);
    let size = match number_from("ANNULUS_CHAOS_KILLS") {
        Some(kills) => Size::Kills(kills),
        None => Size::Length(length),
    };
    Director::begin(&task.ring, task.number, size).run();
}

/// What a worker becomes that executes this binary.
pub(crate) fn produce_anew(task: &Task) {
    worker::image(task, Side::Producer);
}

/// The same for the other side.
pub(crate) fn consume_anew(task: &Task) {
    worker::image(task, Side::Consumer);
}

#[test]
fn whoever_is_struck_however_nothing_is_lost_repeated_or_late() {
    let _alone = alone();
    let seed = number_from("ANNULUS_CHAOS_SEED").unwrap_or(1);
    println!("ANNULUS_CHAOS_SEED={seed}");
    let directory = directory();
    // As long as the writer is there, forked children may live on.
    let (reader, _writer) = pipe().expect("a pipe");
    let ring = directory.path().join("chaos.ring");
    let mut director = Child::start_speaking("chaos", &ring, seed, reader.into());
    for line in director.lines() {
        if let Some((_, said)) = line.split_once("chaos: ") {
            println!("{said}");
        }
    }
    director.finish();
}
