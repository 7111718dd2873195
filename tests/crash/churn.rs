//! MPMC: four senders and three receivers, one of each killed all the time and replaced.
//!
//! # How kills are aimed
//! Half of them come at whatever moment it is. The others are aimed at a step: the victim sets
//! itself a timer as it enters that step, which stops it some hundred nanoseconds later, in the
//! midst of the library's code as a rule. If it still stands in that step it is looked up in the
//! ring, so that the table tells what the ring's words said of it, and is killed; else it runs on
//! and the next time may be luckier. So what takes no time is hit as surely as what takes long.
//!
//! # Who waits how long
//! Each process measures its own waits ([`Stopwatch`](super::log::Stopwatch)). Since most die
//! young, one sender and one receiver are spared for some seconds in turn; the wait in which a
//! victim dies is counted as well; and so is the longest time in which no sender, or no receiver,
//! got on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::segment::{Location, RecoverOptions, Snapshot, inspect, recover};
use annulus::{Recovered, mpmc};

use super::child::{Child, alone, directory};
use super::hits::{Hits, InRing, Role};
use super::log::{Step, Word};
use super::payload::{LONGEST, Random};
use super::system::{RunQueue, now_ns, number_from};
use super::tally::{Tally, Totals};
use super::workers::FINISH;

const SENDERS: usize = 4;
const RECEIVERS: usize = 3;
const SLOTS: u64 = 128;
/// Nobody may wait longer.
const BOUND: Duration = Duration::from_secs(1);
/// How long an aimed kill may look for its moment.
const AIM: Duration = Duration::from_millis(20);
/// How long one sender and one receiver are spared.
const SPARED: Duration = Duration::from_secs(3);

#[test]
fn killed_senders_and_receivers_lose_repeat_and_delay_nothing() {
    let _alone = alone();
    let acceptance = number_from("ANNULUS_CHURN_SECONDS").map(Duration::from_secs);
    let (length, tick) = match acceptance {
        Some(length) => (length, Duration::from_millis(50)),
        None => (Duration::from_secs(20), Duration::from_millis(20)),
    };
    let directory = directory();
    let mut churn = Churn::begin(&directory.path().join("churn.ring"));
    let kills = churn.run(length, tick);
    let (snapshot, totals) = churn.end();
    churn.print(&snapshot, &totals, length, kills);
    churn.check(&snapshot, &totals);
}

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Aim {
    Anywhere,
    In(Step),
    /// Waiting, and asleep in the kernel.
    Asleep,
    /// The one that was just born, before it has touched the ring.
    Newborn,
}

/// Every second kill is aimed at one of these.
const AIMS: [Aim; 10] = [
    Aim::In(Step::Holding),
    Aim::In(Step::Publishing),
    Aim::In(Step::Waiting),
    Aim::In(Step::Claiming),
    Aim::In(Step::Undoing),
    Aim::In(Step::Attaching),
    Aim::Asleep,
    Aim::In(Step::Detaching),
    Aim::In(Step::Idle),
    Aim::Newborn,
];

struct Member {
    child: Child,
    number: u64,
}

struct Churn {
    ring: PathBuf,
    crews: [Vec<Member>; 2],
    born: u64,
    random: Random,
    tally: Tally,
    hits: Hits,
    longest_wait_ns: [u64; 2],
    /// What the dead had achieved.
    achieved: [u64; 2],
    longest_stop: Duration,
}

impl Churn {
    fn begin(ring: &Path) -> Self {
        let options = mpmc::Options::new(SLOTS, LONGEST as u64);
        options.create(ring).expect("create a ring");
        let mut churn = Self {
            ring: ring.to_path_buf(),
            crews: [Vec::new(), Vec::new()],
            born: 0,
            random: Random::new(1),
            tally: Tally::default(),
            hits: Hits::default(),
            longest_wait_ns: [0; 2],
            achieved: [0; 2],
            longest_stop: Duration::ZERO,
        };
        for (role, count) in [(Role::Sender, SENDERS), (Role::Receiver, RECEIVERS)] {
            for _ in 0..count {
                let member = churn.bear(role);
                churn.crews[role as usize].push(member);
            }
        }
        churn
    }

