//! The byte ring's steps: those of the producer and those of the consumer, deaths and restarts.
//!
//! Their order, and why it is right, is told in [`byte_ring`](super::byte_ring).

use super::byte_ring::{
    ByteRing, Consumer, ConsumerAt, Entry, Mutant, NO_HEADER, PADDING, Producer, ProducerAt,
    Publication, State, Store,
};
use super::explorer::{Label, Steps};

fn producer(step: &'static str) -> Label {
    Label {
        party: "producer",
        number: 0,
        step,
    }
}

fn consumer(step: &'static str) -> Label {
    Label {
        party: "consumer",
        number: 0,
        step,
    }
}

/// The producer's steps.
impl ByteRing {
    pub(crate) fn produce(&self, state: &State, steps: &mut Steps<State>) {
        let me = state.producer;
        match me.at {
            ProducerAt::Dead => {
                let entry = self.true_end(state);
                let mut next = *state;
                next.claim_mark = false;
                next.producer.at = ProducerAt::Idle;
                next.producer.known = state.committed_journal[entry];
                next.producer.entry = self.other_entry(entry);
                return steps.push(producer("restarts"), next);
            }
            ProducerAt::Idle => self.claim(state, steps),
            ProducerAt::LookAtClosed => {
                let mut next = *state;
                if state.closed {
                    next.claim_mark = false;
                    next.producer = rested(me);
                    steps.push(producer("closed: refused"), next);
                } else {
                    let late = self.mutant == Mutant::LooksAtClosedBeforeMark;
                    next.producer.at = if late {
                        ProducerAt::Mark
                    } else {
                        ProducerAt::Publish
                    };
                    steps.push(producer("not closed: admitted"), next);
                }
            }
            ProducerAt::Mark => {
                let mut next = *state;
                next.claim_mark = true;
                next.producer.at = ProducerAt::Publish;
                steps.push(producer("store the claim mark"), next);
            }
            ProducerAt::Publish => self.publish(state, steps),
        }
        if state.producer_deaths_left > 0 {
            let mut next = *state;
            next.producer_deaths_left -= 1;
            next.producer = rested(Producer {
                known: Entry { end: 0, records: 0 },
                ..me
            });
            next.producer.at = ProducerAt::Dead;
            next.producer.entry = 0;
            steps.push(producer("dies"), next);
        }
    }

    fn claim(&self, state: &State, steps: &mut Steps<State>) {
        for (number, shape) in (0..).zip(self.shapes) {
            let count = u8::try_from(shape.len()).expect("few records");
            let after = self.publication(state.producer.known, shape).after;
            let spare = u8::from(self.mutant != Mutant::ClaimsWithoutRoomForNextHeader);
            let fits = after.end + spare <= state.head + self.capacity;
            if !fits || count > state.records_left {
                continue;
            }
            for payload in 0..2 {
                let mut next = *state;
                next.claim_mark = self.mutant != Mutant::LooksAtClosedBeforeMark;
                next.producer.at = ProducerAt::LookAtClosed;
                next.producer.shape = number;
                next.producer.payload = payload;
                steps.push(producer("claim: load the head, store the mark"), next);
            }
        }
    }

    fn publish(&self, state: &State, steps: &mut Steps<State>) {
        let me = state.producer;
        let publication = self.publication(me.known, self.shapes[usize::from(me.shape)]);
        let stores = self.stores(&publication);
        let mut next = *state;
        next.producer.store += 1;
        let entry = &mut next.committed_journal[usize::from(me.entry)];
        let step = match stores[usize::from(me.store)] {
            Store::Payload(position) => {
                self.write(&mut next, steps, position, me.payload);
                "publish: payload"
            }
            Store::NextHeader(position) => {
                self.write(&mut next, steps, position, 0);
                "publish: zero the next header"
            }
            Store::JournalRecords => {
                entry.records = publication.after.records;
                "publish: journal records"
            }
            Store::JournalEnd => {
                entry.end = publication.after.end;
                "publish: journal end"
            }
            Store::Header(item) => {
                next.units[self.unit(item.position)] = item.header;
                "publish: a further header"
            }
            Store::Commit(item) => {
                self.write(&mut next, steps, item.position, item.header);
                if state.reported {
                    steps.forbid(producer("commit"), "a record was committed after Closed");
                }
                self.remember_commit(&mut next, &publication);
                "commit: the first header"
            }
            Store::ClearMark => {
                next.claim_mark = false;
                next.producer = rested(Producer {
                    known: publication.after,
                    ..me
                });
                next.producer.entry = 1 - me.entry;
                "clear the claim mark"
            }
        };
        steps.push(producer(step), next);
        let before_the_end = |store: &Store| matches!(store, Store::Payload(_) | Store::Header(_));
        if stores[..usize::from(me.store)].iter().all(before_the_end) {
            let mut next = *state;
            next.claim_mark = false;
            next.producer = rested(me);
            steps.push(producer("abort"), next);
        }
    }

    fn write(&self, next: &mut State, steps: &mut Steps<State>, position: u8, value: u8) {
        if position < next.committed.end || position >= next.head + self.capacity {
            steps.forbid(
                producer("store"),
                "the producer wrote over what is not released",
            );
        }
        next.units[self.unit(position)] = value;
    }

    fn remember_commit(&self, next: &mut State, publication: &Publication) {
        next.records_left -= publication.after.records - next.committed.records;
        for position in next.committed.end..publication.after.end {
            next.truth[self.unit(position)] = NO_HEADER;
        }
        for item in &publication.items {
            next.truth[self.unit(item.position)] = item.header;
        }
        next.committed = publication.after;
    }
}

