//! Bridges and brokers that die by SIGKILL, over and over.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::bridge::Settings;
use lapin::ExchangeKind;

use super::client::Client;
use super::node::Node;
use crate::killable::{Killable, chance};
use crate::rig::{
    PATIENCE, Place, Running, assert_empty, committed, consumer, payload, pop, producer, push,
    released, ring_end, settings, wait_until,
};

const WINDOW: u64 = 500;
const PREFETCH: u64 = 300;

fn by() -> Settings {
    Settings {
        window_records: WINDOW,
        ..settings()
    }
}

fn start((source, destination): &(String, String)) -> Killable {
    Killable::new(source, destination, WINDOW)
}

/// From an SPSC ring through a queue into another, in order: what the dead had not told is known by
/// the headers, and by the mark in the file.
#[test]
fn whichever_bridge_is_killed_each_record_arrives_once_and_in_order() {
    const PART: u64 = 40_000;
    const KILLS: u64 = 10;
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
    let publish = (ring_end(&a), node.url("kills", "exchange=x"));
    let consume = node.url("kills", &format!("queue=q&prefetch={PREFETCH}"));
    let consume = (consume, ring_end(&b));
    let (mut sends, mut receives) = (Some(start(&publish)), Some(start(&consume)));
    let (mut source, mut sink, mut all) = (producer(&a), consumer(&b), PART);
    push(&mut source, 0..all);
    let mut state = u64::from(std::process::id()) | 1 << 40;
    let (mut of_senders, mut of_receivers, begun) = (0_u64, 0_u64, Instant::now());
    let mut longest = Duration::ZERO;
    loop {
        if committed(&b) == all {
            // Fewer kills show too little: it goes on with more records then.
            pop(&mut sink, all - PART..all);
            if of_senders >= KILLS && of_receivers >= KILLS {
                break;
            }
            push(&mut source, all..all + PART);
            all += PART;
        }
        // Each kill costs a start, which on a machine with other work takes its time.
        let late = begun.elapsed() > 5 * PATIENCE;
        assert!(!late, "{} of {all} have come", committed(&b));
        let before = (released(&a), committed(&b));
        std::thread::sleep(Duration::from_millis(20 + chance(&mut state, 150)));
        // Each pair gets on a little, or it would be killed before it has begun.
        let waited = Instant::now();
        wait_until("something moves", || {
            (released(&a), committed(&b)) != before || committed(&b) == all
        });
        longest = longest.max(waited.elapsed());
        let which = chance(&mut state, 3);
        if which != 0 {
            drop(sends.take());
            sends = Some(start(&publish));
            of_senders += 1;
        }
        if which != 1 {
            drop(receives.take());
            receives = Some(start(&consume));
            of_receivers += 1;
        }
    }
    wait_until("all is released", || released(&a) == all);
    // Behind all that was published, so that all of it was looked at.
    wait_until("all is acknowledged", || client.count("q") == 0);
    drop((sends, receives));
    assert_empty(&mut sink);
    let raw = u64::from(client.count("raw"));
    println!(
        "{all} records, {of_senders} kills of senders, {of_receivers} of receivers, \
         {} raw duplicates, in {:?}; longest wait for a move {longest:?}",
        raw - all,
        begun.elapsed()
    );
    assert!(raw - all <= of_senders * WINDOW, "{raw} were published");
}

/// The broker dies in the middle of it all, and comes back with what its disk has.
#[test]
fn whenever_the_broker_is_killed_nothing_that_was_released_is_lost() {
    const PART: u64 = 15_000;
    const KILLS: u64 = 4;
    let node = Node::new();
    let place = Place::new();
    let (a, b) = (place.ring("a", 16 << 20), place.ring("b", 64 << 20));
    let options = "routing_key=q&queue=q&declare=yes";
    let sends = Running::with(&ring_end(&a), &node.url("%2f", options), by()).unwrap();
    let consume = node.url("%2f", &format!("queue=q&prefetch={PREFETCH}"));
    let receives = Running::with(&consume, &ring_end(&b), by()).unwrap();
    let mut source = producer(&a);
    let mut state = u64::from(std::process::id()) | 1 << 40;
    let (mut all, mut kills, mut in_the_middle) = (0, 0, 0);
    while in_the_middle < KILLS {
        let before = released(&a);
        push(&mut source, all..all + PART);
        all += PART;
        let some = chance(&mut state, PART / 2);
        wait_until("some is under way", || released(&a) > before + some);
        // All of it may have come by the time that we look.
        in_the_middle += u64::from(released(&a) < all);
        node.kill();
        node.start();
        kills += 1;
        assert!(kills < 10 * KILLS, "none in the middle");
    }
    wait_until("all is released", || released(&a) == all);
    wait_until("all has come", || committed(&b) >= all);
    let client = Client::new(&node, "%2f");
    wait_until("all is acknowledged", || client.count("q") == 0);
    let (sent, received) = (sends.stop(), receives.stop());
    println!("{kills} kills of the broker: {sent:?} {received:?}");
    let mut sink = consumer(&b);
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    while let Ok(tag) = sink.try_pop(&mut bytes) {
        assert_eq!(bytes, payload(u64::from(tag)));
        found.push(u64::from(tag));
    }
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..all), "each of them once");
    // A connection that was lost for another reason counts as one that died with the broker.
    let lost = [&sent, &received].map(|summary| summary.connections - 1);
    assert!(
        lost[0] >= 1,
        "records were published behind a kill: {sent:?}"
    );
    assert!(sent.republished <= lost[0] * WINDOW);
    assert!(received.duplicates <= lost[0] * WINDOW + lost[1] * PREFETCH);
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
