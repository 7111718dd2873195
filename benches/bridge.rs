//! cargo bench --all-features --bench bridge
//!
//! A ring, a bridge, TCP on loopback, a bridge, a ring, beside what the loopback does with the same
//! bytes in writes of 256 KiB and nothing else: in turns, as ratios. The bridged way has four
//! threads, its floor two, so on two processors it shares them.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use annulus::bridge::{Bridge, Event, Settings};
use annulus::segment::AttachOptions;
use annulus::{Wait, spsc};
use common::Shelf;

const CAPACITY: u64 = 8 << 20;
const BLOCK: usize = 256 << 10;
/// Turns, and bytes of payload in each.
const ROUNDS: usize = 9;
const BYTES: usize = 256 << 20;

/// So many bytes from one thread to another.
fn floor(bytes: usize) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let writer = thread::spawn(move || {
        let mut to = TcpStream::connect(at).expect("it listens");
        let block = vec![7; BLOCK];
        let mut left = bytes;
        while left > 0 {
            let some = left.min(BLOCK);
            to.write_all(&block[..some]).expect("it is read");
            left -= some;
        }
    });
    let (mut from, _) = listener.accept().expect("a caller");
    let (mut block, mut sum) = (vec![0; BLOCK], 0);
    let begun = Instant::now();
    // Ends with the stream.
    loop {
        match from.read(&mut block).expect("no error") {
            0 => break,
            count => sum += count,
        }
    }
    let took = begun.elapsed();
    assert_eq!(sum, bytes, "all came");
    writer.join().expect("no panic");
    took
}

/// Runs a bridge until `stop` is written to; says where it listens, if it does.
fn bridge(ends: [String; 2], stop: std::io::PipeReader, says: impl Fn(String) + Send + 'static) {
    let [source, destination] = ends.map(|end| end.parse().expect("an end"));
    let (settings, options) = (Settings::default(), AttachOptions::default());
    // SAFETY: the file is in a folder that only this user enters and only this program uses.
    let bridge = unsafe { Bridge::attach(source, destination, settings, &options) };
    let bridge = bridge.expect("two ends");
    let ran = bridge.run(stop.as_fd(), &mut |event| {
        if let Event::Listening { at } = event {
            says((*at).to_owned());
        }
    });
    ran.expect("nothing fails here");
}

/// What each 8 bytes of a record are, other ones in each record.
fn pattern(number: u32) -> [u8; 8] {
    (u64::from(number) << 32 | u64::from(!number)).to_le_bytes()
}

/// So many records from one ring into another, each checked.
fn bridged(len: usize, records: u32) -> Duration {
    let shelf = Shelf::new();
    let paths = [shelf.path("a"), shelf.path("b")];
    for path in &paths {
        spsc::Options::new(CAPACITY)
            .create(path)
            .expect("a new ring");
    }
    let [from, to] = paths
        .each_ref()
        .map(|path| format!("ring:{}", path.display()));
    let (stops, mut stop) = pipe().expect("a pipe");
    let (other_stops, mut other_stop) = pipe().expect("a pipe");
    let (says, said) = channel();
    let sends = thread::spawn(move || {
        let ends = [from, "tcp-listen://127.0.0.1:0".to_owned()];
        bridge(ends, stops, move |at| drop(says.send(at)));
    });
    let at = said.recv().expect("it listens");
    let receives = thread::spawn(move || bridge([format!("tcp://{at}"), to], other_stops, |_| {}));
    let mut producer = common::spsc_producer(&paths[0]);
    let mut consumer = common::spsc_consumer(&paths[1]);
    let mut push = move |number: u32| {
        let mut claim = producer
            .claim(len, Wait::block())
            .expect("nobody closes it");
        let bytes = pattern(number);
        for word in claim.chunks_exact_mut(8) {
            word.copy_from_slice(&bytes);
        }
        claim.commit(number);
    };
    let mut pop = |number: u32| {
        let record = consumer.read(Wait::block()).expect("nobody closes it");
        assert_eq!((record.len(), record.tag()), (len, number));
        let expected = u64::from_le_bytes(pattern(number));
        // Without a branch for each word, so that several are compared at once.
        let differing = record.chunks_exact(8).fold(0, |differing, word| {
            let word = word.try_into().expect("8 bytes");
            differing | (u64::from_le_bytes(word) ^ expected)
        });
        assert_eq!(differing, 0, "record {number}");
        record.release();
    };
    // The connection is there.
    push(0);
    pop(0);
    let begun = Instant::now();
    let writer = thread::spawn(move || (1..=records).for_each(push));
    (1..=records).for_each(pop);
    let took = begun.elapsed();
    writer.join().expect("no panic");
    for stop in [&mut stop, &mut other_stop] {
        stop.write_all(b"x").expect("it runs");
    }
    for bridge in [sends, receives] {
        bridge.join().expect("no panic");
    }
    took
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() {
    // `cargo bench -- --test` shows that it works, and nothing about speed.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, bytes) = if is_test {
        (1, 1 << 20)
    } else {
        (ROUNDS, BYTES)
    };
    println!("payload   bridged      floor       bridged / floor, median (least..greatest)");
    for len in [64, 1024, 16 << 10] {
        let mut turns: Vec<[f64; 3]> = (0..rounds)
            .map(|_| {
                let throughput = |took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
                let floor = throughput(floor(bytes));
                let records = u32::try_from(bytes / len).expect("so few");
                let bridged = throughput(bridged(len, records));
                [bridged / floor, bridged, floor]
            })
            .collect();
        turns.sort_by(|one, other| one[0].total_cmp(&other[0]));
        let ([least, ..], [greatest, ..]) = (turns[0], turns[turns.len() - 1]);
        let [ratio, bridged, floor] = turns[turns.len() / 2];
        println!(
            "{len:>5} B  {bridged:>5.0} MB/s  {floor:>5.0} MB/s  {ratio:.2} \
             ({least:.2}..{greatest:.2})"
        );
    }
}
