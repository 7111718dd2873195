//! The victim: a forked process that performs one operation, stepped by the tracer.
//!
//! Tracer and victim share a page: a word, the phase, and the ids of the records that the victim
//! has released. The victim prepares, stops itself, stores `BEGUN`, performs the operation, stores
//! `DONE`, and tidies up like any program. The tracer counts instructions from the one that made
//! the phase `BEGUN`, which is number 0, so that the count starts and ends at the same instruction
//! each time.
//!
//! # Invariants
//! 1. A victim never outlives its tracer (`PTRACE_O_EXITKILL`), nor its [`Victim`].
//! 2. The child never returns into the tracer's code: it exits, whatever happens.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// The victim has not come to the operation yet.
const PREPARING: u32 = 0;
/// It is in the operation.
const BEGUN: u32 = 1;
/// It has finished the operation.
const DONE: u32 = 2;

/// What the child exits with if it panicked: the harness or the library is wrong.
const PANICKED: i32 = 101;

/// The page that tracer and victims share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page(&'static Shared);

#[derive(Debug)]
#[repr(C)]
struct Shared {
    phase: AtomicU32,
    /// How many of `taken` are there.
    count: AtomicU32,
    /// Ids of records that the victim has released.
    taken: [AtomicU32; 16],
}

impl Shared {
    /// Zeroes, in memory that children share, and that lasts as long as the process.
    fn new() -> Result<&'static Self> {
        const BYTES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(4096).expect("not 0");
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping, which touches no memory that exists.
        let page: NonNull<Self> =
            unsafe { mmap_anonymous(None, BYTES, both, MapFlags::MAP_SHARED)? }.cast();
        // SAFETY: the page is aligned, zeroed, never unmapped, and only accessed as these atomics.
        Ok(unsafe { page.as_ref() })
    }
}

/// Numbers that several processes draw, each only once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter(&'static Shared);

impl Counter {
    pub(super) fn new() -> Result<Self> {
        Shared::new().map(Self)
    }

    pub(super) fn take(self) -> usize {
        self.0.count.fetch_add(1, Ordering::SeqCst) as usize
    }
}

impl Page {
    pub(super) fn new() -> Result<Self> {
        Shared::new().map(Self)
    }

    fn phase(self) -> u32 {
        self.0.phase.load(Ordering::SeqCst)
    }

    fn set(self, phase: u32) {
        self.0.phase.store(phase, Ordering::SeqCst);
    }

    fn reset(self) {
        self.set(PREPARING);
        self.0.count.store(0, Ordering::SeqCst);
    }

    /// The ids of the records that the victim has released.
    pub(super) fn taken(self) -> Vec<u32> {
        let count = self.0.count.load(Ordering::SeqCst) as usize;
        let ids = self.0.taken.iter().take(count);
        ids.map(|id| id.load(Ordering::SeqCst)).collect()
    }
}

/// What a victim works with.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// The ring's file.
    pub(super) ring: PathBuf,
    page: Page,
}

impl Stage {
    pub(super) fn new(ring: PathBuf, page: Page) -> Self {
        Self { ring, page }
    }

    /// Performs the operation, in the sight of the tracer.
    pub(super) fn perform<T>(&self, operation: impl FnOnce() -> T) -> T {
        ptrace::traceme().expect("the tracer is the parent");
        stop_myself();
        self.page.set(BEGUN);
        let outcome = operation();
        self.page.set(DONE);
        outcome
    }

    /// Notes that a record is about to be released.
    pub(super) fn takes(&self, id: u32) {
        let at = self.page.0.count.fetch_add(1, Ordering::SeqCst) as usize;
        self.page.0.taken[at].store(id, Ordering::SeqCst);
    }

