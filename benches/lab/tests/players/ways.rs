//! Every contender does every work that it is for, and loses nothing.

use std::time::Duration;

use annulus_lab::contenders::{Backing, Bytes, EventFd, Mpmc, PosixQueue, Seqpacket, Spsc};
use annulus_lab::floors::{Exchange, SystemCall};
use annulus_lab::ladder::usual_capacity;
use annulus_lab::slices::Floor;
use annulus_lab::work::{Pattern, Waiting, Work};
use annulus_lab::{Contender, contender};

use crate::saboteur::{conditions, cpus};

const SHORT: Duration = Duration::from_millis(5);

const PACED: Pattern = Pattern::Paced {
    interval: Duration::from_micros(200),
};

fn works(payload: usize) -> Vec<Work> {
    let mut works = Vec::new();
    for waiting in [Waiting::Spin, Waiting::Yield, Waiting::Block] {
        for (pattern, batch) in [
            (Pattern::RoundTrip, 1),
            (Pattern::Stream, 1),
            (Pattern::Stream, 7),
            (PACED, 1),
        ] {
            works.push(Work {
                pattern,
                payload,
                batch,
                capacity: usual_capacity(payload),
                waiting,
                producers: 1,
                consumers: 1,
            });
        }
    }
    works
}

fn does(contender: &dyn Contender, work: &Work) {
    let found = contender.run(work, &conditions(SHORT));
    let found = found.unwrap_or_else(|fault| panic!("{}, {work:?}: {fault}", contender.name()));
    let is_whole = found.records > 0 && found.lost == 0 && found.repeated == 0;
    assert!(
        is_whole && found.ns > 0.0,
        "{}, {work:?}: {found:?}",
        contender.name()
    );
    let is_timed = work.pattern != Pattern::Stream;
    assert_eq!(found.latency.is_some(), is_timed, "{}", contender.name());
}

pub fn the_byte_ring_in_all_patterns() {
    for payload in [8, 56, 61, 64 << 10, 1 << 20] {
        let ring = contender!(payload, Spsc::default());
        works(payload).iter().for_each(|work| does(&*ring, work));
    }
    let memfd = contender!(
        64,
        Spsc {
            backing: Backing::Memfd
        }
    );
    works(64).iter().for_each(|work| does(&*memfd, work));
}

pub fn the_slot_ring_in_all_patterns() {
    for payload in [8, 64, 61] {
        let ring = contender!(payload, Mpmc::default());
        works(payload).iter().for_each(|work| does(&*ring, work));
    }
    let memfd = contender!(
        64,
        Mpmc {
            backing: Backing::Memfd
        }
    );
    works(64).iter().for_each(|work| does(&*memfd, work));
}

pub fn the_slot_ring_with_many_on_both_sides() {
    for (producers, consumers) in [(2, 2), (4, 4), (3, 1), (1, 3)] {
        for work in works(64)
            .into_iter()
            .filter(|work| work.waiting != Waiting::Spin && work.pattern != Pattern::RoundTrip)
        {
            let work = Work {
                producers,
                consumers,
                ..work
            };
            does(&*contender!(64, Mpmc::default()), &work);
            if work.batch == 1 {
                does(&*contender!(64, Seqpacket), &work);
                does(&*contender!(64, PosixQueue), &work);
            }
        }
    }
}

fn ways(payload: usize) -> Vec<Box<dyn Contender>> {
    vec![
        contender!(payload, Bytes::Pipe),
        contender!(payload, Bytes::Unix),
        contender!(payload, Bytes::Tcp),
        contender!(payload, Seqpacket),
        contender!(payload, EventFd),
        contender!(payload, PosixQueue),
    ]
}

pub fn the_kernels_ways_in_all_patterns() {
    for way in ways(64) {
        works(64).iter().for_each(|work| does(&*way, work));
    }
}

pub fn the_kernels_ways_keep_long_records_whole() {
    for way in ways(100_000).into_iter().take(5) {
        works(100_000).iter().for_each(|work| does(&*way, work));
    }
}

pub fn floors_are_measured() {
    for payload in [8, 56, 64, 4096, 100_000] {
        for work in works(payload) {
            let floor = Floor::of(&work, &cpus());
            let found = floor.contender.run(&floor.work, &conditions(SHORT));
            let found = found.unwrap_or_else(|fault| panic!("{}: {fault}", floor.words));
            assert!(
                found.records > 0 && found.ns > 0.0,
                "{}: {found:?}",
                floor.words
            );
        }
    }
    let unused = works(8)[0];
    let alone: [&dyn Contender; 2] = [&SystemCall, &Exchange];
    for floor in alone {
        let found = floor.run(&unused, &conditions(SHORT));
        let found = found.unwrap_or_else(|fault| panic!("{}: {fault}", floor.name()));
        assert!(found.ns > 1.0, "{}: {found:?}", floor.name());
    }
}
