//! The steps of the slot ring's parties, each one access to shared memory.
//!
//! A producer claims, stores the tail hint, looks at `closed` (admit), and commits or aborts. A
//! consumer compares the recovery epoch, rescans if it is new, claims in order, stores the head
//! hint, and releases or requeues. Recoverers are in [`recovery`](super::slot_ring_recovery).
//!
//! Parties of one kind that swap places make the same state ([`SlotRing::canonical`]): in a trace
//! two producers, or two consumers, may change numbers between lines.

use super::explorer::{Label, Steps};
use super::slot_ring::{At, Mutant, Party, SkipStore, SlotRing, SlotState, State, Word, bit};

impl SlotRing {
    pub(crate) fn push_steps(&self, state: &State, steps: &mut Steps<State>) {
        for row in self.rows() {
            let mut party = Turn {
                ring: self,
                state,
                row,
                steps: &mut *steps,
            };
            match party.me().at {
                at if at > At::Closed => party.recover(),
                _ if self.is_producer(row) => party.produce(),
                _ => party.consume(),
            }
        }
        if self.closes && !state.closed {
            let label = Label {
                party: "somebody",
                number: 0,
                step: "close",
            };
            steps.push(
                label,
                State {
                    closed: true,
                    ..*state
                },
            );
        }
    }

    /// The same state with the parties of each kind in a fixed order.
    fn canonical(&self, mut state: State) -> State {
        let sort = |state: &mut State, rows: std::ops::Range<u8>| {
            for last in (rows.start..rows.end).rev() {
                for row in rows.start..last {
                    let (left, right) = (usize::from(row), usize::from(row + 1));
                    if state.parties[right] < state.parties[left] {
                        state.parties.swap(left, right);
                        rename_owners(state, row, row + 1);
                    }
                }
            }
        };
        sort(&mut state, 0..self.producers);
        sort(&mut state, self.producers..self.producers + self.consumers);
        state
    }
}

fn rename_owners(state: &mut State, one: u8, other: u8) {
    for word in &mut state.words {
        if word.owner == one {
            word.owner = other;
        } else if word.owner == other {
            word.owner = one;
        }
    }
}

/// One party's turn in a state.
pub(crate) struct Turn<'m> {
    pub(crate) ring: &'m SlotRing,
    pub(crate) state: &'m State,
    pub(crate) row: u8,
    steps: &'m mut Steps<State>,
}

impl Turn<'_> {
    pub(crate) fn me(&self) -> Party {
        self.state.parties[usize::from(self.row)]
    }

    pub(crate) fn mutant(&self, mutant: Mutant) -> bool {
        self.ring.mutant == mutant
    }

    fn word_at(&self, position: u8) -> Word {
        self.state.words[self.ring.slot(position)]
    }

    fn label(&self, step: &'static str) -> Label {
        let party = match self.me().at {
            At::Dead | At::Resolve | At::ResolveEnd | At::Sweep => "recoverer of row",
            At::SweepAbort | At::Bump | At::FreeRow => "recoverer of row",
            At::Unused => "newcomer in row",
            _ if self.ring.is_producer(self.row) => "producer in row",
            _ => "consumer in row",
        };
        Label {
            party,
            number: self.row,
            step,
        }
    }

    /// A step after which the party is `me`, and shared memory as `change` makes it.
    pub(crate) fn push_with(
        &mut self,
        step: &'static str,
        me: Party,
        change: impl FnOnce(&mut State),
    ) {
        let label = self.label(step);
        let mut next = *self.state;
        next.parties[usize::from(self.row)] = me;
        change(&mut next);
        self.steps.push(label, self.ring.canonical(next));
    }

    /// A step that changes no shared word.
    pub(crate) fn push(&mut self, step: &'static str, me: Party) {
        self.push_with(step, me, |_| ());
    }

    /// A step that changes the word of the slot of `word`.
    pub(crate) fn push_word(&mut self, step: &'static str, me: Party, word: Word) {
        let slot = self.ring.slot(word.position);
        self.push_with(step, me, |next| next.words[slot] = word);
    }

    fn forbid(&mut self, step: &'static str, what: &'static str) {
        let label = self.label(step);
        self.steps.forbid(label, what);
    }

    /// The party's state with nothing held; what a consumer has seen it keeps.
    fn idle(&self) -> Party {
        let seen_is_current = self.me().seen_is_current;
        Party {
            seen_is_current,
            ..self.me().reset(At::Idle)
        }
    }

    fn going_on_at(&self, position: u8) -> Party {
        Party {
            position,
            ..self.me()
        }
    }

    pub(crate) fn then(&self, at: At) -> Party {
        Party { at, ..self.me() }
    }

    /// Where to go on when the slot is already in a later lap: behind the position of its word if
    /// that is `passed` too, else behind the position of the lap before.
    fn jump(&self, word: Word, passed: bool) -> u8 {
        if passed {
            word.position + 1
        } else {
            word.position + 1 - self.ring.slots
        }
    }
}

