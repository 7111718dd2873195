//! The child processes, and talking to them.
//!
//! Orders go to a child's standard input, what it says comes from its standard output; both are
//! lines of JSON. Children die with this process, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use annulus::segment::Role;
use serde::{Deserialize, Serialize};

use super::ledger::Report;
use crate::report::Failure;
use crate::stop::Stop;

/// What children are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Take a claim, say so, and wait for death.
    Hold,
    /// Send at a fixed rate from now on.
    Pace,
    /// Stop sending, say how much it was, and leave.
    Stop,
    /// Close the ring, too.
    Close,
}

/// What children say.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// Attached.
    Ready,
    /// A producer's count, so far or for good.
    Committed(u64),
    /// A consumer's report, so far or for good.
    Received(Report),
    /// Holding a claim, waiting for death.
    Holding,
    /// Its standard output was closed.
    Gone,
}

/// Why a run ends before its end.
#[derive(Debug)]
pub enum Halt {
    /// A signal came.
    Stopped,
    Failed(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A child that takes longer than this to answer is a failure of the demo.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody looks at the clock, the signals and the ring.
pub const TICK: Duration = Duration::from_millis(50);

/// A child process.
#[derive(Debug)]
pub struct Member {
    pub role: Role,
    /// Also the source of its records.
    pub number: u32,
    process: Child,
}

/// All children of a run, and what they say.
#[derive(Debug)]
pub struct Crew<'s> {
    stop: &'s Stop,
    members: Vec<Member>,
    hired: u32,
    tell: Sender<(u32, Said)>,
    said: Receiver<(u32, Said)>,
}

impl<'s> Crew<'s> {
    pub fn new(stop: &'s Stop) -> Self {
        let (tell, said) = channel();
        Self {
            stop,
            members: Vec::new(),
            hired: 0,
            tell,
            said,
        }
    }

    /// Starts a child, which attaches to the ring. Returns its number.
    pub fn hire(&mut self, role: Role, ring: &Path, rate: u64) -> Result<u32, Failure> {
        self.hired += 1;
        let number = self.hired;
        let process = start(role, number, ring, rate)
            .map_err(|error| Failure::because("cannot start a process", &error))?;
        let mut member = Member {
            role,
            number,
            process,
        };
        self.listen(&mut member);
        self.members.push(member);
        Ok(number)
    }

    fn listen(&self, member: &mut Member) {
        let stdout = member
            .process
            .stdout
            .take()
            .expect("it was piped and not taken yet");
        let (number, tell) = (member.number, self.tell.clone());
        std::thread::spawn(move || {
            // What is cut off by a kill was not said.
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for said in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                // The crew may be gone.
                let _ = tell.send((number, said));
            }
            let _ = tell.send((number, Said::Gone));
        });
    }

    /// Numbers of those of a role.
    pub fn numbers(&self, role: Role) -> Vec<u32> {
        self.members
            .iter()
            .filter(|m| m.role == role)
            .map(|m| m.number)
            .collect()
    }

    pub fn pid(&self, number: u32) -> u32 {
        self.members
            .iter()
            .find(|m| m.number == number)
            .map_or(0, |m| m.process.id())
    }

    pub fn order(&mut self, number: u32, order: Order) {
        let member = self
            .members
            .iter_mut()
            .find(|member| member.number == number);
        if let Some(stdin) = member.and_then(|member| member.process.stdin.as_mut()) {
            // If it has died, what it says will tell.
            let _ = serde_json::to_writer(&*stdin, &order);
            let _ = stdin.write_all(b"\n");
        }
    }

    /// Waits for somebody to say something; `None` at `until`, or when it is time to stop.
    pub fn hear_until(&self, until: Instant) -> Option<(u32, Said)> {
        while !self.stop.requested() {
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left.min(TICK)) {
                Ok(said) => return Some(said),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Waits for one child's answer, while no other one has anything to say.
    pub fn hear(&self, number: u32) -> Result<Said, Halt> {
        match self.hear_until(Instant::now() + PATIENCE) {
            Some((speaker, said)) if speaker == number => Ok(said),
            Some((speaker, said)) => Err(self.out_of_turn(speaker, &said)),
            None => Err(self.silence()),
        }
    }

    pub fn out_of_turn(&self, speaker: u32, said: &Said) -> Halt {
        let pid = self.pid(speaker);
        Failure::new(format_args!(
            "process {pid} of the demo said {}",
            said.name()
        ))
        .into()
    }

    /// Why nobody said anything for so long.
    pub fn silence(&self) -> Halt {
        if self.stop.requested() {
            return Halt::Stopped;
        }
        let seconds = PATIENCE.as_secs();
        Failure::new(format_args!(
            "a process of the demo was silent for {seconds} s"
        ))
        .into()
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.requested()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// SIGKILL, and no more of it.
    pub fn kill(&mut self, number: u32) -> Result<(), Halt> {
        let failed = |error| Failure::because("cannot kill a process of the demo", &error);
        if let Some(member) = self.members.iter_mut().find(|m| m.number == number) {
            member.process.kill().map_err(failed)?;
        }
        self.part(number)?;
        match self.hear(number)? {
            Said::Gone => Ok(()),
            said => Err(self.out_of_turn(number, &said)),
        }
    }

    /// Waits for a child's end.
    pub fn part(&mut self, number: u32) -> Result<Option<ExitStatus>, Failure> {
        let Some(index) = self.members.iter().position(|m| m.number == number) else {
            return Ok(None);
        };
        let status = self.members[index].process.wait();
        self.members.remove(index);
        status
            .map(Some)
            .map_err(|error| Failure::because("cannot wait for a process of the demo", &error))
    }
}

impl Said {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "that it is ready",
            Self::Committed(_) => "what it committed",
            Self::Received(_) => "what it received",
            Self::Holding => "that it holds a claim",
            Self::Gone => "nothing and ended",
        }
    }
}

fn start(role: Role, number: u32, ring: &Path, rate: u64) -> std::io::Result<Child> {
    let subcommand = match role {
        Role::Producer => "demo-produce",
        Role::Consumer => "demo-consume",
    };
    Command::new(std::env::current_exe()?)
        .arg(subcommand)
        .arg(ring)
        .args(["--number", &number.to_string(), "--rate", &rate.to_string()])
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
