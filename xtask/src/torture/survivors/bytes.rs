//! The side of the byte ring that lives on alone, until the other one is restarted.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use annulus::spsc::{self, Peer};
use annulus::{ReadError, TryClaimError, TryReadError};

use super::super::account::payload;
use super::super::bench::outlast_patience;
use super::super::operations::{self, Side};
use super::{Driven, FIRST_FRESH, Scene, check_bytes, check_delivery};

/// Records of 30 bytes or so that are twice the ring.
const TWO_LAPS: u32 = 300;

/// One side, and later both.
#[derive(Debug)]
pub(in super::super) struct Lone {
    producer: Option<spsc::Producer>,
    consumer: Option<spsc::Consumer>,
    /// Written since the operation.
    fresh: u32,
}

impl Lone {
    /// The side that is not vacant.
    pub(super) fn attach(vacant: Side, ring: &Path) -> Self {
        let is_producer = vacant == Side::Producer;
        Self {
            producer: (!is_producer).then(|| operations::spsc_producer(ring)),
            consumer: is_producer.then(|| operations::spsc_consumer(ring)),
            fresh: 0,
        }
    }

    pub(super) fn both(ring: &Path) -> Self {
        Self {
            producer: Some(operations::spsc_producer(ring)),
            consumer: Some(operations::spsc_consumer(ring)),
            fresh: 0,
        }
    }

    pub(super) fn go_on(&mut self, scene: &Scene<'_>) -> Result<u64> {
        self.check_peer(scene)?;
        match (&mut self.producer, &mut self.consumer) {
            (None, Some(consumer)) => read_left(consumer, scene)?,
            (Some(producer), None) if !scene.is_closed => {
                self.fresh += fill(producer, FIRST_FRESH)?;
            }
            _ => {}
        }
        let was_read = self.producer.is_none();
        let producer = self
            .producer
            .get_or_insert_with(|| operations::spsc_producer(scene.ring));
        let consumer = self
            .consumer
            .get_or_insert_with(|| operations::spsc_consumer(scene.ring));
        scene.check_time("restarting")?;
        let known = producer.committed_records();
        let expected = scene.account.committed + u64::from(self.fresh);
        ensure!(
            known == expected,
            "the producer knows {known} records of {expected}"
        );
        let origin = producer.origin();
        ensure!(
            origin == scene.account.origin.map(operations::origin),
            "the producer tells {origin:?}, the words {:?}",
            scene.account.origin
        );
        if !was_read {
            read_left(consumer, scene)?;
        }
        for id in FIRST_FRESH..FIRST_FRESH + self.fresh {
            read_one(consumer, scene, id)?;
        }
        check_end(producer, consumer, scene)?;
        if scene.is_closed {
            producer.reopen();
        }
        let first = FIRST_FRESH + self.fresh;
        for id in first..first + TWO_LAPS {
            let pushed = producer.push(id, &payload(id), scene.wait());
            pushed.with_context(|| format!("write record {id}"))?;
            read_one(consumer, scene, id)?;
        }
        scene.check_time("two laps")?;
        Ok(u64::from(self.fresh + TWO_LAPS))
    }

    /// The lone survivor is told of the death.
    fn check_peer(&self, scene: &Scene<'_>) -> Result<()> {
        let peer = match (&self.producer, &self.consumer) {
            (Some(producer), None) => producer.peer(),
            (None, Some(consumer)) => consumer.peer(),
            _ => return Ok(()),
        };
        let expected = peer == Peer::Died || peer == Peer::Absent && !scene.was_attached;
        ensure!(expected, "the survivor is told that its peer is {peer:?}");
        scene.check_time("telling of the death")
    }

    pub(super) fn drive(&mut self, is_attached: bool) -> Result<Driven> {
        let mut driven = Driven::default();
        for _ in 0..3 {
            self.move_on(&mut driven, TWO_LAPS)?;
            outlast_patience();
            let peer = match (&self.producer, &self.consumer) {
                (Some(producer), None) => producer.peer(),
                (None, Some(consumer)) => consumer.peer(),
                _ => continue,
            };
            let is_dead = peer != Peer::Alive && is_attached;
            ensure!(!is_dead, "a stopped peer is told to be {peer:?}");
        }
        Ok(driven)
    }

    /// Each side that is there does what it can.
    fn move_on(&mut self, driven: &mut Driven, times: u32) -> Result<()> {
        for _ in 0..times {
            if let Some(producer) = &mut self.producer {
                let id = driven.next();
                match producer.try_push(id, &payload(id)) {
                    Ok(()) => driven.written.push(id),
                    Err(TryClaimError::Full | TryClaimError::Closed) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(consumer) = &mut self.consumer {
                match consumer.try_read() {
                    Ok(record) => {
                        check_bytes(record.tag(), &record)?;
                        driven.read.push(record.tag());
                    }
                    Err(TryReadError::Empty | TryReadError::Closed) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, ring: &Path, driven: &mut Driven) -> Result<()> {
        let producer = self
            .producer
            .get_or_insert_with(|| operations::spsc_producer(ring));
        producer.reopen();
        self.consumer
            .get_or_insert_with(|| operations::spsc_consumer(ring));
        self.move_on(driven, 2 * TWO_LAPS)?;
        let producer = self.producer.take();
        self.move_on(driven, TWO_LAPS)?;
        self.producer = producer;
        Ok(())
    }
}

fn read_left(consumer: &mut spsc::Consumer, scene: &Scene<'_>) -> Result<()> {
    let mut got = Vec::new();
    for _ in &scene.account.left {
        let record = consumer.read(scene.wait());
        let record = record.with_context(|| format!("after {got:?}"))?;
        check_bytes(record.tag(), &record)?;
        got.push((record.tag(), 0));
    }
    scene.check_time("reading what was left")?;
    check_delivery(&scene.account.left, &got, false)
}

fn read_one(consumer: &mut spsc::Consumer, scene: &Scene<'_>, id: u32) -> Result<()> {
    let record = consumer.read(scene.wait());
    let record = record.with_context(|| format!("read record {id}"))?;
    ensure!(
        record.tag() == id,
        "record {} instead of {id}",
        record.tag()
    );
    check_bytes(id, &record)
}

/// Writes until the ring is full. Returns how many records.
fn fill(producer: &mut spsc::Producer, first: u32) -> Result<u32> {
    for count in 0.. {
        let id = first + count;
        match producer.try_push(id, &payload(id)) {
            Ok(()) => {}
            Err(TryClaimError::Full) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// Nothing more comes.
fn check_end(
    producer: &mut spsc::Producer,
    consumer: &mut spsc::Consumer,
    scene: &Scene<'_>,
) -> Result<()> {
    if !scene.is_closed {
        return match consumer.try_read() {
            Err(TryReadError::Empty) => Ok(()),
            other => bail!("the ring is drained, and a read gave {other:?}"),
        };
    }
    match consumer.read(scene.wait()) {
        Err(ReadError::Closed) => {}
        other => bail!("the ring is closed and drained, and a read gave {other:?}"),
    }
    match producer.try_claim(8) {
        Err(TryClaimError::Closed) => Ok(()),
        other => bail!("the ring is closed, and a claim gave {other:?}"),
    }
}
