//! How fast something goes on a machine that others use too.
//!
//! Time divided by number is spoiled by whatever takes a processor away from a player for a while:
//! a millisecond is as much as ten thousand round trips. So a player that spins reads the clock
//! once a group of operations, a few microseconds long, and keeps what each group took. An
//! interruption is then in one group, which stands far out.

use hdrhistogram::Histogram;

/// Parts of a nanosecond in which groups are kept: nanoseconds are too coarse for an operation.
const PER_NS: u64 = 1000;
/// The longest that is told from longer ones: a minute.
const LONGEST_NS: u64 = 60_000_000_000;
/// A group that takes so many times as long as the median one was interrupted. Slow states of a
/// contender are far below: caches that are fought for make it three to six times as slow.
const INTERRUPTED: u64 = 10;

/// What groups of operations took.
#[derive(Debug)]
pub struct Pace {
    /// Of an operation, group by group.
    groups: Histogram<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        let groups = Histogram::new_with_bounds(1, LONGEST_NS * PER_NS, 3);
        Self {
            groups: groups.expect("bounds in order"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
impl Pace {
    /// A group of `count` took so long.
    #[inline]
    pub fn record(&mut self, elapsed_ns: u64, count: u64) {
        self.groups.saturating_record(elapsed_ns * PER_NS / count);
    }

    /// Nanoseconds of an operation in the median group.
    #[must_use]
    pub fn median_ns(&self) -> f64 {
        self.groups.value_at_quantile(0.5) as f64 / PER_NS as f64
    }

    /// Nanoseconds of an operation in the mean of all groups that were not interrupted: unlike the
    /// median it tells of every state that the contender was in.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        let limit = self
            .groups
            .value_at_quantile(0.5)
            .saturating_mul(INTERRUPTED);
        let groups = self.groups.iter_recorded();
        let (mut sum, mut count) = (0.0, 0_u64);
        for group in groups.take_while(|group| group.value_iterated_to() <= limit) {
            let here = group.count_since_last_iteration();
            sum += group.value_iterated_to() as f64 * here as f64;
            count += here;
        }
        sum / count as f64 / PER_NS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_left_out_and_a_slow_state_is_not() {
        let mut pace = Pace::default();
        (0..600).for_each(|_| pace.record(5_000, 1000));
        (0..300).for_each(|_| pace.record(20_000, 1000));
        (0..100).for_each(|_| pace.record(4_000_000, 1000));
        assert!(
            (pace.median_ns() - 5.0).abs() < 0.01,
            "{}",
            pace.median_ns()
        );
        // (600 * 5 + 300 * 20) / 900
        assert!((pace.mean_ns() - 10.0).abs() < 0.02, "{}", pace.mean_ns());
    }

    #[test]
    fn parts_of_a_nanosecond_are_kept() {
        let mut pace = Pace::default();
        pace.record(1280, 1024);
        assert!((pace.mean_ns() - 1.25).abs() < 0.002, "{}", pace.mean_ns());
    }
}
