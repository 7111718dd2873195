//! The journal, word by word: what a death between any two stores of it leaves is read rightly.

use super::{
    HEADER, Mark, Origin, PADDING, Place, RECORD, ReadRefusal, Reader, Shape, Writer,
    committed_end, origin, origin_at, released_end, span_of,
};
use crate::layout::{JournalEntry, OriginEntry};
use crate::protocol::heap::HeapRing;
use crate::protocol::{Owner, Store, recovery};
use crate::spsc;
use crate::sync::{Arc, Ordering::Relaxed, unique_number};

/// 4 KiB from `origin` on.
fn ring_at(origin: u64) -> (Shape, Arc<HeapRing>) {
    let geometry = spsc::Options::new(4096).starting_at(origin).geometry();
    let geometry = geometry.expect("a capacity that is possible");
    let recovery::Shape::Bytes(shape) = geometry.shape() else {
        unreachable!("a ring of bytes")
    };
    let ring = HeapRing::new(geometry.shape(), geometry.data_bytes, 2, origin, None);
    (shape, ring)
}

fn publish(shape: &Shape, ring: &HeapRing, writer: &mut Writer, len: u64) {
    let span = writer.claim(shape, ring, len).expect("there is room");
    writer.stage(shape, ring, span, 7, len);
    writer.publish(shape, ring);
}

/// An entry's end and records.
fn told(entry: &JournalEntry) -> (u64, u64) {
    (entry.end.load(Relaxed), entry.records.load(Relaxed))
}

fn tell(entry: &JournalEntry, (end, records): (u64, u64)) {
    entry.end.store(end, Relaxed);
    entry.records.store(records, Relaxed);
}

fn tail(end: u64, records: u64) -> Place {
    Place {
        position: end,
        records,
    }
}

#[test]
fn a_record_is_at_most_as_long_as_its_header_can_say() {
    assert_eq!(Shape::max_record_of(4096), 2040);
    assert_eq!(Shape::max_record_of(1 << 31), (1 << 30) - HEADER);
    assert_eq!(Shape::max_record_of(1 << 40), (1 << 30) - HEADER);
}

/// Whoever overwrote the entry that is true would have none if it died doing so.
#[test]
fn a_publication_overwrites_the_entry_that_is_not_true_also_after_a_restart() {
    let (shape, ring) = ring_at(0);
    let journal = &ring.control().tail.journal;
    let mut truth = (0, 0);
    for round in 0..6 {
        let mut writer = Writer::resume(&shape, &*ring).unwrap();
        for _ in 0..=round % 3 {
            publish(&shape, &ring, &mut writer, round);
            let next = (truth.0 + span_of(round), truth.1 + 1);
            let both = journal.each_ref().map(told);
            assert!(both.contains(&next) && both.contains(&truth), "{both:?}");
            truth = next;
        }
        assert_eq!(committed_end(&shape, &*ring), tail(truth.0, truth.1));
    }
}

#[test]
fn a_release_overwrites_the_entry_that_is_not_true_also_after_a_restart() {
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    for _ in 0..12 {
        publish(&shape, &ring, &mut writer, 8);
    }
    let journal = &ring.control().consumer.journal;
    let mut truth = (0, 0);
    for round in 0..6 {
        let mut reader = Reader::resume(&shape, &*ring).unwrap();
        for _ in 0..=round % 3 {
            reader.read(&shape, &*ring).unwrap();
            assert_eq!(reader.release_to(&*ring, reader.next()), 1);
            let next = (truth.0 + span_of(8), truth.1 + 1);
            let both = journal.each_ref().map(told);
            assert!(both.contains(&next) && both.contains(&truth), "{both:?}");
            truth = next;
        }
        let released = released_end(&*ring).unwrap();
        assert_eq!((released.position, released.records), truth);
    }
}

