//! A player that produces. Its number is the one in its records' ids.
//!
//! It tells what it is about to commit before, and what it has committed after. Bytes that are not
//! a record stand in each slot before those of the record, so that what was not committed would be
//! known for what it is.

use annulus::TryClaimError;
use annulus::mpmc::{Claim, Producer};

use super::super::child::patience;
use super::super::log::{Step, Word};
use super::super::payload;
use super::ledger::Sent;
use super::worker::Player;

/// Operations of one handle, before it is dropped and another one attached.
const OPERATIONS: u64 = 800;
/// Most records of a batch.
const BATCH: u64 = 6;

pub(super) fn produce(player: Player<'_>) {
    let mut sender = Sender {
        // Where the thread was that panicked before this one: a panic comes between operations.
        sent: player.log.get(Word::Done),
        player,
    };
    let ring = sender.player.post.ring;
    while !sender.player.post.board.is_finishing() {
        sender.player.enter(Step::Attaching);
        // SAFETY: only this test's processes have the ring, and only through the library.
        let attach = || unsafe { Producer::attach(ring) }.expect("attach a producer");
        let producer = sender.player.watch.time(attach);
        sender.use_up(producer);
    }
}

struct Sender<'w> {
    player: Player<'w>,
    sent: u64,
}

impl Sender<'_> {
    fn use_up(&mut self, producer: Producer) {
        let mut sent = self.sent;
        let operate = |player: &mut Player<'_>, producer: &Producer| {
            for _ in 0..OPERATIONS {
                player.enter(Step::Idle);
                player.keep_pace();
                let aim = player.log.aimed_step();
                let leaves = matches!(aim, Some(Step::Attaching | Step::Detaching));
                if leaves || player.post.board.is_finishing() {
                    break;
                }
                sent += match (aim, player.random.below(32)) {
                    (Some(Step::Undoing), _) | (_, 0) => abort(player, producer),
                    (Some(Step::Recovering), _) | (_, 1) => {
                        player.recover();
                        0
                    }
                    (_, 2..=5) => batch(player, producer, sent),
                    _ => one(player, producer, sent),
                };
                player.log.set(Word::Done, sent);
            }
        };
        let in_child = |producer: Producer| {
            assert_eq!(producer.try_push(0, b""), Err(TryClaimError::Forked));
            assert!(producer.try_clone().is_err());
        };
        let producer = self.player.with(producer, operate, in_child);
        self.sent = sent;
        self.player.enter(Step::Detaching);
        drop(producer);
    }
}

fn id_of(player: &Player<'_>, number: u64) -> u64 {
    let producer = player.number;
    Sent { producer, number }.id()
}

fn claim<'p>(player: &mut Player<'_>, producer: &'p Producer, len: usize) -> Claim<'p> {
    player.enter(Step::Claiming);
    let claim = match producer.try_claim(len) {
        Ok(claim) => claim,
        Err(TryClaimError::Full) => {
            player.enter(Step::Waiting);
            player
                .watch
                .time(|| producer.claim(len, patience()))
                .expect("space, in the end")
        }
        Err(error) => panic!("{error}"),
    };
    player.enter(Step::Holding);
    player.dawdle(Step::Holding);
    claim
}

fn write(player: &mut Player<'_>, bytes: &mut [u8], id: u64) {
    player.enter(Step::Writing);
    bytes.fill(0xa5);
    player.dawdle(Step::Writing);
    payload::write(bytes, id);
}

fn one(player: &mut Player<'_>, producer: &Producer, sent: u64) -> u64 {
    let id = id_of(player, sent + 1);
    let mut claim = claim(player, producer, payload::len_of(id));
    write(player, &mut claim, id);
    player.log.set(Word::Intent, sent + 1);
    player.enter(Step::Publishing);
    claim.commit(7);
    1
}

fn abort(player: &mut Player<'_>, producer: &Producer) -> u64 {
    let mut claim = claim(player, producer, payload::LONGEST);
    claim.fill(0xa5);
    player.enter(Step::Undoing);
    claim.abort();
    0
}

/// As many as there is space for: who waits with a batch half full may wait for itself.
fn batch(player: &mut Player<'_>, producer: &Producer, sent: u64) -> u64 {
    let wanted = 1 + player.random.below(BATCH);
    let mut batch = producer.batch();
    let mut staged = 0;
    while staged < wanted {
        let id = id_of(player, sent + 1 + staged);
        player.enter(Step::Claiming);
        match batch.try_claim(payload::len_of(id)) {
            Ok(mut claim) => {
                player.enter(Step::Holding);
                write(player, &mut claim, id);
                claim.stage(7);
            }
            Err(TryClaimError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        staged += 1;
    }
    player.log.set(Word::Intent, sent + staged);
    player.enter(Step::Publishing);
    batch.commit();
    staged
}