fn rested(me: Producer) -> Producer {
    Producer {
        at: ProducerAt::Idle,
        shape: 0,
        payload: 0,
        store: 0,
        ..me
    }
}

/// The consumer's steps.
impl ByteRing {
    pub(crate) fn consume(&self, state: &State, steps: &mut Steps<State>) {
        let me = state.consumer;
        let mut go = |step, at| {
            let mut next = *state;
            next.consumer.at = at;
            next.reported |= at == ConsumerAt::Closed;
            steps.push(consumer(step), next);
        };
        let header = state.units[self.unit(me.peeked.end)];
        match me.at {
            ConsumerAt::Dead => {
                let entry = self.true_head(state);
                let mut next = *state;
                next.consumer.at = ConsumerAt::Idle;
                next.consumer.peeked = Entry {
                    end: state.head,
                    ..state.released_journal[entry]
                };
                next.consumer.entry = self.other_entry(entry);
                return steps.push(consumer("restarts"), next);
            }
            ConsumerAt::Idle => self.peek(state, steps, header),
            ConsumerAt::Release => self.release(state, steps),
            ConsumerAt::LookAtClosed if !state.closed => go("empty", ConsumerAt::Idle),
            ConsumerAt::LookAtClosed if self.mutant == Mutant::LooksAtClosedLast => {
                go("report Closed", ConsumerAt::Closed);
            }
            ConsumerAt::LookAtClosed => go("closed", ConsumerAt::LookAtMark),
            ConsumerAt::LookAtMark => {
                let marked = state.claim_mark && self.mutant != Mutant::IgnoresMark;
                match self.mutant {
                    _ if marked && state.producer.at != ProducerAt::Dead => {
                        go("there is a claim", ConsumerAt::Idle);
                    }
                    Mutant::LooksAtMarkLast => go("report Closed", ConsumerAt::Closed),
                    _ => go("there is no claim", ConsumerAt::LookAgain),
                }
            }
            ConsumerAt::LookAgain if header != 0 => go("a record after all", ConsumerAt::Idle),
            ConsumerAt::LookAgain if self.mutant == Mutant::LooksAtClosedLast => {
                go("no header", ConsumerAt::LookAtClosed);
            }
            ConsumerAt::LookAgain => go("report Closed", ConsumerAt::Closed),
            ConsumerAt::Closed if me.peeked.end > state.head => go("release", ConsumerAt::Release),
            ConsumerAt::Closed => {}
        }
        if me.at == ConsumerAt::Closed && me.peeked.end < state.committed.end {
            let what = "Closed was reported before a committed record";
            steps.forbid(consumer("report Closed"), what);
        }
        if state.consumer_deaths_left > 0 {
            let mut next = *state;
            next.consumer_deaths_left -= 1;
            let peeked = Entry { end: 0, records: 0 };
            next.consumer = Consumer {
                at: ConsumerAt::Dead,
                peeked,
                entry: 0,
                store: 0,
            };
            steps.push(consumer("dies"), next);
        }
    }

    fn peek(&self, state: &State, steps: &mut Steps<State>, header: u8) {
        let me = state.consumer;
        let mut next = *state;
        let truth = state.truth[self.unit(me.peeked.end)];
        match (header, me.peeked.end < state.committed.end) {
            (0, false) if self.closes => {
                let last = self.mutant == Mutant::LooksAtClosedLast;
                next.consumer.at = if last {
                    ConsumerAt::LookAtMark
                } else {
                    ConsumerAt::LookAtClosed
                };
                steps.push(consumer("nothing here"), next);
            }
            (0, false) => {}
            (0, true) => steps.forbid(consumer("peek"), "a committed record is not seen"),
            (_, false) => steps.forbid(consumer("peek"), "an uncommitted record is seen"),
            (_, true) if header != truth => {
                steps.forbid(consumer("peek"), "a header is not what was committed");
            }
            (_, true) => {
                next.consumer.peeked.end += header % PADDING;
                next.consumer.peeked.records += u8::from(header < PADDING);
                steps.push(consumer("peek"), next);
            }
        }
        if me.peeked.end > state.head {
            let mut next = *state;
            next.consumer.at = ConsumerAt::Release;
            steps.push(consumer("decide to release"), next);
        }
    }

    fn release(&self, state: &State, steps: &mut Steps<State>) {
        let me = state.consumer;
        let mut next = *state;
        next.consumer.store += 1;
        let entry = &mut next.released_journal[usize::from(me.entry)];
        let order = match self.mutant {
            Mutant::HeadBeforeJournal => [2, 0, 1],
            Mutant::StoresEndBeforeRecords => [1, 0, 2],
            _ => [0, 1, 2],
        };
        let step = match order[usize::from(me.store)] {
            0 => {
                entry.records = me.peeked.records;
                "release: journal records"
            }
            1 => {
                entry.end = me.peeked.end;
                "release: journal end"
            }
            _ => {
                self.remember_release(&mut next, me.peeked.end);
                "release: store the head"
            }
        };
        if next.consumer.store == 3 {
            let at = ConsumerAt::Idle;
            next.consumer = Consumer {
                at,
                entry: 1 - me.entry,
                store: 0,
                ..me
            };
        }
        steps.push(consumer(step), next);
    }

    /// Counts from what was committed, not from what the consumer says.
    fn remember_release(&self, next: &mut State, end: u8) {
        for position in next.head..end {
            let header = std::mem::take(&mut next.truth[self.unit(position)]);
            next.released.records += u8::from(header < PADDING);
        }
        next.released.end = end;
        next.head = end;
    }
}
