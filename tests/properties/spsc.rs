//! The byte ring beside a `VecDeque`: both do every step, and every answer is compared.

use std::collections::VecDeque;

use annulus::segment::{Snapshot, inspect};
use annulus::spsc::{Consumer, Mark, Options, Producer};
use annulus::{Heap, Location, Mapped, TryClaimError, TryReadError, ZeroCopy};

use super::ops::{Expected, Length, Op, Step};

/// Where a ring lies, as far as it matters to who comes and goes.
pub(crate) trait Home {
    type Attachment: ZeroCopy;
    /// Whether a handle can be attached anew; its marks are then another reader's.
    const ATTACHES: bool;

    fn producer_again(&self, old: Producer<Self::Attachment>) -> Producer<Self::Attachment>;
    fn consumer_again(&self, old: Consumer<Self::Attachment>) -> Consumer<Self::Attachment>;
    /// What an observer sees; nothing on the heap.
    fn look(&self) -> Option<Snapshot>;
}

/// Nobody attaches to a ring in the memory of a process anew.
#[derive(Debug)]
pub(crate) struct OnHeap;

impl Home for OnHeap {
    type Attachment = Heap;
    const ATTACHES: bool = false;

    fn producer_again(&self, old: Producer<Heap>) -> Producer<Heap> {
        old
    }

    fn consumer_again(&self, mut old: Consumer<Heap>) -> Consumer<Heap> {
        old.rewind();
        old
    }

    fn look(&self) -> Option<Snapshot> {
        None
    }
}

/// A ring in a file that only this test uses.
#[derive(Debug)]
pub(crate) struct InFile(pub(crate) Location);

impl InFile {
    fn producer(&self) -> Producer {
        // SAFETY: nobody but this test uses the file, and through this library only.
        unsafe { Producer::attach(&self.0) }.expect("the producer's place is free")
    }

    fn consumer(&self) -> Consumer {
        // SAFETY: as for the producer.
        unsafe { Consumer::attach(&self.0) }.expect("the consumer's place is free")
    }
}

impl Home for InFile {
    type Attachment = Mapped;
    const ATTACHES: bool = true;

    fn producer_again(&self, old: Producer) -> Producer {
        drop(old);
        self.producer()
    }

    fn consumer_again(&self, old: Consumer) -> Consumer {
        drop(old);
        self.consumer()
    }

    fn look(&self) -> Option<Snapshot> {
        Some(inspect(&self.0).expect("a sound ring"))
    }
}

/// Does `steps` on a ring of `capacity` bytes in memory.
pub(crate) fn run_on_heap(capacity: u64, origin: u64, steps: &[Step]) {
    let options = Options::new(capacity).starting_at(origin);
    let (producer, consumer) = options.heap().expect("a possible ring");
    run(OnHeap, producer, consumer, origin, steps);
}

/// Does `steps` on a ring of which the file has been created.
pub(crate) fn run_in_file(location: Location, origin: u64, steps: &[Step]) {
    let home = InFile(location);
    let (producer, consumer) = (home.producer(), home.consumer());
    run(home, producer, consumer, origin, steps);
}

fn run<H: Home>(
    home: H,
    producer: Producer<H::Attachment>,
    consumer: Consumer<H::Attachment>,
    origin: u64,
    steps: &[Step],
) {
    let model = Model::new(producer.capacity(), producer.max_record(), origin & !7);
    let mut run = Run {
        producer: Some(producer),
        consumer: Some(consumer),
        home,
        model,
        marks: Vec::new(),
        own_marks_from: 0,
    };
    for step in steps {
        run.step(step.op);
        run.compare();
    }
    run.drain();
}

/// What the documentation of the ring promises, by the simplest means.
#[derive(Debug)]
struct Model {
    capacity: u64,
    max: usize,
    head: u64,
    tail: u64,
    /// Committed and not released, with the position behind each.
    records: VecDeque<(Expected, u64)>,
    /// How many of them the consumer has read ahead.
    read: usize,
    released: u64,
    number: u64,
    closed: bool,
    /// Records claimed or staged at this moment.
    at_work: bool,
}

