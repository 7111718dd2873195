//! Both rings against a `VecDeque`: any sequence of operations, answer by answer.
//!
//! | file | for |
//! | --- | --- |
//! | `properties/ops.rs` | the operations, shared with the fuzz target `ops_model` |
//! | `properties/spsc.rs`, `properties/mpmc.rs` | the oracles and how they are compared |
//! | `properties/runs.rs` | records that go from ring to ring as bytes |
//!
//! Positions begin shortly before each place where something wraps: 2^32, 2^63, 2^64, and in the
//! slot ring the end of the 48-bit lap.

mod properties {
    pub(crate) mod mpmc;
    pub(crate) mod ops;
    pub(crate) mod runs;
    pub(crate) mod spsc;
}

use annulus::typed::{Element, ElementMismatch, schema_hash};
use annulus::{Location, TryReadError, Wait, mpmc as slots, spsc as bytes};
use bytemuck::{Pod, Zeroable};
use proptest::prelude::*;

use properties::ops::{Expected, Step};
use properties::{mpmc, runs, spsc};

/// Bytes of the byte rings: the smallest that there are, so that everything wraps often.
const CAPACITY: u64 = 4096;
const HEAP_CASES: u32 = if cfg!(miri) { 4 } else { 512 };
const FILE_CASES: u32 = 48;
const LONGEST: usize = if cfg!(miri) { 32 } else { 400 };

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        // A failure prints its steps; one that matters becomes a test with a name.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<(u8, u16, u32)>().prop_map(Step::of), 0..LONGEST)
}

/// Up to `reach` before a wrap.
fn origins(wraps: &'static [u64], reach: u64) -> impl Strategy<Value = u64> {
    let wrap = proptest::sample::select(wraps);
    (wrap, 0..=reach).prop_map(|(wrap, before)| wrap.wrapping_sub(before))
}

/// 0 stands for 2^64.
const BYTE_WRAPS: [u64; 3] = [0, 1 << 32, 1 << 63];

fn slot_origins(slots: u64) -> impl Strategy<Value = u64> {
    let wraps = vec![0, 1 << 32, 1 << 63, slots << 48, slots << 47];
    let wrap = proptest::sample::select(wraps);
    (wrap, 0..=3 * slots).prop_map(|(wrap, before)| wrap.wrapping_sub(before))
}

/// Slots, bytes of one, and where positions begin.
fn slot_rings() -> impl Strategy<Value = (u64, u64, u64)> {
    (1..=6_u32, 0..=200_u64).prop_flat_map(|(bits, slot_bytes)| {
        let slots = 1 << bits;
        (Just(slots), Just(slot_bytes), slot_origins(slots))
    })
}

/// A path in memory for one ring, which is removed with the folder.
fn somewhere() -> (tempfile::TempDir, Location) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder for the test");
    let location = Location::path(folder.path().join("ring"));
    (folder, location)
}

proptest! {
    #![proptest_config(config(HEAP_CASES))]

    #[test]
    fn a_byte_ring_in_memory_answers_as_its_oracle(
        origin in origins(&BYTE_WRAPS, 3 * CAPACITY),
        steps in steps(),
    ) {
        spsc::run_on_heap(CAPACITY, origin, &steps);
    }

    #[test]
    fn a_slot_ring_in_memory_answers_as_its_oracle(
        (slots, slot_bytes, origin) in slot_rings(),
        steps in steps(),
    ) {
        mpmc::run_on_heap(slots, slot_bytes, origin, &steps);
    }
}

/// A header that may be a record's, and what follows it: often whole records, often not.
fn nearly_records() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..8_u64, 0..48_usize, any::<u32>()).prop_map(|(kind, len, tag)| {
        let kind = if kind > 3 { 1 } else { kind };
        let header = u64::from(tag) << 32 | (len as u64) << 2 | kind;
        let payload = std::iter::repeat_n(tag.to_le_bytes()[0], len.next_multiple_of(8));
        header.to_le_bytes().into_iter().chain(payload).collect()
    });
    let pieces =
        proptest::collection::vec(piece, 0..12).prop_map(|pieces: Vec<Vec<u8>>| pieces.concat());
    (pieces, 0..40_usize).prop_map(|(mut bytes, cut)| {
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(20)));
        bytes
    })
}

