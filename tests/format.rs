//! Golden images that pin layout version 1, byte by byte, for those who write and those who read.
//!
//! Each image is a list of the file's words that are not zero. What differs from run to run is
//! masked. `ANNULUS_BLESS=1 cargo test --test format` writes the images anew; see the message below
//! for when that is right.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use annulus::segment::{RecoverOptions, inspect, recover};
use annulus::spsc::Origin;
use annulus::typed::{Element, schema_hash};
use annulus::{Location, Redelivery, TryReadError, mpmc, spsc};
use bytemuck::{Pod, Zeroable};

const CHANGED: &str = "layout changed: bump VERSION in src/layout.rs, bring docs/format.md and \
                       CHANGELOG.md up to date, then run \
                       `ANNULUS_BLESS=1 cargo test --test format`";

const ROWS: u64 = 4096;
const ROW_BYTES: u64 = 512;
const DATA: u64 = 64 * 1024;

/// Where parts of the file are, for people who read the golden images.
const NAMES: [(u64, &str); 53] = [
    (0, "magic"),
    (8, "version, byte_order"),
    (16, "incompatible_features"),
    (24, "compatible_features"),
    (32, "kind, participants"),
    (40, "capacity"),
    (48, "stride"),
    (56, "max_record"),
    (64, "payload_offset, redelivery"),
    (72, "rows_offset"),
    (80, "data_offset"),
    (88, "data_bytes"),
    (96, "file_bytes"),
    (104, "ring_id"),
    (112, "ring_id"),
    (120, "generation"),
    (128, "origin"),
    (136, "boot_id"),
    (144, "boot_id"),
    (152, "created_unix_ns"),
    (160, "element_size"),
    (168, "element_align"),
    (176, "element_schema"),
    (184, "element_name_len, anonymous"),
    (192, "element_name"),
    (200, "element_name"),
    (2048, "flags"),
    (2056, "recovery_epoch"),
    (2176, "items"),
    (2304, "space"),
    (2432, "tail hint"),
    (2440, "tail claim"),
    (2448, "tail journal 0, end"),
    (2456, "tail journal 0, records"),
    (2480, "tail journal 1, end"),
    (2488, "tail journal 1, records"),
    (2560, "head"),
    (2688, "consumer claim"),
    (2696, "consumer journal 0, end"),
    (2704, "consumer journal 0, records"),
    (2728, "consumer journal 1, end"),
    (2736, "consumer journal 1, records"),
    (2816, "origin 0, end"),
    (2824, "origin 0, records"),
    (2832, "origin 0, ring_id"),
    (2840, "origin 0, ring_id"),
    (2848, "origin 0, generation"),
    (2856, "origin 0, life"),
    (2944, "subscriber 0, len"),
    (2952, "subscriber 0, name"),
    (2960, "subscriber 0, name"),
    (3008, "subscriber 1, len"),
    (3016, "subscriber 1, name"),
];

/// The same within a row.
const ROW_NAMES: [(u64, &str); 28] = [
    (0, "state, role"),
    (8, "pid"),
    (16, "process_start"),
    (24, "attached_unix_ns"),
    (32, "lives"),
    (40, "command"),
    (48, "command"),
    (56, "command"),
    (64, "command"),
    (72, "abort_slot"),
    (80, "skipped_base"),
    (128, "committed"),
    (136, "released"),
    (144, "full"),
    (152, "empty"),
    (160, "waits"),
    (168, "recovered"),
    (176, "redelivered"),
    (184, "skipped"),
    (192, "dropped"),
    (256, "baseline of committed"),
    (264, "baseline of released"),
    (272, "baseline of full"),
    (280, "baseline of empty"),
    (288, "baseline of waits"),
    (296, "baseline of recovered"),
    (304, "baseline of redelivered"),
    (312, "baseline of skipped"),
];

/// Random, or of this moment, process or machine.
const MASKED: [Range<u64>; 4] = [104..120, 136..152, 152..160, 2052..2056];
/// The same within a row.
const MASKED_IN_ROW: [Range<u64>; 3] = [8..12, 16..32, 40..72];

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Quote([u64; 3]);

impl Element for Quote {
    const NAME: &'static str = "test.Quote";
    const SCHEMA: u64 = schema_hash("three words");
}

/// Where the newest record of the byte ring came from.
const ORIGIN: Origin = Origin {
    ring_id: *b"the other ring's",
    generation: 3,
    life: 5,
    records: 1000,
};