    fn bear(&mut self, role: Role) -> Member {
        self.born += 1;
        let number = self.born;
        let child = match role {
            Role::Sender => Child::start("sender", &self.ring, number, 0),
            Role::Receiver => Child::start("receiver", &self.ring, number, 1 << 20),
        };
        Member { child, number }
    }

    /// Kills one of each per tick. Returns how many it killed.
    fn run(&mut self, length: Duration, tick: Duration) -> u64 {
        let began = Instant::now();
        let mut kills = 0;
        let mut progress = [Progress::default(), Progress::default()];
        let mut due = began + tick;
        while began.elapsed() < length {
            for role in [Role::Sender, Role::Receiver] {
                let spared = (began.elapsed().as_millis() / SPARED.as_millis()) as usize;
                let aim = match kills / 2 % 2 {
                    0 => Aim::Anywhere,
                    _ => AIMS[(kills / 4 % AIMS.len() as u64) as usize],
                };
                self.kill_one(role, spared, aim);
                kills += 1;
            }
            for role in [Role::Sender, Role::Receiver] {
                self.replace_finished(role);
                progress[role as usize].look(self.achieved_by(role), role);
            }
            // A rhythm, not a synchronisation: nothing depends on what happens meanwhile.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = (due + tick).max(Instant::now());
        }
        kills
    }

    /// Kills any member but the spared one.
    fn kill_one(&mut self, role: Role, spared: usize, aim: Aim) {
        let count = self.crews[role as usize].len();
        let any = (spared + 1 + self.random.index(count - 1)) % count;
        match aim {
            Aim::Anywhere => {}
            Aim::Newborn => {
                self.replace(role, any);
            }
            Aim::In(step) => {
                self.stop_one(role, any, step);
            }
            Aim::Asleep => {
                wait_for_sleep(&self.crews[role as usize][any].child);
            }
        }
        self.replace(role, any);
    }

    /// Has a member stopped in `step`, if it comes there soon, and looks it up in the ring.
    fn stop_one(&mut self, role: Role, index: usize, step: Step) {
        let victim = &self.crews[role as usize][index].child;
        // In these the library makes system calls.
        let is_long = matches!(step, Step::Attaching | Step::Detaching | Step::Waiting);
        let within = if is_long {
            Duration::from_micros(80)
        } else {
            Duration::from_nanos(1500)
        };
        if victim.stop_in(step, within, AIM) {
            let stopped = Instant::now();
            let in_ring = InRing::of(&self.ring, victim.pid());
            self.hits.note_in_ring(role, step, in_ring);
            self.longest_stop = self.longest_stop.max(stopped.elapsed());
        }
    }

    /// Kills a member, takes its log, and has another one in its place.
    fn replace(&mut self, role: Role, index: usize) {
        let mut member = self.crews[role as usize].remove(index);
        let waiting = unfinished_wait_ns(&member.child);
        let asleep = member.child.is_asleep();
        if member.child.kill_or_reap() {
            self.hits.note(role, member.child.log.step(), asleep);
        }
        let longest = &mut self.longest_wait_ns[role as usize];
        *longest = (*longest).max(waiting);
        self.take(role, &member);
        drop(member);
        let next = self.bear(role);
        self.crews[role as usize].insert(index, next);
    }

    fn take(&mut self, role: Role, Member { child, number }: &Member) {
        match role {
            Role::Sender => self.tally.add_sender(*number, &child.log),
            Role::Receiver => self.tally.add_receiver(&child.log),
        }
        let longest = &mut self.longest_wait_ns[role as usize];
        *longest = (*longest).max(child.log.get(Word::LongestWait));
        self.achieved[role as usize] += achieved(child);
    }

    /// Receivers whose logs are full end by themselves.
    fn replace_finished(&mut self, role: Role) {
        for index in 0..self.crews[role as usize].len() {
            if self.crews[role as usize][index].child.has_finished() {
                let next = self.bear(role);
                let old = std::mem::replace(&mut self.crews[role as usize][index], next);
                self.take(role, &old);
            }
        }
    }

    fn achieved_by(&self, role: Role) -> u64 {
        let living = self.crews[role as usize]
            .iter()
            .map(|member| achieved(&member.child));
        self.achieved[role as usize] + living.sum::<u64>()
    }

