//! The file format, version 1: every word of a ring's file, its offset, and who writes it.
//!
//! ```text
//!      0  Header        geometry and identity; constant once the magic is published
//!   2048  Control       words that many participants share, one line of 128 bytes a writer
//!   4096  Row 1..=n     one participant each, 512 bytes; row i is owner i, its lock is byte i
//!  data_offset          the bytes of the ring, at a multiple of 64 KiB
//! ```
//!
//! # Invariants
//! 1. A word has one width for ever: an `AtomicU64` here is only ever accessed as such.
//! 2. Words that different sides write never share 128 bytes (two lines: adjacent-line prefetch).
//! 3. The header is written before the magic and, but for the boot id of a ring that is adopted
//!    after a reboot, never again; an opener copies it out once.
//! 4. No number of the file is an index or a length before [`crate::segment`] has checked it.
//!
//! Sizes and offsets are pinned by the assertions at the end of this file and by the golden image
//! of `tests/format.rs`; `docs/format.md` draws the same picture. Numbers are little-endian on
//! every machine that this crate supports; `byte_order` tells a foreign file. Reserved words are 0;
//! loom, which tracks every atomic, does without them.

use crate::sync::{AtomicU32, AtomicU64};

/// `annulus\x01` read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"annulus\x01");
/// The layout that this build writes and reads.
pub const VERSION: u32 = 1;
/// Reads as this number only in the byte order in which it was written.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Bytes of the header, as an opener reads them in one go.
pub const HEADER_BYTES: u64 = 2048;
/// Where the shared words begin.
pub const CONTROL_OFFSET: u64 = 2048;
/// Where row 1 begins.
pub const ROWS_OFFSET: u64 = 4096;
/// Bytes of one participant's row.
pub const ROW_BYTES: u64 = 512;
/// The data area begins at a multiple of this.
pub const PART_ALIGN: u64 = 64 * 1024;
/// Most participants that a ring can have: owner is 11 bits wide and 0 is nobody.
pub const MAX_PARTICIPANTS: u16 = 2047;
/// Byte of participant i's lock is `LOCK_BASE + i`, far beyond the end of any file.
pub const LOCK_BASE: u64 = 1 << 62;
/// Bytes of an element's name that the header holds.
pub const ELEMENT_NAME_BYTES: u32 = 256;

/// What the data area holds.
pub const KIND_SPSC_BYTES: u32 = 1;
/// What the data area holds.
pub const KIND_MPMC_SLOTS: u32 = 2;

/// An incompatible feature: the participants' locks lie on another file, which holds `ring_id`.
/// Of rings without a name only.
pub const LOCKS_APART: u64 = 1;

/// The constant part of the file, as numbers and without padding.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`], stored last with Release; 0 while the ring is being created.
    pub magic: u64,
    pub version: u32,
    pub byte_order: u32,
    /// Features that an opener must know to touch the ring at all: [`LOCKS_APART`].
    pub incompatible_features: u64,
    /// Features that an opener may ignore; none yet.
    pub compatible_features: u64,
    pub kind: u32,
    /// Rows, and so the most participants at a time.
    pub participants: u32,
    /// SPSC: bytes of the ring. MPMC: slots.
    pub capacity: u64,
    /// MPMC: bytes from slot to slot. SPSC: 8, the alignment of records.
    pub stride: u64,
    /// Longest record in bytes.
    pub max_record: u64,
    /// MPMC: bytes from a slot's word to its payload. SPSC: from a header to its payload, 8.
    pub payload_offset: u32,
    /// What the sweep does with a record that a dead consumer held: 0 deliver again without limit,
    /// 1 drop it, n + 1 deliver again n times at most (n of 1..=3). MPMC only.
    pub redelivery: u32,
    pub rows_offset: u64,
    pub data_offset: u64,
    pub data_bytes: u64,
    pub file_bytes: u64,
    pub ring_id: [u8; 16],
    /// One life of the ring's content.
    pub generation: u64,
    /// Position at which the ring began; 0 outside tests.
    pub origin: u64,
    /// The boot during which the ring was made; zeroes if the kernel does not say.
    pub boot_id: [u8; 16],
    pub created_unix_ns: u64,
    /// Typed rings: size, alignment and schema hash of the element; all 0 in an untyped ring.
    pub element_size: u64,
    pub element_align: u64,
    pub element_schema: u64,
    pub element_name_len: u32,
    /// 1: the ring lives in a memfd or another file without a name.
    pub anonymous: u32,
    pub element_name: [u8; ELEMENT_NAME_BYTES as usize],
    pub reserved: [u8; 1600],
}

