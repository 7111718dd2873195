//! The clock that all processes share.

use core::hint::black_box;
use core::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
///
/// # Panics
/// On a machine without that clock.
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

/// A short time in nanoseconds.
#[must_use]
pub fn ns_of(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Nanoseconds that a look at the clock takes: the least of some attempts.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
pub fn cost_ns() -> f64 {
    const LOOKS: u64 = 10_000;
    let attempt = || {
        let start = now_ns();
        for _ in 0..LOOKS {
            black_box(now_ns());
        }
        (now_ns() - start) as f64 / LOOKS as f64
    };
    (0..10).map(|_| attempt()).fold(f64::INFINITY, f64::min)
}
