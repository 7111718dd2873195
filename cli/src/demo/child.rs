//! What the child processes of the demo have in common: orders, answers, and a short life.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus::segment::inspect;
use annulus::{Kind, Location};
use clap::Args;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::crew::{Order, Said};
use crate::report::Failure;

/// Started by `annulus demo`.
#[derive(Debug, Args)]
pub struct ChildArgs {
    pub ring: PathBuf,
    /// The source of the records.
    #[arg(long)]
    pub number: u32,
    /// Records a second in the second part.
    #[arg(long)]
    pub rate: u64,
    /// Who started it.
    #[arg(long)]
    parent: i32,
}

/// Records that are published, or released, together.
pub const BURST: usize = 32;
/// How long to wait for the ring before looking at the orders.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// The orders that came so far.
#[derive(Debug, Default)]
pub struct Orders {
    hold: AtomicBool,
    pace: AtomicBool,
    stop: AtomicBool,
    close: AtomicBool,
}

impl Orders {
    fn of(&self, order: Order) -> &AtomicBool {
        match order {
            Order::Hold => &self.hold,
            Order::Pace => &self.pace,
            Order::Stop => &self.stop,
            Order::Close => &self.close,
        }
    }

    pub fn has(&self, order: Order) -> bool {
        self.of(order).load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.has(Order::Stop) || self.has(Order::Close)
    }

    /// Follows standard input until it ends; then so does the process.
    fn follow() -> Arc<Self> {
        let orders = Arc::new(Self::default());
        let follower = Arc::clone(&orders);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if let Ok(order) = serde_json::from_str(&line) {
                    follower.of(order).store(true, Ordering::Relaxed);
                }
            }
            if !follower.is_over() {
                // The parent is gone without a word.
                std::process::exit(2);
            }
        });
        orders
    }
}

/// Dies with the parent, even if that one is killed.
pub fn begin(args: &ChildArgs) -> Result<(Arc<Orders>, Kind), Failure> {
    let failed = |error| Failure::because("cannot set up a process of the demo", &error);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    prctl::set_timerslack(1).map_err(failed)?;
    if getppid().as_raw() != args.parent {
        return Err(Failure::new("only `annulus demo` starts this"));
    }
    let ring = inspect(&Location::from(&args.ring))
        .map_err(|error| Failure::of_ring("look at", &args.ring, &error))?;
    Ok((Orders::follow(), ring.kind))
}

pub fn say(said: &Said) -> Result<(), Failure> {
    let mut line = serde_json::to_string(said)
        .map_err(|error| Failure::because("cannot write JSON", &error))?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::because("cannot talk to the demo", &error))
}

/// Holds whatever the caller holds until this process is killed.
pub fn wait_for_death() -> Result<(), Failure> {
    say(&Said::Holding)?;
    loop {
        std::thread::park();
    }
}
