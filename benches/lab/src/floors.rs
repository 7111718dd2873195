//! The machine's own floors: the same bytes with the same checks, and nothing but the loop.

mod blocks;
mod lines;

pub use blocks::Blocks;
pub use lines::Lines;
