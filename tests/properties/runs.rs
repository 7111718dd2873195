//! Records that go on in runs, beside what they were: see `Batch::try_push_run`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use annulus::TryClaimError;
use annulus::spsc::{Consumer, Options};
use annulus::{Heap, TryReadError};

/// Bytes of the ring that they come from, and of the one that they go to.
const FROM: u64 = 1 << 16;
const TO: u64 = 4096;

/// The next records of a ring, compared with what they should be.
struct Reading<'r> {
    consumer: Consumer<Heap>,
    records: &'r [Vec<u8>],
    read: usize,
}

impl Reading<'_> {
    /// Takes `most` of them, or what there is.
    fn take(&mut self, most: usize) {
        for _ in 0..most {
            match self.consumer.try_read() {
                Ok(record) => {
                    assert_eq!(record.tag() as usize, self.read, "in order");
                    assert_eq!(&record[..], &self.records[self.read][..]);
                    self.read += 1;
                }
                Err(TryReadError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// From ring to ring, in runs of `most` bytes; `takes` says how many are read in between.
pub(crate) fn relay(origins: [u64; 2], records: &[Vec<u8>], most: u64, takes: &[usize]) {
    let [from, to] = [(FROM, origins[0]), (TO, origins[1])]
        .map(|(capacity, origin)| Options::new(capacity).starting_at(origin).heap());
    let ((mut source, mut relay), (mut producer, consumer)) = (from.unwrap(), to.unwrap());
    let mut reading = Reading {
        consumer,
        records,
        read: 0,
    };
    let mut takes = takes.iter().copied().cycle();
    let (mut pushed, mut sent) = (0, 0);
    while sent < records.len() {
        while let Some(record) = records.get(pushed) {
            let tag = u32::try_from(pushed).unwrap();
            if source.try_push(tag, record).is_err() {
                break;
            }
            pushed += 1;
        }
        let run = relay.try_peek_run(most).unwrap();
        let bytes = relay.run_bytes(&run).to_vec();
        let mut at = 0;
        while at < bytes.len() {
            let mut batch = producer.batch();
            loop {
                let (len, count) = batch.try_push_run(&bytes[at..]);
                assert_eq!(len == 0, count == 0);
                (at, sent) = (at + len, sent + usize::try_from(count).unwrap());
                if at == bytes.len() {
                    break;
                }
                if len == 0 {
                    match batch.try_push(u32::try_from(sent).unwrap(), &records[sent]) {
                        Ok(()) => at += 8 + records[sent].len().next_multiple_of(8),
                        Err(TryClaimError::Full) => break,
                        Err(error) => panic!("{error}"),
                    }
                    sent += 1;
                }
            }
            batch.commit();
            reading.take(takes.next().unwrap());
        }
        assert_eq!(relay.release_to(run.end()) > 0, !bytes.is_empty());
    }
    reading.take(records.len());
    assert_eq!(reading.read, records.len());
    assert_eq!(producer.committed_records(), records.len() as u64);
}

/// Whatever the bytes are: what is taken of them are whole records, and the rest stays out.
pub(crate) fn take_what_is_whole(origin: u64, bytes: &[u8]) {
    let ring = Options::new(TO).starting_at(origin).heap();
    let (mut producer, mut consumer) = ring.unwrap();
    let mut batch = producer.batch();
    let (len, count) = batch.try_push_run(bytes);
    assert!(len <= bytes.len());
    batch.commit();
    let (mut at, mut read) = (0, 0);
    while let Ok(record) = consumer.try_read() {
        assert_eq!(&record[..], &bytes[at + 8..][..record.len()]);
        at += 8 + record.len().next_multiple_of(8);
        read += 1;
    }
    assert_eq!((at, read), (len, count));
    let offset = usize::try_from(origin % TO).unwrap();
    let room = usize::try_from(TO).unwrap() - offset;
    if bytes.len() <= room.min(producer.max_record()) {
        assert_eq!(len, whole(bytes, producer.max_record()), "in one piece");
    }
}

/// Bytes of the whole records that they begin with.
fn whole(bytes: &[u8], longest: usize) -> usize {
    let mut at = 0;
    while let Some(header) = bytes[at..].first_chunk() {
        let header = u64::from_le_bytes(*header);
        let len = usize::try_from(header >> 2 & 0x3fff_ffff).unwrap();
        let span = 8 + len.next_multiple_of(8);
        if header & 3 != 1 || len > longest || at + span > bytes.len() {
            break;
        }
        at += span;
    }
    at
}