/// A ring's place, removed with the test.
struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder for the test");
        let path = folder.path().join("ring");
        Self {
            _folder: folder,
            path,
        }
    }

    fn location(&self) -> Location {
        Location::from(&self.path)
    }
}

/// A byte ring shortly before 2^32 with a record released, one that is read, one after a padding,
/// an empty one, and a claim that is being written.
fn spsc_image() -> String {
    let place = Place::new();
    let options = spsc::Options::new(4096).starting_at((1 << 32) - 56);
    options.create(&place.path).expect("a ring for the test");
    // SAFETY: nobody but this test uses the file, and through this library only.
    let mut producer = unsafe { spsc::Producer::attach(&place.path) }.expect("its place is free");
    // SAFETY: as for the producer.
    let mut consumer = unsafe { spsc::Consumer::attach(&place.path) }.expect("its place is free");
    producer.try_push(1, b"released").expect("space");
    producer.try_push(2, b"read").expect("space");
    producer.try_push(3, &[0x33; 17]).expect("space");
    let mut batch = producer.batch();
    batch.try_push(u32::MAX, b"").expect("space");
    batch.commit_from(&ORIGIN);
    let mark = consumer.try_peek().expect("a record").mark();
    assert_eq!(consumer.release_to(mark), 1);
    assert_eq!(consumer.try_peek().expect("a record").tag(), 2);
    let mut claim = producer.try_claim(9).expect("space");
    claim.fill(0x99);
    words_of(&place.path)
}

/// A slot ring of elements at the end of a lap of 48 bits, with a slot in every state.
fn mpmc_image() -> String {
    let place = Place::new();
    let options = mpmc::Options::new(8, 24)
        .participants(3)
        .redelivery(Redelivery::AtMost(2))
        .element::<Quote>()
        .starting_at((8 << 48) - 2);
    options.create(&place.path).expect("a ring for the test");
    // SAFETY: nobody but this test uses the file, and through this library only.
    let producer = unsafe { mpmc::Producer::attach(&place.path) }.expect("a row is free");
    // SAFETY: as for the producer.
    let consumer = unsafe { mpmc::Consumer::attach(&place.path) }.expect("a row is free");
    for tag in 1..=4 {
        let element = [tag.into(); 3];
        producer
            .try_push(tag, bytemuck::bytes_of(&Quote(element)))
            .expect("a slot");
    }
    consumer.try_read().expect("a record").release();
    let held = consumer.try_read().expect("a record");
    consumer.try_read().expect("a record").requeue();
    producer.try_claim(24).expect("a slot").abort();
    let _claim = producer.try_claim(8).expect("a slot");
    assert_eq!((held.tag(), held.position()), (2, (8 << 48) - 1));
    words_of(&place.path)
}

/// The file's words, one a line: offset, value, name.
fn words_of(path: &Path) -> String {
    let bytes = fs::read(path).expect("the ring's file");
    let mut text = format!("file of {} bytes\n", bytes.len());
    for (word, offset) in bytes.chunks_exact(8).zip((0..).step_by(8)) {
        let mut masked: [u8; 8] = word.try_into().expect("8 bytes");
        for (byte, at) in masked.iter_mut().zip(offset..) {
            if is_masked(at) {
                *byte = 0;
            }
        }
        let value = u64::from_le_bytes(masked);
        if value != 0 {
            let line = format!("{offset:06x}: {value:016x}  {}", name(offset));
            writeln!(text, "{}", line.trim_end()).expect("a string grows");
        }
    }
    text
}

fn is_masked(at: u64) -> bool {
    let in_row = (ROWS..DATA).contains(&at).then_some(at % ROW_BYTES);
    MASKED.iter().any(|mask| mask.contains(&at))
        || in_row.is_some_and(|at| MASKED_IN_ROW.iter().any(|mask| mask.contains(&at)))
}

