//! The players of a slice: processes that the driver forks, each pinned, none of them orphaned.
//!
//! # Invariants
//! 1. The driver has one thread: what it forks can do whatever it could do itself.
//! 2. A player dies with its driver (`PR_SET_PDEATHSIG`), and at the deadline at the latest.
//! 3. A player writes what it found to a pipe of its own, of which nobody else has the writing end:
//!    the pipe's end without a word is the player's death.
//! 4. Players never return into the driver's code: they leave by `_exit`.

mod account;
mod crew;

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::clock::{now_ns, ns_of};
use crate::contender::{Conditions, Fault, Found};
use crate::control::Control;
use crate::loops::{self, Part, Played, Stop};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::tally::Sent;
use crate::transport::{Cannot, Place, Transport};
use crate::work::{Pattern, Waiting, Work};

use account::{Failure, Told, alone, settle};
use crew::Crew;

/// What one player does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sender(usize),
    Receiver(usize),
    Asker,
    Echo,
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Sender(nth) => write!(f, "sender {nth}"),
            Self::Receiver(nth) => write!(f, "receiver {nth}"),
            Self::Asker => f.write_str("asker"),
            Self::Echo => f.write_str("echo"),
        }
    }
}

fn roles_of(work: &Work) -> Vec<Role> {
    match work.pattern {
        Pattern::RoundTrip => vec![Role::Asker, Role::Echo],
        Pattern::Stream | Pattern::Paced { .. } => {
            let senders = (0..work.producers).map(Role::Sender);
            senders
                .chain((0..work.consumers).map(Role::Receiver))
                .collect()
        }
    }
}

/// Everything that a player has from before the fork.
struct Stage<'s, P: Payload, T: Transport<P>> {
    payload: P,
    transport: &'s T,
    there: T::Link,
    /// For round trips only.
    back: Option<T::Link>,
    work: &'s Work,
    conditions: &'s Conditions,
    control: Control,
}

/// Runs a slice.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn play<P: Payload, T: Transport<P>>(
    payload: P,
    transport: &T,
    work: &Work,
    conditions: &Conditions,
) -> Result<Found, Fault> {
    check(work, conditions)?;
    let folder = tempfile::Builder::new()
        .prefix(&format!("annulus-bench-{}-", std::process::id()))
        .tempdir_in(&conditions.folder)
        .map_err(broken("cannot make a folder"))?;
    let cannot = |Cannot(why)| Fault::Cannot(why);
    let link = |name| transport.link(work, folder.path(), name).map_err(cannot);
    let is_round_trip = work.pattern == Pattern::RoundTrip;
    let stage = Stage {
        payload,
        transport,
        there: link("there")?,
        back: is_round_trip.then(|| link("back")).transpose()?,
        work,
        conditions,
        control: Control::new(work.producers, work.consumers)
            .map_err(broken("cannot map shared memory"))?,
    };
    let told = stage.run()?;
    settle(work, &told)
}

/// Runs `step` over and over in one pinned process: nanoseconds a step.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn play_alone(conditions: &Conditions, step: impl Fn()) -> Result<Found, Fault> {
    const STEPS: u64 = 256;
    check_threads()?;
    let [warm_up, time] = [conditions.warm_up, conditions.time].map(ns_of);
    let control = Control::new(1, 0).map_err(broken("cannot map shared memory"))?;
    let cpu = *conditions.cpus.first().ok_or_else(no_processor)?;
    let mut crew = Crew::new(conditions.deadline());
    crew.fork("player".to_owned(), || {
        if let Err(error) = pin(cpu) {
            return vec![Told::of(Err(Failure::Broken(error.to_string())))];
        }
        let repeat_until = |end| {
            let (mut steps, mut pace, mut before) = (0, Pace::default(), now_ns());
            while before < end {
                (0..STEPS).for_each(|_| step());
                steps += STEPS;
                let after = now_ns();
                pace.record(after - before, STEPS);
                before = after;
            }
            (steps, pace.median_ns())
        };
        repeat_until(now_ns() + warm_up);
        let (records, paced_ns) = repeat_until(now_ns() + time);
        let sent = Some(Sent { first: 0, records });
        vec![Told::of(Ok(Played {
            sent,
            paced_ns: Some(paced_ns),
            ..Played::default()
        }))]
    })?;
    let told = crew.collect(&control)?;
    Ok(alone(&told, None))
}

fn no_processor() -> Fault {
    Fault::Cannot("there is no processor to pin to".to_owned())
}

fn check_threads() -> Result<(), Fault> {
    match std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) {
        1 => Ok(()),
        threads => Err(Fault::Broken(format!(
            "the driver has {threads} threads, and may have one"
        ))),
    }
}

