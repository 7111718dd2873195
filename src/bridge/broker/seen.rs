//! Which records have come before: for each stream a mark below which all have, and a bitmap of the
//! newest positions above it.
//!
//! A mark alone would not do: what was refused and published again comes behind records that are
//! newer, and is no duplicate. So a position counts as seen only if it is known to have come: below
//! the mark, or by its bit. What is older than the bitmap and above the mark is not known, and
//! passes: rather twice than never.
//!
//! # After a crash
//! The mark is in the ring's file, together with the records; the bitmap is gone. As long as a
//! stream comes in order from its beginning, the mark says all there is to know. Otherwise what was
//! committed above it and not acknowledged passes once more.

use crate::bridge::frame::StreamId;
use crate::spsc::Origin;

/// Positions that a bitmap reaches back: more than any bridge has in flight.
const REACH: u64 = 1 << 16;
const WORDS: u64 = REACH / 64;
/// Streams that are remembered; the one that has been silent longest makes room.
const STREAMS: usize = 16;

/// What has come, of the newest streams.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Seen {
    /// The one that came last is last.
    streams: Vec<Marks>,
}

#[derive(Debug)]
struct Marks {
    stream: StreamId,
    /// Every position below it has come.
    low: u64,
    /// One more than the highest one that has come.
    high: u64,
    /// The bits of `high - REACH` and above, in a circle.
    bits: Box<[u64]>,
}

impl Seen {
    /// With what a ring's file says.
    pub(in crate::bridge) fn new(origin: Option<Origin>) -> Self {
        let mut seen = Self::default();
        if let Some(origin) = origin {
            let stream = StreamId {
                ring_id: origin.ring_id,
                generation: origin.generation,
                life: origin.life,
            };
            seen.streams.push(Marks::new(stream, origin.records));
        }
        seen
    }

    /// Whether that record is known to have come.
    pub(in crate::bridge) fn has(&self, stream: StreamId, position: u64) -> bool {
        let mut streams = self.streams.iter();
        let marks = streams.find(|marks| marks.stream == stream);
        marks.is_some_and(|marks| marks.has(position))
    }

    /// It has come now. Returns how far the stream has come without a gap from its beginning, if
    /// that is anything.
    pub(in crate::bridge) fn note(&mut self, stream: StreamId, position: u64) -> Option<Origin> {
        let found = self.streams.iter().position(|one| one.stream == stream);
        let place = match found {
            Some(place) => place,
            None => {
                if self.streams.len() == STREAMS {
                    self.streams.remove(0);
                }
                self.streams.push(Marks::new(stream, 0));
                self.streams.len() - 1
            }
        };
        self.streams[place..].rotate_left(1);
        let marks = self.streams.last_mut()?;
        marks.note(position);
        (marks.low > 0).then_some(Origin {
            ring_id: stream.ring_id,
            generation: stream.generation,
            life: stream.life,
            records: marks.low,
        })
    }
}

impl Marks {
    fn new(stream: StreamId, low: u64) -> Self {
        Self {
            stream,
            low,
            high: low,
            bits: (0..WORDS).map(|_| 0).collect(),
        }
    }

    fn has(&self, position: u64) -> bool {
        position < self.low || self.reaches(position) && self.bit(position)
    }

    fn reaches(&self, position: u64) -> bool {
        // In whole words, so that a word has the bits of one lap.
        position < self.high && position / 64 + WORDS > (self.high - 1) / 64
    }

    fn bit(&self, position: u64) -> bool {
        self.bits[word(position)] & 1 << (position % 64) != 0
    }

    fn note(&mut self, position: u64) {
        if position >= self.high {
            // Words that are entered for the first time in this lap are still of the last one.
            let newest = position / 64;
            let entered = if self.high == 0 {
                0
            } else {
                (self.high - 1) / 64 + 1
            };
            let from = entered.max((newest + 1).saturating_sub(WORDS));
            for at in from..=newest {
                self.bits[word(at * 64)] = 0;
            }
            self.high = position.saturating_add(1);
        }
        if self.reaches(position) {
            self.bits[word(position)] |= 1 << (position % 64);
        }
        while self.reaches(self.low) && self.bit(self.low) {
            self.low += 1;
        }
    }
}

