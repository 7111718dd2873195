//! The operations of which scenarios are made: each takes its [`turn`], and a payload repeats its
//! record's tag, so that a torn one shows.

use super::turn;
use crate::{ReadError, TryClaimError, TryReadError, Wait};

/// The byte that fills the payload of a record with this tag.
pub(super) fn byte_of(tag: u32) -> u8 {
    u8::try_from(tag).expect("tags are small")
}

/// Operations on a ring of slots: a payload is one byte.
pub(super) mod slots {
    use super::{ReadError, TryClaimError, TryReadError, Wait, byte_of, turn};
    use crate::mpmc::{Consumer, Producer};

    /// Waits for space and commits a record.
    pub(in super::super) fn push(producer: &Producer, tag: u32) {
        turn();
        producer
            .push(tag, &[byte_of(tag)], Wait::block())
            .expect("the ring is open");
    }

    /// Commits a record if there is space and the ring is open.
    pub(in super::super) fn try_push(producer: &Producer, tag: u32) -> bool {
        turn();
        match producer.try_push(tag, &[byte_of(tag)]) {
            Ok(()) => true,
            Err(TryClaimError::Full | TryClaimError::Closed) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a record and releases it.
    pub(in super::super) fn pop(consumer: &Consumer) -> u32 {
        read(consumer).expect("the ring is open")
    }

    /// Takes what is there.
    pub(in super::super) fn drain(consumer: &Consumer) -> Vec<u32> {
        let (mut tags, mut payload) = (Vec::new(), Vec::new());
        loop {
            turn();
            match consumer.try_pop(&mut payload) {
                Ok(tag) => assert_eq!(payload, [byte_of(tag)], "a torn record"),
                Err(TryReadError::Empty | TryReadError::Closed) => return tags,
                Err(error) => panic!("{error}"),
            }
            tags.push(payload[0].into());
        }
    }

    /// Takes everything until the ring is closed.
    pub(in super::super) fn drain_to_the_end(consumer: &Consumer) -> Vec<u32> {
        core::iter::from_fn(|| read(consumer)).collect()
    }

    fn read(consumer: &Consumer) -> Option<u32> {
        turn();
        let mut payload = Vec::new();
        match consumer.pop(&mut payload, Wait::block()) {
            Ok(tag) => {
                assert_eq!(payload, [byte_of(tag)], "a torn record");
                Some(tag)
            }
            Err(ReadError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Operations on a byte ring: a payload is 8 bytes, a record 16.
pub(super) mod bytes {
    use super::{ReadError, TryClaimError, TryReadError, Wait, byte_of, turn};
    use crate::spsc::{Consumer, Producer};

    /// Waits for space and commits a record.
    pub(in super::super) fn push(producer: &mut Producer, tag: u32) {
        turn();
        producer
            .push(tag, &[byte_of(tag); 8], Wait::block())
            .expect("the ring is open");
    }

    /// Commits a record if there is space and the ring is open.
    pub(in super::super) fn try_push(producer: &mut Producer, tag: u32) -> bool {
        turn();
        match producer.try_push(tag, &[byte_of(tag); 8]) {
            Ok(()) => true,
            Err(TryClaimError::Full | TryClaimError::Closed) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a record and releases it.
    pub(in super::super) fn pop(consumer: &mut Consumer) -> u32 {
        read(consumer).expect("the ring is open")
    }

    /// Takes what is there.
    pub(in super::super) fn drain(consumer: &mut Consumer) -> Vec<u32> {
        let (mut tags, mut payload) = (Vec::new(), Vec::new());
        loop {
            turn();
            match consumer.try_pop(&mut payload) {
                Ok(tag) => tags.push(tag),
                Err(TryReadError::Empty | TryReadError::Closed) => return tags,
                Err(error) => panic!("{error}"),
            }
            check(&payload, tags[tags.len() - 1]);
        }
    }

    /// Takes everything until the ring is closed.
    pub(in super::super) fn drain_to_the_end(consumer: &mut Consumer) -> Vec<u32> {
        core::iter::from_fn(|| read(consumer)).collect()
    }

    fn read(consumer: &mut Consumer) -> Option<u32> {
        turn();
        let mut payload = Vec::new();
        match consumer.pop(&mut payload, Wait::block()) {
            Ok(tag) => {
                check(&payload, tag);
                Some(tag)
            }
            Err(ReadError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn check(payload: &[u8], tag: u32) {
        assert!(
            payload.iter().all(|byte| u32::from(*byte) == tag),
            "a torn record"
        );
    }
}
