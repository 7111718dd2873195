//! The machine's own floors: the same bytes with the same checks, and nothing but the loop.

mod blocks;
mod lines;
mod system_call;

pub use blocks::{Blocks, records_in_block};
pub use lines::{Futex, Lines};
pub use system_call::SystemCall;
