//! Bridges and brokers that die by SIGKILL, over and over.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::bridge::{Bridge, Settings};
use annulus::segment::AttachOptions;
use lapin::ExchangeKind;
use nix::sys::signal::Signal;

use super::client::Client;
use super::node::Node;
use crate::rig::{
    PATIENCE, Place, Running, assert_empty, committed, consumer, payload, pop, producer, push,
    released, ring_end, settings, wait_until,
};

const SOURCE: &str = "ANNULUS_AMQP_SOURCE";
const DESTINATION: &str = "ANNULUS_AMQP_DESTINATION";
const WINDOW: u64 = 500;
const PREFETCH: u64 = 300;

fn by() -> Settings {
    Settings {
        window_records: WINDOW,
        ..settings()
    }
}

/// The door through which a bridge in a process of its own comes in; does nothing in a run of the
/// tests.
#[test]
fn role() {
    let Ok(source) = std::env::var(SOURCE) else {
        return;
    };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let destination = std::env::var(DESTINATION).unwrap();
    let (stopped, _stop) = std::io::pipe().unwrap();
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    // SAFETY: nobody but the tests uses the file, and through this library only.
    let bridge = unsafe { Bridge::attach(source, destination, by(), &AttachOptions::default()) };
    bridge.unwrap().run(stopped.as_fd(), &mut |_| {}).unwrap();
}

/// A bridge in a process of its own.
struct Killable(Child);

impl Killable {
    fn new(source: &str, destination: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["amqp::kills::role", "--exact"])
            .env(SOURCE, source)
            .env(DESTINATION, destination)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it has ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A number below `limit`, another one each time.
fn chance(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % limit
}

/// From an SPSC ring through a queue into another, in order: what the dead had not told is known by
/// the headers, and by the mark in the file.
#[test]
fn whichever_bridge_is_killed_each_record_arrives_once_and_in_order() {
    const ALL: u64 = 40_000;
    let node = Node::shared();
    node.vhost("kills");
    let client = Client::new(&node, "kills");
    client.exchange("x", ExchangeKind::Fanout);
    // One to go on from, one to see what was published in all.
    for queue in ["q", "raw"] {
        client.queue(queue, &[]);
        client.bind(queue, "x", "", &[]);
    }
    let place = Place::new();
    let (a, b) = (place.ring("a", 8 << 20), place.ring("b", 8 << 20));
    let (ring_a, ring_b) = (ring_end(&a), ring_end(&b));
    let publish = node.url("kills", "exchange=x");
    let consume = node.url("kills", &format!("queue=q&prefetch={PREFETCH}"));
    let mut sends = Some(Killable::new(&ring_a, &publish));
    let mut receives = Some(Killable::new(&consume, &ring_b));
    push(&mut producer(&a), 0..ALL);
    let mut state = u64::from(std::process::id()) | 1 << 40;
    let (mut of_senders, mut of_receivers, begun) = (0_u64, 0_u64, Instant::now());
    let mut longest = Duration::ZERO;
    while committed(&b) < ALL {
        // Each kill costs a start, which on a machine with other work takes its time.
        let late = begun.elapsed() > 5 * PATIENCE;
        assert!(!late, "{} of {ALL} have come", committed(&b));
        let before = (released(&a), committed(&b));
        std::thread::sleep(Duration::from_millis(20 + chance(&mut state, 150)));
        // Each pair gets on a little, or it would be killed before it has begun.
        let waited = Instant::now();
        wait_until("something moves", || {
            (released(&a), committed(&b)) != before || committed(&b) == ALL
        });
        longest = longest.max(waited.elapsed());
        let which = chance(&mut state, 3);
        if which != 0 {
            drop(sends.take());
            sends = Some(Killable::new(&ring_a, &publish));
            of_senders += 1;
        }
        if which != 1 {
            drop(receives.take());
            receives = Some(Killable::new(&consume, &ring_b));
            of_receivers += 1;
        }
    }
    wait_until("all is released", || released(&a) == ALL);
    // Behind all that was published, so that all of it was looked at.
    wait_until("all is acknowledged", || client.count("q") == 0);
    drop((sends, receives));
    let mut sink = consumer(&b);
    pop(&mut sink, 0..ALL);
    assert_empty(&mut sink);
    let raw = u64::from(client.count("raw"));
    println!(
        "{ALL} records, {of_senders} kills of senders, {of_receivers} of receivers, \
         {} raw duplicates, in {:?}; longest wait for a move {longest:?}",
        raw - ALL,
        begun.elapsed()
    );
    assert!(
        of_senders >= 10 && of_receivers >= 10,
        "too few to show anything"
    );
    assert!(raw - ALL <= of_senders * WINDOW, "{raw} were published");
}

/// The broker dies in the middle of it all, and comes back with what its disk has.
#[test]
fn whenever_the_broker_is_killed_nothing_that_was_released_is_lost() {
    const ALL: u64 = 60_000;
    const KILLS: u64 = 4;
    let node = Node::new();
    let place = Place::new();
    let (a, b) = (place.ring("a", 16 << 20), place.ring("b", 16 << 20));
    let options = "routing_key=q&queue=q&declare=yes";
    let sends = Running::with(&ring_end(&a), &node.url("%2f", options), by()).unwrap();
    let consume = node.url("%2f", &format!("queue=q&prefetch={PREFETCH}"));
    let receives = Running::with(&consume, &ring_end(&b), by()).unwrap();
    let mut source = producer(&a);
    let mut state = u64::from(std::process::id()) | 1 << 40;
    for part in 0..KILLS {
        let (from, to) = (part * ALL / KILLS, (part + 1) * ALL / KILLS);
        let before = released(&a);
        push(&mut source, from..to);
        let some = chance(&mut state, ALL / KILLS / 2);
        wait_until("some is under way", || released(&a) >= before + some);
        assert!(released(&a) < to, "it is not in the middle");
        node.kill();
        node.start();
    }
    wait_until("all is released", || released(&a) == ALL);
    wait_until("all has come", || committed(&b) >= ALL);
    let client = Client::new(&node, "%2f");
    wait_until("all is acknowledged", || client.count("q") == 0);
    let (sent, received) = (sends.stop(), receives.stop());
    println!("{KILLS} kills of the broker: {sent:?} {received:?}");
    let mut sink = consumer(&b);
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    while let Ok(tag) = sink.try_pop(&mut bytes) {
        assert_eq!(bytes, payload(u64::from(tag)));
        found.push(u64::from(tag));
    }
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..ALL), "each of them once");
    assert_eq!(received.connections, KILLS + 1);
    assert!(sent.republished <= KILLS * WINDOW);
    assert!(received.duplicates <= KILLS * (WINDOW + PREFETCH));
}

