//! What the producer of the byte ring does.

use annulus::spsc::{Batch, Producer};

use super::super::account::{FIRST_OF_VICTIM as ID, LONG, payload};
use super::{Found, ORIGIN_AFTER, Operation, PLAIN, Ring, origin, spsc_consumer, spsc_producer};
use crate::torture::victim::Stage;

const SPSC: Operation = Operation {
    ring: Ring::Spsc,
    is_atomic: true,
    ..PLAIN
};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "spsc-claim",
        ready: 1,
        states: &["RECORD", "claim-mark-set"],
        act: claim,
        ..SPSC
    },
    Operation {
        name: "spsc-claim-closed",
        found: Found::Closed,
        ready: 1,
        states: &["closed", "claim-mark-set"],
        act: claim,
        ..SPSC
    },
    Operation {
        name: "spsc-commit",
        ready: 1,
        commits: 1,
        states: &[
            "claim-mark-set",
            "journal-torn",
            "journal-written-not-published",
            "published-mark-set",
            "RECORD",
        ],
        act: commit,
        ..SPSC
    },
    Operation {
        name: "spsc-commit-wakes",
        found: Found::ConsumerAsleep,
        commits: 1,
        states: &["claim-mark-set", "published-mark-set", "event-armed"],
        act: commit,
        ..SPSC
    },
    Operation {
        name: "spsc-abort",
        ready: 1,
        states: &["claim-mark-set", "RECORD"],
        act: abort,
        ..SPSC
    },
    Operation {
        name: "spsc-push",
        ready: 1,
        commits: 1,
        states: &[
            "claim-mark-set",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: push,
        ..SPSC
    },
    Operation {
        name: "spsc-push-wraps",
        found: Found::NearEnd,
        commits: 1,
        states: &[
            "claim-mark-set",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: push_long,
        ..SPSC
    },
    Operation {
        name: "spsc-batch-stage",
        ready: 1,
        states: &["claim-mark-set"],
        act: batch_stage,
        ..SPSC
    },
    Operation {
        name: "spsc-batch-commit",
        ready: 1,
        commits: 3,
        states: &[
            "claim-mark-set",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: batch_commit,
        ..SPSC
    },
    Operation {
        name: "spsc-batch-commit-wraps",
        found: Found::NearEnd,
        commits: 3,
        states: &[
            "claim-mark-set",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: batch_commit,
        ..SPSC
    },
    Operation {
        name: "spsc-commit-from",
        found: Found::Copied,
        ready: 2,
        commits: 3,
        origin: Some(ORIGIN_AFTER),
        states: &[
            "claim-mark-set",
            "origin-torn",
            "origin-announced",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: commit_from,
        ..SPSC
    },
    Operation {
        name: "spsc-commit-from-first",
        ready: 1,
        commits: 3,
        origin: Some(ORIGIN_AFTER),
        states: &[
            "origin-torn",
            "origin-announced",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: commit_from,
        ..SPSC
    },
    Operation {
        name: "spsc-commit-from-wraps",
        found: Found::NearEnd,
        commits: 3,
        origin: Some(ORIGIN_AFTER),
        states: &[
            "origin-announced",
            "journal-written-not-published",
            "published-mark-set",
        ],
        act: commit_from,
        ..SPSC
    },
    Operation {
        name: "spsc-batch-abort",
        ready: 1,
        states: &["claim-mark-set"],
        act: batch_abort,
        ..SPSC
    },
    Operation {
        name: "spsc-producer-close",
        found: Found::ConsumerAsleep,
        states: &["closed", "event-armed"],
        act: close,
        ..SPSC
    },
    Operation {
        name: "spsc-reopen",
        found: Found::Closed,
        ready: 1,
        states: &["closed"],
        act: reopen,
        ..SPSC
    },
    Operation {
        name: "spsc-producer-detach",
        ready: 1,
        states: &["row-attached", "row-free"],
        act: detach,
        ..SPSC
    },
    Operation {
        name: "spsc-producer-sweeps",
        ready: 2,
        states: &["read-ahead", "row-recovering", "row-free"],
        has_witnesses: false,
        act: sweep,
        ..SPSC
    },
];

fn claim(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let bytes = payload(ID);
    let claim = stage.perform(|| producer.try_claim(bytes.len()));
    drop(claim);
}

fn commit(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let bytes = payload(ID);
    let mut claim = producer.try_claim(bytes.len()).expect("there is space");
    claim.copy_from_slice(&bytes);
    stage.perform(|| claim.commit(ID));
}

fn abort(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let mut claim = producer.try_claim(20).expect("there is space");
    claim.fill(0xee);
    stage.perform(|| claim.abort());
}

fn push(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let bytes = payload(ID);
    let pushed = stage.perform(|| producer.try_push(ID, &bytes));
    pushed.expect("there is space");
}

fn push_long(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let bytes = payload(ID | LONG);
    let pushed = stage.perform(|| producer.try_push(ID | LONG, &bytes));
    pushed.expect("there is space");
}

fn staged(producer: &mut Producer, count: u32) -> Batch<'_> {
    let mut batch = producer.batch();
    for id in ID..ID + count {
        batch.try_push(id, &payload(id)).expect("there is space");
    }
    batch
}

fn batch_stage(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let mut batch = staged(&mut producer, 1);
    let bytes = payload(ID + 1);
    let pushed = stage.perform(|| batch.try_push(ID + 1, &bytes));
    pushed.expect("there is space");
}

fn batch_commit(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let batch = staged(&mut producer, 3);
    stage.perform(|| batch.commit());
}

fn commit_from(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let batch = staged(&mut producer, 3);
    let origin = origin(ORIGIN_AFTER);
    stage.perform(|| batch.commit_from(&origin));
}

fn batch_abort(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    let batch = staged(&mut producer, 2);
    stage.perform(|| drop(batch));
}

fn close(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    stage.perform(|| producer.close());
}

fn reopen(stage: &Stage) {
    let mut producer = spsc_producer(&stage.ring);
    stage.perform(|| producer.reopen());
}

fn detach(stage: &Stage) {
    let producer = spsc_producer(&stage.ring);
    stage.perform(|| drop(producer));
}

/// Looks after its consumer, which has died having read two records and released none.
#[expect(clippy::mem_forget, reason = "its process dies holding it")]
fn sweep(stage: &Stage) {
    let producer = spsc_producer(&stage.ring);
    stage.die_after(|| {
        let mut consumer = spsc_consumer(&stage.ring);
        for _ in 0..2 {
            consumer.try_peek().expect("a record");
        }
        std::mem::forget(consumer);
    });
    let _peer = stage.perform(|| producer.peer());
}
