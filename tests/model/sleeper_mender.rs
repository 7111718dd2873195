//! A third party recovers a waker that died, while others sleep without a bound.
//!
//! Whoever waits on a descriptor has no bound of its own: it relies on the wake-up of whoever
//! recovers. A mender takes the dead one's lock and does what `recovery::recover` does. It marks
//! the row; sweeps, which gives back the record that the dead one held, and bumps the epoch (one
//! step here: `slot_ring` tells them apart); wakes everybody as `wait::wake_all` does, by adding to
//! the event word and then by the system call; and frees the row last. What it gives back it gives
//! by exchanges, so nothing waits in a store buffer.
//!
//! If it dies, the lock is free and the row in use: another one, who probes locks now and then,
//! does all of it again. A row that is free draws nobody: what was not done by then is never done.

use super::explorer::{Label, Steps};
use super::sleeper::{EventWord, Mutant, State, Waker, WakerAt};

/// What the mender does next, in the order of `recovery::recover`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum MenderAt {
    Sweep,
    AddToWord,
    Wake,
    FreeRow,
}

/// The holder of a dead waker's lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mending {
    dead: usize,
    at: MenderAt,
}

impl EventWord {
    /// Whether somebody will find the waker dead, and recover it.
    pub(super) fn is_to_mend(&self, waker: &Waker) -> bool {
        self.mender_deaths.is_some() && waker.at == WakerAt::Dead && waker.in_use
    }

    pub(super) fn mend(&self, state: &State, steps: &mut Steps<State>) {
        let Some(mending) = state.mending else {
            let dead = (0..state.wakers.len()).filter(|dead| self.is_to_mend(&state.wakers[*dead]));
            for dead in dead {
                let at = self.order()[0];
                let mut next = *state;
                next.mending = Some(Mending { dead, at });
                steps.push(mender(dead, "take the lock, mark the row"), next);
            }
            return;
        };
        let mut next = *state;
        let dead = &mut next.wakers[mending.dead];
        let step = match mending.at {
            MenderAt::Sweep => {
                next.records += u8::from(dead.holds);
                dead.holds = false;
                "sweep, bump the epoch"
            }
            MenderAt::AddToWord => {
                next.count += 1;
                "add to the event word"
            }
            MenderAt::Wake => {
                self.wake_sleepers(&mut next);
                "FUTEX_WAKE"
            }
            MenderAt::FreeRow => {
                dead.in_use = false;
                "free the row"
            }
        };
        let order = self.order();
        let after = order.iter().skip_while(|at| **at != mending.at).nth(1);
        next.mending = after.map(|at| Mending { at: *at, ..mending });
        steps.push(mender(mending.dead, step), next);
        if Some(state.mender_deaths) < self.mender_deaths {
            let mut next = *state;
            next.mending = None;
            next.mender_deaths += 1;
            steps.push(mender(mending.dead, "dies"), next);
        }
    }

    fn order(&self) -> &'static [MenderAt] {
        use MenderAt::{AddToWord, FreeRow, Sweep, Wake};
        match self.mutant {
            Mutant::FreesRowBeforeWaking => &[Sweep, FreeRow, AddToWord, Wake],
            Mutant::WakesBeforeSweeping => &[AddToWord, Wake, Sweep, FreeRow],
            Mutant::WakesWithoutCounting => &[Sweep, Wake, FreeRow],
            _ => &[Sweep, AddToWord, Wake, FreeRow],
        }
    }
}

fn mender(dead: usize, step: &'static str) -> Label {
    Label {
        party: "mender",
        number: u8::try_from(dead).expect("few wakers"),
        step,
    }
}
