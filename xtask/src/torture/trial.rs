//! One trial: a fresh ring, a fresh victim, a real SIGKILL after a given instruction, and the
//! questions that follow.
//!
//! 1. Is every word in a state that a death may leave, by the independent checker?
//! 2. Do the sums of records fit what is known to have been committed and released, and does the
//!    library's own inspection say the same?
//! 3. Do the survivors go on within a second of the locks being free, and is every record that is
//!    left delivered once, and no other?
//! 4. Is nothing left of the dead: no row, no slot, no lock, no file?

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use annulus::Location;
use annulus::segment::{CreateError, inspect};

use super::account::{self, Account, FIRST_OF_VICTIM, LONG};
use super::bench::{Bench, Origin};
use super::image::{self, Image, row};
use super::operations::{self, Operation, Ring, Side};
use super::plan::{ASLEEP, Plan, is_birth};
use super::survivors::{Scene, Survivors};
use super::victim::Victim;

/// When the survivors attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Before the operation; positions begin at 0.
    Witness,
    /// After the death; positions wrap.
    Successor,
}

impl Variant {
    /// Where its rings begin, so that each operation is tried at the wrap as well.
    fn origin(self) -> Origin {
        match self {
            Self::Witness => Origin::Zero,
            Self::Successor => Origin::BeforeWrap,
        }
    }
}

/// A victim at the beginning of its operation.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) victim: Victim,
    pub(super) survivors: Option<Survivors>,
    /// The account before the operation.
    pub(super) before: Account,
}

/// What a trial showed.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) states: BTreeSet<&'static str>,
    /// From the release of the locks until everybody had gone on.
    pub(super) took: Duration,
}

/// The account of a ring of either kind.
pub(super) fn account_of(operation: &Operation, image: &Image) -> Result<Account> {
    match operation.ring {
        Ring::Mpmc => account::slots::account(image),
        Ring::Spsc => account::bytes::account(image),
    }
}

/// Lays out the ring and brings a victim to the first instruction of the operation.
pub(super) fn set_out(bench: &Bench, operation: &Operation, variant: Variant) -> Result<Ready> {
    let ring = &bench.stage.ring;
    let origin = variant.origin();
    let committed = bench
        .lay_out(operation, origin)
        .context("lay out the ring")?;
    let before = if is_birth(operation) {
        account::EMPTY
    } else {
        account_of(operation, &Image::read(&image::open(ring)?)?)?
    };
    ensure!(
        before.committed == committed,
        "{before:?} instead of {committed} records"
    );
    let is_witnessed = variant == Variant::Witness && !is_birth(operation);
    let survivors = is_witnessed.then(|| Survivors::witnesses(operation, ring));
    bench.let_die(operation)?;
    let victim = Victim::spawn(&bench.stage, operation.act)?;
    Ok(Ready {
        victim,
        survivors,
        before,
    })
}

/// Brings a victim to where it has executed `point` instructions of its operation.
pub(super) fn bring(
    bench: &Bench,
    operation: &Operation,
    variant: Variant,
    point: u64,
    plan: &Plan,
) -> Result<Ready> {
    let mut ready = set_out(bench, operation, variant)?;
    if !ready.victim.leap(point, &plan.way)? {
        // A clock or the heap made it take another way than the one of the plan.
        ready.victim.kill()?;
        drop(ready.survivors);
        ready = set_out(bench, operation, variant)?;
        ready.victim.walk(point)?;
    }
    Ok(ready)
}

/// Kills a victim after `point` instructions and asks all questions.
pub(super) fn kill(
    bench: &Bench,
    operation: &Operation,
    variant: Variant,
    point: u64,
    plan: &Plan,
    sleeps: bool,
) -> Result<Shown> {
    let ready = match plan.sleep {
        Some(sleep) if point == ASLEEP => {
            let mut ready = bring(bench, operation, variant, sleep, plan)?;
            ready.victim.fall_asleep()?;
            ready
        }
        _ => bring(bench, operation, variant, point, plan)?,
    };
    let is_done = ready.victim.is_done();
    ready.victim.kill()?;
    let mut states = BTreeSet::new();
    if is_birth(operation) {
        states.extend(check_birth(bench, operation, is_done)?);
    }
    let file = image::open(&bench.stage.ring)?;
    wait_for_locks(&file)?;
    let free_at = Instant::now();
    let image = Image::read(&file)?;
    let dead = Dead {
        bench,
        operation,
        image: &image,
        before: &ready.before,
        is_done,
    };
    states.extend(dead.states());
    let outcome = dead.ask(ready.survivors, free_at, sleeps);
    let took = outcome.map_err(|error| {
        let now = Image::read(&file)
            .map(|image| image.dump())
            .unwrap_or_default();
        anyhow!(
            "{error:#}\n  words at its death:\n{}  words now:\n{now}",
            image.dump()
        )
    })?;
    Ok(Shown { states, took })
}