    /// Lets another process do something and die by SIGKILL at its end.
    pub(super) fn die_after(&self, something: impl FnOnce()) {
        let child = in_child(|| {
            something();
            let _ = kill(Pid::this(), Signal::SIGKILL);
        });
        let died = waitpid(child.expect("a child"), None).expect("it ends");
        let expected = matches!(died, WaitStatus::Signaled(_, Signal::SIGKILL, _));
        assert!(expected, "the one to die before the operation: {died:?}");
    }
}

/// By the shortest way, for the return from it is stepped through.
fn stop_myself() {
    // SAFETY: two system calls that take integers only.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_kill, pid, libc::SIGSTOP) };
}

/// Forks a child that does `something` and exits.
pub(super) fn in_child(something: impl FnOnce()) -> Result<Pid> {
    // SAFETY: the tracer and its children have a single thread, so the child may do what it likes.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            set_hook(Box::new(|panic| eprintln!("in a child: {panic}")));
            let outcome = catch_unwind(AssertUnwindSafe(something));
            let code = if outcome.is_ok() { 0 } else { PANICKED };
            // SAFETY: ends the process without running the tracer's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// The way that a victim went through its operation.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Numbers of the instructions that were system calls.
    pub(super) calls: Vec<u64>,
    /// Where the next instruction stood, after each number of instructions.
    pub(super) places: Vec<u64>,
}

/// A victim that is stopped, or has been killed.
#[derive(Debug)]
pub(super) struct Victim {
    pid: Pid,
    page: Page,
    is_reaped: bool,
    /// Instructions of the operation that were executed.
    pub(super) steps: u64,
}

impl Victim {
    /// Forks a victim and lets it come to the first instruction of its operation.
    pub(super) fn spawn(stage: &Stage, act: fn(&Stage)) -> Result<Self> {
        stage.page.reset();
        let pid = in_child(|| act(stage))?;
        let mut victim = Self {
            pid,
            page: stage.page,
            is_reaped: false,
            steps: 0,
        };
        match victim.wait()? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            status => bail!("the victim did not come to its operation: {status:?}"),
        }
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(pid, options)?;
        while victim.page.phase() == PREPARING {
            victim.step_raw()?;
        }
        Ok(victim)
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the operation is finished.
    pub(super) fn is_done(&self) -> bool {
        self.page.phase() == DONE
    }

