//! The one place of the bridges that reads the clock, and how long to wait before another attempt.

use std::time::{Duration, Instant};

/// This moment.
#[expect(clippy::disallowed_methods, reason = "deadlines of the network")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// As it is told to a peer.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Waits that double from attempt to attempt, each of them shortened by chance, so that those who
/// lost the same peer do not all come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    due: Instant,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let due = now();
        Self {
            first,
            longest,
            next: first,
            due,
        }
    }

    /// When to try.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// It failed at `now`.
    pub(super) fn failed(&mut self, now: Instant) {
        // Between a half and the whole of it.
        let wait = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.due = now.checked_add(wait).unwrap_or(now);
        self.next = self.next.saturating_mul(2).min(self.longest);
    }

    /// It went well: the next failure is a first one.
    pub(super) fn succeeded(&mut self) {
        self.next = self.first;
    }
}
