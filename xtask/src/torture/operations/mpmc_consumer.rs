//! What a consumer of the slot ring does.

use std::time::Duration;

use annulus::Wait;
use annulus::mpmc::Record;

use super::{Found, Operation, PLAIN, Points, Side, mpmc_consumer, mpmc_producer};
use crate::torture::victim::Stage;

const CONSUMER: Operation = Operation {
    side: Side::Consumer,
    ..PLAIN
};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "mpmc-read",
        ready: 2,
        states: &["COMMITTED", "READING", "head-hint-behind"],
        act: read,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-read-past-skip",
        found: Found::Skip,
        ready: 1,
        states: &["SKIP", "COMMITTED", "READING"],
        act: read,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-read-given-back",
        found: Found::GivenBack,
        ready: 2,
        states: &["COMMITTED-again", "READING-again"],
        act: read,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-read-drained",
        found: Found::Closed,
        states: &["closed"],
        act: read,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-release",
        ready: 2,
        releases: 1,
        states: &["READING", "FREE"],
        act: release,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-release-wakes",
        found: Found::ProducerAsleep,
        ready: 4,
        releases: 1,
        states: &["READING", "FREE", "event-armed"],
        act: release,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-requeue",
        ready: 2,
        states: &["READING", "COMMITTED-again"],
        act: requeue,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-pop",
        ready: 2,
        releases: 1,
        states: &["COMMITTED", "READING", "FREE"],
        act: pop,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-read-batch",
        ready: 3,
        states: &["COMMITTED", "READING"],
        act: read_batch,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-release-batch",
        ready: 3,
        releases: 3,
        states: &["READING", "FREE"],
        act: release_batch,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-consumer-close",
        ready: 1,
        states: &["closed", "COMMITTED"],
        act: close,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-consumer-detach",
        ready: 1,
        states: &["row-attached", "row-free"],
        act: detach,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-consumer-relinquish",
        ready: 2,
        states: &["READING", "COMMITTED-again", "row-free"],
        act: relinquish,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-consumer-sweeps",
        ready: 1,
        states: &[
            "WRITING",
            "READING",
            "SKIP",
            "COMMITTED-again",
            "skip-announced",
            "skip-made",
            "row-recovering",
        ],
        act: sweep,
        ..CONSUMER
    },
    Operation {
        name: "mpmc-sleep",
        points: Points::Sleep,
        states: &["event-armed"],
        act: sleep,
        ..CONSUMER
    },
];

fn release_later(stage: &Stage, record: Record<'_>) {
    stage.takes(record.tag());
    drop(record);
}

fn read(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let record = stage.perform(|| consumer.try_read());
    if let Ok(record) = record {
        release_later(stage, record);
    }
}

fn release(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let record = consumer.try_read().expect("record 1");
    stage.takes(record.tag());
    stage.perform(|| record.release());
}

fn requeue(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let record = consumer.try_read().expect("record 1");
    stage.perform(|| record.requeue());
}

fn pop(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let mut bytes = Vec::new();
    let tag = stage.perform(|| consumer.try_pop(&mut bytes));
    if let Ok(tag) = tag {
        stage.takes(tag);
    }
}

fn read_batch(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let batch = stage.perform(|| consumer.try_read_batch(3));
    if let Ok(batch) = batch {
        batch.iter().for_each(|record| stage.takes(record.tag()));
    }
}

fn release_batch(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let batch = consumer.try_read_batch(3).expect("three records");
    batch.iter().for_each(|record| stage.takes(record.tag()));
    stage.perform(|| batch.release());
}

fn close(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    stage.perform(|| consumer.close());
}

fn detach(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    stage.perform(|| drop(consumer));
}

/// Detaches although guards were leaked.
#[expect(clippy::mem_forget, reason = "leaking a guard is what is tried")]
fn relinquish(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    for _ in 0..2 {
        std::mem::forget(consumer.try_read().expect("a record"));
    }
    stage.perform(|| drop(consumer));
}

/// Empty for a while, behind a dead producer.
#[expect(clippy::mem_forget, reason = "its process dies holding it")]
fn sweep(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    stage.die_after(|| {
        let another = mpmc_consumer(&stage.ring);
        std::mem::forget(another.try_read().expect("record 1"));
        let producer = mpmc_producer(&stage.ring);
        std::mem::forget(producer.try_claim(20).expect("there is space"));
        std::mem::forget(producer);
        std::mem::forget(another);
    });
    let _ = consumer.try_read().expect_err("empty");
    super::super::bench::outlast_patience();
    let record = stage.perform(|| consumer.try_read());
    if let Ok(record) = record {
        release_later(stage, record);
    }
}

/// Spins, yields, announces itself and sleeps.
fn sleep(stage: &Stage) {
    let consumer = mpmc_consumer(&stage.ring);
    let wait = Wait::block().for_at_most(Duration::from_millis(1500));
    let record = stage.perform(|| consumer.read(wait));
    if let Ok(record) = record {
        release_later(stage, record);
    }
}
