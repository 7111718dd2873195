//! The SPSC byte ring: publication, release, restart and close, with death of either side anywhere.
//!
//! # What is modelled
//! A ring of a few units (a unit is the size of a header). Records of one or two units, alone or
//! two in a batch, with padding where one would wrap, and payload that is zero or looks like a
//! header. Each store and each load of shared memory is a step, in sequentially consistent order;
//! either side may die before any of its steps and restarts from what it finds. Not modelled: weak
//! memory (loom's job) and event words.
//!
//! # The rules
//! - *Room*: a claim needs its records and one unit more, for the header that follows them.
//! - *Publication*, in this order: payload and the headers of all items but the first; zero into
//!   the header after the last record; the journal entry that is not the true one, its `records`
//!   first and its `end` after; the first header, which commits everything; the claim mark is
//!   cleared.
//! - *Restart of a producer* ([`ByteRing::true_end`]): of its two journal entries the lower one,
//!   `L`, and the higher one, `H`. If the head is past `L`, or the header at `L` is not zero,
//!   something was published at `L`, and `H` is true; else `L` is. The next publication writes the
//!   other entry.
//! - *Release*: the journal entry that does not hold the head, `records` first, then `end`; then
//!   the head. *Restart of a consumer*: at the head; the entry whose `end` is the head is true.
//! - *Equal ends* occur only before the first publication or release is journalled whole. The entry
//!   with fewer records is taken then: the other one is torn.
//! - *Close*: the producer stores its claim mark, then looks at `closed`. The consumer that finds
//!   no header looks at `closed`, then at the mark (or finds the producer dead), then at the header
//!   again.
//!
//! # Why the restart rule holds
//! Let `E` be the committed end. The entry being written is never the one that says `E`.
//! 1. Before its `end` is stored it has either its old end, the committed end before `E`, and then
//!    `L` < `E` = `H`: the record at `L` was published, and either the head has passed it, or its
//!    unit is live and still holds its header. Or it has the end of a publication that a death
//!    prevented, and then `L` = `E`, as in 2.
//! 2. After that and before the commit, `L` = `E`: the header at `E` is zero, for the publication
//!    that ended there zeroed it, and a claim writes its own first header last; the head is not
//!    past `E`.
//! 3. After the commit `H` is the committed end, and `L` as in 1.
//!
//! To ask the header alone is wrong: a released unit at `L` is overwritten by the next claim's
//! payload, or by the zero after it, before the commit.
//!
//! # Invariants
//! Checked in every state: both sides' recovered positions and counts are the real ones. Checked by
//! steps: the consumer sees what was committed and nothing else; the producer writes over nothing
//! that is committed and not released; nothing is committed after `Closed`.

use super::explorer::{Label, Model, Steps};

const MOST_UNITS: usize = 6;
/// A header of this and n more is padding of n units.
pub(crate) const PADDING: u8 = 8;
/// What checks remember of a unit that holds payload.
pub(crate) const NO_HEADER: u8 = u8::MAX;
/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    Nothing,
    LeavesNextHeader,
    ClaimsWithoutRoomForNextHeader,
    CommitsBeforeJournal,
    CommitsBeforeHeadersOfBatch,
    /// No mutant, but another right order.
    StoresEndBeforeRecords,
    RestartAsksHeaderAlone,
    RestartTakesFirstOfEqualEnds,
    RestartWritesFirstEntry,
    HeadBeforeJournal,
    LooksAtClosedBeforeMark,
    LooksAtClosedLast,
    LooksAtMarkLast,
    IgnoresMark,
}

