//! What the fuzz targets do with an input.
//!
//! | target | input | checks |
//! | --- | --- | --- |
//! | [`bridge_ends`] | a URL | it is an end of a bridge or refused |
//! | [`bridge_frames`] | bytes of a connection | frames, which encode as they came, or none |
//! | [`open_image`] | a file, or words to change in a sound ring | see below; adopted rings work |
//! | [`corrupted_ops`] | operations on a ring, and stores to it by others | see below |
//! | [`ops_model`] | operations on a sound ring | each answer is the oracle's |
//!
//! [`open_image`] and [`corrupted_ops`] look for panics, hangs and faults: a damaged ring answers
//! errors or bytes.
//!
//! `cargo +nightly fuzz run <target>` runs one; `cargo xtask test fuzz` runs all of them for a
//! while. The seeds in `corpus/` are made by
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! A find becomes a test of its own: in `tests/corrupt.rs` as stores to a ring, in
//! `tests/properties.rs` as a list of steps, which a failing run prints.

mod bridge;
mod corrupted;
mod image;
mod memory;
mod model;

/// The oracles of the property tests.
#[path = "../../tests/properties"]
mod properties {
    pub(crate) mod mpmc;
    pub(crate) mod ops;
    pub(crate) mod spsc;
}

pub use bridge::{bridge_ends, bridge_frames};
pub use corrupted::corrupted_ops;
pub use image::open_image;
pub use model::ops_model;
