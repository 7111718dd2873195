//! What is done to a ring's file as a whole: birth, attaching, recovery from outside.

use annulus::segment::{CreateError, RecoverOptions, recover};

use super::{
    Found, Operation, PLAIN, Points, Ring, Side, mpmc_consumer, mpmc_options, mpmc_producer,
    spsc_consumer, spsc_options, spsc_producer,
};
use crate::torture::victim::Stage;

const FILES: Operation = Operation {
    points: Points::Changes,
    ..PLAIN
};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "mpmc-create",
        side: Side::Neither,
        found: Found::Missing,
        states: &["no-file", "row-unused"],
        act: create_mpmc,
        ..FILES
    },
    Operation {
        name: "spsc-create",
        ring: Ring::Spsc,
        side: Side::Neither,
        found: Found::Missing,
        states: &["no-file", "row-unused"],
        act: create_spsc,
        ..FILES
    },
    Operation {
        name: "mpmc-attach",
        ready: 2,
        states: &["row-free", "row-begun", "row-attached"],
        act: attach_mpmc_producer,
        ..FILES
    },
    Operation {
        name: "mpmc-attach-after-death",
        side: Side::Consumer,
        found: Found::DeadPredecessor,
        ready: 2,
        states: &[
            "READING",
            "COMMITTED-again",
            "row-recovering",
            "row-attached",
        ],
        act: attach_mpmc_consumer,
        ..FILES
    },
    Operation {
        name: "mpmc-recover",
        side: Side::Neither,
        found: Found::DeadPredecessor,
        ready: 2,
        states: &["READING", "COMMITTED-again", "row-recovering", "row-free"],
        act: recover_ring,
        ..FILES
    },
    Operation {
        name: "mpmc-recover-bridge",
        side: Side::Neither,
        found: Found::DeadBridge,
        ready: 2,
        states: &["READING", "COMMITTED-again", "row-recovering", "row-free"],
        act: recover_ring,
        ..FILES
    },
    Operation {
        name: "spsc-attach-producer",
        ring: Ring::Spsc,
        ready: 2,
        states: &["row-free", "row-attached"],
        act: attach_spsc_producer,
        ..FILES
    },
    Operation {
        name: "spsc-attach-producer-after-death",
        ring: Ring::Spsc,
        found: Found::DeadPredecessor,
        ready: 2,
        states: &["claim-mark-set", "row-recovering", "row-attached"],
        act: attach_spsc_producer,
        ..FILES
    },
    Operation {
        name: "spsc-attach-producer-after-bridge",
        ring: Ring::Spsc,
        found: Found::DeadBridge,
        ready: 2,
        states: &[
            "origin-announced",
            "claim-mark-set",
            "row-recovering",
            "row-attached",
        ],
        act: attach_spsc_producer,
        ..FILES
    },
    Operation {
        name: "spsc-attach-consumer-after-death",
        ring: Ring::Spsc,
        side: Side::Consumer,
        found: Found::DeadPredecessor,
        ready: 2,
        states: &["read-ahead", "row-recovering", "row-attached"],
        act: attach_spsc_consumer,
        ..FILES
    },
    Operation {
        name: "spsc-recover",
        ring: Ring::Spsc,
        side: Side::Neither,
        found: Found::DeadPredecessor,
        ready: 2,
        states: &["read-ahead", "row-recovering", "row-free"],
        act: recover_ring,
        ..FILES
    },
];

fn create_mpmc(stage: &Stage) {
    let options = mpmc_options();
    check_created(&stage.perform(|| options.create(&stage.ring)));
}

fn create_spsc(stage: &Stage) {
    let options = spsc_options();
    check_created(&stage.perform(|| options.create(&stage.ring)));
}

/// Of those who race, one wins and the others are told.
fn check_created(created: &Result<(), CreateError>) {
    let expected = matches!(created, Ok(()) | Err(CreateError::AlreadyExists { .. }));
    assert!(expected, "a creator was told {created:?}");
}

fn attach_mpmc_producer(stage: &Stage) {
    drop(stage.perform(|| mpmc_producer(&stage.ring)));
}

fn attach_mpmc_consumer(stage: &Stage) {
    drop(stage.perform(|| mpmc_consumer(&stage.ring)));
}

fn attach_spsc_producer(stage: &Stage) {
    drop(stage.perform(|| spsc_producer(&stage.ring)));
}

fn attach_spsc_consumer(stage: &Stage) {
    drop(stage.perform(|| spsc_consumer(&stage.ring)));
}

fn recover_ring(stage: &Stage) {
    let location = annulus::Location::from(&stage.ring);
    let options = RecoverOptions::default();
    let recovered = stage.perform(|| recover(&location, &options));
    recovered.expect("a ring of this boot");
}
