//! Bridges between hosts with addresses of their own, and what becomes of their network.

use std::fs::{File, read_to_string};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::network::Network;
use crate::stream::{read, read_some, write};
use crate::support::{Ring, Running};

const RECORDS: u64 = 1_000_000;
const CAPACITY: &[&str] = &["--spsc", "--capacity", "8MiB"];
/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds after which a peer is missed.
const SILENCE: &str = "2";

/// A bridge on a host, and what it says.
struct Bridge {
    _running: Running,
    log: PathBuf,
}

impl Bridge {
    /// Its log is put beside `ring`.
    fn new(network: &Network, host: usize, ring: &Ring, ends: [&str; 2]) -> Self {
        let log = ring.dir.path().join("log");
        let mut command = network.command(host, env!("CARGO_BIN_EXE_annulus"));
        command.args(["bridge", "--silence", SILENCE]).args(ends);
        command.stderr(File::create(&log).unwrap());
        let _running = Running(command.spawn().unwrap());
        Self { _running, log }
    }

    /// How many of its lines have all of these words.
    fn said(&self, words: &[&str]) -> usize {
        let text = read_to_string(&self.log).unwrap();
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has_all).count()
    }

    /// Waits until it has said that more often than `before`. Returns how long that took.
    #[track_caller]
    fn says(&self, words: &[&str], before: usize) -> Duration {
        let begun = Instant::now();
        until(&format!("{words:?}"), || self.said(words) > before);
        begun.elapsed()
    }
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn end(ring: &Ring) -> String {
    format!("ring:{}", ring.path.display())
}

fn committed(ring: &Ring) -> u64 {
    let location = annulus::Location::from(&ring.path);
    annulus::segment::inspect(&location)
        .unwrap()
        .committed_records
}

const MISSED: &[&str] = &["WARN lost", "the peer is silent"];

/// A ring on one host, and its copies on two others. On the way packets are lost; then one host
/// loses its cable, and the other one its address, each for longer than silence is borne, so that
/// every connection ends without a word.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "what the network did is part of what it shows"
)]
fn two_hosts_get_each_record_once_whatever_their_network_does() {
    let network = Network::new(3);
    let from = Ring::new(CAPACITY);
    let to = [Ring::new(CAPACITY), Ring::new(CAPACITY)];
    let at = format!("{}:7400", Network::at(0));
    let listen = format!("tcp-listen://{at}?subscribers=2");
    let sends = Bridge::new(&network, 0, &from, [&end(&from), &listen]);
    let dial = format!("tcp://{at}");
    let receive = |number: usize| {
        let ring = &to[number];
        Bridge::new(&network, number + 1, ring, [&dial, &end(ring)])
    };
    let receives = [receive(0), receive(1)];
    let way = network.worsen(&[1, 2]);
    let begun = Instant::now();
    let (lost, took, read) = std::thread::scope(|scope| {
        scope.spawn(|| write(&from.path, |number| number < RECORDS));
        let readers = to.each_ref().map(|ring| scope.spawn(|| read(&ring.path)));
        let reach = |part: u64| {
            let number = RECORDS / 4 * part;
            until("both get on", || {
                to.iter().all(|ring| committed(ring) >= number)
            });
            assert!(
                to.iter().all(|ring| committed(ring) < RECORDS),
                "it is over"
            );
        };
        reach(1);
        let lost = network.mend(&[1, 2]);
        let mut took = Vec::new();
        for (part, host) in [(2, 1), (3, 2)] {
            reach(part);
            let ends = [&sends, &receives[host - 1]];
            let before = ends.map(|bridge| bridge.said(MISSED));
            if host == 1 {
                network.cable(host, "down");
            } else {
                network.address(host, "del");
            }
            took.extend([0, 1].map(|end| ends[end].says(MISSED, before[end])));
            let there = committed(&to[host - 1]);
            assert!(there < RECORDS, "it was cut off in the middle");
            if host == 1 {
                network.cable(host, "up");
            } else {
                network.address(host, "add");
            }
        }
        (lost, took, readers.map(|reader| reader.join().unwrap()))
    });
    assert_eq!(read, [RECORDS; 2]);
    println!(
        "{RECORDS} records to each of 2 hosts in {:?}; {lost} packets lost by {way}; missed each \
         other after {took:?}",
        begun.elapsed()
    );
    assert!(lost > 0, "the way was no bad one: {way}");
    // Whom they lost they found again.
    for (number, bridge) in receives.iter().enumerate() {
        assert!(bridge.said(&["connected"]) > 1, "of receiver {number}");
    }
}

/// A plain peer says nothing, so only what comes back from its machine tells whether that is there:
/// as long as it is, a peer that reads nothing is waited for; and when it is not, records that are
/// under way make it be missed.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "how long it took is part of what it shows"
)]
fn a_plain_peer_is_waited_for_if_it_reads_nothing_and_missed_if_its_cable_is_pulled() {
    let network = Network::new(2);
    let from = Ring::new(CAPACITY);
    let to = Ring::new(&["--spsc", "--capacity", "64KiB"]);
    let at = format!("{}:7400", Network::at(0));
    let listen = format!("tcp-listen://{at}?framing=len32");
    let sends = Bridge::new(&network, 0, &from, [&end(&from), &listen]);
    let dial = format!("tcp://{at}?framing=len32");
    let receives = Bridge::new(&network, 1, &to, [&dial, &end(&to)]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&from.path, |_| !is_over.load(Ordering::Relaxed)));
        // Full on both sides. For thrice as long as silence is borne nothing moves.
        let released = || from.number("released_records");
        until("it gets something", || committed(&to) > 0);
        let (mut seen, mut since) = (released(), Instant::now());
        while since.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(50));
            if released() != seen {
                (seen, since) = (released(), Instant::now());
            }
        }
        assert_eq!(
            (sends.said(&["WARN lost"]), receives.said(&["WARN lost"])),
            (0, 0)
        );
        let reader = scope.spawn(|| read_some(&to.path));
        until("it gets on", || released() > seen);
        network.cable(1, "down");
        let took = sends.says(MISSED, 0);
        // The other one waits for records, so its kernel asks. A call needs the cable.
        let asked = receives.says(&["WARN lost"], 0);
        let before = committed(&to);
        network.cable(1, "up");
        until("it gets on again", || committed(&to) > before);
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        // Of the end of the stream a plain peer is not told.
        drop(receives);
        to.send(&["--close"], b"").assert_done();
        let count = reader.join().unwrap();
        println!("missed after {took:?}, the sender after {asked:?} more; {count} records came");
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
}
