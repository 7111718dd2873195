//! The steps of whoever holds the lock of a dead participant, and of whoever attaches in its row.
//!
//! A recoverer marks the row, resolves the ledger, sweeps all slots, bumps the recovery epoch
//! always, wakes everybody (not here: see `sleeper_mender`), and frees the row last. If it dies,
//! the row is in use and its lock is free again, and another begins anew. Marking the row and
//! taking the lock are one step here: nobody decides by the difference.

use super::slot_ring::{At, Mutant, Party, SlotState, Word, bit};
use super::slot_ring_steps::{Turn, bump_epoch};

impl Turn<'_> {
    pub(crate) fn recover(&mut self) {
        let me = self.me();
        match me.at {
            At::Dead => {
                if self.ring.triggers_recovery(self.state, self.row) {
                    self.push("take the lock, mark the row", self.then(At::Resolve));
                }
            }
            At::Resolve => self.resolve(),
            At::ResolveEnd => {
                let mut next = self.then(At::Sweep);
                if self.mutant(Mutant::ResolvesByEndBeforeCount) {
                    next.skipped = me.position;
                    next.position = 0;
                } else {
                    next.abort_slot = 0;
                }
                self.push("resolve: second store", next);
            }
            At::Sweep => self.sweep(),
            At::SweepAbort => self.skip(self.state.words[usize::from(me.index)].position),
            At::Bump => self.bump(),
            At::FreeRow => {
                let too_early = self.mutant(Mutant::FreesRowBeforeBump);
                let next = if too_early {
                    self.then(At::Bump)
                } else {
                    me.reset(At::Unused)
                };
                self.push("free the row", next);
            }
            At::Unused => self.attach(),
            other => unreachable!("no recoverer is at {other:?}"),
        }
        let recovering = me.at != At::Dead && me.at != At::Unused;
        if recovering && self.state.left.recoverer_deaths > 0 {
            let freed = self.mutant(Mutant::FreesRowBeforeBump) && me.at == At::Bump;
            let left = me.reset(if freed { At::Unused } else { At::Dead });
            self.push_with("dies", left, |next| next.left.recoverer_deaths -= 1);
        }
    }

    fn resolve(&mut self) {
        let me = self.me();
        if me.abort_slot == 0 {
            return self.push("nothing to resolve", self.then(At::Sweep));
        }
        let skipped = self.ring.skipped(self.state, self.row);
        let next = self.then(At::ResolveEnd);
        if self.mutant(Mutant::ResolvesByEndBeforeCount) {
            let next = Party {
                position: skipped,
                abort_slot: 0,
                ..next
            };
            return self.push("resolve: clear abort_slot", next);
        }
        self.push("resolve: store skipped", Party { skipped, ..next });
    }

    fn sweep(&mut self) {
        let me = self.me();
        let word = self.state.words[usize::from(me.index)];
        if word.is_held_by(self.row, SlotState::Writing) {
            self.push("sweep: WRITING", self.then(At::SweepAbort));
        } else if word.is_held_by(self.row, SlotState::Reading) {
            let next = self.after_slot(Party { swept: true, ..me });
            let slot = usize::from(me.index);
            if self.ring.drops {
                let free = Word::new(word.position + self.ring.slots, SlotState::Free);
                self.push_with("sweep: READING is dropped", next, |next| {
                    next.words[slot] = free;
                    next.settled |= bit(word.position);
                });
            } else {
                self.push_word("sweep: READING is given back", next, word.given_back());
            }
        } else {
            self.push("sweep", self.after_slot(me));
        }
    }

    /// The sweep's next slot, or what follows the last one.
    pub(crate) fn after_slot(&self, me: Party) -> Party {
        if me.index + 1 < self.ring.slots {
            return Party {
                index: me.index + 1,
                ..me
            };
        }
        let too_early = self.mutant(Mutant::FreesRowBeforeBump);
        let at = if too_early { At::FreeRow } else { At::Bump };
        Party {
            swept: me.swept,
            ..me.reset(at)
        }
    }

    fn bump(&mut self) {
        let skips_bump = self.mutant(Mutant::BumpsOnlyIfItSwept) && !self.me().swept;
        let too_late = self.mutant(Mutant::FreesRowBeforeBump);
        let next = self
            .me()
            .reset(if too_late { At::Unused } else { At::FreeRow });
        self.push_with("bump the recovery epoch", next, |next| {
            if !skips_bump {
                bump_epoch(next);
            }
        });
    }

    fn attach(&mut self) {
        if self.state.left.attaches > 0 {
            let seen_is_current = self.mutant(Mutant::TakesEpochOfItsBirthAsSeen);
            let next = Party {
                seen_is_current,
                ..self.me().reset(At::Idle)
            };
            self.push_with("attach", next, |next| next.left.attaches -= 1);
        }
    }
}