/// Every state in which the journal can be at a death, in either order of its entries.
#[test]
fn the_committed_end_is_told_wherever_a_publication_was_cut_off() {
    let origin = 0_u64.wrapping_sub(64);
    for first in [0, 1] {
        let (shape, ring) = ring_at(origin);
        let control = ring.control();
        let [one, other] = [first, 1 - first].map(|entry| &control.tail.journal[entry]);
        let end = |records: u64| origin.wrapping_add(16 * records);
        let header = |record| shape.word(&*ring, end(record));
        let expect = |records, state: &str| {
            let found = committed_end(&shape, &*ring);
            assert_eq!(found, tail(end(records), records), "{state}, {first}");
        };

        // The first publication: both entries say the origin.
        one.records.store(1, Relaxed);
        expect(0, "records of the first are stored");
        one.end.store(end(1), Relaxed);
        expect(0, "the entry of the first is whole");
        header(0).store(1, Relaxed);
        expect(1, "the first is committed");

        // The second; and a third, once the first is released.
        tell(other, (end(0), 2));
        expect(1, "records of the second are stored");
        tell(other, (end(2), 2));
        expect(1, "the entry of the second is whole");
        header(1).store(1, Relaxed);
        expect(2, "the second is committed");
        control.head.position.store(end(1), Relaxed);
        one.records.store(3, Relaxed);
        expect(2, "records of the third are stored");
        one.end.store(end(3), Relaxed);
        expect(2, "the entry of the third is whole");
        control.head.position.store(end(2), Relaxed);
        expect(2, "everything is released");
        header(2).store(1, Relaxed);
        expect(3, "the third is committed");

        // What was handed back as space may hold anything.
        control.head.position.store(end(3), Relaxed);
        header(2).store(0, Relaxed);
        expect(3, "the space of the third holds a zero");
    }
}

/// As `Reader::read` leaves it: the mark of another reader is told by its number alone.
#[test]
fn a_mark_is_taken_from_its_own_reader_and_from_what_it_has_read() {
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    for _ in 0..3 {
        publish(&shape, &ring, &mut writer, 8);
    }
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    let start = reader.next();
    let [first, second] = [(); 2].map(|()| {
        reader.read(&shape, &*ring).unwrap();
        reader.next()
    });
    assert_eq!(reader.release_to(&*ring, start), 0);
    let reader_of_another = unique_number();
    let other = |mark| Mark {
        reader: reader_of_another,
        ..mark
    };
    assert_eq!(reader.release_to(&*ring, other(first)), 0);
    assert_eq!(reader.release_to(&*ring, first), 1);
    assert_eq!(
        reader.release_to(&*ring, start),
        0,
        "it is released already"
    );
    reader.rewind(&*ring);
    assert_eq!(reader.next(), first);
    assert_eq!(reader.release_to(&*ring, second), 0, "it was gone back on");
}

/// Its padding is gone back over as well, and a second call has nothing to go back on.
#[test]
fn the_last_record_that_was_read_can_be_unread_once() {
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    // The third does not fit before the end.
    for len in [1000, 2040, 1500] {
        if reader.has_read() {
            reader.release_all(&*ring);
        }
        publish(&shape, &ring, &mut writer, len);
        reader.read(&shape, &*ring).unwrap();
    }
    let behind = reader.next();
    reader.unread(&*ring);
    let before = reader.next();
    assert_eq!(behind.records() - before.records(), 1);
    assert_eq!(before.position(), span_of(1000) + span_of(2040));
    reader.unread(&*ring);
    assert_eq!(reader.next(), before);
    reader.read(&shape, &*ring).unwrap();
    assert_eq!(reader.next(), behind);
}

/// A record as long as the one before it takes the straight line, which refuses what the other way
/// refuses.
#[test]
fn a_record_like_the_one_before_is_checked_as_every_other() {
    let forge = |ring: &HeapRing, shape: &Shape, positions: [u64; 3]| {
        let form = shape.word(ring, positions[0]).load(Relaxed);
        for position in positions {
            shape.word(ring, position).store(form, Relaxed);
        }
    };
    let is_damage = |read: Result<_, _>| matches!(read, Err(ReadRefusal::Damaged(_)));

    // Three more such headers: the last one's record would reach beyond the end of the ring.
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    publish(&shape, &ring, &mut writer, 1008);
    publish(&shape, &ring, &mut writer, 1008);
    forge(&ring, &shape, [1016, 2032, 3048]);
    for _ in 0..3 {
        assert_eq!(reader.read(&shape, &*ring).unwrap().len, 1008);
    }
    reader.release_all(&*ring);
    assert_eq!(reader.read(&shape, &*ring).unwrap().len, 1008);
    shape.word(&*ring, 4064).store(1008 << 2 | RECORD, Relaxed);
    assert!(is_damage(reader.read(&shape, &*ring)), "beyond the end");

    // Up to the end there is room, but the last one's would lie over what is not released.
    let (shape, ring) = ring_at(2048);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    publish(&shape, &ring, &mut writer, 1016);
    forge(&ring, &shape, [2048, 3072, 4096]);
    forge(&ring, &shape, [2048, 4096, 5120]);
    for _ in 0..3 {
        assert_eq!(reader.read(&shape, &*ring).unwrap().len, 1016);
    }
    assert!(is_damage(reader.read(&shape, &*ring)), "a whole capacity");
}

