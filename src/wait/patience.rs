//! When to ask whether somebody died: not at the first refusal, and not at every one.
//!
//! Whoever is refused, full or empty, remembers what stood in the way. Only when the same thing has
//! stood there for more than a millisecond is it worth the system calls to probe the others' locks,
//! and then at intervals that double up to a tenth of a second.
//!
//! What the dead hold need not stand in anybody's way: a record that one was reading lies behind
//! all other consumers until its slot's turn comes again. So whoever is refused at all probes every
//! quarter of a second, by whatever it is refused.

/// Milliseconds for which the same obstacle must have stood before the first probe.
#[cfg(not(loom))]
const FIRST_MS: u64 = 1;
/// Milliseconds between probes, at most.
#[cfg(not(loom))]
const LAST_MS: u64 = 100;

/// Milliseconds between probes, at most, of one who is refused by something else each time.
#[cfg(not(loom))]
const ANYWAY_MS: u64 = 250;

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
    /// When to probe whatever stands in the way.
    anyway_at_ms: u64,
}

impl Patience {
    /// Told of a refusal and its obstacle; says whether to probe now.
    #[cfg(not(loom))]
    pub(crate) fn is_exhausted(&mut self, mark: u64) -> bool {
        let now_ms = now_ms();
        let is_first = self.interval_ms == 0;
        let is_due = if is_first || self.mark != mark {
            self.mark = mark;
            // The coarse clock stands for some milliseconds: one more is the least that has passed.
            self.probe_at_ms = now_ms + FIRST_MS + 1;
            self.interval_ms = FIRST_MS;
            !is_first && now_ms >= self.anyway_at_ms
        } else {
            now_ms >= self.probe_at_ms
        };
        if is_due {
            self.interval_ms = (self.interval_ms * 2).min(LAST_MS);
            self.probe_at_ms = now_ms + self.interval_ms;
        }
        if is_due || is_first {
            self.anyway_at_ms = now_ms + ANYWAY_MS;
        }
        is_due
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{ANYWAY_MS, Patience, now_ms};

    /// After so many milliseconds of refusals by `mark` it is time to probe.
    fn exhausted_after_ms(patience: &mut Patience, mut mark: impl FnMut() -> u64) -> u64 {
        let began_ms = now_ms();
        while !patience.is_exhausted(mark()) {
            assert!(now_ms() < began_ms + 10 * ANYWAY_MS, "nobody is probed");
            std::thread::yield_now();
        }
        now_ms() - began_ms
    }

    #[test]
    fn an_obstacle_that_stays_is_probed_soon_and_one_that_changes_in_time() {
        let mut patience = Patience::default();
        let mut marks = 0..;
        let mut another = || marks.next().expect("there are many");
        for _ in 0..2 {
            let took_ms = exhausted_after_ms(&mut patience, &mut another);
            assert!(took_ms >= ANYWAY_MS, "{took_ms} ms");
        }
        let same = another();
        let took_ms = exhausted_after_ms(&mut patience, || same);
        assert!(took_ms < ANYWAY_MS, "{took_ms} ms");
        let took_ms = exhausted_after_ms(&mut patience, &mut another);
        assert!(took_ms >= ANYWAY_MS, "a probe is a probe: {took_ms} ms");
    }
}