proptest! {
    #![proptest_config(config(HEAP_CASES))]

    #[test]
    fn records_that_go_on_in_runs_stay_what_they_are(
        origins in (origins(&BYTE_WRAPS, 3 * CAPACITY), origins(&BYTE_WRAPS, 3 * CAPACITY)),
        lens in proptest::collection::vec((0..600_usize, 0..4_u8), 1..LONGEST),
        most in 8..6000_u64,
        takes in proptest::collection::vec(1..40_usize, 1..5),
    ) {
        let records: Vec<Vec<u8>> = (0..)
            .zip(&lens)
            .map(|(number, (len, short))| {
                // Mostly short ones, so that many go in one piece.
                let len = if *short > 0 { len / 16 } else { len * 3 };
                Expected::content(number, len)
            })
            .collect();
        runs::relay(origins.into(), &records, most, &takes);
    }

    #[test]
    fn of_bytes_that_are_no_records_nothing_is_taken(
        origin in origins(&BYTE_WRAPS, 3 * CAPACITY),
        bytes in nearly_records(),
    ) {
        runs::take_what_is_whole(origin, &bytes);
    }
}

proptest! {
    #![proptest_config(config(FILE_CASES))]

    #[test]
    fn a_byte_ring_in_a_file_answers_as_its_oracle_and_its_observer(
        origin in origins(&BYTE_WRAPS, 3 * CAPACITY),
        steps in steps(),
    ) {
        let (_folder, location) = somewhere();
        let options = bytes::Options::new(CAPACITY).starting_at(origin);
        options.create(&location).expect("a ring for the test");
        spsc::run_in_file(location, origin, &steps);
    }

    #[test]
    fn a_slot_ring_in_a_file_answers_as_its_oracle_and_its_observer(
        (slots, slot_bytes, origin) in slot_rings(),
        steps in steps(),
    ) {
        let (_folder, location) = somewhere();
        let options = slots::Options::new(slots, slot_bytes).starting_at(origin);
        options.create(&location).expect("a ring for the test");
        mpmc::run_in_file(location, origin, &steps);
    }
}

