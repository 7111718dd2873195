//! The processes of a slice: forked, listened to, reaped, none of them orphaned.

use core::time::Duration;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe};

use super::account::{Told, verdict};
use super::broken;
use crate::contender::Fault;
use crate::control::Control;

/// A process that was forked.
struct Player {
    name: String,
    pid: Pid,
    pipe: File,
    told: Vec<u8>,
    is_done: bool,
}

/// All processes of a slice. Those that are left are killed with it.
pub(super) struct Crew {
    players: Vec<Player>,
    deadline: Instant,
    allowed: Duration,
}

impl Crew {
    pub(super) fn new(allowed: Duration) -> Self {
        Self {
            players: Vec::new(),
            deadline: Instant::now() + allowed,
            allowed,
        }
    }

    /// Starts a process that does `act`, tells what it found, and leaves.
    pub(super) fn fork(
        &mut self,
        name: String,
        act: impl FnOnce() -> Vec<Told>,
    ) -> Result<(), Fault> {
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
    pub(super) fn collect(mut self, control: &Control) -> Result<Vec<Told>, Fault> {
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
