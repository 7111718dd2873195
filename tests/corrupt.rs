//! Damaged files: whatever stands in them, the answer is a typed error or some bytes, in bounded
//! time. Never a panic, an endless loop or an access outside the mapping.
//!
//! Header fields are set to every bad value there is, files are cut short, filled with noise, and
//! written to while handles that trust nobody are attached. What the fuzz targets have found stands
//! at the end, each with a name.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use annulus::segment::{
    AttachError, AttachOptions, CreateOptions, InspectError, OpenError, RecoverError,
    RecoverOptions, Role, attach, inspect, recover,
};
use annulus::{Kind, Location, TryClaimError, TryReadError, Untrusted, Wait, mpmc as slots};
use annulus::{Mapped, spsc as bytes};

/// Longest that anything here may take; a hang is a failure and not a test without an end.
const LIMIT: Duration = Duration::from_secs(60);

/// Does `work` on a thread of its own, and fails if it does not end.
#[track_caller]
fn in_bounded_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let worker = std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("it sent nothing"))
        }
    }
}

/// Numbers that look like noise and are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const DATA: u64 = 64 * 1024;
const KINDS: [Kind; 2] = [Kind::SpscBytes, Kind::MpmcSlots];

/// A ring's file with a name, to be spoiled.
struct Spoiled {
    _folder: tempfile::TempDir,
    path: PathBuf,
    file: File,
    kind: Kind,
}

impl Spoiled {
    /// A sound ring of 4096 bytes, or of 8 slots of 40 bytes, with three records in it.
    fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder for the test");
        let path = folder.path().join("ring");
        match kind {
            Kind::SpscBytes => bytes::Options::new(4096).create(&path),
            Kind::MpmcSlots => slots::Options::new(8, 40).participants(4).create(&path),
        }
        .expect("a ring for the test");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .expect("the ring's file");
        let ring = Self {
            _folder: folder,
            path,
            file,
            kind,
        };
        ring.fill();
        ring
    }

    fn fill(&self) {
        match self.kind {
            Kind::SpscBytes => {
                // SAFETY: the file is sound, and nobody else uses it.
                let mut producer = unsafe { bytes::Producer::attach(&self.path) }.expect("free");
                (1..=3).for_each(|tag| producer.try_push(tag, b"record").expect("space"));
            }
            Kind::MpmcSlots => {
                // SAFETY: the file is sound, and nobody else uses it.
                let producer = unsafe { slots::Producer::attach(&self.path) }.expect("free");
                (1..=3).for_each(|tag| producer.try_push(tag, b"record").expect("space"));
            }
        }
    }

    fn at(&self) -> Location {
        Location::from(&self.path)
    }

    fn image(&self) -> Vec<u8> {
        fs::read(&self.path).expect("the ring's file")
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.file
            .write_all_at(bytes, offset)
            .expect("inside the file");
    }

    fn put_u64(&self, offset: u64, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }

    fn attach(&self) -> Result<Mapped, AttachError> {
        attach(
            &self.at(),
            Role::Producer,
            self.kind,
            &AttachOptions::default(),
        )
    }

    /// What each of the three doors says. They agree, but for what only one of them looks at.
    fn doors(&self) -> [Result<(), String>; 3] {
        let attached = self.attach().map(drop).map_err(|error| error.to_string());
        let inspected = inspect(&self.at())
            .map(drop)
            .map_err(|error| error.to_string());
        let recovered = recover(&self.at(), &RecoverOptions::default())
            .map(drop)
            .map_err(|error| error.to_string());
        [attached, inspected, recovered]
    }

    /// All doors refuse the file with the same words.
    #[track_caller]
    fn assert_refused(&self, expected: &str) {
        for said in self.doors() {
            assert_eq!(said, Err(expected.to_owned()));
        }
    }
}

/// One number of the header.
struct Field {
    name: &'static str,
    offset: u64,
    /// 4 or 8.
    width: usize,
    /// Whether a file of the given ring is usable with this value there.
    allows: fn(Kind, u64) -> bool,
}

const fn field(
    name: &'static str,
    offset: u64,
    width: usize,
    allows: fn(Kind, u64) -> bool,
) -> Field {
    Field {
        name,
        offset,
        width,
        allows,
    }
}