fn name(offset: u64) -> String {
    let find = |names: &[(u64, &'static str)], at| {
        let found = names.iter().find(|(named, _)| *named == at);
        found.map_or("?", |(_, name)| *name)
    };
    match offset {
        0..ROWS => find(&NAMES, offset).to_owned(),
        ROWS..DATA => {
            let row = (offset - ROWS) / ROW_BYTES + 1;
            format!("row {row}, {}", find(&ROW_NAMES, offset % ROW_BYTES))
        }
        _ => String::new(),
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/format")
        .join(name)
}

#[track_caller]
fn assert_golden(name: &str, found: &str) {
    let path = golden(name);
    if std::env::var_os("ANNULUS_BLESS").is_some() {
        fs::write(&path, found).expect("the golden image can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    let lost = expected
        .lines()
        .filter(|line| !found.lines().any(|l| l == *line));
    let new = found
        .lines()
        .filter(|line| !expected.lines().any(|l| l == *line));
    let lost: String = lost.map(|line| format!("- {line}\n")).collect();
    let new: String = new.map(|line| format!("+ {line}\n")).collect();
    panic!("{CHANGED}\n{}\n{lost}{new}", path.display());
}

/// Makes a file of a golden image. What was masked is zero, so it is of no boot in particular.
fn file_of(name: &str) -> Place {
    let text = fs::read_to_string(golden(name)).expect("the golden image");
    let mut lines = text.lines();
    let size = lines.next().and_then(|line| line.split(' ').nth(2));
    let size: usize = size.and_then(|size| size.parse().ok()).expect("the size");
    let place = Place::new();
    // Zeroes that are written, since a hole is refused.
    fs::write(&place.path, vec![0; size]).expect("space for the test");
    let file = OpenOptions::new()
        .write(true)
        .open(&place.path)
        .expect("the file");
    for line in lines {
        let (offset, rest) = line.split_once(": ").expect("an offset");
        let offset = u64::from_str_radix(offset, 16).expect("a number");
        let value = rest.split(' ').next().expect("a value");
        let value = u64::from_str_radix(value, 16).expect("a number");
        file.write_all_at(&value.to_le_bytes(), offset)
            .expect("inside the file");
    }
    place
}

#[test]
fn a_byte_ring_is_laid_out_as_version_1() {
    assert_golden("spsc.txt", &spsc_image());
}

#[test]
fn a_slot_ring_is_laid_out_as_version_1() {
    assert_golden("mpmc.txt", &mpmc_image());
}

/// Both of its participants are dead, as the kernel sees it: one wrote, the other had read ahead.
#[test]
fn a_byte_ring_of_version_1_is_recovered_and_read() {
    let place = file_of("spsc.txt");
    let seen = inspect(&place.location()).expect("a ring");
    assert_eq!(seen.tail, (1 << 32) + 40);
    assert_eq!((seen.committed_records, seen.released_records), (4, 1));
    assert_eq!((seen.claims_count, seen.participants.len()), (2, 2));
    assert!(seen.participants.iter().all(|one| !one.is_alive));

    let done = recover(&place.location(), &RecoverOptions::default()).expect("a ring");
    assert_eq!(
        (done.participants, done.skipped, done.redelivered),
        (2, 1, 1)
    );
    // SAFETY: nobody but this test uses the file, and through this library only.
    let mut consumer = unsafe { spsc::Consumer::attach(&place.path) }.expect("its place is free");
    let mut payload = Vec::new();
    for (tag, expected) in [(2, &b"read"[..]), (3, &[0x33; 17]), (u32::MAX, b"")] {
        assert_eq!(consumer.try_pop(&mut payload), Ok(tag));
        assert_eq!(payload, expected);
    }
    assert_eq!(consumer.try_pop(&mut payload), Err(TryReadError::Empty));
    // SAFETY: as for the consumer.
    let mut producer = unsafe { spsc::Producer::attach(&place.path) }.expect("its place is free");
    assert_eq!(producer.committed_records(), 4);
    assert_eq!(producer.origin(), Some(ORIGIN));
    producer.try_push(5, b"more").expect("the ring is empty");
    assert_eq!(consumer.try_pop(&mut payload), Ok(5));
}

#[test]
fn a_slot_ring_of_version_1_is_recovered_and_read() {
    let place = file_of("mpmc.txt");
    let seen = inspect(&place.location()).expect("a ring");
    assert_eq!((seen.committed_records, seen.released_records), (4, 1));
    assert_eq!((seen.claims_count, seen.totals.skipped), (2, 1));
    let element = seen.element.expect("a typed ring");
    assert_eq!((element.name.as_str(), element.size), ("test.Quote", 24));
    assert_eq!(seen.redelivery, Redelivery::AtMost(2));

    let done = recover(&place.location(), &RecoverOptions::default()).expect("a ring");
    assert_eq!(
        (done.participants, done.skipped, done.redelivered),
        (2, 1, 1)
    );
    // SAFETY: nobody but this test uses the file, and through this library only.
    let consumer = unsafe { mpmc::Consumer::attach(&place.path) }.expect("a row is free");
    let consumer = consumer.typed::<Quote>().expect("the same element");
    for tag in 2..=4_u32 {
        let record = consumer.try_read().expect("a record");
        assert_eq!((record.tag(), record.0), (tag, [tag.into(); 3]));
    }
    assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
}