/// Waits until nobody but this process holds a lock.
fn wait_for_locks(file: &File) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    loop {
        let image = Image::read(file)?;
        let mine = rows_of_mine(&image);
        let mut others = (1..=image.participants()).filter(|row| !mine.contains(row));
        let is_held = others.try_fold(false, |held, row| {
            anyhow::Ok(held || image::is_locked(file, row)?)
        })?;
        if !is_held {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "a dead one's lock is held for ever"
        );
    }
}

fn rows_of_mine(image: &Image) -> Vec<u16> {
    let others = image.rows_of_others(std::process::id());
    let mut rows = image.rows_in_use();
    rows.retain(|row| !others.contains(row));
    rows
}

/// No ring, or a whole one; and nothing else.
fn check_birth(
    bench: &Bench,
    operation: &Operation,
    is_done: bool,
) -> Result<Option<&'static str>> {
    let names = bench.names()?;
    let is_there = names == ["ring"];
    ensure!(is_there || names.is_empty(), "creation left {names:?}");
    ensure!(is_there || !is_done, "creation left nothing");
    let created = match operation.ring {
        Ring::Mpmc => operations::mpmc_options().create(&bench.stage.ring),
        Ring::Spsc => operations::spsc_options().create(&bench.stage.ring),
    };
    match created {
        Ok(()) if !is_there => {}
        Err(CreateError::AlreadyExists { .. }) if is_there => {}
        other => {
            return Err(anyhow!(
                "the next creator is told {other:?}, with {names:?} there"
            ));
        }
    }
    Ok((!is_there).then_some("no-file"))
}

/// A ring with a dead victim.
struct Dead<'d> {
    bench: &'d Bench,
    operation: &'d Operation,
    image: &'d Image,
    before: &'d Account,
    is_done: bool,
}

