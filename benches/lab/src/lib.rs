//! A lab for hand-offs between processes: how long they take, measured so that it can be believed.
//!
//! An absolute time means little on a shared machine. So a contender runs in short slices, in
//! turns with the others, with the machine's own floor for that very work measured right before
//! and after each slice, and what is reported is the ratio.
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`payload`] | what a record holds, how it is written and checked |
//! | [`work`] | what is done in a slice: pattern, payload, batch, wait, players, capacity |
//! | [`transport`] | the traits that a contender implements |
//! | [`contenders`], [`floors`] | annulus, the kernel's ways; what the machine takes without them |
//! | [`mod@contender`] | a contender as the slices see it |
//! | [`players`], [`control`], [`memory`] | the processes of a slice, and where they meet |
//! | [`loops`], [`pace`], [`tally`], [`clock`] | what players do, how it is timed, checked |
//! | [`slices`] | rounds in rotated order, the floor beside each slice |
//! | [`ladder`] | the scenarios that everybody wants to see |
//! | [`result`], [`latency`] | what was found, as programs read it |
//! | [`report`] | what people read of it: tables, a page with charts, a comparison |
//! | [`machine`], [`doctor`] | where a run takes place, and what spoils it there |
//!
//! # The order of a slice
//!
//! 1. The driver makes the link ([`Transport::link`]) in a folder on `/dev/shm`.
//! 2. It forks one process for each player, or one for all if the contender is made for threads.
//!    The driver touches no contender itself: what a contender breaks dies with its players.
//! 3. Each player pins itself, attaches, and waits at a barrier in a shared page.
//! 4. The players work until the time is up; each writes what it found to its pipe.
//! 5. Whoever is not done by the deadline is killed, and the slice is reported as wedged.

pub mod clock;
pub mod contender;
pub mod contenders;
pub mod control;
pub mod doctor;
pub mod floors;
pub mod ladder;
pub mod latency;
pub mod loops;
pub mod machine;
pub mod memory;
pub mod pace;
pub mod payload;
pub mod players;
pub mod report;
pub mod result;
pub mod slices;
pub mod system;
pub mod tally;
pub mod transport;
pub mod work;

pub use contender::{Conditions, Contender, Fault, Found, Of};
pub use payload::{Fixed, Payload, Sized};
pub use transport::{Place, Receive, Send, Transport};
pub use work::{Pattern, Waiting, Work};