impl Model {
    fn new(capacity: u64, max: usize, origin: u64) -> Self {
        Self {
            capacity,
            max,
            head: origin,
            tail: origin,
            records: VecDeque::new(),
            read: 0,
            released: 0,
            number: 0,
            closed: false,
            at_work: false,
        }
    }

    /// Where a record of `len` bytes goes behind `end`, or why it does not.
    fn place(&self, end: u64, len: usize) -> Result<u64, TryClaimError> {
        if len > self.max {
            return Err(TryClaimError::TooLong { len, max: self.max });
        }
        let to_the_end = self.capacity - end % self.capacity;
        let wraps = Self::span(len) > to_the_end;
        let start = end.wrapping_add(if wraps { to_the_end } else { 0 });
        // The header behind the record needs space as well.
        let used = start.wrapping_sub(self.head) + Self::span(len) + 8;
        match () {
            () if self.closed => Err(TryClaimError::Closed),
            () if used > self.capacity => Err(TryClaimError::Full),
            () => Ok(start),
        }
    }

    fn span(len: usize) -> u64 {
        8 + len.div_ceil(8) as u64 * 8
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn commit(&mut self, record: Expected, start: u64) {
        self.tail = start.wrapping_add(Self::span(record.len));
        self.records.push_back((record, self.tail));
    }

    fn next(&self) -> Result<Expected, TryReadError> {
        match self.records.get(self.read) {
            Some((record, _)) => Ok(*record),
            None if self.closed && !self.at_work => Err(TryReadError::Closed),
            None => Err(TryReadError::Empty),
        }
    }

    /// Releases the oldest `count`.
    fn release(&mut self, count: usize) {
        for (_, end) in self.records.drain(..count) {
            self.head = end;
        }
        self.released += count as u64;
        self.read -= count;
    }

    fn committed(&self) -> u64 {
        self.released + self.records.len() as u64
    }
}

/// A ring and its model.
struct Run<H: Home> {
    /// `None` only while another one takes its place.
    producer: Option<Producer<H::Attachment>>,
    consumer: Option<Consumer<H::Attachment>>,
    home: H,
    model: Model,
    /// Marks seen, with the number of records up to each.
    marks: Vec<(Mark, u64)>,
    /// Those before it are of consumers that are gone.
    own_marks_from: usize,
}

impl<H: Home> Run<H> {
    fn producer(&mut self) -> &mut Producer<H::Attachment> {
        self.producer.as_mut().expect("a step leaves a producer")
    }

    fn consumer(&mut self) -> &mut Consumer<H::Attachment> {
        self.consumer.as_mut().expect("a step leaves a consumer")
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Push { len, tag } => self.push(len, tag),
            Op::Claim { len, kept, tag } => self.claim(len, kept, tag),
            Op::Hold { len, tag } => self.claim(len, 255, tag),
            Op::Abort { len } => self.abort(len),
            Op::AbortHeld { which } => self.abort(Length(which.into())),
            Op::Batch {
                records,
                len,
                tag,
                commits,
                closes,
            } => self.batch(records, len, tag, [commits, closes]),
            Op::Read => self.read(),
            Op::Requeue => self.requeue(),
            Op::Pop | Op::CommitHeld { .. } => self.pop(),
            Op::ReadBatch { max } => self.read_batch(max),
            Op::Peek => self.peek(),
            Op::ReleaseTo { which } => self.release_to(which),
            Op::Rewind { .. } => {
                self.consumer().rewind();
                self.model.read = 0;
            }
            Op::Close => self.close(),
            Op::Reopen => {
                self.producer().reopen();
                self.model.closed = false;
            }
            Op::ReattachProducer => {
                let old = self.producer.take().expect("a step leaves a producer");
                self.producer = Some(self.home.producer_again(old));
            }
            Op::ReattachConsumer => {
                let old = self.consumer.take().expect("a step leaves a consumer");
                self.consumer = Some(self.home.consumer_again(old));
                self.model.read = 0;
                self.own_marks_from = if H::ATTACHES { self.marks.len() } else { 0 };
            }
        }
    }

