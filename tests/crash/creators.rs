//! Creators that race for one name, and die at it.
//!
//! Whatever happens, the name belongs to one whole ring or to nobody, those who lost the race are
//! told so, and nothing else is left in the directory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use annulus::mpmc::{Consumer, Options, Producer};
use annulus::segment::{CreateError, Location, inspect, remove};
use annulus::{TryReadError, Wait};

use super::child::{Child, Task, alone, directory};
use super::log::{Step, Word};
use super::payload::Random;

const CREATED: u64 = 1;
const EXISTED: u64 = 2;
const CREATORS: u64 = 4;
const LENGTH: Duration = Duration::from_secs(8);

/// Enough slots that making the ring takes a millisecond or two.
fn options() -> Options {
    Options::new(1 << 15, 16)
}

/// The first eight bytes of the ring's random name.
fn ring_id(location: &Location) -> u64 {
    let snapshot = inspect(location).expect("a whole ring");
    u64::from_str_radix(&snapshot.ring_id[..16], 16).expect("hexadecimal digits")
}

/// The child: creates the ring, or finds it there; attaches, and leaves a record.
pub(crate) fn create(task: &Task) {
    let log = &task.log;
    log.enter(Step::Creating);
    let answer = match options().create(&task.ring) {
        Ok(()) => CREATED,
        Err(CreateError::AlreadyExists { .. }) => EXISTED,
        Err(error) => panic!("{error}"),
    };
    log.set(Word::Answer, answer);
    log.enter(Step::Attaching);
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    let producer = unsafe { Producer::attach(&task.ring) }.expect("attach to what is there");
    log.set(Word::SecondAnswer, ring_id(&Location::from(&task.ring)));
    log.enter(Step::Publishing);
    producer
        .push(0, &task.number.to_le_bytes(), Wait::block())
        .expect("space");
    log.enter(Step::Detaching);
    drop(producer);
    log.enter(Step::Finished);
}

#[test]
fn creators_that_race_and_die_leave_one_whole_ring_or_none() {
    let _alone = alone();
    let mut random = Random::new(3);
    let mut hits: BTreeMap<Step, u64> = BTreeMap::new();
    let (mut rounds, mut orphans) = (0_u64, 0_u64);
    let began = Instant::now();
    while began.elapsed() < LENGTH {
        orphans += u64::from(race(&mut random, &mut hits));
        rounds += 1;
    }
    let kills: u64 = hits.values().sum();
    println!("{rounds} races, {kills} kills: {hits:?}; {orphans} left no ring");
    for step in [Step::Starting, Step::Creating, Step::Attaching] {
        assert!(hits.contains_key(&step), "nobody died in {step:?}");
    }
}

/// One race. True if all creators died before there was a ring.
fn race(random: &mut Random, hits: &mut BTreeMap<Step, u64>) -> bool {
    let directory = directory();
    let path = directory.path().join("race.ring");
    let location = Location::from(&path);
    let survivors = random.below(3);
    let mut creators = Vec::new();
    for number in 0..CREATORS {
        let mut creator = Child::start("creator", &path, number, 0);
        if number >= survivors {
            kill_somewhere(&mut creator, random);
        }
        creators.push(creator);
    }
    for (number, creator) in (0..).zip(&mut creators) {
        if number < survivors {
            creator.finish();
        } else if creator.dies() {
            *hits.entry(creator.log.step()).or_default() += 1;
        }
    }
    let created = creators
        .iter()
        .filter(|child| child.log.get(Word::Answer) == CREATED)
        .count();
    assert!(created <= 1, "{created} creators made a ring of one name");
    let finished: Vec<u64> = (0..)
        .zip(&creators)
        .filter(|(_, child)| child.log.step() == Step::Finished)
        .map(|(number, _)| number)
        .collect();
    let ids: Vec<u64> = creators
        .iter()
        .map(|child| child.log.get(Word::SecondAnswer))
        .collect();
    drop(creators);

    let exists = match options().create(&path) {
        Ok(()) => false,
        Err(CreateError::AlreadyExists { .. }) => true,
        Err(error) => panic!("{error}"),
    };
    assert!(
        exists || (created == 0 && survivors == 0),
        "a ring has vanished"
    );
    let names = std::fs::read_dir(directory.path()).expect("list the directory");
    let names: Vec<_> = names
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["race.ring"], "something was left behind");
    let id = ring_id(&location);
    assert!(
        ids.iter().all(|seen| *seen == 0 || *seen == id),
        "there were several rings"
    );
    assert_delivers(&path, &finished);
    remove(&location, false).expect("nobody is left");
    !exists
}

/// At once, or some time after it has begun to create or to attach.
fn kill_somewhere(creator: &mut Child, random: &mut Random) {
    let within = Duration::from_micros(random.pick(&[40, 200, 1000, 3000]));
    match random.below(12) {
        0 => drop(creator.kill_or_reap()),
        1..4 => creator.log.aim(Step::Attaching, libc::SIGKILL, within),
        _ => creator.log.aim(Step::Creating, libc::SIGKILL, within),
    }
}

/// Everybody who has finished has left a record, and nobody more than one.
fn assert_delivers(path: &std::path::Path, finished: &[u64]) {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    let consumer = unsafe { Consumer::attach(path) }.expect("attach");
    let mut delivered = Vec::new();
    loop {
        match consumer.try_read() {
            Ok(record) => {
                delivered.push(u64::from_le_bytes(
                    record[..].try_into().expect("eight bytes"),
                ));
            }
            Err(TryReadError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    delivered.sort_unstable();
    let all = delivered.len();
    delivered.dedup();
    assert_eq!(delivered.len(), all, "a record came twice");
    assert!(
        finished.iter().all(|number| delivered.contains(number)),
        "a record was lost"
    );
}