impl Dead<'_> {
    fn states(&self) -> Vec<&'static str> {
        match self.operation.ring {
            Ring::Mpmc => account::slots::states(self.image),
            Ring::Spsc => account::bytes::states(self.image),
        }
    }

    fn ask(
        &self,
        survivors: Option<Survivors>,
        free_at: Instant,
        sleeps: bool,
    ) -> Result<Duration> {
        let ring = &self.bench.stage.ring;
        let account = account_of(self.operation, self.image).context("at its death")?;
        self.check_account(&account)?;
        compare_with_library(ring, &account).context("at its death")?;
        let scene = Scene {
            ring,
            account: &account,
            is_closed: account::is_closed(self.image),
            was_attached: self.was_attached(),
            free_at,
            sleeps,
        };
        let successors = || Survivors::successors(self.operation, ring);
        let mut survivors = survivors.unwrap_or_else(successors);
        let fresh = survivors.go_on(&scene)?;
        let took = free_at.elapsed();
        let now = Image::read(&image::open(ring)?)?;
        ensure!(now.rows_in_use().len() == Survivors::ROWS, "rows leaked");
        let rested = rested(account.committed + fresh, account.origin);
        check_rest(self.operation, &now, ring, &rested)?;
        drop(survivors);
        check_successor(self.operation, ring, account.origin)?;
        check_deserted(ring, self.bench)?;
        Ok(took)
    }

    /// The row that the victim leaves empty, or the one that it would have had.
    fn was_attached(&self) -> bool {
        let number = match self.operation.vacant() {
            Side::Producer => 1,
            _ => 2,
        };
        self.image.row_state(number) != row::FREE
    }

    /// Compares with what the operation may have done.
    fn check_account(&self, account: &Account) -> Result<()> {
        let (operation, before) = (self.operation, self.before);
        let commits = account.committed.checked_sub(before.committed);
        let commits = commits.with_context(|| format!("committed ones are lost: {account:?}"))?;
        let releases = account.released.checked_sub(before.released);
        let releases = releases.with_context(|| format!("a release is undone: {account:?}"))?;
        for (what, found, most) in [
            ("commit", commits, operation.commits),
            ("release", releases, operation.releases),
        ] {
            let most = u64::from(most);
            let whole = found == most || found == 0 || !operation.is_atomic;
            let complete = found == most || !self.is_done;
            let fits = found <= most && whole && complete;
            ensure!(
                fits,
                "{found} records are seen of a {what} of {most}: {account:?}"
            );
        }
        let origin = operation.origin.filter(|_| commits > 0).or(before.origin);
        ensure!(
            account.origin == origin,
            "{commits} records are seen of a commit, and the origin {:?} instead of {origin:?}",
            account.origin
        );
        let kept = before.left.iter().skip(usize::try_from(releases)?);
        let first = FIRST_OF_VICTIM;
        let new = (first..).take(usize::try_from(commits)?);
        let expected = kept
            .map(|left| (left.id, left.attempts))
            .chain(new.map(|id| (id, 0)));
        let expected: Vec<(u32, u8)> = expected.collect();
        let fits = account.left.len() == expected.len()
            && account
                .left
                .iter()
                .zip(&expected)
                .all(|(left, (id, attempts))| {
                    let again = left.attempts.checked_sub(*attempts);
                    left.id & !LONG == *id & !LONG && again.is_some_and(|again| again <= 1)
                });
        ensure!(fits, "{account:?}, expected {expected:?} (id, attempts)");
        Ok(())
    }
}

/// What the library itself says of the ring.
fn compare_with_library(ring: &Path, account: &Account) -> Result<()> {
    let snapshot = inspect(&Location::from(ring)).context("inspect")?;
    let (committed, released) = (snapshot.committed_records, snapshot.released_records);
    let fits = committed == account.committed && released == account.released;
    ensure!(
        fits,
        "inspect tells {committed} committed and {released} released, the words {account:?}"
    );
    Ok(())
}

/// The account of a ring of which everything is read and released.
pub(super) fn rested(committed: u64, origin: Option<u64>) -> Account {
    Account {
        committed,
        released: committed,
        left: Vec::new(),
        origin,
    }
}

/// Nothing is left to be done, and the sums are right.
pub(super) fn check_rest(
    operation: &Operation,
    image: &Image,
    ring: &Path,
    rested: &Account,
) -> Result<()> {
    let account = account_of(operation, image).context("at the end")?;
    ensure!(
        account == *rested,
        "{account:?} at the end, expected {rested:?}"
    );
    if operation.ring == Ring::Mpmc {
        let held = account::slots::slots(image)
            .iter()
            .any(|slot| slot.state() != 0);
        ensure!(!held, "a slot is not free at the end");
    }
    compare_with_library(ring, &account).context("at the end")
}

/// The next bridge into a slot ring gets the seat, and is told how far the last one had come.
fn check_successor(operation: &Operation, ring: &Path, origin: Option<u64>) -> Result<()> {
    if operation.ring == Ring::Spsc {
        return Ok(());
    }
    let producer = operations::mpmc_producer(ring);
    ensure!(producer.begin_copying(), "nobody gives up the seat");
    let found = producer.origin();
    ensure!(
        found == origin.map(operations::origin),
        "the next bridge is told {found:?}, the words {origin:?}"
    );
    Ok(())
}

/// Nobody is left.
pub(super) fn check_deserted(ring: &Path, bench: &Bench) -> Result<()> {
    let file = image::open(ring)?;
    let image = Image::read(&file)?;
    let rows = image.rows_in_use();
    ensure!(
        rows.is_empty(),
        "rows {rows:?} are in use, and nobody is there"
    );
    for number in 1..=image.participants() {
        ensure!(
            !image::is_locked(&file, number)?,
            "lock {number} is held by nobody"
        );
    }
    let names = bench.names()?;
    ensure!(names == ["ring"], "the directory holds {names:?}");
    Ok(())
}
