//! Letting a short time pass without a system call and without the clock.
//!
//! `PAUSE` takes 10 ns on one processor and 60 ns on another, so it is measured: once in a process,
//! by whoever needs it first, which takes that one some microseconds. A measurement that was
//! disturbed makes later ones shorter than they should be, and nothing else.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering, spin_hint};

/// Pauses of one measurement.
const PAUSES: u64 = 64;
/// Measurements, of which the shortest counts.
const TRIES: usize = 3;

/// Nanoseconds of [`PAUSES`] pauses; 0 before they were measured.
static MEASURED_NS: AtomicU64 = AtomicU64::new(0);

/// Lets about so many nanoseconds pass.
pub(crate) fn spin_for_ns(time: u64) {
    // relaxed: two who measure at once store much the same.
    let measured = match MEASURED_NS.load(Ordering::Relaxed) {
        0 => measure(),
        measured => measured,
    };
    pause(time.saturating_mul(PAUSES) / measured);
}

fn pause(times: u64) {
    (0..times).for_each(|_| spin_hint());
}

#[cold]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn measure() -> u64 {
    let one = |_| {
        let began = Instant::now();
        pause(PAUSES);
        began.elapsed()
    };
    let shortest = (0..TRIES).map(one).min().unwrap_or(Duration::ZERO);
    let measured = u64::try_from(shortest.as_nanos())
        .unwrap_or(u64::MAX)
        .max(1);
    // relaxed: as above.
    MEASURED_NS.store(measured, Ordering::Relaxed);
    measured
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, spin_for_ns};

    #[test]
    fn about_as_much_time_passes_as_was_asked_for() {
        const ASKED: Duration = Duration::from_millis(2);
        spin_for_ns(0);
        let lengths = (0..20).map(|_| {
            let began = Instant::now();
            spin_for_ns(2_000_000);
            began.elapsed()
        });
        let shortest = lengths.min().unwrap_or_default();
        assert!(shortest > ASKED / 8 && shortest < ASKED * 8, "{shortest:?}");
    }
}
