//! What happens when, in one run of the demo.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::segment::{ClaimInfo, ClaimKind, Role, Snapshot};
use annulus::{Kind, mpmc, spsc};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

use super::crew::{Crew, Halt, Order, PATIENCE, Said, TICK};
use super::ledger::{Ledger, Outcome};
use super::record::SLOT_BYTES;
use crate::report::Failure;
use crate::size::grouped;
use crate::stat;
use crate::stop::Stop;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    title: &'static str,
    kind: Kind,
    producers: u64,
    consumers: u64,
    /// Records a second and producer, in the second part.
    rate: u64,
    kills: bool,
}

pub const SPSC: Run = Run {
    title: "SPSC 1+1",
    kind: Kind::SpscBytes,
    producers: 1,
    consumers: 1,
    rate: 10_000,
    kills: false,
};

pub const MPMC: Run = Run {
    title: "MPMC 2+2",
    kind: Kind::MpmcSlots,
    producers: 2,
    consumers: 2,
    rate: 2_500,
    kills: true,
};

const SPSC_BYTES: u64 = 1 << 20;
const MPMC_SLOTS: u64 = 4096;

/// Plays a run of `duration`.
pub fn play(run: &Run, dir: &Path, duration: Duration, stop: &Stop) -> Result<Outcome, Halt> {
    let ring = dir.join(format!("{}.ring", run.title.replace(' ', "-")));
    let created = match run.kind {
        Kind::SpscBytes => spsc::Options::new(SPSC_BYTES).create(&ring),
        Kind::MpmcSlots => mpmc::Options::new(MPMC_SLOTS, SLOT_BYTES).create(&ring),
    };
    created.map_err(|error| Failure::of_ring("create", &ring, &error))?;
    let screen = Screen::new(run.title);
    let mut stage = Stage {
        run,
        ring,
        crew: Crew::new(stop),
        ledger: Ledger::default(),
        screen,
    };
    let rate = stage.perform(duration)?;
    stage.finish(rate)
}

struct Stage<'a> {
    run: &'a Run,
    ring: PathBuf,
    crew: Crew<'a>,
    ledger: Ledger,
    screen: Screen,
}