/// The words that participants share.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    pub state: StateLine,
    /// Sleepers that wait for a record.
    pub items: EventLine,
    /// Sleepers that wait for space.
    pub space: EventLine,
    pub tail: TailLine,
    pub head: HeadLine,
    pub consumer: ConsumerLine,
    /// Where the newest records came from, if they came over a bridge.
    #[cfg(not(loom))]
    pub origins: OriginLine,
    /// Who must have confirmed a record before the bridge that reads this ring releases it.
    #[cfg(not(loom))]
    pub subscribers: [Subscriber; SUBSCRIBERS],
    #[cfg(not(loom))]
    pub seat: SeatLine,
}

/// Read often, written rarely, so that it stays shared in every cache.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct StateLine {
    /// Bit 0: the ring is closed for writing. Bit 1: a participant cannot use the asymmetric
    /// barrier, so that everybody fences for real.
    pub flags: AtomicU32,
    pub reserved: AtomicU32,
    /// How often something was handed back to be delivered again, or a participant recovered.
    pub recovery_epoch: AtomicU64,
}

/// Bit 0: somebody sleeps; bit 1: wakers fence for real; the rest counts wake-ups.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct EventLine {
    pub word: AtomicU32,
    #[cfg(loom)]
    pub lot: crate::sync::ParkingLot,
}

/// Producers' line. In the SPSC ring only its producer stores here.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct TailLine {
    /// MPMC: hint, at most the frontier. SPSC: unused, the journal tells the tail.
    pub hint: AtomicU64,
    /// SPSC: bytes that the producer has claimed and not committed; 0 for none.
    pub claim: AtomicU64,
    /// SPSC: where the producer is, written before each publication.
    pub journal: [JournalEntry; 2],
}

/// What a producer polls when the ring is full.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct HeadLine {
    /// MPMC: hint. SPSC: everything before it is released.
    pub position: AtomicU64,
}

/// The SPSC consumer's own words, apart from the head so that its stores do not disturb a producer
/// that polls it.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct ConsumerLine {
    /// SPSC: the position up to which the consumer has read ahead; the head if it holds nothing.
    pub claim: AtomicU64,
    /// SPSC: where the consumer is, written before each release.
    pub journal: [JournalEntry; 2],
}

/// A position and the number of records before it; of two entries one is always whole.
#[derive(Debug)]
#[repr(C)]
pub struct JournalEntry {
    pub end: AtomicU64,
    pub records: AtomicU64,
    #[cfg(not(loom))]
    pub reserved: [AtomicU64; 2],
}

/// Written by the producer that publishes records of another ring, before each publication.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(C, align(128))]
pub struct OriginLine {
    pub entries: [OriginEntry; 2],
}

/// How far another ring's records had come when this one's ended at `end`.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(C)]
pub struct OriginEntry {
    /// The end of the publication, MPMC: twice a number that grows, with bit 0 set; 0 says nothing.
    pub end: AtomicU64,
    /// Records of the other ring up to there, since it was created.
    pub records: AtomicU64,
    pub ring_id: [AtomicU64; 2],
    pub generation: AtomicU64,
    /// Of a ring whose records have no numbers of their own: the bridge that numbered them.
    pub life: AtomicU64,
    /// MPMC: the position that is committed with it, and by whom.
    pub position: AtomicU64,
    pub owner: AtomicU64,
}

/// A name, written by the consumer.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(C)]
pub struct Subscriber {
    /// Bytes of the name, 0 for an entry that nobody has. Stored last.
    pub len: AtomicU64,
    /// UTF-8, zeroes behind it.
    pub name: [AtomicU64; 7],
}

/// MPMC: who writes origins.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(C, align(128))]
pub struct SeatLine {
    /// The number of its row, and above bit 16 which life of that row; 0 for nobody.
    pub copier: AtomicU64,
}