/// A dead consumer's claim counts the records that it had read and not released.
#[test]
fn a_sweep_counts_what_the_dead_held() {
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    for len in [8, 2040, 0, 2000] {
        let Ok(span) = writer.claim(&shape, &*ring, len) else {
            break;
        };
        writer.stage(&shape, &*ring, span, 7, len);
        writer.publish(&shape, &*ring);
    }
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    for _ in 0..3 {
        reader.read(&shape, &*ring).unwrap();
    }
    assert_eq!(reader.release_to(&*ring, reader.next()), 3);
    publish(&shape, &ring, &mut writer, 2000);
    publish(&shape, &ring, &mut writer, 16);
    for _ in 0..2 {
        reader.read(&shape, &*ring).unwrap();
    }
    let done = super::sweep(&shape, &*ring, Owner::CONSUMER);
    assert_eq!((done.participants, done.redelivered), (1, 2));
    let claim = &ring.control().consumer.claim;
    assert_eq!(claim.load(Relaxed), reader.released().position());
    assert_eq!(super::sweep(&shape, &*ring, Owner::CONSUMER).redelivered, 0);

    writer.claim(&shape, &*ring, 8).unwrap();
    assert_eq!(super::sweep(&shape, &*ring, Owner::PRODUCER).skipped, 1);
    assert_eq!(super::sweep(&shape, &*ring, Owner::PRODUCER).skipped, 0);
}

/// A correct consumer's head is at most a capacity less the EMPTY header behind the tail.
#[test]
fn a_head_where_no_correct_consumer_puts_it_is_damage() {
    let (shape, ring) = ring_at(8192);
    let head = &ring.control().head.position;
    for entry in &ring.control().tail.journal {
        tell(entry, (8192, 7));
    }
    for (behind, is_sound) in [
        (0, true),
        (4088, true),
        (4096, false),
        (0_u64.wrapping_sub(8), false),
    ] {
        head.store(8192_u64.wrapping_sub(behind), Relaxed);
        let resumed = Writer::resume(&shape, &*ring);
        assert_eq!(resumed.is_ok(), is_sound, "{behind} behind");
        let consumed = &ring.control().consumer.journal[0];
        tell(consumed, (8192_u64.wrapping_sub(behind), 0));
        assert_eq!(
            Reader::resume(&shape, &*ring).is_ok(),
            is_sound,
            "{behind} behind"
        );
    }
    head.store(8192, Relaxed);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    while writer.claim(&shape, &*ring, 500).is_ok() {
        publish(&shape, &ring, &mut writer, 500);
    }
    head.store(8192 - 4096, Relaxed);
    let refused = writer.claim(&shape, &*ring, 500);
    assert!(
        matches!(refused, Err(super::WriteRefusal::Damaged(_))),
        "{refused:?}"
    );
}

/// What a header may say is bounded by the longest record, the end of the ring, and the head.
#[test]
fn a_header_that_no_correct_producer_writes_is_damage() {
    let (shape, ring) = ring_at(0);
    let header = |position: u64, len: u64, kind: u64| {
        shape.word(&*ring, position).store(len << 2 | kind, Relaxed);
    };
    let read = |reader: &mut Reader| reader.read(&shape, &*ring).map(|found| found.len);
    let damaged = |reader: &mut Reader| matches!(read(reader), Err(super::ReadRefusal::Damaged(_)));
    let fresh = || Reader::resume(&shape, &*ring).unwrap();
    header(0, 2040, RECORD);
    assert_eq!(read(&mut fresh()), Ok(2040));
    header(0, 2041, RECORD);
    assert!(damaged(&mut fresh()), "longer than the longest");
    header(0, 8, RECORD | PADDING);
    assert!(damaged(&mut fresh()), "of no kind");
    // Nothing was read yet that this could be as long as, or a reader never gets past it.
    for word in 0..=16 {
        shape.word(&*ring, 0).store(word, Relaxed);
        let mut reader = fresh();
        let first = reader.next().position();
        if read(&mut reader).is_ok() {
            let behind = reader.next().position();
            assert_ne!(behind, first, "a record that takes no room: {word}");
        }
    }

    // Up to 4080 and up to 4088; a record that ends at 4096 leaves no EMPTY header.
    header(0, 2032, RECORD);
    header(2040, 2032, RECORD);
    let mut reader = fresh();
    assert_eq!([read(&mut reader), read(&mut reader)], [Ok(2032); 2]);
    header(4080, 0, RECORD);
    assert_eq!(read(&mut reader), Ok(0));
    header(4088, 0, RECORD);
    assert!(damaged(&mut reader), "as much as the whole ring");
    header(4088, 1, RECORD);
    assert_eq!(reader.release_to(&*ring, reader.next()), 3);
    assert!(damaged(&mut reader), "beyond the end of the ring");
}

