//! What an MPMC source promises: each record at least once, in what order ever; and of a bridge
//! that dies at most a window comes twice.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use annulus::{Wait, mpmc};

use crate::killable::{Killable, chance};
use crate::rig::{PATIENCE, Place, committed, consumer, payload, released, ring_end, wait_until};

const WINDOW: u64 = 100;
/// Kills of each kind: with fewer nothing is shown.
const KILLS: u64 = 12;
/// Records are written until there were so many kills, and as many as this at least.
const RECORDS: u64 = 50_000;

/// Records of MPMC rings that two producers write.
fn produce(path: &Path, next: &AtomicU64, is_enough: &AtomicBool) {
    // SAFETY: nobody but the test uses the file, and through this library only.
    let producer = unsafe { mpmc::Producer::attach(path) }.unwrap();
    while next.load(Relaxed) < RECORDS || !is_enough.load(Relaxed) {
        let number = next.fetch_add(1, Relaxed);
        let wait = Wait::block().for_at_most(PATIENCE);
        let tag = u32::try_from(number).unwrap();
        producer.push(tag, &payload(number), wait).unwrap();
    }
}

/// Reads records, whole ones, until it is over and there is none. Returns their numbers.
fn read(path: &Path, is_over: &AtomicBool) -> Vec<u64> {
    let (mut consumer, mut bytes, mut numbers) = (consumer(path), Vec::new(), Vec::new());
    loop {
        let was_over = is_over.load(Relaxed);
        let wait = Wait::block().for_at_most(Duration::from_millis(50));
        match consumer.pop(&mut bytes, wait) {
            Ok(tag) => {
                assert_eq!(bytes, payload(tag.into()));
                numbers.push(tag.into());
            }
            Err(_) if was_over => return numbers,
            Err(_) => {}
        }
    }
}

/// A port that nobody listens at, and that no caller is given.
fn free_port(place: u16) -> u16 {
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    let mut ports = (0..10_000).map(|number| 10_000 + place * 10_000 + (first + number) % 10_000);
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.expect("one of so many")
}

/// One MPMC ring, drained by so many bridges, each toward a ring of its own; any of them, and of
/// those that receive, is killed.
#[expect(
    clippy::print_stdout,
    reason = "how often it killed is part of what it shows"
)]
fn each_arrives(bridges: u16) {
    let place = Place::new();
    let from = place.path("from");
    mpmc::Options::new(2048, 128).create(&from).unwrap();
    let to: Vec<PathBuf> = (0..bridges)
        .map(|number| place.ring(&format!("to{number}"), 1 << 20))
        .collect();
    // Sender and receiver of each way.
    let ends: Vec<[(String, String); 2]> = (0..bridges)
        .map(|number| {
            let at = format!("127.0.0.1:{}", free_port(number));
            let ring = ring_end(&to[usize::from(number)]);
            let sends = (ring_end(&from), format!("tcp://{at}"));
            [sends, (format!("tcp-listen://{at}"), ring)]
        })
        .collect();
    let start =
        |(source, destination): &(String, String)| Some(Killable::new(source, destination, WINDOW));
    let mut running: Vec<[Option<Killable>; 2]> =
        ends.iter().map(|way| way.each_ref().map(start)).collect();
    let (next, is_enough, is_over) = (
        AtomicU64::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let mut kills = [0, 0];
    let numbers = std::thread::scope(|scope| {
        let producers = [(); 2].map(|()| scope.spawn(|| produce(&from, &next, &is_enough)));
        let readers: Vec<_> = to
            .iter()
            .map(|ring| scope.spawn(|| read(ring, &is_over)))
            .collect();
        let mut state = u64::from(std::process::id()) | 1 << 40;
        let come = || to.iter().map(|ring| committed(ring)).collect::<Vec<_>>();
        let is_done = || {
            producers
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
        };
        while !is_done() {
            let before = come();
            std::thread::sleep(Duration::from_millis(10 + chance(&mut state, 90)));
            // The one that is killed gets on a little, or it would be killed before it has begun.
            let way = usize::try_from(chance(&mut state, bridges.into())).unwrap();
            wait_until("something moves", || come()[way] > before[way] || is_done());
            let which = usize::from(chance(&mut state, 2) == 0);
            running[way][which] = None;
            running[way][which] = start(&ends[way][which]);
            kills[which] += 1;
            is_enough.store(kills.iter().all(|kills| *kills >= KILLS), Relaxed);
        }
        let all = next.load(Relaxed);
        wait_until("all is released", || released(&from) >= all);
        drop(running);
        is_over.store(true, Relaxed);
        let numbers = readers.into_iter().map(|reader| reader.join().unwrap());
        numbers.collect::<Vec<_>>()
    });
    let all = next.into_inner();
    let each: Vec<usize> = numbers.iter().map(Vec::len).collect();
    assert!(
        each.iter().all(|count| *count > 0),
        "each has some: {each:?}"
    );
    let mut numbers = numbers.concat();
    let come = numbers.len() as u64;
    numbers.sort_unstable();
    numbers.dedup();
    let missing = all - numbers.len() as u64;
    assert!(
        numbers.into_iter().eq(0..all),
        "{missing} of {all} are missing"
    );
    let raw = come - all;
    let [of_senders, of_receivers] = kills;
    println!(
        "{all} records, {each:?} into rings; {of_senders} kills of senders, {of_receivers} of \
         receivers; {raw} came twice"
    );
    assert!(raw <= of_senders * WINDOW, "{raw} came twice");
}

#[test]
fn of_an_mpmc_ring_each_record_arrives_whoever_is_killed() {
    each_arrives(1);
}

#[test]
fn what_arrives_by_two_bridges_from_one_mpmc_ring_is_all_of_it() {
    each_arrives(2);
}
