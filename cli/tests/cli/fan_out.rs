//! One ring to three others over TCP, while one of the four bridges is killed all the time.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use annulus::{Wait, spsc};

use crate::support::{Ring, Running, annulus};

const RINGS: &[&str] = &["--spsc", "--capacity", "8MiB"];
const SUBSCRIBERS: usize = 3;
/// Between two kills.
const LIFE: Duration = Duration::from_millis(200);
/// Without a record for so long it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

const RECORDS: u64 = 10_000_000;

/// Bytes of a record: mostly some tens, at times many thousands, and of its number's own.
fn len_of(number: u64) -> usize {
    let len = match number % 1000 {
        999 => 5000 + number % 7919,
        rest => 8 + rest * 7 % 90,
    };
    usize::try_from(len).unwrap()
}

fn fill(bytes: &mut [u8], number: u64) {
    bytes.fill(number.to_le_bytes()[0]);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
}

fn is_whole(bytes: &[u8], number: u64) -> bool {
    let (head, rest) = bytes.split_at(8);
    bytes.len() == len_of(number)
        && head == number.to_le_bytes()
        && rest.iter().all(|byte| *byte == head[0])
}

fn wait() -> Wait {
    Wait::block().for_at_most(PATIENCE)
}

fn write(path: &Path, all: u64) {
    // SAFETY: only this test and the command use the file.
    let mut ring = unsafe { spsc::Producer::attach(path) }.unwrap();
    for number in 0..all {
        let mut claim = ring.claim(len_of(number), wait()).unwrap();
        fill(&mut claim, number);
        claim.commit(7);
    }
    ring.close();
}

/// Each record, in order and whole, and then the end.
fn read(path: &Path, all: u64) {
    // SAFETY: as for the producer.
    let mut ring = unsafe { spsc::Consumer::attach(path) }.unwrap();
    for number in 0..all {
        let record = ring.read(wait()).unwrap();
        assert!(
            is_whole(&record, number) && record.tag() == 7,
            "no {number}"
        );
        record.release();
    }
    assert_eq!(ring.read(wait()).err(), Some(annulus::ReadError::Closed));
}

/// The four bridges: the sender, then the receivers.
struct Bridges {
    ends: [(String, String); 1 + SUBSCRIBERS],
    running: [Option<Running>; 1 + SUBSCRIBERS],
}

impl Bridges {
    fn start(&mut self, number: usize) {
        let (source, destination) = &self.ends[number];
        let mut command = annulus(["bridge", source, destination]);
        // What it says may be much: nobody reads it meanwhile.
        command.stderr(Stdio::null());
        self.running[number] = Some(Running(command.spawn().unwrap()));
    }

    /// Kills one and starts it again. False if it has ended by itself, all being done.
    fn strike(&mut self, number: usize) -> bool {
        let lives = self.running[number].take().is_some_and(Running::strike);
        if lives {
            self.start(number);
        }
        lives
    }
}

/// A port that nobody listens at, and that no caller is given: a call to a bridge that is down must
/// not be answered by itself.
fn free_port() -> u16 {
    let first = u16::try_from(std::process::id() % 20_000).unwrap();
    let mut ports = (0..20_000).map(|number| 10_000 + (first + number) % 20_000);
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.expect("one of so many")
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "how often it killed is part of what it shows"
)]
fn each_of_three_rings_gets_each_record_once_while_bridges_are_killed() {
    let all = RECORDS;
    let from = Ring::new(RINGS);
    let to: [Ring; SUBSCRIBERS] = std::array::from_fn(|_| Ring::new(RINGS));
    let port = free_port();
    let end = |ring: &Ring| format!("ring:{}", ring.path.display());
    let mut ends = vec![(
        end(&from),
        format!("tcp-listen://127.0.0.1:{port}?subscribers=3"),
    )];
    ends.extend(
        to.iter()
            .map(|ring| (format!("tcp://127.0.0.1:{port}"), end(ring))),
    );
    let mut bridges = Bridges {
        ends: ends.try_into().unwrap(),
        running: [const { None }; 1 + SUBSCRIBERS],
    };
    (0..=SUBSCRIBERS).for_each(|number| bridges.start(number));
    let (begun, mut kills) = (Instant::now(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&from.path, all));
        let readers = to
            .each_ref()
            .map(|ring| scope.spawn(|| read(&ring.path, all)));
        let mut number = 0;
        while !readers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            std::thread::sleep(LIFE);
            number = (number + 1) % (1 + SUBSCRIBERS);
            kills += u64::from(bridges.strike(number));
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{all} records into each of {SUBSCRIBERS} rings, {kills} kills, {seconds:.1} s");
    for ring in &to {
        assert_eq!(ring.number("committed_records"), all);
    }
    assert!(kills >= 10, "only {kills} kills: too few to show anything");
}