/// How many subscribers a ring can be held for.
#[cfg(not(loom))]
pub const SUBSCRIBERS: usize = 16;
/// Longest name of a subscriber in bytes.
#[cfg(not(loom))]
pub const SUBSCRIBER_NAME_BYTES: usize = 56;

/// One participant. Written only by whoever holds the lock of its byte.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Row {
    /// [`ROW_FREE`], [`ROW_ATTACHED`] or [`ROW_RECOVERING`].
    pub state: AtomicU32,
    /// [`ROLE_PRODUCER`] or [`ROLE_CONSUMER`].
    pub role: AtomicU32,
    /// Display only, as are the five fields after it: liveness is the lock.
    pub pid: AtomicU32,
    pub reserved0: AtomicU32,
    /// Ticks since boot at which the process started.
    pub process_start: AtomicU64,
    pub attached_unix_ns: AtomicU64,
    /// How many participants have had this row.
    pub lives: AtomicU64,
    pub command: [AtomicU64; 4],
    /// 1 + the index of the slot whose claim is being aborted, 0 for none.
    pub abort_slot: AtomicU64,
    /// `counters.skipped` before that abort.
    pub skipped_base: AtomicU64,
    #[cfg(not(loom))]
    pub reserved1: [AtomicU64; 5],
    /// Totals over all lives of this row.
    pub counters: [AtomicU64; COUNTERS],
    #[cfg(not(loom))]
    pub reserved2: [AtomicU64; 7],
    /// `counters` when the present participant attached.
    pub baseline: [AtomicU64; COUNTERS],
    #[cfg(not(loom))]
    pub reserved3: [AtomicU64; 23],
}

/// Nobody uses the row.
pub const ROW_FREE: u32 = 0;
/// A participant uses the row; whether it lives is for the lock to say.
pub const ROW_ATTACHED: u32 = 1;
/// Its participant died and somebody is, or was, mending what it left.
pub const ROW_RECOVERING: u32 = 2;

/// The participant writes records.
pub const ROLE_PRODUCER: u32 = 1;
/// The participant reads records.
pub const ROLE_CONSUMER: u32 = 2;

/// How many counters a row has.
pub const COUNTERS: usize = 9;
/// Records committed. SPSC: as of when the producer attached, for the journal counts on.
pub const COMMITTED: usize = 0;
/// Records released. SPSC: as of when the consumer attached.
pub const RELEASED: usize = 1;
/// Claims refused because the ring was full.
pub const FULL: usize = 2;
/// Reads refused because the ring was empty.
pub const EMPTY: usize = 3;
/// Times the participant went to sleep.
pub const WAITS: usize = 4;
/// Participants of this row that died and were recovered.
pub const RECOVERED: usize = 5;
/// Records of this row's participants that were given back to be delivered again.
pub const REDELIVERED: usize = 6;
/// Claims of this row's participants that became nothing: aborted, or swept after a death. Exact.
pub const SKIPPED: usize = 7;
/// Records that a dead participant of this row held and that the ring's policy dropped.
pub const DROPPED: usize = 8;

impl Header {
    /// A header of zeroes, which no opener accepts.
    pub fn zeroed() -> Self {
        bytemuck::Zeroable::zeroed()
    }
}

impl Control {
    /// The words of a ring that begins at `origin`. A mapped file holds the same by being zeroed
    /// and having the six positions stored.
    pub fn new(origin: u64) -> Self {
        let entry = || JournalEntry {
            end: AtomicU64::new(origin),
            records: AtomicU64::new(0),
            #[cfg(not(loom))]
            reserved: zeroes(),
        };
        Self {
            state: StateLine {
                flags: AtomicU32::new(0),
                reserved: AtomicU32::new(0),
                recovery_epoch: AtomicU64::new(0),
            },
            items: EventLine::new(),
            space: EventLine::new(),
            tail: TailLine {
                hint: AtomicU64::new(origin),
                claim: AtomicU64::new(0),
                journal: [entry(), entry()],
            },
            head: HeadLine {
                position: AtomicU64::new(origin),
            },
            consumer: ConsumerLine {
                claim: AtomicU64::new(origin),
                journal: [entry(), entry()],
            },
            #[cfg(not(loom))]
            origins: OriginLine {
                entries: core::array::from_fn(|_| OriginEntry::new()),
            },
            #[cfg(not(loom))]
            subscribers: core::array::from_fn(|_| Subscriber::new()),
            #[cfg(not(loom))]
            seat: SeatLine {
                copier: AtomicU64::new(0),
            },
        }
    }
}