    fn wait(&mut self) -> Result<WaitStatus> {
        let status = waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)).context("wait for it")?;
        if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
            self.is_reaped = true;
        }
        Ok(status)
    }

    fn step_raw(&mut self) -> Result<()> {
        ptrace::step(self.pid, None).context("step")?;
        self.expect_stop()
    }

    fn expect_stop(&mut self) -> Result<()> {
        match self.wait()? {
            WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_) => Ok(()),
            status => bail!("the victim ended by itself: {status:?}"),
        }
    }

    /// Executes one more instruction, unless the operation is finished.
    pub(super) fn step(&mut self) -> Result<()> {
        if !self.is_done() {
            self.step_raw()?;
            self.steps += 1;
        }
        Ok(())
    }

    /// Executes instructions up to number `target`, one by one. Stops early if the operation is
    /// finished.
    pub(super) fn walk(&mut self, target: u64) -> Result<()> {
        while self.steps < target && !self.is_done() {
            self.step()?;
        }
        Ok(())
    }

    /// As [`Self::walk`], but in leaps along the way that another victim went, from system call to
    /// system call and then to the instruction itself. False if this one left that way: then it is
    /// nowhere in particular.
    pub(super) fn leap(&mut self, target: u64, way: &Way) -> Result<bool> {
        for call in way.calls.iter().take_while(|call| **call <= target) {
            for _ in ["entry", "exit"] {
                if self.is_done() || !self.run()? {
                    return Ok(false);
                }
            }
            self.steps = *call;
        }
        let last = way.places.len() - 1;
        let target = usize::try_from(target).map_or(last, |target| target.min(last));
        let place = way.places[target];
        self.break_at(place, way.places[last])?;
        let passed = (0..).zip(&way.places).take(target + 1);
        for (number, _) in passed.filter(|(_, passed)| **passed == place) {
            if number <= self.steps {
                continue;
            }
            // Off the breakpoint, which stops nobody who stands there already.
            self.step_raw()?;
            let is_astray = number > self.steps + 1 && self.run()?;
            if is_astray || self.place()? != place {
                return Ok(false);
            }
            self.steps = number;
        }
        self.break_nowhere()?;
        Ok(true)
    }

    /// Runs to the next system call, its end, or a breakpoint. True if it is a system call.
    fn run(&mut self) -> Result<bool> {
        ptrace::syscall(self.pid, None).context("run to a system call")?;
        match self.wait()? {
            WaitStatus::PtraceSyscall(_) => Ok(true),
            WaitStatus::Stopped(..) => Ok(false),
            status => bail!("the victim ended by itself: {status:?}"),
        }
    }

    /// Lets it stop before it executes what stands at either place, by the processor's own means.
    fn break_at(&self, place: u64, other: u64) -> Result<()> {
        /// Two breakpoints for execution in this process: bits L0 and L1.
        const BOTH: u64 = 0b0101;
        self.set_debug_register(0, place)?;
        self.set_debug_register(1, other)?;
        self.set_debug_register(7, BOTH)
    }

    fn break_nowhere(&self) -> Result<()> {
        self.set_debug_register(7, 0)
    }

    fn set_debug_register(&self, number: usize, value: u64) -> Result<()> {
        let offset = core::mem::offset_of!(libc::user, u_debugreg) + number * 8;
        let offset = offset as ptrace::AddressType;
        ptrace::write_user(self.pid, offset, value.cast_signed()).context("set a breakpoint")
    }

    /// Where the next instruction stands.
    pub(super) fn place(&self) -> Result<u64> {
        Ok(ptrace::getregs(self.pid)?.rip)
    }

    /// The number of the system call that the next instruction makes, if it makes one.
    pub(super) fn system_call(&self) -> Result<Option<u64>> {
        const SYSCALL: u16 = 0x050f;
        let registers = ptrace::getregs(self.pid)?;
        let text = ptrace::read(self.pid, registers.rip as ptrace::AddressType)?;
        let is_call = text.to_le_bytes()[..2] == SYSCALL.to_le_bytes();
        Ok(is_call.then_some(registers.rax))
    }

    /// Lets it run into the system call at which it stands, and waits until it sleeps there.
    pub(super) fn fall_asleep(&mut self) -> Result<()> {
        ptrace::cont(self.pid, None).context("run to sleep")?;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
            // Behind the name, which is in brackets.
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            match state.chars().next() {
                Some('S') => return Ok(()),
                Some('R') => std::thread::yield_now(),
                other => bail!("the victim is in state {other:?} instead of asleep"),
            }
        }
    }

    /// Kills it, really, and waits until it is reaped.
    pub(super) fn kill(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if !self.is_reaped {
            kill(self.pid, Signal::SIGKILL).context("kill")?;
            while !self.is_reaped {
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Leaves it stopped by SIGSTOP, without a tracer.
    pub(super) fn stop(mut self) -> Result<Stopped> {
        ptrace::detach(self.pid, Signal::SIGSTOP).context("detach")?;
        let status = self.wait()?;
        let is_stopped = matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP));
        ensure!(is_stopped, "the victim did not stop: {status:?}");
        Ok(Stopped(self))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // The tracer is about to report an error already, or to end.
        let _ = self.end();
    }
}

/// A victim that is stopped and that nobody traces.
#[derive(Debug)]
pub(super) struct Stopped(Victim);

impl Stopped {
    /// Lets it go on until it exits.
    pub(super) fn go_on(mut self) -> Result<()> {
        kill(self.0.pid, Signal::SIGCONT).context("continue")?;
        match self.0.wait()? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => bail!("the victim did not finish after SIGCONT: {status:?}"),
        }
    }
}