    /// Lets everybody come to an end and looks at the ring then.
    fn end(&mut self) -> (Snapshot, Totals) {
        for role in [Role::Sender, Role::Receiver] {
            let members = std::mem::take(&mut self.crews[role as usize]);
            for member in &members {
                member.child.log.set(Word::Order, FINISH);
            }
            for mut member in members {
                // A receiver whose log is full has ended before the ring was drained.
                member.child.finish();
                self.take(role, &member);
            }
            if role == Role::Sender {
                // SAFETY: only this test's processes have the ring, and only through the library.
                let closer = unsafe { mpmc::Producer::attach(&self.ring) }.expect("attach");
                closer.close();
            }
        }
        // Those who died last held nothing, or the ring would not have been drained; their rows may
        // still be in use.
        let location = Location::from(&self.ring);
        let Recovered {
            skipped,
            redelivered,
            dropped,
            ..
        } = recover(&location, &RecoverOptions::default()).expect("recover");
        assert_eq!(
            (skipped, redelivered, dropped),
            (0, 0, 0),
            "claims in a drained ring"
        );
        (inspect(&location).expect("inspect"), self.tally.settle())
    }

    fn check(&self, snapshot: &Snapshot, totals: &Totals) {
        assert_eq!(
            snapshot.claims_count, 0,
            "claims in flight: {:?}",
            snapshot.claims
        );
        assert!(
            snapshot.participants.is_empty(),
            "rows in use: {:?}",
            snapshot.participants
        );
        assert_eq!(snapshot.committed_records, totals.distinct);
        assert_eq!(snapshot.released_records, totals.distinct);
        assert!(snapshot.totals.redelivered >= totals.duplicates);
        for (role, longest) in [Role::Sender, Role::Receiver]
            .into_iter()
            .zip(self.longest_wait_ns)
        {
            let longest = Duration::from_nanos(longest);
            assert!(longest < BOUND, "a {role:?} waited for {longest:?}");
        }
        self.hits.check();
    }

    fn print(&self, snapshot: &Snapshot, totals: &Totals, length: Duration, kills: u64) {
        println!(
            "{kills} kills in {length:?}, {} processes, {totals:?}",
            self.born
        );
        let annulus::segment::Counters {
            recovered,
            redelivered,
            skipped,
            ..
        } = snapshot.totals;
        println!("recovered {recovered}, redelivered {redelivered}, skipped {skipped}");
        println!(
            "{} of those redelivered were requeued by living receivers",
            totals.requeued
        );
        let [sender, receiver] = self.longest_wait_ns.map(Duration::from_nanos);
        println!("longest wait of a sender {sender:?}, of a receiver {receiver:?}");
        println!(
            "longest time for which a victim stood still: {:?}",
            self.longest_stop
        );
        self.hits.print();
    }
}

/// Records that a sender has committed, or a receiver taken.
fn achieved(child: &Child) -> u64 {
    child.log.get(Word::Done) + child.log.get(Word::Entries)
}

/// How long a victim has been waiting when it is killed.
fn unfinished_wait_ns(child: &Child) -> u64 {
    let since = child.log.get(Word::WaitingSince);
    let wall = now_ns().saturating_sub(since);
    if since == 0 || Duration::from_nanos(wall) < BOUND / 2 {
        return 0;
    }
    let queued = RunQueue::of(child.pid(), child.log.get(Word::Thread)).waited_ns();
    wall.saturating_sub(queued.saturating_sub(child.log.get(Word::WaitingBase)))
}

/// Waits for a moment in which it sleeps, if there is one soon.
fn wait_for_sleep(victim: &Child) {
    let began = Instant::now();
    while began.elapsed() < AIM && !victim.is_asleep() {
        std::thread::yield_now();
    }
}

/// Whether a crew gets on as a whole.
#[derive(Debug, Default)]
struct Progress {
    achieved: u64,
    /// When it was last seen to have changed.
    changed: Option<Instant>,
}

impl Progress {
    fn look(&mut self, achieved: u64, role: Role) {
        let now = Instant::now();
        if achieved != self.achieved {
            *self = Self {
                achieved,
                changed: Some(now),
            };
        }
        let since = now - *self.changed.get_or_insert(now);
        assert!(since < BOUND, "no {role:?} got on for {since:?}");
    }
}