    fn close(&mut self) {
        if self.model.number.is_multiple_of(2) {
            self.producer().close();
        } else {
            self.consumer().close();
        }
        self.model.closed = true;
    }

    fn push(&mut self, len: Length, tag: u32) {
        let len = len.bytes(self.model.max);
        let number = self.model.next_number();
        let expected = self.model.place(self.model.tail, len);
        let found = self
            .producer()
            .try_push(tag, &Expected::content(number, len));
        assert_eq!(found, expected.map(|_| ()), "a push of {len} bytes");
        if let Ok(start) = expected {
            self.model.commit(Expected { number, len, tag }, start);
        }
    }

    fn claim(&mut self, len: Length, kept: u8, tag: u32) {
        let claimed = len.bytes(self.model.max);
        let len = claimed * usize::from(kept) / 255;
        let number = self.model.next_number();
        let expected = self.model.place(self.model.tail, claimed);
        match self.producer().try_claim(claimed) {
            Ok(mut claim) => {
                assert!(
                    expected.is_ok(),
                    "the model has no space for {claimed} bytes"
                );
                assert_eq!(claim.len(), claimed);
                claim.fill(0xee);
                claim[..len].copy_from_slice(&Expected::content(number, len));
                claim.commit_first(len, tag);
            }
            Err(error) => assert_eq!(Err(error), expected, "a claim of {claimed} bytes"),
        };
        if let Ok(start) = expected {
            self.model.commit(Expected { number, len, tag }, start);
        }
    }

    fn abort(&mut self, len: Length) {
        let len = len.bytes(self.model.max);
        let expected = self.model.place(self.model.tail, len);
        match self.producer().try_claim(len) {
            Ok(mut claim) => {
                claim.fill(0xdd);
                claim.abort();
                assert!(expected.is_ok(), "the model has no space for {len} bytes");
            }
            Err(error) => assert_eq!(Err(error), expected, "a claim of {len} bytes"),
        }
    }

    fn batch(&mut self, records: u8, len: Length, tag: u32, [commits, closes]: [bool; 2]) {
        let Self {
            producer,
            consumer,
            model,
            ..
        } = self;
        let mut batch = producer.as_mut().expect("there is one").batch();
        let mut staged = Vec::new();
        let mut end = model.tail;
        for index in 0..records {
            let len = len.nth(index).bytes(model.max);
            let tag = tag.wrapping_add(index.into());
            let number = model.next_number();
            let expected = model.place(end, len);
            let found = batch.try_push(tag, &Expected::content(number, len));
            assert_eq!(found, expected.map(|_| ()), "{len} bytes in a batch");
            let Ok(start) = expected else { break };
            end = start.wrapping_add(Model::span(len));
            staged.push((Expected { number, len, tag }, start));
        }
        assert_eq!(batch.len(), staged.len() as u64);
        // Nothing of it is seen before the end, and a closed ring is not drained meanwhile.
        let consumer = consumer.as_mut().expect("there is one");
        if closes {
            consumer.close();
            model.closed = true;
        }
        model.at_work = !staged.is_empty();
        let expected = model.next();
        match consumer.try_peek() {
            Ok(peeked) => {
                expected
                    .expect("the model has no record")
                    .assert_is(peeked.tag(), &peeked);
                model.read += 1;
            }
            Err(error) => assert_eq!(Err(error), expected, "while a batch is staged"),
        }
        model.at_work = false;
        if commits {
            batch.commit();
            for (record, start) in staged {
                model.commit(record, start);
            }
        }
    }

    fn read(&mut self) {
        let expected = self.model.next();
        match self.consumer().try_read() {
            Ok(record) => {
                expected
                    .expect("the model has no record")
                    .assert_is(record.tag(), &record);
                record.release();
            }
            Err(error) => assert_eq!(Err(error), expected),
        }
        if expected.is_ok() {
            self.model.read += 1;
            self.model.release(self.model.read);
        }
    }

