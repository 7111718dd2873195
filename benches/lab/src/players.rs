//! The players of a slice: processes that the driver forks, each pinned, none of them orphaned.
//!
//! # Invariants
//! 1. The driver has one thread: what it forks can do whatever it could do itself.
//! 2. A player dies with its driver (`PR_SET_PDEATHSIG`), and at the deadline at the latest.
//! 3. A player writes what it found to a pipe of its own, of which nobody else has the writing end:
//!    the pipe's end without a word is the player's death.
//! 4. Players never return into the driver's code: they leave by `_exit`.

use core::time::Duration;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe};
use serde::{Deserialize, Serialize};

use crate::clock::{now_ns, ns_of};
use crate::contender::{Conditions, Fault, Found};
use crate::control::Control;
use crate::loops::{self, Part, Played, Stop};
use crate::payload::Payload;
use crate::result::Latency;
use crate::tally::{self, Seen, Sent};
use crate::transport::{Cannot, Place, Transport};
use crate::work::{Pattern, Waiting, Work};

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

/// A player's report, as it goes through its pipe.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    sent: Option<Sent>,
    seen: Option<Seen>,
    torn_before: u64,
    began: u64,
    ended: u64,
    latency: Option<Latency>,
    failure: Option<Failure>,
}

/// Why a player did not play to its end.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    /// Because of another one, which tells more.
    Over,
    Cannot(String),
    Broken(String),
}

