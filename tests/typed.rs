//! Typed handles: each operation, on both rings, does what that of the untyped one does.

use annulus::{ReadError, TryClaimError, TryReadError, Wait, mpmc, spsc, typed};
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Quote {
    instrument: u64,
    price_ticks: i64,
}

impl typed::Element for Quote {
    const NAME: &'static str = "test.Quote";
    const SCHEMA: u64 = typed::schema_hash("instrument: u64, price_ticks: i64");
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Trade {
    instrument: u64,
    volume: u64,
}

impl typed::Element for Trade {
    const NAME: &'static str = "test.Trade";
    const SCHEMA: u64 = 0;
}

fn quote(number: u64) -> Quote {
    Quote {
        instrument: number,
        price_ticks: -3,
    }
}

/// The vectors of RFC 9923, appendix C.
#[test]
fn a_schema_is_hashed_as_the_rfc_does() {
    assert_eq!(typed::schema_hash(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(typed::schema_hash("a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(typed::schema_hash("foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn elements_go_through_a_ring_of_slots() {
    let options = mpmc::Options::new(4, 16).element::<Quote>();
    let (producer, consumer) = options.heap().unwrap();
    let producer = producer.typed::<Quote>().unwrap();
    let consumer = consumer.typed::<Quote>().unwrap();

    let mut claim = producer.try_claim().unwrap();
    *claim = quote(1);
    assert_eq!(claim.instrument, 1);
    claim.commit(10);
    let mut claim = producer.claim(Wait::block()).unwrap();
    *claim = quote(2);
    claim.commit(20);
    producer.try_push(30, &quote(3)).unwrap();
    producer.push(40, &quote(4), Wait::block()).unwrap();
    assert_eq!(producer.try_push(50, &quote(5)), Err(TryClaimError::Full));

    let first = consumer.try_read().unwrap();
    assert_eq!((first.tag(), *first), (10, quote(1)));
    first.requeue();
    let again = consumer.read(Wait::block()).unwrap();
    assert_eq!((again.tag(), *again), (10, quote(1)));
    drop(again);
    for number in 2..=4 {
        let record = consumer.read(Wait::block()).unwrap();
        assert_eq!((record.tag(), *record), (number * 10, quote(number.into())));
    }
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
    producer.into_inner().close();
    let ended = consumer.read(Wait::block()).unwrap_err();
    assert_eq!(ended, ReadError::Closed);
    assert_eq!(consumer.into_inner().slots(), 4);
}

#[test]
fn elements_go_through_a_ring_of_bytes() {
    let options = spsc::Options::new(4096).element::<Quote>();
    let (producer, consumer) = options.heap().unwrap();
    let mut producer = producer.typed::<Quote>().unwrap();
    let mut consumer = consumer.typed::<Quote>().unwrap();

    let mut claim = producer.try_claim().unwrap();
    *claim = quote(1);
    assert_eq!(claim.instrument, 1);
    claim.commit(10);
    let mut claim = producer.claim(Wait::block()).unwrap();
    *claim = quote(2);
    claim.commit(20);
    producer.try_push(30, &quote(3)).unwrap();
    producer.push(40, &quote(4), Wait::block()).unwrap();
    for number in 1..=4 {
        let record = if number % 2 == 0 {
            consumer.read(Wait::block()).unwrap()
        } else {
            consumer.try_read().unwrap()
        };
        assert_eq!((record.tag(), *record), (number * 10, quote(number.into())));
    }
    assert_eq!(consumer.try_read().unwrap_err(), TryReadError::Empty);
    assert_eq!(producer.into_inner().committed_records(), 4);
    assert_eq!(consumer.into_inner().released_records(), 4);
}

#[test]
fn a_ring_of_another_type_or_of_none_is_refused_with_both_names() {
    let (producer, consumer) = spsc::Options::new(4096).element::<Trade>().heap().unwrap();
    let error = producer.typed::<Quote>().unwrap_err();
    let text = error.to_string();
    for part in [
        "the ring holds `test.Trade` (16 bytes",
        "expected `test.Quote` (16 bytes",
    ] {
        assert!(text.contains(part), "{text}");
    }
    consumer.typed::<Trade>().unwrap();
    let (producer, consumer) = mpmc::Options::new(4, 16).heap().unwrap();
    let error = producer.typed::<Quote>().unwrap_err();
    assert!(
        error.to_string().starts_with("the ring is untyped"),
        "{error}"
    );
    consumer.typed::<Quote>().unwrap_err();
}

/// An untyped handle can write what is no element; the reader goes on behind it.
#[test]
fn a_record_that_is_no_element_is_an_error_and_is_passed() {
    let options = mpmc::Options::new(4, 16).element::<Quote>();
    let (producer, consumer) = options.heap().unwrap();
    let consumer = consumer.typed::<Quote>().unwrap();
    producer.try_push(1, b"short").unwrap();
    assert!(matches!(consumer.try_read(), Err(TryReadError::Damaged(_))));
    producer.try_push(1, b"short").unwrap();
    assert!(matches!(
        consumer.read(Wait::block()),
        Err(ReadError::Damaged(_))
    ));
    let producer = producer.typed::<Quote>().unwrap();
    producer.try_push(2, &quote(2)).unwrap();
    assert_eq!(*consumer.try_read().unwrap(), quote(2));

    let options = spsc::Options::new(4096).element::<Quote>();
    let (mut producer, consumer) = options.heap().unwrap();
    let mut consumer = consumer.typed::<Quote>().unwrap();
    producer.try_push(1, b"short").unwrap();
    assert!(matches!(consumer.try_read(), Err(TryReadError::Damaged(_))));
    producer.try_push(1, b"short").unwrap();
    assert!(matches!(
        consumer.read(Wait::block()),
        Err(ReadError::Damaged(_))
    ));
    let mut producer = producer.typed::<Quote>().unwrap();
    producer.try_push(2, &quote(2)).unwrap();
    assert_eq!(*consumer.try_read().unwrap(), quote(2));
}
