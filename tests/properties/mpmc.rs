//! The slot ring beside a queue of cells: both do every step, and every answer is compared.

use std::collections::VecDeque;

use annulus::mpmc::{Claim, Consumer, Options, Producer, Record};
use annulus::segment::{Snapshot, inspect};
use annulus::{Heap, Location, Mapped, TryClaimError, TryReadError, ZeroCopy};

use super::ops::{Expected, Length, Op, Step};

/// How many producers there are, and as many consumers.
const HANDS: usize = 2;
/// Attempts are counted up to this many.
const MAX_ATTEMPTS: u8 = 3;

/// Where a ring lies, as far as it matters to who comes and goes.
pub(crate) trait Home {
    type Attachment: ZeroCopy;

    fn another_producer(&self, of: &Producer<Self::Attachment>) -> Producer<Self::Attachment>;
    fn another_consumer(&self, of: &Consumer<Self::Attachment>) -> Consumer<Self::Attachment>;
    /// What an observer sees; nothing on the heap.
    fn look(&self) -> Option<Snapshot>;
}

/// A ring in the memory of this process.
#[derive(Debug)]
pub(crate) struct OnHeap;

impl Home for OnHeap {
    type Attachment = Heap;

    fn another_producer(&self, of: &Producer<Heap>) -> Producer<Heap> {
        of.try_clone().expect("a row is free")
    }

    fn another_consumer(&self, of: &Consumer<Heap>) -> Consumer<Heap> {
        of.try_clone().expect("a row is free")
    }

    fn look(&self) -> Option<Snapshot> {
        None
    }
}

/// A ring in a file that only this test uses.
#[derive(Debug)]
pub(crate) struct InFile(pub(crate) Location);

impl Home for InFile {
    type Attachment = Mapped;

    fn another_producer(&self, of: &Producer) -> Producer {
        of.try_clone().expect("a row is free")
    }

    fn another_consumer(&self, of: &Consumer) -> Consumer {
        of.try_clone().expect("a row is free")
    }

    fn look(&self) -> Option<Snapshot> {
        Some(inspect(&self.0).expect("a sound ring"))
    }
}

/// Does `steps` on a ring of `slots` slots in memory.
pub(crate) fn run_on_heap(slots: u64, slot_bytes: u64, origin: u64, steps: &[Step]) {
    let options = Options::new(slots, slot_bytes).starting_at(origin);
    let (producer, consumer) = options.heap().expect("a possible ring");
    run(&OnHeap, producer, consumer, origin, steps);
}

/// Does `steps` on a ring of which the file has been created.
pub(crate) fn run_in_file(location: Location, origin: u64, steps: &[Step]) {
    // SAFETY: nobody but this test uses the file, and through this library only.
    let producer = unsafe { Producer::attach(&location) }.expect("a row is free");
    // SAFETY: as for the producer.
    let consumer = unsafe { Consumer::attach(&location) }.expect("a row is free");
    run(&InFile(location), producer, consumer, origin, steps);
}

fn run<H: Home>(
    home: &H,
    producer: Producer<H::Attachment>,
    consumer: Consumer<H::Attachment>,
    origin: u64,
    steps: &[Step],
) {
    let mut model = Model::new(producer.slots(), producer.max_record(), origin);
    let mut producers = vec![home.another_producer(&producer), producer];
    let mut consumers = vec![home.another_consumer(&consumer), consumer];
    let mut steps = steps.iter();
    loop {
        let stopped = Run {
            home,
            producers: &producers,
            consumers: &consumers,
            model: &mut model,
            claims: Vec::new(),
            records: Vec::new(),
        }
        .until_somebody_leaves(&mut steps);
        let Some(Step { hand, op }) = stopped else {
            break;
        };
        // The other one remains, so that there always is somebody to be cloned.
        if op == Op::ReattachProducer {
            drop(producers.remove(hand % HANDS));
            producers.push(home.another_producer(&producers[0]));
        } else {
            drop(consumers.remove(hand % HANDS));
            consumers.push(home.another_consumer(&consumers[0]));
        }
    }
}