proptest! {
    #![proptest_config(config(HEAP_CASES))]

    /// The rule of the byte ring's documentation, for one record in an empty ring: header, payload
    /// to the next multiple of 8, padding before it if it does not fit before the end, and 8 bytes.
    #[test]
    fn the_longest_record_fits_an_empty_ring_wherever_its_head_stands(
        origin in origins(&BYTE_WRAPS, 3 * CAPACITY),
        short in 0..3_usize,
    ) {
        let options = bytes::Options::new(CAPACITY).starting_at(origin);
        let (mut producer, mut consumer) = options.heap().expect("a possible ring");
        prop_assert_eq!(producer.max_record(), 2040);
        prop_assert_eq!(consumer.max_record(), 2040);
        let payload = Expected::content(origin, producer.max_record() - short);
        for tag in 0..4 {
            producer.try_push(tag, &payload).expect("the ring is empty");
            let record = consumer.try_read().expect("a record was pushed");
            prop_assert_eq!(record.tag(), tag);
            prop_assert_eq!(&record[..], &payload[..]);
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_with_both_lengths(
        slot_bytes in 0..300_usize,
        more in 1..100_usize,
    ) {
        let (producer, _consumer) =
            slots::Options::new(2, slot_bytes as u64).heap().expect("a possible ring");
        let (len, max) = (slot_bytes + more, slot_bytes);
        let refusal = annulus::TryClaimError::TooLong { len, max };
        prop_assert_eq!(producer.try_push(0, &vec![0; len]), Err(refusal));
        let text = format!("a record of {len} bytes is too long, this ring takes at most {max}");
        prop_assert_eq!(refusal.to_string(), text);
    }
}

macro_rules! element {
    ($name:ident, $align:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
        #[repr(C, align($align))]
        struct $name([u64; 16]);

        impl Element for $name {
            const NAME: &'static str = concat!("test.", stringify!($name));
            const SCHEMA: u64 = schema_hash("sixteen: [u64; 16]");
        }
    };
}

element!(By8, 8);
element!(By32, 32);
element!(By64, 64);
element!(By128, 128);

/// Pushes and reads elements in place, and looks at their addresses.
fn round_trip<T: Element + PartialEq + core::fmt::Debug>(content: &[T]) {
    let options = slots::Options::new(4, size_of::<T>() as u64).element::<T>();
    let (producer, consumer) = options.heap().expect("a possible ring");
    let producer = producer.typed::<T>().expect("the same element");
    let consumer = consumer.typed::<T>().expect("the same element");
    for (tag, element) in (0..).zip(content) {
        let mut claim = producer.try_claim().expect("the ring has space");
        assert_eq!(core::ptr::from_ref::<T>(&claim).addr() % align_of::<T>(), 0);
        *claim = *element;
        claim.commit(tag);
        let record = consumer.try_read().expect("an element was pushed");
        assert_eq!(
            core::ptr::from_ref::<T>(&record).addr() % align_of::<T>(),
            0
        );
        assert_eq!((record.tag(), &*record), (tag, element));
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn elements_come_back_aligned_and_as_they_were(
        content in proptest::collection::vec(any::<[u64; 16]>(), 0..12),
    ) {
        round_trip(&content.iter().map(|words| By8(*words)).collect::<Vec<_>>());
        round_trip(&content.iter().map(|words| By32(*words)).collect::<Vec<_>>());
        round_trip(&content.iter().map(|words| By64(*words)).collect::<Vec<_>>());
        round_trip(&content.iter().map(|words| By128(*words)).collect::<Vec<_>>());
    }

    #[test]
    fn elements_come_back_from_a_byte_ring(
        content in proptest::collection::vec(any::<[u64; 16]>(), 0..100),
        origin in origins(&BYTE_WRAPS, CAPACITY),
    ) {
        let options = bytes::Options::new(CAPACITY).element::<By8>().starting_at(origin);
        let (producer, consumer) = options.heap().expect("a possible ring");
        let mut producer = producer.typed::<By8>().expect("the same element");
        let mut consumer = consumer.typed::<By8>().expect("the same element");
        for words in content {
            producer.try_push(7, &By8(words)).expect("the ring is empty");
            prop_assert_eq!(*consumer.try_read().expect("an element was pushed"), By8(words));
        }
    }
}

#[test]
fn elements_in_a_file_keep_their_alignment_for_everybody() {
    let (_folder, location) = somewhere();
    let options = slots::Options::new(4, 128).element::<By128>();
    options.create(&location).expect("a ring for the test");
    // SAFETY: nobody but this test uses the file, and through this library only.
    let producer = unsafe { slots::Producer::attach(&location) }.expect("a row is free");
    // SAFETY: as for the producer.
    let consumer = unsafe { slots::Consumer::attach(&location) }.expect("a row is free");
    let producer = producer.typed::<By128>().expect("the same element");
    let consumer = consumer.typed::<By128>().expect("the same element");
    let element = By128(core::array::from_fn(|at| at as u64));
    for _ in 0..9 {
        producer
            .push(1, &element, Wait::block())
            .expect("the ring is empty");
        let record = consumer.read(Wait::block()).expect("an element was pushed");
        assert_eq!(core::ptr::from_ref::<By128>(&record).addr() % 128, 0);
        assert_eq!(*record, element);
    }
}

#[test]
fn a_mismatch_of_elements_names_both() {
    let options = slots::Options::new(4, 128).element::<By32>();
    let (producer, consumer) = options.heap().expect("a possible ring");
    let schema = By32::SCHEMA;
    let expected = format!(
        "the ring holds `test.By32` (128 bytes, alignment 32, schema {schema:#018x}), \
         expected `test.By64` (128 bytes, alignment 64, schema {schema:#018x})"
    );
    let mismatch: ElementMismatch = producer.typed::<By64>().expect_err("another element");
    assert_eq!(mismatch.to_string(), expected);
    let mismatch = consumer.typed::<By64>().expect_err("another element");
    assert_eq!(mismatch.to_string(), expected);
}

#[test]
fn a_typed_handle_of_an_untyped_ring_is_refused() {
    let (producer, consumer) = bytes::Options::new(4096).heap().expect("a possible ring");
    let schema = By8::SCHEMA;
    let expected = format!(
        "the ring is untyped, expected `test.By8` (128 bytes, alignment 8, schema {schema:#018x})"
    );
    let mismatch = producer.typed::<By8>().expect_err("no element");
    assert_eq!(mismatch.to_string(), expected);
    let mismatch = consumer.typed::<By8>().expect_err("no element");
    assert_eq!(mismatch.to_string(), expected);
}

#[test]
fn an_element_that_the_payloads_cannot_carry_is_refused_at_creation() {
    let refusal = |options: slots::Options| options.heap().expect_err("impossible").to_string();
    assert_eq!(
        refusal(slots::Options::new(4, 120).element::<By8>()),
        "the element's size is 128, expected at most the longest record, 120 bytes"
    );
    // A payload of the byte ring begins at any multiple of 8.
    let aligned = bytes::Options::new(4096).element::<By32>();
    assert_eq!(
        aligned.heap().expect_err("impossible").to_string(),
        "the element's alignment is 32, expected one that the payloads have"
    );
}

#[test]
fn a_record_that_is_no_element_is_refused_and_passed() {
    let options = slots::Options::new(4, 200).element::<By8>();
    let (producer, consumer) = options.heap().expect("a possible ring");
    let consumer = consumer.typed::<By8>().expect("the same element");
    producer.try_push(1, &[7; 127]).expect("the ring is empty");
    producer.try_push(2, &[7; 128]).expect("the ring has space");
    let Err(TryReadError::Damaged(damage)) = consumer.try_read() else {
        panic!("127 bytes are no element");
    };
    assert_eq!(
        damage.to_string(),
        "a typed record's length is 0x7f, expected the size of the element"
    );
    assert_eq!(consumer.try_read().expect("the next one").tag(), 2);
}