/// Reads until all that are wanted have come, telling how many have. Returns how many came again.
fn read_all(ring: &Path, all: u64, come: &AtomicU64) -> u64 {
    let (mut sink, mut bytes, mut again) = (consumer(ring), Vec::new(), 0);
    let mut is_here = vec![false; usize::try_from(all).unwrap()];
    while come.load(Ordering::Relaxed) < all {
        let wait = annulus::Wait::block().for_at_most(5 * PATIENCE);
        let tag = sink.pop(&mut bytes, wait).unwrap();
        assert_eq!(bytes, payload(u64::from(tag)));
        let here = &mut is_here[usize::try_from(tag).unwrap()];
        if core::mem::replace(here, true) {
            again += 1;
        } else {
            come.fetch_add(1, Ordering::Relaxed);
        }
    }
    again
}

/// Either bridge and the broker, at random, as long as records are under way.
/// `ANNULUS_AMQP_RECORDS` says how many, 1,000,000 for the long run.
#[test]
fn whatever_is_killed_each_record_arrives() {
    let asked = std::env::var("ANNULUS_AMQP_RECORDS");
    let all: u64 = asked.map_or(100_000, |asked| asked.parse().unwrap());
    let node = Node::new();
    {
        let client = Client::new(&node, "%2f");
        client.exchange("x", ExchangeKind::Fanout);
        for queue in ["q", "raw"] {
            client.queue(queue, &[]);
            client.bind(queue, "x", "", &[]);
        }
    }
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    let publish = (ring_end(&a), node.url("%2f", "exchange=x"));
    let consume = node.url("%2f", &format!("queue=q&prefetch={PREFETCH}"));
    let consume = (consume, ring_end(&b));
    let start = |(source, destination): &(String, String)| Killable::new(source, destination);
    let (mut sends, mut receives) = (Some(start(&publish)), Some(start(&consume)));
    let mut state = u64::from(std::process::id()) | 1 << 40;
    let (mut of_senders, mut of_receivers, mut of_brokers) = (0, 0, 0);
    let (come, begun) = (AtomicU64::new(0), Instant::now());
    let moved = || (released(&a), committed(&b), come.load(Ordering::Relaxed));
    let again = std::thread::scope(|scope| {
        scope.spawn(|| push(&mut producer(&a), 0..all));
        let reader = scope.spawn(|| read_all(&b, all, &come));
        while !reader.is_finished() {
            let before = moved();
            std::thread::sleep(Duration::from_millis(100 + chance(&mut state, 500)));
            // Each gets on a little, or it would be killed before it has begun.
            wait_until("something moves", || {
                moved() != before || reader.is_finished()
            });
            match chance(&mut state, 10) {
                0 => {
                    node.kill();
                    node.start();
                    of_brokers += 1;
                }
                1..5 => {
                    drop(sends.take());
                    sends = Some(start(&publish));
                    of_senders += 1;
                }
                _ => {
                    drop(receives.take());
                    receives = Some(start(&consume));
                    of_receivers += 1;
                }
            }
        }
        reader.join().unwrap()
    });
    wait_until("all is released", || released(&a) == all);
    drop((sends, receives));
    let raw = u64::from(Client::new(&node, "%2f").count("raw")) - all;
    println!(
        "{all} records, {of_senders} kills of senders, {of_receivers} of receivers, {of_brokers} \
         of the broker, {raw} raw duplicates, {again} of them in the ring, in {:?}",
        begun.elapsed()
    );
    assert!(
        raw <= (of_senders + of_brokers) * WINDOW,
        "{raw} raw duplicates"
    );
    let bound = (of_senders + of_receivers + of_brokers) * (WINDOW + PREFETCH);
    assert!(again <= bound, "{again} came again");
}
