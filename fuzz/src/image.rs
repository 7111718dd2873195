//! Files that claim to be rings.

use std::fs::File;
use std::os::unix::fs::FileExt;

use annulus::segment::{AttachOptions, RecoverOptions, inspect, recover};
use annulus::{Kind, Location, TryReadError, mpmc, spsc};

use crate::memory::{Input, Scribble, file_of, location, ring};

/// Longest part of an image that is taken from the input.
const MAX_BYTES: usize = 16 * 1024;
/// Where the header has the boot in which the ring was made.
const BOOT_ID: u64 = 136;

/// The first byte chooses what the rest is: the beginning of a file, the same with the first words
/// of a ring, or words to be changed in a sound byte ring or slot ring.
pub fn open_image(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.u8();
    let sealed = mode & 4 == 0;
    let image = match mode % 4 {
        0 | 1 => raw(&mut input, mode % 4 == 1),
        _ => patched(&mut input, mode % 4 == 3, mode & 8 != 0),
    };
    let file = file_of(&image, sealed);
    let at = location(&file);
    let _ = inspect(&at);
    let is_of_other_boot = inspect(&at).is_ok_and(|seen| seen.is_of_other_boot);
    let options = RecoverOptions {
        accept_other_boot: mode & 16 != 0,
        force_file_system: mode & 32 != 0,
    };
    if recover(&at, &options).is_ok() && is_of_other_boot {
        assert_works(&at);
    }
    use_it(&at);
}

/// A file that begins with the input and ends with zeroes.
fn raw(input: &mut Input<'_>, with_magic: bool) -> Vec<u8> {
    let size = usize::from(input.u8());
    let given = &input.0[..input.0.len().min(MAX_BYTES)];
    let mut image = given.to_vec();
    if size >= 16 {
        image.resize(64 * 1024 + size * 512, 0);
    }
    if with_magic && image.len() >= 16 {
        image[..8].copy_from_slice(b"annulus\x01");
        image[8..16].copy_from_slice(&0x0102_0304_0000_0001_u64.to_le_bytes());
    }
    image
}

/// A sound ring with a few records, in which words are changed.
fn patched(input: &mut Input<'_>, slots: bool, of_other_boot: bool) -> Vec<u8> {
    let file = ring(slots, input.origin());
    fill(&file, slots, input.u8());
    let size = file.metadata().expect("a file").len();
    let mut image = vec![0; usize::try_from(size).expect("a small file")];
    file.read_exact_at(&mut image, 0).expect("all of it");
    if of_other_boot {
        // A nameless file is of no boot.
        image[188..192].fill(0);
        image[BOOT_ID as usize..BOOT_ID as usize + 16].fill(0x77);
    }
    while !input.is_empty() {
        let scribble = Scribble::of(input);
        let at = usize::try_from(scribble.offset).expect("inside the image");
        let word: &mut [u8; 8] = (&mut image[at..at + 8]).try_into().expect("8 bytes");
        *word = scribble.applied(u64::from_le_bytes(*word)).to_le_bytes();
    }
    image
}

fn fill(file: &File, slots: bool, records: u8) {
    let (at, options) = (location(file), AttachOptions::default());
    let (records, popped) = (records % 8, records / 8 % 4);
    let mut payload = Vec::new();
    if slots {
        let producer = mpmc::Producer::attach_untrusting(&at, &options).expect("a row is free");
        let consumer = mpmc::Consumer::attach_untrusting(&at, &options).expect("a row is free");
        for tag in 0..records {
            let _ = producer.try_push(tag.into(), &[tag; 20]);
        }
        for _ in 0..popped {
            let _ = consumer.try_pop(&mut payload);
        }
    } else {
        let producer = spsc::Producer::attach_untrusting(&at, &options);
        let mut producer = producer.expect("its place is free");
        let consumer = spsc::Consumer::attach_untrusting(&at, &options);
        let mut consumer = consumer.expect("its place is free");
        for tag in 0..records {
            let _ = producer.try_push(tag.into(), &[tag; 20]);
        }
        for _ in 0..popped {
            let _ = consumer.try_pop(&mut payload);
        }
    }
}