fn from(records: u64) -> Origin {
    Origin {
        ring_id: [7; 16],
        generation: 8,
        life: records ^ 9,
        records,
    }
}

fn publish_from(shape: &Shape, ring: &HeapRing, writer: &mut Writer, records: u64) {
    let span = writer.claim(shape, ring, 8).expect("there is room");
    writer.stage(shape, ring, span, 7, 8);
    writer.publish_from(shape, ring, &from(records));
}

/// In the order in which they are stored.
fn words(entry: &OriginEntry) -> [&crate::sync::AtomicU64; 6] {
    let [low, high] = &entry.ring_id;
    let OriginEntry {
        records,
        generation,
        life,
        end,
        ..
    } = entry;
    [records, low, high, generation, life, end]
}

/// The bridge dies after each store that says where a batch comes from; then somebody commits a
/// record of his own, which ends where the batch would have ended.
#[test]
fn an_origin_is_told_of_what_is_committed_and_of_nothing_else() {
    for published in 0..4_u64 {
        for stores in 0..=6 {
            let (shape, ring) = ring_at(0_u64.wrapping_sub(32));
            let mut writer = Writer::resume(&shape, &*ring).unwrap();
            for number in 1..=published {
                publish_from(&shape, &ring, &mut writer, 100 * number);
            }
            let expected = (published > 0).then(|| from(100 * published));
            let entries = &ring.control().origins.entries;
            let before = entries
                .each_ref()
                .map(|entry| words(entry).map(|word| word.load(Relaxed)));
            let end = writer.tail().wrapping_add(span_of(8));
            origin::announce(&*ring, writer.tail(), end, &from(900));
            for (entry, old) in entries.iter().zip(before) {
                for (word, old) in words(entry).iter().zip(old).skip(stores) {
                    word.store(old, Relaxed);
                }
            }
            let state = format!("{published} published, {stores} stores of the next");
            assert_eq!(origin_at(&*ring, writer.tail()), expected, "{state}");

            let mut writer = Writer::resume(&shape, &*ring).unwrap();
            assert_eq!(
                origin_at(&*ring, writer.tail()),
                expected,
                "{state}, attached"
            );
            publish(&shape, &ring, &mut writer, 8);
            assert_eq!(
                origin_at(&*ring, writer.tail()),
                expected,
                "{state}, another's"
            );
            publish_from(&shape, &ring, &mut writer, 901);
            let found = origin_at(&*ring, writer.tail());
            assert_eq!(found, Some(from(901)), "{state}, the next bridge");
        }
    }
}

#[test]
fn a_run_ends_with_the_ring_or_where_it_is_told_to() {
    let (shape, ring) = ring_at(0);
    let mut writer = Writer::resume(&shape, &*ring).unwrap();
    let mut reader = Reader::resume(&shape, &*ring).unwrap();
    assert_eq!(reader.read_run(&shape, &*ring, 64), Err(ReadRefusal::Empty));
    for lap in 0..9 {
        // 250 records of 16 bytes: two short of the end, then padding, or over the very end.
        for _ in 0..250 {
            publish(&shape, &ring, &mut writer, 8);
        }
        let mut records = 0;
        while let Ok((start, end)) = reader.read_run(&shape, &*ring, 200) {
            let bytes = end.position() - start.position();
            assert_eq!(bytes, 16 * (end.records() - start.records()));
            assert!(shape.offset(start.position()) + bytes <= 4096 && bytes <= 200);
            assert!(reader.holds(start, end));
            assert_eq!(start.records(), 250 * lap + records);
            records += end.records() - start.records();
            if records.is_multiple_of(3) {
                reader.release_to(&*ring, end);
                assert!(!reader.holds(start, end));
            }
        }
        assert_eq!(records, 250);
        reader.release_all(&*ring);
    }
    // One that is longer than a run may be comes alone.
    publish(&shape, &ring, &mut writer, 900);
    publish(&shape, &ring, &mut writer, 8);
    let (start, end) = reader.read_run(&shape, &*ring, 200).unwrap();
    assert_eq!(end.records() - start.records(), 1);
    reader.rewind(&*ring);
    assert!(!reader.holds(start, end), "it is read again first");
}
