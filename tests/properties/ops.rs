//! The one operation enum of the property tests and of the fuzz target `ops_model`.
//!
//! A step is made of plain numbers, so that proptest shrinks it and the fuzzer reads it from seven
//! bytes. What the ring at hand cannot do, such as a length that it has not, is reduced to
//! something that it can; an operation of the other ring stands for the nearest one of this ring.

/// One operation and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which of several producers or consumers; the SPSC ring has one of each.
    pub(crate) hand: usize,
    pub(crate) op: Op,
}

/// What is done to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Push {
        len: Length,
        tag: u32,
    },
    /// Claims, and commits the first `kept` 256ths of it.
    Claim {
        len: Length,
        kept: u8,
        tag: u32,
    },
    Abort {
        len: Length,
    },
    /// Stages up to `records`, perhaps closes the ring, reads, then commits or drops them.
    Batch {
        records: u8,
        len: Length,
        tag: u32,
        commits: bool,
        closes: bool,
    },
    Read,
    /// Reads and gives back.
    Requeue,
    Pop,
    /// Reads up to `max` and releases them together.
    ReadBatch {
        max: u8,
    },
    /// SPSC: looks ahead. MPMC: reads and keeps the record.
    Peek,
    /// SPSC: up to one of the marks seen. MPMC: releases one of the records kept.
    ReleaseTo {
        which: u8,
    },
    /// SPSC: goes back to the head. MPMC: gives one of the records kept back.
    Rewind {
        which: u8,
    },
    /// MPMC: claims and keeps the claim. SPSC: as `Claim`.
    Hold {
        len: Length,
        tag: u32,
    },
    /// MPMC: commits one of the claims kept. SPSC: as `Pop`.
    CommitHeld {
        which: u8,
    },
    /// MPMC: aborts one of the claims kept. SPSC: as `Abort`.
    AbortHeld {
        which: u8,
    },
    Close,
    Reopen,
    /// The producer detaches and another one attaches in its place.
    ReattachProducer,
    ReattachConsumer,
}

/// A length that knows no ring yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length(pub(crate) u16);

impl Length {
    /// In bytes, in a ring of records up to `max`: mostly short, often any, often just `max` or
    /// little less, now and then too long.
    pub(crate) fn bytes(self, max: usize) -> usize {
        let low = usize::from(self.0 & 0x0fff);
        match self.0 >> 12 {
            0..=7 => low.min(max) % 97,
            8..=10 => low % (max + 1),
            11..=14 => max - (low % 20).min(max),
            _ => max + 1 + low,
        }
    }

    /// The length of another record of the same batch.
    pub(crate) fn nth(self, index: u8) -> Self {
        Self(
            self.0
                .wrapping_add(u16::from(index).wrapping_mul(0x3a2f))
                .min(0xefff),
        )
    }
}

impl Step {
    /// Any three numbers are a step.
    pub(crate) fn of((kind, length, tag): (u8, u16, u32)) -> Self {
        let len = Length(length);
        let which = length.to_le_bytes()[0];
        let op = match kind & 0x3f {
            0..=9 => Op::Push { len, tag },
            10..=13 => {
                let kept = tag.to_le_bytes()[0];
                Op::Claim { len, kept, tag }
            }
            14..=15 => Op::Abort { len },
            16..=20 => {
                let [records, choice, ..] = tag.to_le_bytes();
                Op::Batch {
                    records: records % 7,
                    len,
                    tag,
                    commits: choice % 4 != 0,
                    closes: choice % 16 == 15,
                }
            }
            21..=27 => Op::Read,
            28..=29 => Op::Requeue,
            30..=35 => Op::Pop,
            36..=38 => Op::ReadBatch { max: which % 9 },
            39..=43 => Op::Peek,
            44..=47 => Op::ReleaseTo { which },
            48..=49 => Op::Rewind { which },
            50..=52 => Op::Hold { len, tag },
            53..=55 => Op::CommitHeld { which },
            56 => Op::AbortHeld { which },
            57..=58 => Op::Close,
            59..=61 => Op::Reopen,
            62 => Op::ReattachProducer,
            _ => Op::ReattachConsumer,
        };
        Self {
            hand: usize::from(kind >> 7),
            op,
        }
    }
}

/// A record as the oracles keep it: its content follows from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) number: u64,
    pub(crate) len: usize,
    pub(crate) tag: u32,
}

impl Expected {
    /// The bytes of record `number`, as long as wanted.
    pub(crate) fn content(number: u64, len: usize) -> Vec<u8> {
        let first = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (0..len as u64)
            .map(|at| first.wrapping_add(at.wrapping_mul(7)).to_le_bytes()[0])
            .collect()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        Self::content(self.number, self.len)
    }

    #[track_caller]
    pub(crate) fn assert_is(&self, tag: u32, bytes: &[u8]) {
        assert_eq!(tag, self.tag, "the tag of record {}", self.number);
        assert_eq!(
            bytes.len(),
            self.len,
            "the length of record {}",
            self.number
        );
        assert!(bytes == self.bytes(), "the bytes of record {}", self.number);
    }
}
