//! The machine's own floors: the same bytes with the same checks, and nothing but the loop.
//!
//! [`Blocks`] and [`Lines`] are what a stream and a round trip are held against: no ring hands over
//! less. [`Records`] and [`Slots`] are the floors of the rings' very work, record by record; what a
//! ring takes more than these is its own.

mod blocks;
mod exchange;
mod lines;
mod records;
mod slots;
mod system_call;

pub use blocks::{Blocks, records_in_block};
pub use exchange::Exchange;
pub use lines::{Futex, Lines};
pub use records::Records;
pub use slots::Slots;
pub use system_call::SystemCall;