/// What has become of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Writing,
    Committed(Expected, u8),
    Reading(Expected, u8),
    /// A claim that became nothing, and that no consumer has passed yet.
    Skip,
    /// A producer may have its slot, one lap later.
    Free,
}

/// What the documentation of the ring promises, by the simplest means.
#[derive(Debug)]
struct Model {
    slots: usize,
    max: usize,
    origin: u64,
    /// Position of the first cell.
    first: u64,
    /// The last positions that were claimed, at most one for each slot.
    cells: VecDeque<Cell>,
    number: u64,
    committed: u64,
    released: u64,
    skipped: u64,
    closed: bool,
}

impl Model {
    fn new(slots: u64, max: usize, origin: u64) -> Self {
        Self {
            slots: usize::try_from(slots).expect("few slots"),
            max,
            origin,
            first: origin,
            cells: VecDeque::new(),
            number: 0,
            committed: 0,
            released: 0,
            skipped: 0,
            closed: false,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn tail(&self) -> u64 {
        self.first.wrapping_add(self.cells.len() as u64)
    }

    fn cell(&mut self, position: u64) -> &mut Cell {
        let at = position.wrapping_sub(self.first);
        let at = usize::try_from(at).expect("a position of the last lap");
        &mut self.cells[at]
    }

    /// The next position, if its slot is free.
    fn claim(&mut self, len: usize) -> Result<u64, TryClaimError> {
        if len > self.max {
            return Err(TryClaimError::TooLong { len, max: self.max });
        }
        if self.cells.len() == self.slots {
            if self.cells[0] != Cell::Free {
                let closed = self.closed;
                return Err(if closed {
                    TryClaimError::Closed
                } else {
                    TryClaimError::Full
                });
            }
            self.cells.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        let position = self.tail();
        self.cells.push_back(Cell::Writing);
        if self.closed {
            // Whether the ring is closed is looked at after the claim, which becomes nothing.
            self.abort(position);
            return Err(TryClaimError::Closed);
        }
        Ok(position)
    }

    fn commit(&mut self, position: u64, record: Expected) {
        assert_eq!(*self.cell(position), Cell::Writing);
        *self.cell(position) = Cell::Committed(record, 0);
        self.committed += 1;
    }

    fn abort(&mut self, position: u64) {
        assert_eq!(*self.cell(position), Cell::Writing);
        *self.cell(position) = Cell::Skip;
        self.skipped += 1;
    }

    /// What is given back first, oldest first; then everything in order, up to a claim to write.
    fn read(&mut self) -> Result<(u64, Expected, u8), TryReadError> {
        let given_back = |cell: &Cell| matches!(cell, Cell::Committed(_, 1..));
        let mut found = self.cells.iter().position(given_back);
        if found.is_none() {
            for (at, cell) in self.cells.iter_mut().enumerate() {
                match cell {
                    Cell::Skip => *cell = Cell::Free,
                    Cell::Free | Cell::Reading(..) => {}
                    Cell::Writing => break,
                    Cell::Committed(..) => {
                        found = Some(at);
                        break;
                    }
                }
            }
        }
        let Some(at) = found else {
            let drained = self.cells.iter().all(|cell| *cell == Cell::Free);
            return Err(if self.closed && drained {
                TryReadError::Closed
            } else {
                TryReadError::Empty
            });
        };
        let Cell::Committed(record, attempts) = self.cells[at] else {
            unreachable!("found as committed");
        };
        self.cells[at] = Cell::Reading(record, attempts);
        Ok((self.first.wrapping_add(at as u64), record, attempts))
    }

    fn release(&mut self, position: u64) {
        assert!(matches!(self.cell(position), Cell::Reading(..)));
        *self.cell(position) = Cell::Free;
        self.released += 1;
    }

    fn requeue(&mut self, position: u64) {
        let Cell::Reading(record, attempts) = *self.cell(position) else {
            panic!("only a record that is read is given back");
        };
        let attempts = (attempts + 1).min(MAX_ATTEMPTS);
        *self.cell(position) = Cell::Committed(record, attempts);
    }

    fn count(&self, of: impl Fn(&Cell) -> bool) -> u64 {
        self.cells.iter().filter(|cell| of(cell)).count() as u64
    }
}

/// A ring and its model, for as long as the same handles are attached.
struct Run<'r, H: Home> {
    home: &'r H,
    producers: &'r [Producer<H::Attachment>],
    consumers: &'r [Consumer<H::Attachment>],
    model: &'r mut Model,
    claims: Vec<(Claim<'r, H::Attachment>, u64, Expected)>,
    records: Vec<(Record<'r, H::Attachment>, u64)>,
}

impl<'r, H: Home> Run<'r, H> {
    /// Does steps until somebody is to leave; then nothing is held any more. After the last step
    /// the ring is drained.
    fn until_somebody_leaves(mut self, steps: &mut core::slice::Iter<'_, Step>) -> Option<Step> {
        for step in steps {
            if matches!(step.op, Op::ReattachProducer | Op::ReattachConsumer) {
                self.let_go();
                return Some(*step);
            }
            self.step(*step);
            self.compare();
        }
        self.let_go();
        self.drain();
        None
    }

    fn step(&mut self, Step { hand, op }: Step) {
        match op {
            Op::Push { len, tag } => self.push(hand, len, tag),
            Op::Claim { len, kept, tag } => self.claim(hand, len, kept, tag),
            Op::Abort { len } => self.abort(hand, len),
            Op::Batch {
                records,
                len,
                tag,
                commits,
                closes,
            } => self.batch(hand, (records, len, tag), [commits, closes]),
            Op::Read => self.read(hand),
            Op::Requeue => self.requeue(hand),
            Op::Pop => self.pop(hand),
            Op::ReadBatch { max } => self.read_batch(hand, max),
            Op::Peek => self.keep(hand),
            Op::ReleaseTo { which } => {
                if let Some((record, position)) = take(&mut self.records, which) {
                    drop(record);
                    self.model.release(position);
                }
            }
            Op::Rewind { which } => {
                if let Some((record, position)) = take(&mut self.records, which) {
                    record.requeue();
                    self.model.requeue(position);
                }
            }
            Op::Hold { len, tag } => self.hold(hand, len, tag),
            Op::CommitHeld { which } => {
                if let Some((claim, position, record)) = take(&mut self.claims, which) {
                    claim.commit_first(record.len, record.tag);
                    self.model.commit(position, record);
                }
            }
            Op::AbortHeld { which } => {
                if let Some((claim, position, _)) = take(&mut self.claims, which) {
                    claim.abort();
                    self.model.abort(position);
                }
            }
            Op::Close => {
                if hand == 0 {
                    self.producers[0].close();
                } else {
                    self.consumers[1].close();
                }
                self.model.closed = true;
            }
            Op::Reopen => {
                self.producers[hand].reopen();
                self.model.closed = false;
            }
            Op::ReattachProducer | Op::ReattachConsumer => unreachable!("done by the caller"),
        }
    }

    fn push(&mut self, hand: usize, len: Length, tag: u32) {
        let len = len.bytes(self.model.max);
        let number = self.model.next_number();
        let expected = self.model.claim(len);
        let found = self.producers[hand].try_push(tag, &Expected::content(number, len));
        assert_eq!(found, expected.map(|_| ()), "a push of {len} bytes");
        if let Ok(position) = expected {
            self.model.commit(position, Expected { number, len, tag });
        }
    }

    fn claim(&mut self, hand: usize, len: Length, kept: u8, tag: u32) {
        let claimed = len.bytes(self.model.max);
        let len = claimed * usize::from(kept) / 255;
        let number = self.model.next_number();
        let expected = self.model.claim(claimed);
        match self.producers[hand].try_claim(claimed) {
            Ok(mut claim) => {
                assert_eq!(claim.len(), claimed);
                claim.fill(0xee);
                claim[..len].copy_from_slice(&Expected::content(number, len));
                claim.commit_first(len, tag);
                let position = expected.expect("the model has no slot");
                self.model.commit(position, Expected { number, len, tag });
            }
            Err(error) => assert_eq!(Err(error), expected, "a claim of {claimed} bytes"),
        }
    }

    fn hold(&mut self, hand: usize, len: Length, tag: u32) {
        let len = len.bytes(self.model.max);
        let number = self.model.next_number();
        let expected = self.model.claim(len);
        match self.producers[hand].try_claim(len) {
            Ok(mut claim) => {
                claim.copy_from_slice(&Expected::content(number, len));
                let position = expected.expect("the model has no slot");
                let record = Expected { number, len, tag };
                self.claims.push((claim, position, record));
            }
            Err(error) => assert_eq!(Err(error), expected, "a claim of {len} bytes"),
        }
    }

    fn abort(&mut self, hand: usize, len: Length) {
        let len = len.bytes(self.model.max);
        let expected = self.model.claim(len);
        match self.producers[hand].try_claim(len) {
            Ok(claim) => {
                claim.abort();
                self.model.abort(expected.expect("the model has no slot"));
            }
            Err(error) => assert_eq!(Err(error), expected, "a claim of {len} bytes"),
        }
    }

    fn batch(
        &mut self,
        hand: usize,
        (records, len, tag): (u8, Length, u32),
        [commits, closes]: [bool; 2],
    ) {
        let mut batch = self.producers[hand].batch();
        let mut staged = Vec::new();
        for index in 0..records {
            let len = len.nth(index).bytes(self.model.max);
            let tag = tag.wrapping_add(index.into());
            let number = self.model.next_number();
            let expected = self.model.claim(len);
            let found = batch.try_push(tag, &Expected::content(number, len));
            assert_eq!(found, expected.map(|_| ()), "{len} bytes in a batch");
            let Ok(position) = expected else { break };
            staged.push((position, Expected { number, len, tag }));
        }
        assert_eq!(batch.len(), staged.len());
        if closes {
            self.producers[HANDS - 1].close();
            self.model.closed = true;
        }
        // Nothing of it is seen before the end, and a closed ring is not drained meanwhile.
        let mut payload = Vec::new();
        let expected = self.model.read();
        match self.consumers[hand].try_pop(&mut payload) {
            Ok(tag) => {
                let (position, record, _) = expected.expect("the model has no record");
                record.assert_is(tag, &payload);
                self.model.release(position);
            }
            Err(error) => assert_eq!(Err(error), expected, "while a batch is staged"),
        }
        if commits {
            batch.commit();
        } else {
            drop(batch);
        }
        for (position, record) in staged {
            if commits {
                self.model.commit(position, record);
            } else {
                self.model.abort(position);
            }
        }
    }

    fn read(&mut self, hand: usize) {
        if let Some((record, position)) = self.next(hand) {
            record.release();
            self.model.release(position);
        }
    }

    fn requeue(&mut self, hand: usize) {
        if let Some((record, position)) = self.next(hand) {
            record.requeue();
            self.model.requeue(position);
        }
    }

    fn keep(&mut self, hand: usize) {
        let next = self.next(hand);
        self.records.extend(next);
    }

    /// Reads a record and compares it.
    fn next(&mut self, hand: usize) -> Option<(Record<'r, H::Attachment>, u64)> {
        let expected = self.model.read();
        match self.consumers[hand].try_read() {
            Ok(record) => {
                let expected = expected.expect("the model has no record");
                let position = assert_record(&record, expected);
                Some((record, position))
            }
            Err(error) => {
                assert_eq!(Err(error), expected);
                None
            }
        }
    }

    fn pop(&mut self, hand: usize) {
        let expected = self.model.read();
        let mut payload = vec![1, 2, 3];
        match self.consumers[hand].try_pop(&mut payload) {
            Ok(tag) => {
                let (position, record, _) = expected.expect("the model has no record");
                record.assert_is(tag, &payload);
                self.model.release(position);
            }
            Err(error) => {
                assert_eq!(Err(error), expected);
                assert_eq!(payload, [1, 2, 3], "a refusal leaves the payload as it was");
            }
        }
    }

    fn read_batch(&mut self, hand: usize, max: u8) {
        if max == 0 {
            return;
        }
        let mut expected = Vec::new();
        let refused = loop {
            if expected.len() == usize::from(max) {
                break None;
            }
            match self.model.read() {
                Ok(record) => expected.push(record),
                Err(error) => break Some(error),
            }
        };
        match self.consumers[hand].try_read_batch(max.into()) {
            Ok(batch) => {
                assert_eq!(batch.len(), expected.len(), "records in a batch");
                for (record, expected) in batch.iter().zip(&expected) {
                    assert_record(record, *expected);
                }
                batch.release();
                for (position, ..) in expected {
                    self.model.release(position);
                }
            }
            Err(error) => {
                assert!(expected.is_empty(), "the model has records");
                assert_eq!(Some(error), refused);
            }
        }
    }

    /// Gives up everything that is kept: half of it comes to something.
    fn let_go(&mut self) {
        while let Some((claim, position, record)) = self.claims.pop() {
            if record.number.is_multiple_of(2) {
                claim.commit_first(record.len, record.tag);
                self.model.commit(position, record);
            } else {
                drop(claim);
                self.model.abort(position);
            }
        }
        while let Some((record, position)) = self.records.pop() {
            if position.is_multiple_of(2) {
                record.release();
                self.model.release(position);
            } else {
                record.requeue();
                self.model.requeue(position);
            }
        }
    }

    /// What handles and observers say about the ring.
    fn compare(&mut self) {
        let model = &self.model;
        // All that was not read yet lies between the hints, and no more than fits the ring.
        let unread = model.count(|cell| matches!(cell, Cell::Committed(_, 0) | Cell::Writing));
        let backlog = self.producers[0].backlog();
        assert_eq!(backlog, self.consumers[1].backlog());
        assert!(
            (unread..=model.slots as u64).contains(&backlog),
            "{backlog}"
        );
        assert!(
            self.producers
                .iter()
                .all(|one| one.is_closed() == model.closed)
        );
        if let Some(snapshot) = self.home.look() {
            let writing = model.count(|cell| *cell == Cell::Writing);
            let reading = model.count(|cell| matches!(cell, Cell::Reading(..)));
            assert_eq!(snapshot.tail, model.tail());
            assert_eq!(snapshot.committed_records, model.committed);
            assert_eq!(snapshot.released_records, model.released);
            assert_eq!(snapshot.backlog_records, model.committed - model.released);
            assert_eq!(snapshot.totals.committed, model.committed);
            assert_eq!(snapshot.totals.released, model.released);
            assert_eq!(snapshot.totals.skipped, model.skipped);
            assert_eq!(snapshot.claims_count, writing + reading);
            assert_eq!(snapshot.is_closed, model.closed);
            assert_eq!(snapshot.participants.len(), 2 * HANDS);
            let claimed = model.tail().wrapping_sub(model.origin);
            assert_eq!(claimed, model.committed + model.skipped + writing);
        }
    }

    /// Whatever was done before: closed, the ring ends after the last record.
    fn drain(&mut self) {
        self.producers[1].close();
        self.model.closed = true;
        for _ in 0..=self.model.slots {
            self.pop(0);
        }
        self.pop(1);
        let mut payload = Vec::new();
        let end = self.consumers[0].try_pop(&mut payload);
        assert_eq!(end, Err(TryReadError::Closed), "every record was read");
        self.compare();
        assert_eq!(self.model.committed, self.model.released);
    }
}

#[track_caller]
fn assert_record<A: ZeroCopy>(
    record: &Record<'_, A>,
    (position, expected, attempts): (u64, Expected, u8),
) -> u64 {
    expected.assert_is(record.tag(), record);
    assert_eq!(
        record.attempts(),
        attempts,
        "attempts of record {}",
        expected.number
    );
    assert_eq!(
        record.position(),
        position,
        "position of record {}",
        expected.number
    );
    position
}

fn take<T>(held: &mut Vec<T>, which: u8) -> Option<T> {
    let at = usize::from(which).checked_rem(held.len())?;
    Some(held.remove(at))
}