impl Told {
    fn of(played: Result<Played, Failure>) -> Self {
        match played {
            Ok(played) => Self {
                sent: played.sent,
                seen: played.seen,
                torn_before: played.torn_before,
                began: played.began,
                ended: played.ended,
                latency: played.latency.as_ref().map(Latency::of),
                failure: None,
            },
            Err(failure) => Self {
                failure: Some(failure),
                ..Self::default()
            },
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
            let mut steps = 0;
            while now_ns() < end {
                (0..STEPS).for_each(|_| step());
                steps += STEPS;
            }
            steps
        };
        repeat_until(now_ns() + warm_up);
        let began = now_ns();
        let records = repeat_until(began + time);
        let ended = now_ns();
        let sent = Some(Sent { first: 0, records });
        vec![Told::of(Ok(Played {
            sent,
            began,
            ended,
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

fn broken<E: core::fmt::Display>(what: &str) -> impl Fn(E) -> Fault {
    move |error| Fault::Broken(format!("{what}: {error}"))
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

/// A process that was forked.
struct Player {
    name: String,
    pid: Pid,
    pipe: File,
    told: Vec<u8>,
    is_done: bool,
}

/// All processes of a slice. Those that are left are killed with it.
struct Crew {
    players: Vec<Player>,
    deadline: Instant,
    allowed: Duration,
}

impl Crew {
    fn new(allowed: Duration) -> Self {
        Self {
            players: Vec::new(),
            deadline: Instant::now() + allowed,
            allowed,
        }
    }

    /// Starts a process that does `act`, tells what it found, and leaves.
    fn fork(&mut self, name: String, act: impl FnOnce() -> Vec<Told>) -> Result<(), Fault> {
        let (reading, writing) = pipe().map_err(broken("cannot make a pipe"))?;
        let driver = nix::unistd::getpid();
        // SAFETY: the driver has no other thread (INV-1, checked before), so that no lock of it is
        // held by somebody who is missing in the child.
        let forked = unsafe { fork() }.map_err(broken("cannot fork"))?;
        match forked {
            ForkResult::Parent { child } => {
                drop(writing);
                self.players.push(Player {
                    name,
                    pid: child,
                    pipe: File::from(reading),
                    told: Vec::new(),
                    is_done: false,
                });
                Ok(())
            }
            ForkResult::Child => leave(driver, writing, act),
        }
    }

    /// Waits for what all of them have to tell.
    fn collect(mut self, control: &Control) -> Result<Vec<Told>, Fault> {
        while let Some(left) = self.wait()? {
            if left.is_zero() {
                return Err(self.wedged());
            }
        }
        control.set_over();
        let mut all = Vec::new();
        let mut deaths = Vec::new();
        for player in &mut self.players {
            let status = reap(player.pid);
            match serde_json::from_slice::<Vec<Told>>(&player.told) {
                Ok(told) => all.extend(told),
                Err(_) => deaths.push(format!("{} {}", player.name, death_of(status))),
            }
        }
        self.players.clear();
        verdict(all, &deaths)
    }

    /// Reads what there is. The time left if somebody is not done, `None` if all are.
    fn wait(&mut self) -> Result<Option<Duration>, Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut waiting: Vec<&mut Player> = self
            .players
            .iter_mut()
            .filter(|player| !player.is_done)
            .collect();
        if waiting.is_empty() {
            return Ok(None);
        }
        let mut fds: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|player| PollFd::new(player.pipe.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(broken("cannot poll")(error)),
        }
        let readable: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        let mut is_spoiled = false;
        for (player, _) in waiting
            .iter_mut()
            .zip(readable)
            .filter(|(_, readable)| *readable)
        {
            let mut piece = [0; 1 << 16];
            match player.pipe.read(&mut piece) {
                Ok(0) => {
                    player.is_done = true;
                    is_spoiled |= is_failure(&player.told);
                }
                Ok(count) => player.told.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken("cannot read a pipe")(error)),
            }
        }
        if is_spoiled {
            // The others wait for somebody who is gone.
            self.kill();
        }
        Ok(Some(left))
    }

    fn kill(&self) {
        for player in self.players.iter().filter(|player| !player.is_done) {
            // It was not waited for: the pid is still its own.
            let _gone = kill(player.pid, Signal::SIGKILL);
        }
    }

    fn wedged(&self) -> Fault {
        let names = self.players.iter().filter(|player| !player.is_done);
        let names: Vec<&str> = names.map(|player| player.name.as_str()).collect();
        let (names, allowed) = (names.join(", "), self.allowed);
        Fault::Wedged(format!("not done after {allowed:.1?}: {names}"))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill();
        for player in &self.players {
            reap(player.pid);
        }
    }
}

fn is_failure(told: &[u8]) -> bool {
    serde_json::from_slice::<Vec<Told>>(told)
        .map_or(true, |all| all.iter().any(|told| told.failure.is_some()))
}

fn reap(pid: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Ok(status) => return Some(status),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn death_of(status: Option<WaitStatus>) -> String {
    match status {
        Some(WaitStatus::Signaled(_, signal, _)) => format!("died of {signal}"),
        Some(WaitStatus::Exited(_, code)) => format!("left with {code}"),
        other => format!("ended: {other:?}"),
    }
}

/// In the child.
fn leave(driver: Pid, pipe: OwnedFd, act: impl FnOnce() -> Vec<Told>) -> ! {
    std::panic::set_hook(Box::new(|_| {}));
    let told = catch_unwind(AssertUnwindSafe(|| {
        belong_to(driver);
        serde_json::to_vec(&act()).expect("plain data")
    }));
    let code = match told {
        Ok(told) => File::from(pipe).write_all(&told).map_or(3, |()| 0),
        Err(_) => 4,
    };
    // SAFETY: it ends the process here and now: nothing of the driver's is run or dropped (INV-4).
    unsafe { libc::_exit(code) }
}

/// Dies with the driver, and of the signals by which people end it.
fn belong_to(driver: Pid) {
    set_pdeathsig(Signal::SIGKILL).expect("a valid signal");
    assert_eq!(getppid(), driver, "the driver died meanwhile");
    for stop in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the default action runs no code of ours.
        unsafe { signal(stop, SigHandler::SigDfl) }.expect("a valid signal");
    }
}

/// What all of them told, or the reason of the first failure that is not another's.
fn verdict(all: Vec<Told>, deaths: &[String]) -> Result<Vec<Told>, Fault> {
    let mut failures: Vec<&Failure> = all
        .iter()
        .filter_map(|told| told.failure.as_ref())
        .collect();
    failures.sort_by_key(|failure| matches!(failure, Failure::Over));
    match failures.first() {
        Some(Failure::Cannot(why)) => Err(Fault::Cannot(why.clone())),
        Some(Failure::Broken(why)) => Err(Fault::Broken(why.clone())),
        // Those that were killed because of a death died too: the first one is the cause.
        _ if !deaths.is_empty() => Err(Fault::Broken(deaths.join(", "))),
        Some(Failure::Over) => Err(Fault::Broken("a player gave up without a word".to_owned())),
        None => Ok(all),
    }
}

/// What all of it comes to.
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
fn settle(work: &Work, told: &[Told]) -> Result<Found, Fault> {
    let torn_before: u64 = told.iter().map(|told| told.torn_before).sum();
    if torn_before > 0 {
        return Err(Fault::Broken(format!("{torn_before} records were torn")));
    }
    let latency = merge(told)?;
    if work.pattern == Pattern::RoundTrip {
        return Ok(alone(told, latency));
    }
    let sent: Vec<Sent> = told.iter().filter_map(|told| told.sent).collect();
    let seen: Vec<Seen> = told.iter().filter_map(|told| told.seen).collect();
    let verdict = tally::judge(&sent, &seen);
    if let Some(why) = verdict.broken {
        return Err(Fault::Broken(why));
    }
    if verdict.received == 0 {
        return Err(Fault::Broken("no record arrived".to_owned()));
    }
    let ns = match &latency {
        Some(latency) => latency.value_at_quantile(0.5) as f64,
        None => elapsed(told) / verdict.received as f64,
    };
    Ok(Found {
        ns,
        records: verdict.received,
        lost: verdict.lost,
        repeated: verdict.repeated,
        latency,
    })
}

/// The same where one player has counted it all, and lost nothing.
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
fn alone(told: &[Told], latency: Option<Histogram<u64>>) -> Found {
    let sent = told.iter().filter_map(|told| told.sent);
    let records: u64 = sent.map(|sent| sent.records).sum();
    Found {
        ns: elapsed(told) / records.max(1) as f64,
        records,
        lost: 0,
        repeated: 0,
        latency,
    }
}

/// Nanoseconds from the first beginning to the last end.
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
fn elapsed(told: &[Told]) -> f64 {
    let began = told
        .iter()
        .map(|told| told.began)
        .filter(|began| *began > 0);
    let ended = told.iter().map(|told| told.ended).max();
    ended.unwrap_or(0).saturating_sub(began.min().unwrap_or(0)) as f64
}

fn merge(told: &[Told]) -> Result<Option<Histogram<u64>>, Fault> {
    let mut all: Option<Histogram<u64>> = None;
    for latency in told.iter().filter_map(|told| told.latency.as_ref()) {
        let one = latency.histogram();
        let one = one.map_err(broken("a histogram cannot be read"))?;
        match &mut all {
            Some(all) => all.add(one).map_err(broken("histograms differ"))?,
            None => all = Some(one),
        }
    }
    Ok(all)
}
