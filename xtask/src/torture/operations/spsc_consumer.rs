//! What the consumer of the byte ring does.

use std::time::Duration;

use annulus::Wait;
use annulus::spsc::Record;

use super::{Found, Operation, PLAIN, Points, Ring, Side, spsc_consumer, spsc_producer};
use crate::torture::victim::Stage;

const SPSC: Operation = Operation {
    ring: Ring::Spsc,
    side: Side::Consumer,
    is_atomic: true,
    ..PLAIN
};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "spsc-read",
        ready: 2,
        states: &["RECORD", "read-ahead"],
        act: read,
        ..SPSC
    },
    Operation {
        name: "spsc-read-drained",
        found: Found::Closed,
        states: &["closed"],
        act: read,
        ..SPSC
    },
    Operation {
        name: "spsc-release",
        ready: 2,
        releases: 1,
        states: &["read-ahead", "release-written-not-given"],
        act: release,
        ..SPSC
    },
    Operation {
        name: "spsc-release-wakes",
        found: Found::ProducerAsleep,
        ready: 4,
        releases: 1,
        states: &["read-ahead", "event-armed"],
        act: release,
        ..SPSC
    },
    Operation {
        name: "spsc-release-to",
        ready: 3,
        releases: 2,
        states: &["read-ahead", "release-written-not-given"],
        act: release_to,
        ..SPSC
    },
    Operation {
        name: "spsc-requeue",
        ready: 2,
        states: &["read-ahead"],
        act: requeue,
        ..SPSC
    },
    Operation {
        name: "spsc-rewind",
        ready: 2,
        states: &["read-ahead"],
        act: rewind,
        ..SPSC
    },
    Operation {
        name: "spsc-pop",
        ready: 2,
        releases: 1,
        states: &["RECORD", "read-ahead", "release-written-not-given"],
        act: pop,
        ..SPSC
    },
    Operation {
        name: "spsc-consumer-close",
        ready: 1,
        states: &["closed"],
        act: close,
        ..SPSC
    },
    Operation {
        name: "spsc-consumer-detach",
        ready: 2,
        states: &["row-attached", "row-free", "read-ahead"],
        act: detach,
        ..SPSC
    },
    Operation {
        name: "spsc-consumer-sweeps",
        ready: 1,
        states: &["claim-mark-set", "row-recovering", "row-free"],
        has_witnesses: false,
        act: sweep,
        ..SPSC
    },
    Operation {
        name: "spsc-sleep",
        points: Points::Sleep,
        states: &["event-armed"],
        act: sleep,
        ..SPSC
    },
];

fn release_later(stage: &Stage, record: Record<'_>) {
    stage.takes(record.tag());
    drop(record);
}

fn read(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let record = stage.perform(|| consumer.try_read());
    if let Ok(record) = record {
        release_later(stage, record);
    }
}

fn release(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let record = consumer.try_read().expect("record 1");
    stage.takes(record.tag());
    stage.perform(|| record.release());
}

fn release_to(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let marks = [(); 3].map(|()| {
        let record = consumer.try_peek().expect("a record");
        (record.tag(), record.mark())
    });
    marks[..2].iter().for_each(|(tag, _)| stage.takes(*tag));
    stage.perform(|| consumer.release_to(marks[1].1));
}

fn requeue(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let record = consumer.try_read().expect("record 1");
    stage.perform(|| record.requeue());
}

fn rewind(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    for _ in 0..2 {
        consumer.try_peek().expect("a record");
    }
    stage.perform(|| consumer.rewind());
}

fn pop(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let mut bytes = Vec::new();
    let tag = stage.perform(|| consumer.try_pop(&mut bytes));
    if let Ok(tag) = tag {
        stage.takes(tag);
    }
}

fn close(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    stage.perform(|| consumer.close());
}

/// Having read what it never releases.
fn detach(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    consumer.try_peek().expect("record 1");
    stage.perform(|| drop(consumer));
}

/// Looks after its producer, which has died having claimed and staged.
#[expect(clippy::mem_forget, reason = "its process dies holding it")]
fn sweep(stage: &Stage) {
    let consumer = spsc_consumer(&stage.ring);
    stage.die_after(|| {
        let mut producer = spsc_producer(&stage.ring);
        let mut batch = producer.batch();
        batch.try_push(1, b"staged").expect("there is space");
        std::mem::forget(batch.try_claim(20).expect("there is space"));
        std::mem::forget(batch);
        std::mem::forget(producer);
    });
    let _peer = stage.perform(|| consumer.peer());
}

/// Spins, yields, announces itself and sleeps.
fn sleep(stage: &Stage) {
    let mut consumer = spsc_consumer(&stage.ring);
    let wait = Wait::block().for_at_most(Duration::from_millis(1500));
    let record = stage.perform(|| consumer.read(wait));
    if let Ok(record) = record {
        release_later(stage, record);
    }
}
