//! Zero-copy rings in a mapped file, between processes, that survive the death of any of them.
//!
//! - [`spsc`]: one producer, one consumer, records of any length in a byte ring.
//! - [`mpmc`]: many producers and consumers, records in slots of one size.
//! - [`typed`]: either of them, for one type of plain old data.
//! - `bridge`, with the feature `bridge-tcp`: a ring's records to another machine.
#![cfg_attr(not(test), deny(clippy::disallowed_types, clippy::disallowed_methods))]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        reason = "without the segment floor, parts of the lower ones rest"
    )
)]

#[cfg(not(any(target_os = "linux", loom)))]
compile_error!(
    "annulus needs Linux: liveness rests on open-file-description locks, waiting on shared futexes \
     and membarrier(2). Elsewhere only `--cfg loom` builds, with the heap rings."
);

#[cfg(all(feature = "bridge", not(loom)))]
pub mod bridge;
mod constructors;
mod error;
mod geometry;
mod handle;
mod layout;
pub mod mpmc;
mod protocol;
#[cfg(not(loom))]
pub mod segment;
pub mod spsc;
mod sync;
pub mod typed;
mod wait;

pub use error::{ClaimError, ReadError, TryClaimError, TryReadError};
pub use geometry::{Geometry, GeometryError, HeaderError, Kind};
pub use protocol::heap::Heap;
pub use protocol::{
    Attachment, CutShort, Damage, ElementType, Gone, Loss, Recovered, Redelivery, ZeroCopy,
};
#[cfg(not(loom))]
pub use segment::{Guarded, Location, Mapped, Untrusted};
/// No part of the interface: for bare loops beside the rings, which ask for lines as these do.
#[cfg(not(loom))]
#[doc(hidden)]
pub use sync::prefetch_to_write;
pub use wait::Wait;

/// Under loom a handle lies on the heap unless it says otherwise.
#[cfg(loom)]
use protocol::heap::Heap as Mapped;

/// The README's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
