//! One trial with a victim that is stopped instead of killed: it is alive, and nothing of its is
//! taken.
//!
//! The ring is driven round the stopped one as far as its claim allows, and for long enough that
//! others would have recovered a dead one. Its words must not change meanwhile. Then it goes on
//! while survivors hold claims of their own: it may change no byte that is not its own any more.
//! When it has finished, everything drains and every sum is exact.

use std::fs::File;
use std::ops::Range;

use anyhow::{Context as _, Result, anyhow, ensure};

use annulus::Location;
use annulus::segment::{RecoverOptions, recover};

use super::account::{self, FIRST_OF_VICTIM, LONG};
use super::bench::Bench;
use super::image::{self, Image, at, row};
use super::operations::{Found, Operation, Ring, Side};
use super::plan::{Plan, is_birth};
use super::survivors::{Driven, Survivors};
use super::trial::{Variant, bring, check_deserted, check_rest, rested};
use super::victim::Stopped;

/// Stops a victim after `point` instructions, goes round it, and lets it finish.
pub(super) fn halt(bench: &Bench, operation: &Operation, point: u64, plan: &Plan) -> Result<()> {
    let variant = if operation.has_witnesses {
        Variant::Witness
    } else {
        Variant::Successor
    };
    let ready = bring(bench, operation, variant, point, plan)?;
    let pid = ready.victim.pid().as_raw().cast_unsigned();
    let stopped = ready.victim.stop()?;
    if is_birth(operation) {
        return race(bench, operation, stopped);
    }
    let file = image::open(&bench.stage.ring)?;
    let image = Image::read(&file)?;
    let around = Around {
        operation,
        file: &file,
        image: &image,
        pid,
    };
    let outcome = around
        .go(bench, ready.survivors, stopped)
        .and_then(|driven| {
            let mut expected: Vec<u32> = ready.before.left.iter().map(|left| left.id).collect();
            expected.extend(FIRST_OF_VICTIM..FIRST_OF_VICTIM + operation.commits);
            expected.extend(&driven.written);
            let mut found: Vec<u32> = driven.read.iter().map(|id| id & !LONG).collect();
            found.extend(bench.page.taken());
            expected.sort_unstable();
            found.sort_unstable();
            ensure!(
                found == expected,
                "delivered {found:?}, expected {expected:?}"
            );
            let written = u64::from(operation.commits) + driven.written.len() as u64;
            let now = Image::read(&file)?;
            check_rest(
                operation,
                &now,
                &bench.stage.ring,
                &rested(
                    ready.before.committed + written,
                    operation.origin.or(ready.before.origin),
                ),
            )?;
            check_deserted(&bench.stage.ring, bench)
        });
    outcome.map_err(|error| {
        let now = Image::read(&file)
            .map(|image| image.dump())
            .unwrap_or_default();
        anyhow!(
            "{error:#}\n  words at its stop:\n{}  words now:\n{now}",
            image.dump()
        )
    })
}

/// Another creator comes while one is stopped: there is one ring.
fn race(bench: &Bench, operation: &Operation, stopped: Stopped) -> Result<()> {
    let was_there = !bench.names()?.is_empty();
    let ring = &bench.stage.ring;
    let created = match operation.ring {
        Ring::Mpmc => super::operations::mpmc_options().create(ring),
        Ring::Spsc => super::operations::spsc_options().create(ring),
    };
    ensure!(
        created.is_ok() != was_there,
        "a second creator is told {created:?}"
    );
    let before = Image::read(&image::open(ring)?)?;
    stopped.go_on()?;
    ensure!(
        before == Image::read(&image::open(ring)?)?,
        "the loser has changed the ring"
    );
    check_rest(operation, &before, ring, &account::EMPTY)?;
    check_deserted(ring, bench)
}

/// The ring round a stopped victim.
struct Around<'a> {
    operation: &'a Operation,
    file: &'a File,
    /// When it stopped.
    image: &'a Image,
    /// The victim.
    pid: u32,
}

