//! A player that consumes. It ends when the ring is closed and drained, or when its log is full.
//!
//! It tells what it holds before it releases it, and that it has released it after.

use annulus::mpmc::Consumer;
use annulus::{ReadError, TryReadError};

use super::super::child::patience;
use super::super::log::{Step, Word};
use super::super::payload;
use super::ledger::{delivery, mark_given_back};
use super::worker::Player;

/// Operations of one handle, before it is dropped and another one attached.
const OPERATIONS: u64 = 800;
/// Most records of a batch.
const BATCH: u64 = 6;
/// Entries for which a log has room; those that are not used cost nothing.
pub(super) const ENTRIES: usize = 1 << 20;

pub(super) fn consume(mut player: Player<'_>) {
    mark_given_back(player.log);
    let ring = player.post.ring;
    let mut ended = false;
    while !ended && player.log.room() > 2 * OPERATIONS * BATCH {
        player.enter(Step::Attaching);
        // SAFETY: only this test's processes have the ring, and only through the library.
        let attach = || unsafe { Consumer::attach(ring) }.expect("attach a consumer");
        let consumer = player.watch.time(attach);
        let operate = |player: &mut Player<'_>, consumer: &Consumer| {
            for _ in 0..OPERATIONS {
                player.enter(Step::Idle);
                player.keep_pace();
                let aim = player.log.aimed_step();
                let outcome = match (aim, player.random.below(32)) {
                    (Some(Step::Attaching | Step::Detaching), _) => break,
                    (Some(Step::Recovering), _) | (_, 0) => {
                        player.recover();
                        Ok(())
                    }
                    (Some(Step::Undoing), _) | (_, 1) => give_back(player, consumer),
                    (_, 2..=5) => batch(player, consumer),
                    _ => one(player, consumer),
                };
                if let Err(error) = outcome {
                    assert_eq!(error, ReadError::Closed);
                    ended = true;
                    break;
                }
            }
        };
        let in_child = |consumer: Consumer| {
            assert_eq!(consumer.try_read().err(), Some(TryReadError::Forked));
            assert!(consumer.try_clone().is_err());
        };
        let consumer = player.with(consumer, operate, in_child);
        player.enter(Step::Detaching);
        drop(consumer);
    }
}

/// Tries, and waits if there is nothing.
fn take<T>(
    player: &mut Player<'_>,
    attempt: impl FnOnce() -> Result<T, TryReadError>,
    wait: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    player.enter(Step::Claiming);
    let taken = match attempt() {
        Ok(taken) => taken,
        Err(TryReadError::Empty) => {
            player.enter(Step::Waiting);
            player.watch.time(wait)?
        }
        Err(TryReadError::Closed) => return Err(ReadError::Closed),
        Err(error) => panic!("{error}"),
    };
    Ok(taken)
}

/// The entry for a record that this thread holds, all of whose bytes it looks at.
fn read(bytes: &[u8], attempts: u8) -> u64 {
    let id = payload::read(bytes).expect("a whole record");
    delivery(id, attempts)
}

fn one(player: &mut Player<'_>, consumer: &Consumer) -> Result<(), ReadError> {
    let record = take(player, || consumer.try_read(), || consumer.read(patience()))?;
    player.enter(Step::Holding);
    player.dawdle(Step::Holding);
    player.enter(Step::Reading);
    player.dawdle(Step::Reading);
    player.log.append(read(&record, record.attempts()));
    player.enter(Step::Publishing);
    record.release();
    let entries = player.log.get(Word::Entries);
    player.log.set(Word::Released, entries);
    Ok(())
}

/// Takes a record and gives it back. One that was given back before is released after all, or it
/// might go round for ever.
fn give_back(player: &mut Player<'_>, consumer: &Consumer) -> Result<(), ReadError> {
    let record = take(player, || consumer.try_read(), || consumer.read(patience()))?;
    player.enter(Step::Holding);
    let entry = read(&record, record.attempts());
    if record.attempts() == 0 {
        player.enter(Step::Undoing);
        record.requeue();
        let requeued = player.log.get(Word::Requeued);
        player.log.set(Word::Requeued, requeued + 1);
        return Ok(());
    }
    player.log.append(entry);
    player.enter(Step::Publishing);
    record.release();
    let entries = player.log.get(Word::Entries);
    player.log.set(Word::Released, entries);
    Ok(())
}

fn batch(player: &mut Player<'_>, consumer: &Consumer) -> Result<(), ReadError> {
    let most = usize::try_from(BATCH).expect("it fits");
    let batch = take(
        player,
        || consumer.try_read_batch(most),
        || consumer.read_batch(most, patience()),
    )?;
    player.enter(Step::Holding);
    player.dawdle(Step::Holding);
    player.enter(Step::Reading);
    for record in &batch {
        player.log.append(read(record, record.attempts()));
    }
    player.enter(Step::Publishing);
    batch.release();
    let entries = player.log.get(Word::Entries);
    player.log.set(Word::Released, entries);
    Ok(())
}