#[cfg(not(loom))]
impl OriginEntry {
    fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
            records: AtomicU64::new(0),
            ring_id: zeroes(),
            generation: AtomicU64::new(0),
            life: AtomicU64::new(0),
            position: AtomicU64::new(0),
            owner: AtomicU64::new(0),
        }
    }
}

#[cfg(not(loom))]
impl Subscriber {
    fn new() -> Self {
        Self {
            len: AtomicU64::new(0),
            name: zeroes(),
        }
    }
}

impl EventLine {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            #[cfg(loom)]
            lot: crate::sync::ParkingLot::new(),
        }
    }
}

impl Row {
    /// A row that nobody uses.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(ROW_FREE),
            role: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            reserved0: AtomicU32::new(0),
            process_start: AtomicU64::new(0),
            attached_unix_ns: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            command: zeroes(),
            abort_slot: AtomicU64::new(0),
            skipped_base: AtomicU64::new(0),
            #[cfg(not(loom))]
            reserved1: zeroes(),
            counters: zeroes(),
            #[cfg(not(loom))]
            reserved2: zeroes(),
            baseline: zeroes(),
            #[cfg(not(loom))]
            reserved3: zeroes(),
        }
    }
}

fn zeroes<const N: usize>() -> [AtomicU64; N] {
    core::array::from_fn(|_| AtomicU64::new(0))
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(
        cfg!(target_endian = "little"),
        "annulus supports little-endian machines only"
    );
    assert!(size_of::<Header>() as u64 == HEADER_BYTES);
    assert!(offset_of!(Header, kind) == 32);
    assert!(offset_of!(Header, capacity) == 40);
    assert!(offset_of!(Header, payload_offset) == 64);
    assert!(offset_of!(Header, rows_offset) == 72);
    assert!(offset_of!(Header, file_bytes) == 96);
    assert!(offset_of!(Header, ring_id) == 104);
    assert!(offset_of!(Header, boot_id) == 136);
    assert!(offset_of!(Header, element_size) == 160);
    assert!(offset_of!(Header, element_name) == 192);
    assert!(offset_of!(Header, reserved) == 448);

    assert!(CONTROL_OFFSET >= HEADER_BYTES);
    assert!(size_of::<Control>() as u64 <= ROWS_OFFSET - CONTROL_OFFSET);
    assert!(align_of::<Control>() == 128);
    assert!(offset_of!(Control, items) == 128);
    assert!(offset_of!(Control, space) == 256);
    assert!(offset_of!(Control, tail) == 384);
    assert!(offset_of!(Control, head) == 512);
    assert!(offset_of!(Control, consumer) == 640);
    assert!(offset_of!(Control, origins) == 768);
    assert!(offset_of!(Control, subscribers) == 896);
    assert!(offset_of!(Control, seat) == 1920);
    assert!(size_of::<Control>() == 2048);
    assert!(size_of::<OriginEntry>() == 64);
    assert!(size_of::<OriginLine>() == 128);
    assert!(size_of::<Subscriber>() == 64);
    assert!(SUBSCRIBER_NAME_BYTES == 7 * 8);
    assert!(offset_of!(StateLine, flags) == 0);
    assert!(offset_of!(StateLine, recovery_epoch) == 8);
    assert!(offset_of!(TailLine, claim) == 8);
    assert!(offset_of!(TailLine, journal) == 16);
    assert!(size_of::<JournalEntry>() == 32);
    assert!(offset_of!(ConsumerLine, journal) == 8);

    assert!(size_of::<Row>() as u64 == ROW_BYTES);
    assert!(align_of::<Row>() == 128);
    assert!(offset_of!(Row, process_start) == 16);
    assert!(offset_of!(Row, command) == 40);
    assert!(offset_of!(Row, abort_slot) == 72);
    assert!(offset_of!(Row, counters) == 128);
    assert!(offset_of!(Row, baseline) == 256);
    assert!(ROWS_OFFSET.is_multiple_of(ROW_BYTES));
};