/// Every field that an opener looks at, for the rings of [`Spoiled`]: stride 64, 512 bytes of
/// slots in a file of 69632.
const FIELDS: [Field; 17] = [
    field("magic", 0, 8, |_, value| {
        value == u64::from_le_bytes(*b"annulus\x01")
    }),
    field("version", 8, 4, |_, value| value == 1),
    field("byte_order", 12, 4, |_, value| value == 0x0102_0304),
    field("incompatible_features", 16, 8, |_, value| value == 0),
    field("compatible_features", 24, 8, |_, _| true),
    field("kind", 32, 4, |kind, value| match kind {
        Kind::SpscBytes => value == 1,
        Kind::MpmcSlots => value == 2,
    }),
    field("participants", 36, 4, |kind, value| match kind {
        Kind::SpscBytes => value == 2,
        Kind::MpmcSlots => (1..=(DATA - 4096) / 512).contains(&value),
    }),
    field("capacity", 40, 8, |kind, value| match kind {
        Kind::SpscBytes => value == 4096,
        Kind::MpmcSlots => value == 8,
    }),
    field("stride", 48, 8, |kind, value| match kind {
        Kind::SpscBytes => value == 8,
        Kind::MpmcSlots => value == 64,
    }),
    field("max_record", 56, 8, |kind, value| match kind {
        Kind::SpscBytes => value == 2040,
        Kind::MpmcSlots => value <= 48,
    }),
    field("payload_offset", 64, 4, |kind, value| match kind {
        Kind::SpscBytes => value == 8,
        Kind::MpmcSlots => value == 16 || value == 24,
    }),
    field("redelivery", 68, 4, |_, value| value <= 4),
    field("rows_offset", 72, 8, |_, value| value == 4096),
    field("data_offset", 80, 8, |_, value| value == DATA),
    field("data_bytes", 88, 8, |kind, value| match kind {
        Kind::SpscBytes => value == 4096,
        Kind::MpmcSlots => value == 512,
    }),
    field("file_bytes", 96, 8, |kind, value| match kind {
        Kind::SpscBytes => value == DATA + 4096,
        Kind::MpmcSlots => (DATA + 512..=DATA + 4096).contains(&value),
    }),
    field("origin", 128, 8, |kind, value| match kind {
        Kind::SpscBytes => value % 8 == 0,
        Kind::MpmcSlots => true,
    }),
];

/// Values around `sound`, around powers of two, and at the ends.
fn bad_values(sound: u64) -> Vec<u64> {
    let around = [
        sound,
        0,
        1 << 16,
        1 << 31,
        1 << 32,
        1 << 46,
        1 << 47,
        1 << 63,
    ];
    let mut values: Vec<u64> = around
        .into_iter()
        .flat_map(|value| [value.wrapping_sub(1), value, value.wrapping_add(1)])
        .collect();
    values.extend([
        2, 3, 8, 16, 24, 64, 128, 136, 2047, 2048, 4095, 4096, 8192, 65536,
    ]);
    values.extend([
        sound * 2,
        sound / 2,
        sound * 3,
        sound ^ 1 << 40,
        !sound,
        u64::MAX - 7,
    ]);
    values.extend([
        sound.wrapping_add(8),
        sound.wrapping_sub(8),
        sound << 8,
        sound << 32,
    ]);
    values
}

#[test]
fn a_bad_number_in_the_header_is_an_error_for_everybody_who_opens_it() {
    in_bounded_time(|| {
        for kind in KINDS {
            let ring = Spoiled::new(kind);
            let image = ring.image();
            for field in &FIELDS {
                let at = usize::try_from(field.offset).expect("in the header");
                let mut sound = [0; 8];
                sound[..field.width].copy_from_slice(&image[at..at + field.width]);
                for value in bad_values(u64::from_le_bytes(sound)) {
                    let bytes = &value.to_le_bytes()[..field.width];
                    let mut stored = [0; 8];
                    stored[..field.width].copy_from_slice(bytes);
                    let value = u64::from_le_bytes(stored);
                    ring.put(field.offset, bytes);
                    let allowed = (field.allows)(kind, value);
                    let name = field.name;
                    let attached = ring.attach();
                    assert_eq!(attached.is_ok(), allowed, "{kind}: {name} {value:#x}");
                    let refused = matches!(
                        attached,
                        Err(AttachError::Open(OpenError::Header(_)) | AttachError::OtherKind { .. })
                    );
                    assert_eq!(refused, !allowed, "{kind}: {name} {value:#x}");
                    drop(attached);
                    // The other two take a ring of either kind.
                    let other = name == "kind";
                    let seen = inspect(&ring.at());
                    assert!(
                        other || seen.is_ok() == allowed,
                        "{kind}: {name} {value:#x}"
                    );
                    let recovered = recover(&ring.at(), &RecoverOptions::default());
                    assert!(
                        other || recovered.is_ok() == allowed,
                        "{kind}: {name} {value:#x}"
                    );
                }
                ring.put(field.offset, &sound[..field.width]);
            }
            ring.attach().expect("the ring is sound again");
        }
    });
}

#[test]
fn noise_in_the_header_is_never_taken_for_a_geometry_that_the_file_lacks() {
    in_bounded_time(|| {
        let mut noise = Noise(7);
        for kind in KINDS {
            let ring = Spoiled::new(kind);
            let image = ring.image();
            for _ in 0..3000 {
                // One to three words of the geometry and the element.
                for _ in 0..=noise.below(3) {
                    let offset = 16 + noise.below(28) * 8;
                    let value = match noise.below(3) {
                        0 => noise.next(),
                        1 => 1 << noise.below(64),
                        _ => noise.below(5000),
                    };
                    ring.put_u64(offset, value);
                }
                if let Ok(seen) = inspect(&ring.at()) {
                    assert!(seen.file_bytes <= image.len() as u64);
                    assert!(seen.capacity * seen.stride_bytes <= 8 * image.len() as u64);
                }
                drop(ring.doors());
                ring.put(0, &image[..2048]);
            }
        }
    });
}