fn check(work: &Work, conditions: &Conditions) -> Result<(), Fault> {
    let cannot = |why: &str| Err(Fault::Cannot(why.to_owned()));
    check_threads()?;
    if work.producers == 0 || work.consumers == 0 || work.producers > 255 {
        return cannot("there must be 1 to 255 producers, and a consumer");
    }
    if work.pattern == Pattern::RoundTrip && work.producers + work.consumers != 2 {
        return cannot("a round trip is between two");
    }
    let mut cpus = conditions.cpus.clone();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Err(no_processor());
    }
    if work.waiting == Waiting::Spin && work.producers + work.consumers > cpus.len() {
        return cannot("more would spin than there are processors");
    }
    Ok(())
}

impl<P: Payload, T: Transport<P>> Stage<'_, P, T> {
    fn run(&self) -> Result<Vec<Told>, Fault> {
        let roles = roles_of(self.work);
        let mut crew = Crew::new(self.conditions.deadline());
        match self.transport.place() {
            Place::Processes => {
                for (nth, role) in roles.into_iter().enumerate() {
                    crew.fork(role.to_string(), || vec![self.perform(role, nth)])?;
                }
            }
            Place::Threads => {
                crew.fork("process of threads".to_owned(), || self.perform_all(&roles))?;
            }
        }
        crew.collect(&self.control)
    }

    fn perform_all(&self, roles: &[Role]) -> Vec<Told> {
        std::thread::scope(|scope| {
            let players = roles.iter().enumerate();
            let players: Vec<_> = players
                .map(|(nth, role)| scope.spawn(move || self.perform(*role, nth)))
                .collect();
            let told = players.into_iter().map(|player| player.join());
            told.map(|told| told.expect("it catches its panics"))
                .collect()
        })
    }

    /// Plays a role to its end, on the `nth` processor.
    fn perform(&self, role: Role, nth: usize) -> Told {
        let cpus = &self.conditions.cpus;
        let cpu = cpus[nth % cpus.len()];
        let played = catch_unwind(AssertUnwindSafe(|| {
            pin(cpu).map_err(|error| Failure::Broken(format!("cannot pin to {cpu}: {error}")))?;
            self.perform_pinned(role)
        }));
        let played = played.unwrap_or_else(|panic| Err(Failure::Broken(message_of(&*panic))));
        if played.is_err() {
            self.control.set_over();
        }
        Told::of(played)
    }

    fn perform_pinned(&self, role: Role) -> Result<Played, Failure> {
        let (work, payload, there) = (self.work, self.payload, &self.there);
        let times = [self.conditions.warm_up, self.conditions.time];
        let part = Part {
            control: &self.control,
            work,
            time_ns: times.map(ns_of),
        };
        let sender = |link, nth| self.transport.sender(link, work, nth);
        let receiver = |link, nth| self.transport.receiver(link, work, nth);
        let back = || {
            self.back
                .as_ref()
                .ok_or(Cannot("there is no way back".to_owned()))
        };
        let cannot = |Cannot(why)| Failure::Cannot(why);
        let played = match (role, work.pattern) {
            (Role::Sender(nth), Pattern::Paced { interval }) => {
                let mut tx = sender(there, nth).map_err(cannot)?;
                loops::paced_out(&mut tx, payload, &part, ns_of(interval).max(1), nth)
            }
            (Role::Sender(nth), _) => {
                let mut tx = sender(there, nth).map_err(cannot)?;
                loops::stream_out(&mut tx, payload, &part, nth)
            }
            (Role::Receiver(nth), Pattern::Paced { interval }) => {
                let mut rx = receiver(there, nth).map_err(cannot)?;
                loops::paced_in(&mut rx, payload, &part, ns_of(interval).max(1))
            }
            (Role::Receiver(nth), _) => {
                let mut rx = receiver(there, nth).map_err(cannot)?;
                loops::stream_in(&mut rx, payload, &part)
            }
            (Role::Asker, _) => {
                let mut tx = sender(there, 0).map_err(cannot)?;
                let mut rx = receiver(back().map_err(cannot)?, 0).map_err(cannot)?;
                loops::ask(&mut tx, &mut rx, payload, &part)
            }
            (Role::Echo, _) => {
                let mut rx = receiver(there, 0).map_err(cannot)?;
                let mut tx = sender(back().map_err(cannot)?, 0).map_err(cannot)?;
                loops::echo(&mut tx, &mut rx, payload, &part)
            }
        };
        played.map_err(|stop| match stop {
            Stop::Over => Failure::Over,
            Stop::Failed(why) => Failure::Broken(why),
        })
    }
}

fn pin(cpu: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn message_of(panic: &(dyn core::any::Any + core::marker::Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a player panicked: {}", text.unwrap_or("without a word"))
}

fn broken<E: core::fmt::Display>(what: &str) -> impl Fn(E) -> Fault {
    move |error| Fault::Broken(format!("{what}: {error}"))
}