fn word(position: u64) -> usize {
    (position / 64 % WORDS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const A: StreamId = StreamId {
        ring_id: [1; 16],
        generation: 1,
        life: 0,
    };
    const B: StreamId = StreamId { generation: 2, ..A };

    fn reaches(origin: Option<Origin>) -> Option<u64> {
        origin.map(|origin| origin.records)
    }

    #[test]
    fn in_order_the_mark_follows() {
        let mut seen = Seen::default();
        for position in 0..300_000 {
            assert!(!seen.has(A, position));
            assert_eq!(reaches(seen.note(A, position)), Some(position + 1));
        }
        assert!((0..300_000).all(|position| seen.has(A, position)));
    }

    #[test]
    fn a_lone_one_below_newer_ones_is_no_duplicate() {
        let mut seen = Seen::default();
        for position in (0..1000).filter(|position| *position != 400) {
            seen.note(A, position);
        }
        assert!(!seen.has(A, 400));
        assert!(seen.has(A, 399) && seen.has(A, 401) && seen.has(A, 999));
        assert_eq!(reaches(seen.note(A, 400)), Some(1000));
        assert!(seen.has(A, 400));
    }

    #[test]
    fn what_a_ring_says_is_known_and_no_more() {
        let mut first = Seen::default();
        let origin = (0..10)
            .filter_map(|position| first.note(A, position))
            .last();
        first.note(A, 12);
        let after = Seen::new(origin);
        assert!((0..10).all(|position| after.has(A, position)));
        assert!(!after.has(A, 10) && !after.has(A, 12));
    }

    #[test]
    fn streams_have_nothing_to_do_with_each_other() {
        let mut seen = Seen::default();
        seen.note(A, 0);
        assert!(!seen.has(B, 0));
        assert_eq!(reaches(seen.note(B, 5)), None, "it did not begin at 0");
        assert!(seen.has(B, 5) && !seen.has(A, 5));
        for generation in 10..10 + STREAMS as u64 {
            seen.note(StreamId { generation, ..A }, 0);
        }
        assert!(
            !seen.has(A, 0),
            "the oldest one makes room, and passes again"
        );
    }

    #[test]
    fn the_last_position_there_is_does_no_harm() {
        let mut seen = Seen::default();
        seen.note(A, u64::MAX);
        seen.note(A, 0);
        assert!(!seen.has(A, 1));
    }

    proptest! {
        /// What it says has come has come. What has come within reach it says.
        #[test]
        fn it_never_takes_a_new_one_for_an_old_one(
            start in 0..200_000_u64,
            steps in proptest::collection::vec((0..4_u64, 0..300_u64), 1..400),
            jump in prop_oneof![Just(0), 60_000..70_000_u64, Just(1 << 20)],
        ) {
            let mut seen = Seen::default();
            let mut come = HashSet::new();
            let mut at = start;
            for (number, (way, by)) in steps.into_iter().enumerate() {
                let position = match way {
                    0 => at.saturating_sub(by),
                    1 if number % 50 == 49 => at + jump,
                    _ => at + 1 + by % 3,
                };
                at = at.max(position);
                let near = at - position < REACH - 64;
                let known = seen.has(A, position);
                prop_assert!(!known || come.contains(&position), "{} is new", position);
                prop_assert!(known || !near || !come.contains(&position), "{} is old", position);
                let low = reaches(seen.note(A, position)).unwrap_or(0);
                come.insert(position);
                prop_assert!(low == 0 || come.contains(&(low - 1)));
                prop_assert!((0..low).rev().take(500).all(|below| come.contains(&below)));
            }
        }
    }
}