/// A byte ring and its budgets.
#[derive(Clone, Copy)]
pub(crate) struct ByteRing {
    /// Units.
    pub(crate) capacity: u8,
    /// How many records are published.
    pub(crate) records: u8,
    /// What may be published at once: the lengths of the records, in units.
    pub(crate) shapes: &'static [&'static [u8]],
    pub(crate) producer_deaths: u8,
    pub(crate) consumer_deaths: u8,
    /// Somebody closes the ring at some time.
    pub(crate) closes: bool,
    pub(crate) mutant: Mutant,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) end: u8,
    pub(crate) records: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ProducerAt {
    Dead,
    Idle,
    LookAtClosed,
    /// Only in a mutant.
    Mark,
    Publish,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Producer {
    pub(crate) at: ProducerAt,
    /// The committed end and count, as the producer knows them.
    pub(crate) known: Entry,
    /// The journal entry that it writes next.
    pub(crate) entry: u8,
    pub(crate) shape: u8,
    pub(crate) payload: u8,
    /// The next store of the publication.
    pub(crate) store: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ConsumerAt {
    Dead,
    Idle,
    Release,
    LookAtClosed,
    LookAtMark,
    LookAgain,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Consumer {
    pub(crate) at: ConsumerAt,
    /// How far it has peeked, and how many records that makes since creation.
    pub(crate) peeked: Entry,
    pub(crate) entry: u8,
    /// The next store of the release.
    pub(crate) store: u8,
}

/// Shared memory, both sides, and what the checks remember (`truth` to `reported`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) units: [u8; MOST_UNITS],
    pub(crate) committed_journal: [Entry; 2],
    pub(crate) released_journal: [Entry; 2],
    pub(crate) head: u8,
    pub(crate) claim_mark: bool,
    pub(crate) closed: bool,
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
    pub(crate) records_left: u8,
    pub(crate) producer_deaths_left: u8,
    pub(crate) consumer_deaths_left: u8,
    /// The headers of what is committed and not released.
    pub(crate) truth: [u8; MOST_UNITS],
    pub(crate) committed: Entry,
    pub(crate) released: Entry,
    pub(crate) reported: bool,
}

/// A header and where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) position: u8,
    pub(crate) header: u8,
}

/// One store of a publication.
#[derive(Clone, Copy)]
pub(crate) enum Store {
    Payload(u8),
    NextHeader(u8),
    JournalRecords,
    JournalEnd,
    Header(Item),
    Commit(Item),
    ClearMark,
}

/// A publication: its items, and the committed end and count after it.
pub(crate) struct Publication {
    pub(crate) items: Vec<Item>,
    pub(crate) after: Entry,
}

impl Model for ByteRing {
    type State = State;

    fn initial(&self) -> State {
        let zero = Entry { end: 0, records: 0 };
        let at = ProducerAt::Idle;
        State {
            units: [0; MOST_UNITS],
            committed_journal: [zero; 2],
            released_journal: [zero; 2],
            head: 0,
            claim_mark: false,
            closed: false,
            producer: Producer {
                at,
                known: zero,
                entry: 0,
                shape: 0,
                payload: 0,
                store: 0,
            },
            consumer: Consumer {
                at: ConsumerAt::Idle,
                peeked: zero,
                entry: 0,
                store: 0,
            },
            records_left: self.records,
            producer_deaths_left: self.producer_deaths,
            consumer_deaths_left: self.consumer_deaths,
            truth: [0; MOST_UNITS],
            committed: zero,
            released: zero,
            reported: false,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.produce(state, steps);
        self.consume(state, steps);
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

    fn violation(&self, state: &State) -> Option<&'static str> {
        if state.committed_journal[self.true_end(state)] != state.committed {
            return Some("a restarted producer would miscount or misplace the committed end");
        }
        if state.released_journal[self.true_head(state)] != state.released {
            return Some("a restarted consumer would miscount");
        }
        None
    }

    fn is_good(&self, state: &State) -> bool {
        let done = state.records_left == 0 || state.closed;
        let resting = if self.closes {
            ConsumerAt::Closed
        } else {
            ConsumerAt::Idle
        };
        let drained = state.head == state.committed.end && state.consumer.peeked.end == state.head;
        let rests = state.producer.at == ProducerAt::Idle && state.consumer.at == resting;
        done && drained && rests && state.closed == self.closes
    }
}

/// What follows from shared memory alone.
impl ByteRing {
    pub(crate) fn unit(&self, position: u8) -> usize {
        usize::from(position % self.capacity)
    }

    /// Which entry of the producer's journal is true.
    pub(crate) fn true_end(&self, state: &State) -> usize {
        let [first, second] = state.committed_journal;
        let first_is_lower = match self.mutant {
            Mutant::RestartTakesFirstOfEqualEnds => first.end <= second.end,
            _ => first <= second,
        };
        let (lower, higher) = if first_is_lower { (0, 1) } else { (1, 0) };
        let end = state.committed_journal[lower].end;
        let passed = state.head > end && self.mutant != Mutant::RestartAsksHeaderAlone;
        if passed || state.units[self.unit(end)] != 0 {
            higher
        } else {
            lower
        }
    }

    /// Which entry of the consumer's journal is true.
    pub(crate) fn true_head(&self, state: &State) -> usize {
        let [first, second] = state.released_journal;
        let first_is_true = match (first.end == state.head, second.end == state.head) {
            (true, true) if self.mutant == Mutant::RestartTakesFirstOfEqualEnds => true,
            (true, true) => first <= second,
            (first_matches, _) => first_matches,
        };
        usize::from(!first_is_true)
    }

    pub(crate) fn other_entry(&self, entry: usize) -> u8 {
        if self.mutant == Mutant::RestartWritesFirstEntry {
            0
        } else {
            u8::from(entry == 0)
        }
    }

    /// Where the records of a shape go, with padding where one would wrap.
    pub(crate) fn publication(&self, known: Entry, shape: &[u8]) -> Publication {
        let mut items = Vec::new();
        let Entry {
            mut end,
            mut records,
        } = known;
        for &units in shape {
            let to_the_end = self.capacity - end % self.capacity;
            if units > to_the_end {
                items.push(Item {
                    position: end,
                    header: PADDING + to_the_end,
                });
                end += to_the_end;
            }
            items.push(Item {
                position: end,
                header: units,
            });
            end += units;
            records += 1;
        }
        Publication {
            items,
            after: Entry { end, records },
        }
    }

    pub(crate) fn stores(&self, publication: &Publication) -> Vec<Store> {
        let Publication { items, after } = publication;
        let too_late = self.mutant == Mutant::CommitsBeforeHeadersOfBatch;
        let further = items[1..].iter().map(|item| Store::Header(*item));
        let mut stores = Vec::new();
        for item in items.iter().filter(|item| item.header < PADDING) {
            let payload = item.position + 1..item.position + item.header;
            stores.extend(payload.map(Store::Payload));
        }
        if !too_late {
            stores.extend(further.clone());
        }
        if self.mutant != Mutant::LeavesNextHeader {
            stores.push(Store::NextHeader(after.end));
        }
        let journal = match self.mutant {
            Mutant::StoresEndBeforeRecords => [Store::JournalEnd, Store::JournalRecords],
            _ => [Store::JournalRecords, Store::JournalEnd],
        };
        let commit = Store::Commit(items[0]);
        match self.mutant {
            Mutant::CommitsBeforeJournal => stores.extend([commit].into_iter().chain(journal)),
            _ => stores.extend(journal.into_iter().chain([commit])),
        }
        if too_late {
            stores.extend(further);
        }
        stores.push(Store::ClearMark);
        stores
    }
}