/// A producer.
impl Turn<'_> {
    fn produce(&mut self) {
        let me = self.me();
        match me.at {
            At::Idle => self.begin_to_claim(),
            At::Claim => self.claim(),
            At::TailHint => {
                let unasked = self.mutant(Mutant::LooksAtClosedOnlyBeforeTheClaim);
                let next = self.then(if unasked { At::Write } else { At::Admit });
                self.push_with("store the tail hint", next, |next| {
                    next.tail = me.position + 1
                });
            }
            At::Admit if self.state.closed => self.push("closed: abort", self.then(At::Abort)),
            At::Admit => self.push("not closed: admitted", self.then(At::Write)),
            At::Write => self.commit_or_abort(),
            At::Abort => self.skip(me.position),
            other => unreachable!("no producer is at {other:?}"),
        }
        let has_work = me.at != At::Idle || self.state.left.claims > 0;
        if has_work && self.state.left.producer_deaths > 0 {
            self.push_with("dies", me.reset(At::Dead), |next| {
                next.left.producer_deaths -= 1
            });
        }
    }

    fn begin_to_claim(&mut self) {
        let refused = self.mutant(Mutant::LooksAtClosedOnlyBeforeTheClaim) && self.state.closed;
        if self.state.left.claims > 0 && !refused {
            let next = Party {
                at: At::Claim,
                position: self.state.tail,
                ..self.me()
            };
            self.push("load the tail hint", next);
        }
    }

    fn claim(&mut self) {
        if self.state.left.claims == 0 {
            return self.push("has no more work", self.idle());
        }
        let position = self.me().position;
        let word = self.word_at(position);
        if word == Word::new(position, SlotState::Free) {
            if position != self.ring.frontier(self.state) {
                self.forbid("claim", "a producer left a hole");
            }
            let mine = word.taken(self.row, SlotState::Writing);
            let (slot, next) = (self.ring.slot(position), self.then(At::TailHint));
            self.push_with("claim", next, |next| {
                next.words[slot] = mine;
                next.left.claims -= 1;
            });
        } else if word.position < position {
            if word.state == SlotState::Free {
                self.forbid("claim", "a producer walked past the frontier");
            }
            self.push("full", self.idle());
        } else if word.position == position {
            self.push("walk", self.going_on_at(position + 1));
        } else {
            let claimed = word.state != SlotState::Free;
            self.push("jump", self.going_on_at(self.jump(word, claimed)));
        }
    }

    fn commit_or_abort(&mut self) {
        let position = self.me().position;
        let word = self.word_at(position);
        if word.position != position || !word.is_held_by(self.row, SlotState::Writing) {
            return self.forbid("commit", "a producer lost its claim");
        }
        if self.state.reported {
            self.forbid("commit", "a record was committed after Closed was reported");
        }
        let (slot, idle) = (self.ring.slot(position), self.idle());
        self.push_with("commit", idle, |next| {
            next.words[slot] = Word::new(position, SlotState::Committed);
            next.committed |= bit(position);
            next.deliverable |= bit(position);
        });
        if self.state.left.aborts > 0 {
            let next = self.then(At::Abort);
            self.push_with("decide to abort", next, |next| next.left.aborts -= 1);
        }
        if self.mutant(Mutant::ReclaimsTheLiving) {
            let counted = Party {
                skipped: self.me().skipped + 1,
                ..self.me()
            };
            let skip = Word::new(position, SlotState::Skip);
            self.push_word("is thought dead and reclaimed", counted, skip);
        }
    }

    /// The next store of an abort, by the owner or on its behalf.
    pub(crate) fn skip(&mut self, position: u8) {
        let me = self.me();
        let order = &self.ring.skip_order;
        let (done, left) = order.split_at(usize::from(me.store));
        let n = me.skipped - u8::from(done.contains(&SkipStore::Count));
        let mut next = Party {
            store: me.store + 1,
            ..me
        };
        let slot = self.ring.slot(position);
        match left[0] {
            SkipStore::Base => next.skipped_base = n,
            SkipStore::Slot => next.abort_slot = u8::try_from(slot + 1).expect("few slots"),
            SkipStore::Count => next.skipped = n + 1,
            SkipStore::End => next.abort_slot = 0,
            SkipStore::Word => {}
        }
        if left.len() == 1 {
            let swept = next.reset(At::Sweep);
            next = match me.at {
                At::Abort => next.reset(At::Idle),
                _ => self.after_slot(Party {
                    index: me.index,
                    swept: true,
                    ..swept
                }),
            };
        }
        let word = match (left[0], self.mutant(Mutant::AbortFrees)) {
            (SkipStore::Word, false) => Word::new(position, SlotState::Skip),
            (SkipStore::Word, true) => Word::new(position, SlotState::Free),
            _ => self.state.words[slot],
        };
        self.push_with(skip_name(left[0]), next, |next| next.words[slot] = word);
    }
}

