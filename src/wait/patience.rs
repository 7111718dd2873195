//! When to ask whether somebody died: not at the first refusal, and not at every one.
//!
//! Whoever is refused, full or empty, remembers what stood in the way. Only when the same thing has
//! stood there for more than a millisecond is it worth the system calls to probe the others' locks,
//! and then at intervals that double up to a tenth of a second.

/// Milliseconds for which the same obstacle must have stood before the first probe.
#[cfg(not(loom))]
const FIRST_MS: u64 = 1;
/// Milliseconds between probes, at most.
#[cfg(not(loom))]
const LAST_MS: u64 = 100;

/// What stood in the way, since when, and when to probe next.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    loom,
    expect(
        dead_code,
        reason = "there is no time under loom, and nobody dies unseen"
    )
)]
pub(crate) struct Patience {
    mark: u64,
    probe_at_ms: u64,
    interval_ms: u64,
}

impl Patience {
    /// Told of a refusal and its obstacle; says whether to probe now.
    #[cfg(not(loom))]
    pub(crate) fn is_exhausted(&mut self, mark: u64) -> bool {
        let now_ms = now_ms();
        if self.interval_ms == 0 || self.mark != mark {
            // The coarse clock stands for some milliseconds: one more is the least that has passed.
            *self = Self {
                mark,
                probe_at_ms: now_ms + FIRST_MS + 1,
                interval_ms: FIRST_MS,
            };
            return false;
        }
        if now_ms < self.probe_at_ms {
            return false;
        }
        self.interval_ms = (self.interval_ms * 2).min(LAST_MS);
        self.probe_at_ms = now_ms + self.interval_ms;
        true
    }

    /// Without a clock: under shuttle any refusal may have stood for long enough.
    #[cfg(loom)]
    pub(crate) fn is_exhausted(&mut self, _mark: u64) -> bool {
        cfg!(shuttle)
    }
}

/// Milliseconds of the monotonic clock as of its last tick: a few nanoseconds to read.
#[cfg(not(loom))]
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}
