//! How a wait begins: with looks, or with yields at once where looks have come to nothing.
//!
//! A peer on another processor answers while one looks. A peer that waits for this very processor
//! gets it when one yields, and the looks before that only keep it waiting: on one processor they
//! took half of a round trip. Nobody is told where the others run, but each handle sees what its
//! looks have come to. After some waits in which they were in vain it yields first, and makes the
//! trial again now and then, for the peer may have moved.

/// Looks before the first yield: 0.3 to 2 µs, as long as a `PAUSE` takes here, and enough for a
/// peer at work on another processor.
const SPINS: u64 = 32;
/// Yields before the first sleep: few, for on a crowded machine each gives a whole slice away.
const YIELDS: u64 = 4;
/// The same without looks before them. A yield to nobody takes 0.1 µs, so this is about as long.
const YIELDS_ALONE: u64 = 8;
/// Looks of either kind that every wait makes before it arms: what a wait may do in place of an
/// attempt, so that no sleep follows.
pub(crate) const LEAST_LOOKS: u64 = YIELDS_ALONE;

/// Waits in vain, one behind the other, before a handle yields first.
const ENOUGH: u32 = 4;
/// Every so many waits it looks first all the same.
const TRIAL: u32 = 16;

/// How often a wait looks before it yields, and yields before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    pub(crate) spins: u64,
    pub(crate) yields: u64,
}

/// What one handle's looks have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habit {
    /// Waits since looks were enough.
    in_vain: u32,
}

impl Habit {
    /// For the next wait.
    pub(crate) fn looks(self) -> Looks {
        if self.in_vain < ENOUGH || self.in_vain.is_multiple_of(TRIAL) {
            Looks {
                spins: SPINS,
                yields: YIELDS,
            }
        } else {
            Looks {
                spins: 0,
                yields: YIELDS_ALONE,
            }
        }
    }

    /// Told how a wait has ended: by looks before the first yield, or not.
    pub(crate) fn learn(self, was_enough: bool) -> Self {
        let in_vain = if was_enough {
            0
        } else {
            // Another lap is a multiple of the trial's, so nothing changes when it runs over.
            self.in_vain.checked_add(1).unwrap_or(TRIAL)
        };
        Self { in_vain }
    }
}

#[cfg(test)]
mod tests {
    use super::{ENOUGH, Habit, LEAST_LOOKS, SPINS, TRIAL};

    #[test]
    fn whoever_looks_in_vain_yields_first_and_tries_again_now_and_then() {
        let mut habit = Habit::default();
        for wait in 0..1000 {
            let looks = habit.looks();
            let trial = wait < ENOUGH || wait % TRIAL == 0;
            assert_eq!(looks.spins, if trial { SPINS } else { 0 }, "wait {wait}");
            assert!(looks.spins + looks.yields >= LEAST_LOOKS);
            habit = habit.learn(false);
        }
        assert_eq!(habit.learn(true).looks(), Habit::default().looks());
    }

    #[test]
    fn it_goes_on_for_ever() {
        let last = Habit { in_vain: u32::MAX };
        assert_eq!(last.looks().spins, 0);
        let spins = (0..TRIAL).scan(last, |habit, _| {
            *habit = habit.learn(false);
            Some(habit.looks().spins)
        });
        assert_eq!(spins.sum::<u64>(), SPINS, "one trial");
    }
}
