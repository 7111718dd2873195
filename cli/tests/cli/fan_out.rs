//! One ring to three others over TCP, while one of the four bridges is killed all the time.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::stream::{read, write};
use crate::support::{Ring, Running, annulus};

const RINGS: &[&str] = &["--spsc", "--capacity", "8MiB"];
const SUBSCRIBERS: usize = 3;
/// Between two kills.
const LIFE: Duration = Duration::from_millis(200);
/// At least, and as many more as it takes to kill often enough.
const RECORDS: u64 = 10_000_000;

/// Fewer show too little.
const KILLS: u64 = 10;

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
    let (begun, kills) = (Instant::now(), AtomicU64::new(0));
    let enough = || kills.load(Ordering::Relaxed) >= KILLS;
    let read = std::thread::scope(|scope| {
        scope.spawn(|| write(&from.path, |number| number < RECORDS || !enough()));
        let readers = to.each_ref().map(|ring| scope.spawn(|| read(&ring.path)));
        let mut number = 0;
        while !readers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            std::thread::sleep(LIFE);
            number = (number + 1) % (1 + SUBSCRIBERS);
            kills.fetch_add(u64::from(bridges.strike(number)), Ordering::Relaxed);
        }
        readers.map(|reader| reader.join().unwrap())
    });
    let (seconds, kills) = (begun.elapsed().as_secs_f64(), kills.into_inner());
    let all = from.number("committed_records");
    println!("{all} records into each of {SUBSCRIBERS} rings, {kills} kills, {seconds:.1} s");
    assert_eq!(read, [all; SUBSCRIBERS]);
    for ring in &to {
        assert_eq!(ring.number("committed_records"), all);
    }
}