#[test]
fn a_file_cut_short_anywhere_is_an_error_with_both_lengths() {
    in_bounded_time(|| {
        for kind in KINDS {
            let ring = Spoiled::new(kind);
            let image = ring.image();
            let whole = image.len() as u64;
            let header = [0, 1, 7, 8, 9, 447, 448, 2047];
            let parts = [
                2048,
                2049,
                2815,
                4095,
                4096,
                4608,
                6143,
                DATA - 1,
                DATA,
                DATA + 8,
            ];
            for found in header
                .into_iter()
                .chain(parts)
                .chain([whole - 4096, whole - 1])
            {
                ring.file.set_len(found).expect("shorter");
                let expected = if found < 2048 { 2048 } else { whole };
                ring.assert_refused(&format!("the file has {found} bytes, expected {expected}"));
                fs::write(&ring.path, &image).expect("space for the test");
            }
            // More than the header says is no harm.
            ring.file.set_len(whole + 4096).expect("longer");
            ring.attach().expect("the ring is whole");
        }
    });
}

#[test]
fn a_file_with_a_hole_is_refused_before_it_is_touched() {
    for kind in KINDS {
        let ring = Spoiled::new(kind);
        let image = ring.image();
        ring.file.set_len(0).expect("shorter");
        ring.file.set_len(image.len() as u64).expect("longer");
        ring.put(0, &image[..8192]);
        ring.assert_refused("only 8192 bytes are allocated, expected all 69632: a sparse copy");
    }
}

#[test]
fn files_of_noise_are_no_rings() {
    in_bounded_time(|| {
        let mut noise = Noise(11);
        let ring = Spoiled::new(Kind::SpscBytes);
        let mut image = ring.image();
        for round in 0..200 {
            for word in image.chunks_exact_mut(8) {
                word.copy_from_slice(&noise.next().to_le_bytes());
            }
            // With the first words of a ring, to be looked at more closely.
            if round % 2 == 1 {
                image[..8].copy_from_slice(b"annulus\x01");
                image[8..16].copy_from_slice(&0x0102_0304_0000_0001_u64.to_le_bytes());
                image[16..24].fill(0);
            }
            fs::write(&ring.path, &image).expect("space for the test");
            for said in ring.doors() {
                let error = said.expect_err("noise is no ring");
                let expected = if round % 2 == 1 {
                    "impossible header: the kind is "
                } else {
                    "not a ring: the magic is "
                };
                assert!(error.starts_with(expected), "{error}");
            }
        }
    });
}