    fn requeue(&mut self) {
        let expected = self.model.next();
        match self.consumer().try_read() {
            Ok(record) => {
                expected
                    .expect("the model has no record")
                    .assert_is(record.tag(), &record);
                record.requeue();
            }
            Err(error) => assert_eq!(Err(error), expected),
        }
    }

    fn pop(&mut self) {
        let expected = self.model.next();
        let mut payload = vec![1, 2, 3];
        match self.consumer().try_pop(&mut payload) {
            Ok(tag) => {
                expected
                    .expect("the model has no record")
                    .assert_is(tag, &payload);
                self.model.read += 1;
                self.model.release(self.model.read);
            }
            Err(error) => {
                assert_eq!(Err(error), expected);
                assert_eq!(payload, [1, 2, 3], "a refusal leaves the payload as it was");
            }
        }
    }

    fn read_batch(&mut self, max: u8) {
        for _ in 0..max {
            self.peek();
        }
        let read = self.model.read;
        assert_eq!(self.consumer().release_all(), read as u64);
        self.model.release(read);
    }

    fn peek(&mut self) {
        let expected = self.model.next();
        match self.consumer().try_peek() {
            Ok(peeked) => {
                expected
                    .expect("the model has no record")
                    .assert_is(peeked.tag(), &peeked);
                let mark = peeked.mark();
                self.model.read += 1;
                let records = self.model.released + self.model.read as u64;
                assert_eq!(mark.records(), records);
                assert_eq!(mark.position(), self.model.records[self.model.read - 1].1);
                self.marks.push((mark, records));
            }
            Err(error) => assert_eq!(Err(error), expected),
        }
    }

    fn release_to(&mut self, which: u8) {
        if self.marks.is_empty() {
            return;
        }
        let recent = self.marks.len().min(16);
        let at = self.marks.len() - 1 - usize::from(which) % recent;
        let (mark, records) = self.marks[at];
        // A mark of the past, one that was gone back behind, or another's, releases nothing.
        let behind = records.saturating_sub(self.model.released);
        let count = usize::try_from(behind).expect("few records");
        let is_own = at >= self.own_marks_from;
        let count = if is_own && count <= self.model.read {
            count
        } else {
            0
        };
        assert_eq!(self.consumer().release_to(mark), count as u64);
        self.model.release(count);
    }

    /// What handles and observers say about the ring.
    fn compare(&mut self) {
        let backlog = self.model.tail.wrapping_sub(self.model.head);
        assert!(backlog <= self.model.capacity - 8, "byte_ring INV-1");
        let (committed, released) = (self.model.committed(), self.model.released);
        let closed = self.model.closed;
        let producer = self.producer();
        assert_eq!(producer.backlog(), backlog, "the producer's backlog");
        assert_eq!(producer.committed_records(), committed);
        assert_eq!(producer.is_closed(), closed);
        let consumer = self.consumer();
        assert_eq!(consumer.backlog(), backlog, "the consumer's backlog");
        assert_eq!(consumer.released_records(), released);
        if let Some(snapshot) = self.home.look() {
            assert_eq!(snapshot.committed_records, committed);
            assert_eq!(snapshot.released_records, released);
            assert_eq!(snapshot.backlog_records, committed - released);
            assert_eq!(
                (snapshot.head, snapshot.tail),
                (self.model.head, self.model.tail)
            );
            assert_eq!(snapshot.totals.committed, committed);
            assert_eq!(snapshot.totals.released, released);
            assert_eq!(snapshot.is_closed, closed);
            assert_eq!(snapshot.participants.len(), 2);
            let reading = u64::from(self.model.read > 0);
            assert_eq!(snapshot.claims_count, reading);
        }
    }

    /// Whatever was done before: closed, the ring ends after the last record.
    fn drain(&mut self) {
        self.producer().close();
        self.model.closed = true;
        self.consumer().rewind();
        self.model.read = 0;
        while !self.model.records.is_empty() {
            self.pop();
        }
        self.pop();
        self.compare();
    }
}
