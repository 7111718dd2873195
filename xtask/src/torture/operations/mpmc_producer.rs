//! What a producer of the slot ring does.

use annulus::mpmc::Producer;

use super::super::account::{FIRST_OF_VICTIM as ID, payload};
use super::{Found, ORIGIN_AFTER, Operation, PLAIN, mpmc_consumer, mpmc_producer, origin};
use crate::torture::victim::Stage;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "mpmc-claim",
        ready: 1,
        states: &["FREE", "COMMITTED", "WRITING", "tail-hint-behind"],
        act: claim,
        ..PLAIN
    },
    Operation {
        name: "mpmc-claim-closed",
        found: Found::Closed,
        ready: 1,
        states: &["closed", "WRITING", "skip-announced", "skip-made", "SKIP"],
        act: claim,
        ..PLAIN
    },
    Operation {
        name: "mpmc-commit",
        ready: 1,
        commits: 1,
        states: &["WRITING", "COMMITTED"],
        act: commit,
        ..PLAIN
    },
    Operation {
        name: "mpmc-commit-wakes",
        found: Found::ConsumerAsleep,
        commits: 1,
        states: &["WRITING", "COMMITTED", "event-armed"],
        act: commit,
        ..PLAIN
    },
    Operation {
        name: "mpmc-commit-from",
        found: Found::Copied,
        ready: 2,
        commits: 1,
        origin: Some(ORIGIN_AFTER),
        states: &["WRITING", "COMMITTED"],
        act: commit_from,
        ..PLAIN
    },
    Operation {
        name: "mpmc-abort",
        ready: 1,
        states: &["WRITING", "skip-announced", "skip-made", "SKIP"],
        act: abort,
        ..PLAIN
    },
    Operation {
        name: "mpmc-push",
        ready: 1,
        commits: 1,
        states: &["FREE", "WRITING", "COMMITTED", "tail-hint-behind"],
        act: push,
        ..PLAIN
    },
    Operation {
        name: "mpmc-batch-stage",
        ready: 1,
        states: &["FREE", "WRITING"],
        act: batch_stage,
        ..PLAIN
    },
    Operation {
        name: "mpmc-batch-commit",
        ready: 1,
        commits: 3,
        states: &["WRITING", "COMMITTED"],
        act: batch_commit,
        ..PLAIN
    },
    Operation {
        name: "mpmc-batch-abort",
        ready: 1,
        states: &["WRITING", "skip-announced", "skip-made", "SKIP"],
        act: batch_abort,
        ..PLAIN
    },
    Operation {
        name: "mpmc-producer-close",
        found: Found::ConsumerAsleep,
        states: &["closed", "event-armed"],
        act: close,
        ..PLAIN
    },
    Operation {
        name: "mpmc-reopen",
        found: Found::Closed,
        ready: 1,
        states: &["closed", "COMMITTED"],
        act: reopen,
        ..PLAIN
    },
    Operation {
        name: "mpmc-producer-detach",
        ready: 1,
        states: &["row-attached", "row-free"],
        act: detach,
        ..PLAIN
    },
    Operation {
        name: "mpmc-producer-relinquish",
        ready: 1,
        states: &["WRITING", "skip-announced", "skip-made", "SKIP", "row-free"],
        act: relinquish,
        ..PLAIN
    },
    Operation {
        name: "mpmc-producer-sweeps",
        ready: 2,
        states: &[
            "WRITING",
            "READING",
            "SKIP",
            "COMMITTED-again",
            "skip-announced",
            "skip-made",
            "row-recovering",
            "row-free",
        ],
        act: sweep,
        ..PLAIN
    },
];

fn claim(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let bytes = payload(ID);
    let claim = stage.perform(|| producer.try_claim(bytes.len()));
    drop(claim);
}

fn commit(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let bytes = payload(ID);
    let mut claim = producer.try_claim(bytes.len()).expect("there is space");
    claim.copy_from_slice(&bytes);
    stage.perform(|| claim.commit(ID));
}

fn commit_from(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    assert!(producer.begin_copying());
    let bytes = payload(ID);
    let mut claim = producer.try_claim(bytes.len()).expect("there is space");
    claim.copy_from_slice(&bytes);
    let origin = origin(ORIGIN_AFTER);
    stage.perform(|| claim.commit_from(ID, &origin));
}

fn abort(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let mut claim = producer.try_claim(20).expect("there is space");
    claim.fill(0xee);
    stage.perform(|| claim.abort());
}

fn push(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let bytes = payload(ID);
    let pushed = stage.perform(|| producer.try_push(ID, &bytes));
    pushed.expect("there is space");
}

fn staged<'p>(producer: &'p Producer, count: u32) -> annulus::mpmc::WriteBatch<'p> {
    let mut batch = producer.batch();
    for id in ID..ID + count {
        batch.try_push(id, &payload(id)).expect("there is space");
    }
    batch
}

fn batch_stage(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let mut batch = staged(&producer, 1);
    let bytes = payload(ID + 1);
    // After a stop it may be full: others wrote up to the slot that is staged already.
    let _pushed = stage.perform(|| batch.try_push(ID + 1, &bytes));
}

fn batch_commit(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let batch = staged(&producer, 3);
    stage.perform(|| batch.commit());
}

fn batch_abort(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    let batch = staged(&producer, 2);
    stage.perform(|| drop(batch));
}

fn close(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    stage.perform(|| producer.close());
}

fn reopen(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    stage.perform(|| producer.reopen());
}

fn detach(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    stage.perform(|| drop(producer));
}

/// Detaches although guards were leaked.
#[expect(clippy::mem_forget, reason = "leaking a guard is what is tried")]
fn relinquish(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    for _ in 0..2 {
        std::mem::forget(producer.try_claim(20).expect("there is space"));
    }
    stage.perform(|| drop(producer));
}

/// Full for a while, behind a dead producer and a dead consumer.
#[expect(clippy::mem_forget, reason = "its process dies holding it")]
fn sweep(stage: &Stage) {
    let producer = mpmc_producer(&stage.ring);
    stage.die_after(|| {
        let consumer = mpmc_consumer(&stage.ring);
        std::mem::forget(consumer.try_read().expect("record 1"));
        let another = mpmc_producer(&stage.ring);
        std::mem::forget(another.try_claim(20).expect("there is space"));
        std::mem::forget(another.try_claim(20).expect("there is space"));
        // Nothing of either is undone before the end.
        std::mem::forget(another);
        std::mem::forget(consumer);
    });
    let _ = producer.try_push(ID, b"").expect_err("full");
    super::super::bench::outlast_patience();
    // The record that was given back stands in the way, unless somebody reads it meanwhile.
    drop(stage.perform(|| producer.try_claim(20)));
}