impl Stage<'_> {
    /// Returns the throughput of the first part in records a second.
    fn perform(&mut self, duration: Duration) -> Result<f64, Halt> {
        for _ in 0..self.run.consumers {
            self.hire(Role::Consumer)?;
        }
        for _ in 0..self.run.producers {
            self.hire(Role::Producer)?;
        }
        let first_part = duration.mul_f64(0.65);
        let begun = Instant::now();
        let before = self.look()?.released_records;
        if self.run.kills {
            for (role, at) in [(Role::Producer, 0.33), (Role::Consumer, 0.66)] {
                self.watch_until(begun + first_part.mul_f64(at))?;
                self.kill_one(role)?;
                self.hire(role)?;
            }
        }
        self.watch_until(begun + first_part)?;
        let records = self.look()?.released_records - before;
        let rate = per_second(records, begun.elapsed());
        for number in self.crew.numbers(Role::Producer) {
            self.crew.order(number, Order::Pace);
        }
        self.watch_until(begun + duration)?;
        Ok(rate)
    }

    fn hire(&mut self, role: Role) -> Result<(), Halt> {
        let number = self.crew.hire(role, &self.ring, self.run.rate)?;
        match self.crew.hear(number)? {
            Said::Ready => Ok(()),
            said => Err(self.crew.out_of_turn(number, &said)),
        }
    }

    fn look(&self) -> Result<Snapshot, Failure> {
        stat::look(&self.ring)
    }

    /// Lets the others work. If one of them says anything, something is wrong.
    fn watch_until(&mut self, until: Instant) -> Result<(), Halt> {
        while Instant::now() < until {
            if let Some((number, said)) = self.crew.hear_until(until.min(Instant::now() + TICK)) {
                return Err(self.crew.out_of_turn(number, &said));
            }
            if self.crew.is_stopped() {
                return Err(Halt::Stopped);
            }
            self.screen.show(&self.look()?);
        }
        Ok(())
    }

    /// Kills one of `role` while it holds a claim.
    fn kill_one(&mut self, role: Role) -> Result<(), Halt> {
        let Some(&victim) = self.crew.numbers(role).first() else {
            return Ok(());
        };
        let pid = self.crew.pid(victim);
        self.crew.order(victim, Order::Hold);
        let said = self.crew.hear(victim)?;
        self.enter(victim, said)?;
        match self.crew.hear(victim)? {
            Said::Holding => {}
            said => return Err(self.crew.out_of_turn(victim, &said)),
        }
        let claim = held_by(&self.look()?, pid).ok_or_else(|| {
            Failure::new(format_args!(
                "process {pid} holds a claim, but the ring shows none"
            ))
        })?;
        self.crew.kill(victim)?;
        self.ledger.killed += 1;
        let doing = match claim.kind {
            ClaimKind::Writing => "wrote to",
            ClaimKind::Reading => "read from",
        };
        self.screen.tell(&format!(
            "{}: killed {role} {pid} while it {doing} position {}",
            self.run.title,
            grouped(claim.position)
        ));
        Ok(())
    }

    /// Enters into the books what somebody says.
    fn enter(&mut self, number: u32, said: Said) -> Result<(), Halt> {
        match said {
            Said::Committed(count) => {
                self.ledger.committed.insert(number, count);
            }
            Said::Received(report) => self.ledger.reports.push(report),
            Said::Gone => self.part(number)?,
            said => return Err(self.crew.out_of_turn(number, &said)),
        }
        Ok(())
    }

    fn part(&mut self, number: u32) -> Result<(), Halt> {
        let pid = self.crew.pid(number);
        match self.crew.part(number)? {
            Some(status) if !status.success() => {
                Err(Failure::new(format_args!("process {pid} of the demo failed: {status}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Has the producers stop, the last one close the ring, and everybody report.
    fn finish(mut self, rate: f64) -> Result<Outcome, Halt> {
        let producers = self.crew.numbers(Role::Producer);
        for (index, number) in producers.iter().enumerate() {
            let is_last = index + 1 == producers.len();
            self.crew
                .order(*number, if is_last { Order::Close } else { Order::Stop });
            while !is_last && self.crew.numbers(Role::Producer).contains(number) {
                self.hear_and_enter()?;
            }
        }
        while !self.crew.is_empty() {
            self.hear_and_enter()?;
        }
        self.screen.clear();
        let paced_rate = self.run.rate * self.run.producers;
        let snapshot = self.look()?;
        Ok(self
            .ledger
            .close(self.run.title, rate, paced_rate, &snapshot))
    }

    fn hear_and_enter(&mut self) -> Result<(), Halt> {
        match self.crew.hear_until(Instant::now() + PATIENCE) {
            Some((number, said)) => self.enter(number, said),
            None => Err(self.crew.silence()),
        }
    }
}

fn held_by(snapshot: &Snapshot, pid: u32) -> Option<ClaimInfo> {
    let owner = snapshot
        .participants
        .iter()
        .find(|who| who.pid == pid)?
        .number;
    snapshot
        .claims
        .iter()
        .find(|claim| claim.owner == owner)
        .copied()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

/// Live progress, if anybody sits at a terminal; events in any case.
struct Screen {
    title: &'static str,
    bar: Option<ProgressBar>,
    last: (Instant, u64),
}

impl Screen {
    fn new(title: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.expect("the template is well formed"));
            bar
        });
        Self {
            title,
            bar,
            last: (Instant::now(), 0),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    fn show(&mut self, ring: &Snapshot) {
        let Some(bar) = &self.bar else { return };
        let (then, before) = self.last;
        let released = ring.released_records;
        let rate = per_second(released.saturating_sub(before), then.elapsed()) as u64;
        self.last = (Instant::now(), released);
        bar.set_message(format!(
            "{}: {} messages, {} messages/s, {} in the ring",
            self.title,
            grouped(released),
            grouped(rate),
            grouped(ring.backlog_records)
        ));
        bar.tick();
    }

    fn tell(&self, event: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{event}")),
            None => eprintln!("{event}"),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
