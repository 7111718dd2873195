//! A producer and a consumer of the slot ring.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use annulus::{ReadError, TryClaimError, TryReadError, mpmc};

use super::super::account::payload;
use super::super::bench::outlast_patience;
use super::super::operations;
use super::{Driven, FIRST_FRESH, Scene, check_bytes, check_delivery};

/// Slots of the ring.
const SLOTS: u32 = 4;

/// Both of them.
#[derive(Debug)]
pub(in super::super) struct Pair {
    producer: mpmc::Producer,
    consumer: mpmc::Consumer,
}

impl Pair {
    pub(super) fn attach(ring: &Path) -> Self {
        Self {
            producer: operations::mpmc_producer(ring),
            consumer: operations::mpmc_consumer(ring),
        }
    }

    pub(super) fn go_on(&self, scene: &Scene<'_>) -> Result<u64> {
        self.read_left(scene)?;
        self.check_end(scene)?;
        if scene.is_closed {
            self.producer.reopen();
        }
        // A record goes through although the dead one may stand in its way.
        self.write(scene, FIRST_FRESH)?;
        self.read_back(scene, FIRST_FRESH)?;
        self.outlive_the_dead(scene)?;
        for lap in 0..2 {
            self.write_and_read(scene, FIRST_FRESH + 1 + lap * SLOTS)?;
        }
        scene.check_time("writing and reading")?;
        Ok(u64::from(1 + 2 * SLOTS))
    }

    fn read_left(&self, scene: &Scene<'_>) -> Result<()> {
        let mut got = Vec::new();
        for _ in &scene.account.left {
            let record = self.consumer.read(scene.wait());
            let record = record.with_context(|| format!("after {got:?}"))?;
            check_bytes(record.tag(), &record)?;
            got.push((record.tag(), record.attempts()));
        }
        scene.check_time("reading what was left")?;
        check_delivery(&scene.account.left, &got, true)
    }

    /// Nothing more comes.
    fn check_end(&self, scene: &Scene<'_>) -> Result<()> {
        if scene.is_closed {
            match self.consumer.read(scene.wait()) {
                Err(ReadError::Closed) => {}
                other => bail!("the ring is closed and drained, and a read gave {other:?}"),
            }
            return match self.producer.try_claim(8) {
                Err(TryClaimError::Closed) => Ok(()),
                other => bail!("the ring is closed, and a claim gave {other:?}"),
            };
        }
        match self.consumer.try_read() {
            Err(TryReadError::Empty) => Ok(()),
            other => bail!("the ring is drained, and a read gave {other:?}"),
        }
    }

    /// Fills every slot and empties it again.
    fn write_and_read(&self, scene: &Scene<'_>, first: u32) -> Result<()> {
        (first..first + SLOTS).try_for_each(|id| self.write(scene, id))?;
        match self.producer.try_claim(8) {
            Err(TryClaimError::Full) => {}
            other => bail!("the ring is full, and a claim gave {other:?}"),
        }
        (first..first + SLOTS).try_for_each(|id| self.read_back(scene, id))
    }

    fn write(&self, scene: &Scene<'_>, id: u32) -> Result<()> {
        let pushed = self.producer.push(id, &payload(id), scene.wait());
        pushed.with_context(|| format!("write record {id}"))
    }

    fn read_back(&self, scene: &Scene<'_>, id: u32) -> Result<()> {
        let record = self.consumer.read(scene.wait());
        let record = record.with_context(|| format!("read record {id}"))?;
        ensure!(
            record.tag() == id,
            "record {} instead of {id}",
            record.tag()
        );
        ensure!(record.attempts() == 0, "record {id} was delivered before");
        check_bytes(id, &record)
    }

    /// Makes refusals until no row is in use but our own.
    fn outlive_the_dead(&self, scene: &Scene<'_>) -> Result<()> {
        while rows(scene.ring)? > super::Survivors::ROWS {
            ensure!(self.consumer.try_read().is_err(), "a record from nowhere");
            scene.check_time("freeing the rows of the dead")?;
        }
        Ok(())
    }

    pub(super) fn drive(&self) -> Result<Driven> {
        let mut driven = Driven::default();
        self.round(&mut driven, 2 * SLOTS)?;
        // Long enough to be tempted, twice: a stopped one is alive.
        for _ in 0..2 {
            outlast_patience();
            self.round(&mut driven, 2)?;
        }
        Ok(driven)
    }

    pub(super) fn hold_while(
        &self,
        driven: &mut Driven,
        go_on: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.write_one(driven)?;
        let record = self.consumer.try_read();
        let claim = self.producer.try_claim(8);
        go_on()?;
        drop(claim);
        if let Ok(record) = record {
            check_bytes(record.tag(), &record)?;
            driven.read.push(record.tag());
        }
        Ok(())
    }

    fn round(&self, driven: &mut Driven, times: u32) -> Result<()> {
        for _ in 0..times {
            self.write_one(driven)?;
            self.read_one(driven)?;
        }
        Ok(())
    }

    fn write_one(&self, driven: &mut Driven) -> Result<()> {
        let id = driven.next();
        match self.producer.try_push(id, &payload(id)) {
            Ok(()) => driven.written.push(id),
            Err(TryClaimError::Full | TryClaimError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read_one(&self, driven: &mut Driven) -> Result<bool> {
        match self.consumer.try_read() {
            Ok(record) => {
                check_bytes(record.tag(), &record)?;
                driven.read.push(record.tag());
                Ok(true)
            }
            Err(TryReadError::Empty | TryReadError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn drain(&self, driven: &mut Driven) -> Result<()> {
        self.producer.reopen();
        while self.read_one(driven)? {}
        let limit = Instant::now() + super::LIMIT;
        let goal = driven.written.len() + 2 * SLOTS as usize;
        while driven.written.len() < goal {
            self.write_one(driven)?;
            self.read_one(driven)?;
            ensure!(Instant::now() < limit, "the ring did not move on");
        }
        while self.read_one(driven)? {}
        Ok(())
    }
}

/// Rows in use.
fn rows(ring: &Path) -> Result<usize> {
    let file = super::super::image::open(ring)?;
    let image = super::super::image::Image::read(&file)?;
    Ok(image.rows_in_use().len())
}