impl Around<'_> {
    fn go(&self, bench: &Bench, survivors: Option<Survivors>, stopped: Stopped) -> Result<Driven> {
        let ring = &bench.stage.ring;
        let Some(mut survivors) = survivors else {
            stopped.go_on()?;
            let mut survivors = Survivors::successors(self.operation, ring);
            let mut driven = Driven::default();
            survivors.drain(ring, &mut driven)?;
            return Ok(driven);
        };
        let mut driven = survivors.drive(self.is_attached())?;
        self.check_untouched().context("while it was stopped")?;
        self.check_recovery(ring)?;
        survivors.hold_while(&mut driven, || {
            let before = Image::read(self.file)?;
            stopped.go_on()?;
            let after = Image::read(self.file)?;
            self.check_changes(&before, &after)
                .context("after it went on")
        })?;
        survivors.drain(ring, &mut driven)?;
        Ok(driven)
    }

    fn rows(&self) -> Vec<u16> {
        let mut rows = self.image.rows_in_use();
        let pid = |number: u16| self.image.half(at::row(number, row::PID));
        rows.retain(|number| pid(*number) == self.pid);
        rows.retain(|number| self.image.row_state(*number) == row::ATTACHED);
        rows
    }

    fn is_attached(&self) -> bool {
        !self.rows().is_empty()
    }

    /// Nothing that was the victim's when it stopped has changed.
    fn check_untouched(&self) -> Result<()> {
        let now = Image::read(self.file)?;
        for number in self.rows() {
            let same = now.row(number) == self.image.row(number);
            ensure!(same, "row {number} of a stopped one has changed");
            let locked = image::is_locked(self.file, number)?;
            ensure!(locked, "the lock {number} of a stopped one is free");
        }
        match self.operation.ring {
            Ring::Mpmc => self.check_slots(&now),
            Ring::Spsc => self.check_bytes(&now),
        }
    }

    fn check_slots(&self, now: &Image) -> Result<()> {
        let rows = self.rows();
        for slot in account::slots::slots(self.image) {
            if slot.is_held() && rows.contains(&slot.owner()) {
                let range = slot_range(self.image, slot.index)?;
                let same =
                    self.image.data(range.start, range.len()) == now.data(range.start, range.len());
                ensure!(same, "slot {} of a stopped one has changed", slot.index);
            }
        }
        Ok(())
    }

    fn check_bytes(&self, now: &Image) -> Result<()> {
        if !self.is_attached() {
            return Ok(());
        }
        let words = line_of(self.operation.side);
        let same = self.image.words(words.clone()) == now.words(words);
        ensure!(same, "the line of a stopped one has changed");
        Ok(())
    }

    /// Recovery from outside finds nobody dead, unless somebody is.
    fn check_recovery(&self, ring: &std::path::Path) -> Result<()> {
        let location = Location::from(ring);
        let recovered = recover(&location, &RecoverOptions::default())?;
        let somebody_died = matches!(
            self.operation.found,
            Found::DeadPredecessor | Found::DeadBridge
        ) || self.operation.name.ends_with("-sweeps");
        let found = recovered.participants;
        ensure!(
            found == 0 || somebody_died,
            "{found} recovered, and nobody was dead"
        );
        self.check_untouched().context("after a recovery")
    }

    /// The victim has changed nothing but its own, while nobody else was at work.
    fn check_changes(&self, before: &Image, after: &Image) -> Result<()> {
        let mine = before.rows_of_others(std::process::id());
        for number in before.rows_in_use() {
            if !mine.contains(&number) {
                let same = before.row(number) == after.row(number);
                ensure!(same, "it changed row {number}, which is not its own");
            }
        }
        match self.operation.ring {
            Ring::Mpmc => check_slot_changes(before, after, &mine),
            Ring::Spsc => {
                let other = match self.operation.side {
                    Side::Producer => Side::Consumer,
                    Side::Consumer => Side::Producer,
                    Side::Neither => return Ok(()),
                };
                let words = line_of(other);
                let same = before.words(words.clone()) == after.words(words);
                ensure!(same, "it changed the other side's line");
                let theirs = match self.operation.side {
                    Side::Producer => account::bytes::committed(before)?,
                    _ => [0..before.size(at::DATA_BYTES), 0..0],
                };
                let same = theirs.iter().all(|part| {
                    before.data(part.start, part.len()) == after.data(part.start, part.len())
                });
                ensure!(same, "it wrote to bytes that were not its own");
                Ok(())
            }
        }
    }
}

/// The words that a side of the byte ring stores.
fn line_of(side: Side) -> Vec<Range<usize>> {
    match side {
        Side::Producer => vec![
            at::PRODUCER_CLAIM..at::PRODUCER_JOURNAL,
            at::PRODUCER_JOURNAL..at::HEAD,
            at::ORIGINS..at::ORIGINS + 2 * at::ORIGIN_BYTES,
        ],
        _ => vec![
            at::HEAD..at::HEAD + 8,
            at::CONSUMER_CLAIM..at::CONSUMER_CLAIM + 72,
        ],
    }
}

fn slot_range(image: &Image, index: u64) -> Result<Range<usize>> {
    let stride = image.size(at::STRIDE);
    let start = usize::try_from(index)? * stride;
    Ok(start..start + stride)
}

/// Slots that others hold are as they were; a slot whose word is as it was, and not the victim's,
/// has the bytes that it had; no slot goes back.
fn check_slot_changes(before: &Image, after: &Image, victims: &[u16]) -> Result<()> {
    let pairs = account::slots::slots(before)
        .into_iter()
        .zip(account::slots::slots(after));
    for (old, new) in pairs {
        let index = old.index;
        let is_victims = old.is_held() && victims.contains(&old.owner());
        if is_victims {
            continue;
        }
        ensure!(
            !account::slots::is_before(new.lap(), old.lap()),
            "slot {index} went back: {:#x} to {:#x}",
            old.word,
            new.word
        );
        ensure!(
            !old.is_held() || new.word == old.word,
            "slot {index} of another one was changed: {:#x} to {:#x}",
            old.word,
            new.word
        );
        let range = slot_range(before, index)?;
        let same = before.data(range.start, range.len()) == after.data(range.start, range.len());
        ensure!(
            same || new.word != old.word,
            "bytes of slot {index} were changed"
        );
    }
    Ok(())
}