#[test]
fn errors_say_what_was_found_and_what_was_expected() {
    let said = |kind: Kind, offset: u64, bytes: &[u8], expected: &str| {
        let ring = Spoiled::new(kind);
        ring.put(offset, bytes);
        ring.assert_refused(expected);
    };
    let (spsc, mpmc) = (Kind::SpscBytes, Kind::MpmcSlots);
    for (kind, offset, bytes, expected) in [
        (
            spsc,
            0,
            &[0; 8][..],
            "the ring is still being created, or its creator died",
        ),
        (
            spsc,
            0,
            b"ELF-file",
            "not a ring: the magic is 0x656c69662d464c45, expected 0x0173756c756e6e61",
        ),
        (
            spsc,
            8,
            &[2, 0],
            "the layout is version 2, this build reads version 1",
        ),
        (
            spsc,
            12,
            &[1, 2, 3, 4],
            "the ring has byte order mark 0x04030201, expected 0x01020304",
        ),
        (
            spsc,
            16,
            &[5],
            "the ring needs features 0x5, this build has none of them",
        ),
        (
            spsc,
            32,
            &[9],
            "impossible header: the kind is 9, expected 1 (SPSC bytes) or 2 (MPMC slots)",
        ),
        (
            mpmc,
            36,
            &[0, 8],
            "impossible header: the number of participants is 2048, expected from 1 to 2047",
        ),
        (
            spsc,
            40,
            &[1],
            "impossible header: the capacity in bytes is 4097, \
             expected a power of two from 4096 to 8796093022208",
        ),
        (
            mpmc,
            40,
            &[12],
            "impossible header: the number of slots is 12, \
             expected a power of two from 2 to 1099511627776",
        ),
        (
            mpmc,
            48,
            &[65],
            "impossible header: the stride is 65, expected a multiple of 8 up to 2 GiB",
        ),
        (
            mpmc,
            56,
            &[49],
            "impossible header: the slot size is 49, \
             expected at most stride less payload offset",
        ),
        (
            mpmc,
            64,
            &[8],
            "impossible header: the payload offset is 8, expected a multiple of 8, 16 to 128",
        ),
        (
            mpmc,
            68,
            &[5],
            "impossible header: the redelivery policy is 5, expected from 0 to 4",
        ),
        (
            spsc,
            72,
            &[8],
            "impossible header: the rows' offset is 4104, expected 4096",
        ),
        (
            spsc,
            80,
            &[8],
            "impossible header: the data offset is 65544, \
             expected a multiple of 64 KiB after the rows",
        ),
        (
            spsc,
            82,
            &[9],
            "impossible header: the file size is 69632, expected room for the data area",
        ),
        (
            spsc,
            96,
            &[0, 0, 2],
            "the file has 69632 bytes, expected 131072",
        ),
        (
            spsc,
            128,
            &[4],
            "impossible header: the origin is 4, expected a multiple of 8",
        ),
        (
            spsc,
            184,
            &[1, 2],
            "impossible header: the length of the element's name is 513, \
             expected at most 256 bytes of UTF-8",
        ),
        (
            mpmc,
            160,
            &[
                [64, 0, 0, 0, 0, 0, 0, 0],
                [8, 0, 0, 0, 0, 0, 0, 0],
                [0; 8],
                [1, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat(),
            "impossible header: the element's size is 64, \
             expected at most the longest record, 40 bytes",
        ),
        (
            mpmc,
            160,
            &[
                [4, 0, 0, 0, 0, 0, 0, 0],
                [32, 0, 0, 0, 0, 0, 0, 0],
                [0; 8],
                [1, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat(),
            "impossible header: the element's alignment is 32, \
             expected one that the payloads have",
        ),
    ] {
        said(kind, offset, bytes, expected);
    }
}

#[test]
fn a_ring_of_the_other_kind_is_refused_by_its_name() {
    for (kind, other, expected) in [
        (
            Kind::SpscBytes,
            Kind::MpmcSlots,
            "this is an SPSC byte ring, expected an MPMC slot ring",
        ),
        (
            Kind::MpmcSlots,
            Kind::SpscBytes,
            "this is an MPMC slot ring, expected an SPSC byte ring",
        ),
    ] {
        let ring = Spoiled::new(kind);
        let error = attach(&ring.at(), Role::Consumer, other, &AttachOptions::default());
        assert_eq!(error.expect_err("another kind").to_string(), expected);
    }
}

#[test]
fn contradicting_cursors_are_refused_at_the_door_with_what_they_say() {
    const TAIL_JOURNALS: [u64; 2] = [2448, 2480];
    const HEAD: u64 = 2560;
    let ring = Spoiled::new(Kind::SpscBytes);
    let damaged = |expected: &str| {
        let consumer = attach_consumer(&ring.at()).expect_err("damaged");
        assert!(matches!(consumer, AttachError::Damaged(_)), "{consumer:?}");
        assert_eq!(
            consumer.to_string(),
            format!("the ring is damaged: {expected}")
        );
    };
    ring.put_u64(HEAD, 8);
    damaged("the head is 0x8, expected it in the journal");
    let error = inspect(&ring.at()).expect_err("damaged");
    assert!(matches!(error, InspectError::Damaged(_)));
    ring.put_u64(HEAD, 0);
    attach_consumer(&ring.at()).expect("sound again");

    for journal in TAIL_JOURNALS {
        ring.put_u64(journal, 1 << 40);
    }
    damaged("the head is 0x0, expected at most the tail, and less than a capacity behind it");
    let producer = attach_producer(&ring.at()).expect_err("damaged");
    assert!(matches!(producer, AttachError::Damaged(_)), "{producer:?}");
    for journal in TAIL_JOURNALS {
        ring.put_u64(journal, 12);
    }
    let producer = attach_producer(&ring.at()).expect_err("damaged");
    let expected = "the ring is damaged: the tail is 0xc, expected 8 to divide it";
    assert_eq!(producer.to_string(), expected);
}

fn attach_producer(at: &Location) -> Result<bytes::Producer, AttachError> {
    // SAFETY: nobody writes to the file while the handle lives, which lends nothing here.
    unsafe { bytes::Producer::attach(at) }
}

fn attach_consumer(at: &Location) -> Result<bytes::Consumer, AttachError> {
    // SAFETY: as for `attach_producer`.
    unsafe { bytes::Consumer::attach(at) }
}

/// A ring in a sealed memfd, as handles that trust nobody want it, and the file to write to.
struct Hostile {
    file: File,
    at: Location,
}

impl Hostile {
    fn new(kind: Kind) -> Self {
        let options = CreateOptions::default();
        let descriptor = match kind {
            Kind::SpscBytes => bytes::Options::new(4096).memfd("test", &options),
            Kind::MpmcSlots => {
                let ring = slots::Options::new(8, 40).participants(4);
                ring.memfd("test", &options)
            }
        };
        let file = File::from(descriptor.expect("a ring for the test"));
        let at = Location::from(OwnedFd::from(file.try_clone().expect("a descriptor")));
        Self { file, at }
    }

    fn put(&self, offset: u64, value: u64) {
        self.file
            .write_all_at(&value.to_le_bytes(), offset)
            .expect("inside the file");
    }

    fn get(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, offset)
            .expect("inside the file");
        u64::from_le_bytes(bytes)
    }

    fn bytes(&self) -> (bytes::Producer<Untrusted>, bytes::Consumer<Untrusted>) {
        let options = AttachOptions::default();
        let producer = bytes::Producer::attach_untrusting(&self.at, &options);
        let consumer = bytes::Consumer::attach_untrusting(&self.at, &options);
        (producer.expect("free"), consumer.expect("free"))
    }

    fn slots(&self) -> (slots::Producer<Untrusted>, slots::Consumer<Untrusted>) {
        let options = AttachOptions::default();
        let producer = slots::Producer::attach_untrusting(&self.at, &options);
        let consumer = slots::Consumer::attach_untrusting(&self.at, &options);
        (producer.expect("free"), consumer.expect("free"))
    }
}

/// A record's header: tag, length, kind 1 for a record and 2 for padding.
fn header(tag: u64, len: u64, kind: u64) -> u64 {
    tag << 32 | len << 2 | kind
}

#[test]
fn a_record_header_that_no_producer_writes_is_damage_until_it_is_mended() {
    let ring = Hostile::new(Kind::SpscBytes);
    let (mut producer, mut consumer) = ring.bytes();
    producer.try_push(1, b"sound").expect("space");
    let sound = ring.get(DATA);
    assert_eq!(sound, header(1, 5, 1));
    let mut payload = Vec::new();
    for bad in [
        header(1, 5, 3),
        header(1, 2041, 1),
        header(1, (1 << 30) - 1, 1),
        u64::MAX,
        // A padding of which nothing but another one follows.
        header(0, 4088, 2),
    ] {
        ring.put(DATA, bad);
        let Err(TryReadError::Damaged(damage)) = consumer.try_pop(&mut payload) else {
            panic!("{bad:#x} is no header of a record");
        };
        assert_eq!((damage.what, damage.found), ("a record's header", bad));
        let text = format!(
            "the ring is damaged: a record's header is {bad:#x}, \
             expected a record that fits before the end of the ring"
        );
        assert_eq!(TryReadError::Damaged(damage).to_string(), text);
    }
    ring.put(DATA, sound);
    assert_eq!(consumer.try_pop(&mut payload), Ok(1));
    assert_eq!(payload, b"sound");
}

/// A consumer that has read nothing yet took it for one more record of no bytes, again and again.
#[test]
fn a_first_header_of_no_kind_and_no_length_is_damage() {
    for tag in [0, 7, u64::from(u32::MAX)] {
        let ring = Hostile::new(Kind::SpscBytes);
        let (_producer, mut consumer) = ring.bytes();
        let bad = header(tag, 0, 3);
        ring.put(DATA, bad);
        let Err(TryReadError::Damaged(damage)) = consumer.try_pop(&mut Vec::new()) else {
            panic!("{bad:#x} is no header of a record");
        };
        assert_eq!((damage.what, damage.found), ("a record's header", bad));
    }
}

/// Whoever adopted such a ring went on for ever, with all locks in its hands.
#[test]
fn a_ring_of_another_boot_that_begins_with_a_header_of_no_kind_is_refused() {
    in_bounded_time(|| {
        let ring = Spoiled::new(Kind::SpscBytes);
        ring.put(BOOT_ID, &[0x77; 16]);
        ring.put_u64(DATA, header(0, 0, 3));
        let accept = RecoverOptions {
            accept_other_boot: true,
            ..RecoverOptions::default()
        };
        let outcome = recover(&ring.at(), &accept);
        assert!(
            matches!(outcome, Err(RecoverError::Damaged(_))),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_record_that_would_end_behind_the_ring_is_damage() {
    let ring = Hostile::new(Kind::SpscBytes);
    let (mut producer, mut consumer) = ring.bytes();
    let mut payload = Vec::new();
    for _ in 0..2 {
        producer.try_push(1, &[0; 1984]).expect("space");
        consumer.try_pop(&mut payload).expect("a record");
    }
    // 112 bytes are left before the end.
    producer.try_push(2, b"short").expect("space");
    ring.put(DATA + 3984, header(2, 105, 1));
    assert!(matches!(
        consumer.try_pop(&mut payload),
        Err(TryReadError::Damaged(_))
    ));
    ring.put(DATA + 3984, header(2, 104, 1));
    assert_eq!(consumer.try_pop(&mut payload), Ok(2));
    assert_eq!(payload.len(), 104);
}

#[test]
fn headers_that_go_on_for_ever_end_after_one_capacity() {
    let ring = Hostile::new(Kind::SpscBytes);
    let (_producer, mut consumer) = ring.bytes();
    for offset in (0..4096).step_by(8) {
        ring.put(DATA + offset, header(7, 0, 1));
    }
    let mut payload = Vec::new();
    let popped = (0..5000)
        .take_while(|_| consumer.try_pop(&mut payload) == Ok(7))
        .count();
    // What it releases it may read again; each answer is one record, in bounded time.
    assert_eq!(popped, 5000);
    assert!(consumer.backlog() <= consumer.capacity());
}

#[test]
fn a_head_where_no_consumer_puts_it_is_damage_to_the_producer() {
    const HEAD: u64 = 2560;
    let ring = Hostile::new(Kind::SpscBytes);
    let (mut producer, _consumer) = ring.bytes();
    while producer.try_push(1, &[1; 500]).is_ok() {}
    assert_eq!(producer.try_push(1, &[1; 500]), Err(TryClaimError::Full));
    // Beyond the tail, or more than a capacity behind it.
    let tail = producer.backlog();
    for bad in [tail + 8, 4096, 1 << 63, tail.wrapping_sub(4104)] {
        ring.put(HEAD, bad);
        let Err(TryClaimError::Damaged(damage)) = producer.try_push(1, &[1; 500]) else {
            panic!("{bad:#x} is no head");
        };
        assert_eq!((damage.what, damage.found), ("the head", bad));
    }
    ring.put(HEAD, 0);
    assert_eq!(producer.try_push(1, &[1; 500]), Err(TryClaimError::Full));
}

#[test]
fn a_slot_in_no_state_is_damage_to_both_sides() {
    let ring = Hostile::new(Kind::MpmcSlots);
    let (producer, consumer) = ring.slots();
    let mut payload = Vec::new();
    for state in 5..8_u64 {
        let text = format!(
            "the ring is damaged: a slot's word is {state:#x}, expected one of five states"
        );
        ring.put(DATA, state);
        let claim = producer.try_push(1, b"").expect_err("damaged");
        assert!(matches!(claim, TryClaimError::Damaged(_)));
        assert_eq!(claim.to_string(), text);
        let read = consumer.try_pop(&mut payload).expect_err("damaged");
        assert!(matches!(read, TryReadError::Damaged(_)));
        assert_eq!(read.to_string(), text);
    }
    ring.put(DATA, 0);
    assert_eq!(producer.try_push(1, b"sound"), Ok(()));
    assert_eq!(consumer.try_pop(&mut payload), Ok(1));
}

#[test]
fn a_length_beyond_the_slot_is_damage_and_the_slot_is_passed() {
    let ring = Hostile::new(Kind::MpmcSlots);
    let (producer, consumer) = ring.slots();
    let mut payload = Vec::new();
    for (index, len) in [41, 64, 1 << 31, u64::from(u32::MAX)]
        .into_iter()
        .enumerate()
    {
        producer.try_push(1, b"long").expect("a slot");
        producer.try_push(2, b"next").expect("a slot");
        let index = 2 * index as u64 % 8;
        ring.put(DATA + index * 64 + 8, 1 << 32 | len);
        let error = consumer.try_pop(&mut payload).expect_err("too long");
        let text = format!(
            "the ring is damaged: a record's length is {len:#x}, expected at most the slot's size"
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(consumer.try_pop(&mut payload), Ok(2));
        assert_eq!(payload, b"next");
    }
}

/// One store by somebody who is not of the ring, mostly where it hurts.
fn spoil(ring: &Hostile, noise: &mut Noise) {
    let offset = match noise.below(6) {
        0 => 2048 + noise.below(96) * 8,
        1 => 2432 + noise.below(40) * 8,
        2 => 4096 + noise.below(256) * 8,
        3 => DATA + noise.below(8) * 64 + noise.below(2) * 8,
        _ => DATA + noise.below(64) * 8,
    };
    let old = ring.get(offset);
    let value = match noise.below(7) {
        0 => noise.below(64),
        1 => noise.next(),
        2 => u64::MAX - noise.below(9),
        3 => old ^ 1 << noise.below(64),
        4 => old.wrapping_add(8 << noise.below(8)),
        5 => old.wrapping_sub(1 << noise.below(64)),
        _ => noise.below(2048) << 16 | noise.below(64),
    };
    ring.put(offset, value);
}

#[test]
fn a_byte_ring_that_is_written_to_all_over_answers_errors_or_bytes() {
    in_bounded_time(|| {
        for seed in 1..40 {
            let mut noise = Noise(seed);
            let ring = Hostile::new(Kind::SpscBytes);
            let (mut producer, mut consumer) = ring.bytes();
            let mut payload = Vec::new();
            let wait = Wait::block().for_at_most(Duration::from_micros(200));
            for _ in 0..400 {
                spoil(&ring, &mut noise);
                let len = usize::try_from(noise.below(2100)).expect("short");
                let _ = producer.try_push(9, &vec![9; len]);
                if consumer.try_pop(&mut payload).is_ok() {
                    assert!(payload.len() <= consumer.max_record());
                }
                match noise.below(40) {
                    0 => consumer.rewind(),
                    1 => drop(consumer.release_all()),
                    2 => drop(producer.push(1, b"", wait)),
                    3 => drop(consumer.pop(&mut payload, wait)),
                    4 => producer.close(),
                    5..9 => producer.reopen(),
                    9 => drop(recover(&ring.at, &RecoverOptions::default())),
                    10 => drop(inspect(&ring.at)),
                    _ => {}
                }
                assert!(producer.backlog() <= 4096 && consumer.backlog() <= 4096);
            }
        }
    });
}

#[test]
fn a_slot_ring_that_is_written_to_all_over_answers_errors_or_bytes() {
    in_bounded_time(|| {
        for seed in 1..40 {
            let mut noise = Noise(seed);
            let ring = Hostile::new(Kind::MpmcSlots);
            let (producer, consumer) = ring.slots();
            let mut payload = Vec::new();
            let wait = Wait::block().for_at_most(Duration::from_micros(200));
            for _ in 0..400 {
                spoil(&ring, &mut noise);
                let len = usize::try_from(noise.below(41)).expect("short");
                let _ = producer.try_push(9, &vec![9; len]);
                if consumer.try_pop(&mut payload).is_ok() {
                    assert!(payload.len() <= consumer.max_record());
                }
                match noise.below(40) {
                    0 => drop(producer.push(1, b"", wait)),
                    1 => drop(consumer.pop(&mut payload, wait)),
                    2 => producer.close(),
                    3..8 => producer.reopen(),
                    8 => drop(recover(&ring.at, &RecoverOptions::default())),
                    9 => drop(inspect(&ring.at)),
                    _ => {}
                }
                assert!(producer.backlog() <= 8);
            }
        }
    });
}

#[test]
fn handles_come_and_go_while_somebody_writes_all_over_the_ring() {
    in_bounded_time(|| {
        for kind in KINDS {
            let ring = Hostile::new(kind);
            std::thread::scope(|scope| {
                let (done, is_done) = mpsc::channel::<()>();
                let ring = &ring;
                scope.spawn(move || {
                    let mut noise = Noise(23);
                    while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
                        spoil(ring, &mut noise);
                    }
                });
                for _ in 0..600 {
                    come_and_go(&ring.at, kind);
                }
                drop(done);
            });
        }
    });
}

/// The sweep looks at a word and exchanges it. In between only the lock's holder may change it, but
/// a hostile peer can: that is its fault, and no reason for the one who sweeps to panic. It did, in
/// builds with debug assertions.
#[test]
fn a_word_that_changes_under_the_sweep_does_not_panic_the_one_who_sweeps() {
    const WRITING_BY_1: u64 = 1 << 5 | 1;
    const READING_BY_1: u64 = 1 << 5 | 3;
    const ROW_1: u64 = 4096;
    in_bounded_time(|| {
        let ring = Hostile::new(Kind::MpmcSlots);
        let map = memmap2::MmapOptions::new()
            .map_raw(&ring.file)
            .expect("memory for the test");
        std::thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            scope.spawn(move || {
                let slots = [0, 1, 2, 3, 4, 5, 6, 7].map(|slot| {
                    let offset = usize::try_from(DATA + slot * 64).expect("inside the file");
                    #[expect(clippy::cast_ptr_alignment, reason = "64 divides the offset")]
                    // SAFETY: the offset lies inside the mapping.
                    let word = unsafe { map.as_mut_ptr().add(offset) }.cast::<u64>();
                    // SAFETY: 8 bytes at a multiple of 64, mapped for as long as the thread runs
                    // and by everybody accessed as an atomic.
                    unsafe { AtomicU64::from_ptr(word) }
                });
                let mut lap = 0;
                while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    for slot in slots {
                        lap += 1;
                        let writing = u64::is_multiple_of(lap, 2);
                        let word = if writing { WRITING_BY_1 } else { READING_BY_1 };
                        slot.store(lap << 16 | word, Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..10_000 {
                ring.put(ROW_1, 1);
                let recovered = recover(&ring.at, &RecoverOptions::default());
                assert!(recovered.is_ok(), "{recovered:?}");
            }
            drop(done);
        });
    });
}

/// Attaches, pushes, pops and detaches, if the ring lets one.
fn come_and_go(at: &Location, kind: Kind) {
    let options = AttachOptions::default();
    let mut payload = Vec::new();
    if kind == Kind::SpscBytes {
        let producer = bytes::Producer::attach_untrusting(at, &options);
        let consumer = bytes::Consumer::attach_untrusting(at, &options);
        if let (Ok(mut producer), Ok(mut consumer)) = (producer, consumer) {
            for _ in 0..8 {
                let _ = producer.try_push(1, &[1; 300]);
                let _ = consumer.try_pop(&mut payload);
            }
        }
    } else {
        let producer = slots::Producer::attach_untrusting(at, &options);
        let consumer = slots::Consumer::attach_untrusting(at, &options);
        if let (Ok(producer), Ok(consumer)) = (producer, consumer) {
            for _ in 0..8 {
                let _ = producer.try_push(1, &[1; 30]);
                let _ = consumer.try_pop(&mut payload);
            }
        }
    }
}

/// A consumer that died is said to have read up to a position that it cannot have reached, and
/// records without end lie before it: counting them for the log ends after one capacity.
#[test]
fn a_read_mark_beyond_the_ring_is_followed_for_one_capacity_only() {
    const CONSUMER_CLAIM: u64 = 2688;
    const ROW_2: u64 = 4096 + 512;
    let done = in_bounded_time(|| {
        let ring = Spoiled::new(Kind::SpscBytes);
        for offset in (0..4096).step_by(8) {
            ring.put_u64(DATA + offset, header(7, 0, 1));
        }
        ring.put_u64(CONSUMER_CLAIM, 1 << 62);
        ring.put_u64(ROW_2, 1);
        recover(&ring.at(), &RecoverOptions::default()).expect("a row is mended")
    });
    // The last of the 512 headers of a ring is EMPTY.
    assert_eq!((done.participants, done.redelivered), (1, 511));
}

/// The noise test above once met this: whoever recovered a dead consumer followed a head that lay
/// between two words, and panicked at the bounds check.
#[test]
fn a_dead_consumers_head_between_two_words_is_mended_without_a_panic() {
    const CONSUMERS_ROW: u64 = 4096 + 512;
    const HEAD: u64 = 2560;
    const READ_MARK: u64 = 2688;
    const JOURNAL_ENDS: [u64; 2] = [2696, 2728];
    in_bounded_time(|| {
        let ring = Spoiled::new(Kind::SpscBytes);
        ring.put_u64(CONSUMERS_ROW, 1);
        for offset in [HEAD, JOURNAL_ENDS[0], JOURNAL_ENDS[1]] {
            ring.put_u64(offset, 12);
        }
        ring.put_u64(READ_MARK, 1000);
        let done = recover(&ring.at(), &RecoverOptions::default()).expect("mended");
        assert_eq!((done.participants, done.redelivered), (1, 0));
    });
}

#[test]
fn rows_that_say_nonsense_are_mended_and_free() {
    const ABORT_SLOT: u64 = 72;
    in_bounded_time(|| {
        for kind in KINDS {
            for state in [1, 2, 3, 1 << 31, u64::MAX] {
                let ring = Spoiled::new(kind);
                let rows = if kind == Kind::SpscBytes { 2 } else { 4 };
                for row in (4096..).step_by(512).take(rows) {
                    ring.put(row, &[0xff; 512]);
                    ring.put_u64(row, state);
                    ring.put_u64(row + ABORT_SLOT, state.rotate_left(40));
                }
                let seen = inspect(&ring.at()).expect("rows are for display");
                assert_eq!(seen.participants.len(), rows);
                assert!(seen.participants.iter().all(|one| !one.is_alive));
                let done = recover(&ring.at(), &RecoverOptions::default()).expect("mended");
                assert_eq!(done.participants, rows as u64);
                let seen = inspect(&ring.at()).expect("rows are for display");
                assert!(seen.participants.is_empty());
                ring.attach().expect("a row is free");
            }
        }
    });
}

/// Where the header has the boot in which the ring was made.
const BOOT_ID: u64 = 136;

#[test]
fn a_ring_torn_by_a_power_loss_is_refused_or_works() {
    in_bounded_time(|| {
        let mut noise = Noise(5);
        let accept = RecoverOptions {
            accept_other_boot: true,
            ..RecoverOptions::default()
        };
        let (mut adopted, mut refused) = (0, 0);
        for kind in KINDS {
            let ring = Spoiled::new(kind);
            let image = ring.image();
            for _ in 0..400 {
                ring.put(0, &image);
                ring.put(BOOT_ID, &[0x77; 16]);
                for _ in 0..noise.below(4) {
                    tear(&ring, &mut noise);
                }
                let before = recover(&ring.at(), &RecoverOptions::default());
                assert!(matches!(before, Err(RecoverError::OtherBoot)), "{before:?}");
                match recover(&ring.at(), &accept) {
                    Ok(_) => {
                        adopted += 1;
                        assert_works(&ring);
                    }
                    Err(RecoverError::Damaged(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(
            adopted > 100 && refused > 100,
            "{adopted} adopted, {refused} refused"
        );
    });
}

/// Puts something old or wrong where positions, words and records are.
fn tear(ring: &Spoiled, noise: &mut Noise) {
    let offset = match (noise.below(3), ring.kind) {
        (0, _) => 2432 + noise.below(40) * 8,
        (_, Kind::SpscBytes) => DATA + noise.below(16) * 8,
        (_, Kind::MpmcSlots) => DATA + noise.below(8) * 64 + noise.below(2) * 8,
    };
    let value = match noise.below(4) {
        0 => 0,
        1 => 1 << noise.below(64),
        2 => noise.below(8) << 16 | noise.below(5) << 5 | noise.below(32),
        _ => noise.below(128),
    };
    ring.put_u64(offset, value);
}

/// Whatever an adopted ring holds is read or passed, and then it carries a record.
fn assert_works(ring: &Spoiled) {
    let mut payload = Vec::new();
    let seen = inspect(&ring.at()).expect("it was checked");
    match ring.kind {
        Kind::SpscBytes => {
            let mut producer = attach_producer(&ring.at()).expect("it was checked");
            let mut consumer = attach_consumer(&ring.at()).expect("it was checked");
            producer.reopen();
            let records = (0..1000).take_while(|_| consumer.try_pop(&mut payload).is_ok());
            assert_eq!(records.count() as u64, seen.backlog_records);
            assert_eq!(producer.try_push(1, b"new"), Ok(()));
            assert_eq!(consumer.try_pop(&mut payload), Ok(1));
        }
        Kind::MpmcSlots => {
            // SAFETY: nobody else uses the file, and nothing is lent.
            let producer = unsafe { slots::Producer::attach(&ring.path) }.expect("a row is free");
            // SAFETY: as above.
            let consumer = unsafe { slots::Consumer::attach(&ring.path) }.expect("a row is free");
            producer.reopen();
            let empty = (0..1000).any(|_| {
                let popped = consumer.try_pop(&mut payload);
                popped == Err(TryReadError::Empty)
            });
            assert!(empty, "it is drained");
            assert_eq!(producer.try_push(1, b"new"), Ok(()));
            assert_eq!(consumer.try_pop(&mut payload), Ok(1));
        }
    }
    assert_eq!(payload, b"new");
}
