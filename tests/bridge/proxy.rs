//! Somebody in the middle who cuts, splits, changes and falls silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use annulus::bridge::Settings;

use crate::rig::{Running, assert_empty, consumer, pop, producer, push, settings};
use crate::suite::{Pair, Way};

/// What is done to one direction of one connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// The connection ends behind so many bytes.
    CutAfter(usize),
    /// Every byte is sent alone.
    SingleBytes,
    /// A bit of that byte is another.
    Flip(usize),
    /// Nothing goes on behind so many bytes, but the connection stays.
    SilentAfter(usize),
}

/// Stands before `target`. For the n-th connection, `faults` says what is done on the way to the
/// target, and back.
pub fn proxy(
    target: String,
    faults: impl Fn(usize) -> (Fault, Fault) + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let (there, back) = faults(count.fetch_add(1, Ordering::Relaxed));
            let Ok(far) = TcpStream::connect(&target) else {
                continue;
            };
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || pump(near, far, there));
            std::thread::spawn(move || pump(far2, near2, back));
        }
    });
    (at, connections)
}

fn pump(mut from: TcpStream, mut to: TcpStream, fault: Fault) {
    let mut bytes = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(count) = from.read(&mut bytes) {
        let mut some = &mut bytes[..count];
        let is_cut = match fault {
            Fault::CutAfter(limit) if passed + count >= limit => {
                some = &mut some[..limit - passed];
                true
            }
            Fault::SilentAfter(limit) if passed + count > limit => continue,
            Fault::Flip(place) if (passed..passed + count).contains(&place) => {
                some[place - passed] ^= 0x10;
                false
            }
            _ => count == 0,
        };
        passed += count;
        let written = match fault {
            Fault::SingleBytes => some.iter().try_for_each(|byte| to.write_all(&[*byte])),
            _ => to.write_all(some),
        };
        if is_cut || written.is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _gone = stream.shutdown(Shutdown::Both);
    }
}

/// A stream through a proxy; returns how many connections it took.
fn cross(
    records: u64,
    by: &Settings,
    faults: impl Fn(usize) -> (Fault, Fault) + Send + 'static,
) -> usize {
    cross_by(Way::Tcp, records, by, faults)
}

/// The same, in the one or the other way.
pub fn cross_by(
    way: Way,
    records: u64,
    by: &Settings,
    faults: impl Fn(usize) -> (Fault, Fault) + Send + 'static,
) -> usize {
    let pair = Pair::new(way, 1 << 20, 1 << 20);
    push(&mut producer(&pair.place.path("a")), 0..records);
    let sends = Running::with(&pair.a(), &pair.listen(""), by.clone()).unwrap();
    let (at, connections) = proxy(sends.at(), faults);
    let receives = Running::with(&pair.dial(&at, ""), &pair.b(), by.clone()).unwrap();
    let mut consumer = consumer(&pair.place.path("b"));
    pop(&mut consumer, 0..records);
    // A receiver whose sender stops calls again: that is no part of it.
    let taken = connections.load(Ordering::Relaxed);
    assert!(sends.stop().all_confirmed);
    assert!(receives.stop().all_confirmed);
    assert_empty(&mut consumer);
    taken
}

/// Frames of a few records, so that a cut may be anywhere in any kind of frame.
pub fn small() -> Settings {
    Settings {
        batch_bytes: 200,
        window_records: 10,
        ..settings()
    }
}

#[test]
fn a_connection_may_be_cut_behind_any_byte_of_either_direction() {
    // The first ones end within hello and welcome, all before the ninth record has come.
    const CUTS: usize = 500;
    let cut = |number: usize| match number {
        number if number >= CUTS => (Fault::None, Fault::None),
        number if number.is_multiple_of(2) => (Fault::CutAfter(number / 2), Fault::None),
        number => (Fault::None, Fault::CutAfter(number / 2)),
    };
    assert!(cross(3000, &small(), cut) > CUTS);
}

#[test]
fn bytes_may_come_one_by_one() {
    let alone = |_| (Fault::SingleBytes, Fault::SingleBytes);
    assert_eq!(cross(300, &small(), alone), 1);
}

#[test]
fn a_byte_that_is_changed_on_its_way_is_found() {
    const CHANGED: usize = 400;
    let flip = |number: usize| match number {
        number if number >= CHANGED => (Fault::None, Fault::None),
        number if number.is_multiple_of(2) => (Fault::Flip(number / 2), Fault::None),
        number => (Fault::None, Fault::Flip(number / 2)),
    };
    let by = Settings {
        // A length that was changed makes a wait for bytes that do not come.
        silence: Duration::from_millis(50),
        ..small()
    };
    assert!(cross(1500, &by, flip) > 100);
}

#[test]
fn a_peer_that_falls_silent_is_left() {
    let silent = |number: usize| match number {
        0..4 => (Fault::SilentAfter(number * 150), Fault::None),
        4..8 => (Fault::None, Fault::SilentAfter(number * 150)),
        _ => (Fault::None, Fault::None),
    };
    let by = Settings {
        silence: Duration::from_millis(100),
        ..small()
    };
    // Many more than the first eight let through, an acknowledgement standing for ten.
    assert!(cross(1000, &by, silent) > 8);
}