fn skip_name(store: SkipStore) -> &'static str {
    match store {
        SkipStore::Base => "abort: store skipped_base",
        SkipStore::Slot => "abort: store abort_slot",
        SkipStore::Count => "abort: store skipped",
        SkipStore::Word => "abort: the word becomes SKIP",
        SkipStore::End => "abort: clear abort_slot",
    }
}

/// A consumer.
impl Turn<'_> {
    fn consume(&mut self) {
        let me = self.me();
        match me.at {
            At::Idle => self.compare_epoch(),
            At::LoadHead => {
                let next = Party {
                    at: At::ClaimInOrder,
                    position: self.state.head,
                    ..me
                };
                self.push("load the head hint", next);
            }
            At::Rescan => self.rescan(),
            At::ClaimInOrder => self.claim_in_order(),
            At::HeadHint => {
                let next = self.then(At::Read);
                self.push_with("store the head hint", next, |next| {
                    next.head = me.position + 1
                });
            }
            At::Read => self.release_or_requeue(),
            At::RequeueBump => {
                let idle = self.idle();
                self.push_with("bump after requeue", idle, bump_epoch);
            }
            At::LookAtClosed if !self.state.closed => self.push("empty", self.idle()),
            At::LookAtClosed if self.mutant(Mutant::ReportsClosedWithoutRescan) => {
                self.report_closed();
            }
            At::LookAtClosed => self.push("closed", self.then(At::ClosedWalk)),
            At::ClosedWalk => self.closed_walk(),
            At::Closed => {}
            other => unreachable!("no consumer is at {other:?}"),
        }
        if me.at != At::Closed && self.state.left.consumer_deaths > 0 {
            let held = if me.at == At::Read || me.at == At::HeadHint {
                bit(me.position)
            } else {
                0
            };
            self.push_with("dies", me.reset(At::Dead), |next| {
                next.left.consumer_deaths -= 1;
                next.deliverable |= held;
            });
        }
    }

    fn compare_epoch(&mut self) {
        let me = self.me();
        if me.seen_is_current || self.mutant(Mutant::NeverRescans) {
            return self.push("no new recovery epoch", self.then(At::LoadHead));
        }
        let seen_is_current = self.mutant(Mutant::TakesEpochAsSeenBeforeTheWalk);
        let position = self.state.head;
        let next = Party {
            at: At::Rescan,
            position,
            read_is_current: true,
            seen_is_current,
            ..me
        };
        self.push("a new recovery epoch", next);
    }

    fn rescan(&mut self) {
        let me = self.me();
        let word = self.word_at(me.position + me.index);
        if word.state == SlotState::Committed && word.attempts > 0 {
            let seen = self.mutant(Mutant::TakesEpochAsSeenAfterAClaim) && me.read_is_current;
            let seen_is_current = me.seen_is_current || seen;
            return self.take(
                word,
                Party {
                    seen_is_current,
                    ..me.reset(At::Read)
                },
            );
        }
        if me.index + 1 < self.ring.slots {
            return self.push(
                "rescan",
                Party {
                    index: me.index + 1,
                    ..me
                },
            );
        }
        let seen_is_current = match self.ring.mutant {
            Mutant::TakesEpochAsSeenBeforeTheWalk => me.seen_is_current,
            Mutant::ReadsEpochAfterTheWalk => true,
            _ => me.read_is_current,
        };
        self.push(
            "rescan ends",
            Party {
                seen_is_current,
                ..me.reset(At::LoadHead)
            },
        );
    }

    fn claim_in_order(&mut self) {
        let position = self.me().position;
        let word = self.word_at(position);
        if word.position > position {
            let claimed = word.state != SlotState::Free;
            let claimed = claimed && self.mutant(Mutant::ConsumerJumpsLikeAProducer);
            return self.push("jump", self.going_on_at(self.jump(word, claimed)));
        }
        match word.state {
            SlotState::Committed if word.position == position => {
                self.take(word, self.then(At::HeadHint));
            }
            SlotState::Skip if word.position == position => {
                let free = Word::new(position + self.ring.slots, SlotState::Free);
                self.push_word("pass SKIP", self.going_on_at(position + 1), free);
            }
            SlotState::Reading if word.position == position => {
                self.push("walk", self.going_on_at(position + 1));
            }
            _ if self.ring.closes => {
                self.push("nothing here", self.idle_at(At::LookAtClosed));
            }
            _ => self.push("empty", self.idle()),
        }
    }

    fn idle_at(&self, at: At) -> Party {
        Party { at, ..self.idle() }
    }

    /// COMMITTED becomes READING by this consumer.
    fn take(&mut self, word: Word, me: Party) {
        let position = word.position;
        if self.state.deliverable & bit(position) == 0 {
            self.forbid("claim", "a record was delivered twice without a cause");
        }
        let mine = word.taken(self.row, SlotState::Reading);
        let slot = self.ring.slot(position);
        self.push_with("claim", Party { position, ..me }, |next| {
            next.words[slot] = mine;
            next.deliverable &= !bit(position);
        });
    }

    fn release_or_requeue(&mut self) {
        let position = self.me().position;
        let word = self.word_at(position);
        if word.position != position || !word.is_held_by(self.row, SlotState::Reading) {
            return self.forbid("release", "a consumer lost its claim");
        }
        let (slot, idle) = (self.ring.slot(position), self.idle());
        let free = Word::new(position + self.ring.slots, SlotState::Free);
        self.push_with("release", idle, |next| {
            next.words[slot] = free;
            next.settled |= bit(position);
        });
        if self.state.left.requeues > 0 {
            let unbumped = self.mutant(Mutant::RequeuesWithoutBump);
            let next = self.idle_at(if unbumped { At::Idle } else { At::RequeueBump });
            self.push_with("requeue", next, |next| {
                next.words[slot] = word.given_back();
                next.left.requeues -= 1;
                next.deliverable |= bit(position);
            });
        }
    }

    fn closed_walk(&mut self) {
        let me = self.me();
        let word = self.state.words[usize::from(me.index)];
        if word.state != SlotState::Free {
            self.push("closed, not drained", self.idle());
        } else if me.index + 1 < self.ring.slots {
            self.push(
                "closed: walk",
                Party {
                    index: me.index + 1,
                    ..me
                },
            );
        } else {
            self.report_closed();
        }
    }

    fn report_closed(&mut self) {
        if self.state.committed != self.state.settled {
            self.forbid(
                "report Closed",
                "Closed was reported before a committed record",
            );
        }
        let next = self.me().reset(At::Closed);
        self.push_with("report Closed", next, |next| next.reported = true);
    }
}

/// Whatever anybody has seen of the recovery epoch is no longer the present one.
pub(crate) fn bump_epoch(state: &mut State) {
    for party in &mut state.parties {
        party.seen_is_current = false;
        party.read_is_current = false;
    }
}