/// Most records that can be in one of these files.
const MOST: usize = 32 * 1024;

/// A ring that was adopted, and so checked, is drained and carries a record.
fn assert_works(at: &Location) {
    let (seen, options) = (
        inspect(at).expect("it was checked"),
        AttachOptions::default(),
    );
    let mut payload = Vec::new();
    match seen.kind {
        Kind::MpmcSlots => {
            let Ok(producer) = mpmc::Producer::attach_untrusting(at, &options) else {
                return;
            };
            producer.reopen();
            let Ok(consumer) = mpmc::Consumer::attach_untrusting(at, &options) else {
                return;
            };
            let empty = (0..MOST).find(|_| consumer.try_pop(&mut payload).err() == EMPTY);
            assert!(empty.is_some(), "a slot ring is not drained");
            if producer.max_record() >= 3 {
                assert_eq!(producer.try_push(1, b"new"), Ok(()));
                assert_eq!(consumer.try_pop(&mut payload), Ok(1));
                assert_eq!(payload, b"new");
            }
        }
        Kind::SpscBytes => {
            let Ok(mut producer) = spsc::Producer::attach_untrusting(at, &options) else {
                return;
            };
            producer.reopen();
            let Ok(mut consumer) = spsc::Consumer::attach_untrusting(at, &options) else {
                return;
            };
            let records = (0..MOST).take_while(|_| consumer.try_pop(&mut payload).is_ok());
            assert_eq!(records.count() as u64, seen.backlog_records);
            assert_eq!(producer.try_push(1, b"new"), Ok(()));
            assert_eq!(consumer.try_pop(&mut payload), Ok(1));
            assert_eq!(payload, b"new");
        }
    }
}

const EMPTY: Option<TryReadError> = Some(TryReadError::Empty);

/// Joins as whatever it lets one join, and does a little of everything.
fn use_it(at: &Location) {
    let options = AttachOptions {
        accept_other_boot: true,
        ..AttachOptions::default()
    };
    let mut payload = Vec::new();
    if let Ok(mut producer) = spsc::Producer::attach_untrusting(at, &options) {
        let _ = producer.try_push(1, &[1; 20]);
        let _ = producer.try_push(2, &vec![2; producer.max_record().min(1 << 16)]);
    }
    if let Ok(mut consumer) = spsc::Consumer::attach_untrusting(at, &options) {
        for _ in 0..4 {
            let _ = consumer.try_pop(&mut payload);
        }
    }
    if let Ok(producer) = mpmc::Producer::attach_untrusting(at, &options) {
        let _ = producer.try_push(1, &[1; 20]);
        let _ = producer.try_push(2, &vec![2; producer.max_record().min(1 << 16)]);
    }
    if let Ok(consumer) = mpmc::Consumer::attach_untrusting(at, &options) {
        for _ in 0..4 {
            let _ = consumer.try_pop(&mut payload);
        }
    }
    lend_it(at, &options);
}

/// Slices of a damaged ring are still slices of the ring.
fn lend_it(at: &Location, options: &AttachOptions) {
    // SAFETY: nobody else uses the file, and all writing to it is over.
    if let Ok(mut producer) = unsafe { spsc::Producer::attach_with(at, options) }
        && let Ok(mut claim) = producer.try_claim(24)
    {
        claim.fill(3);
        claim.commit(3);
    }
    // SAFETY: as above.
    if let Ok(mut consumer) = unsafe { spsc::Consumer::attach_with(at, options) } {
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let peeked = consumer.try_peek().map_or(0, |record| sum(&record));
        let read = consumer.try_read().map_or(0, |record| sum(&record));
        std::hint::black_box(peeked + read);
    }
    // SAFETY: as above.
    if let Ok(producer) = unsafe { mpmc::Producer::attach_with(at, options) }
        && let Ok(mut claim) = producer.try_claim(producer.max_record().min(1 << 16))
    {
        claim.fill(3);
        claim.commit(3);
    }
    // SAFETY: as above.
    if let Ok(consumer) = unsafe { mpmc::Consumer::attach_with(at, options) }
        && let Ok(record) = consumer.try_read()
    {
        std::hint::black_box(record.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        record.requeue();
    }
}
